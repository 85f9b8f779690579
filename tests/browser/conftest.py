"""What the browser tests share: the built site, a server for it, a Chromium, and opened pages."""

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import chromium
import pytest
from playwright.sync_api import sync_playwright
from site_pages import SITE, assert_none, settle, visit
from test_every_widget import as_opened

# A window of Chromium prepares the suggestions under its address bar in pages of their own, which
# takes as long as opening a short page of the book. Only the last list of features counts, so those
# that Playwright would leave out are here again: errands, and what delays a picture.
LEFT_OUT = [
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "AimEnabled",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
]

# Nothing but this machine has an address, whatever a page asks for; and Chromium's own errands
# would be connections to other hosts.
FLAGS = [
    f"--disable-features={','.join(LEFT_OUT)}",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-smooth-scrolling",
    "--disable-sync",
    "--no-first-run",
]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format, *arguments):
        """Say nothing: the tests report what fails."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # a page asks for thirty files at once; five would make it wait

    def handle_error(self, request, client_address):
        """Say nothing of a page closed before all had come: what a page misses, it says itself."""


@pytest.fixture(scope="session")
def address():
    """Where the site is served."""
    handler = partial(QuietHandler, directory=SITE)
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    path = chromium.find()
    if path is None:
        pytest.fail("no Chromium; run: python tests/browser/chromium.py --install")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_page(browser, address):
    """`with open_page("chapters/x.html", theme="dark", width=390) as page`: settled.

    At 390 pixels it is a phone, with a finger. `from_folder`: the file itself, not served.

    Leaving it fails the test if anything was wrong: an error or a warning in the console, a request
    that failed or went to another host.
    """

    @contextmanager
    def open_page(name, theme="light", width=1280, from_folder=False):
        root = SITE.as_uri() if from_folder else address
        view = {"color_scheme": theme, "viewport": {"width": width, "height": 900}}
        view |= {"is_mobile": width == 390, "has_touch": width == 390}
        with visit(browser, urlsplit(root).netloc, **view) as (page, problems):
            page.goto(f"{root}/{name}")
            settle(page)
            yield page
            assert_none("problems", problems)

    return open_page


@pytest.fixture(scope="module")
def page(open_page, request):
    """The page that a file of tests calls PAGE, opened once for all of them."""
    with open_page(request.module.PAGE) as page:
        yield page


@pytest.fixture
def widget(page):
    """The page's only widget, with every control where it is when the page opens."""
    return as_opened(page.locator(".armt-widget"))
