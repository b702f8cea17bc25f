"""What is copied into Triton: what it may import, and that it changes nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.artifacts import verify
from ensemble.triton_models import network, recommendations, scores, similar_movies
from ensemble.triton_models.files import PACKAGE
from ensemble.triton_models.scores import Scores
from tests.ensemble.triton_models.conftest import (
    folder_of,
    random_ids,
    same,
)
from tests.names import HANG_SECONDS


def test_answers_do_not_change_what_the_next_one_is(served, recommendations, similar):
    scores = Scores(folder_of(served, "scorer"))
    user, movie = random_ids(served, 6, 50)
    questions = [
        lambda: scores.score(user, movie),
        lambda: recommendations.recommend(1),
        lambda: recommendations.recommend(-1),
        lambda: recommendations.recommend(-1, 10, np.array([10, 20])),
        lambda: recommendations.recommend(3, 10, np.array([10, 20]), "two-stage"),
        lambda: similar.similar(50),
    ]
    before = [[np.array(part) for part in ask()] for ask in questions]
    for ask in questions:
        for part in ask()[:2]:
            part[:] = 0  # what a caller does with its answer is its own business
    for ask, expected in zip(questions, before):
        same(ask(), tuple(expected))
    verify(served.repository)


def test_tables_are_mapped_and_cannot_be_written_to(recommendations, similar):
    mapped = [recommendations.rated, recommendations.rated_starts, similar.vectors]
    for ranking in recommendations.rankings.values():
        network = ranking.network
        mapped += [network.user, network.vector, network.hidden, ranking.retrieval, ranking.vector, ranking.hidden]
    for values in mapped:
        assert isinstance(values, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


SOURCES = sorted(Path(network.__file__).parent.glob("*.py"))
NEEDS_TRITON = ("backend", "recommend", "scorer", "similar")


def test_the_files_need_only_what_serving_has():
    """And each other, relatively, as the package has another name inside Triton."""
    allowed = {
        "collections",
        "json",
        "os",
        "pathlib",
        "shutil",
        "typing",
        "numpy",
        "onnxruntime",
        "pyarrow",
        "pydantic",
    }
    assert len(SOURCES) > 10
    for source in SOURCES:
        may_import = allowed | ({"triton_python_backend_utils"} if source.stem in NEEDS_TRITON else set())
        tree = ast.parse(source.read_text())
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1
                assert (source.parent / f"{node.module}.py").is_file()
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
        assert found <= may_import, source
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"eval", "exec", "__import__"}


def test_arrays_are_never_unpickled():
    loads = [
        node
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load"
    ]
    assert len(loads) == 2
    for call in loads:
        allowed = {keyword.arg: keyword.value.value for keyword in call.keywords if keyword.arg == "allow_pickle"}
        assert allowed == {"allow_pickle": False}


@pytest.mark.parametrize("model", ["scorer", "recommend", "similar"])
def test_what_is_exported_are_these_files(exported, model):
    folder = folder_of(exported, model)
    copies = sorted((folder / PACKAGE).iterdir())
    assert [copy.name for copy in copies] == [source.name for source in SOURCES]
    for copy, source in zip(copies, SOURCES):
        assert copy.read_bytes() == source.read_bytes()
    assert f"from {PACKAGE}.{model} import TritonPythonModel\n" in (folder / "model.py").read_text()


@pytest.mark.parametrize(
    ("model", "module", "answer"),
    [
        ("scorer", scores, "Scores(here).score(np.array([1, 3]), np.array([10, 20]))[0]"),
        ("recommend", recommendations, "Recommendations(here).recommend(1, 3)[0]"),
        ("recommend", recommendations, "Recommendations(here).recommend(-1, 3, np.array([10, 20]))[0]"),
        ("similar", similar_movies, "SimilarMovies(here).similar(10, 3)[0]"),
    ],
    ids=["scorer", "recommend", "recommend to a newcomer", "similar"],
)
def test_answers_alone_load_no_training_code(exported, model, module, answer):
    """In a fresh interpreter, from the exported folder, as Triton does it."""
    folder = folder_of(exported, model)
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        f"from {PACKAGE}.{module.__name__.rpartition('.')[2]} import *;"
        "here = Path('.').resolve();"
        f"print(({answer}).tolist());"
        "unwanted = ('torch', 'merlin', 'nvtabular', 'core', 'workflows', 'marquee', 'models', 'ensemble');"
        "print([name for name in unwanted if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    found, modules = result.stdout.splitlines()
    expected = eval(answer, {**vars(module), "here": folder, "np": np})
    assert found == str(expected.tolist())
    assert modules == "[]"
    assert not list(folder.rglob("__pycache__"))
