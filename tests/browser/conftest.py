"""What the browser tests share: the built site, a server for it, a Chromium, and opened pages."""

import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import chromium
import pytest
import torch
from playwright.sync_api import sync_playwright
from site_pages import SITE, assert_none, settle, visit
from test_every_widget import as_opened

# The cores are busy with the pages: threads would wait for one another.
torch.set_num_threads(1)

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


# In place of MathJax, for a test that looks at no equation.
NO_EQUATIONS = "MathJax.startup.promise = Promise.resolve()"


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
    `typeset=False`: its equations stay as they are written, for tests that look at widgets only.

    Leaving it fails the test if anything was wrong: an error or a warning in the console, a request
    that failed or went to another host. If nothing was, the next one in the same view gets the same
    tab, empty: its process starts once, and has read the scripts that all pages share.
    """

    @contextmanager
    def open_page(name, theme="light", width=1280, from_folder=False, typeset=True):
        view = theme, width, from_folder, typeset
        page, problems = tabs.pop(view, None) or open_tab(*view)
        page.goto(f"{SITE.as_uri() if from_folder else address}/{name}")
        settle(page)
        yield page
        assert_none("problems", problems)
        empty(page, width)
        problems.clear()  # leaving it may have ended a request
        tabs[view] = page, problems

    def open_tab(theme, width, from_folder, typeset):
        options = {"color_scheme": theme, "viewport": {"width": width, "height": 900}}
        options |= {"is_mobile": width == 390, "has_touch": width == 390}
        host = "" if from_folder else urlsplit(address).netloc
        page, problems = opened.enter_context(visit(browser, host, **options))
        if not typeset:
            page.route("**/tex-mml-chtml.js*", lambda route: route.fulfill(body=NO_EQUATIONS))
        return page, problems

    tabs = {}  # by view: one that no test has open
    with ExitStack() as opened:
        yield open_page


def empty(page, width):
    """Leave nothing in a tab for the next page: no storage, no mouse, the screen and the width."""
    page.evaluate("localStorage.clear(), sessionStorage.clear()")
    page.goto("about:blank")
    page.mouse.move(-1, -1)
    page.emulate_media(media="null")
    page.set_viewport_size({"width": width, "height": 900})


@pytest.fixture(scope="module")
def page(open_page, request):
    """The page that a file of tests calls PAGE, opened once for all of them."""
    with open_page(request.module.PAGE) as page:
        yield page


@pytest.fixture
def widget(page):
    """The page's only widget, with every control where it is when the page opens."""
    return as_opened(page.locator(".armt-widget"))
