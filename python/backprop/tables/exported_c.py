"""A model of a table as C: its networks, and what makes inputs of a row and labels or numbers of the outputs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.export.c import Around, checked_name, header, written
from backprop.export.c_text import LINE, Writer
from backprop.tables.c_columns import CColumn, members, nothing
from backprop.tables.encoders import CategoryInput, DateInput
from backprop.tables.targets import Labels, Target

if TYPE_CHECKING:
    import os

    from backprop.network import Network
    from backprop.tables.preprocessing import Preprocessing


def to_c(
    path: str | os.PathLike[str] | None,
    fitted: Preprocessing,
    networks: Mapping[str, Network],
    threshold: float | None,
    name: Any,
    weights: Any,
    training: Any,
) -> str | None:
    """Write a header, or return it; see `TableModel.to_c`."""
    name = checked_name(path, name)
    prefixes = dict(zip(networks, _prefixes(name, list(networks)), strict=True))
    real = "float" if next(iter(networks.values())).dtype.itemsize == 4 else "double"
    table = TableC(name, fitted, prefixes, threshold, real)
    models = {prefixes[target]: network for target, network in networks.items()}
    return written(path, header(name, models, weights, training, Around(tuple(table.about()), table.text)))


def _prefixes(name: str, targets: list[str]) -> tuple[str, ...]:
    """Return with what the names of each target begin: the name of the file, of several targets their own behind it."""
    if len(targets) == 1:
        return (name,)
    words = members(targets, "target")
    if any(one != other and one.startswith(f"{other}_") for one in words for other in words):
        words = tuple(f"target_{number}" for number in range(1, len(words) + 1))
    return tuple(f"{name}_{word}" for word in words)


@dataclass(frozen=True)
class TableC:
    """What stands around the networks, part by part; `real` is the type of their numbers."""

    name: str
    fitted: Preprocessing
    prefixes: Mapping[str, str]
    threshold: float | None
    real: str

    @cached_property
    def write(self) -> Writer:
        """Rows and their encoding are doubles, as in the library."""
        return Writer(self.name, np.dtype("float64"))

    @cached_property
    def columns(self) -> tuple[CColumn, ...]:
        """The columns, in the order of their inputs."""
        columns = {column.name: column for column in self.fitted.columns}
        inputs, found, first = self.fitted.inputs, [], 0
        for how, member in zip(inputs, members([each.name for each in inputs], "column"), strict=True):
            found.append(CColumn(self.write, columns[how.name], how, member, first))
            first += len(how.inputs)
        return tuple(found)

    def about(self) -> Iterator[str]:
        """Yield lines for the comment at the top."""
        for target in self.fitted.targets:
            yield f"    {_result(target)} {self.prefixes[target.name]}_answer(const {self.name}_row *row);"
        yield ""
        said = _ABOUT
        if any(isinstance(column.how, DateInput) for column in self.columns):
            said += _ABOUT_DATES.replace("NAME", self.name)
        yield from textwrap.wrap(said, LINE - 4)

    @property
    def text(self) -> str:
        """The definitions."""
        columns = self.columns
        names = [name for column in columns for name in column.functions]
        return "\n\n".join(
            [
                *([_DOUBLES.replace("bp_", f"{self.name}_")] if "date" in names else []),
                "\n".join(["typedef struct {", *(each.declaration for each in columns), f"}} {self.name}_row;"]),
                *(part for column in columns for part in column.definitions()),
                *([nothing(self.write)] if "find" in names else []),
                self.write.functions(names),
                self._encode(),
                *(part for target in self.fitted.targets for part in self._answer(target)),
            ]
        )

    def _encode(self) -> str:
        lines = [f"    memset(inputs, 0, {self.fitted.n_inputs} * sizeof *inputs);"]
        if any(isinstance(column.how, CategoryInput) for column in self.columns):
            lines.insert(0, "    int place;")
        lines += [line for column in self.columns for line in column.lines(self.real)]
        head = f"static inline void {self.name}_encode(const {self.name}_row *row, {self.real} *inputs)"
        return "\n".join([head, "{", *lines, "}"])

    def _answer(self, target: Target) -> Iterator[str]:
        """Yield the labels of a target, and the function that predicts one of them or a number."""
        prefix, n = self.prefixes[target.name], target.n_outputs
        lines = [
            f"static inline {_result(target)} {prefix}_answer(const {self.name}_row *row)",
            "{",
            f"    {self.real} inputs[{self.fitted.n_inputs}], outputs[{n}];",
        ]
        calls = [f"    {self.name}_encode(row, inputs);", f"    {prefix}_predict(inputs, outputs);"]
        if isinstance(target, Labels):
            yield Writer(prefix, self.write.dtype).texts("labels", target.labels)
            if self.threshold is not None and n == 2:
                yes, least = target.positive, self.write.literal(self.threshold)
                calls.append(f"    return outputs[{yes}] >= ({self.real}){least} ? {yes} : {1 - yes};")
            else:
                lines.append("    int best = 0, o;")
                calls += [f"    for (o = 1; o < {n}; o++)", "        if (outputs[o] > outputs[best])"]
                calls += ["            best = o;", "    return best;"]
        else:
            scale, center = self.write.literal(target.scale), self.write.literal(target.center)
            calls.append(f"    return (double)outputs[0] * {scale} + {center};")
        yield "\n".join([*lines, *calls, "}"])


def _result(target: Target) -> str:
    return "int" if isinstance(target, Labels) else "double"


_ABOUT = """\
answer is what the model predicts for a row of a table: a number, or the place of a label in labels. encode makes inputs
of a row. Numbers that are NAN or infinite are missing, and so are words that are NULL, empty or such as NA. Words are
compared without blanks around them. Numbers far outside those of training are not refused.
"""
_ABOUT_DATES = """\
A date is NAME_date("2024-05-31 13:30"), which is NAN where that is no date, or NAME_seconds(2024, 5, 31, 13, 30, 0).
"""
_DOUBLES = "typedef char bp_dates_need_doubles_of_64_bits[sizeof(double) == 8 ? 1 : -1];"
