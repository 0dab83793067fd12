"""Models from files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from backprop.base.atomic import path_name
from backprop.io import load_with_extra
from backprop.network import Network
from backprop.tables.model import TableModel
from backprop.tables.preprocessing import Preprocessing


def load_table_model(path: str | os.PathLike[str], *, backend: str | None = None) -> TableModel:
    """Read a model from a file that `TableModel.save` or ``backprop train`` wrote.

    Parameters
    ----------
    path
        The file.
    backend
        See `backprop.Network`.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no such file.

    Examples
    --------
    >>> import os, tempfile
    >>> model = TableModel(epochs=5, seed=0).fit({"a": [1, 2, 3, 4], "b": ["x", "y", "x", "y"]}, target="b")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     model.save(path)
    ...     again = load_table_model(path)
    >>> bool((again.predict_proba({"a": [3]}) == model.predict_proba({"a": [3]})).all())
    True
    """
    name = path_name(path)
    found, extra = load_with_extra(path, backend=backend)
    if "preprocessing" not in extra:
        what = (
            "a network without preprocessing; needs a model"
            if isinstance(found, Network)
            else "a fleet; needs a network"
        )
        raise ValueError(f"{name}: {what} that `backprop train` wrote")
    try:
        model = _assembled(found, extra)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: not a valid model file: {error}") from error
    return model


def _assembled(found: Any, extra: Mapping[str, Any]) -> TableModel:
    fitted = Preprocessing.from_json(extra["preprocessing"])
    training, state = extra.get("training", {}), extra.get("table", {})
    for what, value in (("training", training), ("table", state)):
        if not isinstance(value, dict):
            raise TypeError(f"{what}: needs a dict, got {value!r:.80}")
    networks = [found] if isinstance(found, Network) else list(found)
    if len(networks) != len(fitted.targets):
        raise ValueError(f"{len(fitted.targets)} targets, but {len(networks)} networks")
    for target, network in zip(fitted.targets, networks, strict=True):
        sizes = (fitted.n_inputs, target.n_outputs)
        if sizes != (network.n_inputs, network.n_outputs):
            raise ValueError(
                f"preprocessing for {sizes}, network of {(network.n_inputs, network.n_outputs)} inputs, outputs"
            )
    model = TableModel(threshold=state.get("threshold"))
    model.preprocessing, model.training = fitted, training
    model.networks = {target.name: network for target, network in zip(fitted.targets, networks, strict=True)}
    model.scores, model.curves = state.get("scores", {}), state.get("curves", {})
    return model
