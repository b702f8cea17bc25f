"""Who may import whom, by the imports in the sources."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("core", "workflows", "models", "ensemble", "marquee")  # each may import itself and those before it
INSIDE_TRITON = "ensemble/triton_models"
HEAVY = ("torch", "merlin", "nvtabular", "tensorflow", "pandas", "pyarrow", "sklearn", "optuna", "onnx")
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no sources"
    return found


def imports(file: Path) -> Iterator[str]:
    """The full names of what a file imports, anywhere in it, also inside functions and `if TYPE_CHECKING`."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            yield from (f"{module}.{name.name}" for name in node.names)


def offenders(files: list[Path], forbidden: set[str]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imports(file)
        if name.split(".")[0] in forbidden
    ]


def test_the_reader_of_imports_sees_every_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "models" / "deep").mkdir(parents=True)
    file = tmp_path / "models" / "deep" / "one.py"
    file.write_text(
        "import a.b as c, d\nfrom e.f import g\nfrom . import h\nfrom ..i import j\n"
        "def late():\n    from k import l\n    if True:\n        import m.n\n"
    )
    assert sorted(imports(file)) == ["a.b", "d", "e.f.g", "k.l", "m.n", "models.deep.h", "models.i.j"]


@pytest.mark.parametrize("layer", LAYERS)
def test_arrows_run_one_way(layer):
    assert not offenders(sources(layer), set(LAYERS[LAYERS.index(layer) + 1 :]))


def test_every_package_is_a_layer():
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(LAYERS)


def test_what_runs_inside_triton_imports_nothing_of_the_project_or_of_training():
    found = offenders(sources(INSIDE_TRITON), {*LAYERS, "torch", "merlin", "nvtabular"})
    own = f" imports {INSIDE_TRITON.replace('/', '.')}."  # each other, by relative imports
    assert not [line for line in found if own not in line]


def test_there_are_no_import_cycles():
    files = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for one in LAYERS for file in sources(one)}
    graph = {
        name: {module_of(target, files) for target in imports(file)} - {None, name} for name, file in files.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def module_of(target: str, files: dict[str, Path]) -> str | None:
    """The file that an imported name lies in: a module, or the name of one in it."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in files), None)


def test_help_waits_for_no_heavy_library():
    code = "import marquee.app, sys; print(*{name.split('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(result.stdout.split())


@pytest.mark.parametrize("package", LAYERS)
def test_nothing_imports_pickle(package):
    assert not offenders(sources(package), UNPICKLERS)


@pytest.mark.parametrize("package", LAYERS)
def test_nothing_but_the_tests_imports_the_tests(package):
    assert not offenders(sources(package), {"tests", "pytest", "hypothesis", "ranx"})
