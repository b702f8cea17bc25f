"""What a stage asks for before it starts."""

import pytest

from core.artifacts import new_folder
from core.errors import UserError
from core.run_folder import Run
from marquee.inputs import require_models
from models.training.checkpoint import Checkpoint


def test_the_checkpoint_of_a_killed_training_is_not_a_model(tmp_path):
    run = Run(tmp_path / "ml-100k")
    model = run.model("leave-one-out", "dlrm")
    with new_folder(Checkpoint.beside(model, "made from").folder, "made from"):
        pass
    for protocol in ("*", "leave-one-out"):
        with pytest.raises(UserError, match="no model is trained"):
            require_models(run, protocol)
    with new_folder(model, "made from"):
        pass
    require_models(run)
    require_models(run, "leave-one-out")
