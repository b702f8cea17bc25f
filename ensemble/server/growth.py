"""Whether a process comes to hold more and more memory."""

from collections import deque
from dataclasses import dataclass, field

MOST_GROWTH = 20e6  # bytes; ordinary load adds less than two million, and gives back what the largest batches take
HOLDS_MORE = "MB more than at its start"  # in what is said of a process that is replaced
SAMPLES = 3  # of which the least counts: what comes and goes is no growth


@dataclass
class Growth:
    """Compares what a process holds with what it held at first.

    Attributes:
        first: bytes; None before the first sample.
        last: the newest samples.
    """

    first: float | None = None
    last: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def add(self, held: float) -> None:
        """Takes a sample, in bytes."""
        if self.first is None:
            self.first = held
        self.last.append(held)

    @property
    def size(self) -> float:
        """Bytes by which the least of the newest samples exceeds the first; 0 until there are enough."""
        if self.first is None or len(self.last) < SAMPLES:
            return 0.0
        return max(0.0, min(self.last) - self.first)
