"""Every operator, comparison, constant and statement in the functions of the .pxd files, changed one at a time.

The changes are compiled into one build, like the planted faults: a statement stands there twice, a condition becomes a
choice between two. Constant arguments of templates stay as they are.
"""

from __future__ import annotations

import io
import random
import tokenize
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Literal

from build import ROOT
from mutation import planted
from mutation.running import Fault, switch_on

Token = tokenize.TokenInfo
Kind = Literal["statement", "condition", "expression"]

EQUIVALENT = ROOT / "tools/mutation/equivalent.toml"
OTHER = {
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
    "!=": "==", "and": "or", "or": "and", "not": "", "True": "False", "False": "True", "min": "max", "max": "min",
    "vmin": "vmax", "vmax": "vmin", "vlt": "vle", "vle": "vlt",
}  # fmt: skip
BINARY = {"+", "-", "*", "/", "//", "<", "<=", ">", ">=", "==", "!="}
FUSED = ("vfma", "rfma")
ASSIGNMENTS = ("=", "+=", "-=", "*=", "/=", "//=")
NO_OPERANDS = {"and", "or", "not", "if", "else", "elif", "while", "return", "in", "for", "cdef"}
# Where a change is, and the tests that are most likely to notice it.
FIRST = {
    "formulas/activation": "test_activations.py", "formulas/optimizer": "test_optimizers.py",
    "formulas/dropout": "test_dropout.py", "machine/vmath": "test_vmath.py", "products": "test_gradients.py",
    "passes": "test_twins.py", "run": "test_runs.py",
}  # fmt: skip
TESTS = [*planted.TESTS, "test_memory.py"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change: the characters start ... end of a file."""

    file: str
    what: str
    """the file, the function and its changed line"""
    start: int
    end: int
    new: str
    kind: Kind
    """of what the new text takes the place"""
    column: int
    """of the statement"""


def all_mutants(texts: Mapping[str, str]) -> list[Mutant]:
    """Of all .pxd files."""
    return [mutant for name, text in texts.items() if name.endswith(".pxd") for mutant in mutants_of(name, text)]


def without_equivalent(mutants: Sequence[Mutant]) -> list[Mutant]:
    """Those that are not known to compute the same. Taken after a sample, so that its seed gives the same ones."""
    equivalent = set(tomllib.loads(EQUIVALENT.read_text())["systematic"])
    return [mutant for mutant in mutants if mutant.what not in equivalent]


def mutants_of(file: str, text: str) -> Iterator[Mutant]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offset(position: tuple[int, int]) -> int:
        return starts[position[0] - 1] + position[1]

    for function, tokens in function_lines(text):
        place = f"{file} {function}"
        for first, last, kind in regions(tokens):
            start, end = offset(tokens[first].start), offset(tokens[last].end)
            for begin, stop, put in changes(tokens, first, last + 1):
                if put.startswith("v") and put not in text:
                    continue  # not imported there
                at, to = offset(tokens[begin].start), offset(tokens[stop].end)
                new = text[start:at] + put + text[to:end]
                whole = text[offset(tokens[0].start) : start] + new + text[end : offset(tokens[-1].end)]
                yield Mutant(
                    file=file, what=f"{place}: {' '.join(whole.split())}", start=start, end=end, new=new,
                    kind=kind, column=tokens[0].start[1],
                )  # fmt: skip
            if kind == "statement" and tokens[0].string != "return":
                yield Mutant(
                    file=file, what=f"{place}: without {' '.join(text[start:end].split())}", start=start, end=end,
                    new="pass", kind="statement", column=tokens[0].start[1],
                )  # fmt: skip


def function_lines(text: str) -> Iterator[tuple[str, list[Token]]]:
    """The tokens of each logical line in the body of a function, with its name."""
    passed_over = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}
    line: list[Token] = []
    function = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in passed_over:
            continue
        if token.type != tokenize.NEWLINE:
            line.append(token)
            continue
        words = [token.string for token in line]
        if line[0].start[1] == 0:
            is_function = words[0] == "cdef" and "(" in words and words[-1] == ":" and "extern" not in words
            function = words[words.index("(") - 1] if is_function else ""
        elif function and line[0].type != tokenize.STRING:
            yield function, line
        line = []


def regions(tokens: Sequence[Token]) -> Iterator[tuple[int, int, Kind]]:
    """The first and last token of what can be changed in a line, and what that is."""
    words, last = [token.string for token in tokens], len(tokens) - 1
    match words[0]:
        case "if" | "elif" | "while":
            if words[-1] == ":":
                yield 1, last - 1, "condition"
        case "for":
            if words[2:5] == ["in", "range", "("] and words[-2:] == [")", ":"]:
                ends = [4, *(k for k in at_the_top(words, 5, last - 1) if words[k] == ","), last - 1]
                for before, after in list(pairwise(ends))[:2]:  # the step must be a constant
                    yield before + 1, after - 1, "expression"
        case "cdef":
            top = [words[k] for k in at_the_top(words, 0, last + 1)]
            if top.count("=") == 1 and "," not in top:
                first = words.index("=") + 1
                if not words[first][0].isupper():  # a record, which cannot be chosen
                    yield first, last, "expression"
        case "return":
            if last > 0 and not words[1][0].isupper():
                yield 0, last, "statement"
        case "else" | "break" | "continue" | "pass" | "with" | "from":
            pass
        case _:
            if words[-1] == ")" or any(word in ASSIGNMENTS for word in words):
                yield 0, last, "statement"


def at_the_top(words: Sequence[str], first: int, end: int) -> Iterator[int]:
    """Where the words outside all brackets are."""
    depth = 0
    for k in range(first, end):
        depth -= words[k] in (")", "]")
        if depth == 0:
            yield k
        depth += words[k] in ("(", "[")


def changes(tokens: Sequence[Token], first: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Each change: its first and last token and what takes their place."""
    words = [token.string for token in tokens]
    casts = inside_casts(tokens)
    for k in range(first, end):
        word = words[k]
        if k in casts:
            continue
        if tokens[k].type == tokenize.NUMBER:
            yield k, k, f"({word} + 1)"
        elif word == "-" and not is_operand(tokens[k - 1]):
            yield k, k, ""
        elif word in OTHER and (word not in BINARY or is_operand(tokens[k - 1])):
            yield k, k, OTHER[word]
        elif word in FUSED and words[k + 1] == "(":
            close = closing(words, k + 1)
            commas = [j for j in at_the_top(words, k + 2, close) if words[j] == ","]
            if len(commas) == 2:
                a, b, c = (" ".join(words[i + 1 : j]) for i, j in pairwise([k + 1, *commas, close]))
                yield k, close, f"(({a}) * ({b}) + ({c}))"


def is_operand(token: Token) -> bool:
    if token.type == tokenize.NAME:
        return token.string not in NO_OPERANDS
    return token.type == tokenize.NUMBER or token.string in (")", "]")


def inside_casts(tokens: Sequence[Token]) -> set[int]:
    """The tokens of casts like <real *>."""
    found: set[int] = set()
    for k, token in enumerate(tokens):
        if token.string == "<" and k > 0 and k not in found and not is_operand(tokens[k - 1]):
            end = next(j for j in range(k, len(tokens)) if tokens[j].string == ">")
            found.update(range(k, end + 1))
    return found


def closing(words: Sequence[str], opening: int) -> int:
    depth = 0
    for k in range(opening, len(words)):
        depth += (words[k] == "(") - (words[k] == ")")
        if depth == 0:
            return k
    raise ValueError(f"needs a closing bracket, got {' '.join(words)}")


# ---- the build and its tests ----


def sample(mutants: Sequence[Mutant], size: int | None, seed: int) -> list[Mutant]:
    """In the order of the sources."""
    if size is None or size >= len(mutants):
        return list(mutants)
    return [mutants[k] for k in sorted(random.Random(seed).sample(range(len(mutants)), size))]


def plant_all(mutants: Sequence[Mutant], folder: Path) -> Path:
    """A copy of the sources with every mutant in it, as `planted.plant_all` has the faults."""
    texts = planted.sources()
    numbered = sorted(enumerate(mutants, 1), key=lambda pair: (pair[1].file, pair[1].start))
    changed: dict[str, str] = {}
    for file, of_file in groupby(numbered, key=lambda pair: pair[1].file):
        text = texts[file]
        for _, of_place in reversed([(key, list(pairs)) for key, pairs in groupby(of_file, lambda p: p[1].start)]):
            place = of_place[0][1]
            text = text[: place.start] + chosen(text[place.start : place.end], of_place) + text[place.end :]
        changed[file] = text
    return planted.write_copy(changed, folder)


def chosen(old: str, mutants: Sequence[tuple[int, Mutant]]) -> str:
    """Cython for the one of the mutants that is switched on, or else what stood there."""
    place = mutants[0][1]
    if place.kind != "statement":
        cast = "<bint> " if place.kind == "condition" else ""  # some conditions are of C's int
        choice = "".join(f"{cast}({mutant.new}) if fault_number() == {number} else " for number, mutant in mutants)
        return f"({choice}{cast}({old}))"
    branches = [f"if fault_number() == {number}: {mutant.new}" for number, mutant in mutants]
    return f"\n{' ' * place.column}el".join(branches) + f"\n{' ' * place.column}else: {old}"


def mutants_to_run(mutants: Sequence[Mutant]) -> list[Fault]:
    faults = []
    for number, mutant in enumerate(mutants, 1):
        first = next((tests for place, tests in FIRST.items() if mutant.file.startswith(place)), TESTS[0])
        tests = sorted(TESTS, key=lambda name, first=first: name != first)
        faults.append(Fault(what=mutant.what, plant=switch_on(number), tests=tests))
    return faults
