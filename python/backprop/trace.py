"""Every number of a training step."""

from backprop.explain.chains import Explanation, Factor, Path
from backprop.explain.trace import Trace
from backprop.explain.tracing import trace
from backprop.model.records import LayerTrace

__all__ = ["Explanation", "Factor", "LayerTrace", "Path", "Trace", "trace"]
