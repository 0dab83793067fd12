"""How a column of a table becomes inputs of a network, in C."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from backprop.export.c_text import Writer, comment, is_member
from backprop.tables.columns import Column
from backprop.tables.encoders import BooleanInput, CategoryInput, DateInput, Input, NumberInput, Part, numbers_of
from backprop.tables.values import MISSING

_PHASES: dict[Part, str] = {
    "month": "month({value})",
    "weekday": "weekday({value})",
    "hour": "hour({value}, 1)",
    "half day": "hour({value}, 2)",
    "third of a day": "hour({value}, 3)",
}


@dataclass(frozen=True)
class CColumn:
    """A column, the member of the struct of a row that has its value, and the first of its inputs."""

    write: Writer
    column: Column
    how: Input
    member: str
    first: int

    @property
    def declaration(self) -> str:
        """The member, with what it is in a comment."""
        kind = "const char *" if self._is_text else "double "
        about = comment(f"{self.how.name}: {self._said}").replace("\n */", " */")
        return f"    {kind}{self.member}; {about}"

    @property
    def _is_text(self) -> bool:
        return isinstance(self.how, CategoryInput) and self.numbers is None

    @property
    def _said(self) -> str:
        if isinstance(self.how, DateInput):
            return "seconds since midnight" if self.column.written == "time of day" else "seconds since 1970 (UTC)"
        if isinstance(self.how, CategoryInput):
            return "one of the words below" if self.numbers is None else "one of the numbers below"
        return "1 or 0" if isinstance(self.how, BooleanInput) else "a number"

    @cached_property
    def numbers(self) -> tuple[float, ...] | None:
        """The words of a category that are numbers: 3 and 3.0 are one."""
        return numbers_of(self.column, self.how)

    @property
    def functions(self) -> Iterator[str]:
        """The functions that `lines` calls."""
        how = self.how
        if isinstance(how, DateInput):
            yield from ("when", *(_PHASES[part].partition("(")[0] for part in how.parts if part in _PHASES))
            yield from ("wave", "seconds", "date")
        elif isinstance(how, CategoryInput):
            yield "find" if self.numbers is None else "number"
        else:
            yield "there"
            if isinstance(how, NumberInput) and how.bounded:
                yield "soft"

    def definitions(self) -> Iterator[str]:
        """Yield the arrays that it needs: its words or numbers, and their effects."""
        if not isinstance(self.how, CategoryInput):
            return
        if self.numbers is None:
            yield self.write.texts(f"{self.member}_words", self.how.words)
        else:
            yield self.write.array(f"{self.member}_numbers", np.array(self.numbers))
        if self.how.effects:
            yield self.write.array(f"{self.member}_effects", np.array(self.how.effects))

    def lines(self, real: str) -> list[str]:
        """Return the lines that make its inputs, which were zeros; `real` is the type of the network's numbers."""
        value, how = f"row->{self.member}", self.how
        if isinstance(how, CategoryInput):
            return self._category(value, how, real)
        if isinstance(how, DateInput):
            return self._date(value, how, real)
        there, number = f"{self.write.prefix}_there({value})", self.write.literal
        if isinstance(how, BooleanInput):
            return [f"    inputs[{self.first}] = ({real})({there} ? 2.0 * {value} - 1.0 : 0.0);"]
        z = f"(({there} ? {value} : {number(how.fill)}) - {number(how.center)}) / {number(how.scale)}"
        z = f"{self.write.prefix}_soft({z})" if how.bounded else f"({z})"
        lines = [f"    inputs[{self.first}] = ({real}){z};"]
        return [*lines, f"    inputs[{self.first + 1}] = ({real})!{there};"] if how.tells_missing else lines

    def _category(self, value: str, how: CategoryInput, real: str) -> list[str]:
        prefix, n = self.write.prefix, len(how.categories)
        find, known = ("find", "words") if self.numbers is None else ("number", "numbers")
        lines = [f"    place = {prefix}_{find}({value}, {prefix}_{self.member}_{known}, {len(how.words)});"]
        if how.rare:
            lines.append(f"    place = place == -1 || place > {n} ? {n} : place;")
        if how.effects:
            last = self.first + len(how.inputs) - 1
            lines.append(
                f"    if (place >= 0)\n        inputs[{last}] = ({real}){prefix}_{self.member}_effects[place];"
            )
        if how.tells_missing:
            lines.append(f"    if (place == -2)\n        place = {n + bool(how.rare)};")
        return [*lines, f"    if (place >= 0)\n        inputs[{self.first} + place] = 1;"]

    def _date(self, value: str, how: DateInput, real: str) -> list[str]:
        prefix, number, place = self.write.prefix, self.write.literal, self.first
        lines = []
        for part in how.parts:
            if part == "elapsed":
                elapsed = f"({value} - {number(how.center)}) / {number(how.scale)}"
                lines.append(f"        inputs[{place}] = ({real})({elapsed});")
                place += 1
                continue
            phase = f"{prefix}_{_PHASES[part].format(value=value)}"
            for quarters in (0, 1):
                lines.append(f"        inputs[{place + quarters}] = ({real}){prefix}_wave({phase}, {quarters});")
            place += 2
        lines = [f"    if ({prefix}_when({value})) {{", *lines, "    }"]
        if how.tells_missing:
            lines[-1:] = ["    } else {", f"        inputs[{place}] = 1;", "    }"]
        return lines


def nothing(write: Writer) -> str:
    """Return the definition of the words that say nothing, in small letters, which the function `find` looks up."""
    words = [word for word in MISSING if word]
    return f"#define {write.macro}_NOTHINGS {len(words)}\n{write.texts('nothing', words)}"


def members(names: Sequence[str], otherwise: str) -> tuple[str, ...]:
    """Return what C calls columns: their names as far as it can, in small letters, or `otherwise` with a number.

    Examples
    --------
    >>> members(["Size (m)", "size m", "2nd", "größe"], "column")
    ('size_m', 'size_m_2', 'column_3', 'gr_e')
    """
    found: list[str] = []
    for number, name in enumerate(names, 1):
        word = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()
        word = word if is_member(word) else f"{otherwise}_{number}"
        found.append(word if word not in found else f"{word}_{number}")
    return tuple(found)
