"""The names that the registries hold as the project ships, written out: what a test expects, it does not ask for."""

DEFAULT_PROTOCOLS = ("leave-one-out", "random-split")
RATING = "rating"
PROTOCOLS = (*DEFAULT_PROTOCOLS, RATING)  # asked of the features that `run` prepares
TEMPORAL = "temporal"
FOLDS = ("rating-u1", "rating-u2", "rating-u3", "rating-u4", "rating-u5")
EVERY_PROTOCOL = (*PROTOCOLS, TEMPORAL, *FOLDS)
RANKING = ("leave-one-out", TEMPORAL)
COMPARED = ("dlrm", "ncf")  # by every protocol, and trained by `run`
RANKED = (*COMPARED, "sasrec")  # compared by protocols of a ranking
NETWORKS = (*COMPARED, "mf")  # that `run` trains
RIVALS = ("svdpp", "fism", "dlrm-rated-sets", "ncf-history", "dlrm-without-history")  # baselines that `run` leaves out
EVERY_NETWORK = (*RANKED, "mf", *RIVALS)
RANKING_ALONE = ("sasrec", "fism")
NEVER_RANKING = ("dlrm-rated-sets",)
SPLITS = {
    **{"leave-one-out": "leave-one-out", "random-split": "random-split", "rating": "random-split"},
    **{"temporal": "temporal", **{fold: fold.removeprefix("rating-") for fold in FOLDS}},
}


def networks_of(protocol: str) -> tuple[str, ...]:
    """The networks that are for a protocol's task."""
    others = NEVER_RANKING if protocol in RANKING else RANKING_ALONE
    return tuple(name for name in EVERY_NETWORK if name not in others)


def compared_by(protocol: str) -> tuple[str, ...]:
    """The networks that a comparison by a protocol is about."""
    return RANKED if protocol in RANKING else COMPARED


# Seconds after which a test takes a process or a condition for hung. Not a measure of speed: a machine may be 20 times
# as busy as usual. The time limit of pytest itself (pyproject.toml) is longer.
HANG_SECONDS = 1200
