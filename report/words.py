"""Numbers in the captions of pictures."""

from collections.abc import Sequence

from models.evaluation.results import Result

COUNTED = {
    "test_users": "test users",
    "full_catalogue_users": "users over all movies",
    "known_users": "of those known before the test",
    "test_rows": "test rows",
}
METHOD = "95 % intervals by bootstrap over users"


def with_interval(value: float | None, pair: Sequence[float] | None, decimals: int = 3) -> str:
    """A value and its interval.

    >>> with_interval(0.7338, (0.7073, 0.7614)), with_interval(0.5, None), with_interval(None, None)
    ('0.734 (0.707 to 0.761)', '0.500', 'undefined')
    """
    if value is None:
        return "undefined"
    if pair is None:
        return f"{value:.{decimals}f}"
    return f"{value:.{decimals}f} ({pair[0]:.{decimals}f} to {pair[1]:.{decimals}f})"


def asked(result: Result, *counts: str) -> str:
    """Which protocol, how many users or rows, and which seed: the end of a caption.

    Args:
        counts: the fields of the result that the picture is of.

    >>> one = Result(model="ncf", protocol="random-split", metrics={}, ci95={}, seed=42, epochs=1, train_seconds=1.0,
    ...              samples_per_second=1, test_rows=20000)
    >>> asked(one, "test_rows")
    'random-split, 20,000 test rows, seed 42'
    """
    found = {name: getattr(result, name) for name in counts}
    numbers = [f"{count:,} {COUNTED[name]}" for name, count in found.items() if count is not None]
    return ", ".join([result.protocol, *numbers, f"seed {result.seed}"])
