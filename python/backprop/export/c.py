"""Networks as C99: one header that computes what they compute."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backprop.base import checks as check
from backprop.base.atomic import path_name, write_atomically
from backprop.base.version import version
from backprop.export import c_training
from backprop.export.c_network import CNetwork
from backprop.export.c_text import LINE, comment, is_identifier

if TYPE_CHECKING:
    import os

    from backprop.model.model import Model

_WEIGHTS = ("exact", "int8")


def to_c(model: Model, path: str | os.PathLike[str] | None, name: Any, weights: Any, training: Any) -> str | None:
    """Write a header, or return it; see `Network.to_c`."""
    name = checked_name(path, name)
    return written(path, header(name, {name: model}, weights, training))


def written(path: str | os.PathLike[str] | None, text: str) -> str | None:
    """Write a text to a file, or return it where there is none."""
    if path is None:
        return text
    write_atomically(path, text.encode("ascii"))
    return None


@dataclass(frozen=True)
class Around:
    """What a header has beside its networks: lines for the comment at the top, and definitions below them."""

    about: tuple[str, ...] = ()
    text: str = ""


def header(name: str, models: Mapping[str, Model], weights: Any, training: Any, around: Around = Around()) -> str:
    """Return the text of a header, whose names begin with `name`; `models` are by what the names of each begin with."""
    weights, training = check.choice("weights", weights, _WEIGHTS), check.boolean("training", training)
    networks = tuple(CNetwork(prefix, model, name, weights, training) for prefix, model in models.items())
    return CFile(name, networks, around).text


def checked_name(path: str | os.PathLike[str] | None, name: Any) -> str:
    """Return with what the names of a file begin: `name`, or what the name of the file makes of it, or ``"model"``.

    Examples
    --------
    >>> checked_name("models/my-net.v2.h", None)
    'my_net_v2'
    """
    if name is None:
        if path is None:
            return "model"
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
    """The header of one network, or of several that take the same inputs in the same type."""

    name: str
    networks: tuple[CNetwork, ...]
    around: Around

    @cached_property
    def text(self) -> str:
        """The whole file."""
        macro, wide = self.name.upper(), self.networks[0].model.dtype.itemsize == 8
        parts = [
            comment("\n".join(self._about())),
            f"#ifndef {macro}_H\n#define {macro}_H",
            "#include <float.h>\n#include <stdint.h>\n#include <string.h>",
            *([f"typedef char {self.name}_needs_doubles_of_64_bits[sizeof(double) == 8 ? 1 : -1];"] if wide else []),
            _FUSED.replace("BP_", f"{macro}_"),
            _NO_CONTRACTION,
            *(part for network in self.networks for part in network.definitions()),
            *self._functions(),
            *([self.around.text] if self.around.text else []),
            _CONTRACTION_AGAIN,
            "#endif",
        ]
        return "\n\n".join(parts) + "\n"

    def _functions(self) -> Iterator[str]:
        """Yield the functions, which all networks share, the fused ones, and the entries of each network."""
        names = [name for network in self.networks for name in network.functions]
        entries = [(network.write, entry) for network in self.networks for entry in network.entries]
        write = self.networks[0].write
        yield write.functions(names)
        fused = [write.functions(names, fused=True), *(entry.text(own, fused=True) for own, entry in entries)]
        yield "\n\n".join([f"#if defined({write.macro}_FUSED)", *fused, "#endif"])
        for own, entry in entries:
            yield entry.text(own, fused=False)

    def _about(self) -> Iterator[str]:
        """Yield the lines of the comment at the top."""
        networks, first = self.networks, self.networks[0]
        for network in networks:
            yield network.title
        yield f"Written by backprop {version()}. C99 and C++11; nothing is allocated."
        yield ""
        for network in networks:
            yield from network.declarations
        yield from self.around.about
        yield ""
        n_outputs = " and ".join(str(network.model.n_outputs) for network in networks)
        yield f"inputs: {first.model.n_inputs} numbers{self._named_inputs()}, outputs: {n_outputs}; they may overlap."
        if first.training:
            losses = " and ".join(dict.fromkeys(c_training.loss_of(network.model) for network in networks))
            yield f"train_one takes one step of gradient descent on the {losses} of one row. The"
            yield "weights are variables: include this file in one source file only."
        yield ""
        constants, stack = sum(each.n_bytes for each in networks), max(each.stack for each in networks)
        kind = "RAM" if first.training else "flash (static const)"
        yield f"Weights: {constants:,} bytes of {kind}. Stack of predict: {stack:,} bytes and a few. Heap: 0 bytes."
        yield ""
        yield from self._promise()

    def _named_inputs(self) -> str:
        names = self.networks[0].model.feature_names
        return f" ({', '.join(map(str, names))})" if names is not None else ""

    def _promise(self) -> Iterator[str]:
        of = "the network" if len(self.networks) == 1 else "the networks"
        if self.networks[0].weights == "int8":
            of = "those weights"
            yield "The weights are rounded to 8 bits, with a scale for each column: outputs differ a little."
        yield from textwrap.wrap(_PROMISE.format(of=of, macro=self.name.upper()), LINE - 4)


_PROMISE = """\
The outputs of {of} have the bits of the library. Multiply-adds are fast where the compiler may fuse them (x86 with
-mfma, ARMv8; a Cortex-M4 in float32), and where GCC or Clang can ask an x86 of 64 bits at run time: the code is there
twice then. Elsewhere, and on an older processor, they are put together from other operations, which takes several times
as long. With {macro}_PLAIN defined no processor is asked. With {macro}_FAST defined, what is not fused is rounded
twice, and outputs differ in the last digits. So they do with -ffast-math, where floats are computed in other types
(x87), and where a double has less than 64 bits (AVR). Subnormal numbers count as zero in the library; here exp and
sigmoid give zero for them, all else is left to the processor. Inputs that are no numbers are not refused: NaN gives
NaN.
"""

# Where the target may lack fused multiply-adds, but the compiler can make code for a processor that has them. GCC for
# Windows cannot: its stack is not aligned for vectors of AVX.
_FUSED = """\
#if defined(__x86_64__) && !defined(__FMA__) && __STDC_HOSTED__
#if !defined(BP_FMA) && !defined(BP_FAST) && !defined(BP_PLAIN)
#if defined(__clang__) ? __clang_major__ >= 10 : defined(__GNUC__) && __GNUC__ >= 6 && !defined(_WIN32)
#define BP_FUSED static inline __attribute__((target("avx2,fma")))
#endif
#endif
#endif"""

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
