"""Every error of tests/planted_errors.py is noticed by the tests that should notice it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("planted_errors.py")
PARTS = 2  # as many as `make check` has processes


def test_there_are_at_least_sixteen_planted_errors_with_a_name_each():
    names = re.findall(r'PlantedError\(\n +"(.+)",', SCRIPT.read_text(encoding="utf-8"))
    assert len(set(names)) == len(names) >= 16


@pytest.mark.parametrize("part", range(PARTS))
def test_every_planted_error_is_caught_by_an_assertion_and_nothing_fails_without_one(part):
    # Coverage is of this process's package, not of the broken copies.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "COVERAGE_"))}
    command = [sys.executable, str(SCRIPT), str(part), str(PARTS)]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("caught: ") > 7
    assert "MISSED" not in done.stdout
