"""Networks as tables: text and HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from backprop.base.text import aligned
from backprop.reference.layout import by_layer

if TYPE_CHECKING:
    from backprop.model.model import Model

_HEADER = ("layer", "shape", "parameters")


def summary(network: Model) -> str:
    """Return the table as text; `Network.summary` documents it."""
    # Shapes are flush left beside the layers, numbers flush right.
    return aligned(_HEADER, _rows(network), left=2)


def html(network: Model) -> str:
    """Return the table as HTML, for notebooks."""
    right = ' style="text-align: right"'
    lines = [f"<table><caption>{escape(title(network))}</caption>"]
    for tag, row in (("th", _HEADER), *(("td", row) for row in _rows(network))):
        cells = "".join(
            f"<{tag}{right if k == len(row) - 1 else ''}>{escape(text)}</{tag}>" for k, text in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def title(network: Model) -> str:
    """Return dtype, seed, backend and how far it is trained, in one line."""
    epochs = network.history.epochs
    trained = f"trained for {epochs:,} epoch{'' if epochs == 1 else 's'}" if epochs else "not trained"
    return f"Network: {network.dtype.name}, seed {network.seed}, backend {network.backend}, {trained}"


def _rows(network: Model) -> list[tuple[str, str, str]]:
    """Return a row for each layer, one for the whole, and one for what is trainable if that is not all."""
    rows, trainable = [], 0
    for layer, weights, arrays in zip(
        network.layers, network.weights, by_layer(network._layout, len(network.layers)), strict=True
    ):
        rows.append((repr(layer), " -> ".join(map(str, weights.shape)), f"{sum(array.size for array in arrays):,}"))
        trainable += sum(array.size for array in arrays if array.trainable)
    rows.append(("total", f"{network.n_inputs} -> {network.n_outputs}", f"{network.n_parameters:,}"))
    if trainable != network.n_parameters:
        rows.append(("trainable", "", f"{trainable:,}"))
    return rows
