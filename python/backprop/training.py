"""What training raises."""

from backprop.learn.training import DivergedError

__all__ = ["DivergedError"]
