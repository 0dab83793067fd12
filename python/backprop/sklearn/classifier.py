"""The classifier: its parameters, labels, losses and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import unique_labels

from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.base.types import RealArray
from backprop.learn.callbacks import Callback
from backprop.reference.losses import BinaryCrossEntropy, CrossEntropy, Loss
from backprop.reference.optimizers import Optimizer
from backprop.sklearn.converting import Convertible
from backprop.sklearn.outputs import Outputs
from backprop.sklearn.parameters import InvalidParameterError, is_stochastic, keep_arguments, loss_of
from backprop.sklearn.perceptron import Perceptron
from backprop.sklearn.rows import about, booleans, is_multilabel, places, times_classes
from backprop.sklearn.solvers import LossAndOutput, Score, times

__all__ = ["MLPClassifier"]


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
        nothing = None, None, None
        return self._fit(X, y, sample_weight, nothing, incremental=True, classes=classes)  # type: ignore[no-any-return]

    partial_fit = available_if(is_stochastic)(partial_fit)

    def _begin_classes(self, classes: Any) -> None:
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is None:
            return
        check.fits("classes", classes)
        with about("classes"):
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
        self._check_kind("y", y, multilabel)
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

    def _check_kind(self, name: str, y: Any, multilabel: bool) -> None:
        """Raise unless y has one class for each sample or several labels, as what is learned has."""
        if multilabel != self._multilabel:
            wanted = "columns of zeros and ones" if self._multilabel else "one column of classes"
            raise ValueError(f"{name}: needs {wanted}, as what was learned from, got shape {y.shape}")

    def _encode(self, y: Any, name: str = "y") -> NDArray[Any]:
        """Return the index of each sample's class, int64 (n,), or its labels as booleans (n, n_labels)."""
        if name != "y":  # y has been looked at when it was learned from
            self._check_kind(name, y, is_multilabel(y, name))
        if self._multilabel:
            return booleans(y)
        indices = places(y, self.classes_)
        known = self.classes_.take(indices, mode="clip") == y
        if not known.all():
            unknown = np.unique(y[~known])
            raise ValueError(f"{name}: needs the classes {self.classes_}, got {unknown} too")
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
        if self.class_weight is None:
            return weight
        return times_classes(name, weight, self.class_weight, y, self.classes_, dtype)

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
