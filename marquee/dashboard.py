"""The command that starts the page."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from core.artifacts import CHECKOUT
from core.errors import UserError
from core.progress import console
from core.run_folder import DEFAULT_DATASET, DEFAULT_RUNS, Run
from core.terminal import data_text
from ensemble.server.ports import ANY_ADDRESS, DEFAULT_URL, LOOPBACK, Ports, address
from marquee import pipeline
from marquee.ids import refuse_own_ids
from marquee.inputs import require_tables
from marquee.options import DatasetOption, RunsOption, SecretOption, ServerCaOption
from marquee.serving import secret_of

PORT = 8501
FOLDER = CHECKOUT / "dashboard"
ENVIRONMENT = CHECKOUT / ".venv-dashboard"
MAKE_IT = "make dashboard-venv"


def dashboard(
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: RunsOption = DEFAULT_RUNS,
    server: Annotated[
        str, typer.Option(help="host:port of Triton's gRPC endpoint.", envvar="MARQUEE_URL", metavar="URL")
    ] = DEFAULT_URL,
    secret_file: SecretOption = None,
    ca: ServerCaOption = None,
    port: Annotated[int, typer.Option(help="Port of the page.", min=1, max=65535, metavar="PORT")] = PORT,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. 127.0.0.1 is for this machine only; the page asks for no password.",
            metavar="ADDRESS",
        ),
    ] = LOOPBACK,
    database: Annotated[
        Path | None,
        typer.Option(
            help="SQLite file of the people who use the page and their ratings. Default: people.sqlite3 in the run "
            "folder.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Show recommendations, ratings and the comparison in a browser, until Ctrl-C.

    Every recommendation is asked of a running `serve`; the page says how to start it where it is not there.
    """
    from ensemble.arguments import address as server_address

    run = pipeline.run_folder(dataset, runs)
    require_tables(run)
    refuse_own_ids(run, "the page")
    server_address(server)
    secret_of(secret_file)
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".ready").is_file():
        raise UserError(f"the page's packages are not installed in {ENVIRONMENT}; run: {MAKE_IT}")
    Ports(port, host=host).check()
    variables = _environment(run, server, secret_file, ca, database)
    where = address(ANY_ADDRESS.get(host, host), port)
    console.print("The page:", data_text(f"http://{where}", "bold"), "(Ctrl-C stops it)")
    sys.stdout.flush()
    os.chdir(FOLDER)  # where Streamlit finds its configuration
    os.execve(python, [str(python), "-m", "streamlit", "run", *_flags(host, port), "app.py"], variables)


def _flags(host: str, port: int) -> list[str]:
    """What no configuration of the user's may change."""
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": host,
        "logger.hideWelcomeMessage": "true",
        "global.developmentMode": "false",
    }
    return [f"--{name}={value}" for name, value in options.items()]


def _environment(
    run: Run, server: str, secret_file: Path | None, ca: Path | None, database: Path | None
) -> dict[str, str]:
    """The page's environment variables: of this process's, and its settings."""
    from dashboard.settings import VARIABLE, Settings
    from models.evaluation.metrics.base import METRICS, headings_of
    from models.protocols.base import PROTOCOLS

    settings = Settings(
        dataset=run.root.name,
        tables=_absolute(run.tables),
        evaluation=_absolute(run.evaluation),
        report=_absolute(run.report),
        repository=_absolute(run.repository),
        people=_absolute(database or run.people),
        server=server,
        secret_file=_absolute(secret_file),
        ca=_absolute(ca),
        commands={name: run.command(name) for name in ("fetch", "export", "serve", "evaluate", "report")},
        questions={name: protocol.question for name, protocol in PROTOCOLS.items()},
        metrics={name: headings_of(protocol.task) for name, protocol in PROTOCOLS.items()},
        lower_is_better=[key.partition("/")[2] for key, metric in METRICS.items() if not metric.higher_is_better],
    )
    return {**os.environ, VARIABLE: settings.to_json(), "PYTHONPATH": str(CHECKOUT)}


def _absolute(path: Path | None) -> str:
    return str(path.absolute()) if path else ""
