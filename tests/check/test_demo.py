"""The demo of the checker runs, and names the line that is wrong."""

import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "demos" / "check_your_own_operation.py"


def test_the_demo_goes_from_the_message_to_the_mended_line():
    found = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, check=True)
    before, after = found.stdout.split("With .sum(axis=0)")
    assert "gradient of scale (3,)" in before
    assert "a missing broadcast sum" in before
    assert "0 wrong" in after
