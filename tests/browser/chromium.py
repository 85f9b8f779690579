"""Find a Chromium that runs, and install one where that needs no question.

    python tests/browser/chromium.py [--install]

Prints its path.  Looks on PATH, among macOS's applications and in Playwright's own folder.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

# The first is the same without windows, and draws nothing but pages: the tests take a tenth less.
ON_PATH = (
    "chromium-headless-shell",
    "google-chrome",
    "google-chrome-stable",
    "chromium",
    "chromium-browser",
    "chrome",
)
ON_MACOS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PLAYWRIGHT = (sys.executable, "-m", "playwright")


def candidates():
    yield from filter(None, map(shutil.which, ON_PATH))
    yield from ON_MACOS
    with sync_playwright() as playwright:
        yield playwright.chromium.executable_path


def runs(path: str) -> bool:
    """Whether it answers: Ubuntu's /usr/bin/chromium-browser may only say where to get one."""
    try:
        subprocess.run([path, "--version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def find() -> str | None:
    return next(filter(runs, candidates()), None)


def installing_commands() -> tuple[list[list[str]], list[list[str]]]:
    """What installs a Chromium on this system: first as administrator, then as this user."""
    if platform.system() != "Linux":
        return [], [[*PLAYWRIGHT, "install", "chromium"]]
    if "ubuntu" in linux_names():  # whose package chromium only points to the snap store
        return [[*PLAYWRIGHT, "install-deps", "chromium"]], [[*PLAYWRIGHT, "install", "chromium"]]
    if "debian" in linux_names():
        install = (
            "apt-get install --yes --no-install-recommends chromium-headless-shell fonts-liberation"
        )
        return [["apt-get", "update"], install.split()], []
    return [], []


def linux_names() -> list[str]:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return []
    return [release["ID"], *release.get("ID_LIKE", "").split()]


def is_administrator() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def may_sudo() -> bool:
    """Whether sudo asks for no password: an unattended run has nobody to type one."""
    return (
        bool(shutil.which("sudo"))
        and not subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode
    )


def install() -> None:
    as_administrator, as_user = installing_commands()
    sudo = [] if is_administrator() else ["sudo", "-n"]
    if not (as_administrator or as_user) or (as_administrator and sudo and not may_sudo()):
        how = [" ".join(["sudo", *command]) for command in as_administrator]
        how += [" ".join(command) for command in as_user]
        sys.exit(
            "The browser tests need Chromium or Chrome, and none was found. Install one, then\n"
            f"run this again: {' && '.join(how) or 'with the package manager of this system'}"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in [[*sudo, *command] for command in as_administrator] + as_user:
        print("No Chromium found:", *command, file=sys.stderr)
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


if __name__ == "__main__":
    path = find()
    if path is None and "--install" in sys.argv:
        install()
        path = find()
    if path is None:
        sys.exit("No Chromium that runs was found; --install may get one.")
    print("Chromium:", Path(path))
