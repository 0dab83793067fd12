"""Gradient descent on a function of a few variables."""

from backprop.explain.descent import Descent, central_difference, descend

__all__ = ["Descent", "central_difference", "descend"]
