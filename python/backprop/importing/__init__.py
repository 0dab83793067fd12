"""Networks of other libraries: their weights in a `Network` of this one.

Nothing is imported from these libraries, but by `from_onnx` and for modules of PyTorch that only `torch.fx` can follow.
What is read is what their objects offer to anyone: names of classes, arrays, settings. The outputs are those of the
original, up to rounding; what a dense network cannot represent is an error.
"""

from backprop.importing.keras import from_keras
from backprop.importing.onnx import from_onnx
from backprop.importing.sklearn import from_sklearn
from backprop.importing.torch import from_torch

__all__ = ["from_keras", "from_onnx", "from_sklearn", "from_torch"]
