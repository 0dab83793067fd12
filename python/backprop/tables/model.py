"""`TableModel`: a network, or one for each target, with all that it needs to know about the columns of a table."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.history import History
from backprop.network import Network
from backprop.tables import engine, predicting, preparing, recipe, scores, targets
from backprop.tables.columns import Asked, Names
from backprop.tables.engine import Limits
from backprop.tables.predicting import Prediction, Scored
from backprop.tables.preparing import Plan
from backprop.tables.preprocessing import Inputs, Preprocessing
from backprop.tables.recipe import Settings
from backprop.tables.scores import Scores
from backprop.tables.sources import open_table
from backprop.tables.table import Table
from backprop.tables.targets import Labels, Target, Task
from backprop.tables.training import OnStart, all_trained

if TYPE_CHECKING:
    from backprop.tables.report import Report


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
        Penalty on the weights, ``l2 / 2 * sum(W**2)``; by default 15 / rows, at most 0.05, or the best of
        three for small tables.
    tolerance, patience
        Stop when the loss has not fallen by so much for so many epochs; `patience` is about validation rows, too.
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
    curves
        For each target the losses of the epochs, thinned out where there are many.

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

    __signature__ = inspect.signature(Settings)

    def __init__(self, **settings: Any) -> None:
        self.settings: Settings = preparing.checked_settings(**settings)
        self.plan: Plan | None = None
        self.preprocessing: Preprocessing | None = None
        self.networks: dict[str, Network] = {}
        self.history: dict[str, History] = {}
        self.training: dict[str, Any] = {}
        self.scores: dict[str, Scores] = {}
        self.fold_scores: dict[str, list[Scores]] = {}
        self.curves: dict[str, dict[str, list[float]]] = {}

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
        **others: Any,
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
        others
            There are none: this is where a setting of the model is told apart from a misspelt name.

        Returns
        -------
        TableModel
            The model itself.

        Raises
        ------
        OSError, ValueError, TypeError, MemoryError
            If the table cannot be read, a column is not there, a setting does not fit the target, there is nothing to
            learn, or the loss ended far above its start; the message says which.
        KeyboardInterrupt
            On Ctrl-C; the model is then as it was.
        """
        plan = self.prepare(
            data, target, task=task, numeric=numeric, categorical=categorical, date=date, ignore=ignore, id=id,
            weight=weight, group=group, time=time, sql=sql, table=table, memory=memory, progress=progress, **others,
        )  # fmt: skip
        return self.train(plan, progress=progress)

    def prepare(
        self, data: Any, target: Names = None, *, task: Task | None = None, sql: str | None = None,
        table: str | None = None, memory: str | int | None = None, weight: str | None = None, group: str | None = None,
        time: str | None = None, name: str | None = None, progress: bool | Literal["auto"] = False, **names: Names,
    ) -> Plan:  # fmt: skip
        """Read a table, decide what its columns mean and share out its rows: all of `fit` but the training."""
        if task is not None:
            check.choice("task", task, targets.TASKS)
        preparing.check_roles(names)
        asked = Asked.of(targets=target, weight=weight, group=group, time=time, **names)
        limits = replace(self._limits(memory), progress=bool(progress))
        opened = open_table(data, sql=sql, table=table, limits=limits, name=name)
        return preparing.prepared(opened, asked, self.settings, task)

    def train(
        self, plan: Plan, *, progress: bool | Literal["auto"] = "auto", on_start: OnStart | None = None
    ) -> TableModel:
        """Train on what `prepare` returned; `on_start` is told each target, network and arguments before its `fit`."""
        found = all_trained(plan, self.settings.threshold, progress, on_start)
        vars(self).update(found)  # all at once: Ctrl-C leaves the model as it was
        return self

    @property
    def scored_rows(self) -> NDArray[np.int64]:
        """The rows of `plan` that the scores are about: those held out, or the training rows where there are none."""
        return self._planned().split.scored

    def _limits(self, memory: str | int | None) -> Limits:
        n_threads, size = self.settings.n_threads, None if memory is None else engine.memory_size("memory", memory)
        return Limits(size, None if isinstance(n_threads, str) else n_threads)

    # --- predicting ------------------------------------------------------------------------------------------------

    def predict(
        self, data: Any, *, sql: str | None = None, table: str | None = None, threshold: float | None = None
    ) -> Any:
        """Return the predictions for the rows of a table.

        Parameters
        ----------
        data, sql, table
            See `backprop.tables.open_table`. The columns may be in any order, and there may be more than are needed. A
            mapping from columns to single values is one row.
        threshold
            Probability from which on the positive one of two classes is predicted; by default that of the model.

        Returns
        -------
        array or dict
            (n,): labels (numbers where all labels are, booleans for true and false, else text) or quantities. With
            several targets a dict
            from their names to such arrays.

        Raises
        ------
        ValueError
            If a column is not there, or a cell is not what it needs to be.
        """
        model = self if threshold is None else self.with_settings(threshold=threshold)
        return _one_or_all(model.predictions(data, sql=sql, table=table).values)

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
        return _one_or_all(found)

    @property
    def classes(self) -> Any:
        """The labels that are predicted, in the order of the probabilities; with several targets a dict of them."""
        found = {target.name: target.decoded(np.arange(target.n_outputs))
                 for target in self._fitted().targets if isinstance(target, Labels)}  # fmt: skip
        return _one_or_all(found) if len(self.networks) == 1 else found

    def predictions(
        self, data: Any, *, sql: str | None = None, table: str | None = None, memory: str | int | None = None,
        name: str | None = None,
    ) -> Prediction:  # fmt: skip
        """Return predictions with all that there is to say about them; see `predict`."""
        fitted = self._fitted()
        if isinstance(data, Mapping):
            data = {column: value if _is_column(value) else [value] for column, value in data.items()}
        opened = open_table(data, sql=sql, table=table, limits=self._limits(memory), name=name)
        preparing.check_memory(opened, len(opened), len(fitted.columns), fitted.n_inputs)
        encoded = self._encoded(opened)
        outputs = {name: network.predict(encoded.X) for name, network in self.networks.items()}
        threshold = self.settings.threshold
        values = {target.name: scores.decoded(target, outputs[target.name], threshold) for target in fitted.targets}
        return Prediction(opened, outputs, values, encoded.missing, encoded.unknown, encoded.notes)

    def _encoded(self, opened: Table) -> Inputs:
        return self._fitted().encode(opened, next(iter(self.networks.values())).dtype)

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
        found = self.predictions(data, sql=sql, table=table)
        return _one_or_all({each.name: self.scored(found, each, weight).scores for each in self._fitted().targets})

    def scored(self, prediction: Prediction, target: Target, weight: str | None = None) -> Scored:
        """Compare predictions with the target that their table has, as far as it has one."""
        return predicting.scored(prediction, target, weight, self.settings.threshold)

    # --- looking into it -------------------------------------------------------------------------------------------

    def explain(self, row: Any) -> Any:
        """Return what each column of a row contributes to its prediction.

        Parameters
        ----------
        row
            A mapping from columns to values, or a frame of one row.

        Returns
        -------
        Explanation or dict
            With several targets a dict from their names.

        Raises
        ------
        ValueError
            If it is not one row; otherwise as `predict`.

        Examples
        --------
        >>> data = {"a": [1.0, 2.0, 3.0, 4.0] * 25, "b": [0.5, 0.1] * 50, "y": [10.0, 20.0, 30.0, 40.0] * 25}
        >>> found = TableModel(seed=0).fit(data, "y", task="regression").explain({"a": 4.0, "b": 0.3})
        >>> list(found.contributions), round(found.value, -1)
        (['a', 'b'], 40.0)
        """
        from backprop.tables import explaining  # not needed for training, as the report

        found = self.predictions(row)
        if len(found.table) != 1:
            raise ValueError(f"row: needs one row, got {len(found.table):,}")
        fitted, x = self._fitted(), self._encoded(found.table).X
        each = {
            target.name: explaining.explained(
                self.networks[target.name], fitted, target, x, found.values[target.name].tolist()[0]
            )
            for target in fitted.targets
        }
        return _one_or_all(each)

    def report(
        self, data: Any = None, *, sql: str | None = None, table: str | None = None, memory: str | int | None = None,
        name: str | None = None,
    ) -> Report:  # fmt: skip
        """Return what there is to know about the model.

        Parameters
        ----------
        data, sql, table
            Rows with the targets, see `backprop.tables.open_table`. By default the rows held out from `fit`, or the
            training rows where there are none.
        memory
            What the table may take.
        name
            What the rows are called.

        Returns
        -------
        Report
            ``print`` shows its text, `Report.save` writes a page.

        Raises
        ------
        ValueError
            If there are no rows with the truth; otherwise as `predict`.
        """
        from backprop.tables import findings
        from backprop.tables.report import Report

        fitted = self._fitted()
        if data is None and sql is None:
            rows = findings.held_out(self._planned())
        else:
            opened = open_table(data, sql=sql, table=table, limits=self._limits(memory), name=name)
            rows = findings.rows_of(opened, fitted, self._encoded(opened), self.training)
        return Report(findings.found(self.networks, fitted, rows, self.settings.threshold, self.training, self.curves))

    def with_settings(self, **settings: Any) -> TableModel:
        """Return the model with another ``threshold`` or ``n_threads``; the networks are the same."""
        if others := settings.keys() - {"threshold", "n_threads"}:
            raise TypeError(f"with_settings: takes threshold and n_threads, got {', '.join(sorted(others))}")
        other = copy.copy(self)
        other.settings = replace(self.settings, **settings)
        if self.preprocessing is not None:
            recipe.check_fits(other.settings, self.preprocessing.targets)
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
        state = {"threshold": self.settings.threshold, "scores": self.scores, "curves": self.curves}
        extra = {"preprocessing": fitted.stored(), "training": self.training, "table": state}
        networks = list(self.networks.values())
        if len(networks) > 1:
            from backprop.fleet import Fleet
        (networks[0] if len(networks) == 1 else Fleet.of(networks)).save(path, extra=extra)

    @overload
    def to_c(self, path: None = None, *, name: str | None = None, weights: Literal["exact", "int8"] = "exact",
             training: bool = False) -> str: ...  # fmt: skip
    @overload
    def to_c(self, path: str | os.PathLike[str], *, name: str | None = None,
             weights: Literal["exact", "int8"] = "exact", training: bool = False) -> None: ...  # fmt: skip

    def to_c(self, path: str | os.PathLike[str] | None = None, *, name: str | None = None,
             weights: Literal["exact", "int8"] = "exact", training: bool = False) -> str | None:  # fmt: skip
        """Write the model as a header of C99, or return it: `Network.to_c` with the preprocessing and the labels.

        ``NAME_answer(const NAME_row *row)`` returns the place of the label in ``NAME_labels``, or the number, for a row
        with a number or a word for each column; with several targets there is a ``NAME_TARGET_answer`` for each. A date
        is a number of seconds since 1970, as ``NAME_date("2024-05-31 13:30")`` and ``NAME_seconds`` give it. What says
        nothing to `predict` (NaN, infinities, empty words, NA) says nothing there.

        >>> model = TableModel(epochs=5, seed=0).fit({"a": [1, 2, 3, 4], "b": ["x", "y", "x", "y"]}, target="b")
        >>> "int model_answer(const model_row *row)" in model.to_c()
        True
        """
        from backprop.tables.exported_c import to_c

        return to_c(path, self._fitted(), self.networks, self.settings.threshold, name, weights, training)

    def to_onnx(self, path: str | os.PathLike[str] | None = None, *, opset: int = 20) -> Any:
        """Write the model as one of ONNX, or return it: `Network.to_onnx` with the preprocessing and the labels.

        It has an input (n, 1) for each column by its name: float64 for numbers, for booleans as 1 and 0, for dates as
        seconds since 1970 and for categories that are numbers, NaN or infinite where missing; text for other ones,
        empty or such as NA where missing. For each target it has an output (n,), for labels ``"NAME probabilities"``.
        `opset` is the version of the operators for texts, 20 or 17. onnxruntime reads 20 from 1.17 on, and 17 from 1.13
        on, for texts without blanks around them. A model without texts needs no more than 17.
        """
        from backprop.tables.exported_onnx import to_onnx

        return to_onnx(path, self._fitted(), self.networks, self.settings.threshold, opset)

    def _fitted(self) -> Preprocessing:
        if self.preprocessing is None:
            raise ValueError("TableModel: needs to be fitted, or loaded from a file; call fit first")
        return self.preprocessing

    def _planned(self) -> Plan:
        if self.plan is None:
            raise ValueError("TableModel: needs the rows that it was fitted on; a model from a file has none")
        return self.plan


def _one_or_all(found: Mapping[str, Any]) -> Any:
    """Return what there is for the only target, or a dict from the names of several."""
    return next(iter(found.values())) if len(found) == 1 else dict(found)


def _is_column(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0
