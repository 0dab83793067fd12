"""One layer of a network in C: its arrays, and the lines that compute its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backprop.base.types import RealArray
from backprop.export.c_text import Writer
from backprop.reference.dense import Dense


@dataclass(frozen=True)
class CLayer:
    """A layer whose arrays are called ``weights_1``, ``biases_1`` and so on, after its number from 1."""

    write: Writer
    number: int
    n_in: int
    layer: Dense
    arrays: Mapping[str, RealArray]
    int8: bool
    training: bool

    @property
    def n_out(self) -> int:
        """The number of units."""
        return self.layer.units

    @property
    def activation(self) -> str:
        """The name of the activation."""
        return self.layer.activation

    def named(self, array: str) -> str:
        """Return what an array of the layer is called in C."""
        return f"{self.write.prefix}_{array}_{self.number}"

    @cached_property
    def stored(self) -> dict[str, RealArray | NDArray[np.int8]]:
        """The arrays as they are written: weights of 8 bits have ``scales`` (n_out,), one for each column."""
        if not self.int8:
            return dict(self.arrays)
        quantised, scales = in_8_bits(self.arrays["weights"])
        return {"weights": quantised, "scales": scales, **{k: v for k, v in self.arrays.items() if k != "weights"}}

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        return sum(array.nbytes for array in self.stored.values())

    def changes(self, array: str) -> bool:
        """Return whether training changes an array."""
        return self.training and (self.layer.trains_biases if array == "biases" else self.layer.trainable)

    def definitions(self) -> Iterator[str]:
        """Yield the definitions of the arrays."""
        for name, values in self.stored.items():
            yield self.write.array(f"{name}_{self.number}", values, constant=not self.changes(name))

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that `forward` calls."""
        return (self._product[0], *(() if self.activation == "identity" else (self.activation,)))

    @property
    def _product(self) -> tuple[str, tuple[str, ...]]:
        """The function that computes the scores, and the arrays that it takes."""
        if self.int8:
            return "int8_product", ("weights", "scales")
        if self.layer.bias:
            return "product", ("weights", "biases")
        return "product_without_biases", ("weights",)

    def forward(self, inputs: str, outputs: str, scores: str | None = None) -> list[str]:
        """Return the lines that compute the outputs, and keep the scores if asked for."""
        function, arrays = self._product
        given = ", ".join(map(self.named, arrays))
        lines = [f"    {self.write.shared}_{function}({self.n_in}, {self.n_out}, {given}, {inputs}, {outputs});"]
        if self.int8 and self.layer.bias:
            lines += self.each(f"{outputs}[o] = {outputs}[o] + {self.named('biases')}[o];")
        if scores is not None:
            lines += self.each(f"{scores}[o] = {outputs}[o];")
        if self.activation == "softmax":
            lines.append(f"    {self.write.shared}_softmax({self.n_out}, {outputs});")
        elif self.activation != "identity":
            lines += self.each(f"{outputs}[o] = {self.call(self.activation, f'{outputs}[o]')};")
        return lines

    def each(self, statement: str) -> list[str]:
        """Return the lines that do this for each unit o."""
        return [f"    for (o = 0; o < {self.n_out}; o++)", f"        {statement}"]

    def call(self, function: str, argument: str) -> str:
        """Return the call of an activation or its derivative, elementwise ones, with what else they take."""
        more = ""
        if self.layer.function.slopes:
            more = f", {self.named('slopes')}[o]"
        elif self.layer.alpha is not None:
            more = f", {self.write.literal(self.layer.alpha)}"
        return f"{self.write.shared}_{function}({argument}{more})"


def in_8_bits(weights: RealArray) -> tuple[NDArray[np.int8], RealArray]:
    """Return whole numbers from -127 to 127 and a scale for each column, whose products are nearest the weights.

    Examples
    --------
    >>> whole, scales = in_8_bits(np.array([[1.0, 0.0], [-2.0, 0.0]]))
    >>> whole.tolist(), (scales * 127).tolist()
    ([[64, 0], [-127, 0]], [2.0, 0.0])
    """
    scales = np.abs(weights).max(axis=0) / weights.dtype.type(127)
    safe = np.where(scales < np.finfo(weights.dtype).tiny, weights.dtype.type(1), scales)
    whole = np.clip(np.rint(weights / safe), -127, 127).astype(np.int8)
    return whole, np.where(safe == scales, scales, weights.dtype.type(0))
