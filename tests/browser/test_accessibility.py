"""Every page, light and dark, as axe-core judges it: can it be read and used without a mouse, with
a screen reader, with weak eyes?  https://dequeuniversity.com/rules/axe/ explains every rule.
"""

from axe_playwright_python.sync_playwright import Axe
from site_pages import assert_none, each_page, each_theme, each_width


@each_page
@each_theme
@each_width
def test_page_is_accessible(open_page, name, theme, width):
    with open_page(name, theme, width) as page:
        found = Axe().run(page).response["violations"]
    assert_none(
        "hard or impossible to use for some readers",
        [
            f"{violation['id']} ({violation['impact']}): {violation['help']}\n"
            f"    {' '.join(node['target'])}\n    {node['html'][:200]}\n"
            f"    {node.get('failureSummary', '')}"
            for violation in found
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ],
    )
