"""The bodies of HTTP: read within bounds of size, pieces and time, inflated within the first, sent within the last."""

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from ensemble.front_door.refusal import Refusal

SMALL = 2**16  # bytes; a larger body needs a place among the large ones
FREE_PIECES = 1024
BYTES_A_PIECE = 128  # on average, above the free ones: what arrives byte by byte costs more time than its work
INFLATED_AT_ONCE = 2**18  # bytes
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # HTTP's deflate is zlib's format


class BodyRefusal(Refusal):
    """A body that HTTP has a status of its own for.

    Args:
        status: of HTTP.
        sentence, reason: see `Refusal`.
    """

    def __init__(self, status: int, sentence: str, reason: str) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, sentence, reason)
        self.status = status


@dataclass(frozen=True)
class BodyLimits:
    """
    Attributes:
        size: bytes of a body, both as it comes and inflated.
        seconds: that a body may take to arrive, and a client to take its answer.
        large: requests at once that have a body or an answer over 64 KiB.
    """

    size: int = 8 * 2**20
    seconds: float = 30.0
    large: int = 32


class BodyReader:
    """Reads the bodies of one application's requests.

    Args:
        limits: of each body, and of all together.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._large = 0

    @contextmanager
    def place(self) -> Iterator["_Place"]:
        """Around all of a request: its place among the large ones is free after it."""
        place = _Place()
        try:
            yield place
        finally:
            self._large -= place.taken

    async def read(self, request: web.Request, place: "_Place") -> bytes:
        """The body, inflated.

        Raises:
            Refusal: it exceeds a limit, or is not what its headers say.
        """
        announced = request.content_length or 0
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in {"identity", *WINDOWS}:
            raise BodyRefusal(415, "a body may be compressed with gzip or deflate, and with nothing else", "type")
        self._admit(announced, place)
        if request.headers.get("Expect", "").lower() == "100-continue" and not request.content.is_eof():
            await request.writer.write(CONTINUE)
            request.writer.output_size = 0  # as aiohttp's own handler does: the answer is still to come
        arriving = self._pieces(request, encoding, place)
        try:
            if request.content.is_eof():  # small ones came with their headers
                return await arriving
            return await asyncio.wait_for(arriving, self._limits.seconds)
        except asyncio.TimeoutError:
            sentence = f"the body did not arrive within {self._limits.seconds:g} seconds"
            raise BodyRefusal(408, sentence, "deadline") from None
        except ConnectionError:
            raise BodyRefusal(400, "the connection ended within the body", "bytes") from None
        except (ClientError, HttpProcessingError, web.RequestPayloadError):
            raise BodyRefusal(400, "the body is not framed as its headers say", "bytes") from None

    async def send(self, request: web.Request, response: web.Response, place: "_Place") -> None:
        """Sends a large answer; a small one is left to aiohttp.

        Raises:
            Refusal: it would be one too many of the large ones.
        """
        size = len(response.body) if isinstance(response.body, bytes) else 0
        self._take(size, place)
        if size <= SMALL:
            return
        try:
            await response.prepare(request)
            await asyncio.wait_for(response.write_eof(), self._limits.seconds)
        except asyncio.TimeoutError:
            if request.transport is not None:
                request.transport.abort()

    async def _pieces(self, request: web.Request, encoding: str, place: "_Place") -> bytes:
        inflater = None if encoding == "identity" else _Inflater(encoding)
        pieces, count, arrived, held = [], 0, 0, 0
        while not request.content.at_eof():
            piece, _ = await request.content.readchunk()
            count += 1
            arrived += len(piece)
            if count > FREE_PIECES + arrived // BYTES_A_PIECE:
                raise BodyRefusal(413, "the body arrives in too many small pieces; send larger ones", "limit")
            self._admit(arrived, place)
            if inflater is None:
                pieces.append(piece)
                continue
            for part in inflater.inflate(piece):
                held += len(part)
                self._admit(held, place)
                pieces.append(part)
                await asyncio.sleep(0)  # others are answered between two parts
        if inflater:
            inflater.check_end()
        return b"".join(pieces)

    def _admit(self, size: int, place: "_Place") -> None:
        """
        Raises:
            Refusal: the body is too large, or one too many of the large ones.
        """
        if size > self._limits.size:
            sentence = f"the body has more than {self._limits.size:,} bytes; divide the request"
            raise BodyRefusal(413, sentence, "limit")
        self._take(size, place)

    def _take(self, size: int, place: "_Place") -> None:
        """
        Raises:
            Refusal: it would be one too many of the large ones.
        """
        if size > SMALL and not place.taken:
            if self._large >= self._limits.large:
                sentence = f"{self._large} large requests are being answered already; try again"
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, sentence, "busy")
            self._large += 1
            place.taken = True


@dataclass
class _Place:
    taken: bool = False


class _Inflater:
    """Inflates what arrives, a part at a time, so that its user can stop at any size."""

    def __init__(self, encoding: str) -> None:
        self._zlib = zlib.decompressobj(WINDOWS[encoding])
        self._encoding = encoding

    def inflate(self, piece: bytes) -> Iterator[bytes]:
        """
        Raises:
            Refusal: it is not of this encoding.
        """
        while piece:
            if self._zlib.eof:
                raise BodyRefusal(400, f"the body has more bytes after the end of its {self._encoding}", "bytes")
            try:
                inflated = self._zlib.decompress(piece, INFLATED_AT_ONCE)
            except zlib.error:
                raise BodyRefusal(400, f"the body is not valid {self._encoding}", "bytes") from None
            yield inflated
            piece = self._zlib.unused_data or self._zlib.unconsumed_tail

    def check_end(self) -> None:
        """
        Raises:
            Refusal: the end of the compressed data is missing.
        """
        if not self._zlib.eof:
            raise BodyRefusal(400, f"the body ends before its {self._encoding} does", "bytes")
