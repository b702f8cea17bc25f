"""How long to wait before a server that failed is started again."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class Backoff:
    """Waits of 0, 1, 2, 4 ... `longest` seconds, from 0 again once the server was healthy for `forget_after` seconds.

    Times are those of a monotonic clock, in seconds.

    Attributes:
        failures: since the server was last healthy for `forget_after` seconds.
        unanswered: failures since the last answer.
        healthy_since: the first answer after the last failure; None where there was none.
    """

    longest: float = 60.0
    forget_after: float = 10.0
    failures: int = 0
    unanswered: int = 0
    healthy_since: float | None = None

    def healthy(self, now: float) -> None:
        """Notes that the server has answered."""
        self.unanswered = 0
        if self.healthy_since is None:
            self.healthy_since = now
        if now - self.healthy_since >= self.forget_after:
            self.failures = 0

    def failed(self, answerable: bool = True) -> float:
        """Notes that the server has failed, and returns the seconds to wait.

        Args:
            answerable: whether it could have answered; False where it was not even started.
        """
        self.healthy_since = None
        self.failures += 1
        self.unanswered += answerable
        if self.failures == 1:
            return 0.0
        return min(2.0 ** (self.failures - 2), self.longest)
