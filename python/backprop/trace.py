"""Every number of a training step."""

from backprop.explain.trace import Explanation, Factor, LayerTrace, Path, Trace, trace

__all__ = ["Explanation", "Factor", "LayerTrace", "Path", "Trace", "trace"]
