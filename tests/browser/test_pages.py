"""Every page of the built book, opened in Chromium as a reader would: on a wide screen and on a
phone, light and dark, served and from a folder.  Run by `make test`, after `make book`.
"""

from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

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

WIDTHS = (1280, 390)  # a laptop and a phone, in pixels

UNTYPESET_EQUATIONS = """() => [
    ...[...document.querySelectorAll('.math.notranslate')].filter(
        (math) => !math.querySelector('mjx-container')),
    ...document.querySelectorAll('mjx-merror'),
].map((math) => math.textContent.trim().slice(0, 80))"""

WIDER_THAN_THE_PAGE = """() => {
    const room = document.documentElement.clientWidth;
    const widest = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
    if (widest <= room) return [];
    const wide = [...document.querySelectorAll('body *')].filter(
        (element) => element.getBoundingClientRect().right > room);
    return [`${widest} px of ${room}`,
            ...wide.slice(-3).map((element) => element.outerHTML.slice(0, 80))];
}"""

# Without an alternative text of its own, a figure gets the name of its file.
POOR_IMAGES = """() => [...document.images].filter(
    (image) => !image.naturalWidth || !image.alt.trim() || /\\.(png|svg|jpe?g|gif)$/.test(image.alt)
).map((image) => image.outerHTML)"""


@contextmanager
def visit(browser, host, **options):
    """A page that notes what goes wrong, and from which no other host can be reached."""
    problems = []
    context = browser.new_context(**options)
    page = context.new_page()

    def is_elsewhere(url):
        return urlsplit(url).scheme not in ("file", "data", "blob") and urlsplit(url).netloc != host

    def block(route):
        problems.append(f"request to another host: {route.request.url}")
        route.abort()

    context.route(is_elsewhere, block)
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
    """Wait until everything has arrived and the equations are typeset."""
    page.wait_for_load_state("networkidle")
    if page.query_selector(".math.notranslate"):
        page.wait_for_function("window.MathJax?.startup?.promise")
        page.evaluate("MathJax.startup.promise.then(() => document.fonts.ready).then(() => 0)")


def assert_none(what, found):
    """Fail with every finding on a line of its own."""
    assert not found, f"{what}:\n" + "\n".join(found)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(browser, address, name, theme):
    with visit(browser, urlsplit(address).netloc, color_scheme=theme) as (page, problems):
        page.goto(f"{address}/{name}")
        settle(page)
        assert page.get_attribute("html", "data-theme") == theme
        assert_none("equations not typeset", page.evaluate(UNTYPESET_EQUATIONS))
        assert_none(
            "images not loaded, or without a text for those who cannot see them (give the cell "
            'the metadata {"mystnb": {"image": {"alt": "..."}}})',
            page.evaluate(POOR_IMAGES),
        )
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert_none("wider than the page", page.evaluate(WIDER_THAN_THE_PAGE))
        assert_none("problems", problems)


def test_book_opens_from_a_folder(browser):
    with visit(browser, "") as (page, problems):
        page.goto((SITE / ENTRY).as_uri())
        page.wait_for_url("**/intro.html")
        settle(page)
        page.goto((SITE / CHAPTERS[0]).as_uri())
        settle(page)
        assert page.evaluate("document.querySelectorAll('mjx-container').length") > 0
        assert_none("equations not typeset", page.evaluate(UNTYPESET_EQUATIONS))
        assert_none("images not loaded", page.evaluate(POOR_IMAGES))
        assert_none("problems", problems)


class Links(HTMLParser):
    """The links of one page and the places in it that a link can point to."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.places = [], {"", "top"}
        self.feed((SITE / page).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
        if tag == "a" and "href" in attributes:
            self.targets.append(attributes["href"])


def test_links_within_the_book_lead_somewhere():
    links = {page: Links(page) for page in [ENTRY, *PAGES]}
    dead = []
    for page, found in links.items():
        for link in found.targets:
            if urlsplit(link).scheme or urlsplit(link).netloc:
                continue
            path, place = map(unquote, urldefrag(link))
            target = (SITE / page).parent / path if path else SITE / page
            name = target.resolve().relative_to(SITE).as_posix()
            if not target.is_file() or (name in links and place not in links[name].places):
                dead.append(f"{page} -> {link}")
    assert_none("dead links", dead)
