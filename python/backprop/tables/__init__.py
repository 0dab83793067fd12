"""Tables of any kind: read, understood, learned and predicted. `docs/tables.md` is the guide.

A table goes one way: `sources` (a file, a database, a query, a frame) gives a `Table`, which DuckDB holds; `columns`
decides what its columns mean; `reading` brings them into memory; `preprocessing` makes numbers of them; `model` trains
networks on these and predicts.
"""

from typing import TYPE_CHECKING

from backprop.tables.columns import Asked, Column
from backprop.tables.loading import load_table_model
from backprop.tables.model import TableModel
from backprop.tables.predicting import Prediction, Scored
from backprop.tables.preparing import Plan
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.sources import open_table
from backprop.tables.table import Table
from backprop.tables.targets import Labels, Quantity

if TYPE_CHECKING:
    from backprop.tables.explaining import Explanation
    from backprop.tables.report import Report

__all__ = [
    "Asked",
    "Column",
    "Explanation",
    "Labels",
    "Plan",
    "Prediction",
    "Preprocessing",
    "Quantity",
    "Report",
    "Scored",
    "Table",
    "TableModel",
    "load_table_model",
    "open_table",
]


def __getattr__(name: str) -> object:
    """Import what training does not need, when it is asked for: it would take longer than training on a small table."""
    from importlib import import_module

    home = {"Explanation": "explaining", "Report": "report"}.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
