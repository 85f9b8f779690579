"""The systems that the paper compares ARMT with, on the same block and with the same interface."""
