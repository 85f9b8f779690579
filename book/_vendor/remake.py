"""Fetch the front-end files that the pages use, so that they need no other host.

    python book/_vendor/remake.py

Each entry of manifest.json is one npm package: `take` says which of its files are wanted (they
lose the leading folder `below`), and this script fetches them into a folder of the package's name
and writes their checksums under `files`.  To add a package, add an entry and run this.
Needs npm; the book and its tests do not.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).parent
MANIFEST = HERE / "manifest.json"


def fetch(package: dict) -> dict[str, str]:
    """Lay down the wanted files of one package and return their checksums by path."""
    folder = HERE / package["name"]
    shutil.rmtree(folder, ignore_errors=True)
    checksums = {}
    with tempfile.TemporaryDirectory() as temporary:
        wanted = f"{package['name']}@{package['version']}"
        subprocess.run(["npm", "pack", "--silent", wanted], cwd=temporary, check=True)
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("package/")
                if not any(fnmatchcase(name, pattern) for pattern in package["take"]):
                    continue
                content = tar.extractfile(member).read()
                path = folder / name.removeprefix(package["below"] + "/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                key = path.relative_to(HERE).as_posix()
                checksums[key] = hashlib.sha256(content).hexdigest()
    return dict(sorted(checksums.items()))


if __name__ == "__main__":
    packages = json.loads(MANIFEST.read_text())
    for package in packages:
        package["files"] = fetch(package)
    MANIFEST.write_text(json.dumps(packages, indent=2) + "\n")
