"""The rewrite lab of the built book shows what the package computes."""

import numpy as np
import pytest
from drawn import Chart, assert_matrix, numbers
from test_every_widget import frame

from armt_mini.widgets import RewriteLab

PAGE = "chapters/05_gamma_correction.html"
PRESETS = {
    "Rewrite once": {},
    "Same value 20 times": {"n_segments": 20, "schedule": "same"},
    "Timid first write": {"n_segments": 1, "strength": 0.25},
    "Two tokens, one key": {"schedule": "later_twice"},
    "Twice at first, then rewritten": {"schedule": "first_twice"},
    "The same, γ not clipped": {"schedule": "first_twice", "clip_gamma": False},
    "Two keys that overlap": {"n_segments": 8, "second_key": True},
}


def assert_shows(widget, lab):
    """The sentence, the table, the matrices and the curves of a widget are the package's."""
    found = lab.experiment()
    after = {name: run[lab.n_segments] for name, run in found.items()}
    recalled = [x for a in after.values() for x in a.recalled.tolist()]
    stored = lab.stored()[lab.n_segments].tolist()
    sentence = numbers(widget.locator(".armt-summary").inner_text())
    assert sentence == pytest.approx([lab.n_segments, *recalled, *stored], rel=6e-3, abs=1e-9)
    for row, a in zip(widget.locator("tbody tr").all(), after.values(), strict=True):
        expected = [a.overlap, a.counted, *a.recalled.tolist()]
        cells = [x for cell in row.locator("td").all() for x in numbers(cell.inner_text())]
        assert cells == pytest.approx(expected, rel=6e-3, abs=1e-9)
    copies = Chart(widget, "Copies of the key in z: zᵀφ/‖φ‖²")
    errors = Chart(widget, "Error of recall")
    for name, style in {"γ on": "armt-measured", "γ off": "armt-other"}.items():
        state = after[name].state
        assert_matrix(widget, f"Matrix A, {name}", state.associations[0])
        assert_matrix(widget, f"Normaliser z, {name}", state.normaliser[0])
        expected = np.array([a.overlap / 5 for a in found[name][1:]])
        assert copies.line(style)[:, 1] == pytest.approx(expected, abs=0.01 * expected.max())
        expected = lab.errors(found[name])
        assert errors.line(style)[:, 1] == pytest.approx(expected, abs=0.01 * expected.max() + 1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_and_more_segments_after_it(page, widget, preset):
    widget.get_by_role("button", name=preset, exact=True).click()
    frame(page)
    lab = RewriteLab(**PRESETS[preset])
    assert_shows(widget, lab)
    for _ in range(3):
        widget.get_by_role("button", name="Read one more segment").press("Enter")
    frame(page)
    lab.n_segments += 3
    assert_shows(widget, lab)


def test_every_control_at_once(page, widget):
    widget.locator("[name=schedule]").select_option("later_twice")
    widget.locator("[name=second_key]").press(" ")
    widget.locator("[name=clip_gamma]").click()
    for name, presses in {"n_segments": 9, "strength": -7, "overlap": 3}.items():
        for _ in range(abs(presses)):
            widget.locator(f"[name={name}]").press("ArrowRight" if presses > 0 else "ArrowLeft")
    frame(page)
    lab = RewriteLab(
        schedule="later_twice", second_key=True, clip_gamma=False, n_segments=11,
        strength=0.65, overlap=0.8,
    )  # fmt: skip
    assert_shows(widget, lab)
