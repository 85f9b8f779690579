"""Figures that compute in the reader's browser: one class and one JavaScript module each."""

from armt_mini.widgets.ask_model import AskModel
from armt_mini.widgets.capacity_lab import CapacityLab
from armt_mini.widgets.estimator import Estimator
from armt_mini.widgets.feature_map_lab import FeatureMapLab
from armt_mini.widgets.player import Player
from armt_mini.widgets.rewrite_lab import RewriteLab
from armt_mini.widgets.segment_walk import SegmentWalk

__all__ = [
    "AskModel",
    "CapacityLab",
    "Estimator",
    "FeatureMapLab",
    "Player",
    "RewriteLab",
    "SegmentWalk",
]
