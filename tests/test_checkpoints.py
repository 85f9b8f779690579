"""Files: what goes in comes out, an interruption loses nothing, and what is wrong is named."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file

import armt_mini as am
from armt_mini.baselines.layer_alone import LayerAlone, LayerAloneConfig
from armt_mini.baselines.mamba import Mamba, MambaConfig
from armt_mini.training import checkpoints
from armt_mini.training.checkpoints import (
    halve_checkpoint,
    load_model,
    provenance,
    read_checkpoint,
    save_checkpoint,
    shipped_checkpoints,
)

SIZES = dict(vocab_size=19, d_model=6, n_layers=2, n_heads=2, segment_length=5, n_memory_tokens=3)
MODELS = {
    "armt": lambda: am.ARMT(am.ARMTConfig(**SIZES, d_memory=4, rule="delta", value_std=0.1), 1),
    "rmt": lambda: am.RMT(am.RecurrentConfig(**SIZES, tied_head=False), 1),
    "prmt": lambda: am.PRMT(am.RecurrentConfig(**SIZES), 1),
    "mamba": lambda: Mamba(MambaConfig(vocab_size=19, d_model=6, n_layers=2, d_state=3), 1),
    "layer-alone": lambda: LayerAlone(LayerAloneConfig(vocab_size=19, eps=0.1), 1),
}


def small() -> LayerAlone:
    return LayerAlone(LayerAloneConfig(vocab_size=19, d_model=5, d_memory=3))


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    theirs = other.state_dict()
    assert one.state_dict().keys() == theirs.keys()
    for name, tensor in one.state_dict().items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("system", MODELS)
@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
def test_a_model_comes_back_as_it_was_saved(tmp_path, system, precision):
    model = MODELS[system]().to(precision)
    save_checkpoint(tmp_path / "new" / "model.safetensors", model)
    loaded = load_model(tmp_path / "new" / "model.safetensors")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert_same_weights(model, loaded)


def test_half_a_file_is_the_same_model_in_float32(tmp_path):
    file, half = tmp_path / "model.safetensors", tmp_path / "half.safetensors"
    model, about = MODELS["armt"](), {"card": "a"}
    counted, measured = ("stage", "n_pairs"), ("loss", "accuracy", "seconds")
    history = {f"history.{name}": torch.rand(9).double() for name in measured}
    history |= {f"history.{name}": torch.full((9,), 70_001.0) for name in counted}
    save_checkpoint(file, model, about, history)
    halve_checkpoint(file, half)
    assert half.stat().st_size < file.stat().st_size
    (_, said), (after, again) = read_checkpoint(file), read_checkpoint(half)
    assert said == again
    for name, column in history.items():
        assert torch.equal(after[name], column.half() if name[8:] in measured else column)
    for name, weight in load_model(half).state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, model.state_dict()[name].half().float())


def test_a_file_says_what_it_holds_and_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "commit", lambda: "1234567")
    monkeypatch.setattr(sys, "argv", ["/somewhere/armt_mini/__main__.py", "train", "two words"])
    file = tmp_path / "model.safetensors"
    save_checkpoint(file, small(), {"card": "für später"}, {"history.loss": torch.ones(2)})
    tensors, about = read_checkpoint(file)
    assert (about["system"], about["card"]) == ("layer-alone", "für später")
    assert about["config"]["d_memory"] == 3
    assert torch.equal(tensors["history.loss"], torch.ones(2))
    said = about["provenance"]
    assert said["command"] == "python -m armt_mini train 'two words'"
    assert said["device"].startswith("CPU")
    assert said["torch"] == torch.__version__
    assert said["python"] == platform.python_version()
    assert said["date"].endswith("+00:00")
    assert said["commit"] == "1234567"


def test_a_model_of_the_cpu_says_so_on_a_machine_with_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU")
    save_checkpoint(tmp_path / "model.safetensors", small())
    about = read_checkpoint(tmp_path / "model.safetensors").about
    assert about["provenance"]["device"].startswith("CPU")
    assert provenance("cuda")["device"] == "a GPU"


@pytest.fixture
def git(tmp_path, monkeypatch) -> Callable[..., None]:
    """`git("add", ".")` in a folder of its own, whatever repository and settings are here."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(tmp_path), *who]
    return lambda *words: subprocess.run([*command, *words], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed here")
def test_the_commit_is_that_of_this_checkout_and_marked_where_files_differ(
    tmp_path, monkeypatch, git
):
    package = tmp_path / "armt_mini"
    package.mkdir()
    (package / "a.py").write_text("1")
    monkeypatch.setattr(checkpoints, "PACKAGE", package)
    commit = checkpoints.commit.__wrapped__
    assert commit() is None
    git("init")
    assert commit() is None  # nothing is committed yet
    git("add", ".")
    git("commit", "-m", "first")
    clean = commit()
    assert clean.isalnum()
    (package / "b.py").write_text("1")  # a new file is a difference too
    assert commit() == f"{clean}-dirty"
    (package / "b.py").unlink()
    assert commit() == clean
    (package / "a.py").write_text("2")
    assert commit() == f"{clean}-dirty"
    monkeypatch.setattr(checkpoints, "PACKAGE", package / "site-packages" / "armt_mini")
    assert commit() is None  # installed inside somebody else's repository
    monkeypatch.setattr(checkpoints, "PACKAGE", package)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None  # no git here


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch, moment):
    file, model = tmp_path / "model.safetensors", small()
    save_checkpoint(file, model)
    before = file.read_bytes()

    def fail(*_):
        raise OSError("pulled the plug")

    with monkeypatch.context() as patch:
        if moment == "write":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(checkpoints.Path, "replace", fail)
        with pytest.raises(OSError, match="pulled the plug"):
            save_checkpoint(file, model, {"more": 1})
    assert file.read_bytes() == before
    save_checkpoint(file, model, {"more": 1})
    assert read_checkpoint(file).about["more"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_an_unknown_kind_of_model_is_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(
        ValueError, match="expected one of armt, rmt, prmt, mamba, layer-alone, got Linear"
    ):
        save_checkpoint(tmp_path / "new" / "model.safetensors", torch.nn.Linear(2, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found no file .*missing\.safetensors"):
        load_model(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_broken_file_is_an_error_that_says_so(tmp_path, length):
    file = tmp_path / "model.safetensors"
    save_checkpoint(file, small())
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match="is broken or not a safetensors file"):
        load_model(file)


def test_somebody_elses_file_is_an_error_that_says_so(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="was not written by armt_mini"):
        load_model(file)


@pytest.mark.parametrize(
    "changes",
    [
        {"system": "transformer"},
        {"config": {"vocab_size": 19, "colour": "red"}},
        {"config": {"vocab_size": 19, "d_model": 7}},
        {"config": {"vocab_size": 19, "d_model": 0}},
    ],
)
def test_a_file_of_another_version_is_an_error_of_one_line(tmp_path, changes):
    file = tmp_path / "model.safetensors"
    save_checkpoint(file, small())
    tensors, about = read_checkpoint(file)
    save_file(tensors, file, {"about": json.dumps(about | changes)})
    with pytest.raises(ValueError, match="holds no model of this version of armt_mini") as error:
        load_model(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("folder", ["armt_mini/checkpoints", "data/checkpoints"])
def test_shipped_models_are_found_in_a_checkout_and_in_an_installed_package(
    tmp_path, monkeypatch, folder
):
    monkeypatch.setattr(checkpoints, "PACKAGE", tmp_path / "armt_mini")
    assert shipped_checkpoints() == {}
    with pytest.raises(ValueError, match=r"name: expected one of \(none\); got 'pocket'"):
        am.from_pretrained("pocket")
    model = small()
    save_checkpoint(tmp_path / folder / "pocket.safetensors", model)
    assert shipped_checkpoints() == {"pocket": tmp_path / folder / "pocket.safetensors"}
    assert_same_weights(am.from_pretrained("pocket"), model)
    with pytest.raises(ValueError, match="name: expected one of pocket; got 'rocket'"):
        am.from_pretrained("rocket")


def test_what_a_file_says_is_json(tmp_path):
    from safetensors import safe_open

    save_checkpoint(tmp_path / "model.safetensors", small(), {"n_pairs": (2, 3)})
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["about"])["n_pairs"] == [2, 3]


def test_a_loaded_model_does_not_change_with_its_file(tmp_path):
    file = tmp_path / "model.safetensors"
    save_checkpoint(file, small())
    loaded = load_model(file)
    with file.open("r+b") as content:  # in place, as `cp` does
        content.seek(-100, os.SEEK_END)
        content.write(bytes(100))
    assert_same_weights(loaded, small())


def test_what_is_said_about_a_model_cannot_belie_it(tmp_path):
    file = tmp_path / "model.safetensors"
    save_checkpoint(file, MODELS["armt"]())
    about = read_checkpoint(file).about
    save_checkpoint(file, small(), about | {"card": "kept"})
    assert load_model(file).config == small().config
    assert read_checkpoint(file).about["card"] == "kept"
    with pytest.raises(ValueError, match=r"^extra_tensors: expected no name in model\.…, got 'mod"):
        save_checkpoint(file, small(), {}, {"model.head": torch.zeros(1)})


def test_a_file_whose_description_is_no_json_is_an_error(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1)}, file, {"about": "a model"})
    with pytest.raises(
        ValueError, match=r"^path: .*model.safetensors was not written by armt_mini"
    ):
        read_checkpoint(file)
