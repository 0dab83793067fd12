"""Which columns of a Parquet file are durations: Parquet has whole numbers for them, and Arrow's schema tells the unit.

pandas, polars and pyarrow keep the schema of the table in the file, as a message of Arrow in a flatbuffer: see Arrow's
``Schema.fbs``. Only names and durations of the fields at the top are read.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass

KEY = "ARROW:schema"
_DURATION = 18  # in the union of types
_PER_SECOND = (1, 1e3, 1e6, 1e9)
_MILLISECONDS = 1  # what a duration without a unit has


def durations(schema: bytes) -> dict[str, float]:
    """Return how many units of each column that is a duration are a second; nothing for what is no schema.

    Parameters
    ----------
    schema
        What a Parquet file has under `KEY`.

    Examples
    --------
    >>> durations(b"not a schema")
    {}
    """
    try:
        message = base64.b64decode(schema, validate=True)
        start = 8 if message.startswith(b"\xff\xff\xff\xff") else 4
        fields = _Node(message[start:]).root().at(2).at(1).items()
        return {
            field.at(0).text(): _PER_SECOND[field.at(3).number(0, "h", _MILLISECONDS)]
            for field in fields
            if field.number(2, "B", 0) == _DURATION
        }
    except (ValueError, LookupError, struct.error):
        return {}


@dataclass(frozen=True, slots=True)
class _Node:
    """A place in a flatbuffer: a table, a vector or a text."""

    buffer: bytes
    place: int = 0

    def root(self) -> _Node:
        return self._pointed(self.place)

    def at(self, k: int) -> _Node:
        """Return what the k-th field of a table points to."""
        field = self._field(k)
        if not field:
            raise LookupError(k)
        return self._pointed(field)

    def number(self, k: int, form: str, default: int) -> int:
        """Return the k-th field of a table."""
        field = self._field(k)
        return self._read(form, field) if field else default

    def items(self) -> list[_Node]:
        """Return the tables of a vector."""
        return [self._pointed(self.place + 4 * (k + 1)) for k in range(self._read("I", self.place))]

    def text(self) -> str:
        first = self.place + 4
        return self.buffer[first : first + self._read("I", self.place)].decode()

    def _pointed(self, place: int) -> _Node:
        return _Node(self.buffer, place + self._read("I", place))

    def _field(self, k: int) -> int:
        """Return where the k-th field of a table is, 0 where it is left out."""
        fields = self.place - self._read("i", self.place)
        if 4 + 2 * k >= self._read("H", fields):
            return 0
        distance = self._read("H", fields + 4 + 2 * k)
        return self.place + distance if distance else 0

    def _read(self, form: str, place: int) -> int:
        return int(struct.unpack_from("<" + form, self.buffer, place)[0])
