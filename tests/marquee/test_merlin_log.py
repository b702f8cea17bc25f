"""What Merlin logs of an interrupt is not shown beside the line that says so."""

import subprocess
import sys
from pathlib import Path

from tests.names import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
# Ctrl-C while an operator of NVTabular is at work, as Merlin's executor logs it.
PROGRAM = """
import logging, sys
from marquee import app, pipeline

def fetch(*_):
    try:
        raise KeyboardInterrupt
    except BaseException:
        logging.getLogger("merlin").exception("Failed to transform operator")
        raise

pipeline.fetch = fetch
app.main(["fetch", "--runs", sys.argv[1]])
"""


def test_an_interrupt_inside_of_merlin_is_one_line(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert (done.returncode, done.stderr) == (130, "stopped\n")
