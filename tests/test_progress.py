"""The progress bar: in a terminal, a log file and a notebook."""

import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import TASK, at_step, recipe, run, small

from armt_mini.training.loop import Stage, train


def test_the_bar_says_where_a_run_stands_on_standard_output_alone(
    capsys, tmp_path, monkeypatch, ctrl_c
):
    file = tmp_path / "run.safetensors"
    with monkeypatch.context() as patch:
        at_step(patch, 9, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(small(), TASK, recipe(), checkpoint=file)
    assert "10/19" in capsys.readouterr().out
    train(small(), TASK, recipe(), checkpoint=file)
    said = capsys.readouterr()
    assert said.err == ""
    states = said.out.split("\r")
    assert "10/19" in states[1]  # it begins where the run was
    assert "19/19" in states[-1]
    assert "pairs=" in states[-1]
    assert len(states) < 6  # a log file keeps every state of the bar


@pytest.mark.parametrize(("until", "steps"), [((0, 9), 102), ((9, 0), 102), ((0, 0), 100)])
def test_the_bar_ends_full_whichever_stages_end_early(tmp_path, capsys, until, steps):
    stages = [Stage(n_pairs=(1, 2), max_steps=52, until=accuracy) for accuracy in until]
    config = recipe(stages=stages, checkpoint_every=200)
    for _ in ("trained", "found finished"):
        train(small(), TASK, config, checkpoint=tmp_path / "run.safetensors")
        last = capsys.readouterr().out.split("\r")[-1]
        assert "100%" in last
        assert f" {steps}/{steps} " in last


def test_without_progress_nothing_is_printed(capsys):
    run()
    assert capsys.readouterr() == ("", "")


def test_in_a_notebook_each_state_of_the_bar_takes_the_place_of_the_one_before(monkeypatch, capsys):
    shown = []

    class Line:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    ipython = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=...),
        display=SimpleNamespace(display=lambda *_, **__: Line()),
    )
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    train(small(), TASK, recipe())
    assert "0/19" in shown[0]
    assert "19/19" in shown[-1]
    assert all(line and line == line.strip() for line in shown)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_what_a_notebook_keeps_of_the_bar_is_one_line(monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    source = """
        from small_runs import TASK, recipe, small
        from armt_mini.training.loop import train
        train(small(), TASK, recipe());
    """
    cell = nbformat.v4.new_code_cell(textwrap.dedent(source))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert "19/19" in output.data["text/plain"]
    assert "\n" not in output.data["text/plain"]
