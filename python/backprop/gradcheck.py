"""Gradients checked against complex steps."""

from backprop.explain.gradcheck import ArrayCheck, GradientCheck, check_gradients

__all__ = ["ArrayCheck", "GradientCheck", "check_gradients"]
