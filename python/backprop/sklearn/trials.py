"""All fits of a search: each candidate on each fold, those of our estimators side by side."""

from __future__ import annotations

import time
import traceback
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import clone
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._validation import _score
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params, _num_samples

from backprop.learn.schedules import Schedule
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer
from backprop.sklearn.fleets import Fit, Together, can_join
from backprop.sklearn.perceptron import Perceptron

_PLAIN = (int, float, str, tuple, np.number, np.dtype, type, Loss, Optimizer, Schedule, NoneType)

Split: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(slots=True)
class Transformed:
    """What the transformers of a pipeline make of a fold."""

    steps: list[Any]
    """these, fitted"""
    arguments: tuple[Any, Any, dict[str, Any]]
    """what the last step is fitted on"""
    scored: dict[int, Any] = field(default_factory=dict)
    """rows to score, transformed, by the `id` of the given ones"""

    def rows(self, X: Any) -> Any:
        """Return what the transformers make of rows."""
        if id(X) not in self.scored:
            self.scored[id(X)] = Pipeline(self.steps).transform(X)
        return self.scored[id(X)]


@dataclass(slots=True)
class Fold:
    """Rows to learn from and rows to score."""

    learning: tuple[Any, Any]
    """X and y"""
    test: tuple[Any, Any]
    train_rows: NDArray[np.intp]
    test_rows: NDArray[np.intp]
    fit_params: dict[str, Any]
    transformed: dict[Any, Transformed] = field(default_factory=dict)
    """by the settings of the transformers"""


@dataclass(slots=True)
class Trial:
    """One candidate on one fold."""

    candidate: int
    parameters: Mapping[str, Any]
    fold: Fold
    estimator: Any
    transformed: Transformed | None = None
    """where the estimator is a pipeline whose last step is trained beside others"""
    error: Exception | None = None
    seconds: float = 0.0
    """what its fit took; of what is trained side by side, each has an equal share"""
    result: dict[str, Any] = field(default_factory=dict)
    """its scores, as scikit-learn's searches keep them"""


class Noting:
    """Stands for the last step of a pipeline, and notes what that is to be fitted on."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.arguments: tuple[Any, Any, dict[str, Any]] = (None, None, {})

    def fit(self, X: Any, y: Any = None, **params: Any) -> Noting:
        """Note the arguments."""
        self.arguments = X, y, params
        return self

    def get_metadata_routing(self) -> Any:
        """Return what the estimator asks for."""
        return self.estimator.get_metadata_routing()


class Trials:
    """The fits of all candidates on all folds, candidate after candidate.

    n_jobs: how many threads train the networks, and how many processes fit what cannot be trained side by side; None
    for what the estimators say, and one process.
    """

    def __init__(
        self,
        estimator: Any,
        candidates: Sequence[Mapping[str, Any]],
        splits: Sequence[Split],
        rows: tuple[Any, Any],
        fit_params: dict[str, Any],
        n_jobs: int | None,
    ) -> None:
        self.n_jobs = n_jobs
        folds = [
            Fold(
                _safe_split(estimator, *rows, train),
                _safe_split(estimator, *rows, test, train),
                train,
                test,
                _check_method_params(rows[0], params=fit_params, indices=train),
            )
            for train, test in splits
        ]
        self.all: list[Trial] = []
        self.alone: list[Trial] = []
        """those that have yet to be fitted one by one"""
        self.joined: list[Trial] = []
        fits = []
        for k, parameters in enumerate(candidates):
            candidate = clone(estimator).set_params(**clone(parameters, safe=False))
            is_ours = _is_ours(candidate)
            for fold in folds:
                trial = Trial(k, parameters, fold, candidate)
                self.all.append(trial)
                begun = time.perf_counter()
                if not is_ours:
                    trial.estimator = clone(candidate)
                    self.alone.append(trial)
                    continue
                try:
                    fits.append(_fit_of(trial))
                    self.joined.append(trial)
                except Exception as error:
                    trial.error = error
                trial.seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        self.together = Together(fits, None if n_jobs is None else effective_n_jobs(n_jobs))
        self._share_out(time.perf_counter() - begun)

    def train(self, share: float = 1.0) -> None:
        """Train up to that share of each network's epochs; what cannot be trained side by side is fitted whole."""
        begun = time.perf_counter()
        self.together.train(share)
        self._share_out(time.perf_counter() - begun)
        fitted = Parallel(n_jobs=self.n_jobs)(
            delayed(_fitted)(trial.estimator, *trial.fold.learning, trial.fold.fit_params) for trial in self.alone
        )
        for trial, (estimator, error, seconds) in zip(self.alone, fitted, strict=True):
            trial.estimator, trial.error, trial.seconds = estimator, error, seconds
        self.alone = []

    def drop(self, candidates: Container[int]) -> None:
        """Train these no further."""
        self.together.drop({k for k, trial in enumerate(self.joined) if trial.candidate in candidates})

    def show(self) -> None:
        """Give the estimators what their networks have learned so far."""
        for trial, error in zip(self.joined, self.together.show(), strict=True):
            trial.error = error

    def finish(self) -> None:
        """Bring all fits to their end."""
        for trial, error in zip(self.joined, self.together.finish(), strict=True):
            trial.error = error

    def _share_out(self, seconds: float) -> None:
        for trial in self.joined:
            trial.seconds += seconds / len(self.joined)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How trials are scored: scikit-learn's rules."""

    scorer: Any
    X: Any
    params: dict[str, Any]
    """what the scorer gets, for all rows"""
    return_train_score: bool
    error_score: float | str
    verbose: int

    def score(self, trials: Iterable[Trial]) -> None:
        """Give trials their results."""
        for trial in trials:
            begun = time.perf_counter()
            if trial.error is None:
                scores = {"test_scores": self._of(trial, trial.fold.test, trial.fold.test_rows)}
                seconds = time.perf_counter() - begun
                if self.return_train_score:
                    scores["train_scores"] = self._of(trial, trial.fold.learning, trial.fold.train_rows)
            else:
                scores, seconds = self._failed(trial.error), 0.0
            trial.result = {
                **scores,
                "fit_error": None if trial.error is None else "".join(traceback.format_exception(trial.error)),
                "n_test_samples": _num_samples(trial.fold.test[0]),
                "fit_time": trial.seconds,
                "score_time": seconds,
            }
            if self.verbose > 1:
                settings = ", ".join(f"{name}={value}" for name, value in sorted(trial.parameters.items()))
                print(f"[CV] {settings}; {trial.result['test_scores']}")

    def _of(self, trial: Trial, rows: tuple[Any, Any], indices: NDArray[np.intp]) -> Any:
        params = _check_method_params(self.X, params=self.params, indices=indices)
        estimator, (X, y) = trial.estimator, rows
        if trial.transformed is not None and _sees_predictions_only(self.scorer):
            # What is there of a failure, the pipeline says itself.
            with suppress(Exception):
                estimator, X = estimator.steps[-1][1], trial.transformed.rows(X)
        return _score(estimator, X, y, self.scorer, params, self.error_score)

    def _failed(self, error: Exception) -> dict[str, Any]:
        """Return the scores of a fit that failed."""
        if self.error_score == "raise":
            raise error
        scores: Any = self.error_score
        if isinstance(self.scorer, _MultimetricScorer):
            scores = dict.fromkeys(self.scorer._scorers, scores)
        return {"test_scores": scores, **({"train_scores": scores} if self.return_train_score else {})}


def _sees_predictions_only(scorer: Any) -> bool:
    """Return whether a scorer finds the same for a pipeline as for its last step and transformed rows."""
    if get_config()["enable_metadata_routing"]:
        return False
    scorers = scorer._scorers.values() if isinstance(scorer, _MultimetricScorer) else [scorer]
    return all(isinstance(each, (_BaseScorer, _PassthroughScorer)) for each in scorers)


def _last_step(estimator: Any) -> Any:
    """Return the last step of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def _is_ours(estimator: Any) -> bool:
    """Return whether an estimator is one that can be trained beside others, or a pipeline that ends with one."""
    last = _last_step(estimator)
    is_ours = isinstance(last, Perceptron) and type(last).fit is Perceptron.fit and last.bagging is None
    return is_ours and can_join(last)


def _fit_of(trial: Trial) -> Fit:
    """Return the fit of a trial's network, for which the trial gets an estimator of its own.

    What stands before the network in a pipeline is fitted once for equal settings.
    """
    candidate, fold = trial.estimator, trial.fold
    if not isinstance(candidate, Pipeline):
        trial.estimator = _fresh(candidate)
        return Fit.of(trial.estimator, *fold.learning, **fold.fit_params)
    name, last = candidate.steps[-1]
    # A grid's values are the same objects in all of its candidates.
    settings = frozenset((key, id(value)) for key, value in trial.parameters.items() if not key.startswith(f"{name}__"))
    if settings not in fold.transformed:
        whole, noting = clone(candidate), Noting(last)
        whole.steps[-1] = name, noting
        whole.fit(*fold.learning, **fold.fit_params)
        fold.transformed[settings] = Transformed(whole.steps[:-1], noting.arguments)
    trial.transformed, trial.estimator = fold.transformed[settings], copy(candidate)
    trial.estimator.steps = [*trial.transformed.steps, (name, _fresh(last))]
    X, y, params = trial.transformed.arguments
    return Fit.of(trial.estimator.steps[-1][1], X, y, **params)


def _fresh(estimator: Any) -> Any:
    """Return a clone of an estimator that has not been fitted; quickly, where no parameter has a state."""
    is_plain = all(isinstance(value, _PLAIN) for value in vars(estimator).values())
    return copy(estimator) if is_plain else clone(estimator)


def _fitted(estimator: Any, X: Any, y: Any, params: dict[str, Any]) -> tuple[Any, Exception | None, float]:
    """Return the fitted estimator, the error that this raised, and the seconds that it took."""
    begun, error = time.perf_counter(), None
    try:
        estimator.fit(X, **params) if y is None else estimator.fit(X, y, **params)
    except Exception as raised:
        error = raised
    return estimator, error, time.perf_counter() - begun
