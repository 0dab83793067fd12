"""From a table and what is asked of it to all that training needs: a plan, which can be read before it is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.tables import columns as meanings
from backprop.tables import effects, encoders, preprocessing, reading, recipe, targets, values
from backprop.tables.columns import Asked, Column
from backprop.tables.engine import shown_size
from backprop.tables.preprocessing import Inputs, Preprocessing
from backprop.tables.reading import Values
from backprop.tables.recipe import Settings
from backprop.tables.splitting import Indices, folds, split_rows
from backprop.tables.table import Table
from backprop.tables.targets import Labels, Target, Task

USED = ("numeric", "boolean", "category", "code", "date")
LEAK_ROWS = 50  # with fewer, a column may fit the target by chance
LEAK_CORRELATION = 0.99999
ROW_BYTES = 80  # of a row that has no columns: who is in which part, orders, targets, and predictions
COPIES = 2.5  # of the encoded rows: the whole, the training rows, and what is at work


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows are trained on, which watch the training, and which are held out; indices of the rows of the plan."""

    fit: Indices
    validation: Indices
    held_out: Indices
    how: str

    @property
    def train(self) -> Indices:
        """All rows that are not held out."""
        return np.sort(np.concatenate([self.fit, self.validation]))

    @property
    def scored(self) -> Indices:
        """The rows that scores are about: those held out, or the training rows where there are none."""
        return self.held_out if len(self.held_out) else self.train


@dataclass(frozen=True, slots=True)
class Plan:
    """A table in numbers, shared out, and what was found on the way.

    Parameters
    ----------
    name, said
        What messages call the table, and what is worth telling about how it was read.
    n_columns, n_dropped
        How many columns it has, and rows without a target that are left out.
    settings, asked
        What was asked.
    columns
        What the columns mean that are neither target nor weight nor group.
    preprocessing
        How rows are encoded, learned from the training rows.
    X, truths, weight
        Inputs (n, n_inputs), the encoded targets, and the weights of the rows (n,) or None.
    split
        Who is trained on.
    missing
        How many cells of a column are missing.
    counts
        How often each label of a target occurs.
    notes
        What should be looked at: possible leaks, dates that could be read otherwise.
    values
        The values of all columns that may be inputs, where there are folds.
    groups, order
        Of each row, where rows are split by them.
    """

    name: str
    said: tuple[str, ...]
    n_columns: int
    n_dropped: int
    settings: Settings
    asked: Asked
    columns: Mapping[str, Column]
    preprocessing: Preprocessing
    X: NDArray[Any]
    truths: tuple[NDArray[Any], ...]
    weight: NDArray[np.float64] | None
    split: Split
    missing: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]
    values: Mapping[str, Values] = field(repr=False)
    groups: NDArray[Any] | None = field(default=None, repr=False)
    order: NDArray[Any] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.X)


def prepared(table: Table, asked: Asked, settings: Settings, task: Task | None = None) -> Plan:
    """Return the plan for a table.

    Raises
    ------
    ValueError
        If a column is not there, a cell is not what it needs to be, or there is nothing to learn.
    MemoryError
        If the rows do not fit into the memory that they may take.
    """
    asked.check(table)
    if asked.group is not None and asked.time is not None:
        raise ValueError(
            f"group: needs to be without time, got group {asked.group!r} and time {asked.time!r}; rows are held out by "
            "one of them"
        )
    n_rows = len(table)
    roles = asked.roles()
    names = [name for name in table.columns if name not in roles or roles[name] == "target"]
    check_memory(table, n_rows, len(names), len(names))
    seen = values.evidence(table, names)
    decided = meanings.decided(table, names, asked, seen=seen)
    inputs = [decided[name] for name in names if name not in roles and decided[name].meaning in USED]
    check_memory(table, n_rows, len(inputs), sum(_widest(column, seen[column.name]) for column in inputs))

    target_columns = _target_columns(table, asked, decided, seen, task)
    found = reading.read(table, [*inputs, *target_columns])
    weight, groups, order = _rows_of_roles(table, asked)
    known = np.all([~found[column.name].missing for column in target_columns], axis=0)
    if not known.any():
        raise ValueError(f"{table.name}: target {asked.targets[0]!r} has no value in any row")
    rows = np.flatnonzero(known)
    n_dropped = n_rows - len(rows)
    if n_dropped:
        found = {name: preprocessing.taken(each, rows) for name, each in found.items()}
        weight, groups, order = (None if each is None else each[rows] for each in (weight, groups, order))

    labels = {
        column.name: targets.fitted_labels(table, found[column.name], seen[column.name])
        for column in target_columns
        if column.meaning != "numeric"
    }
    _check_folds(settings.folds, len(rows), asked, groups, order)
    strata = next((labels[name].encode(found[name]) for name in labels), None)
    split = _split(settings, table.name, len(rows), strata, groups, order)
    fitted_targets = tuple(
        labels.get(column.name) or targets.fitted_quantity(table, found[column.name], split.train)
        for column in target_columns
    )
    recipe.check_fits(settings, fitted_targets)
    others = {name: column for name, column in decided.items() if name not in roles}
    source = {column.name: found[column.name] for column in inputs}
    fitted = preprocessing.fitted(source, others, fitted_targets, split.train, roles, table.name)
    truths = tuple(target.encode(found[target.name]) for target in fitted_targets)
    fitted, encoded = _encoded(fitted, source, truths, split.train, settings, table.name)
    notes = _notes(table, fitted, decided, seen, source, truths)
    return Plan(
        table.name, table.said, len(table.columns), n_dropped, settings, asked, others, fitted, encoded.X, truths,
        weight, split, encoded.missing, _counts(fitted_targets, truths), notes,
        source if settings.folds else {}, groups, order,
    )  # fmt: skip


def _encoded(
    fitted: Preprocessing, found: Mapping[str, Values], truths: tuple[NDArray[Any], ...], train: Indices,
    settings: Settings, name: str,
) -> tuple[Preprocessing, Inputs]:  # fmt: skip
    """Return the preprocessing with the effects of categories, and the rows encoded by it."""
    fitted, own = effects.added(fitted, found, truths[0], train, settings.seed)
    encoded = fitted.encoded(found, len(truths[0]), settings.dtype, name)
    for column, values_of_rows in own.items():
        encoded.X[train, fitted.slices[column].stop - 1] = values_of_rows
    return fitted, encoded


def _target_columns(
    table: Table, asked: Asked, decided: Mapping[str, Column], seen: Mapping[str, Any], task: Task | None
) -> list[Column]:
    """Return how the columns of the targets are read."""
    found = []
    for name in asked.targets:
        column = decided[name]
        if table.columns[name].kind == "other":
            raise ValueError(f"{table.name}: target {name!r} holds {column.why}; it needs labels or numbers")
        if not seen[name].there:
            raise ValueError(f"{table.name}: target {name!r} has no value in any row")
        if column.why == "constant":
            value = reading.read(table, [Column(name, "category")])[name].words[0]
            needs = "to vary" if task == "regression" else "at least two classes"
            raise ValueError(f"{table.name}: target {name!r} is {value!r} in every row; it needs {needs}")
        own: Task = task or targets.infer_task(column, seen[name])
        if name in asked.numeric or name in asked.categorical:
            own = "regression" if name in asked.numeric else "classification"
        found.append(targets.target_column(column, own, seen[name], table.name))
    return found


def _rows_of_roles(table: Table, asked: Asked) -> tuple[Any, Any, Any]:
    """Return the weights, the groups and the times of the rows, each None where it was not asked for."""
    weight = None if asked.weight is None else weights_of(table, asked.weight)
    groups = order = None
    if asked.group is not None:
        groups = reading.read(table, [Column(asked.group, "category")])[asked.group].array
    if asked.time is not None:
        column = meanings.decided(table, [asked.time])[asked.time]
        if column.meaning not in ("date", "numeric", "identifier", "code") or (column.is_words and not column.numbers):
            column = replace(column, meaning="numeric")
        column = column if column.meaning == "date" else replace(column, meaning="numeric")
        try:
            order = reading.read(table, [column])[asked.time].array
        except ValueError as error:
            raise ValueError(f"time: needs a column of dates or numbers; {error}") from error
        if np.isnan(order).any():
            row = int(np.isnan(order).argmax())
            raise ValueError(f"{table.name}, row {row + 1:,}: time {asked.time!r} is missing")
    return weight, groups, order


def weights_of(table: Table, name: str) -> NDArray[np.float64]:
    """Return the weights of the rows, (n,); ValueError where one is missing or negative."""
    table.column(name, "weight column")
    mark = meanings.decided(table, [name])[name].decimal
    weight = np.asarray(reading.read(table, [Column(name, "numeric", decimal=mark)])[name].array, np.float64)
    wrong = np.isnan(weight) | (weight < 0)
    if wrong.any():
        row = int(wrong.argmax())
        came = "none" if np.isnan(weight[row]) else f"{weight[row]:g}"
        raise ValueError(f"{table.name}, row {row + 1:,}: weight {name!r} needs a number >= 0, got {came}")
    if not weight.any():
        raise ValueError(f"{table.name}: weight {name!r} is 0 in every row")
    return weight


def _split(settings: Settings, name: str, n: int, strata: Any, groups: Any, order: Any) -> Split:
    share = 0.0 if settings.folds else recipe.held_out_share(settings, n)
    how = "the last ones in time" if order is not None else "whole groups" if groups is not None else (
        "the same share of each class" if strata is not None else "drawn at random")  # fmt: skip
    train, held_out = split_rows(n, share, settings.seed, strata=strata, groups=groups, order=order)
    if share and not len(held_out):
        raise ValueError(f"test_size: {share:g} of {n:,} rows is not a row; give more, or 0 for none")
    own = recipe.validation_share(settings, len(train))
    part = {"strata": strata, "groups": groups, "order": order}
    inner = {key: None if each is None else each[train] for key, each in part.items()}
    fit, validation = split_rows(len(train), own, settings.seed + 1, **inner)
    if settings.validation_size and not len(validation):
        raise ValueError(f"validation_size: {own:g} of {len(train):,} rows is not a row; give more, or 0 for none")
    return Split(train[fit], train[validation], held_out, how)


def _check_folds(n_folds: int | None, n: int, asked: Asked, groups: Any, order: Any) -> None:
    """Raise where there are more folds than what is shared out among them."""
    if n_folds is None:
        return
    found, what, most = n, "the table has {:,} rows with a target", n
    if order is not None:
        found = len(np.unique(order))
        what, most = f"time {asked.time!r} has {{:,}} different times", found - 1  # the first part is not held out
    elif groups is not None:
        found = most = len(np.unique(groups))
        what = f"group {asked.group!r} has {{:,}} groups"
    if n_folds > most:
        raise ValueError(f"folds: {what.format(found)}, enough for at most {most:,} folds; got {n_folds:,}")


def fold_plans(plan: Plan) -> list[Plan]:
    """Return the plans of a cross-validation: for each fold what its training rows teach, and its rows held out."""
    if plan.settings.folds is None:
        return []
    strata = next((truth for target, truth in zip(plan.preprocessing.targets, plan.truths, strict=True)
                   if isinstance(target, Labels)), None)  # fmt: skip
    part = {"strata": strata, "groups": plan.groups, "order": plan.order}
    found = []
    for train, held_out in folds(len(plan), plan.settings.folds, plan.settings.seed, **part):
        if not len(train) or not len(held_out):
            raise ValueError(f"folds: {plan.settings.folds} of {len(plan):,} rows leave one without rows")
        own = recipe.validation_share(plan.settings, len(train))
        inner = {key: None if each is None else each[train] for key, each in part.items()}
        fit, validation = split_rows(len(train), own, plan.settings.seed + 1, **inner)
        fitted_targets, truths = _again(plan, train)
        roles = plan.asked.roles()
        fitted = preprocessing.fitted(plan.values, plan.columns, fitted_targets, train, roles, plan.name)
        fitted, encoded = _encoded(fitted, plan.values, truths, train, plan.settings, plan.name)
        split = Split(train[fit], train[validation], held_out, plan.split.how)
        found.append(replace(plan, preprocessing=fitted, X=encoded.X, truths=truths, split=split))
    return found


def _again(plan: Plan, train: Indices) -> tuple[tuple[Target, ...], tuple[NDArray[Any], ...]]:
    """Return the targets, quantities scaled by other training rows, and their truths."""
    fitted: list[Target] = []
    truths: list[NDArray[Any]] = []
    for target, truth in zip(plan.preprocessing.targets, plan.truths, strict=True):
        if isinstance(target, Labels):
            fitted.append(target)
            truths.append(truth)
        else:
            numbers = target.decoded(truth)
            center, scale = encoders.mean_and_scale(numbers[train])
            scaled = replace(target, center=center, scale=scale)
            fitted.append(scaled)
            truths.append(((numbers - scaled.center) / scaled.scale)[:, None])
    return tuple(fitted), tuple(truths)


def _counts(fitted_targets: tuple[Target, ...], truths: tuple[NDArray[Any], ...]) -> dict[str, dict[str, int]]:
    found = {}
    for target, truth in zip(fitted_targets, truths, strict=True):
        if isinstance(target, Labels):
            numbers = np.bincount(truth, minlength=target.n_outputs).tolist()
            found[target.name] = dict(zip(target.labels, numbers, strict=True))
    return found


# --- memory --------------------------------------------------------------------------------------------------------


def check_memory(table: Table, n_rows: int, n_columns: int, n_inputs: int) -> None:
    """Raise before anything is read if rows do not fit into the memory that they may take."""
    memory = table.limits.memory
    need = n_rows * (ROW_BYTES + 8 * n_columns + COPIES * 4 * n_inputs)
    if memory is not None and need > memory:
        most = int(n_rows * memory / need * 0.9)
        raise MemoryError(
            f"{table.name}: {n_rows:,} rows of {n_columns:,} columns, which are {n_inputs:,} inputs or more, need some "
            f"{shown_size(need)}, and --memory allows {shown_size(memory)}; leave out columns (--ignore), or take at "
            f'most {most:,} rows (--sql "SELECT * FROM data USING SAMPLE {most} ROWS")'
        )


def _widest(column: Column, seen: values.Evidence) -> int:
    if column.is_words:
        return min(seen.distinct, encoders.MAX_CATEGORIES) + 1
    return {"numeric": 1, "boolean": 1, "date": 7}[column.meaning]


# --- what should be looked at --------------------------------------------------------------------------------------


def _notes(
    table: Table, fitted: Preprocessing, columns: Mapping[str, Column], seen: Mapping[str, Any],
    found: Mapping[str, Values], truths: tuple[NDArray[Any], ...],
) -> tuple[str, ...]:  # fmt: skip
    notes = [*meanings.notes(columns[each.name] for each in (*fitted.columns, *fitted.targets))]
    for column in fitted.columns:
        if column.is_words and (note := meanings.almost_numeric(table, column, seen[column.name])):
            notes.append(f"{column.name} is {note}")
    for target, truth in zip(fitted.targets, truths, strict=True):
        for column in fitted.columns:
            if determines(found[column.name], target, truth):
                notes.append(
                    f"{column.name} alone determines {target.name}: is it known before {target.name} is? "
                    "If not, ignore it"
                )
    return tuple(notes)


def determines(found: Values, target: Target, truth: NDArray[Any]) -> bool:
    """Tell whether a column fixes the target by itself: a leak, or a rule.

    Words and truth values fix it where all rows of each have one target, and each has ten rows on average; numbers
    where they are the target but for scale and shift.
    """
    there = ~found.missing
    if there.sum() < LEAK_ROWS:
        return False
    if found.column.is_words or found.column.meaning == "boolean":
        keys, y = found.array[there].astype(np.int64), np.asarray(truth[there], np.float64).reshape(-1)
        n = int(keys.max()) + 1
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        np.minimum.at(low, keys, y)
        np.maximum.at(high, keys, y)
        used = high >= low
        return bool((low[used] == high[used]).all()) and len(keys) >= 10 * used.sum() and float(np.ptp(y)) > 0
    x = np.asarray(found.array[there], np.float64)
    y = np.asarray(truth[there], np.float64).reshape(-1)
    if (isinstance(target, Labels) and target.n_outputs > 2) or x.std() == 0 or y.std() == 0:
        return False
    with np.errstate(all="ignore"):
        return bool(abs(np.corrcoef(x, y)[0, 1]) > LEAK_CORRELATION)


def check_roles(given: Iterable[str]) -> None:
    """Raise TypeError for a name that is no role of columns, and tell where it belongs.

    Examples
    --------
    >>> check_roles(["test_size"])
    Traceback (most recent call last):
    ...
    TypeError: fit: test_size is a setting of the model: TableModel(test_size=...)
    """
    for name in given:
        if name in Settings.__dataclass_fields__:
            raise TypeError(f"fit: {name} is a setting of the model: TableModel({name}=...)")
        if name not in Asked.__dataclass_fields__:
            raise TypeError(f"fit: has no argument {name!r}")


def checked_settings(**given: Any) -> Settings:
    """Return settings; a name that is none is a TypeError that lists those that are."""
    known = Settings.__dataclass_fields__
    for name in given:
        if name not in known:
            raise TypeError(f"TableModel: has no setting {name!r}; it has {', '.join(known)}")
    return Settings(**given)
