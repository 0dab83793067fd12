"""Tables of any kind: read, understood, learned and predicted. `docs/tables.md` is the guide.

A table goes one way: `sources` (a file, a database, a query, a frame) gives a `Table`, which DuckDB holds; `columns`
decides what its columns mean; `reading` brings them into memory; `preprocessing` makes numbers of them; `model` trains
networks on these and predicts.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backprop.tables.columns import Asked, Column
    from backprop.tables.explaining import Explanation
    from backprop.tables.loading import load_table_model
    from backprop.tables.model import TableModel
    from backprop.tables.predicting import Prediction, Scored
    from backprop.tables.preparing import Plan
    from backprop.tables.preprocessing import Preprocessing
    from backprop.tables.report import Report
    from backprop.tables.sources import open_table
    from backprop.tables.table import Table
    from backprop.tables.targets import Labels, Quantity

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


_HOMES = {
    "Asked": "columns",
    "Column": "columns",
    "Explanation": "explaining",
    "Labels": "targets",
    "Plan": "preparing",
    "Prediction": "predicting",
    "Preprocessing": "preprocessing",
    "Quantity": "targets",
    "Report": "report",
    "Scored": "predicting",
    "Table": "table",
    "TableModel": "model",
    "load_table_model": "loading",
    "open_table": "sources",
}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for: what a command does not need would take longer than its work."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
