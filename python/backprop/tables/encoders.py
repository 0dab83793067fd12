"""How a column becomes inputs of the network: frozen dataclasses that are learned from the training rows.

- **numbers** are standardised: minus the mean, over the standard deviation. With values more than `FAR` deviations
  from the mean, it is minus the median, over the distance of the quartiles, and then z / sqrt(1 + (z / 3)^2), which is
  below 3.
- **booleans** are 1 and -1.
- **categories** have an input each; those with fewer than `FEW_ROWS` training rows share one, where there are many. In
  large tables `effects` adds what is known of them about the target.
- **dates** are elapsed time, and month, weekday and hour on a circle (sine and cosine), as far as they vary; with many
  rows, the hour also on circles of half a day and of a third of one.
- **missing** values are the median, or 0, or no category; where training rows have some, an input tells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.spread import mean_and_deviation
from backprop.tables.columns import Column
from backprop.tables.reading import MISSING, Values
from backprop.tables.values import ALL_WHOLE

Floats: TypeAlias = NDArray[np.float64]
Part: TypeAlias = Literal["elapsed", "month", "weekday", "hour", "half day", "third of a day"]
FEW_DATES = 2000  # up to which the hour is on one circle only

FAR = 6.0
NORMAL_QUARTILES = 1.349  # their distance in standard deviations of a normal distribution
SOFT = 3.0
FEW_ROWS, FEW_CATEGORIES = 3, 10
MAX_CATEGORIES = 1000
MAX_RARE_WORDS = 5000
LARGEST = 1e150  # its square is finite
FARTHEST = 1e30  # in standard deviations: beyond it float32 ends
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class NumberInput:
    """``(value - center) / scale``, softly bounded where `bounded`; `fill` where the value is missing."""

    kind: ClassVar[str] = "number"
    name: str
    center: float
    scale: float
    fill: float
    bounded: bool = False
    tells_missing: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs."""
        return (self.name, f"{self.name} missing") if self.tells_missing else (self.name,)

    def write(self, values: Values, out: NDArray[Any]) -> None:
        """Fill `out`, (n, len(inputs)), which is all zeros."""
        gone = values.missing
        with np.errstate(over="ignore"):
            z = (np.where(gone, self.fill, values.array) - self.center) / self.scale
        if self.bounded:
            z = np.clip(z, -LARGEST, LARGEST)
            z = z / np.sqrt(1 + (z / SOFT) ** 2)
        elif (far := np.abs(z) > FARTHEST).any():
            row = int(far.argmax())
            raise ValueError(
                f"row {row + 1:,}: column {self.name!r} needs numbers in the range of the training rows "
                f"(mean {self.center:g}, deviation {self.scale:g}), got {values.array[row]:g}"
            )
        out[:, 0] = z
        if self.tells_missing:
            out[:, 1] = gone


@dataclass(frozen=True, slots=True)
class BooleanInput:
    """1 for yes, -1 for no, 0 where missing."""

    kind: ClassVar[str] = "boolean"
    name: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The name of its input."""
        return (self.name,)

    def write(self, values: Values, out: NDArray[Any]) -> None:
        """Fill `out`, (n, 1)."""
        out[:, 0] = np.nan_to_num(2 * values.array.astype(np.float64) - 1, nan=0.0)


@dataclass(frozen=True, slots=True)
class CategoryInput:
    """One input per category; one for all of the `rare` ones and for unknown ones; one for missing.

    With `effects`, one more: that of each category and of the rare ones, see `effects`.
    """

    kind: ClassVar[str] = "category"
    name: str
    categories: tuple[str, ...]
    rare: tuple[str, ...] = ()
    tells_missing: bool = False
    effects: tuple[float, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs."""
        names = [f"{self.name} = {category}" for category in self.categories]
        return (*names, *([f"{self.name} = (rare)"] if self.rare else []),
                *([f"{self.name} missing"] if self.tells_missing else []),
                *([f"{self.name} (effect)"] if self.effects else []))  # fmt: skip

    @property
    def words(self) -> tuple[str, ...]:
        """All words that the training rows have."""
        return (*self.categories, *self.rare)

    def write(self, values: Values, out: NDArray[Any]) -> None:
        """Fill `out`, (n, len(inputs)), which is all zeros."""
        places = self.places(values)
        if self.effects:
            out[:, -1] = np.append(self.effects, 0.0)[places]
        if self.tells_missing:
            places = np.where(values.missing, len(self.categories) + bool(self.rare), places)
        there = np.flatnonzero(places >= 0)
        out[there, places[there]] = 1

    def places(self, values: Values) -> NDArray[np.int64]:
        """Return which of the categories each row has, or the place behind them for rare ones; -1 for none, (n,)."""
        known = {word: k for k, word in enumerate(self.categories)}
        rare = len(known) if self.rare else -1
        # The last two are UNKNOWN and MISSING, as indices from the end.
        of_word = np.array([*(known.get(word, rare) for word in values.words), rare, -1], np.int64)
        found: NDArray[np.int64] = of_word[values.array]
        return found


@dataclass(frozen=True, slots=True)
class DateInput:
    """Elapsed time, ``(seconds - center) / scale``; month, weekday and hour as sine and cosine."""

    kind: ClassVar[str] = "date"
    name: str
    center: float
    scale: float
    parts: tuple[Part, ...]
    tells_missing: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs."""
        names = []
        for part in self.parts:
            names += [self.name] if part == "elapsed" else [f"{self.name} {part} sin", f"{self.name} {part} cos"]
        return (*names, *([f"{self.name} missing"] if self.tells_missing else []))

    def write(self, values: Values, out: NDArray[Any]) -> None:
        """Fill `out`, (n, len(inputs)), which is all zeros."""
        gone = values.missing
        seconds = np.where(gone, self.center, values.array)
        place = 0
        for part in self.parts:
            if part == "elapsed":
                out[:, place] = (seconds - self.center) / self.scale
                place += 1
            else:
                angle = 2 * np.pi * phase(seconds, part)
                out[:, place], out[:, place + 1] = np.sin(angle), np.cos(angle)
                place += 2
        out[gone] = 0
        if self.tells_missing:
            out[:, place] = gone


Input: TypeAlias = NumberInput | BooleanInput | CategoryInput | DateInput


def encoded(how: Input, values: Values, dtype: Any = np.float64) -> NDArray[Any]:
    """Return the inputs of a column for each row, (n, len(inputs))."""
    out = np.zeros((len(values.array), len(how.inputs)), dtype)
    how.write(values, out)
    return out


def numbers_of(column: Column, how: Input) -> tuple[float, ...] | None:
    """Return the numbers that the words of a category are, None where they are words, or integers that no float is.

    Examples
    --------
    >>> floor = CategoryInput("floor", ("1", "2.5"))
    >>> numbers_of(Column("floor", "code", numbers=True), floor), numbers_of(Column("floor", "code"), floor)
    ((1.0, 2.5), None)
    """
    if not (isinstance(how, CategoryInput) and column.numbers):
        return None
    try:
        found = tuple(map(float, how.words))
    except ValueError:
        return None
    return found if all(abs(number) < ALL_WHOLE for number in found) else None


TIMES_A_DAY = {"hour": 1, "half day": 2, "third of a day": 3}


def phase(seconds: Floats, part: Part) -> Floats:
    """Return how far a month is in its year, a weekday in its week, or an hour in its day, from 0 to 1.

    Parameters
    ----------
    seconds
        Since 1970-01-01 00:00, (n,).
    part
        "month", "weekday" (Monday is 0) or "hour" (with its minutes); the same circle twice or three times a day.

    Examples
    --------
    >>> noon_of_a_thursday = np.array([12 * 3600.0])
    >>> phase(noon_of_a_thursday, "hour"), (7 * phase(noon_of_a_thursday, "weekday")).round()
    (array([0.5]), array([3.]))
    """
    days = np.floor(seconds / DAY)
    if part in TIMES_A_DAY:
        return (seconds - days * DAY) / DAY * TIMES_A_DAY[part] % 1
    if part == "weekday":
        return ((days + 3) % 7) / 7
    months = np.clip(days, -(10**6), 10**7).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return (months % 12) / 12


def fitted(values: Values, rows: NDArray[np.int64]) -> Input | str:
    """Return how to encode a column, learned from the training rows, or why it is to be left out."""
    column, known = values.column, values.array[rows]
    gone = values.missing[rows]
    if gone.all():
        return "empty in the training rows"
    if column.is_words:
        return _category(values, known, bool(gone.any()))
    there = known[~gone]
    if there.min() == there.max() and not (gone.any() and column.meaning == "boolean"):
        return "constant in the training rows"
    if column.meaning == "boolean":
        return BooleanInput(column.name)
    there = np.asarray(there, np.float64)
    check_size(there, f"column {column.name!r}")
    return _date(column, there, gone) if column.meaning == "date" else _number(column, there, gone)


def _number(column: Column, there: Floats, gone: NDArray[np.bool_]) -> NumberInput:
    median = _median(there)
    mean, scale = mean_and_scale(np.where(gone, median, _spread(there, gone)))
    tells = bool(gone.any())
    if np.abs(there - mean).max() > FAR * scale:
        low, high = np.quantile(there, [0.25, 0.75])
        width = float(high - low) / NORMAL_QUARTILES
        return NumberInput(column.name, median, width if width > 1e-6 * scale else scale, median, True, tells)
    return NumberInput(column.name, mean, scale, median, False, tells)


def _median(values: Floats) -> float:
    """Return what `numpy.median` does, which imports numpy.ma: that takes as long as training on a small table."""
    ordered = np.sort(values)
    return float((ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2)


def _spread(there: Floats, gone: NDArray[np.bool_]) -> Floats:
    """Return the values in their rows."""
    full = np.zeros(len(gone))
    full[~gone] = there
    return full


def _category(values: Values, codes: NDArray[Any], missing: bool) -> CategoryInput | str:
    counts = Counter(codes[codes != MISSING].tolist())
    if len(counts) + missing < 2:
        return "constant in the training rows"
    at_least = min(FEW_ROWS, max(counts.values())) if len(counts) > FEW_CATEGORIES else 1
    ordered = sorted(counts, key=lambda code: (-counts[code], values.words[code]))
    kept = [code for code in ordered if counts[code] >= at_least][:MAX_CATEGORIES]
    known = set(kept)
    rest = [code for code in ordered if code not in known][:MAX_RARE_WORDS]
    if at_least == 1 and len(counts) > FEW_CATEGORIES:
        return f"text with {len(counts):,} different values in {len(codes):,} rows"
    if len(rest) == 1 and len(kept) < MAX_CATEGORIES:
        kept, rest = [*kept, *rest], []
    name = values.column.name
    return CategoryInput(
        name, tuple(sorted(values.words[k] for k in kept)), tuple(sorted(values.words[k] for k in rest)), missing
    )


def _date(column: Column, there: Floats, gone: NDArray[np.bool_]) -> DateInput | str:
    center, scale = mean_and_scale(there)
    parts: list[Part] = []
    if column.written != "time of day":
        parts.append("elapsed")
        parts += ["month"] if np.ptp(phase(there, "month")) > 0 else []
        days = np.floor(there / DAY).astype("datetime64[D]")
        first_of_month = bool((days == days.astype("datetime64[M]")).all())
        parts += ["weekday"] if np.ptp(phase(there, "weekday")) > 0 and not first_of_month else []
    if np.ptp(phase(there, "hour")) > 0:
        # What begins and ends at an hour is beyond one sine, and many rows can tell.
        finer: list[Part] = ["half day", "third of a day"] if len(there) >= FEW_DATES else []
        parts += ["hour", *finer]
    return DateInput(column.name, center, scale, tuple(parts), bool(gone.any()))


def mean_and_scale(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation of values that are not all equal."""
    mean, scale = mean_and_deviation(values)
    return float(mean), max(float(scale), float(np.finfo(np.float64).tiny))


def check_size(values: Floats, what: str) -> None:
    """Raise where a number is so large that its square is infinite."""
    if np.abs(values).max() > LARGEST:
        raise ValueError(f"{what}: needs numbers up to {LARGEST:g}, got {values[np.abs(values).argmax()]:g}")


# --- to and from JSON ----------------------------------------------------------------------------------------------

INPUTS: dict[str, type[Input]] = {cls.kind: cls for cls in get_args(Input)}


def to_json(settings: Any, kind: str) -> dict[str, Any]:
    """Return a frozen dataclass as plain values, with its kind."""
    data = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    return {"kind": kind, **data}


def input_from_json(data: object) -> Input:
    """Build an input from what `to_json` gave; anything else is a ValueError or a TypeError."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind not in INPUTS:
        raise ValueError(f"column: needs a dict of one of the kinds {', '.join(INPUTS)}; got {data!r:.200}")
    found = from_json(INPUTS[str(kind)], data, "column")
    if isinstance(found, CategoryInput) and found.effects:
        wanted = len(found.categories) + bool(found.rare)
        if len(found.effects) != wanted:
            raise ValueError(f"effects of column {found.name!r}: needs {wanted} numbers, got {len(found.effects)}")
    if isinstance(found, DateInput) and not (found.parts and set(found.parts) <= set(get_args(Part))):
        raise ValueError(
            f"parts of column {found.name!r}: needs some of {', '.join(get_args(Part))}; got {found.parts!r}"
        )
    result: Input = found
    return result


def from_json(cls: type[Any], data: dict[str, Any], what: str) -> Any:
    """Build a frozen dataclass of texts, numbers, booleans and tuples of texts from plain values."""
    wanted = [field.name for field in fields(cls)]
    if data.keys() - {"kind"} != set(wanted):
        raise ValueError(f"{what}: needs a dict with exactly {', '.join(['kind', *wanted])}; got {list(data)!r:.200}")
    name = data.get("name")
    arguments: dict[str, Any] = {}
    for field in fields(cls):
        value, label = data[field.name], f"{field.name} of {what} {name!r:.80}"
        if field.type == "float":
            above = 0.0 if field.name == "scale" else None
            arguments[field.name] = check.number(label, value, above=above)
        elif field.type == "bool":
            arguments[field.name] = check.boolean(label, value)
        elif field.type in ("str", "Meaning"):
            arguments[field.name] = text(value, label if field.name != "name" else "name")
        elif field.type == "tuple[float, ...]":
            arguments[field.name] = numbers(value, label)
        else:
            arguments[field.name] = texts(value, label)
    return cls(**arguments)


def text(value: object, what: str) -> str:
    """Return a text; anything else is a ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{what}: needs a text, got {value!r:.80}")
    return value


def texts(value: object, what: str, at_least: int = 0) -> tuple[str, ...]:
    """Return texts that differ; anything else is a ValueError."""
    if not isinstance(value, list) or len(value) < at_least:
        raise ValueError(f"{what}: needs a list of at least {at_least} texts, got {value!r:.80}")
    return tuple(unique(what, [text(item, what) for item in value]))


def numbers(value: object, what: str) -> tuple[float, ...]:
    """Return finite numbers; anything else is a ValueError or a TypeError."""
    if not isinstance(value, list):
        raise ValueError(f"{what}: needs a list of numbers, got {value!r:.80}")
    return tuple(check.number(what, item) for item in value)


def unique(what: str, names: list[str]) -> list[str]:
    """Return names that differ; others are a ValueError."""
    if len(set(names)) < len(names):
        raise ValueError(f"{what}: need to differ, got {names!r:.200}")
    return names
