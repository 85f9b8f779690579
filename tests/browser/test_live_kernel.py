"""A widget in JupyterLab, with a kernel: what the reader moves reaches Python, and the reverse."""

import json
import os
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from site_pages import assert_none, visit

TOKEN = "only-for-this-test"

MAKE_WIDGET = "from armt_mini.widgets import CapacityLab\n\nlab = CapacityLab(n_pairs=4)\nlab"
CELLS = [MAKE_WIDGET, 'print("Python has", lab.n_pairs)', "lab.n_pairs = 9"]

SETTINGS = {
    "ServerApp.open_browser": False,
    "ServerApp.allow_root": True,
    "IdentityProvider.token": TOKEN,
    "LabApp.extension_manager": "readonly",  # the other one asks PyPI
}
NEWS = "@jupyterlab/apputils-extension:announcements"  # asks GitHub, after asking the reader


@pytest.fixture
def jupyterlab(tmp_path):
    """The address of a notebook in a JupyterLab of its own, in a folder of its own."""
    notebook = new_notebook(
        cells=[new_code_cell(source) for source in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "lab.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    port = f"--ServerApp.port={host.split(':')[1]}"
    folders = {
        f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")
    }
    page = tmp_path / "CONFIG" / "labconfig" / "page_config.json"
    page.parent.mkdir(parents=True)
    page.write_text(json.dumps({"disabledExtensions": {NEWS: True}}))
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *settings, port, f"--notebook-dir={tmp_path}"],
            env={**os.environ, **folders},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(f"http://{host}/api", server, tmp_path / "log")
        yield host, f"http://{host}/lab/tree/lab.ipynb?token={TOKEN}"
    finally:
        server.terminate()  # it ends its kernels
        server.wait(timeout=20)


def wait_for(url, server, log, seconds=60):
    """Until the server answers."""
    for _ in range(seconds * 10):
        try:
            return urlopen(url).close()
        except URLError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise TimeoutError(log.read_text())


def test_slider_and_python_variable_follow_each_other(browser, jupyterlab):
    host, address = jupyterlab
    with visit(browser, host, viewport={"width": 1280, "height": 900}) as (page, problems):

        def run(cell):
            page.locator(".jp-Cell .cm-content").nth(cell).click()
            page.keyboard.press("Control+Enter")

        page.goto(address)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        run(0)
        slider = page.get_by_label("Stored pairs")
        slider.wait_for()

        slider.fill("23")
        run(1)
        page.get_by_text("Python has 23").wait_for()

        run(2)
        page.wait_for_function("slider => slider.value === '9'", arg=slider.element_handle())
    elsewhere = [problem for problem in problems if "another host" in problem]
    assert_none("requests to other hosts", elsewhere)
