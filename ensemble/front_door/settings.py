"""What a worker of the front door is started with: the first line of its standard input, as JSON."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from core.json_files import STRICT

MEBIBYTE = 1 << 20
Port = Annotated[int, Field(ge=0, le=65535)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Limits:
    """What may be under way at once, and how large one request may be.

    Attributes:
        requests: that wait or are being answered.
        rows: of all of them together: pairs to score, and one for each other question.
        bytes: of one request.
        seconds: that a request without a deadline may take.
    """

    requests: Annotated[int, Field(gt=0)] = 1024
    rows: Annotated[int, Field(gt=0)] = 1 << 23
    bytes: Annotated[int, Field(gt=0)] = 8 * MEBIBYTE
    seconds: Annotated[float, Field(gt=0)] = 30.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FrontDoorSettings:
    """
    Attributes:
        triton: `host:port` of the private Triton's gRPC.
        triton_headers: what every request to it carries.
        triton_http, triton_http_headers: the same of its HTTP, which inference goes over where it is given.
        host: the address to listen on.
        grpc, http, metrics: ports; 0 for any that is free, None for none.
        private: path of a unix socket on which the supervisor asks, without TLS.
        private_secret: what its requests carry.
        secret: what every client's request must carry; empty for none.
        certificate, key, client_ca: PEM files, for TLS, and for certificates of clients.
        worker, workers: this worker's number, from 0, and how many there are: they share the ports.
        metrics_folder: where the workers of one server count; empty for a worker that is alone.
    """

    triton: str
    triton_headers: dict[str, str] = Field(default_factory=dict)
    triton_http: str = ""
    triton_http_headers: dict[str, str] = Field(default_factory=dict)
    host: str = "127.0.0.1"
    grpc: Port = 0
    http: Port | None = None
    metrics: Port | None = None
    private: str = ""
    private_secret: str = ""
    secret: str = ""
    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    limits: Limits = Field(default_factory=Limits)
    worker: int = 0
    workers: int = 1
    metrics_folder: str = ""
