"""Picking a device, and saying which."""

import pytest
import torch

import armt_mini as am


def pretend(monkeypatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "some GPU")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "picked"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_picks_the_first_that_is_there_and_says_so(monkeypatch, capsys, cuda, mps, picked):
    pretend(monkeypatch, cuda, mps)
    assert am.pick_device() == torch.device(picked)
    said = capsys.readouterr().out
    assert said.startswith(f"Running on {picked} (")
    assert said.count("\n") == 1


def test_a_device_by_name(monkeypatch, capsys):
    pretend(monkeypatch, cuda=True, mps=True)
    for name, described in (("cpu", "CPU, "), ("cuda", "some GPU"), ("mps", "Apple GPU")):
        assert am.pick_device(name) == torch.device(name)
        assert described in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_an_error_that_says_what_to_do(monkeypatch, name):
    pretend(monkeypatch, cuda=False, mps=False)
    with pytest.raises(ValueError, match=rf"^name: '{name}' is not available .*use 'cpu'"):
        am.pick_device(name)


def test_an_unknown_device_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"^name: .*auto, cuda, mps, cpu; got 'tpu'"):
        am.pick_device("tpu")
