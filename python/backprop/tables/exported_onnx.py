"""A table's model as a model of ONNX: preprocessing, networks and labels in one graph."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.export import nodes
from backprop.export.graph import IR_VERSIONS, ML, Graph
from backprop.export.onnx import Port, check_parameters, finished, package
from backprop.network import Network
from backprop.tables import encoders
from backprop.tables.columns import Column
from backprop.tables.encoders import BooleanInput, CategoryInput, DateInput, Input, NumberInput, numbers_of
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.reading import MISSING, UNKNOWN, Values
from backprop.tables.targets import Labels, Target
from backprop.tables.values import BLANKS
from backprop.tables.values import MISSING as NOTHING

_DOUBLE = np.dtype(np.float64)
_INT64 = 7
"""the number that ONNX has for it"""
_PATTERNS = 20
"""the version of the operators from which on there are regular expressions"""
_BLANKS = "[" + "".join(f"\\x{{{ord(blank):x}}}" for blank in BLANKS) + "]*"
_NEVER = r"[^\x00-\x{10ffff}]"
_LONGEST = 4000
"""the bytes of a pattern: RE2 is slow where its automaton needs more memory than it takes"""


def to_onnx(
    path: str | os.PathLike[str] | None,
    fitted: Preprocessing,
    networks: Mapping[str, Network],
    threshold: float | None,
    opset: Any,
) -> Any:
    """Write the model of ONNX, or return it; see `TableModel.to_onnx`."""
    package()
    if (opset := check.integer("opset", opset, at_least=1)) not in IR_VERSIONS:
        raise ValueError(f"opset: needs {' or '.join(map(str, IR_VERSIONS))}, got {opset}")
    for name in {each.name for each in fitted.inputs}.intersection(_names(fitted)):
        raise ValueError(f"to_onnx: column {name!r} has the name of an output; call it something else, and fit again")
    dtype = next(iter(networks.values())).dtype
    graph = Graph(dtype, taken=(*(column.name for column in fitted.columns), *_names(fitted)))
    numbers = _numbers(fitted)
    texts = {each.name for each in fitted.inputs if isinstance(each, CategoryInput)} - numbers.keys()
    graph.opset = opset if texts else graph.opset
    encoded = [_encoded(graph, each, numbers.get(each.name)) for each in fitted.inputs]
    X = encoded[0] if len(encoded) == 1 else graph.add("Concat", *encoded, axis=1)
    ports = []
    for target in fitted.targets:
        network = networks[target.name]
        check_parameters(network)
        with graph.within(target.name):
            outputs = nodes.layers(graph, network.n_inputs, network.layers, network.parameters, X)
            ports += _answers(graph, target, outputs, threshold)
    given = [Port(each.name, object if each.name in texts else _DOUBLE, (None, 1)) for each in fitted.inputs]
    return finished(graph, given, ports, path, {})


def _names(fitted: Preprocessing) -> Iterator[str]:
    """Yield the names of the outputs."""
    for target in fitted.targets:
        yield target.name
        if isinstance(target, Labels):
            yield _probabilities(target)


def _probabilities(target: Labels) -> str:
    return f"{target.name} probabilities"


# --- columns -------------------------------------------------------------------------------------------------------


def _numbers(fitted: Preprocessing) -> dict[str, tuple[float, ...]]:
    """Return the numbers that the words of categories are, where they are numbers."""
    columns = {column.name: column for column in fitted.columns}
    found = {each.name: numbers_of(columns[each.name], each) for each in fitted.inputs}
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def _encoded(graph: Graph, how: Input, numbers: tuple[float, ...] | None) -> str:
    """Add what encodes a column, (n, 1), and return the name of its inputs of the network, (n, len(inputs))."""
    with graph.within(how.name):
        if isinstance(how, CategoryInput):
            return _category(graph, how) if numbers is None else _numeric_category(graph, how, numbers)
        if isinstance(how, DateInput):
            return _date(graph, how)
        return _number(graph, how) if isinstance(how, NumberInput) else _boolean(graph, how)


def _double(graph: Graph, value: float) -> str:
    """Return a constant of float64: columns are computed in it, as they are here."""
    return graph.array("number", value, _DOUBLE)


def _gone(graph: Graph, values: str) -> str:
    """Whether numbers are NaN or infinite: what says nothing."""
    return graph.add("IsNaN", graph.add("Sub", values, values))


def _number(graph: Graph, how: NumberInput) -> str:
    """``(value - center) / scale``, `fill` where there is none; what `NumberInput.write` computes."""
    gone = _gone(graph, how.name)
    value = graph.add("Where", gone, _double(graph, how.fill), how.name)
    z = graph.add("Div", graph.add("Sub", value, _double(graph, how.center)), _double(graph, how.scale))
    if how.bounded:
        z = graph.add("Clip", z, _double(graph, -encoders.LARGEST), _double(graph, encoders.LARGEST))
        part = graph.add("Div", z, _double(graph, encoders.SOFT))
        root = graph.add("Sqrt", graph.add("Add", _double(graph, 1), graph.add("Mul", part, part)))
        z = graph.add("Div", z, root)
    found = graph.cast(z)
    return graph.add("Concat", found, graph.cast(gone), axis=1) if how.tells_missing else found


def _boolean(graph: Graph, how: BooleanInput) -> str:
    """1 for 1, -1 for 0, 0 for nothing."""
    sides = graph.add("Sub", graph.add("Mul", how.name, _double(graph, 2)), _double(graph, 1))
    return graph.cast(graph.add("Where", _gone(graph, how.name), _double(graph, 0), sides))


def _table(graph: Graph, how: CategoryInput) -> NDArray[Any]:
    """Return what the encoder gives for all words in their order, for an unknown one and for a missing one."""
    codes = np.array([*range(len(how.words)), UNKNOWN, MISSING], np.int32)
    return encoders.encoded(how, Values(Column(how.name, "category"), codes, how.words), graph.dtype)


def _category(graph: Graph, how: CategoryInput) -> str:
    """Look up the row of each word in a table of what the encoder gives for all of them."""
    add = _row_by_patterns if graph.opset >= _PATTERNS else _row_by_spellings
    place, table = add(graph, how)
    flat = graph.add("Reshape", place, graph.array("shape", [-1], np.int64))
    return graph.add("Gather", graph.array("table", table), flat, axis=0)


def _row_by_patterns(graph: Graph, how: CategoryInput) -> tuple[str, NDArray[Any]]:
    """Find the row of a word by regular expressions that pass over blanks around it, one for each bit of its number.

    Words with equal rows have one number, and those that say what an unknown one does have none.
    """
    *of_words, unknown, missing = _table(graph, how)
    rows, own = np.unique(np.array([unknown, *of_words, missing]), axis=0, return_inverse=True)
    own = own.ravel()  # NumPy 2.0.0 gives a column
    numbers = np.where(own == own[0], 0, np.where(own < own[0], own + 1, own))
    table = np.concatenate([rows[own[:1]], np.delete(rows, own[0], axis=0)])
    patterns = [*map(_literally, how.words), "|".join(map(_in_any_capitals, NOTHING))]
    bits = [
        _bit(graph, how.name, [each for each, number in zip(patterns, numbers[1:], strict=True) if number >> k & 1], k)
        for k in range(max(1, int(numbers.max()).bit_length()))
    ]
    return reduce(lambda one, other: graph.add("Add", one, other), bits), table


def _bit(graph: Graph, words: str, patterns: Sequence[str], k: int) -> str:
    """``2**k`` where a word matches any of the patterns, else 0."""
    found = [graph.add("RegexFullMatch", words, pattern=each) for each in _alternatives(patterns)]
    hit = reduce(lambda one, other: graph.add("Or", one, other), found)
    return graph.add("Mul", graph.add("Cast", hit, to=_INT64), graph.array("bit", 2**k, np.int64))


def _alternatives(patterns: Sequence[str]) -> Iterator[str]:
    """Yield patterns of any of these, between blanks, short enough for the automata of RE2."""
    joined: list[str] = []
    for pattern in patterns or [_NEVER]:
        if joined and len("".join([*joined, pattern]).encode()) > _LONGEST:
            yield f"{_BLANKS}(?:{'|'.join(joined)}){_BLANKS}"
            joined = []
        joined.append(pattern)
    yield f"{_BLANKS}(?:{'|'.join(joined)}){_BLANKS}"


def _literally(word: str) -> str:
    """Return the pattern of RE2 that is the word."""
    return "".join(c if c.isalnum() or c == "_" or ord(c) > 127 else f"\\x{ord(c):02x}" for c in word)


def _in_any_capitals(word: str) -> str:
    """Return the pattern of RE2 that is the word, whose letters are small, in small letters and capitals."""
    capitals = {"i": "İ", "k": "\u212a"}  # the sign of kelvin
    return "".join(f"[{c}{c.upper()}{capitals.get(c, '')}]" if c.isalpha() else _literally(c) for c in word)


def _row_by_spellings(graph: Graph, how: CategoryInput) -> tuple[str, NDArray[Any]]:
    """Find the row of a word that has no blanks around it."""
    n, nothing = len(how.words), _spellings_of_nothing()
    place = graph.add(
        "LabelEncoder",
        how.name,
        domain=ML,
        keys_strings=[*how.words, *nothing],
        values_int64s=[*range(n), *([n + 1] * len(nothing))],
        default_int64=n,
    )
    return place, _table(graph, how)


@cache
def _spellings_of_nothing() -> tuple[str, ...]:
    """Return the words that say nothing, in all mixtures of capitals, of long words in those that people write."""
    found: list[str] = []
    for word in NOTHING:
        if sum(letter.isalpha() for letter in word) > 5:
            found += [word, word.upper(), word.title()]
        else:
            found += map("".join, product(*({letter: None, letter.upper(): None} for letter in word)))
    return tuple(dict.fromkeys(found))


def _numeric_category(graph: Graph, how: CategoryInput, numbers: tuple[float, ...]) -> str:
    """As `_category`, for numbers."""
    *rows, unknown, missing = _table(graph, how)
    hits = graph.cast(graph.add("Equal", how.name, graph.array("numbers", [numbers], _DOUBLE)))
    known = graph.add("MatMul", hits, graph.array("table", rows))
    n_hits = graph.add("MatMul", hits, graph.array("ones", np.ones((len(numbers), 1))))
    none = graph.add("Equal", n_hits, graph.number(0))
    rest = graph.add(
        "Where", _gone(graph, how.name), graph.array("missing", [missing]), graph.array("unknown", [unknown])
    )
    return graph.add("Where", none, rest, known)


def _date(graph: Graph, how: DateInput) -> str:
    """Elapsed time, and parts of dates as sine and cosine; what `DateInput.write` computes."""
    gone = _gone(graph, how.name)
    seconds = graph.add("Where", gone, _double(graph, how.center), how.name)
    days = graph.add("Floor", graph.add("Div", seconds, _double(graph, encoders.DAY)))
    found = []
    for part in how.parts:
        if part == "elapsed":
            since = graph.add("Sub", seconds, _double(graph, how.center))
            found.append(graph.add("Div", since, _double(graph, how.scale)))
            continue
        angle = graph.add("Mul", _phase(graph, seconds, days, part), _double(graph, 2 * np.pi))
        # onnxruntime has no cosine of float64.
        ahead = graph.add("Add", angle, _double(graph, np.pi / 2))
        found += [graph.add("Sin", angle), graph.add("Sin", ahead)]
    joined = graph.add("Concat", *found, axis=1) if len(found) > 1 else found[0]
    there = graph.cast(graph.add("Where", gone, _double(graph, 0), joined))
    return graph.add("Concat", there, graph.cast(gone), axis=1) if how.tells_missing else there


def _phase(graph: Graph, seconds: str, days: str, part: encoders.Part) -> str:
    """How far a part is on its circle, from 0 to 1: `encoders.phase`."""
    if part == "month":
        return _month(graph, days)
    if part == "weekday":
        day, week = graph.add("Add", days, _double(graph, 3)), _double(graph, 7)
        weeks = graph.add("Floor", graph.add("Div", day, week))
        return graph.add("Div", graph.add("Sub", day, graph.add("Mul", weeks, week)), week)
    day = _double(graph, encoders.DAY)
    share = graph.add("Div", graph.add("Sub", seconds, graph.add("Mul", days, day)), day)
    times = graph.add("Mul", share, _double(graph, encoders.TIMES_A_DAY[part]))
    return graph.add("Sub", times, graph.add("Floor", times))


def _month(graph: Graph, days: str) -> str:
    """The month of days since 1970, a twelfth each; the year is that of March, so that its odd day comes last."""

    def whole(value: int) -> str:
        return graph.array("whole", value, np.int64)

    def over(x: str, divisor: int) -> str:
        return graph.add("Div", x, whole(divisor))

    near = graph.add("Clip", days, _double(graph, -(10**6)), _double(graph, 10**7))
    shifted = graph.add("Add", graph.add("Cast", near, to=_INT64), whole(719_468 + 8 * 146_097))
    day = graph.add("Mod", shifted, whole(146_097))  # of 400 years
    leap = graph.add("Sub", graph.add("Add", day, over(day, 36_524)), over(day, 1460))
    year = over(graph.add("Sub", leap, over(day, 146_096)), 365)
    leap_days = graph.add("Sub", over(year, 4), over(year, 100))
    start = graph.add("Add", graph.add("Mul", year, whole(365)), leap_days)
    fifths = graph.add("Mul", graph.add("Sub", day, start), whole(5))
    month = over(graph.add("Add", fifths, whole(2)), 153)  # from March
    from_january = graph.add("Mod", graph.add("Add", month, whole(2)), whole(12))
    return graph.add("Div", graph.add("Cast", from_january, to=graph.code(_DOUBLE)), _double(graph, 12))


# --- targets -------------------------------------------------------------------------------------------------------


def _answers(graph: Graph, target: Target, outputs: str, threshold: float | None) -> list[Port]:
    """Add what a target's outputs mean: labels and their probabilities, or quantities."""
    if not isinstance(target, Labels):
        real = graph.add("Cast", outputs, to=graph.code(_DOUBLE))
        scaled = graph.add("Mul", real, _double(graph, target.scale))
        number = graph.add("Add", scaled, _double(graph, target.center))
        if (dtype := target.dtype(graph.dtype)) != _DOUBLE:
            number = graph.cast(number)
        graph.rename(graph.add("Reshape", number, graph.array("shape", [-1], np.int64)), target.name)
        return [Port(target.name, dtype, (None,))]
    graph.rename(graph.add("Identity", outputs), _probabilities(target))
    labels: NDArray[Any] = target.decoded(np.arange(target.n_outputs))
    if labels.dtype.kind == "U":
        labels = labels.astype(object)
    if threshold is None or target.n_outputs != 2:
        decided = graph.add("ArgMax", outputs, axis=1, keepdims=0)
    else:
        chances = graph.add("Gather", outputs, graph.array("positive", target.positive, np.int64), axis=1)
        below = graph.add("Less", chances, graph.number(threshold))
        sides = [graph.array("side", k, np.int64) for k in (1 - target.positive, target.positive)]
        decided = graph.add("Where", below, *sides)
    graph.rename(graph.add("Gather", graph.array("labels", labels, labels.dtype), decided), target.name)
    return [
        Port(target.name, labels.dtype, (None,)),
        Port(_probabilities(target), graph.dtype, (None, target.n_outputs)),
    ]
