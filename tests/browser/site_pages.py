"""The pages of the built book, and how a test opens one: whatever goes wrong is noted."""

from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

SITE = Path(__file__).parents[2] / "build" / "site"
ENTRY = "index.html"  # sends the reader on to the first page

PAGES = sorted(
    page.relative_to(SITE).as_posix()
    for page in SITE.rglob("*.html")
    if "_static" not in page.parts and page != SITE / ENTRY
)
if not PAGES:
    raise FileNotFoundError(f"{SITE}: no pages; run `make book` first")
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
WIDGET_PAGES = [page for page in PAGES if "jupyter.widget-view" in (SITE / page).read_text("utf-8")]

WIDTHS = (1280, 390)  # a laptop and a phone, in pixels

ALL_DRAWN = """document.querySelectorAll('.armt-widget[aria-busy="false"]').length ===
    document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length"""


@contextmanager
def visit(browser, host, **options):
    """A page that notes what goes wrong. No other host can be reached: see FLAGS in conftest.py."""
    problems = []
    context = browser.new_context(**options)
    page = context.new_page()

    def is_elsewhere(url):
        return urlsplit(url).scheme not in ("file", "data", "blob") and urlsplit(url).netloc != host

    def note(request):
        if is_elsewhere(request.url):
            problems.append(f"request to another host: {request.url}")

    page.on("request", note)
    page.on("websocket", lambda socket: problems.append(f"web socket: {socket.url}"))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on(
        "response",
        lambda response: (
            response.status >= 400 and problems.append(f"{response.status}: {response.url}")
        ),
    )
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on(
        "console",
        lambda message: (
            message.type in ("error", "warning") and problems.append(f"console: {message.text}")
        ),
    )
    yield page, problems
    context.close()


def settle(page):
    """Wait until everything has arrived, the equations are typeset and the widgets drawn."""
    page.wait_for_load_state("load")
    if page.query_selector(".math.notranslate"):
        page.wait_for_function("window.MathJax?.startup?.promise")
        page.evaluate("MathJax.startup.promise.then(() => 0)")
    page.evaluate("document.fonts.ready.then(() => 0)")
    page.wait_for_function(ALL_DRAWN)


def assert_none(what, found):
    """Fail with every finding on a line of its own."""
    assert not found, f"{what}:\n" + "\n".join(found)
