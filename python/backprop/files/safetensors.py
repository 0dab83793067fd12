"""Safetensors files, written as the library of that name does, and read without trust.

Reading compares every size with the file before it takes memory for it.

The format (https://huggingface.co/docs/safetensors): the length of the header, 8 bytes, little-endian; the header, a
JSON object from tensor names to ``dtype``, ``shape`` and ``data_offsets``, and from ``__metadata__`` to an object of
strings; then the numbers of all tensors, without gaps.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check

_DTYPES = {
    "I8": "<i1", "U8": "<u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_CODES = {np.dtype(code): name for name, code in _DTYPES.items()}
# The library's order of tensors in a file: the largest numbers first, so that each begins at a multiple of its size.
_ORDER = ("U64", "I64", "F64", "F32", "U32", "I32", "F16", "U16", "I16", "I8", "U8")
_MOST_DIMENSIONS = 32  # what every NumPy takes

# What is read takes at most twice the file and 16 MiB of memory. Numbers cannot take more, but JSON can: up to so many
# bytes for a value, for an escaped character, and for a character of it, while Python parses it.
_BYTES_PER_VALUE, _BYTES_PER_ESCAPE, _BYTES_PER_CHARACTER, _MOST_BYTES = 160, 72, 8, 15 << 20


class ForeignError(ValueError):
    """A safetensors file that someone else wrote."""


def written(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return a file with these tensors and metadata, the bytes that ``safetensors.numpy.save`` gives."""
    codes = {name: _CODES[array.dtype.newbyteorder("<")] for name, array in tensors.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    blocks, at = [], 0
    for name in sorted(tensors, key=lambda name: (_ORDER.index(codes[name]), name)):
        block = np.ascontiguousarray(tensors[name], _DTYPES[codes[name]]).reshape(-1).view(np.uint8)
        offsets = [at, at := at + block.size]
        header[name] = {"dtype": codes[name], "shape": list(tensors[name].shape), "data_offsets": offsets}
        blocks.append(block.data)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *blocks])


def read(name: str, key: str) -> tuple[dict[str, NDArray[Any]], str]:
    """Return the tensors of a file, views of one block, and the metadata entry `key`.

    Raises ValueError, with what is wrong, where the file has no such entry or its header does not agree with it.
    """
    if not (stat.S_ISREG(mode := os.stat(name).st_mode) or stat.S_ISDIR(mode)):  # opening a pipe might wait for ever
        raise ValueError("not a regular file")
    with open(name, "rb") as file:  # a missing file, a folder or a lack of rights speak for themselves
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError(f"its header should be {length:,} bytes long, but the file has {size:,}")
        text, entries = _header(file.read(length), key)
        size -= 8 + length
        _check_offsets([(begin, end, name) for name, (_, _, begin, end) in entries.items()], size)
        data = np.empty(size, np.uint8)
        if file.readinto(data.data) != size:
            raise ValueError("it ends too early")
    return {
        name: data[begin:end].view(dtype).reshape(shape) for name, (dtype, shape, begin, end) in entries.items()
    }, text


def _header(raw: bytes, key: str) -> tuple[str, dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]]]:
    """Return the metadata entry `key`, and for each tensor its dtype, its shape, and where it begins and ends."""
    header = parsed(raw)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ is not an object of strings")
    if key not in metadata:
        raise ForeignError(f"its metadata have no entry {key!r}")
    return metadata[key], {name: _entry(reprlib.repr(name), entry) for name, entry in header.items()}


def parsed(raw: bytes) -> Any:
    """Return the value of a JSON text; ValueError for what is none.

    Refused are also a key that occurs twice, numbers that are not finite, deep nesting, and more than `check_room` lets
    through.
    """
    check_room(raw)
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def check_room(raw: bytes) -> None:
    """Raise ValueError where Python might need too much memory for a JSON text."""
    n_values = sum(map(raw.count, (b"[", b"{", b":", b",")))
    needed = _BYTES_PER_VALUE * n_values + _BYTES_PER_ESCAPE * raw.count(b"\\") + _BYTES_PER_CHARACTER * len(raw)
    if needed > _MOST_BYTES + 2 * len(raw):
        raise ValueError(f"more JSON than is safe to read: {n_values:,} values in {len(raw):,} bytes")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key occurs twice in its JSON")
    return result


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text[:40])


def _entry(key: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Return dtype, shape and the first and the last offset of a tensor, which agree with each other."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{key}: needs dtype, shape and data_offsets")
    dtype = np.dtype(_DTYPES[check.choice(f"{key}: dtype", entry["dtype"], _DTYPES)])
    shape = _sizes(f"{key}: shape", entry["shape"], 0, _MOST_DIMENSIONS)
    begin, end = offsets = _sizes(f"{key}: data_offsets", entry["data_offsets"], 2, 2)
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{key}: needs {dtype} {shape}, which is not what is between {offsets}")
    return dtype, shape, begin, end


def _sizes(name: str, values: Any, at_least: int, at_most: int) -> tuple[int, ...]:
    """Return a list of sizes as a tuple."""
    if not isinstance(values, list) or not at_least <= len(values) <= at_most:
        raise ValueError(f"{name}: needs a list of {at_least} to {at_most} integers, got {check.shown(values)}")
    return tuple(check.integer(name, value, at_least=0, at_most=2**63 - 1) for value in values)


def _check_offsets(spans: list[tuple[int, int, str]], size: int) -> None:
    """Raise unless the tensors follow each other without gaps, from 0 to `size`."""
    at = 0
    for begin, end, key in sorted(spans):
        if begin != at:
            raise ValueError(f"{reprlib.repr(key)}: begins at {begin:,}, but what is before it ends at {at:,}")
        at = end
    if at != size:
        raise ValueError(f"its tensors take {at:,} bytes, but the file has {size:,} for them")
