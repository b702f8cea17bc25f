"""Registries: entries of a package's files, in order, and those that are added from elsewhere."""

import sys
from pathlib import Path

import pytest

from core.errors import UserError
from core.registry import Registry, names_of_files


@pytest.fixture
def fruits(tmp_path, monkeypatch) -> Registry:
    """A registry whose package has two files, which add three entries."""
    package = tmp_path / "orchard"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("from core.registry import Registry\nFRUITS = Registry('fruit', 'orchard')\n")
    (package / "pear.py").write_text(
        "from orchard.base import FRUITS\nFRUITS.add('pear', 1)\nFRUITS.add('fig', 2, 5)\n"
    )
    (package / "apple.py").write_text("from orchard.base import FRUITS\nFRUITS.add('apple', 3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("orchard.base", fromlist=["FRUITS"]).FRUITS
    for name in [name for name in sys.modules if name.startswith("orchard")]:
        del sys.modules[name]


def test_entries_come_in_order_of_position_then_name(fruits):
    assert dict(fruits) == {"fig": 2, "apple": 3, "pear": 1}
    assert list(fruits) == ["fig", "apple", "pear"]
    assert len(fruits) == 3


def test_the_files_are_listed_without_importing_them(fruits):
    assert names_of_files("orchard") == ("apple", "pear")
    assert "orchard.pear" not in sys.modules


def test_an_entry_can_be_added_replaced_and_removed(fruits):
    assert fruits.add("quince", 4, position=1) == 4
    assert next(iter(fruits)) == "quince"
    fruits.add("quince", 5)
    assert fruits["quince"] == 5
    fruits.remove("quince")
    assert "quince" not in fruits


def test_an_unknown_name_is_refused_with_those_there_are(fruits):
    assert fruits.choose("pear") == 1
    with pytest.raises(UserError, match="unknown fruit 'plum'; choose one of fig, apple, pear"):
        fruits.choose("plum")


def test_a_file_that_cannot_be_imported_is_not_passed_over(fruits, tmp_path):
    Path(tmp_path / "orchard" / "broken.py").write_text("import nothing_of_that_name\n")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
            list(fruits)
