"""`TableModel`: a network, or one for each target, with all that it needs to know about the columns of a table."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.history import History
from backprop.io import load_with_extra
from backprop.network import Network
from backprop.tables import engine, preparing, scores, targets
from backprop.tables.columns import Asked
from backprop.tables.engine import Limits
from backprop.tables.preparing import Plan
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.recipe import Settings
from backprop.tables.scores import Scores
from backprop.tables.sources import open_table
from backprop.tables.table import Table
from backprop.tables.targets import Labels, Target, Task
from backprop.tables.training import OnStart, curves, summary, trained

Names: TypeAlias = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says about the rows of a table.

    Parameters
    ----------
    table
        The rows.
    outputs
        Of the network of each target, (n, n_outputs).
    values
        The predictions for each target, (n,): labels, or numbers.
    missing
        Column name to number of missing cells.
    unknown
        Column name to categories that no training row had, and how often.
    """

    table: Table = field(repr=False)
    outputs: Mapping[str, NDArray[Any]]
    values: Mapping[str, NDArray[Any]]
    missing: Mapping[str, int]
    unknown: Mapping[str, Counter[str]]


@dataclass(frozen=True, slots=True)
class Scored:
    """How well a model did on rows with the truth.

    Parameters
    ----------
    scores
        By the names of `backprop.metrics`.
    n_rows
        How many rows are in them.
    unknown, first_unknown
        Labels that no training row had, how often; row and label of the first one. Their rows are not in the scores.
    """

    scores: Scores
    n_rows: int
    unknown: Counter[str]
    first_unknown: tuple[int, str] | None


class TableModel:
    """A network for tables: columns of any kind in, predictions out.

    It reads files, databases, queries and data frames (`backprop.tables.open_table`), decides what the columns mean
    (`backprop.tables.columns`), encodes them, trains, and scores itself on rows that are held out. `docs/tables.md` is
    its guide.

    Parameters
    ----------
    hidden
        Units of the hidden layers; an empty tuple for a linear model. By default (32, 32), or (64, 64) from 2,000
        training rows on.
    activation
        Of the hidden layers; by default ``"relu"``, ``"silu"`` for large tables.
    dtype
        ``"float32"`` or ``"float64"``.
    epochs, batch_size
        By default so many as small and large tables need; ``batch_size="full"`` takes all rows at once.
    optimizer, learning_rate, loss
        By default adam at a rate that suits the table; ``cross_entropy`` or ``squared_error``.
    l2
        Penalty on the weights, ``l2 / 2 * sum(W**2)``; by default 15 / rows, at most 0.05.
    tolerance, patience
        Stop when the loss has not fallen by so much for so many epochs.
    validation_size
        Share of the training rows that decides when to stop; by default 1/8 from 2,000 training rows on, else none.
    test_size
        Share of the rows held out for the score; by default 1/4 of at least 20 rows.
    folds
        Cross-validation with so many folds: all rows are then trained on.
    class_weight
        ``"balanced"``, or a mapping from labels to weights.
    threshold
        Probability from which on the positive one of two classes is predicted; by default 0.5.
    seed
        Of all that is drawn at random.
    n_threads
        Threads for training and reading; ``"auto"``: as many as help.

    Raises
    ------
    TypeError, ValueError
        If a setting is wrong; the message says which.

    Attributes
    ----------
    plan
        What `fit` found in its table, until the model is saved and loaded; None before `fit`.
    preprocessing
        How rows are encoded.
    networks
        The network of each target.
    history
        The record of the training of each target.
    training
        A summary of the training, as it is saved.
    scores
        For each target the scores on the rows held out, or on the training rows where there are none.
    fold_scores
        For each target the scores of each fold.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0, 1, 200)
    >>> houses = {"size": 50 + 100 * x, "sold": ["yes", "no"] * 100, "price": 3 * x + 1}
    >>> model = TableModel(epochs=50, seed=0).fit(houses, target="price")
    >>> model.scores["price"]["r2"] > 0.9
    True
    >>> model.predict({"sold": ["Yes"], "size": [100.0]}).round(0).tolist()
    [2.0]
    """

    def __init__(self, **settings: Any) -> None:
        self.settings: Settings = preparing.checked_settings(**settings)
        self.plan: Plan | None = None
        self.preprocessing: Preprocessing | None = None
        self.networks: dict[str, Network] = {}
        self.history: dict[str, History] = {}
        self.training: dict[str, Any] = {}
        self.scores: dict[str, Scores] = {}
        self.fold_scores: dict[str, list[Scores]] = {}

    def __repr__(self) -> str:
        what = "not fitted" if self.preprocessing is None else f"predicts {', '.join(self.networks)}"
        return f"TableModel({what})"

    # --- learning --------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        target: Names = None,
        *,
        task: Task | None = None,
        numeric: Names = (),
        categorical: Names = (),
        date: Names = (),
        ignore: Names = (),
        id: Names = (),
        weight: str | None = None,
        group: str | None = None,
        time: str | None = None,
        sql: str | None = None,
        table: str | None = None,
        memory: str | int | None = None,
        progress: bool | Literal["auto"] = "auto",
    ) -> TableModel:
        """Learn from a table.

        Parameters
        ----------
        data, sql, table
            See `backprop.tables.open_table`.
        target
            The column to predict, or several.
        task
            ``"classification"`` or ``"regression"``; by default classification for text, booleans and at most 20
            different whole numbers.
        numeric, categorical, date, ignore, id, weight, group, time
            See `backprop.tables.columns.Asked`.
        memory
            What the table may take, such as ``"2GB"``.
        progress
            See `backprop.Network.fit`.

        Returns
        -------
        TableModel
            The model itself.

        Raises
        ------
        OSError, ValueError, TypeError, MemoryError
            If the table cannot be read, a column is not there, or there is nothing to learn; the message says which.
        KeyboardInterrupt
            On Ctrl-C; the model is then as it was.
        """
        plan = self.prepare(
            data, target, task=task, numeric=numeric, categorical=categorical, date=date, ignore=ignore, id=id,
            weight=weight, group=group, time=time, sql=sql, table=table, memory=memory,
        )  # fmt: skip
        return self.train(plan, progress=progress)

    def prepare(
        self, data: Any, target: Names = None, *, task: Task | None = None, sql: str | None = None,
        table: str | None = None, memory: str | int | None = None, weight: str | None = None, group: str | None = None,
        time: str | None = None, name: str | None = None, **names: Names,
    ) -> Plan:  # fmt: skip
        """Read a table, decide what its columns mean and share out its rows: all of `fit` but the training."""
        if task is not None:
            check.choice("task", task, targets.TASKS)
        lists = {key: as_names(key, value) for key, value in names.items()}
        asked = Asked(as_names("target", target), weight=weight, group=group, time=time, **lists)
        opened = open_table(data, sql=sql, table=table, limits=self._limits(memory), name=name)
        return preparing.prepared(opened, asked, self.settings, task)

    def train(
        self, plan: Plan, *, progress: bool | Literal["auto"] = "auto", on_start: OnStart | None = None
    ) -> TableModel:
        """Train on what `prepare` returned; `on_start` is told each target, network and arguments before its `fit`."""
        fold_scores: dict[str, list[Scores]] = {}
        for fold in preparing.fold_plans(plan):
            for target, truth in zip(fold.preprocessing.targets, fold.truths, strict=True):
                network, _ = trained(fold, target, truth, progress)
                outputs = network.predict(fold.X[fold.split.held_out])
                rows = fold.split.held_out
                fold_scores.setdefault(target.name, []).append(
                    self._measured(target, outputs, truth, rows, plan.weight)
                )
        networks, history = {}, {}
        for target, truth in zip(plan.preprocessing.targets, plan.truths, strict=True):
            networks[target.name], history[target.name] = trained(plan, target, truth, progress, on_start)
        self.plan, self.preprocessing = plan, plan.preprocessing
        self.networks, self.history, self.fold_scores = networks, history, fold_scores
        rows = self.scored_rows
        self.scores = {
            target.name: self._measured(target, networks[target.name].predict(plan.X[rows]), truth, rows, plan.weight)
            for target, truth in zip(plan.preprocessing.targets, plan.truths, strict=True)
        }
        self.training = summary(plan, history, self.scores)
        return self

    @property
    def scored_rows(self) -> NDArray[np.int64]:
        """The rows of `plan` that the scores are about: those held out, or the training rows where there are none."""
        plan = self._planned()
        return plan.split.held_out if len(plan.split.held_out) else plan.split.train

    def _measured(
        self, target: Target, outputs: NDArray[Any], truth: NDArray[Any], rows: NDArray[Any], weight: Any
    ) -> Scores:
        weights = None if weight is None or not weight[rows].any() else weight[rows]
        return scores.measured(target, outputs, truth[rows], weights, self.settings.threshold)

    def _limits(self, memory: str | int | None) -> Limits:
        n_threads = self.settings.n_threads
        return Limits(
            None if memory is None else engine.memory_size("memory", memory),
            None if isinstance(n_threads, str) else n_threads,
        )

    # --- predicting ------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, sql: str | None = None, table: str | None = None) -> Any:
        """Return the predictions for the rows of a table.

        Parameters
        ----------
        data, sql, table
            See `backprop.tables.open_table`. The columns may be in any order, and there may be more than are needed.

        Returns
        -------
        array or dict
            (n,): labels (numbers where all labels are numbers, else text) or quantities. With several targets a dict
            from their names to such arrays.

        Raises
        ------
        ValueError
            If a column is not there, or a cell is not what it needs to be.
        """
        found = self.predictions(data, sql=sql, table=table).values
        return next(iter(found.values())) if len(found) == 1 else dict(found)

    def predict_proba(self, data: Any, *, sql: str | None = None, table: str | None = None) -> Any:
        """Return the probabilities of the classes, (n, n_classes), in the order of `classes`; see `predict`.

        Raises
        ------
        ValueError
            If the model predicts a number; otherwise as `predict`.
        """
        found = self.predictions(data, sql=sql, table=table).outputs
        for target in self._fitted().targets:
            if not isinstance(target, Labels):
                raise ValueError(
                    f"predict_proba: needs a classification; the model predicts the number {target.name!r}"
                )
        return next(iter(found.values())) if len(found) == 1 else dict(found)

    @property
    def classes(self) -> Any:
        """The labels that are predicted, in the order of the probabilities; with several targets a dict of them."""
        found = {target.name: target.decoded(np.arange(target.n_outputs))
                 for target in self._fitted().targets if isinstance(target, Labels)}  # fmt: skip
        return next(iter(found.values())) if len(self.networks) == 1 and found else found

    def predictions(
        self, data: Any, *, sql: str | None = None, table: str | None = None, memory: str | int | None = None,
        name: str | None = None,
    ) -> Prediction:  # fmt: skip
        """Return predictions with all that there is to say about them; see `predict`."""
        fitted = self._fitted()
        opened = open_table(data, sql=sql, table=table, limits=self._limits(memory), name=name)
        preparing.check_memory(opened, len(opened), len(fitted.columns), fitted.n_inputs)
        dtype = next(iter(self.networks.values())).dtype
        encoded = fitted.encode(opened, dtype)
        outputs = {name: network.predict(encoded.X) for name, network in self.networks.items()}
        values = {target.name: self._decoded(target, outputs[target.name]) for target in fitted.targets}
        return Prediction(opened, outputs, values, encoded.missing, encoded.unknown)

    def _decoded(self, target: Target, outputs: NDArray[Any]) -> NDArray[Any]:
        if isinstance(target, Labels):
            return target.decoded(scores.classes(target, outputs, self.settings.threshold))
        # As many digits as the network's arithmetic has.
        return target.decoded(outputs).astype(outputs.dtype)

    def evaluate(
        self, data: Any, *, sql: str | None = None, table: str | None = None, weight: str | None = None
    ) -> Any:
        """Return the scores on a table that has the targets.

        Rows without a target, or with a label that no training row had, are not in them; `scored` counts these.

        Returns
        -------
        dict
            By the names of `backprop.metrics`; with several targets a dict of such dicts.

        Raises
        ------
        ValueError
            If no row can be scored; otherwise as `predict`.
        """
        prediction = self.predictions(data, sql=sql, table=table)
        found = {target.name: self.scored(prediction, target, weight).scores for target in self._fitted().targets}
        return next(iter(found.values())) if len(found) == 1 else found

    def scored(self, prediction: Prediction, target: Target, weight: str | None = None) -> Scored:
        """Compare predictions with the target that their table has, as far as it has one."""
        opened = prediction.table
        opened.column(target.name, "target column")
        truth = targets.truth_of(opened, target)
        if not truth.known.any():
            reason = (
                targets.said_unknown(target.name, truth.unknown, truth.first_unknown) if truth.unknown else "is empty"
            )
            raise ValueError(f"column {target.name!r} {reason}")
        rows = np.flatnonzero(truth.known)
        weights = None
        if weight is not None:
            weights = preparing.weights_of(opened, weight)
        found = self._measured(target, prediction.outputs[target.name][rows], truth.encoded, rows, weights)
        return Scored(found, len(rows), truth.unknown, truth.first_unknown)

    def with_threshold(self, threshold: float | None) -> TableModel:
        """Return the model with another threshold; the networks are the same."""
        other = copy.copy(self)
        other.settings = replace(self.settings, threshold=threshold)
        return other

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, in one piece; `backprop.load_table_model` reads it.

        It is a safetensors file of the network, or of a fleet of one for each target, with everything else as JSON in
        its metadata. It can name no code.

        Raises
        ------
        OSError
            If the file cannot be written; what was there before is then still there.
        """
        fitted = self._fitted()
        state = {"threshold": self.settings.threshold, "scores": self.scores, "curves": curves(self.history)}
        extra = {"preprocessing": fitted.to_json(), "training": self.training, "table": state}
        networks = list(self.networks.values())
        if len(networks) > 1:
            from backprop.fleet import Fleet
        (networks[0] if len(networks) == 1 else Fleet.of(networks)).save(path, extra=extra)

    def _fitted(self) -> Preprocessing:
        if self.preprocessing is None:
            raise ValueError("TableModel: needs to be fitted, or loaded from a file; call fit first")
        return self.preprocessing

    def _planned(self) -> Plan:
        if self.plan is None:
            raise ValueError("TableModel: needs the rows that it was fitted on; a model from a file has none")
        return self.plan


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
    name = os.fspath(path)
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
    model.scores = state.get("scores", {})
    return model


def as_names(what: str, given: Names) -> tuple[str, ...]:
    """Return names of columns: one text is one name.

    Examples
    --------
    >>> as_names("target", "price"), as_names("ignore", None)
    (('price',), ())
    """
    names = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{what}: needs names of columns, got {check.shown(name)}")
    return names
