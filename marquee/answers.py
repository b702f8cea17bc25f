"""What a running Triton answers to the command line."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.progress import working
from core.run_folder import Run
from ensemble.triton_models.limits import DEFAULT_K

if TYPE_CHECKING:
    from rich.table import Table

    from ensemble.client import Access
    from marquee.exported import Exported
    from marquee.ids import Id


@dataclass(frozen=True)
class Question:
    """What `recommend` asks.

    Attributes:
        user: an id; None for a new user.
        history: ids of movies that a new user likes, the latest last.
        model: a network such as `dlrm` or `ncf`; empty for the repository's default.
        strategy: `exact` or `two-stage`; empty for the network's default.
    """

    user: "Id | None"
    k: int = DEFAULT_K
    history: "tuple[Id, ...]" = ()
    model: str = ""
    strategy: str = ""


def ask_triton(run: Run, user: "Id") -> "Table":
    """Recommendations for a user, from a Triton that is started for the question alone."""
    from ensemble.server.ports import Ports, free_port
    from ensemble.server.process import running

    ports = Ports(free_port())
    server = running(run.repository, run.root / "triton.log", ports, command=run.command("export"))
    with working("starting Triton, asking it, stopping it"), server as triton:
        return recommendations(run, triton.url, Question(user))


def recommendations(source: "Run | Exported", url: str, question: Question, access: "Access | None" = None) -> "Table":
    """What a running Triton recommends, as a table."""
    from ensemble import client
    from marquee.tables import recommendations_table

    answer = client.recommend(
        url,
        question.user,
        question.k,
        question.history,
        question.model,
        question.strategy,
        access=access or client.Access(),
        command=source.command("serve"),
    )
    return recommendations_table(source, question.user, list(question.history), *answer)
