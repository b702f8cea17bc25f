"""What the command line tells the page: where a run's files are, whom to ask, the commands that messages name."""

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

VARIABLE = "MARQUEE_DASHBOARD"  # the environment variable that holds the settings as JSON


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See the module.

    Attributes:
        dataset: such as `ml-100k`.
        tables: folder of `movies.parquet` and `ratings.parquet`.
        evaluation: `evaluation.json`, which need not be there.
        report: folder of `pictures.json`, which need not be there.
        repository: the exported repository, for the names of its networks; it need not be there.
        people: the SQLite file.
        server: `host:port` of the server's gRPC.
        secret_file: file with the server's secret; empty for none.
        ca: PEM file of the root certificate for TLS; empty for none.
        commands: command lines by name: `fetch`, `export`, `serve`, `evaluate` and `report`.
        questions: what each protocol asks, in words, by its name.
        metrics: by protocol, each metric's title by its name in `evaluation.json`, in the order of tables.
        lower_is_better: the metrics of which less is better.
    """

    dataset: str
    tables: str
    evaluation: str
    report: str
    repository: str
    people: str
    server: str
    secret_file: str
    ca: str
    commands: dict[str, str]
    questions: dict[str, str]
    metrics: dict[str, dict[str, str]]
    lower_is_better: list[str]

    def to_json(self) -> str:
        """The value of `VARIABLE`."""
        return json.dumps(asdict(self))

    @property
    def secret(self) -> str:
        """The server's secret; empty for none."""
        return Path(self.secret_file).read_text(encoding="utf-8").strip() if self.secret_file else ""


@cache
def settings() -> Settings:
    """This process's settings.

    Raises:
        KeyError: it was not started by `python -m marquee dashboard`.
    """
    return Settings(**json.loads(os.environ[VARIABLE]))
