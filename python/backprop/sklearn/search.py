"""Searching for hyperparameters with all networks of a shape trained as one fleet."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _insert_error_scores, _warn_or_raise_about_fit_failures
from sklearn.utils import indexable
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_method_params

from backprop.base.frames import eager
from backprop.sklearn.before import Before
from backprop.sklearn.converting import Convertible
from backprop.sklearn.trials import Scoring, Trials

__all__ = ["FleetSearchCV"]


class FleetSearchCV(Convertible, BaseSearchCV):  # type: ignore[misc]
    """Grid or randomized search whose networks are trained as fleets: scikit-learn's classes, faster.

    Takes the place of ``GridSearchCV(estimator, param_grid)`` and ``RandomizedSearchCV(estimator, param_distributions,
    n_iter=...)``, with the same scores to the last digit. The estimator is `MLPClassifier` or `MLPRegressor` of this
    module, or a pipeline that ends with one: the networks of all candidates and folds that have the same layers,
    optimizer and batch size are trained in one go, and what stands before them in a pipeline is fitted once for each
    fold and each of its settings. Anything else, and networks with ``solver="lbfgs"``, callbacks other than averages,
    `verbose` or losses of one's own, is fitted one by one, as scikit-learn does it.

    Parameters
    ----------
    estimator
        An estimator; candidates are clones of it.
    param_grid
        Values to try by the names of the parameters: a dictionary of sequences, or a sequence of dictionaries.
    param_distributions
        In place of `param_grid`: a dictionary of sequences or of SciPy's distributions, or a sequence of dictionaries.
    n_iter
        How many candidates are drawn from `param_distributions`.
    random_state
        An integer, a `numpy.random.RandomState` or None, for that draw.
    scoring
        A name, a function ``scorer(estimator, X, y)``, or several as a sequence, a dictionary or a function that
        returns a dictionary; None for the estimator's own score.
    n_jobs
        How many threads train networks, and how many processes fit the rest; -1 for all CPUs. None for one process,
        and as many threads as the estimators say.
    refit
        Whether the best candidate is fitted on all rows; with several scores the name of the one that counts; or a
        function of ``cv_results_`` that returns the best one's number.
    cv
        Number of folds, a splitter or a sequence of pairs (rows to learn from, rows to score); None for 5 folds.
    verbose
        0 prints nothing, 1 how many fits there are, 2 and more each fit.
    error_score
        The score of a fit that fails, or ``"raise"``.
    return_train_score
        Whether ``cv_results_`` has the scores on the rows learned from.
    successive_halving
        Whether the worst candidates are dropped while they train. There are ``1 + floor(log(n) / log(factor))`` rounds
        for n candidates. In the last of them a network reaches its `max_iter`, in each before only ``1 / factor`` of
        the epochs of the next. After each round but the last, the best ``1 / factor`` (rounded up) of the candidates
        go on, from where they are, judged by the mean of the score that `refit` looks at. The best of the last round
        wins. What is fitted one by one trains to its end in the first round.
    factor
        > 1: see there.

    Attributes
    ----------
    cv_results_ : dict
        As scikit-learn's. `fit_time` is the same share for all that were trained together. With `successive_halving`
        also the last round of each candidate, ``"iter"``, and the share of its epochs that it has done,
        ``"resources"``; who came to a later round has a better rank.
    best_estimator_, best_params_, best_score_, best_index_, refit_time_, scorer_, n_splits_, multimetric_
        As scikit-learn's.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from backprop.sklearn import FleetSearchCV, MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier(8, learning_rate_init=0.02, max_iter=400, random_state=0)
    >>> grid = {"mlpclassifier__alpha": [1e-4, 1e-2, 1.0]}
    >>> search = FleetSearchCV(make_pipeline(StandardScaler(), network), grid).fit(X, y)
    >>> bool(search.best_score_ > 0.9), len(search.cv_results_["params"])
    (True, 3)
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **{name: kinds for name, kinds in BaseSearchCV._parameter_constraints.items() if name != "pre_dispatch"},
        "param_grid": [dict, list, tuple, None],
        "param_distributions": [dict, list, tuple, None],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "successive_halving": ["boolean"],
        "factor": [Interval(Real, 1, None, closed="neither")],
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any = None,
        *,
        param_distributions: Any = None,
        n_iter: int = 10,
        random_state: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[[dict[str, Any]], int] = True,
        cv: Any = None,
        verbose: int = 0,
        error_score: float | str = math.nan,
        return_train_score: bool = False,
        successive_halving: bool = False,
        factor: float = 3,
    ) -> None:
        self.estimator, self.scoring, self.n_jobs, self.refit, self.cv = estimator, scoring, n_jobs, refit, cv
        self.param_grid, self.param_distributions = param_grid, param_distributions
        self.n_iter, self.random_state = n_iter, random_state
        self.verbose, self.error_score, self.return_train_score = verbose, error_score, return_train_score
        self.successive_halving, self.factor = successive_halving, factor

    def fit(self, X: Any, y: Any = None, **params: Any) -> FleetSearchCV:
        """Evaluate all candidates.

        Parameters
        ----------
        X, y
            Rows and targets.
        **params
            For the estimator's `fit`, the scores and the splitter, as for scikit-learn's searches.

        Returns
        -------
        FleetSearchCV
            The search itself.

        Raises
        ------
        ValueError
            If a parameter is wrong, or if all fits fail. The search is then as it was.
        """
        with Before(self):
            return self._fit(X, y, params)

    def _fit(self, X: Any, y: Any, params: dict[str, Any]) -> FleetSearchCV:
        self._validate_params()
        candidates = self._candidates()
        scorers, metric = self._get_scorers()
        X, y = indexable(eager("X", X), eager("y", y))
        routed = self._get_routed_params_for_fit(_check_method_params(X, params=params))
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(cv.split(X, y, **routed.splitter.split))
        self.n_splits_ = len(splits)
        if self.verbose > 0:
            n_fits = f"totalling {len(candidates) * len(splits)} fits"
            print(f"Fitting {len(splits)} folds for each of {len(candidates)} candidates, {n_fits}")
        trials = Trials(self.estimator, candidates, splits, (X, y), routed.estimator.fit, self.n_jobs)
        rules = self.return_train_score, self.error_score, self.verbose
        scoring = Scoring(scorers, X, routed.scorer.score, *rules)
        more_results: dict[str, list[Any]] = {}
        if self.successive_halving:
            more_results = self._race(trials, scoring, metric, len(candidates))
        else:
            trials.train()
            trials.finish()
            scoring.score(trials.all)
        results = self._results(candidates, [trial.result for trial in trials.all], more_results)
        self._choose(results, trials.all[0].result["test_scores"], metric)
        if self.refit:
            begun = time.perf_counter()
            best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
            self.best_estimator_ = best.fit(*((X,) if y is None else (X, y)), **routed.estimator.fit)
            self.refit_time_ = time.perf_counter() - begun
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        self.scorer_ = scorers._scorers if isinstance(scorers, _MultimetricScorer) else scorers
        self.cv_results_ = results
        return self

    def _candidates(self) -> list[dict[str, Any]]:
        """Return the settings of all candidates."""
        if (self.param_grid is None) == (self.param_distributions is None):
            found = "neither" if self.param_grid is None else "both"
            raise ValueError(f"param_grid: needs to be given, or else param_distributions, got {found}")
        if self.param_grid is not None:
            return list(ParameterGrid(self.param_grid))
        return list(ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state))

    def _race(self, trials: Trials, scoring: Scoring, metric: Any, n_candidates: int) -> dict[str, list[Any]]:
        """Train in rounds, each without the worst of the last; returns each candidate's last round and resources."""
        going, last = list(range(n_candidates)), 0
        while self.factor ** (last + 1) <= n_candidates:
            last += 1
        rounds, resources = [0] * n_candidates, [1.0] * n_candidates
        for number in range(last + 1):
            share = float(self.factor ** (number - last))
            trials.train(share)
            if number < last:
                trials.show()
            else:
                trials.finish()
            scoring.score(trial for trial in trials.all if trial.candidate in going)
            for k in going:
                rounds[k], resources[k] = number, share
            if number < last:
                means = {k: self._mean(trials, k, metric) for k in going}
                kept = sorted(going, key=lambda k: -means[k])[: math.ceil(len(going) / self.factor)]
                trials.drop(set(going).difference(kept))
                going = sorted(kept)
        return {"iter": rounds, "resources": resources}

    def _mean(self, trials: Trials, candidate: int, metric: Any) -> float:
        """Return the mean score of a candidate, minus infinity for NaN."""
        scores = [trial.result["test_scores"] for trial in trials.all if trial.candidate == candidate]
        if isinstance(scores[0], dict):
            name = self.refit if isinstance(self.refit, str) else metric
            if name not in scores[0]:
                raise ValueError(
                    f"refit: needs the name of a score for successive_halving, {' or '.join(scores[0])}, got {name!r}"
                )
            scores = [each[name] for each in scores]
        mean = float(np.mean(scores))
        return -math.inf if math.isnan(mean) else mean

    def _results(
        self, candidates: Sequence[dict[str, Any]], out: list[dict[str, Any]], more: dict[str, list[Any]]
    ) -> dict[str, Any]:
        """Return ``cv_results_``."""
        if not out:
            raise ValueError("param_grid, cv: need at least one candidate and one fold, got none")
        _warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(out, self.error_score)
        results: dict[str, Any] = self._format_results(candidates, self.n_splits_, out, more)
        if more:
            for name in [name for name in results if name.startswith("rank_test_")]:
                means = np.nan_to_num(results[f"mean_{name[5:]}"], nan=-math.inf)
                places = [(-number, -mean) for number, mean in zip(results["iter"], means, strict=True)]
                ordered = sorted(places)
                results[name] = np.array([1 + bisect_left(ordered, place) for place in places], np.int32)
        return results

    def _choose(self, results: dict[str, Any], first_score: Any, metric: Any) -> None:
        """Set the attributes of the best candidate."""
        self.multimetric_ = isinstance(first_score, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first_score)
            metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, metric, results)
            self.best_params_ = results["params"][self.best_index_]
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
