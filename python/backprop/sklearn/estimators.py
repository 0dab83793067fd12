"""The two estimators: their parameters, labels, losses and outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import unique_labels

from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.base.solving import SolverState
from backprop.base.types import RealArray
from backprop.learn import metrics
from backprop.learn.callbacks import Callback
from backprop.learn.laplace import Laplace
from backprop.model.target_scale import TargetScale
from backprop.reference.losses import BinaryCrossEntropy, CrossEntropy, Loss, Poisson, SquaredError
from backprop.reference.optimizers import Optimizer
from backprop.sklearn.converting import Convertible
from backprop.sklearn.outputs import Outputs
from backprop.sklearn.packing import arrays, unpack
from backprop.sklearn.perceptron import InvalidParameterError, Perceptron, is_stochastic, keep_arguments, loss_of
from backprop.sklearn.rows import booleans, dense_rows, features, is_multilabel, places, times_classes
from backprop.sklearn.solvers import LossAndOutput, Problem, Score, times

__all__ = ["MLPClassifier", "MLPRegressor"]


class MLPClassifier(Convertible, Outputs, ClassifierMixin, Perceptron):  # type: ignore[misc]
    """Multi-layer perceptron for classification: scikit-learn's ``MLPClassifier``, faster, with more to set.

    One class per sample (two or more classes, any labels) or several labels per sample (y of zeros and ones,
    (n_samples, n_labels)). Minimises the log-loss plus ``alpha / 2 * sum(W**2)`` per sample.

    Parameters
    ----------
    hidden_layer_sizes
        Units of each hidden layer; a number for one layer, an empty sequence for none.
    activation
        ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"`` or any other from `backprop.ACTIVATIONS`; or a sequence,
        one for each hidden layer.
    solver
        ``"adam"``, ``"sgd"`` and ``"lbfgs"`` as in scikit-learn; the name of any other optimizer, such as ``"adamw"``,
        with `learning_rate_init`; or an object from `backprop.optimizers`, whose own settings then count. ``"lbfgs"``
        computes in float64. `MLPRegressor` also has ``"bayesian"``.
    alpha
        Strength of the L2 penalty, >= 0.
    batch_size
        Samples per step; ``"auto"`` for 200, or all where there are fewer.
    learning_rate
        ``"constant"``, ``"invscaling"`` (divided by ``(samples seen + 1) ** power_t`` after each epoch) or
        ``"adaptive"`` (divided by 5 when progress stops), which as in scikit-learn ``solver="adam"`` does not use; or
        one of `backprop.schedules`, or a function of the step, whose factors multiply the initial rate.
    learning_rate_init
        The learning rate to begin with, > 0.
    power_t
        Exponent of ``"invscaling"``, >= 0.
    max_iter
        Most epochs, or iterations of L-BFGS.
    shuffle
        Whether each epoch takes the samples in a new random order.
    random_state
        An integer, a `numpy.random.RandomState` or None: initial weights, held out samples, order of the samples and
        dropout. The first two are those of scikit-learn.
    tol, n_iter_no_change
        Stop when more than `n_iter_no_change` epochs in a row have not bettered the lowest training loss (or with
        `early_stopping` the highest validation score) by `tol`.
    verbose
        True prints the loss of each epoch, ``"progress"`` shows a progress bar on stderr.
    warm_start
        Whether `fit` goes on with the weights it finds.
    momentum, nesterovs_momentum
        Of ``solver="sgd"``.
    early_stopping
        Whether the stop rule looks at the validation score; at the end the best weights are restored.
    validation_fraction
        Share of the samples that `early_stopping` holds out.
    beta_1, beta_2, epsilon
        Of ``solver="adam"`` and ``"adamw"``.
    max_fun
        Most values of the loss with L-BFGS.
    loss
        ``"log_loss"``, or a name or an object from `backprop.losses` that takes sigmoid (two classes, several labels)
        or softmax outputs; or a function of one's own (`backprop.losses.Custom`).
    dropout
        Share of the outputs of the hidden layers that each training step drops, in [0, 1); or a sequence.
    class_weight
        Factors on the weights of the samples by class: a dictionary, ``"balanced"`` (inversely proportional to the
        frequency of the class) or None.
    callbacks
        Objects from `backprop.callbacks`, for the stochastic solvers. They get the `Network` that is trained. Recorded
        are ``"loss"``, ``"learning_rate"`` and, where there are validation samples, ``"val_loss"`` and, with
        `early_stopping`, ``"val_accuracy"`` (regression: ``"val_r2"``). Averages of the parameters are learned in their
        place, and scores are of them.
    bagging
        A number of folds >= 2 for predictions of the training data by networks that have not seen them: beside the
        network itself, which is what it would be without, one is trained for each fold on the rows of the others, with
        the same settings and `random_state`. Rows are assigned at random, to classification's folds by classes. None
        for no folds. Not with `warm_start` or `callbacks` but averages; `partial_fit` does not use it.
    n_threads
        How many threads may train, or ``"auto"``, which honours ``OMP_NUM_THREADS`` and the limits of joblib. The
        results do not depend on it.
    dtype
        ``"float32"`` or ``"float64"``; None for float64 unless X is float32.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels of the classes.
    coefs_, intercepts_ : lists of ndarrays
        Weights (n_in, n_out) and biases (n_out,) of each layer.
    slopes_ : list of ndarrays or None
        Slopes (n_out,) of each layer whose activation is ``"prelu"``; there is no such attribute where none has it.
    loss_, loss_curve_ : float, list of floats
        The training loss of the last epoch and of all. With L-BFGS only the first.
    best_loss_ : float or None
        The lowest training loss; None with `early_stopping`.
    validation_scores_, best_validation_score_ : list of floats, float; or None
        Accuracy on the validation samples after each epoch, with `early_stopping`.
    validation_loss_curve_ : list of floats or None
        The loss on the validation samples after each epoch, where there are such.
    learning_rate_ : float
        The learning rate that the next epoch would have.
    n_iter_, t_ : int
        Epochs of the last call; samples seen in all.
    n_layers_, n_outputs_, out_activation_ : int, int, str
        Layers with inputs and outputs, outputs, and the activation of these.
    n_features_in_, feature_names_in_ : int, ndarray
        Columns of X, and their names where they have some.
    oof_prediction_, oof_score_ : ndarray, float
        With `bagging`, for each row what the network says that was trained without its fold: probabilities (n_samples,
        n_classes), for `MLPRegressor` predictions; and their accuracy, or R².

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from backprop.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(50, max_iter=1000, random_state=0).fit(X, y)
    >>> model.predict(X[:2]), model.score(X, y) > 0.95
    (array([0, 0]), True)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: str | Loss = "log_loss",
        dropout: float | Sequence[float] = 0.0,
        class_weight: Any = None,
        callbacks: Sequence[Callback] | None = None,
        bagging: int | None = None,
        n_threads: int | str = "auto",
        dtype: Any = None,
    ) -> None:
        keep_arguments(self, locals())

    @explained
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Go over the samples once; what was learned before is kept.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes
            All labels that y can ever have; needed in the first call.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight: needs a dictionary or None for partial_fit, got {self.class_weight!r}: the "
                "frequencies of the classes are not known"
            )
        self._begin_classes(classes)
        return self._fit(X, y, sample_weight, (None, None, None), incremental=True)  # type: ignore[no-any-return]

    partial_fit = available_if(is_stochastic)(partial_fit)

    def _begin_classes(self, classes: Any) -> None:
        """Take the labels that `partial_fit` was given."""
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is None:
            return
        check.fits("classes", classes)
        given = unique_labels(classes)
        if known is None:
            self.classes_ = given
        elif not np.array_equal(known, given):
            raise ValueError(f"classes: needs to be what it was in the first call, {known}, got {given}")

    def _learned(self, y: Any, incremental: bool) -> NDArray[Any]:
        """Return y encoded; learn the classes, or see that they are the known ones."""
        multilabel = is_multilabel(y)
        learns = not hasattr(self, "classes_") or not (self.warm_start or incremental)
        if learns or not hasattr(self, "_multilabel"):  # the second in the first partial_fit
            self._multilabel, self._sparse_labels = multilabel, hasattr(y, "toarray")
        found = unique_labels(y) if multilabel or y.dtype.kind == "O" else np.unique(y)
        if learns:
            self.classes_ = found
            return booleans(y) if multilabel else places(y, found)
        if self.warm_start and not np.array_equal(found, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {found}"
            )
        if len(np.setdiff1d(found, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {found}."
            )
        return self._encode(y)

    def _encode(self, y: Any) -> NDArray[Any]:
        """Return the index of each sample's class, int64 (n,), or its labels as booleans (n, n_labels)."""
        if self._multilabel:
            return booleans(y)
        indices = places(y, self.classes_)
        known = self.classes_.take(indices, mode="clip") == y
        if not known.all():
            unknown = np.unique(y[~known])
            raise ValueError(f"y: needs the classes {self.classes_}, got {unknown} too")
        return indices

    def _count_outputs(self, targets: NDArray[Any]) -> int:
        if self._multilabel:
            return int(targets.shape[1])
        return len(self.classes_) if len(self.classes_) > 2 else 1

    def _objective(self, n_outputs: int) -> LossAndOutput:
        output = "sigmoid" if self._multilabel or n_outputs == 1 else "softmax"
        if isinstance(self.loss, str) and self.loss == "log_loss":
            # scikit-learn adds the losses of several labels up
            kind, factor = (CrossEntropy, 1) if output == "softmax" else (BinaryCrossEntropy, n_outputs)
            loss: Loss | Custom = times(kind, factor)
        else:
            loss = loss_of(self.loss, "log_loss")
        if isinstance(loss, Loss) and loss.outputs is not None and output not in loss.outputs:
            raise InvalidParameterError(
                f"{type(self).__name__}: loss: {loss.name} needs outputs of the kind {' or '.join(loss.outputs)}, and "
                f"these classes have {output}; 'log_loss' suits all"
            )
        if isinstance(loss, Loss) and not {0, 1} <= set(loss.target_values or (0, 1)):
            raise InvalidParameterError(
                f"{type(self).__name__}: loss: {loss.name} needs targets of {loss.target_values}, and classes are "
                "learned as 0 and 1; 'log_loss' suits all"
            )
        return LossAndOutput(loss, output, "accuracy")

    def _strata(self, targets: NDArray[Any]) -> NDArray[Any] | None:
        # As scikit-learn, which does not stratify more than two classes.
        return None if self.n_outputs_ > 1 else self.classes_.take(targets)

    def _score_of(self, targets: NDArray[Any], weight: RealArray | None) -> Score:
        return lambda outputs: _accuracy(_decided(outputs, self._multilabel), targets, weight)

    def _weights(self, name: str, sample_weight: Any, y: NDArray[Any], dtype: np.dtype[Any]) -> RealArray | None:
        weight = super()._weights(name, sample_weight, y, dtype)
        return weight if self.class_weight is None else times_classes(weight, self.class_weight, y, dtype)

    def predict(self, X: Any) -> Any:
        """Return the class of each sample, or its labels: zeros and ones, (n_samples, n_labels)."""
        decided = _decided(self._outputs(X), self._multilabel)
        if not self._multilabel:
            return self._given(X, self.classes_.take(decided.astype(np.intp), mode="clip"))
        labels = decided.astype(int)
        if self._sparse_labels:
            from scipy.sparse import csr_matrix

            return csr_matrix(labels)
        return self._given(X, labels)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (n_samples, n_classes), in the order of `classes_`."""
        return self._given(X, self._probabilities(X), None if self._multilabel else self.classes_)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithms of the probabilities, (n_samples, n_classes): minus infinity where one is 0."""
        probabilities = self._probabilities(X)
        with np.errstate(divide="ignore"):
            np.log(probabilities, out=probabilities)
        return self._given(X, probabilities, None if self._multilabel else self.classes_)

    def _probabilities(self, X: Any) -> NDArray[Any]:
        outputs: NDArray[Any] = self._outputs(X)
        if outputs.shape[1] == 1 and not self._multilabel:
            outputs = np.hstack([1 - outputs, outputs]) if len(self.classes_) > 1 else np.ones_like(outputs)
        return outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of samples, by weight, whose class is right; with several labels, all of whose labels are.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        float
            What `sklearn.metrics.accuracy_score` finds; it takes longer than the prediction where there are few rows.
        """
        if sample_weight is None and type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biu":
            predicted = self.predict(X)
            if predicted.dtype == y.dtype and len(y) == len(predicted):
                return float(np.mean(predicted == y))
        return super().score(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(Convertible, Outputs, RegressorMixin, Perceptron):  # type: ignore[misc]
    """Multi-layer perceptron for regression: scikit-learn's ``MLPRegressor``, faster, with more to set.

    One output (y of shape (n_samples,)) or several (n_samples, n_outputs). The parameters and attributes that are not
    listed here are those of `MLPClassifier`.

    Parameters
    ----------
    loss
        ``"squared_error"`` (half of it, with identity outputs) and ``"poisson"`` (half the deviance, exp outputs) as in
        scikit-learn; or another name or an object from `backprop.losses`, as it is defined there. The outputs are
        sigmoid for binary_cross_entropy, softmax for cross_entropy and the identity for all others.
    solver
        Also ``"bayesian"``: Bayesian regularisation (`backprop.solvers`), in float64, for squared_error and up to 5,000
        parameters. It finds the penalty itself, so `alpha` does not count, and `predict` has ``return_std=True``.
    scale_targets
        Whether each column of y is scaled to mean 0 and standard deviation 1 for training, by the weights of the
        samples, as `sklearn.compose.TransformedTargetRegressor` with a `StandardScaler` does it. Predictions, scores,
        ``coefs_`` and ``intercepts_`` are in the units of y; losses, and the network that `callbacks` get, are those of
        the scaled targets. For losses with the identity as output and targets of any size. `partial_fit` and
        `warm_start` keep the scale of the first call.

    Attributes
    ----------
    target_mean_, target_scale_ : ndarrays of shape (n_outputs,)
        What is taken from y, and what it is then divided by, with `scale_targets`.
    posterior_ : backprop.Laplace
        With ``solver="bayesian"`` what the samples leave open: noise, effective number of parameters, evidence; of the
        scaled targets with `scale_targets`.
    validation_scores_, best_validation_score_ : list of floats, float; or None
        R² on the validation samples after each epoch, with `early_stopping`.

    Examples
    --------
    >>> import numpy as np
    >>> from backprop.sklearn import MLPRegressor
    >>> X = np.linspace(-3, 3, 200).reshape(-1, 1)
    >>> model = MLPRegressor(hidden_layer_sizes=20, activation="tanh", solver="lbfgs", max_iter=2000, random_state=0)
    >>> bool(model.fit(X, np.sin(X[:, 0])).score(X, np.sin(X[:, 0])) > 0.999)
    True
    """

    _minimizers: ClassVar[tuple[str, ...]] = ("lbfgs", "bayesian")

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        scale_targets: bool = False,
        callbacks: Sequence[Callback] | None = None,
        bagging: int | None = None,
        n_threads: int | str = "auto",
        dtype: Any = None,
    ) -> None:
        keep_arguments(self, locals())

    @explained
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Go over the samples once; what was learned before is kept. Parameters as in `fit`."""
        return self._fit(X, y, sample_weight, (None, None, None), incremental=True)  # type: ignore[no-any-return]

    partial_fit = available_if(is_stochastic)(partial_fit)

    def _learned(self, y: Any, incremental: bool) -> NDArray[Any]:
        return self._encode(y)

    def _encode(self, y: Any) -> NDArray[Any]:
        """Return y as columns."""
        columns: NDArray[Any] = y.reshape(-1, 1) if y.ndim == 1 else y
        return columns

    def _count_outputs(self, targets: NDArray[Any]) -> int:
        return int(targets.shape[1])

    def _check_each_parameter(self) -> None:
        super()._check_each_parameter()
        if not check.boolean("scale_targets", self.scale_targets):
            return
        loss, output, *_ = self._objective(1)
        takes_any = not isinstance(loss, Loss) or (
            loss.target_range == Loss.target_range and loss.target_values is None
        )
        if output != "identity" or not takes_any:
            raise ValueError(
                f"scale_targets: needs a loss with the identity as output and targets of any size, got {loss.name}"
            )

    def _scale(self) -> TargetScale | None:
        return TargetScale(self.target_mean_, self.target_scale_) if hasattr(self, "target_scale_") else None

    def _learn_scale(self, targets: NDArray[Any], weight: RealArray | None, dtype: np.dtype[Any]) -> None:
        for name in ("target_mean_", "target_scale_"):
            self.__dict__.pop(name, None)
        if self.scale_targets:
            check.array("y", targets, dtype)  # in whose units the weights end
            scale = TargetScale.of(targets, weight)
            self.target_mean_, self.target_scale_ = scale.mean, scale.deviation

    def _scaled(self, targets: NDArray[Any]) -> NDArray[Any]:
        return targets if (scale := self._scale()) is None else scale.scaled(targets)

    def _store(self, flat: RealArray, sizes: tuple[int, ...]) -> None:
        super()._store(flat, sizes)
        if (scale := self._scale()) is not None:
            scale.unscale_layer(self.coefs_[-1], self.intercepts_[-1])

    def _resumed(self, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> RealArray:
        flat = super()._resumed(sizes, dtype)
        if (scale := self._scale()) is not None:
            table = arrays(sizes, self._activations(len(sizes) - 2))
            scale.scale_layer(*(list(unpack(table, flat, name).values())[-1] for name in ("weights", "biases")))
        return flat

    def _objective(self, n_outputs: int) -> LossAndOutput:
        if isinstance(self.loss, str) and self.loss == "squared_error":
            # scikit-learn steps along the gradient of the sum over the outputs and reports their mean
            return LossAndOutput(times(SquaredError, n_outputs / 2), "identity", "r2", 1 / n_outputs)
        if isinstance(self.loss, str) and self.loss == "poisson":
            return LossAndOutput(times(Poisson, n_outputs), "exp", "r2")
        loss = loss_of(self.loss)
        return LossAndOutput(loss, getattr(loss, "scores_of", None) or "identity", "r2")

    def _strata(self, targets: NDArray[Any]) -> NDArray[Any] | None:
        return None

    def _score_of(self, targets: NDArray[Any], weight: RealArray | None) -> Score:
        def score(outputs: RealArray) -> float:
            return metrics.r2(outputs, targets, weight) if np.isfinite(outputs).all() else math.nan

        return score

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the predictions, (n_samples,) or (n_samples, n_outputs).

        With ``solver="bayesian"`` and `return_std` also how far targets may be from them: the standard deviations.
        """
        outputs = self._outputs(X)
        predictions = self._given(X, _columns(outputs))
        if not check.boolean("return_std", return_std):
            return predictions
        if not hasattr(self, "posterior_"):
            raise ValueError(f"return_std: needs to be fitted with solver='bayesian', got solver={self.solver!r}")
        std = self.posterior_.predict(dense_rows(features(self, X), np.dtype(np.float64)), True)[1]
        std *= 1 if (scale := self._scale()) is None else scale.deviation
        return predictions, _columns(std)

    def _learn_uncertainty(self, problem: Problem, state: SolverState) -> None:
        self.__dict__.pop("posterior_", None)
        if self._is_bayesian():
            X, y, weight = problem.data
            problem.parameters[...] = state.point
            found = {"alpha": state.alpha, "beta": state.beta}
            self.posterior_ = Laplace(problem.network(), X, y, sample_weight=weight, **found)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _columns(outputs: Any) -> Any:
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def _decided(outputs: RealArray, multilabel: bool) -> NDArray[Any]:
    """Return the class of each row as an index, or for several labels (n, n_labels) booleans."""
    if outputs.shape[1] > 1 and not multilabel:
        classes: NDArray[np.intp] = outputs.argmax(axis=1)
        return classes
    return outputs > 0.5 if multilabel else outputs[:, 0] > 0.5


def _accuracy(decided: NDArray[Any], targets: NDArray[Any], weight: RealArray | None) -> float:
    """Return the share of rows that are right, with several labels in all of them."""
    right = decided == targets
    if right.ndim == 2:
        right = right.all(axis=1)
    return float(right.mean() if weight is None else np.average(right, weights=weight))
