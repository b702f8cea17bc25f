"""What the page must show, as Triton itself answers."""

from collections.abc import Collection, Sequence

from dashboard.catalogue import Catalogue
from ensemble.client import Client

DLRM, NCF = "DLRM: recommended movies", "NCF: recommended movies"  # the lists' names


def best(
    client: Client,
    movies: Catalogue,
    model: str,
    user_id: int | None,
    history: Sequence[int] = (),
    hidden: Collection[int] = (),
) -> list[str]:
    """The titles that the page must show."""
    answer = client.recommend(user_id, 10 + len(hidden), history=list(history), model=model)
    return [movies.title(one) for one in answer.movie_id.tolist() if one not in hidden][:10]
