"""Which learning rates train a network."""

from backprop.explain.range_test import RangeTest, find_learning_rate

__all__ = ["RangeTest", "find_learning_rate"]
