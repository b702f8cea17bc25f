"""The names that the registries hold as the project ships, written out: what a test expects, it does not ask for."""

DEFAULT_PROTOCOLS = ("leave-one-out", "random-split")
RATING = "rating"
PROTOCOLS = (*DEFAULT_PROTOCOLS, RATING)
COMPARED = ("dlrm", "ncf")
NETWORKS = (*COMPARED, "mf")  # that `run` trains
RIVALS = ("svdpp", "fism", "ncf-history", "dlrm-without-history")  # that `run` leaves out
EVERY_NETWORK = (*NETWORKS, *RIVALS)
SPLITS = {"leave-one-out": "leave-one-out", "random-split": "random-split", "rating": "random-split"}

# Seconds after which a test takes a process or a condition for hung. Not a measure of speed: a machine may be 20 times
# as busy as usual. The time limit of pytest itself (pyproject.toml) is longer.
HANG_SECONDS = 1200
