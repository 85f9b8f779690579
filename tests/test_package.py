"""The package as a whole: what it needs, what it offers, and that these tests check its shapes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import armt_mini as am

# Refuses what is not the standard library's, torch or numpy, once these two are loaded.
IMPORT_ALONE = """
import sys, torch, numpy
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("torch", "numpy", "armt_mini"):
            raise ImportError(f"armt_mini needs {name}")
sys.meta_path.insert(0, Refuse())
import armt_mini as am
config = am.ARMTConfig(vocab_size=5, d_model=4, n_layers=1, n_heads=1, segment_length=3,
                       n_memory_tokens=1, d_memory=2)
print(am.ARMT(config)(torch.zeros(1, 7, dtype=torch.long)).logits.shape, am.__file__)
try:
    import pytest
except ImportError:
    print("refused")
"""


def test_importing_and_running_a_model_needs_torch_and_numpy_only():
    environment = os.environ | {"PYTHONPATH": str(Path(am.__file__).parents[1])}
    command = [sys.executable, "-c", IMPORT_ALONE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.startswith(f"torch.Size([1, 7, 5]) {am.__file__}"), done.stderr
    assert done.stdout.endswith("refused\n")  # the refusal itself works


def test_everything_that_is_offered_is_there():
    assert sorted(am.__all__, key=str.lower) == sorted(set(am.__all__), key=str.lower)
    for name in am.__all__:
        assert getattr(am, name).__doc__ or name == "RULES"


@pytest.mark.skipif(
    bool(os.environ.get("JAXTYPING_DISABLE")), reason="JAXTYPING_DISABLE is set: no shapes checked"
)
def test_these_tests_check_the_shapes_of_the_package():
    jaxtyping = pytest.importorskip("jaxtyping", reason="jaxtyping is not installed here")
    pytest.importorskip("beartype", reason="beartype is not installed here")
    state = am.MemoryState.empty(2, 3, 5)
    with pytest.raises(jaxtyping.TypeCheckError):
        am.write(state, torch.ones(2, 7, 3), torch.ones(2, 11, 5), torch.ones(2, 7))
    with pytest.raises(jaxtyping.TypeCheckError):
        am.read(state, torch.ones(2, 7, 3), eps="small")
