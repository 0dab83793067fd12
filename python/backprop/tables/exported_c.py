"""A model of a table as C: its network, and what makes inputs of a row and a label or a number of the outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base.atomic import write_atomically
from backprop.export.c import Around, checked_name, header
from backprop.export.c_text import Writer, comment, is_identifier
from backprop.tables.encoders import SOFT, BooleanInput, CategoryInput, DateInput, Input, NumberInput
from backprop.tables.targets import Labels, Target

if TYPE_CHECKING:
    import os

    from backprop.network import Network
    from backprop.tables.preprocessing import Preprocessing


def to_c(
    path: str | os.PathLike[str],
    fitted: Preprocessing,
    networks: Mapping[str, Network],
    threshold: float | None,
    name: Any,
    weights: Any,
    training: Any,
) -> None:
    """Write a header; see `TableModel.to_c`."""
    name = checked_name(path, name)
    if len(fitted.targets) > 1:
        raise ValueError(
            f"to_c: needs a model of one target, got {len(fitted.targets)}; "
            "model.networks[target].to_c(...) writes the network of each"
        )
    for column in fitted.inputs:
        if isinstance(column, DateInput):
            raise ValueError(
                f"to_c: column {column.name!r} holds dates, which need a calendar; train without it (ignore=...), or "
                "with numbers made of it"
            )
    table = TableC(name, fitted.inputs, fitted.targets[0], threshold)
    network = networks[fitted.targets[0].name]
    around = Around(table.about, table.text("float" if network.dtype.itemsize == 4 else "double"))
    text = header(name, {name: network}, weights, training, around)
    write_atomically(path, text.encode("ascii"))


@dataclass(frozen=True)
class TableC:
    """What stands around the network, part by part."""

    name: str
    columns: tuple[Input, ...]
    target: Target
    threshold: float | None

    @cached_property
    def write(self) -> Writer:
        """Rows and their encoding are doubles, as in the library."""
        return Writer(self.name, np.dtype("float64"))

    @cached_property
    def members(self) -> tuple[str, ...]:
        """What the columns are called in the struct of a row."""
        found: list[str] = []
        for number, column in enumerate(self.columns, 1):
            word = re.sub(r"[^A-Za-z0-9]+", "_", column.name).strip("_").lower()
            word = word if is_identifier(word) else f"column_{number}"
            found.append(word if word not in found else f"{word}_{number}")
        return tuple(found)

    @property
    def about(self) -> tuple[str, ...]:
        """Lines for the comment at the top."""
        name, result = self.name, "int" if isinstance(self.target, Labels) else "double"
        what = "the place in LABELS" if isinstance(self.target, Labels) else "the number"
        return (
            f"    {result} {name}_answer(const {name}_row *row);",
            "",
            f"answer is {what} that the model predicts for a row of a table; encode makes inputs of it. Missing",
            'numbers are NAN, missing words NULL or "". Words are compared as they are, without blanks around them.',
        )

    def text(self, real: str) -> str:
        """Return the definitions; `real` is the type of the network's numbers."""
        return "\n\n".join([self._row(), *self._words(), *self._labels(), self._encode(real), self._answer(real)])

    def _row(self) -> str:
        lines = []
        for member, column in zip(self.members, self.columns, strict=True):
            kind = "const char *" if isinstance(column, CategoryInput) else "double "
            said = {"boolean": "1 or 0", "category": "one of the words below"}.get(column.kind, "a number")
            about = comment(f"{column.name}: {said}").replace("\n */", " */")
            lines.append(f"    {kind}{member}; {about}")
        return "\n".join(["typedef struct {", *lines, f"}} {self.name}_row;"])

    def _words(self) -> Iterator[str]:
        for member, column in zip(self.members, self.columns, strict=True):
            if isinstance(column, CategoryInput):
                yield self._texts(f"{member}_words", column.words)
                if column.effects:
                    yield self.write.array(f"{member}_effects", np.array([*column.effects, 0.0]))

    def _texts(self, name: str, texts: tuple[str, ...]) -> str:
        body = "\n".join(f"    {_quoted(text)}," for text in texts)
        return f"static const char *const {self.name}_{name}[{len(texts)}] = {{\n{body}\n}};"

    def _labels(self) -> Iterator[str]:
        if isinstance(self.target, Labels):
            yield self._texts("labels", self.target.labels)
        if any(isinstance(column, CategoryInput) for column in self.columns):
            yield _FIND.replace("bp_", f"{self.name}_")
        if any(isinstance(column, NumberInput) and column.bounded for column in self.columns):
            yield self.write.text(_SOFT)

    def _encode(self, real: str) -> str:
        lines, place = [], 0
        for member, column in zip(self.members, self.columns, strict=True):
            lines += self._column(f"row->{member}", member, column, place, real)
            place += len(column.inputs)
        if any(isinstance(column, CategoryInput) for column in self.columns):
            lines = ["    int place;", f"    memset(inputs, 0, {place} * sizeof *inputs);", *lines]
        head = f"static inline void {self.name}_encode(const {self.name}_row *row, {real} *inputs)"
        return "\n".join([head, "{", *lines, "}"])

    def _column(self, value: str, member: str, column: Input, at: int, real: str) -> list[str]:
        """Return the lines that make the inputs from `at` on."""
        name, number = self.name, self.write.literal
        if isinstance(column, NumberInput):
            there = f"({value} != {value} ? {number(column.fill)} : {value})"
            z = f"({there} - {number(column.center)}) / {number(column.scale)}"
            lines = [f"    inputs[{at}] = ({real})({f'{name}_soft({z})' if column.bounded else z});"]
            if column.tells_missing:
                lines.append(f"    inputs[{at + 1}] = ({real})({value} != {value});")
            return lines
        if isinstance(column, BooleanInput):
            return [f"    inputs[{at}] = ({real})({value} != {value} ? 0.0 : 2.0 * {value} - 1.0);"]
        assert isinstance(column, CategoryInput)
        return self._category(value, member, column, at, real)

    def _category(self, value: str, member: str, column: CategoryInput, at: int, real: str) -> list[str]:
        n, n_words = len(column.categories), len(column.words)
        rare = n if column.rare else -1
        found = f"{self.name}_find({value}, {self.name}_{member}_words, {n_words})"
        missing = f"({value} == NULL || !*{value})"
        lines = [f"    place = {missing} ? -1 : {found};"]
        if column.rare:
            lines.append(f"    place = {missing} ? -1 : place < 0 || place > {rare} ? {rare} : place;")
        if column.effects:
            last = at + len(column.inputs) - 1
            lines.append(f"    if (place >= 0)\n        inputs[{last}] = ({real}){self.name}_{member}_effects[place];")
        if column.tells_missing:
            lines.append(f"    if {missing}\n        place = {n + bool(column.rare)};")
        return [*lines, f"    if (place >= 0)\n        inputs[{at} + place] = 1;"]

    def _answer(self, real: str) -> str:
        name, target = self.name, self.target
        n_inputs, n_outputs = sum(len(column.inputs) for column in self.columns), target.n_outputs
        result = "int" if isinstance(target, Labels) else "double"
        lines = [
            f"static inline {result} {name}_answer(const {name}_row *row)",
            "{",
            f"    {real} inputs[{n_inputs}], outputs[{n_outputs}];",
        ]
        calls = [f"    {name}_encode(row, inputs);", f"    {name}_predict(inputs, outputs);"]
        if not isinstance(target, Labels):
            scale, center = self.write.literal(target.scale), self.write.literal(target.center)
            return "\n".join([*lines, *calls, f"    return outputs[0] * {scale} + {center};", "}"])
        if self.threshold is not None and n_outputs == 2:
            yes, least = target.positive, self.write.literal(self.threshold)
            return "\n".join(
                [*lines, *calls, f"    return outputs[{yes}] >= ({real}){least} ? {yes} : {1 - yes};", "}"]
            )
        lines += ["    int best = 0, o;", *calls]
        lines += [f"    for (o = 1; o < {n_outputs}; o++)", "        if (outputs[o] > outputs[best])"]
        return "\n".join([*lines, "            best = o;", "    return best;", "}"])


def _quoted(text: str) -> str:
    r"""Return a text as C writes it, in UTF-8; octal escapes end after three digits.

    Examples
    --------
    >>> print(_quoted('say "é"?'))
    "say \"\303\251\"\077"
    """
    plain = {byte for byte in range(32, 127) if chr(byte) not in '"\\?'}
    parts = (chr(byte) if byte in plain else '\\"' if byte == 34 else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(parts)}"'


_FIND = """\
/* the place of a word among n others, -1 if it is not there */
static inline int bp_find(const char *word, const char *const *words, int n)
{
    int i;
    for (i = 0; i < n; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    return -1;
}"""

_SOFT = f"""\
/* z / sqrt(1 + (z / {SOFT:g})^2); the root by Newton's steps from above, after which it no longer falls */
static inline real bp_soft(real z)
{{
    const real x = z / R({SOFT}), size = x < R(0) ? -x : x, square = R(1) + x * x;
    real root = R(1) + size, next = (root + square / root) * R(0.5);
    if (size > R(1e8))
        return z < R(0) ? R(-{SOFT}) : R({SOFT});
    while (next < root) {{
        root = next;
        next = (root + square / root) * R(0.5);
    }}
    return z / root;
}}"""
