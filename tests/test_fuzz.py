"""Files that someone tampered with: every reader returns or raises ValueError, within its memory.

`READERS` lists what reads files. Each has whole files, which are taken apart, changed and put together again, so that
the damage gets past the first check; a folder of tricky files in ``corpus/`` is replayed as it is.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import backprop as bp
import numpy as np
import pytest
from backprop import io
from backprop.files import checkpoints, models
from backprop.tables import open_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
ALLOWANCE = 16 << 20

# On a busy machine nothing is slow.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

Change = tuple[str, int, int]
"""What to do, where, and with which of the odd values."""

ODD_VALUES: list[Any] = [
    None, True, 0, 1, -1, 2, 3.5, 2**31, 2**53, 2**63 - 1, 2**64, 10**400, 1e308, "", "a", "\0", "\ud800", "softmax",
    "float64", "f4,(", [], {}, [[]], [0], [1, 1], [0, 8], [2**32, 2**32], {"a": 1}, "[" * 2000, [0] * 2000,
]  # fmt: skip
ODD_BYTES = [
    b"", b"\0", b"\xff", b'"', b"'", b"\n", b"\r", b",", b";", b"\t", b"{", b"[", b"}", b"NaN", b"-Infinity", b"1e999",
    b"1_0", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'""', b"9" * 5000, b"a" * 140_000, b'"a","a"', b"?", b"\x1a", b"\\u0000",
]  # fmt: skip


# ---- changes ----


def spliced(raw: bytes, change: Change) -> bytes:
    """Bytes put in, put in place of others, taken out, repeated, or cut off."""
    kind, where, what = change
    at, odd = where % (len(raw) + 1), ODD_BYTES[what % len(ODD_BYTES)]
    return {
        "insert": lambda: raw[:at] + odd + raw[at:],
        "replace": lambda: raw[:at] + odd + raw[at + max(1, len(odd)) :],
        "remove": lambda: raw[:at] + raw[at + 1 + what % 9 :],
        "repeat": lambda: raw[:at] + raw[at : at + 1 + what % 99] * (1 + what % 7) + raw[at:],
        "cut": lambda: raw[:at],
    }[kind]()


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: the list or the object that holds it, and its index or key."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else []
    return [place for key in keys for place in ((value, key), *nodes(value[key]))]


def changed_json(value: Any, change: Change) -> Any:
    """A JSON value with one of its parts changed in place."""
    kind, where, what = change
    places = nodes(value)
    if not places:
        return value
    holder, key = places[where % len(places)]
    odd = copy.deepcopy(ODD_VALUES[what % len(ODD_VALUES)])
    if kind == "remove":
        del holder[key]
    elif kind == "repeat" and isinstance(holder, dict):
        holder[str(odd)] = copy.deepcopy(holder[key])
    elif kind == "repeat":
        holder += copy.deepcopy(holder[key : key + 1] * (1 + what % 50))
    elif kind == "insert" and isinstance(holder, list):
        holder.insert(key, odd)
    else:
        holder[key] = odd
    return value


def changed_model(raw: bytes, changes: list[tuple[str, Change]]) -> bytes:
    """A safetensors file changed in its header, in our metadata, in the numbers, or byte by byte."""
    length = int.from_bytes(raw[:8], "little")
    header, data, shift = json.loads(raw[8 : 8 + length]), raw[8 + length :], 0
    metadata = json.loads(header["__metadata__"]["backprop"])
    for part, change in changes:
        if part == "header":
            changed_json(header, change)
        elif part == "metadata":
            changed_json(metadata, change)
        elif part == "data":
            data = spliced(data, change)
        elif part == "length":
            shift = change[1] % 17 - 8
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["backprop"] = json.dumps(metadata)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    whole = (max(0, len(text) + shift)).to_bytes(8, "little") + text + data
    for part, change in changes:
        if part == "bytes":
            whole = spliced(whole, change)
    return whole


def changed_text(raw: bytes, changes: list[tuple[str, Change]]) -> bytes:
    for _, change in changes:
        raw = spliced(raw, change)
    return raw


# ---- readers ----


@cache
def model_files() -> list[bytes]:
    networks = [
        bp.mlp([2, 1], seed=0, backend="reference"),
        bp.Network(
            3,
            [bp.Dense(4, "elu", l2=0.1, bias=False), bp.Dense(3, "tanh"), bp.Dense(2, "softmax", weight_init="zeros")],
            dtype="float64",
            seed=2**100,
            backend="reference",
        ),
    ]
    extras: list[dict[str, Any]] = [{}, {"columns": ["a", "é"], "more": {"x": [1.5, None, True]}}]
    files = []
    for net, extra in zip(networks, extras, strict=True):
        metadata = {**models.architecture(net), "extra": extra}
        arrays = [array for pair in zip(net.weights, net.biases, strict=True) for array in pair if array is not None]
        files.append(
            models.serialized(dict(zip(models._shapes(net.n_inputs, net.layers), arrays, strict=True)), metadata)
        )
    return files


@cache
def tables() -> list[bytes]:
    return [
        b"a,b,species\n1,2.5,x\n2,NA,y\n-3e5,0,x\n",
        b'\xef\xbb\xbfname;"long; name";n\r\n"a ""quoted"" cell";;1\r\n\r\nb;"two\nlines";2\r\n',
        b"x\ty\n" + b"0.5\t1\n" * 30,
    ]


@dataclass(frozen=True)
class Reader:
    """What reads a file, whole files for it, and how to change them."""

    read: Callable[[Path], object]
    files: Callable[[], list[bytes]]
    change: Callable[[bytes, list[tuple[str, Change]]], bytes]


@cache
def checkpoint_files() -> list[bytes]:
    """Of a network that was never trained, and of one in the middle of its training."""
    files = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        for epochs in (0, 3):
            net = bp.Network(2, [bp.Dense(3, "tanh"), bp.Dense(1)], seed=0, backend="reference")
            if epochs:
                net.fit(np.ones((6, 2)), np.ones(6), epochs=epochs, batch_size=2, tolerance=0.0)
            net.save_checkpoint(path)
            files.append(path.read_bytes())
    return files


def fleet() -> bp.Fleet:
    """Members of two shapes, some of which differ in a penalty."""
    layers = [
        bp.Dense(3, "tanh", l2=0.1),
        bp.Dense(3, "tanh", l2=0.2),
        bp.Dense(2, "prelu"),
        bp.Dense(3, "tanh", l2=0.1),
    ]
    networks = [bp.Network(2, [layer, bp.Dense(1)], seed=2**k, backend="reference") for k, layer in enumerate(layers)]
    return bp.Fleet.of(networks)


@cache
def fleet_files() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet"
        fleet().save(path, extra={"columns": ["a", "é"]})
        return [path.read_bytes()]


@cache
def fleet_checkpoint_files() -> list[bytes]:
    """Of a fleet that was never trained, and of one in the middle of its training."""
    files = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        for epochs in (0, 3):
            members = fleet()
            if epochs:
                watch = bp.callbacks.EarlyStopping("r2", restore_best=True)  # which keeps its own counts
                arguments = {"learning_rate": [0.1, 0.2, 0.3, 0.4], "metrics": "r2", "callbacks": [watch]}
                members.fit(np.eye(6, 2), np.arange(6.0), epochs=epochs, batch_size=2, tolerance=0.0, **arguments)
            members.save_checkpoint(path)
            files.append(path.read_bytes())
    return files


def resume(path: Path) -> object:
    """Read a checkpoint as if its checksum were right: whoever changes a file on purpose can mend that too."""
    try:
        whole = models.read(path)[1].get("sha256")
    except ValueError:
        whole = None
    with mock.patch.object(checkpoints, "digest", return_value=whole):
        return bp.resume(path)


READERS = {
    "resume": Reader(resume, checkpoint_files, changed_model),
    "load": Reader(io.load_with_extra, model_files, changed_model),
    "load of fleets": Reader(io.load_with_extra, fleet_files, changed_model),
    "resume of fleets": Reader(resume, fleet_checkpoint_files, changed_model),
    "open_table": Reader(open_table, tables, changed_text),
}


def measured(reader: Reader, path: Path) -> tuple[object, int]:
    """An object, or a ValueError that names the file; and how much memory that took beyond twice the file."""
    tracemalloc.start()
    try:
        result: object = reader.read(path)
    except ValueError as error:
        result = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert not isinstance(result, ValueError) or os.fspath(path) in str(result)
    return result, peak - 2 * path.stat().st_size


def check(reader: Reader, path: Path) -> object:
    """What the reader makes of a file, and not in too much memory."""
    result, beyond = measured(reader, path)
    assert beyond <= ALLOWANCE
    return result


# ---- tests ----

change = st.tuples(
    st.sampled_from(["insert", "replace", "remove", "repeat", "cut"]), st.integers(0, 2**16), st.integers(0, 2**10)
)
changes = st.lists(
    st.tuples(st.sampled_from(["header", "metadata", "metadata", "data", "length", "bytes"]), change),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


each_reader = pytest.mark.parametrize("name", READERS)


@each_reader
def test_whole_files_are_read(name, path):
    for raw in READERS[name].files():
        path.write_bytes(READERS[name].change(raw, []))
        assert not isinstance(check(READERS[name], path), ValueError)


@each_reader
@settings(SETTINGS, max_examples=150)
@given(which=st.integers(0, 9), changes=changes)
def test_changed_files(name, path, which, changes):
    reader = READERS[name]
    files = reader.files()
    path.write_bytes(reader.change(files[which % len(files)], changes))
    check(reader, path)


@each_reader
@settings(SETTINGS, max_examples=50)
@given(raw=st.binary(max_size=200))
def test_files_of_anything(name, path, raw):
    path.write_bytes(raw)
    check(READERS[name], path)


@each_reader
@pytest.mark.slow
def test_ten_minutes_of_changed_files(name, path):
    """``BACKPROP_FUZZ_SECONDS`` for each reader, 600 by default."""
    reader = READERS[name]
    files, n_files, n_read, most = reader.files(), 0, 0, 0
    deadline = time.monotonic() + float(os.environ.get("BACKPROP_FUZZ_SECONDS", "600"))

    @settings(SETTINGS, max_examples=1000, database=None)
    @given(which=st.integers(0, 9), changes=changes)
    def some(which, changes):
        nonlocal n_files, n_read, most
        path.write_bytes(reader.change(files[which % len(files)], changes))
        result, beyond = measured(reader, path)
        assert beyond <= ALLOWANCE
        n_files, n_read, most = n_files + 1, n_read + (not isinstance(result, ValueError)), max(most, beyond)

    while time.monotonic() < deadline:
        some()
    print(
        f"\n{name}: {n_files:,} files, of which {n_read:,} were read and the others refused,"
        f" with at most {most / 2**20:.2f} MiB beyond twice the file"
    )


@pytest.mark.parametrize(
    "path",
    sorted(path for reader in READERS for path in CORPUS.glob(f"{reader}/*")),
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_corpus(path):
    """A name that begins with "read" is of a file that is read; the others are refused."""
    result = check(READERS[path.parent.name], path)
    assert isinstance(result, ValueError) == (not path.name.startswith("read")), result


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [' + "[]," * 40_000 + "[]]}",
        '{"a": [' + "{}," * 40_000 + "{}]}",
        '{"a": [' + '{"":{}},' * 20_000 + "{}]}",
        "{" + ",".join(f'"{k}":{k}' for k in range(1000, 40_000)) + "}",
        '{"a": [' + ",".join('"\u4e00"' for _ in range(80_000)) + "]}",
        '{"a": "' + "a" * 2_000_000 + '\\ud83d\\ude00"}',
        '{"a": "' + "\\\\u0001" * 300_000 + '\U0001f600"}',
        '{"a": [' + "1e5," * 80_000 + "1]}",
    ],
    ids=range(8),
)
def test_json_that_grows_in_memory(text, path):
    for header in (text, json.dumps({"__metadata__": {"backprop": text}}, ensure_ascii=False)):
        raw = header.encode()
        path.write_bytes(len(raw).to_bytes(8, "little") + raw)
        assert isinstance(check(READERS["load"], path), ValueError)


SIZE = 2**19
COLUMNS = 2**12
WIDE_HEADER = ",".join(f"{k:x}" for k in range(COLUMNS))
LARGE_TABLES = {
    "a long row": "a,b,c,d,e\n" + ("a" * 131_000 + ",") * 4 + "a" * 1000 + "\n",
    "one column": "a\n" + "1\n" * (SIZE // 2),
    "no cell has a character": "a,b\n" + ",\n" * (SIZE // 2),
    "carriage returns": "a,b,c\r" + "1,,\r" * (SIZE // 4),
    "blank lines between": "a\n" + "1\n\n\n" * (SIZE // 4),
    "digits": ",".join("abcdefghijklmnopqrstuvwxyz") + "\n" + (",".join("7" * 26) + "\n") * (SIZE // 52),
    "all different": "a,b\n" + "".join(f"{k:x},{-k:x}\n" for k in range(SIZE // 13)),
    "not Latin": "a,b\n" + "\u4e00,\U0001f600\n" * (SIZE // 9),
    "long rows": "a,b,c,d\n" + (("\U0001f600" + "a" * 131_000 + ",") * 3 + "\n") * 5,
    "wide": f"{WIDE_HEADER}\n" + (",".join("1" * COLUMNS) + "\n") * 3,
    "wide, not Latin": WIDE_HEADER + "\n" + " ,".join(["aaaaaaaaa\U0001f600"] * COLUMNS) + " \n",
    "wide, not Latin, header": " ,".join(f"{k:x}aaaaaaaaa\U0001f600" for k in range(COLUMNS))
    + "\n"
    + ",".join(["aaaaaaaaaa\U0001f600"] * COLUMNS),
}
REFUSED_TABLES = {
    "wide, lines in cells": ",".join(f'"{k:x}\n"' for k in range(COLUMNS)) + "\n" + ",".join("1" * COLUMNS),
    "blank lines before": "\n" * SIZE + "a\n1\n",
    "one row": "1," * 2 * SIZE,
    "one cell": "1" * 2 * SIZE,
    "one cell of lines": '"' + "1\n" * SIZE,
    "quotes": '"' * 2 * SIZE,
    "too many columns": "1" + ",1" * COLUMNS,
    "a fault in the last line": "a,b\n" + "1,2\n" * (SIZE // 4) + "1\n",
}


@pytest.mark.parametrize("name", [*LARGE_TABLES, *REFUSED_TABLES])
def test_large_tables(name, path):
    path.write_text((LARGE_TABLES | REFUSED_TABLES)[name], newline="")
    assert isinstance(check(READERS["open_table"], path), ValueError) == (name in REFUSED_TABLES)


@settings(SETTINGS, max_examples=4)
@given(
    header=st.sampled_from(["", "a\n", "a,b\n", "a;b;c\n"]),
    rows=st.text(st.sampled_from('1a,;|\t "\n\r?\u00e9\U0001f600'), min_size=1, max_size=12),
)
def test_large_tables_of_anything(header, rows, path):
    path.write_text(header + rows * (SIZE // len(rows)), newline="")
    check(READERS["open_table"], path)


def test_a_large_model_takes_twice_its_file(path):
    net = bp.Network(1000, [bp.Dense(2000), bp.Dense(500)], backend="reference")  # 12 MB
    net.save(path)
    tracemalloc.start()
    again = bp.load(path, backend="reference")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 2 * path.stat().st_size + (1 << 20)
    np.testing.assert_array_equal(again.parameters, net.parameters)
