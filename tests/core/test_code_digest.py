"""The digest of the code that computes a result: what changes it, and what does not."""

from pathlib import Path

import pytest

from core import artifacts
from core.artifacts import code_digest, library_versions

SOURCE = '''
"""A module."""

RATE = 0.5


class Model:
    """A model."""

    def score(self, x: float) -> float:
        """A score."""
        # a comment
        return RATE * x


MODEL = register(Model, title="A model", heading="model", question="Which?", help="The model.", position=3)
'''


@pytest.fixture
def room(tmp_path, monkeypatch) -> Path:
    """A checkout with one room of one file."""
    monkeypatch.setattr(artifacts, "CHECKOUT", tmp_path)
    folder = tmp_path / "models" / "networks"
    folder.mkdir(parents=True)
    (folder / "one.py").write_text(SOURCE)
    return folder


def digest(*rooms: str) -> str:
    artifacts._source_digest.cache_clear()
    artifacts._library_version.cache_clear()
    return code_digest(rooms or ("models/networks",), ("numpy",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another text."""'),
        ('"""A model."""', '"""Another text."""'),
        ('    """A model."""\n', ""),
        ('"""A score."""', '"""Another text,\n        on two lines."""'),
        ("# a comment", "# another comment"),
        ("        # a comment\n", ""),
        ("return RATE * x", "return (RATE * x)"),
        ("return RATE * x", "return RATE*x  # faster"),
        ("\n\n\nclass", "\n\nclass"),
        ('title="A model"', 'title="The model"'),
        ('heading="model"', 'heading="network"'),
        ('question="Which?"', 'question="What?"'),
        ('help="The model."', 'help="Text."'),
        ("position=3", "position=4"),
        (', title="A model"', ""),
    ],
)
def test_what_does_not_change_a_result_does_not_change_the_digest(room, old, new):
    before = digest()
    assert old in SOURCE
    (room / "one.py").write_text(SOURCE.replace(old, new))
    assert digest() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 0.5", "RATE = 0.6"),
        ("RATE * x", "RATE + x"),
        ("RATE * x", "x * RATE"),
        ("score(", "scores("),
        ("x: float)", "x: float = 1.0)"),
        ("register(Model,", "register(Model, 1,"),
        ("register(Model,", "register(Model, rate=1,"),
        ("MODEL =", "NETWORK ="),
    ],
)
def test_what_may_change_a_result_changes_the_digest(room, old, new):
    before = digest()
    assert old in SOURCE
    (room / "one.py").write_text(SOURCE.replace(old, new))
    assert digest() != before


def test_a_new_file_a_removed_file_and_a_renamed_file_change_it(room):
    seen = {digest()}
    (room / "deep").mkdir()
    (room / "deep" / "two.py").write_text("X = 1\n")
    seen.add(digest())
    (room / "deep" / "two.py").rename(room / "deep" / "three.py")
    seen.add(digest())
    (room / "one.py").unlink()
    seen.add(digest())
    assert len(seen) == 4


def test_other_rooms_do_not_count(room):
    before = digest()
    (room.parent / "tuning.py").write_text("X = 1\n")
    (room / "notes.txt").write_text("text")
    assert digest() == before
    assert digest("models/networks", "models/tuning.py") != before


def test_a_file_is_a_room(room):
    one = digest("models/networks/one.py")
    (room / "two.py").write_text("X = 1\n")
    assert digest("models/networks/one.py") == one


def test_files_from_anywhere_count(room, tmp_path):
    extra = tmp_path / "toy.py"
    extra.write_text("X = 1\n")
    one = code_digest(("models/networks",), (), extra)
    artifacts._source_digest.cache_clear()
    extra.write_text("X = 2\n")
    assert code_digest(("models/networks",), (), extra) != one
    assert code_digest(("models/networks",), ()) != one


@pytest.mark.parametrize("missing", ["models/nothing", "models/nothing.py"])
def test_a_missing_room_is_an_error(room, missing):
    with pytest.raises(ValueError, match="has no sources"):
        digest("models/networks", missing)


def test_the_version_of_a_library_counts(room, monkeypatch):
    before = digest()
    monkeypatch.setattr(artifacts, "version", lambda name: "99.0")
    after = digest()
    artifacts._library_version.cache_clear()
    assert after != before


def test_which_libraries_count_is_the_callers_choice(room):
    assert code_digest(("models/networks",), ("numpy",)) != code_digest(("models/networks",), ())


def test_a_library_that_is_not_installed_has_no_version():
    assert library_versions(["numpy", "no-such-package-of-marquee"]).keys() == {"numpy", "no-such-package-of-marquee"}
    assert library_versions(["no-such-package-of-marquee"]) == {"no-such-package-of-marquee": ""}
