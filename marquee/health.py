"""The command that asks whether a running server answers."""

import time
from typing import Annotated

import typer

from core.errors import UserError
from core.progress import console, error_console
from core.terminal import data_text
from ensemble.server.ports import DEFAULT_URL
from marquee.options import (
    ClientCertificateOption,
    ClientKeyOption,
    SecretOption,
    ServerCaOption,
    UrlOption,
    listed,
)
from marquee.serving import secret_of

PATIENCE = 5.0  # seconds


def health(
    url: UrlOption = DEFAULT_URL,
    live: Annotated[
        bool, typer.Option("--live", help="Ask only whether the server answers at all; a busy one does.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for all answers together.", metavar="SECONDS")
    ] = PATIENCE,
    secret_file: SecretOption = None,
    ca: ServerCaOption = None,
    certificate: ClientCertificateOption = None,
    key: ClientKeyOption = None,
    server_name: Annotated[
        str, typer.Option(help="The name in the server's certificate, if it is not the URL's.", metavar="NAME")
    ] = "",
) -> None:
    """Ask a running server whether every model answers: exit code 0 if so, else 1, and one line.

    Needs neither a run folder nor a repository. Its questions are not counted with those of clients.
    """
    from ensemble.client import Access, probe

    if server_name and ca is None:
        raise UserError("--server-name is for TLS; give --ca too")
    access = Access(secret_of(secret_file), ca, certificate=certificate, key=key, server_name=server_name)
    started = time.monotonic()
    try:
        if live:
            probe.live(url, access, timeout)
            what = "live: the server answers"
        else:
            found = probe.ready(url, access, timeout)
            versions = f"version{'s' if len(found.versions) > 1 else ''} {listed(found.versions, 'and')}"
            what = f"ready: {listed(found.models, 'and')} answer, {versions}"
    except probe.NotReadyError as error:
        if not (live and isinstance(error, probe.SheddingError)):
            error_console.print(data_text(f"not {'live' if live else 'ready'}: {error}"), soft_wrap=True)
            raise typer.Exit(1) from None
        what = f"live: {error}"
    console.print(data_text(f"{what}, in {1000 * (time.monotonic() - started):.0f} ms"), soft_wrap=True)
