"""How a network is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from backprop.base.history import History
from backprop.base.keywords import explained
from backprop.base.types import ClassWeight, Rows
from backprop.model.model import Model
from backprop.model.views import LayerArrays

if TYPE_CHECKING:
    from backprop.backends.custom import LossLike
    from backprop.learn.callbacks import Callback
    from backprop.learn.metrics import Metric
    from backprop.learn.schedules import Schedule
    from backprop.reference.optimizers import Optimizer
    from backprop.reference.solvers import Solver


class Trainable(Model):
    """A model that learns from rows, or from gradients."""

    @explained
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        optimizer: str | Optimizer = "adam",
        schedule: Schedule | Callable[[int], float] | None = None,
        epochs: int = 100,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        validation_data: Rows | None = None,
        validation_split: float = 0.0,
        metrics: str | Metric | Iterable[str | Metric] | Mapping[str, Metric] = (),
        callbacks: Iterable[Callback] = (),
        log: Callable[[int, dict[str, float]], Any] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        tolerance: float | None = None,
        patience: int = 10,
        on_divergence: Literal["raise", "stop"] = "raise",
        initial_epoch: int | None = None,
        resume: bool = False,
        n_threads: int | Literal["auto"] = "auto",
        progress: bool | Literal["auto"] = "auto",
    ) -> History:
        """Train on X and y; a second call continues where the first one ended.

        Parameters
        ----------
        X
            Real numbers, (n, n_inputs). Neither X nor y is changed, whatever its layout. Or a table of numbers and
            booleans of pandas, polars, pyarrow, DuckDB and the like, whose columns `feature_names` keeps; or a tensor.
            Targets and weights may be columns of such tables.
        y
            Targets: real numbers (n, n_outputs), or (n,) where there is one output. For cross_entropy and
            kullback_leibler, integer class labels (n,) from 0 to n_outputs - 1, or class probabilities (n, n_outputs).
            In [0, 1] for binary_cross_entropy, 0 or 1 for focal, -1 or 1 for hinge and squared_hinge, >= 0 for poisson
            and tweedie, > 0 for gamma. For a loss of your own any array with n rows. For
            `backprop.losses.WithDerivatives` a pair (y, dy).
        loss
            A name or an object from `backprop.losses`. ``"auto"`` goes by the last layer's activation: cross_entropy
            for softmax, binary_cross_entropy for sigmoid, poisson for exp, squared_error otherwise. Or a function
            ``(outputs, targets) -> (value, gradient)``; see `backprop.losses.Custom`, and `backprop.losses.Compiled`
            for functions of numba, Cython or C.
        optimizer
            A name or an object from `backprop.optimizers`.
        schedule
            Factors on the optimizer's ``learning_rate``: one of `backprop.schedules`, or a function of the number of
            the step, from 0.
        epochs
            How many more times to go over the rows.
        batch_size
            Rows per step; 1 is online training, None (or n and more) the full batch. A last short batch is kept.
        shuffle
            Whether each epoch takes the rows in a new random order; a full batch is never shuffled.
        sample_weight
            Weights >= 0 of the rows, (n,). With element-wise losses also of each output of a row, (n, n_outputs): a
            target without weight is as good as missing. Unless those of each row are equal, their loss is computed in
            NumPy, which takes many times as long for a small network.
        class_weight
            A weight >= 0 for each class label, with which its rows' weights are multiplied; labels that are not named
            have 1. ``"balanced"``: n / (number of classes * n of the class). For integer labels, or rows of one 1 and
            else 0, with cross_entropy, and for targets 0 and 1 with binary_cross_entropy: of several outputs each has
            weights of its own, by one such value for all or a sequence with one for each. These are weights of outputs,
            which take longer: see `sample_weight`. Validation and metrics are not weighted so.
        validation_data
            ``(X, y)`` or ``(X, y, sample_weight)``: rows whose loss is measured after each epoch, as ``"val_loss"``.
        validation_split
            The share of the rows, in [0, 1), that is taken for validation and not learned from. They are the last
            ones, as in Keras, whatever `shuffle` says: put ordered rows into another order first.
        metrics
            What else is measured after each epoch, on the training rows and, as ``"val_..."``, on the validation rows:
            names from `backprop.metrics`, functions ``(outputs, targets) -> float``, or a mapping from names to such.
        callbacks
            Objects from `backprop.callbacks`.
        log
            A function that is called after each epoch with the number of steps done and a dict of what was recorded,
            as TensorBoard, MLflow and the like want it.
        clip_norm, clip_value
            Bounds for the gradient of each step, penalties included: first every element is clipped to ±clip_value,
            then the whole is scaled down to the Euclidean norm clip_norm.
        tolerance, patience
            Stop when `patience` epochs in a row have not brought the loss more than `tolerance` below its lowest value
            so far. Each call of `fit` counts afresh. See `backprop.callbacks.EarlyStopping` for more.
        on_divergence
            What to do when a loss or a parameter is not finite, after the last finite parameters are restored:
            ``"raise"`` DivergedError, or ``"stop"`` and return with ``history.stop_reason == "diverged"``.
        initial_epoch
            The number of epochs that count as done, from which callbacks and schedules count on; None for those that
            are. 0 starts a schedule again.
        resume
            Go on with the run that was interrupted, or that `backprop.resume` has read, in the middle of its epoch:
            `epochs` counts from the start of that run, and stop rule, schedule and callbacks take up where they were.
            The data and the other arguments must be the same again. Nothing happens if that run is over or has
            diverged; a network that was never trained begins.
        n_threads
            How many threads may compute, 1 to 16, or ``"auto"``: one for small steps, else one for each CPU of this
            process, within ``OMP_NUM_THREADS`` and the limits of joblib and Dask. While other programs keep CPUs busy,
            fewer take part (unless the environment variable ``BACKPROP_THREADS`` is ``fixed``). The results do not
            depend on it, to the last bit.
        progress
            Whether to show a progress bar on stderr; ``"auto"`` does when training has taken two seconds.

        Returns
        -------
        History
            `history`, the record of all epochs over all calls of `fit`.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; the network is then as it was.
        DivergedError
            If the loss of an epoch or a parameter at its end is not finite. The network then has its last finite
            parameters.
        KeyboardInterrupt
            On Ctrl-C. The network is then as the last whole step left it and `history` has every whole epoch. The same
            holds for whatever a callback, a metric or a loss of your own raises.
        RuntimeError
            If another call of `fit` trains the network at the same time.

        Notes
        -----
        Continuing: parameters, epoch counter and random numbers go on, so that 5 epochs and 5 more are, bit for bit, 10
        epochs. What the optimizer remembers (momentum, moments, step counter) is kept when the optimizer is the last
        one again, except perhaps for its learning rate; another one starts afresh. Every call begins a new epoch, and
        what was left of an interrupted one is dropped, unless `resume` is set.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
        >>> history = net.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], optimizer=bp.SGD(learning_rate=0.1), epochs=200)
        >>> net.weights[0].round(3), net.biases[0].round(3)
        (array([[2.]]), array([1.]))
        """
        from backprop.learn.fit import fit

        settings = {
            "optimizer": optimizer,
            "schedule": schedule,
            "epochs": epochs,
            "batch_size": batch_size,
            "shuffle": shuffle,
            "class_weight": class_weight,
            "metrics": metrics,
            "callbacks": callbacks,
            "log": log,
            "clip_norm": clip_norm,
            "clip_value": clip_value,
            "tolerance": tolerance,
            "patience": patience,
            "on_divergence": on_divergence,
            "initial_epoch": initial_epoch,
            "resume": resume,
            "n_threads": n_threads,
            "progress": progress,
        }
        return fit(
            self,
            X,
            y,
            settings,
            loss=loss,
            sample_weight=sample_weight,
            validation_data=validation_data,
            validation_split=validation_split,
        )

    @explained
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        optimizer: str | Optimizer = "adam",
        batch_size: int | None = 32,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> History:
        """Train for one epoch on these rows, of which there may be other ones each time; arguments as in `fit`.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
        >>> for start in range(0, 300, 3):
        ...     X = [[start % 2 + row] for row in range(3)]
        ...     history = net.partial_fit(X, [2 * x + 1 for (x,) in X], optimizer=bp.SGD(learning_rate=0.1))
        >>> history.epochs, net.weights[0].round(2)
        (100, array([[2.]]))
        """
        return self.fit(
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            epochs=1,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            clip_norm=clip_norm,
            clip_value=clip_value,
            progress=False,
        )

    @explained
    def train_on_batch(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        optimizer: str | Optimizer = "adam",
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> float:
        """Do one optimizer step on these rows and return their loss before it; arguments as in `fit`.

        What the optimizer remembers is kept from call to call, and from and to `fit`; its learning rate may be another
        one each time. `history` and the number of epochs stay as they are.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; the network is then as it was.
        DivergedError
            If the loss or a parameter after the step is not finite; the network is then as it was.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)], dtype="float64")
        >>> net.train_on_batch([[2.0]], [4.0], optimizer=bp.SGD(learning_rate=0.1))
        4.0
        >>> net.weights[0]
        array([[1.8]])
        """
        from backprop.learn.fit import step

        return step(
            self,
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            sample_weight=sample_weight,
            class_weight=class_weight,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )

    @explained
    def apply_gradients(
        self,
        gradients: ArrayLike | Sequence[LayerArrays],
        *,
        optimizer: str | Optimizer = "adam",
        schedule: Schedule | Callable[[int], float] | None = None,
    ) -> None:
        """Do one optimizer step along gradients of your own making.

        For all that `fit` does not do with gradients: adding them up over several batches, clipping them by a rule of
        one's own, gradients of any function of the outputs (`backward`), of several losses, of another network.

        Parameters
        ----------
        gradients
            One for each parameter: a flat vector laid out like `parameters`, or a list with a pair (dW, db) for each
            layer as `loss_and_gradients` and `backward` return it. Whatever it says about parameters that are not
            trainable counts for nothing.
        optimizer
            As in `fit`. What it remembers (momentum, moments, its number of steps) is kept in the network from call to
            call, and from and to `train_on_batch`, `fit` and `save_checkpoint`; its learning rate may be another one
            each time. An optimizer with other hyperparameters starts afresh.
        schedule
            Factors on the learning rate, as in `fit`, by the number of steps that the optimizer has done; an epoch is
            one step here.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or a gradient has another shape or is not finite; the network is then as it was.
        FloatingPointError
            If a parameter after the step is not finite; parameters and what the optimizer remembers are then as they
            were.

        Notes
        -----
        After the step come the layers' bounds of norms (``max_norm``), as in `fit`. Penalties are part of what
        `loss_and_gradients` returns. `history` and the number of epochs stay as they are. Steps along the gradients of
        `loss_and_gradients` give the bits of ``fit(..., batch_size=None)``, where there is no dropout, for more than
        eight rows: steps on fewer have a way of their own, and sums in another order.

        Examples
        --------
        A step along the mean of the gradients of two batches:

        >>> import numpy as np
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)], dtype="float64")
        >>> total = np.zeros(net.n_parameters)
        >>> for X, y in (([[2.0]], [4.0]), ([[1.0]], [2.0])):
        ...     loss, layers = net.loss_and_gradients(X, y)
        ...     total += np.concatenate([array.ravel() for arrays in layers for array in arrays]) / 2
        >>> net.apply_gradients(total, optimizer=bp.SGD(learning_rate=0.1))
        >>> net.weights[0], net.biases[0]
        (array([[1.5]]), array([0.3]))
        """
        from backprop.learn.gradients import apply_gradients

        apply_gradients(self, gradients, optimizer=optimizer, schedule=schedule)

    @explained
    def minimize(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        method: Literal["lbfgs", "lm", "bayesian", "L-BFGS-B", "BFGS", "CG"] | Solver = "lbfgs",
        loss: LossLike = "auto",
        sample_weight: ArrayLike | None = None,
        validation_data: Rows | None = None,
        validation_split: float = 0.0,
        metrics: str | Metric | Iterable[str | Metric] | Mapping[str, Metric] = (),
        max_iter: int = 200,
        tolerance: float | Literal["auto"] = "auto",
        penalty_per_row: bool = False,
        callback: Callable[[int, float], Any] | None = None,
        callbacks: Iterable[Callback] = (),
        log: Callable[[int, dict[str, float]], Any] | None = None,
        resume: bool = False,
        n_threads: int | Literal["auto"] = "auto",
        progress: bool | Literal["auto"] = False,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Train on the full batch with a minimizer, L-BFGS for one: for small data often the shortest way.

        Parameters
        ----------
        X, y, loss, sample_weight, validation_data, validation_split, metrics
            As in `fit`; an epoch is an iteration. With ``"bayesian"`` `sample_weight` says how often a row counts.
        method
            ``"lbfgs"``, ``"lm"``, Levenberg-Marquardt, and ``"bayesian"``, Bayesian regularisation, are computed by the
            core; so are the objects of `backprop.solvers`, which have settings of their own. ``"L-BFGS-B"``, ``"BFGS"``
            and ``"CG"`` are those of `scipy.optimize.minimize`. ``"lm"`` is for squared_error, huber and log_cosh and
            for up to 5,000 trainable parameters: there it needs few iterations. ``"bayesian"`` is for squared_error; it
            finds an l2 penalty and the noise by itself.
        max_iter
            The most iterations, each one or a few passes over all rows.
        tolerance
            Stop when no element of the gradient is larger: SciPy's ``gtol``. ``"auto"`` is 1e-5, or what an object
            given as `method` says. L-BFGS also stops when the loss hardly falls any more, by the option
            ``loss_tolerance``; that of L-BFGS-B is ``ftol``. For ``"lbfgs"`` and ``"lm"`` and the losses that ``"lm"``
            knows, where the standard deviation s of the targets is below 1 (of several outputs the largest; that of a
            constant one counts as 1), ``"auto"`` is s times, and a ``loss_tolerance`` that is not given s² times the
            usual number. The `scale` of a loss below 1 is a factor on both.
        penalty_per_row
            Whether the layers' penalties are divided by the number of rows (or the sum of their weights), as
            scikit-learn's ``alpha`` is.
        callback
            ``callback(iteration, loss)`` is called after each iteration, counted from 1; where it returns something
            true, that was the last one.
        callbacks, log
            As in `fit`, with the iterations that are in `history` for epochs and for steps. None that scales learning
            rates.
        resume
            Go on with the minimisation that was interrupted, or that `backprop.resume` has read: `max_iter` counts from
            its start, and the result is, bit for bit, that of one that was not. Data and other arguments must be the
            same again: another method, loss or number of rows is refused. Tolerances that are not given are those of
            that run. Nothing happens if it is over; without one, one begins.
        n_threads
            As in `fit`; small problems get one. The results do not depend on it, to the last bit.
        progress
            Whether to show a progress bar on stderr; ``"auto"`` does when it has taken two seconds.
        options
            More options of the method: the parameters of its class in `backprop.solvers`, such as
            ``{"history": 20, "loss_tolerance": 0}``, or SciPy's, such as ``{"maxfun": 15000, "ftol": 1e-9}``. SciPy's
            methods take no validation, metrics, callbacks, resuming and progress.

        Returns
        -------
        backprop.solvers.Solution or scipy.optimize.OptimizeResult
            The first has SciPy's names, too; ``x`` are the trainable parameters in float64. The network has the
            parameters of the last iteration, and `history` the loss after each, with ``"bayesian"`` also ``"alpha"``,
            ``"beta"`` and ``"gamma"``.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, a layer has dropout or max_norm, or the loss at the start is not finite; the
            network is then as it was.
        ImportError
            For a method of SciPy, without SciPy (the extra ``scipy``).

        Notes
        -----
        Loss and gradient are computed in float64 whatever the network's dtype. What is not trainable keeps its value.
        When something interrupts, the network is as the last whole iteration left it.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
        >>> result = net.minimize([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
        >>> net.weights[0].round(4), net.biases[0].round(4), result.success
        (array([[2.]]), array([1.]), True)
        """
        from backprop.learn.minimize import minimize

        return minimize(
            self,
            X,
            y,
            method=method,
            loss=loss,
            sample_weight=sample_weight,
            validation_data=validation_data,
            validation_split=validation_split,
            metrics=metrics,
            max_iter=max_iter,
            tolerance=tolerance,
            penalty_per_row=penalty_per_row,
            callback=callback,
            callbacks=callbacks,
            log=log,
            resume=resume,
            n_threads=n_threads,
            progress=progress,
            options=options,
        )
