"""What will they watch next? The NCF paper's protocol: a user's last movie among 99 that they have not rated.

He et al., "Neural Collaborative Filtering", 2017. A rating of any value is a positive. The held-out movie is also
ranked among all movies that the user has not rated before, which is what validation chooses by: sampled metrics can
mislead.
"""

from models.protocols.base import PROTOCOLS
from models.protocols.next_movie import NextMovie

PROTOCOLS.add(
    "leave-one-out",
    NextMovie(
        name="leave-one-out",
        split="leave-one-out",
        question="What will they watch next? (leave-one-out; all movies, and a sample of 99)",
        title="What will they watch next? (leave-one-out)",
    ),
    position=10,
)
