"""Picking a device, and saying which."""

import sys
import time
from types import SimpleNamespace

import pytest
import torch

import armt_mini as am
from armt_mini.device import joules, measured


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


class Counting:
    """As much of nvidia-ml-py as is asked for: a GPU that uses 250 J between two looks."""

    NVMLError, total = OSError, 0

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, name):
        assert name == "GPU-12-ab"
        return "the handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert handle == "the handle"
        self.total += 250_000  # mJ
        return self.total


def test_the_cost_of_work_is_measured(monkeypatch):
    gpu, properties = torch.device("cuda"), SimpleNamespace(uuid="12-ab")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setitem(sys.modules, "pynvml", Counting())
    with measured(gpu) as cost:
        time.sleep(0.02)
    assert cost.keys() == {"seconds", "joules"}
    assert cost["joules"] == 250
    assert 0.02 <= cost["seconds"] < 10
    with measured(torch.device("cpu")) as cost:
        pass
    assert cost.keys() == {"seconds"}


def test_where_nobody_counts_energy_there_is_none(monkeypatch):
    def unknown(device):
        raise OSError

    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert joules(torch.device("cuda")) is None
    monkeypatch.setitem(sys.modules, "pynvml", counter := Counting())
    monkeypatch.setattr(counter, "nvmlInit", lambda: unknown(0))
    assert joules(torch.device("cuda")) is None
