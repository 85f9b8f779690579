"""The capacity lab of the built book shows what the package computes."""

import numpy as np
import pytest
from drawn import Chart, assert_matrix
from test_every_widget import frame

from armt_mini.widgets import CapacityLab

PAGE = "chapters/02_linear_attention.html"


def words(lab, found):
    """The sentence under the controls, from the package's numbers."""
    rows, columns = found.states[0].associations.shape[1:]
    right = int((found.margins[lab.n_pairs][0] > 0).sum())
    return (
        f"{lab.n_pairs} pairs in a matrix of {rows} × {columns}: {right} recalled, "
        f"{lab.n_pairs - right} not. "
        f"Mean of 4 such memories: {100 * found.accuracy[lab.n_pairs]:.1f} %."
    )


def assert_shows(widget, lab):
    """The sentence, the matrix, the bars and the curves are the package's."""
    found = lab.experiment()
    assert widget.locator(".armt-summary").inner_text() == words(lab, found)
    title = "Association matrix A (row: feature, column: symbol)"
    assert_matrix(widget, title, found.states[lab.n_pairs].associations[0])
    bars = Chart(widget, "Recall of each pair").bars()
    assert bars[:, 0] == pytest.approx(range(1, lab.n_pairs + 1))
    leads = found.margins[lab.n_pairs][0].clip(-1, 1.5)
    assert bars[:, 1] == pytest.approx(leads.numpy(), abs=0.01)
    curves = Chart(widget, "Accuracy against number of pairs")
    for style, expected in {"measured": found.accuracy, "theory": found.theory}.items():
        assert curves.line(f"armt-{style}")[:, 1] == pytest.approx(expected[1:].numpy(), abs=0.003)
    assert curves.points() == pytest.approx(
        np.array([[lab.n_pairs, found.accuracy[lab.n_pairs]]]), abs=0.01
    )


@pytest.mark.parametrize("feature_map", ["none", "elu_plus_one", "relu", "dpfp"])
@pytest.mark.parametrize("rule", ["additive", "delta", "gamma"])
def test_page_and_package_agree(page, widget, rule, feature_map):
    widget.locator("[name=rule]").select_option(rule)
    widget.locator("[name=feature_map]").select_option(feature_map)
    for name, (key, presses) in {
        "d_memory": ("ArrowLeft", 5),
        "n_pairs": ("ArrowRight", 17),
        "overlap": ("ArrowRight", 3),
        "noise": ("ArrowRight", 7),
    }.items():
        for _ in range(presses):
            widget.locator(f"[name={name}]").press(key)
    frame(page)
    values = {
        name: float(widget.locator(f"[name={name}]").input_value())
        for name in ("d_memory", "n_pairs", "overlap", "noise")
    }
    values |= {"d_memory": int(values["d_memory"]), "n_pairs": int(values["n_pairs"])}
    lab = CapacityLab(rule=rule, feature_map=feature_map, **values)
    assert_shows(widget, lab)


def test_buttons_store_a_pair_and_draw_others(page, widget):
    before = int(widget.locator("[name=n_pairs]").input_value())
    widget.get_by_role("button", name="Store one more pair").click()
    widget.get_by_role("button", name="Store one more pair").press("Enter")
    widget.get_by_role("button", name="Other pairs").click()
    frame(page)
    lab = CapacityLab(d_memory=16, n_pairs=before + 2, seed=4)
    assert_shows(widget, lab)
