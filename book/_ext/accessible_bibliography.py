"""The bibliography without the role of a list, whose items are marked as no list's items may be.

docutils writes the one and the other; a screen reader would announce a list and find none.
"""

from sphinx.application import Sphinx

WITH_ROLE = '<div role="list" class="citation-list">'


def drop_role(app: Sphinx, name: str, template: str, context: dict, doctree) -> None:
    if "body" in context:
        context["body"] = context["body"].replace(WITH_ROLE, WITH_ROLE.replace('role="list" ', ""))


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", drop_role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
