"""The vendored front-end files are those that book/_vendor/manifest.json names, byte for byte."""

import hashlib
import json
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "book" / "_vendor"


def test_vendored_files_have_the_checksums_of_the_manifest():
    named = {}
    for package in json.loads((VENDOR / "manifest.json").read_text()):
        named |= package["files"]
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.glob("*/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found == named


def test_every_vendored_package_states_its_licence_and_brings_its_text():
    for package in json.loads((VENDOR / "manifest.json").read_text()):
        assert package["licence"]
        assert any("LICENSE" in path for path in package["files"]), package["name"]
