"""A picture of which settings mattered in a study."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState

matplotlib.use("agg")


def draw_importance(study: optuna.Study, title: str, path: Path) -> None:
    """A bar for each parameter: how much of the metric's variance over the trials it explains (fANOVA).

    Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014, as Optuna has it.
    """
    varied = {
        name for t in study.trials for name in t.params if len({str(o.params.get(name)) for o in study.trials}) > 1
    }
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 4 or not varied:
        return  # of fewer trials fANOVA says nothing
    shares = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.35 * len(shares)), layout="constrained")
    names, values = list(shares)[::-1], list(shares.values())[::-1]
    bars = axes.barh(names, values, color="#76b900")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, max(values) * 1.15)
    axes.set_xlabel("share of the variance over the trials")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
