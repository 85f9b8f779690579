"""The models that run in the built book answer as the package's do."""

from functools import partial

import numpy as np
import pytest
from drawn import Chart, assert_matrix
from test_every_widget import frame

from armt_mini.widgets import AskModel

PAGE = "chapters/07_first_training.html"
LABS = {
    "layers": partial(
        AskModel, {"γ on": "rewrite-layer-alone", "γ off": "rewrite-layer-alone-no-gamma"}
    ),
    "pocket": partial(AskModel, {"pocket ARMT": "rewrite-pocket-armt"}, asked=6),
}
CELLS = "(rows) => rows.map((row) => [...row.querySelectorAll('td')].map((td) => td.innerText))"


def widget_of(page, name):
    return page.locator(f".armt-widget[data-name={name}]")


def assert_answers(widget, lab):
    """The table of a widget holds the package's answers, the sentence counts them, and the pictures
    are those of the package's memories and probabilities."""
    found, stored = lab.experiment(), lab.stored()
    expected = [
        [
            str(stored.get(key, "–")),
            *(str(int(asked.logits[key].argmax())) for asked in found.values()),
        ]
        for key in range(16)
    ]
    rows = widget.locator("tbody tr").evaluate_all(CELLS)  # at once: the page may be computing
    assert [[cell.removesuffix(" ✗") for cell in row] for row in rows] == expected
    right = ", ".join(f"{n} ({label})" for label, n in lab.n_right().items())
    assert (
        f"{len(stored)} {'key' if len(stored) == 1 else 'keys'}; right: {right}."
        in widget.locator(".armt-summary").inner_text()
    )
    for label, asked in found.items():
        shares = asked.logits[lab.asked].softmax(-1)[:16]
        bars = Chart(widget, f"Answer, {label}").bars()
        assert bars[:, 1] == pytest.approx(shares.numpy(), abs=0.003)
        for i, state in enumerate(asked.states, 1):
            layer = f"{label}, layer {i}" if len(asked.states) > 1 else label
            assert_matrix(widget, f"Matrix A, {layer}", state.associations[0])
            assert_matrix(widget, f"z, {layer}", state.normaliser[0])


@pytest.mark.parametrize("name", LABS)
@pytest.mark.parametrize("n_read", [1, 20, 60])
def test_page_and_package_agree(open_page, name, n_read):
    with open_page(f"{PAGE}#{name}.n_read={n_read}&{name}.seed=5", typeset=False) as page:
        lab = LABS[name](n_read=n_read, seed=5)
        assert_answers(widget_of(page, name), lab)
        widget_of(page, name).get_by_role("button", name="Read one more pair").press("Enter")
        widget_of(page, name).get_by_role("button", name="Other pairs").click()
        frame(page)
        assert_answers(widget_of(page, name), LABS[name](n_read=n_read + 1, seed=6))


@pytest.mark.parametrize("erased", [1, 2])
def test_erasing_a_layer(open_page, erased):
    with open_page(PAGE, typeset=False) as page:
        widget = widget_of(page, "pocket")
        for _ in range(erased):
            widget.locator("[name=erased]").press("ArrowRight")
        frame(page)
        assert_answers(widget, LABS["pocket"](n_read=8, erased=erased))


def test_typed_pairs_are_read_one_by_one_and_a_slip_among_them_is_left_out(open_page):
    text = "3:7 11:2 3:9"
    with open_page(PAGE, typeset=False) as page:
        widget = widget_of(page, "pocket")
        widget.locator("[name=typed]").fill(text)
        for n_read in (1, 2, 3, 3):  # after the last pair there is no other
            frame(page)
            assert widget.locator("[name=n_read]").input_value() == str(n_read)
            assert_answers(widget, LABS["pocket"](n_read=n_read, typed=text))
            widget.get_by_role("button", name="Read one more pair").click()
        widget.locator("[name=typed]").press("End")
        widget.locator("[name=typed]").press_sequentially(" 16:1")
        frame(page)
        assert "“16:1” is no pair" in widget.get_by_role("alert").inner_text()
        assert_answers(widget, LABS["pocket"](n_read=1, typed=text))
        widget.get_by_role("button", name="Reset").click()
        frame(page)
        assert widget.locator("[name=typed]").input_value() == ""
        assert_answers(widget, LABS["pocket"](n_read=8))


CURVE_HAS_200_PLACES = """() => {
    const line = [...layers.querySelectorAll(".armt-chart > svg path.armt-other")].at(-1);
    return line.getAttribute("d").split("L").length === 200;
}"""


def test_the_curve_is_drawn_to_its_end_in_idle_time_and_again_for_other_pairs(open_page):
    with open_page(PAGE, typeset=False) as page:
        widget = widget_of(page, "layers")
        widget.evaluate("(widget) => (window.layers = widget)")
        for seed in (0, 1):
            page.wait_for_function(CURVE_HAS_200_PLACES)
            curves = Chart(widget, "Right answers over the text")
            for label, style in {"γ on": "armt-measured", "γ off": "armt-other"}.items():
                n_read, shares = curves.line(style).T
                assert n_read == pytest.approx(np.arange(1, 201))
                for n in (1, 30, 120, 200):
                    lab = LABS["layers"](n_read=n, seed=seed)
                    assert shares[n - 1] == pytest.approx(lab.n_right()[label] / len(lab.stored()))
            widget.get_by_role("button", name="Other pairs").click()
            frame(page)
