"""C as text: numbers, texts, arrays, comments, and the functions of `functions.h` and `tables.h`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.text import shortest
from backprop.base.types import RealArray

LINE = 120

_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr continue
decltype default delete do double else enum explicit export extern false float for friend goto if inline int
long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
restrict return short signed sizeof static struct switch template this throw true try typedef typeid typename
union unsigned using virtual void volatile while xor xor_eq
"""
# What headers, and compilers that are not asked for strict ISO C, define as macros.
_MACROS = """
cdecl complex errno far fixed huge i386 imaginary interface linux mips near noreturn pascal signgam small sparc stderr
stdin stdout sun unix vax
"""


def is_identifier(name: str) -> bool:
    """Return whether C and C++ leave this name, and those that begin with it, to users.

    Examples
    --------
    >>> is_identifier("model_2"), is_identifier("2nd"), is_identifier("class"), is_identifier("small")
    (True, False, False, True)
    """
    return (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None and "__" not in name and name not in _KEYWORDS.split()
    )


def is_member(name: str) -> bool:
    """Return whether common headers and compilers, too, leave this name alone, as that of a member.

    Examples
    --------
    >>> is_member("size"), is_member("small"), is_member("linux")
    (True, False, False)
    """
    return is_identifier(name) and name not in _MACROS.split()


@dataclass(frozen=True)
class Writer:
    """What C is written with: with what names of arrays begin, the type of numbers, and with what functions begin.

    `file` is the prefix of the functions of `functions.h` where several networks share them, and, in capitals, that of
    macros; as a rule it is that of all names.
    """

    prefix: str
    dtype: np.dtype[Any]
    file: str = ""

    @property
    def shared(self) -> str:
        """With what the names of functions begin."""
        return self.file or self.prefix

    @property
    def macro(self) -> str:
        """With what macros begin."""
        return self.shared.upper()

    @cached_property
    def real(self) -> str:
        """The type of numbers.

        Examples
        --------
        >>> Writer("model", np.dtype("float32")).real
        'float'
        """
        return "float" if self.dtype.itemsize == 4 else "double"

    def literal(self, value: Any) -> str:
        """Return the shortest text that a compiler reads as this very number.

        Examples
        --------
        >>> Writer("model", np.dtype("float32")).literal(0.1), Writer("model", np.dtype("float64")).literal(2)
        ('0.1f', '2.0')
        """
        text = shortest(self.dtype.type(value))
        return f"{text}f" if self.dtype.itemsize == 4 else text

    def text(self, template: str) -> str:
        """Return C for a template, in which `functions.h` says what is replaced.

        Examples
        --------
        >>> Writer("model", np.dtype("float64")).text("bits bp_one = B(1, 0x10) << mantissa; real x = R(2, 3);")
        'uint64_t model_one = UINT64_C(0x10) << 52; double x = 3.0;'
        """
        wide, size = self.dtype.itemsize == 8, 8 * self.dtype.itemsize

        def own(numbers: str) -> str:
            return numbers.split(", ")[-1 if wide else 0]

        template = re.sub(r"\bR\(([^()]+)\)", lambda found: self.literal(float(own(found[1]))), template)
        template = re.sub(r"\bB\(([^()]+)\)", lambda found: f"UINT{size}_C({own(found[1])})", template)
        template = re.sub(r"\bmantissa\b", "52" if wide else "23", template)
        template = re.sub(r"\breal\b", self.real, template)
        template = re.sub(r"\bbits\b", f"uint{size}_t", template)
        return re.sub(r"\bBP_", f"{self.macro}_", re.sub(r"\bbp_", f"{self.shared}_", template))

    def array(self, name: str, values: RealArray | NDArray[np.int8], *, constant: bool = True) -> str:
        """Return the definition of an array, row after row; whole numbers are int8."""
        whole = values.dtype.kind == "i"
        numbers = (str(value) if whole else self.literal(value) for value in values.ravel())
        kind = "int8_t" if whole else self.real
        body = textwrap.fill(", ".join(numbers), LINE, initial_indent="    ", subsequent_indent="    ")
        const = "const " if constant else ""
        return f"static {const}{kind} {self.prefix}_{name}[{values.size}] = {{\n{body}\n}};"

    def texts(self, name: str, texts: Sequence[str]) -> str:
        """Return the definition of an array of texts."""
        body = "\n".join(f"    {quoted(text)}," for text in texts)
        return f"static const char *const {self.prefix}_{name}[{len(texts)}] = {{\n{body}\n}};"

    def functions(self, names: Iterable[str], *, fused: bool = False) -> str:
        """Return the definitions of these functions and of all that they call, each below what it calls.

        fused: only those that multiply and add, for processors that fuse that.
        """
        found: dict[str, str] = {}
        for name in names:
            self._collect(name, found)
        if not fused:
            return "\n\n".join(found.values())
        first = self.text(self._template("fused_fma"))
        rest = [text for name, text in found.items() if name != "fma" and self._multiplies_and_adds(name)]
        return self.fused("\n\n".join([first, *rest]))

    def fused(self, text: str) -> str:
        """Return functions as those for processors that fuse multiply-adds: with ``fused_`` in front of their names.

        They call each other, and those functions of the file that do not multiply and add.
        """
        renamed = re.sub(
            rf"\b{self.shared}_(\w+)\(",
            lambda found: f"{self.shared}_fused_{found[1]}(" if self._multiplies_and_adds(found[1]) else found[0],
            text,
        )
        return renamed.replace("static inline", f"{self.macro}_FUSED")

    def _collect(self, name: str, found: dict[str, str]) -> None:
        if name in found:
            return
        template = self._template(name)
        for called in _called(template):
            if called != name:
                self._collect(called, found)
        found[name] = self.text(template)

    def _multiplies_and_adds(self, name: str) -> bool:
        """Tell whether a function of `functions.h` does, or what it calls."""
        if name == "fma" or not has_function(name):
            return name == "fma"
        return any(called != name and self._multiplies_and_adds(called) for called in _called(self._template(name)))

    def _template(self, name: str) -> str:
        return _function(name, 8 * self.dtype.itemsize)[1]


def _called(template: str) -> list[str]:
    """Return the names of the functions in a template, its own among them."""
    return re.findall(r"\bbp_(\w+)\(", template)


@dataclass(frozen=True)
class Entry:
    """A function that a file is for: its arguments, its declarations but for that of o, which counts, and its lines."""

    name: str
    arguments: tuple[str, ...]
    declared: str
    lines: tuple[str, ...]

    def text(self, write: Writer, *, fused: bool) -> str:
        """Return its definition: the one that is fused, or the one that leaves its work to that where it can run."""
        name = f"{write.prefix}_{'fused_' * fused}{self.name}"
        lines = [f"static inline void {name}({', '.join(self.arguments)})", "{", f"    {self.declared}", "    int o;"]
        if fused:
            return write.fused("\n".join([*lines, *self.lines, "}"]))
        given = ", ".join(argument.split()[-1].lstrip("*") for argument in self.arguments)
        asked = " && ".join(f'__builtin_cpu_supports("{what}")' for what in ("avx2", "fma"))
        lines += [f"#if defined({write.macro}_FUSED)", f"    if ({asked}) {{"]
        lines += [f"        {write.prefix}_fused_{self.name}({given});", "        return;", "    }", "#endif"]
        return "\n".join([*lines, *self.lines, "}"])


def quoted(text: str) -> str:
    r"""Return a text as C writes it, in UTF-8; octal escapes end after three digits.

    Examples
    --------
    >>> print(quoted('say "é"?'))
    "say \"\303\251\"\077"
    """
    plain = {byte for byte in range(32, 127) if chr(byte) not in '"\\?'}
    parts = (chr(byte) if byte in plain else '\\"' if byte == 34 else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(parts)}"'


def comment(text: str) -> str:
    """Return a comment of C that holds this text, whatever is in it.

    Examples
    --------
    >>> print(comment("rows */ columns"))
    /* rows * / columns
     */
    """
    safe = "".join(c if (c.isprintable() and c.isascii()) or c == "\n" else "?" for c in text)
    safe = safe.replace("*/", "* /").replace("/*", "/ *").replace("??/", "? ?/")
    return "/* " + "\n * ".join(safe.splitlines()).replace(" * \n", " *\n") + "\n */"


def has_function(name: str) -> bool:
    """Return whether `functions.h` has a function of this name."""
    return any(key[0] == name for key in _functions())


def argument_of_slope(activation: str) -> str:
    """Return of what the derivative of an activation is a function: ``"value"`` or ``"score"``."""
    return _function(f"{activation}_slope", 32)[0]


def _function(name: str, bits: int) -> tuple[str, str]:
    """Return what the heading says of a function, and its text."""
    table = _functions()
    return table.get((name, str(bits))) or table[name, ""]


@cache
def _functions() -> dict[tuple[str, str], tuple[str, str]]:
    """Return heading and text of each function, by its name and the bits that it is for (or "" for any)."""
    texts = (files("backprop.export").joinpath(name).read_text("utf-8") for name in ("functions.h", "tables.h"))
    sections = [section for text in texts for section in re.split(r"^//// ", text, flags=re.MULTILINE)[1:]]
    found = {}
    for section in sections:
        heading, _, text = section.partition("\n")
        name, _, said = heading.partition(" ")
        key = (name, said if said.isdigit() else "")
        found[key] = (said, text.strip())
    return found
