"""Names of run folders on the command line."""

import os
from pathlib import Path

import pytest

from core.errors import UserError
from marquee import pipeline


def test_a_run_folder_that_is_not_text_is_refused_in_letters_that_can_be_printed():
    with pytest.raises(UserError, match="not in UTF-8") as caught:
        pipeline.run_folder("ml-1m", Path(os.fsdecode(b"runs\xff")))
    str(caught.value).encode()


@pytest.mark.parametrize("name", ["runs [ab]", "Läufe", "a::b"])
def test_any_other_name_is_taken(name):
    assert pipeline.run_folder("ml-1m", Path(name)).root == Path(name) / "ml-1m"
