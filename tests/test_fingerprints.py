"""Which code a stage's result depends on: all of it is in the stage's fingerprint, and no other."""

import ast
import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import artifacts, stage_code
from core.artifacts import code_digest
from ensemble.export import export
from models.evaluation import compare_seeds, evaluate, ncf_paper
from models.networks.base import NETWORKS
from models.training import train
from models.training.train import training_digest
from tests.test_layout import LAYERS, ROOT, imports, module_of, sources

STAGES = {"train": train, "evaluate": evaluate, "export": export}
# These train and judge: what they keep is of the stages before them.
EVERY = {**STAGES, "compare": compare_seeds, "paper": ncf_paper}
NETWORK_FILES = "models/networks"  # a stage adds the file of the network that it is about, and of the protocol
SERVING_ONLY = "what serving makes of a network; no weight or score depends on it"
SEARCH_ONLY = "names the values that `tune` tries"
INTERVALS_ONLY = "draws confidence intervals, which this stage does not ask for"
TRAINING_ONLY = "trains: the files of the trained models are in the fingerprint"
JUDGING_ONLY = "judges; nothing that is exported is judged by it, and the default model is in the fingerprint"
UNUSED_IMPORT = "imported by a file of which only a function on numbers is used"
PICTURES_ONLY = "is kept for pictures; nothing that this stage makes depends on it"
CARD_ONLY = "what it says is in the model card, whose text is in the fingerprint"
TWINS_ONLY = "trains in TensorFlow, which no setting that this stage takes asks for"
TWINS = {f"models/tensorflow/{name}.py": TWINS_ONLY for name in ("base", "inputs", "steps")}
# What a stage imports and its fingerprint may leave out, with the reason.
EXCEPTIONS = {
    "train": {
        "models/cut.py": SERVING_ONLY,
        "models/search_space.py": SEARCH_ONLY,
        "models/evaluation/bootstrap.py": INTERVALS_ONLY,
        "models/evaluation/kept.py": PICTURES_ONLY,
    },
    "evaluate": {
        "models/cut.py": SERVING_ONLY,
        "models/search_space.py": SEARCH_ONLY,
        "models/training/calibration.py": TRAINING_ONLY,
        "models/training/checkpoint.py": TRAINING_ONLY,
        "models/training/devices.py": TRAINING_ONLY,
        "models/tensorflow/base.py": TRAINING_ONLY,
        "models/tensorflow/inputs.py": TRAINING_ONLY,
        "models/tensorflow/steps.py": TRAINING_ONLY,
        "models/training/epoch.py": TRAINING_ONLY,
        "models/training/frameworks.py": TRAINING_ONLY,
        "models/training/loop.py": TRAINING_ONLY,
        "models/training/objective.py": TRAINING_ONLY,
        "models/training/pretrain.py": TRAINING_ONLY,
        "models/training/rowwise.py": TRAINING_ONLY,
        "models/training/several.py": TRAINING_ONLY,
        "workflows/negatives.py": TRAINING_ONLY,
    },
    "compare": {"models/cut.py": SERVING_ONLY, "models/search_space.py": SEARCH_ONLY, **TWINS},
    "paper": {"models/cut.py": SERVING_ONLY, "models/search_space.py": SEARCH_ONLY, **TWINS},
    "export": {
        "models/search_space.py": SEARCH_ONLY,
        "models/registry.py": "chooses the models; which they are is in the fingerprint",
        "models/baselines/base.py": UNUSED_IMPORT,
        "models/baselines/stars.py": UNUSED_IMPORT,
        "models/evaluation/bootstrap.py": INTERVALS_ONLY,
        "models/evaluation/judgement.py": JUDGING_ONLY,
        "models/evaluation/kept.py": PICTURES_ONLY,
        "models/evaluation/metrics/base.py": JUDGING_ONLY,
        "models/evaluation/ranking.py": JUDGING_ONLY,
        "models/evaluation/metrics/ranking.py": JUDGING_ONLY,
        "models/evaluation/results.py": CARD_ONLY,
        "models/training/calibration.py": TRAINING_ONLY,
        "models/training/checkpoint.py": TRAINING_ONLY,
        "models/training/devices.py": TRAINING_ONLY,
        "models/tensorflow/base.py": TRAINING_ONLY,
        "models/tensorflow/inputs.py": TRAINING_ONLY,
        "models/tensorflow/steps.py": TRAINING_ONLY,
        "models/training/epoch.py": TRAINING_ONLY,
        "models/training/frameworks.py": TRAINING_ONLY,
        "models/training/loop.py": TRAINING_ONLY,
        "models/training/objective.py": TRAINING_ONLY,
        "models/training/pretrain.py": TRAINING_ONLY,
        "models/training/rowwise.py": TRAINING_ONLY,
        "models/training/several.py": TRAINING_ONLY,
        "workflows/negatives.py": TRAINING_ONLY,
        "workflows/licences.py": CARD_ONLY,
        "workflows/sources/datasets.py": CARD_ONLY,
        "workflows/sources/download.py": CARD_ONLY,
        "workflows/sources/table_columns.py": CARD_ONLY,
    },
}


def files_by_module() -> dict[str, Path]:
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for one in LAYERS for file in sources(one)}


def imports_for_typing(file: Path) -> set[str]:
    """What a file imports under `if TYPE_CHECKING` alone, which is never run."""
    blocks = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    nodes = [node for block in blocks for part in block.body for node in ast.walk(part)]
    return {f"{node.module}.{name.name}" for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}


def in_rooms(file: str, rooms: tuple[str, ...]) -> bool:
    return any(file == room or file.startswith(f"{room}/") for room in rooms)


def reached(start: Path, rooms: tuple[str, ...]) -> set[str]:
    """The project's files that a file imports, directly or through others, but for `core` and networks' own files.

    Files of declared folders count as imported: registries import them without naming them.
    """
    files = files_by_module()
    names = {file: name for name, file in files.items()}
    todo = [names[start], *(name for name, file in files.items() if in_rooms(file.relative_to(ROOT).as_posix(), rooms))]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name.split(".")[0] == "core":
            continue
        seen.add(name)
        file = files[name]
        targets = set(imports(file)) - imports_for_typing(file)
        todo += [found for found in (module_of(target, files) for target in targets) if found]
    found = {files[name].relative_to(ROOT).as_posix() for name in seen}
    return {file for file in found if not file.startswith(f"{NETWORK_FILES}/") or file == f"{NETWORK_FILES}/base.py"}


@pytest.mark.parametrize("stage", EVERY)
def test_the_fingerprint_of_a_stage_covers_what_it_imports(stage):
    rooms = EVERY[stage].ROOMS
    needed = reached(Path(EVERY[stage].__file__), rooms)
    assert len(needed) > 10
    missing = {file for file in needed if not in_rooms(file, rooms)}
    assert missing - EXCEPTIONS[stage].keys() == set(), "declare these in ROOMS, or give a reason why not"
    assert EXCEPTIONS[stage].keys() - missing == set(), "these need no exception"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_fingerprint_of_a_training_covers_the_files_of_networks_that_its_own_imports(name):
    counted = {Path(inspect.getsourcefile(one)) for one in vars(NETWORKS[name]).values() if callable(one)}
    files = files_by_module()
    imported = {files.get(module_of(target, files)) for file in counted for target in imports(file)}
    needed = {file.relative_to(ROOT).as_posix() for file in imported - counted - {None}}
    missing = {file for file in needed if file.startswith(NETWORK_FILES) and not in_rooms(file, train.ROOMS)}
    # rated sets do not use the scores of shared negatives
    others = {"dlrm-rated-sets": "models/networks/_dlrm_negatives.py"}
    assert missing == ({others[name]} if name in others else set())


@pytest.mark.parametrize("stage", EVERY)
def test_every_declared_place_is_there(stage):
    rooms = EVERY[stage].ROOMS
    assert len(set(rooms)) == len(rooms)
    for room in rooms:
        assert (ROOT / room).exists()


# -- what changes a fingerprint ----------------------------------------------------------------------------------------


def forget() -> None:
    """Sources and versions are read once in a process."""
    artifacts._source_digest.cache_clear()
    artifacts._library_version.cache_clear()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of the sources, which digests are taken of."""
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, tmp_path / layer, ignore=shutil.ignore_patterns("__pycache__"))

    source_file = inspect.getsourcefile

    def source_in_copy(thing: object) -> str:
        return str(tmp_path / Path(source_file(thing)).relative_to(ROOT))

    monkeypatch.setattr(artifacts, "CHECKOUT", tmp_path)
    monkeypatch.setattr(stage_code, "CHECKOUT", tmp_path)
    monkeypatch.setattr(stage_code.inspect, "getsourcefile", source_in_copy)
    forget()
    yield tmp_path
    forget()


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    forget()


def digests() -> dict[str, str]:
    found = {name: code_digest(stage.ROOMS, stage.LIBRARIES) for name, stage in STAGES.items()}
    found |= {f"train {name}": training_digest("random-split", name) for name in ("dlrm", "ncf", "mf")}
    return found


def changed_by(action: Callable[[], None]) -> set[str]:
    before = digests()
    action()
    after = digests()
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/networks/dlrm.py", 'title="DLRM"', 'title="the DLRM"'),
        ("models/networks/mf.py", "position=30", "position=5"),
        ("models/protocols/random_split.py", 'question="', 'question="In short: '),
        ("models/protocols/leave_one_out.py", 'title="', 'title="The '),
        ("models/training/train.py", "# What a trained model depends on", "# All that a trained model depends on"),
    ],
)
def test_how_a_result_is_displayed_changes_no_fingerprint(checkout, file, old, new):
    assert changed_by(lambda: change(checkout / file, old, new)) == set()


def test_a_change_of_one_network_leaves_the_others_as_they_were(checkout):
    found = changed_by(lambda: change(checkout / "models/networks/ncf.py", "_dim: Annotated", "_width: Annotated"))
    assert found == {"train ncf", "evaluate"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("core/constants.py", {"train", "evaluate", "export"}),
        ("models/networks/base.py", {"train", "evaluate", "export"}),
        ("models/training/epoch.py", {"train"}),
        ("models/evaluation/bootstrap.py", {"evaluate"}),
        ("models/evaluation/kept.py", {"evaluate"}),
        ("models/evaluation/kept_files.py", {"evaluate"}),
        ("models/baselines/ease.py", {"evaluate"}),
        ("models/cut.py", {"export"}),
        ("models/tuning.py", set()),
        ("marquee/tables.py", set()),
        ("ensemble/server/process.py", set()),
    ],
)
def test_a_change_counts_where_it_decides_a_result(checkout, file, expected):
    def add_a_line() -> None:
        with open(checkout / file, "a", encoding="utf-8") as source:
            source.write("\nANOTHER = 1\n")
        forget()

    trained = {"train dlrm", "train ncf", "train mf"} if "train" in expected else set()
    assert changed_by(add_a_line) == expected | trained


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ("torch", {"train", "evaluate", "export"}),
        ("numba", {"train"}),
        ("implicit", {"evaluate"}),
        ("onnx", {"export"}),
        ("optuna", set()),
    ],
)
def test_another_version_of_a_library_counts_where_the_library_computes(checkout, monkeypatch, library, expected):
    version = artifacts.version

    def upgrade() -> None:
        monkeypatch.setattr(artifacts, "version", lambda name: "99.0" if name == library else version(name))
        forget()

    trained = {"train dlrm", "train ncf", "train mf"} if "train" in expected else set()
    assert changed_by(upgrade) == expected | trained
