"""Tables: CSV files, and what makes numbers of their columns."""

from backprop.tables.csv import (
    DELIMITERS,
    MAX_COLUMNS,
    MAX_ROW,
    MISSING,
    SNIFFED,
    UNPACKED,
    Cells,
    LineNumbers,
    Table,
    parse_csv,
    parse_number,
    parse_numbers,
    pick,
    read_csv,
    shorten,
)

__all__ = [
    "DELIMITERS",
    "MAX_COLUMNS",
    "MAX_ROW",
    "MISSING",
    "SNIFFED",
    "UNPACKED",
    "Cells",
    "LineNumbers",
    "Table",
    "parse_csv",
    "parse_number",
    "parse_numbers",
    "pick",
    "read_csv",
    "shorten",
]
