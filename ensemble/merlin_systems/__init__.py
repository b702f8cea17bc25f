"""The same models on Merlin Systems' own runtime, to compare Marquee's repository with.

`export` writes `repository-merlin/` as Merlin Systems 23.8 writes it: for each network an ensemble of an NVTabular
workflow (raw ids to indices) and the network as TorchScript. In Triton an ensemble is an executor that calls the other
two as models of their own:

- `merlin_dlrm`, `merlin_ncf`: the executors, which clients ask. `user_id` INT64[n], `movie_id` INT64[n] (raw MovieLens
  ids) -> `score` FP32[n, 1], the probability.
- `0_transformworkflowtriton`: the workflow, the same for both. An unknown id becomes index 2.
- `merlin_dlrm_network`, `merlin_ncf_network`: the networks, on the backend `pytorch`.

Unlike `score` of `repository/`, the model is chosen by its Triton name, `score` has a second dimension, as Merlin's
networks have one, there is no `known`, and a request of no rows is refused: NVTabular's Categorify cannot take one.

Trust: Merlin's executor and `Workflow.load` unpickle what they serve (CVE-2025-33214), which is inherent in this
runtime. Only a repository that agrees with its manifest is started, and what is served is a verified copy. The runtime
is there for comparison, not for production: a manifest protects from accidents, not from someone who can write to the
run folder.
"""

import core.gpu  # noqa: F401  before Merlin, here and in the Triton that is started from here


def triton_name(model: str) -> str:
    """The Triton model that clients ask for a network's scores."""
    return f"merlin_{model}"
