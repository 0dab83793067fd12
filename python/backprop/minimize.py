"""Training with the minimizers of SciPy."""

from backprop.learn.minimize import METHODS, minimize

__all__ = ["METHODS", "minimize"]
