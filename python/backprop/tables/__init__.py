"""Tables of any kind: read, understood, learned and predicted. `docs/tables.md` is the guide.

A table goes one way: `sources` (a file, a database, a query, a frame) gives a `Table`, which DuckDB holds; `columns`
decides what its columns mean; `reading` brings them into memory; `preprocessing` makes numbers of them; `model` trains
networks on these and predicts.
"""

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
