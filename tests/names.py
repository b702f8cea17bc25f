"""The names that the registries hold as the project ships, written out: what a test expects, it does not ask for."""

DEFAULT_PROTOCOLS = ("leave-one-out", "random-split")
RATING = "rating"
PROTOCOLS = (*DEFAULT_PROTOCOLS, RATING)  # asked of the features that `run` prepares
TEMPORAL = "temporal"
FOLDS = ("rating-u1", "rating-u2", "rating-u3", "rating-u4", "rating-u5")
EVERY_PROTOCOL = (*PROTOCOLS, TEMPORAL, *FOLDS)
COMPARED = ("dlrm", "ncf")
NETWORKS = (*COMPARED, "mf")  # that `run` trains
RIVALS = ("sasrec", "svdpp", "fism", "ncf-history", "dlrm-without-history")  # that `run` leaves out
EVERY_NETWORK = (*NETWORKS, *RIVALS)
SPLITS = {
    **{"leave-one-out": "leave-one-out", "random-split": "random-split", "rating": "random-split"},
    **{"temporal": "temporal", **{fold: fold.removeprefix("rating-") for fold in FOLDS}},
}

# Seconds after which a test takes a process or a condition for hung. Not a measure of speed: a machine may be 20 times
# as busy as usual. The time limit of pytest itself (pyproject.toml) is longer.
HANG_SECONDS = 1200
