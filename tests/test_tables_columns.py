"""What columns mean, what becomes of them, and how it is kept: rules, encoders, targets, JSON."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from backprop.tables import Preprocessing, TableModel, open_table
from backprop.tables.columns import Asked, Column, decided
from backprop.tables.encoders import BooleanInput, CategoryInput, DateInput, NumberInput, encoded, fitted, phase
from backprop.tables.preparing import prepared
from backprop.tables.reading import Values, read
from backprop.tables.recipe import Settings
from backprop.tables.splitting import folds, split_rows
from backprop.tables.table import shorten
from backprop.tables.targets import Labels, Quantity
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("duckdb")

N = 40


def column(*cells):
    """So many rows of these values, one after the other."""
    return [cells[k % len(cells)] for k in range(N)]


COUNT = list(range(N))
DAYS = [f"2024-01-{k % 28 + 1:02d}" for k in range(N)]


# --- the rules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cells", "meaning", "why"),
    [
        ("a", [k / 7 for k in COUNT], "numeric", "numbers"),
        ("a", COUNT, "numeric", "numbers"),
        ("a", column("yes", "No"), "boolean", "yes and no"),
        ("a", column("yes", "no", ""), "boolean", "yes and no"),
        ("a", column(0, 1), "boolean", "yes and no"),
        ("a", column(True, False), "boolean", "yes and no"),
        ("a", column("t", "f", "TRUE", "0"), "boolean", "yes and no"),
        ("a", column("s", "t", "n"), "category", "text with 3 different values"),
        ("a", column("yes", ""), "category", "text with 1 different values"),
        ("a", column(1, 2), "numeric", "numbers"),
        ("a", column("01", "10"), "code", "digits with leading zeros"),
        ("a", column("00501", "94105", ""), "code", "digits with leading zeros"),
        ("a", column("0.5", "01"), "numeric", "numbers"),
        ("order_id", COUNT, "identifier", "whole numbers that differ in every row, and its name"),
        ("OrderId", COUNT, "identifier", "whole numbers that differ in every row, and its name"),
        ("invoice number", COUNT, "identifier", "whole numbers that differ in every row, and its name"),
        ("order_id", [10**17 + k for k in COUNT], "identifier", "whole numbers that differ in every row, and its name"),
        ("number_of_rooms", COUNT, "numeric", "numbers"),
        ("rainfall", COUNT, "numeric", "numbers"),
        ("shop_id", column(11, 12, 13), "code", "whole numbers, and its name"),
        ("zip", column(94105, 10001), "code", "whole numbers, and its name"),
        ("a", [f"u{k}" for k in COUNT], "identifier", "text that differs in every row"),
        ("a", [f"some words {k}" for k in COUNT], "text", "text with 40 different values in 40 rows"),
        ("a", column(*"abcdefghij"), "category", "text with 10 different values"),
        ("a", column("2024-01-01", "2024-02-01"), "date", "dates, ISO 8601"),
        ("a", column("31.12.2024", "01.02.2025"), "date", "dates, day.month.year"),
        ("a", column("31/12/2024", "01/02/2025"), "date", "dates, day/month/year"),
        ("a", column("12/31/2024", "01/02/2025"), "date", "dates, month/day/year"),
        ("a", column("01/02/2024", "03/04/2025"), "date",
         "dates, month/day/year; day and month could be the other way round"),
        ("a", column("12:30", "13:45:10"), "date", "times of day"),
        ("a", column("12:30:00.000000000", "13:45:10.123456789"), "date", "times of day"),  # as Polars writes them
        ("a", column("12:30:00.000000000", "12:30:00.0000000000000"), "category", "text with 2 different values"),
        ("a", column("Jan 5, 2024", "Feb 6, 2024"), "date", "dates, month day, year"),
        ("a", column("2024-01", "2024-02"), "date", "dates, year-month"),
        ("a", column("2024-01-01", "never"), "category", "text with 2 different values"),
        ("a", column(2023, 2024), "numeric", "numbers"),
        ("a", column("", "NA"), "nothing", "empty"),
        ("a", column("x"), "nothing", "constant"),
        ("a", column(7), "nothing", "constant"),
    ],
)  # fmt: skip
def test_rules(name, cells, meaning, why):
    found = decided(open_table({name: cells}), [name])[name]
    assert (found.meaning, found.why) == (meaning, why)


def test_the_user_decides():
    table = open_table({"zip": column("02134", "07030"), "day": column(20240101, 20240215), "t": column(0, 86400)})
    asked = Asked((), numeric=("zip",), date=("day", "t"))
    found = decided(table, list(table.columns), asked)
    assert [each.meaning for each in found.values()] == ["numeric", "date", "date"]
    assert (read(table, [found["day"]])["day"].array[:2] / 86400 - 19723).tolist() == [0, 45]
    assert read(table, [found["t"]])["t"].array[:2].tolist() == [0, 86400]
    assert decided(table, ["zip"], Asked((), categorical=("zip",)))["zip"].meaning == "category"
    with pytest.raises(ValueError, match=r"row 1: column 'a' needs dates of one form \(ISO 8601, .*got 'x'"):
        decided(open_table({"a": ["x", "y"]}), ["a"], Asked((), date=("a",)))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(()), "target: needs the column to predict; data has 'a', 'b', 'y'"),
        (Asked(("z",)), "data: no target column 'z'"),
        (Asked(("y",), ignore=("q",)), "no column to ignore 'q'"),
        (Asked(("y",), ignore=("y",)), "ignore: 'y' is the target"),
        (Asked(("y",), weight="q"), "no weight column 'q'"),
        (Asked(("y",), group="y"), "group: 'y' is the target"),
        (Asked(("y", "y")), "targets: needs names that differ"),
        (Asked(("y",), numeric=("a",), date=("a",)), "'a': is to be taken in two ways"),
        (Asked(("y",), ignore=("a", "b")), r"no column to learn from .*'a': ignored on request; 'b': ignored"),
    ],
)
def test_what_cannot_be_asked(asked, message):
    table = open_table({"a": COUNT, "b": column("u", "v"), "y": column(1.5, 2.5)})
    with pytest.raises(ValueError, match=message):
        prepared(table, asked, Settings())


# --- leaks and other notes -----------------------------------------------------------------------------------------


def test_leaks_are_pointed_out():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 400)
    data = {"code": [f"c{k}" for k in kind], "noise": rng.normal(size=400), "other": rng.integers(0, 5, 400),
            "price in cents": 100.0 * (kind + rng.normal(size=400))}  # fmt: skip
    data["price"] = data["price in cents"] / 100
    plan = prepared(open_table({**data, "kind": [f"kind {k}" for k in kind]}), Asked(("kind",)), Settings())
    assert [note.split()[0] for note in plan.notes] == ["code"]
    plan = prepared(open_table(data), Asked(("price",)), Settings())
    assert [note for note in plan.notes if note.startswith("price in cents alone determines price")]
    assert len(plan.notes) == 1


def test_a_few_words_among_numbers_are_missing_values():
    data = {"a": [*map(str, range(N - 1)), "Oops"], "y": column(1.5, 2.5), "b": column("u", "v", "w")}
    plan = prepared(open_table(data), Asked(("y",)), Settings())
    said = "39 of 40 cells are numbers, but row 40 is 'Oops'"
    assert plan.notes == (f"a: numbers; {said}, which counts as missing",)
    assert plan.missing == {"a": 1}
    again = Preprocessing.from_json(json.loads(json.dumps(plan.preprocessing.to_json())))
    new = {"b": ["u", "v"], "a": ["oops", "7"]}
    assert again.encode(open_table(new)).missing == {"a": 1}
    with pytest.raises(ValueError, match="row 1: column 'a' needs finite numbers, got 'other'"):
        again.encode(open_table({**new, "a": ["other", "7"]}))


def test_almost_numeric():
    said = "not numeric: 39 of 40 cells are numbers, but row 40 is"
    data = {"a": [*map(str, range(N - 1)), "12 kg"], "y": column(1.5, 2.5), "b": column("u", "v", "w")}
    plan = prepared(open_table(data), Asked(("y",)), Settings())
    assert plan.preprocessing.left_out["a"] == f"text with 40 different values in 40 rows; {said} '12 kg'"
    data["a"] = [*(str(k % 9) for k in range(N - 1)), "oops"]
    plan = prepared(open_table(data), Asked(("y",)), Settings())
    assert plan.notes == (f"a is {said} 'oops'",)


# --- encoders ------------------------------------------------------------------------------------------------------


def values(meaning, array, words=(), **more):
    return Values(Column("a", meaning, **more), np.array(array, np.int32 if words else float), tuple(words))


def rows(found):
    return np.arange(len(found.array))


def test_numbers_are_standardised():
    found = values("numeric", [1, 3, np.nan, np.nan, 5, 9])
    how = fitted(found, rows(found))
    assert how == NumberInput("a", pytest.approx(26 / 6), pytest.approx(np.std([1, 3, 4, 4, 5, 9])), 4.0, False, True)
    X = encoded(how, found)
    np.testing.assert_allclose([X[:, 0].mean(), X[:, 0].std()], [0, 1], atol=1e-15)
    np.testing.assert_array_equal(X[:, 1], [0, 0, 1, 1, 0, 0])


def test_outliers_do_not_flatten_the_rest():
    found = values("numeric", [*np.linspace(0, 1, 100), 1e6])
    how = fitted(found, rows(found))
    assert how.bounded
    X = encoded(how, found)[:, 0]
    assert np.ptp(X[:-1]) > 1
    assert X[-1] == pytest.approx(3, abs=1e-3)
    assert np.isfinite(encoded(how, values("numeric", [1e308, -1e308]))).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_any_numbers_are_encoded(numbers):
    found = values("numeric", numbers)
    with contextlib.suppress(ValueError):  # too large
        how = fitted(found, rows(found))
        if not isinstance(how, str):
            assert np.isfinite(encoded(how, found)).all()
            assert np.abs(encoded(how, found)).max() < 10


def test_booleans_and_categories():
    found = values("boolean", [1, 0, np.nan])
    how = fitted(found, rows(found))
    assert how == BooleanInput("a")
    np.testing.assert_array_equal(encoded(how, found), [[1], [-1], [0]])
    found = values("category", [0, 1, -1, 2, 1], ["red", "blue", "green"])
    how = fitted(found, rows(found))
    assert how == CategoryInput("a", ("blue", "green", "red"), (), True)
    np.testing.assert_array_equal(encoded(how, found).argmax(axis=1), [2, 0, 3, 1, 0])
    new = values("category", [0, -2, -1], ["red"])
    np.testing.assert_array_equal(encoded(how, new), [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])


def test_many_categories_of_which_some_are_rare():
    words = [f"w{k}" for k in range(20)]
    codes = [k for k in range(15) for _ in range(5)] + list(range(15, 20))
    found = values("category", codes, words)
    twice = values("category", [k // 2 for k in range(40)], words)
    assert len(fitted(twice, rows(twice)).categories) == 20
    once = values("category", list(range(20)), words)
    assert fitted(once, rows(once)) == "text with 20 different values in 20 rows"
    how = fitted(found, rows(found))
    assert (len(how.categories), len(how.rare), how.inputs[-1]) == (15, 5, "a = (rare)")
    np.testing.assert_array_equal(
        encoded(how, values("category", [0, -2, 1], ["w19", "w0"])).argmax(axis=1), [15, 15, 0]
    )


def test_dates_go_round():
    day = 86400.0
    found = values("date", [k * 7 * 3600.0 for k in range(1900)])
    how = fitted(found, rows(found))
    assert how.parts == ("elapsed", "month", "weekday", "hour")
    assert how.inputs[:3] == ("a", "a month sin", "a month cos")
    X = encoded(how, found)
    assert X.shape == (1900, 7)
    np.testing.assert_allclose(X[:, 1::2] ** 2 + X[:, 2::2] ** 2, 1)
    many = values("date", [k * 7 * 3600.0 for k in range(2000)])
    assert fitted(many, rows(many)).parts[3:] == ("hour", "half day", "third of a day")
    np.testing.assert_allclose(phase(np.array([6 * 3600.0]), "half day"), [0.5])
    assert fitted(values("date", [0, 31 * day, 59 * day]), np.arange(3)).parts == ("elapsed", "month")
    assert fitted(values("date", [0, 3600], written="time of day"), np.arange(2)).parts == ("hour",)
    gone = values("date", [0, np.nan, 5 * day])
    how = fitted(gone, np.arange(3))
    np.testing.assert_array_equal(encoded(how, gone)[1], [0] * (len(how.inputs) - 1) + [1])


@given(st.floats(-6e10, 2.5e11))
def test_phases_of_any_instant(seconds):
    import datetime

    for part, most in (("month", 11 / 12), ("weekday", 6 / 7), ("hour", 1)):
        assert 0 <= phase(np.array([seconds]), part)[0] <= most
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=np.floor(seconds))
    whole = np.array([np.floor(seconds)])
    assert round(float(phase(whole, "month")[0]) * 12) == when.month - 1
    assert round(float(phase(whole, "weekday")[0]) * 7) == when.weekday()


def test_only_training_rows_are_learned_from():
    train = np.array([0, 2, 4])
    one = values("numeric", [1, 3, np.nan, 4, 5, 9])
    other = values("numeric", [1, 77, np.nan, 1e9, 5, np.nan])
    assert fitted(one, train) == fitted(other, train)
    assert fitted(values("category", [0, 1, 0, 1], ["a", "b"]), np.array([0, 2])) == "constant in the training rows"
    assert fitted(values("numeric", [np.nan, 1, np.nan]), np.array([0, 2])) == "empty in the training rows"
    assert fitted(values("numeric", [2, 1, 2]), np.array([0, 2])) == "constant in the training rows"


def test_numbers_that_are_too_large():
    with pytest.raises(ValueError, match=r"column 'a': needs numbers up to 1e\+150, got -1e\+151"):
        fitted(values("numeric", [0, -1e151]), np.arange(2))
    how = fitted(values("numeric", [1, 2, 3]), np.arange(3))
    with pytest.raises(ValueError, match=r"row 2: column 'a' needs numbers in the range .*\(mean 2, .*got -1e\+300"):
        encoded(how, values("numeric", [1, -1e300]))


# --- rows that are held out ----------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.floats(0, 0.99), st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
def test_split_shares_out_every_row(n, share, seed, stratified, random):
    strata = np.array([random.choice("abc") for _ in range(n)]) if stratified else None
    train, held_out = split_rows(n, share, seed, strata=strata)
    assert sorted([*train, *held_out]) == list(range(n))
    np.testing.assert_array_equal(train, split_rows(n, share, seed, strata=strata)[0])
    if strata is None:
        assert len(held_out) == min(round(n * share), n - 1)
    else:
        for each in set(strata.tolist()):
            size = int((strata == each).sum())
            least = min(round(n * share), 1)
            assert (strata[held_out] == each).sum() == min(max(round(size * share), least), size - 1)


def test_split_depends_on_the_seed():
    assert not np.array_equal(split_rows(100, 0.25, 0)[1], split_rows(100, 0.25, 1)[1])


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0, 0.9), st.integers(0, 5))
def test_groups_stay_together(groups, share, seed):
    groups = np.array(groups)
    train, held_out = split_rows(len(groups), share, seed, groups=groups)
    assert len(train)
    assert not set(groups[train]) & set(groups[held_out])
    for train, held_out in folds(len(groups), 3, seed, groups=groups):
        assert not set(groups[train]) & set(groups[held_out])


def test_folds_by_group_are_drawn():
    groups = np.repeat(np.arange(60), 5)
    drawn = [[set(groups[held_out].tolist()) for _, held_out in folds(300, 3, seed, groups=groups)] for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    for parts in drawn:
        assert [len(part) for part in parts] == [20, 20, 20]
        assert all(len({group % 3 for group in part}) == 3 for part in parts)


def test_a_rare_class_is_held_out():
    strata = np.array(["ok"] * 198 + ["fraud"] * 2)
    train, held_out = split_rows(200, 0.25, 0, strata=strata)
    assert sorted(strata[held_out]).count("fraud") == sorted(strata[train]).count("fraud") == 1


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0, 0.9))
def test_the_last_rows_in_time(times, share):
    times = np.array(times)
    train, held_out = split_rows(len(times), share, 0, order=times)
    assert len(train) or len(set(times)) == 1
    if len(train) and len(held_out):
        assert times[train].max() < times[held_out].min()


@given(st.integers(6, 60), st.integers(2, 5), st.booleans())
def test_each_row_is_held_out_in_one_fold(n, k, stratified):
    strata = np.arange(n) % 3 if stratified else None
    found = list(folds(n, k, 0, strata=strata))
    assert sorted(int(row) for _, held_out in found for row in held_out) == list(range(n))
    sizes = [len(held_out) for _, held_out in found]
    assert max(sizes) - min(sizes) <= 1
    for train, held_out in found:
        assert sorted([*train, *held_out]) == list(range(n))


def test_folds_in_time():
    order = np.arange(100)
    for train, held_out in folds(100, 4, 0, order=order):
        assert train.max() < held_out.min()


# --- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["a", "b", "a"], "classification"),
        (["0", "1"] * 5, "classification"),
        (["0.0", "1.0"] * 5, "classification"),
        (list(map(str, range(10))) * 4, "classification"),
        (list(map(str, range(21))) * 4, "regression"),
        (["0.5", "1"] * 5, "regression"),
        (list(map(str, range(8))), "regression"),
        (["1", "2", "3", ""], "regression"),
        ([1.5, 2.5] * 20, "regression"),
        ([True, False] * 20, "classification"),
        (["1,5", "2,5"] * 20, "regression"),
        (["12 %", "15 %"] * 20, "regression"),
        (["01", "02"] * 20, "classification"),
    ],
)
def test_the_task(cells, task):
    data = {"a": np.linspace(0, 1, len(cells)), "y": cells}
    plan = prepared(open_table(data), Asked(("y",)), Settings(test_size=0))
    assert plan.preprocessing.targets[0].task == task


def test_labels():
    numbers = {"a": np.linspace(0, 1, 6), "y": ["1", "1.0", "10", "2", "02.0", ""]}
    plan = prepared(open_table(numbers), Asked(("y",)), Settings(), "classification")
    (target,) = plan.preprocessing.targets
    assert (target.labels, target.label_kind, plan.n_dropped) == (("1", "2", "10"), "number", 1)
    assert plan.truths[0].tolist() == [0, 0, 2, 1, 1]
    assert target.decoded(np.array([2, 0])).tolist() == [10, 1]
    yes = {"a": np.linspace(0, 1, 6), "y": ["Yes", "yes", "No", "YES", "no", "no"]}
    (target,) = prepared(open_table(yes), Asked(("y",)), Settings()).preprocessing.targets
    assert (target.labels, target.positive) == (("no", "YES"), 1)
    rare = {"a": np.linspace(0, 1, 6), "y": ["good", "good", "bad", "good", "good", "bad"]}
    (target,) = prepared(open_table(rare), Asked(("y",)), Settings()).preprocessing.targets
    assert (target.labels, target.positive_label, target.positive) == (("bad", "good"), "bad", 0)


def test_quantities():
    data = {"a": [1.0, 2.0, 3.0], "y": [10.0, 20.0, 60.0]}
    plan = prepared(open_table(data), Asked(("y",)), Settings())
    (target,), (truth,) = plan.preprocessing.targets, plan.truths
    np.testing.assert_allclose([truth.mean(), truth.std()], [0, 1], atol=1e-15)
    np.testing.assert_allclose(target.decoded(truth.astype(np.float32)), [10, 20, 60], rtol=1e-6)


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (["k"] * 30, "classification", "target 'y' is 'k' in every row; it needs at least two classes"),
        ([3.0] * 30, "regression", "target 'y' is '3' in every row; it needs to vary"),
        (["3", "x"] * 15, "regression", "row 2: column 'y' needs finite numbers, got 'x'"),
        ([f"t{k}" for k in range(30)], "classification", "30 classes in 30 rows, too many"),
        (["", "NA"] * 15, None, "target 'y' has no value in any row"),
        (["2024-01-01", "2024-01-02"] * 15, None, "target 'y' holds dates; it needs labels or numbers"),
        ([*map(str, range(29)), "oops"], None, "not numeric: 29 of 30 cells are numbers, but row 30 is 'oops'"),
    ],
)
def test_targets_that_cannot_be_learned(y, task, message):
    data = {"a": np.linspace(0, 1, 30), "y": y}
    with pytest.raises(ValueError, match=message):
        prepared(open_table(data), Asked(("y",)), Settings(), task)


# --- to and from JSON ----------------------------------------------------------------------------------------------

TABLE = {"x": [k / 3 for k in COUNT], "c": column("red", "blue", None), "d": DAYS, "b": column("yes", "no"),
         "id": [f"u{k}" for k in COUNT], "y": column("u", "v", "w"), "z": [k / 7 for k in COUNT]}  # fmt: skip


def preprocessing():
    return prepared(open_table(TABLE), Asked(("y", "z")), Settings()).preprocessing


def test_json_round_trip():
    found = preprocessing()
    assert [type(each) for each in found.inputs] == [NumberInput, CategoryInput, DateInput, BooleanInput]
    assert [type(each) for each in found.targets] == [Labels, Quantity]
    assert found.ids == ("id",)
    assert Preprocessing.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("inputs",), [], "'inputs' needs a list that is not empty"),
        (("inputs", 0, "kind"), "magic", "needs a dict of one of the kinds number, boolean, category, date"),
        (("inputs", 0, "more"), 1, "needs a dict with exactly"),
        (("inputs", 0, "center"), float("nan"), "center of column 'x': needs a finite number"),
        (("inputs", 0, "center"), "1", "center of column 'x': needs a number"),
        (("inputs", 0, "scale"), 0, "scale of column 'x': needs a number > 0"),
        (("inputs", 0, "bounded"), 1, "bounded of column 'x': needs True or False"),
        (("inputs", 0, "name"), 1, "name: needs a text"),
        (("inputs", 0, "name"), "w", "'columns' and 'inputs' need the same names"),
        (("inputs", 1, "categories"), ["a", "a"], "categories of column 'c': need to differ"),
        (("inputs", 1, "categories"), ["a", 1], "categories of column 'c': needs a text, got 1"),
        (("inputs", 1, "effects"), [1.0], "effects of column 'c': needs 2 numbers, got 1"),
        (("inputs", 1, "effects"), [1.0, "a"], "effects of column 'c': needs a number"),
        (("inputs", 1, "effects"), 3, "effects of column 'c': needs a list of numbers"),
        (("inputs", 2, "parts"), ["century"], "parts of column 'd': needs some of elapsed, month"),
        (("columns", 0, "meaning"), "magic", "column 'x': needs a meaning of numeric"),
        (("columns", 0, "written"), "backwards", "column 'x': needs a known way to write dates"),
        (("columns", 0), 3, "column: needs a dict"),
        (("targets", 0, "kind"), "poetry", "target: needs a dict of one of the kinds labels, quantity"),
        (("targets", 0, "labels"), ["a"], "labels of target 'y': needs a list of at least 2"),
        (("targets", 0, "label_kind"), "x", "label_kind of target 'y': needs one of"),
        (("targets", 1, "scale"), -1.0, "scale of target 'z': needs a number > 0"),
        (("targets", 1, "name"), "x", "names of columns: need to differ"),
        (("left_out",), [], "'left_out' needs texts under names"),
        (("ids",), "id", "ids: needs a list"),
    ],
)
def test_json_is_checked(path, value, message):
    data = preprocessing().to_json()
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((ValueError, TypeError), match=message):
        Preprocessing.from_json(data)


@pytest.mark.parametrize("data", [None, [], {}, "text", {"columns": []}])
def test_json_of_another_kind(data):
    with pytest.raises(ValueError, match="preprocessing: "):
        Preprocessing.from_json(data)


def test_long_lists_are_shortened():
    assert shorten(range(25)).endswith("18, 19, ... (25 in all)")


def test_a_model_without_fit():
    for use in (lambda model: model.predict({"a": [1]}), lambda model: model.save("m"), lambda model: model.classes):
        with pytest.raises(ValueError, match="needs to be fitted, or loaded from a file"):
            use(TableModel())


# --- effects -------------------------------------------------------------------------------------------------------


def shops(n=4000, seed=0):
    """Shops 0 to 29, whose number says how large the value is; shop 29 has three rows, one of them at the beginning."""
    rng = np.random.default_rng(seed)
    shop = rng.integers(0, 29, n)
    shop[[0, 1, 2]] = 29
    return {"shop": [f"s{k:02d}" for k in shop], "x": rng.normal(size=n), "y": shop + rng.normal(0, 1, n)}


@pytest.mark.parametrize("labels", [False, True])
def test_effects_of_categories(labels):
    data = shops()
    if labels:
        data["y"] = np.where(data["y"] > 14, "high", "low")
    plan = prepared(open_table(data), Asked(("y",)), Settings(test_size=0.25))
    how = plan.preprocessing.inputs[0]
    assert how.inputs[-1] == "shop (effect)"
    assert len(how.effects) == len(how.categories) + bool(how.rare)
    order = np.argsort(how.effects[: len(how.categories)])
    if not labels:
        assert [how.categories[k] for k in order][:5] == ["s00", "s01", "s02", "s03", "s04"]
    found = plan.preprocessing.encode(open_table({**data, "y": data["y"]}))
    np.testing.assert_array_equal(found.X[plan.split.held_out], plan.X[plan.split.held_out])
    own, whole = plan.X[plan.split.train, :], found.X[plan.split.train, :]
    place = plan.preprocessing.slices["shop"].stop - 1
    assert (own[:, place] != whole[:, place]).mean() > 0.9  # no row sees its own target
    assert np.corrcoef(own[:, place], whole[:, place])[0, 1] > 0.95
    new = plan.preprocessing.encode(open_table({"shop": ["never seen", None], "x": [0.0, 0.0]}))
    assert new.X[1, place] == 0
    assert Preprocessing.from_json(json.loads(json.dumps(plan.preprocessing.to_json()))) == plan.preprocessing


def test_effects_are_for_large_tables_of_one_target():
    few = prepared(open_table({name: cells[:1000] for name, cells in shops().items()}), Asked(("y",)), Settings())
    assert few.preprocessing.inputs[0].effects == ()
    data = shops()
    two = prepared(open_table({**data, "z": data["x"]}), Asked(("y", "z")), Settings())
    assert two.preprocessing.inputs[0].effects == ()


def test_a_target_without_a_pattern_teaches_no_effects():
    """A column of nearly one row for each category would give the target away if rows saw their own."""
    rng = np.random.default_rng(0)
    data = {"shop": [f"s{k // 3}" for k in range(6000)], "y": np.where(rng.random(6000) < 0.5, "a", "b")}
    model = TableModel(seed=0, epochs=5).fit(data, "y")
    assert abs(model.scores["y"]["roc_auc"] - 0.5) < 0.05
    assert model.history["y"].loss[-1] > 0.6
