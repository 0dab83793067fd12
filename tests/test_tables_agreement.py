"""The same rows are the same numbers, whatever they come from."""

from __future__ import annotations

import base64
import datetime

import numpy as np
import pytest
from backprop.tables import TableModel, arrow, open_table
from backprop.tables.columns import decided, notes
from backprop.tables.reading import read

duckdb = pytest.importorskip("duckdb")

ZONE = datetime.timezone(datetime.timedelta(hours=2))
DURATIONS = [datetime.timedelta(seconds=850.5 + 90_000 * k) for k in range(3)]
TIMES = [datetime.datetime(2024, 3, 1, 10 + k, tzinfo=ZONE) for k in range(3)]
SECONDS = [850.5, 90850.5, 180850.5]
IN_UTC = [1709280000.0, 1709283600.0, 1709287200.0]


def numbers_of(source):
    table = open_table(source)
    found = read(table, list(decided(table, list(table.columns)).values()))
    return {name: each.array.tolist() for name, each in found.items()}


def sources(folder):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    yield "mapping", {"lasts": DURATIONS, "when": TIMES}
    frame = polars.DataFrame({"lasts": DURATIONS, "when": TIMES}).with_columns(
        polars.col("when").dt.convert_time_zone("Asia/Tokyo")
    )
    yield "polars", frame
    for unit in ("ms", "us", "ns"):
        path = str(folder / f"{unit}.parquet")
        frame.with_columns(polars.col("lasts").cast(polars.Duration(unit))).write_parquet(path)
        yield f"polars, Parquet, {unit}", path
    pandas_frame = pandas.DataFrame({"lasts": DURATIONS, "when": TIMES})
    yield "pandas", pandas_frame
    for kind, write in (("csv", pandas_frame.to_csv), ("parquet", pandas_frame.to_parquet)):
        path = str(folder / f"pandas.{kind}")
        write(path, index=False)
        yield f"pandas, {kind}", path
    yield "pyarrow", pyarrow.table({"lasts": DURATIONS, "when": TIMES})
    yield "numpy", {"lasts": np.array(DURATIONS, "timedelta64[ms]"), "when": TIMES}
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'America/New_York'")
    yield (
        "relation",
        connection.sql(
            "SELECT to_microseconds(850500000 + k * 90000000000) AS lasts, "
            "TIMESTAMPTZ '2024-03-01 08:00+00' + k * INTERVAL 1 HOUR AS when FROM range(3) AS r(k)"
        ),
    )


def test_durations_are_seconds_and_times_with_a_zone_are_in_utc_wherever_they_come_from(tmp_path):
    for name, source in sources(tmp_path):
        assert numbers_of(source) == {"lasts": SECONDS, "when": IN_UTC}, name


def test_a_table_of_a_frame_says_which_times_are_in_utc(tmp_path):
    found = {name: open_table(source) for name, source in sources(tmp_path)}
    for name in ("polars", "pandas", "pyarrow", "relation"):
        assert found[name].said == ("times of 'when' are in UTC",), name
    table = found["polars, Parquet, us"]
    assert decided(table, ["when"])["when"].why == "dates in UTC"


def test_durations_in_a_text():
    cells = ["-1 days +23:59:59", "3 days", "1 day, 0:14:10", ""]
    np.testing.assert_array_equal(numbers_of({"a": cells})["a"], [-1, 259200, 87250, np.nan])


def test_missing_durations():
    lasts = [DURATIONS[0], None, DURATIONS[2]]
    np.testing.assert_array_equal(numbers_of({"a": lasts})["a"], [850.5, np.nan, 180850.5])
    relation = duckdb.sql("SELECT * FROM (VALUES (INTERVAL '1 day'), (NULL), (INTERVAL '1 hour')) AS t(a)")
    np.testing.assert_array_equal(numbers_of(relation)["a"], [86400, np.nan, 3600])


@pytest.mark.parametrize("schema", [b"", b"?", base64.b64encode(b"\xff" * 40), base64.b64encode(bytes(range(80)))])
def test_a_damaged_schema_of_arrow_has_no_durations(schema):
    assert arrow.durations(schema) == {}


def test_files_with_durations_of_several_units_are_refused(tmp_path):
    polars = pytest.importorskip("polars")
    for unit in ("ms", "us"):
        polars.DataFrame({"a": DURATIONS}, schema={"a": polars.Duration(unit)}).write_parquet(
            tmp_path / f"{unit}.parquet"
        )
    with pytest.raises(ValueError, match="'a' has durations of several units"):
        open_table(str(tmp_path / "*.parquet"))


# --- what could be read otherwise ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": ["2,125", "3,250"]}, "'2,125' is read as 2125, but the comma could be the decimal mark"),
        (
            {"x": ["2,125", "3,250"], "k": ["3", "4"]},
            "'2,125' is read as 2125, but the comma could be the decimal mark",
        ),
        ({"x": ["2.125", "$ 3.250"]}, "'2.125' is read as 2.125, but the point could set off thousands"),
        ({"x": ["2,125", "3,250"], "k": ["3.5", "4"]}, None),
        ({"x": ["2,125", "3,25"]}, None),
        ({"x": ["2,125", "3,250,000"]}, None),
        ({"x": ["2.125", "3.250"]}, None),  # as programs write
        ({"x": ["2 days 00:00:00.500", "3 days"]}, None),
    ],
)
def test_a_decimal_mark_that_nothing_tells_is_said(columns, said):
    found = notes(decided(open_table(columns), list(columns)).values())
    assert found == (() if said is None else (f"x: numbers; {said}",))


def test_in_a_file_of_semicolons_the_comma_is_the_decimal_mark_and_this_is_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x;y\n35,558;36,558\n83,161;84,161\n")
    column = decided(open_table(str(path)), ["x"])["x"]
    assert column.why == "numbers; '35,558' is read as 35.558, but the comma could set off thousands"


DAYS = [str(np.datetime64("2024-01-01") + np.timedelta64(5 * k, "D")) for k in range(40)]


def test_new_rows_that_could_be_read_otherwise():
    data = {"when": DAYS, "x": np.linspace(1, 3, 40), "y": [k % 7 / 3 for k in range(40)]}
    model = TableModel(epochs=2, seed=0).fit(data, target="y")
    either = "when: dates, month/day/year; day and month could be the other way round"
    assert model.predictions({"when": ["03/04/2024"], "x": [1]}).notes == (either,)
    assert model.predictions({"when": ["03/14/2024"], "x": ["2,125"]}).notes == (
        "x: numbers; '2,125' is read as 2125, but the comma could be the decimal mark",
    )
    assert model.predictions({"when": ["2024-03-04"], "x": ["2.125"]}).notes == ()
    month_first = [f"{day[5:7]}/{k % 12 + 1:02d}/2024" for k, day in enumerate(DAYS)]
    model.fit({**data, "when": month_first}, target="y")
    assert model.predictions({"when": ["03/04/2024"], "x": [1]}).notes == (either,)
    assert model.predictions({"when": ["03/14/2024"], "x": [1]}).notes == ()


def test_dates_of_digits_alone_are_dates_for_a_model_that_knows_the_column():
    data = {"when": DAYS, "y": [k % 7 / 3 for k in range(40)]}
    model = TableModel(epochs=2, seed=0).fit(data, target="y")
    wanted = model.predict({"when": ["2024-03-04"]}).tolist()
    for cell in ("20240304", 20240304, 20240304.0):
        assert model.predict({"when": [cell]}).tolist() == wanted
    for cell in ("1234", "202403", 12):
        with pytest.raises(ValueError, match="'when' needs dates"):
            model.predict({"when": [cell]})
