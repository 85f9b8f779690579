"""ARMT from an empty matrix: linear attention, delta rule, γ correction, segment recurrence.

Read the modules in this order: feature_maps, memory_state, linear_attention, delta_rule,
gamma_correction, update_rules, configuration, transformer_block, associative_layer,
diagonal_schedule, gpu, captured_schedule, segment_recurrence, armt.
Importing the package needs torch and numpy only.
"""

from armt_mini.armt import ARMT
from armt_mini.baselines.prmt import PRMT
from armt_mini.baselines.rmt import RMT
from armt_mini.configuration import ARMTConfig, RecurrentConfig
from armt_mini.device import pick_device
from armt_mini.feature_maps import dpfp, elu_plus_one, feature_map, relu, unit_length
from armt_mini.gamma_correction import gamma
from armt_mini.linear_attention import read
from armt_mini.memory_state import MemoryState
from armt_mini.segment_recurrence import Output
from armt_mini.training.checkpoints import from_pretrained
from armt_mini.training.released_weights import load_released_weights
from armt_mini.training.streaming import Stream
from armt_mini.update_rules import RULES, write

__all__ = [
    "ARMT",
    "PRMT",
    "RMT",
    "RULES",
    "ARMTConfig",
    "MemoryState",
    "Output",
    "RecurrentConfig",
    "Stream",
    "dpfp",
    "elu_plus_one",
    "feature_map",
    "from_pretrained",
    "gamma",
    "load_released_weights",
    "pick_device",
    "read",
    "relu",
    "unit_length",
    "write",
]
__version__ = "0.1.0"
