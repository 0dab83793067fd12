"""A network as C99: one header that computes what the network computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base import checks as check
from backprop.base.atomic import path_name, write_atomically
from backprop.base.types import RealArray
from backprop.base.version import version
from backprop.export import c_training
from backprop.export.c_layers import CLayer
from backprop.export.c_text import Writer, comment, is_identifier

if TYPE_CHECKING:
    import os

    from backprop.model.model import Model

_WEIGHTS = ("exact", "int8")


def to_c(model: Model, path: str | os.PathLike[str], name: Any, weights: Any, training: Any) -> None:
    """Write a header; see `Network.to_c`."""
    write_atomically(path, header(model, checked_name(path, name), weights, training).encode("ascii"))


def header(
    model: Model,
    name: str,
    weights: Any = "exact",
    training: Any = False,
    more: Callable[[str], str] | None = None,
    more_about: tuple[str, ...] = (),
) -> str:
    """Return the text of a header, whose names begin with `name`.

    more: what else is defined, as a function of the type of numbers; more_about: what the comment says of it.
    """
    weights, training = check.choice("weights", weights, _WEIGHTS), check.boolean("training", training)
    return CFile(model, name, weights, training, more, more_about).text


def checked_name(path: str | os.PathLike[str], name: Any) -> str:
    """Return with what the names of a file begin: `name`, or what the name of the file makes of it.

    Examples
    --------
    >>> checked_name("models/my-net.v2.h", None)
    'my_net_v2'
    """
    if name is None:
        stem = re.sub(r"[^A-Za-z0-9]+", "_", Path(path_name(path)).stem).strip("_")
        if not is_identifier(stem):
            raise ValueError(f"path: needs a name that C can use, or name=... with one; got {path_name(path)!r}")
        return stem
    if not isinstance(name, str):
        raise TypeError(f"name: needs text or None, got {check.shown(name)}")
    if not is_identifier(name):
        raise ValueError(f"name: needs letters, digits and _, a letter first, and no keyword of C or C++; got {name!r}")
    return name


@dataclass(frozen=True)
class CFile:
    """The header of a network, part by part."""

    model: Model
    name: str
    weights: str
    training: bool
    more: Callable[[str], str] | None = None
    more_about: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite(self.model.parameters).all():
            raise ValueError("to_c: needs finite parameters, got NaN or infinity; `fit` restores the last finite ones")
        if self.training:
            c_training.check_trainable(self.model, self.weights)

    @cached_property
    def write(self) -> Writer:
        """Prefix and type."""
        return Writer(self.name, self.model.dtype)

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
    def text(self) -> str:
        """The whole file."""
        guard = f"{self.name.upper()}_H"
        macro, wide = self.name.upper(), self.model.dtype.itemsize == 8
        names = [name for layer in self.layers for name in layer.functions]
        if self.training:
            names += c_training.functions(self.model, self.layers)
        parts = [
            comment("\n".join(self._about())),
            f"#ifndef {guard}\n#define {guard}",
            "#include <float.h>\n#include <stdint.h>\n#include <string.h>",
            f"#define {macro}_INPUTS {self.model.n_inputs}\n#define {macro}_OUTPUTS {self.model.n_outputs}",
            *([f"typedef char {self.name}_needs_doubles_of_64_bits[sizeof(double) == 8 ? 1 : -1];"] if wide else []),
            _NO_CONTRACTION,
            *(definition for layer in self.layers for definition in layer.definitions()),
            self.write.functions(names),
            self._predict(),
        ]
        if self.training:
            parts.append(c_training.train_one(self.write, self.model, self.layers))
        if self.more is not None:
            parts.append(self.more(self.write.real))
        parts += [_CONTRACTION_AGAIN, "#endif"]
        return "\n\n".join(parts) + "\n"

    @property
    def buffers(self) -> tuple[int, int]:
        """How many numbers the two buffers of `predict` hold: layers write to them in turn."""
        units = [layer.n_out for layer in self.layers]
        return max(units[0::2]), max(units[1::2], default=0)

    def _about(self) -> Iterator[str]:
        """Yield the lines of the comment at the top."""
        model, name, real = self.model, self.name, self.write.real
        sizes = " -> ".join(map(str, (model.n_inputs, *(layer.units for layer in model.layers))))
        yield f"A network {sizes} ({', '.join(layer.activation for layer in model.layers)}), {model.dtype.name}"
        yield f"Written by backprop {version()}. C99 and C++11; nothing is allocated."
        yield ""
        yield f"    void {name}_predict(const {real} *inputs, {real} *outputs);"
        if self.training:
            yield f"    void {name}_train_one(const {real} *inputs, const {real} *targets, {real} learning_rate);"
        yield from self.more_about
        yield ""
        yield f"inputs: {model.n_inputs} numbers{self._named_inputs()}, outputs: {model.n_outputs}; they may overlap."
        if self.training:
            yield f"train_one takes one step of gradient descent on the {c_training.loss_of(model)} of one row. The"
            yield "weights are variables: include this file in one source file only."
        yield ""
        constants = sum(layer.n_bytes for layer in self.layers)
        stack = sum(self.buffers) * model.dtype.itemsize
        kind = "RAM" if self.training else "flash (static const)"
        yield f"Weights: {constants:,} bytes of {kind}. Stack of predict: {stack:,} bytes and a few. Heap: 0 bytes."
        yield ""
        yield from self._promise()

    def _named_inputs(self) -> str:
        names = self.model.feature_names
        return f" ({', '.join(map(str, names))})" if names is not None else ""

    def _promise(self) -> Iterator[str]:
        of = "the network"
        if self.weights == "int8":
            of = "those weights"
            yield "The weights are rounded to 8 bits, with a scale for each column: outputs differ a little."
        yield f"The outputs of {of} have the bits of the library. Multiply-adds are fast where the processor"
        yield "fuses them (x86 with -mfma, ARMv8; a Cortex-M4 in float32). Elsewhere they are put together from other"
        yield f"operations, which takes several times as long. With {self.name.upper()}_FAST defined, they are rounded"
        yield "twice there, and outputs differ in the last digits. So they do with -ffast-math, where floats are"
        yield "computed in other types (x87), and where a double has less than 64 bits (AVR). Subnormal numbers count"
        yield "as zero in the library; here exp and sigmoid give zero for them, all else is left to the processor."
        yield "Inputs that are no numbers are not refused: NaN gives NaN."

    def _predict(self) -> str:
        first, second = self.buffers
        lines = [f"    {self.write.real} first[{first}]{f', second[{second}]' if second else ''};", "    int o;"]
        read, written = "inputs", ("first", "second")
        for k, layer in enumerate(self.layers):
            lines += layer.forward(read, written[k % 2])
            read = written[k % 2]
        lines += [f"    for (o = 0; o < {self.model.n_outputs}; o++)", f"        outputs[o] = {read}[o];"]
        real = self.write.real
        head = f"static inline void {self.name}_predict(const {real} *inputs, {real} *outputs)"
        return "\n".join([head, "{", *lines, "}"])


def _without_subnormals(values: RealArray) -> RealArray:
    """Return the values as the core sees them."""
    return np.where(np.abs(values) < np.finfo(values.dtype).tiny, values.dtype.type(0), values)


# Compilers that are not asked for strict ISO C would fuse what the library rounds twice.
_NO_CONTRACTION = """\
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize ("fp-contract=off")
#endif"""

_CONTRACTION_AGAIN = """\
#if defined(__clang__)
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif"""
