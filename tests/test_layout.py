"""Which packages may import which, by the imports in the sources, and how large files and functions may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each may import itself and those before it.
LAYERS = ("core", "workflows", "models", "ensemble", "report", "dashboard", "marquee")
CLIENT = "ensemble.client"  # of the project, all that the page may import, with what that imports
STORE, SETTINGS = "dashboard.store", "dashboard.settings"
OPEN = (STORE, SETTINGS)  # of the page, all that others may import: the rest has an environment of its own
INSIDE_TRITON = "ensemble/triton_models"
MERLINS_BACKEND = "ensemble/merlin_systems/backends"  # runs inside Triton, too
LONGEST_FILE = 320  # lines
LONGEST_FUNCTION = 56  # lines, without the docstring
HEAVY = ("torch", "merlin", "nvtabular", "tensorflow", "pandas", "pyarrow", "sklearn", "optuna", "onnx")
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no sources"
    return found


def imports(file: Path) -> Iterator[str]:
    """The full names of what a file imports, anywhere in it, also inside functions and `if TYPE_CHECKING`."""
    yield from (name for name, _ in imports_and_levels(file))


def imports_and_levels(file: Path) -> Iterator[tuple[str, int]]:
    """The same, each with the number of dots of a relative import; 0 for an absolute one."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((name.name, 0) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            yield from ((f"{module}.{name.name}", node.level) for name in node.names)


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


def test_what_runs_inside_triton_imports_nothing_of_the_project_but_its_own_package():
    """And that by relative imports, as the package has another name inside Triton."""
    files = sources(INSIDE_TRITON)
    own = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    found = [(file, name, level) for file in files for name, level in imports_and_levels(file)]
    assert any(level for _, _, level in found)
    for file, name, level in found:
        if level:
            assert name in own or name.rpartition(".")[0] in own, f"{file} imports {name}"
        else:
            assert name.split(".")[0] not in {*LAYERS, "torch", "merlin", "nvtabular"}, f"{file} imports {name}"


def test_merlins_backend_imports_nothing_of_the_project():
    assert not offenders(sources(MERLINS_BACKEND), set(LAYERS))


def modules() -> dict[str, Path]:
    """Every module's full name and file; that of `__init__.py` is the package's."""
    files = [file for layer in LAYERS for file in sources(layer)]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def import_graph() -> dict[str, set[str]]:
    """Each module and the modules of the project that it imports."""
    files = modules()
    return {
        name: {target for found in imports(file) if (target := module_of(found, files)) and target != name}
        for name, file in files.items()
    }


def module_of(target: str, files: dict[str, Path]) -> str | None:
    """The file that an imported name lies in: a module, or the name of one in it."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in files), None)


def cycle_in(graph: dict[str, set[str]]) -> str:
    """A cycle in words; empty where there is none."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> str:
        if name in path:
            return " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if found := visit(target, (*path, name)):
                    return found
            done.add(name)
        return ""

    return next(filter(None, (visit(name, ()) for name in sorted(graph))), "")


def test_the_search_for_cycles_finds_one():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == "b -> c -> b"
    assert cycle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ""


def test_there_are_no_import_cycles():
    assert cycle_in(import_graph()) == ""


def reached_from(graph: dict[str, set[str]], names: set[str]) -> set[str]:
    """The modules that some modules import, directly or through others, and themselves."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        # importing a module runs the packages that it lies in
        waiting |= (graph.get(name, set()) | {parent for parent in parents_of(name) if parent in graph}) - found
    return found


def parents_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def test_what_is_reached_is_found_through_others_and_packages():
    graph = {"a.b": {"c"}, "a": {"d"}, "c": set(), "d": set(), "e": {"a.b"}}
    assert reached_from(graph, {"a.b"}) == {"a.b", "a", "c", "d"}


def test_the_page_imports_of_the_project_the_client_and_what_that_imports():
    graph = import_graph()
    page = {name for name in graph if name.split(".")[0] == "dashboard"}
    assert STORE in page
    client = reached_from(graph, {name for name in graph if f"{name}.".startswith(f"{CLIENT}.")})
    assert reached_from(graph, page) <= page | client


def test_others_import_the_page_s_store_and_settings_alone():
    found = [
        f"{name} imports {target}"
        for name, targets in import_graph().items()
        for target in targets
        if target.split(".")[0] == "dashboard" and target not in OPEN and name.split(".")[0] != "dashboard"
    ]
    assert not found


def test_the_store_and_the_settings_need_the_standard_library_alone():
    code = f"import {STORE}, {SETTINGS}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-S", "-c", code]  # without installed packages
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) <= {*sys.stdlib_module_names, "__main__", "dashboard"}


def room_of(module: str, files: dict[str, Path]) -> str:
    """The folder under a package that a module lies in; the package's own files lie in the package."""
    return "/".join(files[module].relative_to(ROOT).parent.parts[:2])


def test_the_rooms_of_the_ensemble_import_each_other_one_way():
    files, rooms = modules(), dict[str, set[str]]()
    for name, targets in import_graph().items():
        here = room_of(name, files)
        if here.startswith("ensemble"):
            rooms.setdefault(here, set()).update({room_of(target, files) for target in targets} - {here})
    assert len(rooms) > 4
    assert cycle_in(rooms) == ""


def test_no_two_rooms_share_a_name():
    rooms = {file.parent for layer in LAYERS for file in sources(layer)}
    rooms |= {parent for room in rooms for parent in room.parents if ROOT in parent.parents}
    names = sorted(room.name for room in rooms)
    assert names == sorted(set(names))


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
def test_no_file_is_too_long(layer):
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in sources(layer)}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE}


@pytest.mark.parametrize("layer", LAYERS)
def test_no_function_is_too_long(layer):
    lengths = {
        f"{file.relative_to(ROOT)}: {node.name}": length_of(node)
        for file in sources(layer)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert lengths
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, from `def` to its end, without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


# -- libraries ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("package", LAYERS)
def test_every_file_with_a_doctest_is_tested(package, pytestconfig):
    with_examples = [str(file.relative_to(ROOT)) for file in sources(package) if ">>> " in file.read_text()]
    assert set(with_examples) <= set(pytestconfig.getini("testpaths"))
