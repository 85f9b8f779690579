"""Every page of the built book, opened in Chromium as a reader would: on a wide screen and on a
phone, light and dark, served and from a folder.  Run by `make test`, after `make book`.
"""

from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from site_pages import (
    CHAPTERS,
    ENTRY,
    PAGES,
    SITE,
    WIDTHS,
    assert_none,
    settle,
    visit,
)
from test_every_widget import (
    assert_controls_follow_mouse_and_keyboard_and_reset,
    assert_print_shows_the_static_figures,
)

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


# Of everything that the page asked for, after decompression.
WEIGHT = """() => [...performance.getEntriesByType('navigation'),
                  ...performance.getEntriesByType('resource')]
    .reduce((sum, entry) => sum + entry.decodedBodySize, 0)"""


# A page has thousands of coloured words of code. Whether one can be read depends on its own look
# and on the colour behind it: one of each kind is judged.
ONE_OF_EACH_KIND = """() => {
    const clear = 'rgba(0, 0, 0, 0)', kinds = new Set();
    const ground = (element) => {
        const { backgroundColor } = getComputedStyle(element);
        if (backgroundColor !== clear || !element.parentElement) return backgroundColor;
        return ground(element.parentElement);
    };
    const others = [...document.querySelectorAll('.highlight pre span')].filter((word) => {
        const { color, fontSize, fontWeight } = getComputedStyle(word);
        const kind = [word.className, color, fontSize, fontWeight, ground(word)].join();
        const known = kinds.has(kind);
        kinds.add(kind);
        return known && !word.children.length;
    });
    // Not before all have been looked at: after a change every look computes the page anew.
    for (const word of others) word.replaceWith(word.textContent);
}"""

# What axe would load ahead are style sheets, by addresses that are wrong in its own copy.
AXE = {"resultTypes": ["violations"], "preload": False}


def hard_to_use(page):
    """What axe-core finds: can the page be read and used without a mouse, with a screen reader,
    with weak eyes?  https://dequeuniversity.com/rules/axe/ explains every rule."""
    page.evaluate(ONE_OF_EACH_KIND)
    return [
        f"{violation['id']} ({violation['impact']}): {' '.join(map(str, node['target']))}\n"
        f"    {node['html'][:200]}\n    {node['failureSummary']}"
        for violation in Axe().run(page, options=AXE).response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_page_is_whole_light_for_everybody_its_widgets_follow_and_it_prints(
    open_page, name, theme, width
):
    with open_page(name, theme, width) as page:
        assert page.evaluate(WEIGHT) < 6e6
        assert page.get_attribute("html", "data-theme") == theme
        assert_none("equations not typeset", page.evaluate(UNTYPESET_EQUATIONS))
        assert_none(
            "images not loaded, or without a text for those who cannot see them (give the cell "
            'the metadata {"mystnb": {"image": {"alt": "..."}}})',
            page.evaluate(POOR_IMAGES),
        )
        # Before the width changes: the theme follows it a while later.
        assert_none("hard or impossible to use for some readers", hard_to_use(page))
        for some_width in WIDTHS:
            page.set_viewport_size({"width": some_width, "height": 900})
            assert_none("wider than the page", page.evaluate(WIDER_THAN_THE_PAGE))
        page.set_viewport_size({"width": width, "height": 900})
        assert_controls_follow_mouse_and_keyboard_and_reset(page)
        page.set_viewport_size({"width": 1280, "height": 900})
        assert_print_shows_the_static_figures(page)


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
