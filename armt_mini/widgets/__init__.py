"""Figures that compute in the reader's browser: one class and one JavaScript module each."""

from armt_mini.widgets.capacity_lab import CapacityLab

__all__ = ["CapacityLab"]
