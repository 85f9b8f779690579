"""How `make` finds a Python, and that every file names the same oldest one."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OLDEST = PROJECT["project"]["requires-python"].removeprefix(">=")
# Pythons by what is different about them when `make` asks whether they can make an environment.
OLD = "sys.version_info = (3, 8)"
WITHOUT_PIP = "sys.modules['ensurepip'] = None"
GOOD = f"sys.version_info = ({OLDEST.replace('.', ', ')})"
SCRIPT = """#!/bin/sh
[ "$1" = -c ] && exec "{python}" -c "import sys; {different}; $2"
echo "asked $*"; exit 3
"""


@pytest.mark.parametrize("folder", ["plain", "it's a folder"])
@pytest.mark.parametrize("pythons", [(OLD, WITHOUT_PIP, GOOD), (GOOD, OLD), (WITHOUT_PIP, OLD)])
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
def test_the_first_python_that_can_makes_the_environment(tmp_path, monkeypatch, folder, pythons):
    root = tmp_path / folder
    root.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    for number, different in enumerate(pythons):
        python = tmp_path / f"python-{number}"
        python.write_text(SCRIPT.format(python=sys.executable, different=different))
        python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("MAKEFLAGS", raising=False)  # of the make that runs these tests
    command = ["make", "venv", "PYTHON=python-missing python-0 python-1 python-2"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if GOOD in pythons:
        first = pythons.index(GOOD)
        assert f"Making .venv with python-{first}\nasked -m venv --clear .venv\n" in done.stdout
    else:
        assert f"No Python {OLDEST} or newer with its venv module among: python-m" in done.stderr
    assert done.returncode == 2


def test_every_file_names_the_same_oldest_python():
    assert PROJECT["tool"]["basedpyright"]["pythonVersion"] == OLDEST
    assert f"python >={OLDEST}," in (ROOT / "environment.yml").read_text(encoding="utf-8")
    for name in ("README.md", "book/how_to_run.md"):
        assert f"Python {OLDEST} or newer" in (ROOT / name).read_text(encoding="utf-8")
