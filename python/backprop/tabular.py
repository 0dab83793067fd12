"""What makes numbers of a table's columns."""

from backprop.tables.preprocessing import (
    FARTHEST,
    LARGEST,
    MAX_CATEGORIES,
    MAX_INTEGER_CLASSES,
    TASKS,
    CategoricalColumn,
    Inputs,
    Labels,
    NumericColumn,
    Preprocessing,
    Quantity,
    almost_numeric,
    class_labels,
    fit_preprocessing,
    infer_task,
    split_rows,
)

__all__ = [
    "FARTHEST",
    "LARGEST",
    "MAX_CATEGORIES",
    "MAX_INTEGER_CLASSES",
    "TASKS",
    "CategoricalColumn",
    "Inputs",
    "Labels",
    "NumericColumn",
    "Preprocessing",
    "Quantity",
    "almost_numeric",
    "class_labels",
    "fit_preprocessing",
    "infer_task",
    "split_rows",
]
