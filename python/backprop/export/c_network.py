"""One network in C: its arrays, its functions, what computes its outputs and what trains it on a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from backprop.base.types import RealArray
from backprop.export import c_training
from backprop.export.c_layers import CLayer
from backprop.export.c_text import Entry, Writer

if TYPE_CHECKING:
    from backprop.model.model import Model


@dataclass(frozen=True)
class CNetwork:
    """A network whose names in C begin with `prefix`, in a file whose functions begin with `file`."""

    prefix: str
    model: Model
    file: str
    weights: str
    training: bool

    def __post_init__(self) -> None:
        if not np.isfinite(self.model.parameters).all():
            raise ValueError(
                "to_c: needs parameters that are finite, got NaN or infinity; `fit` restores the last finite ones"
            )
        if self.training:
            c_training.check_trainable(self.model, self.weights)

    @cached_property
    def write(self) -> Writer:
        """Prefix and type."""
        return Writer(self.prefix, self.model.dtype, self.file)

    @cached_property
    def layers(self) -> tuple[CLayer, ...]:
        """The layers, from input to output."""
        n_inputs, found = self.model.n_inputs, []
        for k, layer in enumerate(self.model.layers):
            arrays = {
                array.name: _without_subnormals(array.of(self.model.parameters))
                for array in self.model._arrays_of_layers[k]
            }
            found.append(CLayer(self.write, k + 1, n_inputs, layer, arrays, self.weights == "int8", self.training))
            n_inputs = layer.units
        return tuple(found)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What to call: `predict`, and `train_one` where it is asked for."""
        training = [c_training.train_one(self.write, self.model, self.layers)] if self.training else []
        return (self._predict(), *training)

    @property
    def title(self) -> str:
        """What it is, in a line."""
        model = self.model
        sizes = " -> ".join(map(str, (model.n_inputs, *(layer.units for layer in model.layers))))
        return f"A network {sizes} ({', '.join(layer.activation for layer in model.layers)}), {model.dtype.name}"

    @property
    def declarations(self) -> Iterator[str]:
        """What to call, for the comment at the top."""
        for entry in self.entries:
            yield f"    void {self.prefix}_{entry.name}({', '.join(entry.arguments)});"

    @property
    def n_bytes(self) -> int:
        """The size of its arrays."""
        return sum(layer.n_bytes for layer in self.layers)

    @property
    def stack(self) -> int:
        """The size of the buffers of `predict`."""
        return sum(self._buffers) * self.model.dtype.itemsize

    def definitions(self) -> Iterator[str]:
        """Yield the definitions of its sizes and arrays."""
        macro = self.prefix.upper()
        yield f"#define {macro}_INPUTS {self.model.n_inputs}\n#define {macro}_OUTPUTS {self.model.n_outputs}"
        for layer in self.layers:
            yield from layer.definitions()

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that its entries call."""
        training = c_training.functions(self.model, self.layers) if self.training else ()
        return (*(name for layer in self.layers for name in layer.functions), *training)

    @property
    def _buffers(self) -> tuple[int, int]:
        """How many numbers the two buffers of `predict` hold: layers write to them in turn."""
        units = [layer.n_out for layer in self.layers]
        return max(units[0::2]), max(units[1::2], default=0)

    def _predict(self) -> Entry:
        real, (first, second) = self.write.real, self._buffers
        lines: list[str] = []
        read, written = "inputs", ("first", "second")
        for k, layer in enumerate(self.layers):
            lines += layer.forward(read, written[k % 2])
            read = written[k % 2]
        lines += [f"    for (o = 0; o < {self.model.n_outputs}; o++)", f"        outputs[o] = {read}[o];"]
        declared = f"{real} first[{first}]{f', second[{second}]' if second else ''};"
        return Entry("predict", (f"const {real} *inputs", f"{real} *outputs"), declared, tuple(lines))


def _without_subnormals(values: RealArray) -> RealArray:
    """Return the values as the core sees them."""
    return np.where(np.abs(values) < np.finfo(values.dtype).tiny, values.dtype.type(0), values)
