"""Asks Triton over gRPC."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from core.errors import UserError
from ensemble import arguments
from ensemble.triton_models.limits import DEFAULT_K, LARGEST_BATCH

TIMEOUT = 30.0  # seconds
PAIRS_AT_ONCE = LARGEST_BATCH // 2  # of one request
SECRET_HEADER = "marquee-secret"  # as Triton's HTTP reads it; its gRPC expects a prefix before it
GRPC_PREFIX = "triton-grpc-protocol-"
SERVE = "python -m marquee serve"
# tritonclient's own defaults, which other channel_args would replace.
UNLIMITED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
# Starts of messages that come from Triton itself, though their status is that of a server that is not there.
TRITON_REFUSALS = ("Request for unknown model", "explicit model load")


@dataclass(frozen=True)
class Access:
    """What a client shows to a server, and what it expects of it; by default, plain gRPC to an open server.

    Attributes:
        secret: the shared secret that the server was started with; empty for none.
        ca: PEM file of the root certificate that the server's must come from; TLS is used where it is given.
        certificate, key: PEM files of the client's own certificate, for a server that asks for one (mutual TLS).
        server_name: the name in the server's certificate, where it is not the one in the URL.
    """

    secret: str = ""
    ca: Path | None = None
    _: KW_ONLY
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each gRPC request."""
        return {GRPC_PREFIX + SECRET_HEADER: self.secret} if self.secret else {}

    def connect(self, url: str) -> grpc.InferenceServerClient:
        """A connection, made when it is first used.

        Raises:
            UserError: a file cannot be used, or one is missing that another needs.
        """
        check_secret(self.secret)
        if self.ca is None:
            if self.certificate or self.key:
                raise UserError("a client certificate is for TLS; give the server's root certificate too")
            return grpc.InferenceServerClient(url)
        tls_context(ssl.PROTOCOL_TLS_CLIENT, self.certificate, self.key, self.ca)
        name = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        return grpc.InferenceServerClient(
            url, ssl=True, root_certificates=self.ca, certificate_chain=self.certificate, private_key=self.key,
            channel_args=[*UNLIMITED, *name],
        )  # fmt: skip


def check_secret(secret: str) -> None:
    """
    Raises:
        UserError: the secret cannot be sent as a header.
    """
    if not isinstance(secret, str):
        raise UserError("a secret must be a string")
    if not all("!" <= letter <= "~" for letter in secret):
        raise UserError("a secret may have ASCII letters, digits and punctuation, and no space")


def tls_context(side: int, certificate: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """Loads PEM files that gRPC is going to use, as gRPC does not say what is wrong with them.

    Args:
        side: `ssl.PROTOCOL_TLS_CLIENT` or `ssl.PROTOCOL_TLS_SERVER`.

    Raises:
        UserError: a file cannot be read, is not PEM, is missing beside the other, or is not the key of the certificate.
    """
    if (certificate is None) != (key is None):
        raise UserError("a certificate needs its key, and a key its certificate; give both")
    context = ssl.SSLContext(side)
    for path in filter(None, (certificate, key, ca)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {str(error.strerror).lower()}") from None
        except (TypeError, ValueError):
            raise UserError(f"{path!r:.60} is not the path of a PEM file") from None
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except ssl.SSLError:
        raise UserError(f"{ca} does not hold a certificate in PEM format") from None
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")  # or it would ask the terminal
    except ssl.SSLError as error:
        reason = str(error.reason or "the key may have a password").lower().replace("_", " ")
        raise UserError(f"{certificate} and {key} are not a certificate and its key: {reason}") from None
    return context


class NoServerError(UserError):
    """There is no answer: no server, or no TLS connection with it."""


class TimedOutError(UserError):
    """The server took the request, and did not answer in time."""


def score(
    url: str,
    user_ids: Sequence[int],
    movie_ids: Sequence[int],
    model: str = "",
    *,
    access: Access = Access(),
    command: str = SERVE,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of (user, movie) pairs, any number of them.

    Args:
        url: `host:port` of Triton's gRPC.
        user_ids, movie_ids: raw MovieLens ids, [n] each: whole numbers in a list, an array, a Series or a tensor.
        model: `dlrm` or `ncf`; empty for the repository's default.
        access: what the server asks for.
        command: the command line that starts a server, for the message.

    Returns:
        float32 [n] probabilities, and bool [n] whether both ids are in the vocabulary.

    Raises:
        UserError: an argument is not what it must be, no server is there, or it refuses the request.
    """
    users, movies = arguments.pairs(user_ids, movie_ids)
    wanted = arguments.choice("model", model)
    chosen = [tensor("model", [wanted], np.object_)] if wanted else []
    scores, known = [], []
    for start in range(0, max(1, len(users)), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        pairs = [tensor("user_id", users[part], np.int64), tensor("movie_id", movies[part], np.int64)]
        result = infer(url, "score", pairs + chosen, access, command=command)
        scores.append(result.as_numpy("score"))
        known.append(result.as_numpy("known"))
    return np.concatenate(scores), np.concatenate(known)


def recommend(
    url: str,
    user_id: int,
    k: int = DEFAULT_K,
    history: Sequence[int] = (),
    strategy: str = "",
    *,
    access: Access = Access(),
    command: str = SERVE,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The best `k` movies for a user, without those that the user has rated or listed.

    Args:
        history: movies that someone unknown likes, the latest last; ask with a user id that is not in the data.
        strategy: `exact` or `two-stage`; empty for the repository's default.
        command: the command line that starts a server, for the message.

    Returns:
        int64 movie ids and float32 scores, best first; and whether the answer is personal. If not, these are the
        most rated movies, and each score is the share of users that rated the movie.

    Raises:
        UserError: an argument is not what it must be, no server is there, or it refuses the request.
    """
    inputs = [_one("user_id", user_id), _k(k)]
    liked = arguments.ids("history", history)
    if len(liked):
        inputs.append(tensor("history", liked, np.int64))
    wanted = arguments.choice("strategy", strategy)
    if wanted:
        inputs.append(tensor("strategy", [wanted], np.object_))
    result = infer(url, "recommend", inputs, access, command=command)
    return result.as_numpy("movie_id"), result.as_numpy("score"), bool(result.as_numpy("known")[0])


def similar(
    url: str, movie_id: int, k: int = DEFAULT_K, *, access: Access = Access(), command: str = SERVE
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` movies most like one.

    Args:
        command: the command line that starts a server, for the message.

    Returns:
        int64 movie ids and float32 cosines, best first.

    Raises:
        UserError: an argument is not what it must be, no server is there, or it refuses the request.
    """
    result = infer(url, "similar", [_one("movie_id", movie_id), _k(k)], access, command=command)
    return result.as_numpy("movie_id"), result.as_numpy("score")


def _one(name: str, value: int) -> grpc.InferInput:
    return tensor(name, [arguments.whole(name, value)], np.int64)


def _k(k: int) -> grpc.InferInput:
    return tensor("k", [arguments.number_of_movies(k)], np.int32)


def tensor(name: str, values: Sequence | np.ndarray, dtype: type) -> grpc.InferInput:
    """An input, of the shape of `values`, which NumPy turns into the dtype; `arguments` checks what users give."""
    array: np.ndarray = np.asarray(values, dtype)
    made = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def infer(
    url: str,
    model: str,
    inputs: list[grpc.InferInput],
    access: Access = Access(),
    *,
    timeout: float = TIMEOUT,
    command: str = SERVE,
) -> grpc.InferResult:
    """What a Triton model answers.

    Args:
        timeout: seconds.
        command: the command line that starts a server, for the message.

    Raises:
        UserError: it refuses the request; `NoServerError` and `TimedOutError` where there is no answer at all.
    """
    with connection(url, access, timeout, command) as triton:
        return triton.infer(model, inputs, headers=access.headers, client_timeout=float(timeout))


@contextmanager
def connection(
    url: str, access: Access = Access(), timeout: float = TIMEOUT, command: str = SERVE
) -> Iterator[grpc.InferenceServerClient]:
    """A connection whose errors are a line each, and which is closed when the block ends.

    Raises:
        UserError: as `infer` does.
    """
    wait = arguments.seconds(timeout)
    if not isinstance(access, Access):
        raise UserError(f"access is {access!r:.60}; it must be an Access")
    triton = access.connect(arguments.address(url))
    try:
        yield triton
    except InferenceServerException as error:
        message = " ".join(str(error.message()).split())
        raise _user_error(str(error.status()), message, url, access, timeout=wait, command=command) from None
    finally:
        triton.close()


def _user_error(status: str, message: str, url: str, access: Access, *, timeout: float, command: str) -> UserError:
    """A gRPC error as a sentence that says what to do."""
    if "protocol is restricted" in message:
        if SECRET_HEADER not in message:
            return UserError("Triton refused: no client may use that")
        reason = "a different secret" if access.secret else "a secret; give the same one"
        return UserError(f"Triton refused: {url} was started with {reason}")
    if "DEADLINE_EXCEEDED" in status:
        return TimedOutError(f"Triton at {url} did not answer within {timeout:g} s")
    if "UNAVAILABLE" not in status or message.startswith(TRITON_REFUSALS):
        return UserError(f"Triton refused: {message}")
    if "CERTIFICATE_VERIFY_FAILED" in message or "Hostname Verification" in message:
        return NoServerError(f"the certificate of {url} was not issued by {access.ca} under that name")
    if "WRONG_VERSION_NUMBER" in message:
        return NoServerError(f"{url} does not speak TLS; ask it without a root certificate")
    if "Socket closed" in message:
        return NoServerError(
            f"{url} ended the connection; if it was started with TLS, give certificates that it accepts"
        )
    return NoServerError(f"no Triton answers at {url}; start one with: {command}")
