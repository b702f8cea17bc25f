"""Who may import whom, by the imports in the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("workflows", "models", "ensemble")
PACKAGES = ("marquee", *STAGES)
COMMAND_LINE = ("cli.py", "road.py", "research.py", "serving.py")
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


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("workflows", {"models", "ensemble"}),
        ("models", {"ensemble"}),
        ("ensemble/serving", {"marquee", "workflows", "models", "ensemble", "torch", "merlin", "nvtabular"}),
    ],
)
def test_a_stage_imports_no_later_one(package, forbidden):
    assert not offenders(sources(package), forbidden)


def test_only_the_command_line_imports_the_stages():
    files = [file for file in sources("marquee") if file.name not in COMMAND_LINE]
    assert len(files) == len(sources("marquee")) - len(COMMAND_LINE)
    assert not offenders(files, set(STAGES))


@pytest.mark.parametrize("file", COMMAND_LINE)
def test_the_command_line_imports_the_stages_only_where_they_are_needed(file):
    """`--help` must not wait for Merlin."""
    top = ast.parse((ROOT / "marquee" / file).read_text(encoding="utf-8")).body
    names = {
        name.split(".")[0]
        for node in top
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert not names & {*STAGES, "torch", "merlin", "nvtabular", "pandas", "numpy"}


def test_no_stage_imports_the_command_line():
    assert not [
        f"{file.relative_to(ROOT)} imports {name}"
        for package in STAGES
        for file in sources(package)
        for name in imports(file)
        if name.startswith(("marquee.cli", "marquee.road", "marquee.research", "marquee.serving", "marquee.__main__"))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_imports_pickle(package):
    assert not offenders(sources(package), UNPICKLERS)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_but_the_tests_imports_the_tests(package):
    assert not offenders(sources(package), {"tests", "pytest", "hypothesis", "ranx"})
