"""What pickles of trained networks call by this name."""

from backprop.base.state import TrainingState

__all__ = ["TrainingState"]
