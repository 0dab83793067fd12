"""A graph of ONNX as a plain record: nodes in their order and the constants that they read.

It is built without the package `onnx`. `export.onnx` makes a model of it, `sklearn.converting` a part of skl2onnx's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ML = "ai.onnx.ml"
IR_VERSIONS = {17: 8, 20: 9}
"""The versions of the operators, and of the file format for each: onnxruntime reads them from 1.13 and 1.17 on."""
ML_VERSION = 3
"""The version of the operators of `ML`."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: what it reads and what it gives."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""


class Graph:
    """Nodes that compute in one dtype, under names that are not `taken` by inputs and outputs.

    `opset`, the version of the operators, is the lower one until a node needs the other.

    Examples
    --------
    >>> graph = Graph("float32")
    >>> with graph.within("half"):
    ...     graph.add("Mul", "X", graph.number(0.5))
    'half/Mul'
    >>> graph.nodes[0].inputs
    ('X', '0.5')
    """

    def __init__(self, dtype: DTypeLike, taken: Iterable[str] = ()) -> None:
        self.dtype = np.dtype(dtype)
        self.opset = min(IR_VERSIONS)
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._part = ""
        self._taken = set(taken)
        self._numbers: dict[str, str] = {}

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Let the names of nodes and constants begin with that of a part of the model."""
        before = self._part
        self._part = f"{before}{part}/"
        yield
        self._part = before

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output, which is that of the node too."""
        name = self._free(f"{self._part}{op}")
        self.nodes.append(Node(op, inputs, name, attributes, domain))
        return name

    def array(self, name: str, values: Any, dtype: DTypeLike | None = None) -> str:
        """Add a constant array of the graph's dtype, or another, and return its name."""
        name = self._free(f"{self._part}{name}")
        self.constants[name] = np.array(values, self.dtype if dtype is None else dtype)
        return name

    def number(self, value: float) -> str:
        """Return the name of a constant number of the graph's dtype; equal ones are one."""
        key = repr(float(value))
        if key not in self._numbers:
            self._numbers[key] = self._free(key)
            self.constants[self._numbers[key]] = np.array(value, self.dtype)
        return self._numbers[key]

    def cast(self, values: str) -> str:
        """Add a node that converts to the graph's dtype."""
        return self.add("Cast", values, to=self.code(self.dtype))

    @staticmethod
    def code(dtype: np.dtype[Any]) -> int:
        """Return the number that ONNX has for float32 or float64."""
        return {"float32": 1, "float64": 11}[dtype.name]

    def rename(self, output: str, name: str) -> None:
        """Give the output of the last node another name."""
        last = self.nodes[-1]
        assert last.output == output, "only what nothing has read yet"
        self.nodes[-1] = Node(last.op, last.inputs, name, last.attributes, last.domain)

    def _free(self, name: str) -> str:
        """Return the name, with a number where it is taken."""
        free, n = name, 1
        while free in self._taken:
            n += 1
            free = f"{name}_{n}"
        self._taken.add(free)
        return free
