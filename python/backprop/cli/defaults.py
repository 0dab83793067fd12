"""What the command line does where it is not told otherwise."""

from __future__ import annotations

from backprop.reference.losses import LOSSES

# What the defaults aim at: small tables learned well in about a second. Chosen on iris, wine, breast cancer, digits,
# diabetes and Friedman's function.
STEPS = 3000
MIN_EPOCHS, MAX_EPOCHS = 20, 1000
LEARNING_RATES = {
    "sgd": 0.05, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.002, "adagrad": 0.05, "rprop": 0.001, "lion": 0.001,
    "muon": 0.02,
}  # fmt: skip
L2_TIMES_ROWS, MAX_L2 = 15.0, 0.05
TEST_SIZE, MIN_ROWS_TO_SPLIT = 0.25, 20
MAX_CLASSES_SHOWN = 12

LOSSES_OF_TASK = {
    "classification": tuple(name for name, loss in LOSSES.items() if not loss.elementwise),
    "regression": tuple(
        name
        for name, loss in LOSSES.items()
        if loss.elementwise and loss.outputs is None and loss.target_values is None
    ),
}
OUTPUT_OF_TASK = {"classification": "softmax", "regression": "identity"}
METRICS = {
    "accuracy": ("accuracy", ".4f"),
    "r2": ("R²", ".4f"),
    "mean_absolute_error": ("mean absolute error", ".4g"),
}
