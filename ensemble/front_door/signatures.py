"""The signatures of Triton's models, kept for a moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from ensemble.front_door.refusal import Refusal
from ensemble.front_door.signature import Signature

FRESH = 2.0  # seconds
MOST_RENEWING = 64  # models that are asked about at once: any name may come
LONGEST_NAME = 256  # characters; Triton repeats a name that it does not know
Ask = Callable[[str, Message], Awaitable[Message]]


@dataclass(frozen=True)
class Known:
    """A model's signature and the versions of it that are served."""

    signature: Signature
    versions: frozenset[str]
    since: float


@dataclass
class Signatures:
    """
    Attributes:
        ask: a method of Triton's gRPC service and its request, to the answer.
        known: by the name of the model.
        renewing: what is being asked now, by the name of the model.
    """

    ask: Ask
    known: dict[str, Known] = field(default_factory=dict)
    renewing: dict[str, "asyncio.Task[Known]"] = field(default_factory=dict)

    def at_hand(self, model: str, version: str) -> Signature | None:
        """The signature of a model, where it is known and need not be asked for; None where `find` has more to do."""
        found = self.known.get(model)
        if found is None or found.signature.private or time.monotonic() - found.since > FRESH:
            return None
        return found.signature if not version or version in found.versions else None

    async def find(self, model: str, version: str) -> Signature:
        """The signature of a model. One that was found a while ago is used, and renewed for the next request.

        Raises:
            Refusal: there is no such model or version, no client may ask it, or Triton does not say.
        """
        found = self.known.get(model)
        if found is None or (version and version not in found.versions):
            found = await self._renewed_now(model)
        elif time.monotonic() - found.since > FRESH and self._has_room:
            self._renew(model)
        _check_version(found, version)
        if found.signature.private:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{model} {found.signature.private}", "name")
        return found.signature

    async def check_version(self, model: str, version: str) -> None:
        """Asks Triton whether it serves a version of a model.

        Raises:
            Refusal: it does not, by the reason "name"; or does not say, by another.
        """
        try:
            found = await self._renewed_now(model)
        except Refusal as refusal:
            raise Refusal(refusal.code, refusal.sentence, "unavailable") from None
        _check_version(found, version)

    @property
    def _has_room(self) -> bool:
        return len(self.renewing) < MOST_RENEWING

    async def _renewed_now(self, model: str) -> Known:
        if len(model) > LONGEST_NAME:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"there is no model {model[:60]!r}...", "name")
        if model not in self.renewing and not self._has_room:
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many models are being asked about", "busy")
        return await asyncio.shield(self._renew(model))

    def _renew(self, model: str) -> "asyncio.Task[Known]":
        """Asks Triton; once for all that wait for the same model."""
        task = self.renewing.get(model)
        if task is None:
            task = self.renewing[model] = asyncio.ensure_future(self._ask(model))
            task.add_done_callback(lambda done: self._renewed(model, done))
        return task

    def _renewed(self, model: str, done: "asyncio.Task[Known]") -> None:
        self.renewing.pop(model, None)
        if not done.cancelled() and done.exception() is None:
            self.known[model] = (
                done.result()
            )  # else it keeps what it knew: a Triton that has just started finds no model

    async def _ask(self, model: str) -> Known:
        config = await self.ask("ModelConfig", service_pb2.ModelConfigRequest(name=model))
        metadata = await self.ask("ModelMetadata", service_pb2.ModelMetadataRequest(name=model))
        return Known(Signature(config.config), frozenset(metadata.versions), time.monotonic())


def _check_version(known: Known, version: str) -> None:
    if version and version not in known.versions:
        sentence = f"{known.signature.model} has no version {version[:20]!r}; it serves {_listed(known)}"
        raise Refusal(grpc.StatusCode.NOT_FOUND, sentence, "name")


def _listed(known: Known) -> str:
    return ", ".join(sorted(known.versions)) or "none"
