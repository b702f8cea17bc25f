"""A study in a folder whose name means something in a URL or in a format string."""

import pytest

from models.protocols.base import PROTOCOLS
from models.studies import open_study


@pytest.mark.parametrize("name", ["a?b", "{x}", "a#b", "100%20", "runs [ab]", "a::b", "plain", "ü"])
def test_a_study_lies_in_its_folder_and_is_found_again(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    study = open_study(folder, PROTOCOLS["leave-one-out"], "0123456789abcdef")
    study.set_user_attr("kept", 1)
    assert (folder / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert open_study(folder, PROTOCOLS["leave-one-out"], "0123456789abcdef").user_attrs == {"kept": 1}
