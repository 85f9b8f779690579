"""Every page, light and dark, as axe-core judges it: can it be read and used without a mouse, with
a screen reader, with weak eyes?  https://dequeuniversity.com/rules/axe/ explains every rule.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe
from site_pages import assert_none, each_page

# What axe would load ahead are style sheets, by addresses that are wrong in its own copy.
OPTIONS = {"resultTypes": ["violations"], "preload": False}


@each_page
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_page_is_accessible(open_page, name, theme, width):
    with open_page(name, theme, width) as page:
        violations = Axe().run(page, options=OPTIONS).response["violations"]
    assert_none(
        "hard or impossible to use for some readers",
        [
            f"{violation['id']} ({violation['impact']}): {' '.join(map(str, node['target']))}\n"
            f"    {node['html'][:200]}\n    {node['failureSummary']}"
            for violation in violations
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ],
    )
