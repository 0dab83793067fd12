"""Networks: layers over one flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from backprop.base.history import History
from backprop.base.types import ClassWeight, RealArray, Rows
from backprop.model.model import LayerArrays, Model

if TYPE_CHECKING:
    import os

    from backprop.backends.custom import LossLike
    from backprop.explain.trace import Trace
    from backprop.learn.callbacks import Callback
    from backprop.learn.metrics import Metric
    from backprop.learn.schedules import Schedule
    from backprop.reference.losses import Loss
    from backprop.reference.optimizers import Optimizer

# What predicting does not need is imported where it is used.


class Network(Model):
    """A feed-forward network of dense layers.

    Parameters
    ----------
    n_inputs
        Number of columns of X.
    layers
        The layers from input to output; see `Dense` and, for the short form, `mlp`.
    dtype
        ``"float32"`` or ``"float64"``: the parameters and all arithmetic. Data of any other real dtype are converted.
    seed
        A non-negative integer that decides the initial weights and the order of the rows in training. None takes a
        fresh one from the operating system; `seed` tells which.
    backend
        One of `backprop.show_config`'s backends; None for the best there is.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range; the message says which.

    Notes
    -----
    `seed` is spawned into two streams (`numpy.random.SeedSequence`), one for the initial weights and one for training.

    Examples
    --------
    >>> import numpy as np
    >>> import backprop as bp
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> y = np.array([0, 1, 1, 0])
    >>> net = bp.Network(2, [bp.Dense(4, "tanh"), bp.Dense(1, "sigmoid")], seed=0)
    >>> net
    Network(2, [Dense(4, 'tanh'), Dense(1, 'sigmoid')], dtype='float32', seed=0)
    >>> history = net.fit(X, y, optimizer=bp.Adam(learning_rate=0.05), epochs=500, batch_size=None)
    >>> net.predict(X).round().ravel()
    array([0., 1., 1., 0.], dtype=float32)
    """

    # --- what it does ----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        metrics: Any = (),
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """Return the loss over all rows, penalties included, and metrics of the outputs; parameters as in `fit`.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)])
        >>> net.evaluate([[1.0], [2.0]], [1.0, 4.0], metrics=["mean_absolute_error"])
        {'loss': 2.0, 'mean_absolute_error': 1.0}
        """
        from backprop.learn.metrics import evaluate

        return evaluate(self, X, y, loss=loss, metrics=metrics, sample_weight=sample_weight)

    def trace(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss = "auto",
        optimizer: str | Optimizer = "adam",
        sample_weight: ArrayLike | None = None,
        finite_differences: bool = True,
    ) -> Trace:
        """Return every number of the full-batch training step that would come next; the network stays as it is.

        Scores, outputs, loss, gradients and new parameters are the backend's: those of ``fit(..., epochs=1,
        batch_size=None)``, up to rounding. The deltas are worked out from them by the NumPy formulas, and the finite
        differences are central ones of the loss in float64: ``(L(w + h) - L(w - h)) / 2h``, good for ten digits.

        Parameters
        ----------
        X, y, loss, optimizer, sample_weight
            As in `fit`.
        finite_differences
            Whether to compute them: two values of the loss for each parameter.

        Returns
        -------
        backprop.trace.Trace
            Printed, it is tables of text, and in a notebook formulas with the numbers filled in; ``explain`` spells out
            the chain of partial derivatives of any one weight; ``to_dot`` and ``plot_graph`` give the graph.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, a layer has dropout, or the loss is one of your own.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=2.0)], dtype="float64")
        >>> step = net.trace([[3.0]], [5.0], loss="squared_error", optimizer=bp.SGD(learning_rate=0.1))
        >>> step.layers[0].delta, step.layers[0].dW, step.layers[0].new_weights.round(9)
        (array([[2.]]), array([[6.]]), array([[1.4]]))
        """
        from backprop.explain.tracing import trace

        return trace(self, X, y, loss, optimizer, sample_weight, finite_differences)

    # --- training --------------------------------------------------------------------------------------------------

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
            The data and the other arguments must be the same again. Nothing happens if that run is over; a network that
            was never trained begins.
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
        `loss_and_gradients` give the bits of ``fit(..., batch_size=None)``, where there is no dropout.

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

    def minimize(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        method: Literal["lbfgs", "lm", "bayesian", "L-BFGS-B", "BFGS", "CG"] = "lbfgs",
        loss: LossLike = "auto",
        sample_weight: ArrayLike | None = None,
        validation_data: Rows | None = None,
        validation_split: float = 0.0,
        metrics: str | Metric | Iterable[str | Metric] | Mapping[str, Metric] = (),
        max_iter: int = 200,
        tolerance: float = 1e-5,
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
            core (`backprop.solvers`); ``"L-BFGS-B"``, ``"BFGS"`` and ``"CG"`` are those of `scipy.optimize.minimize`.
            ``"lm"`` is for squared_error, huber and log_cosh and for up to 5,000 trainable parameters: there it needs
            few iterations. ``"bayesian"`` is for squared_error; it finds an l2 penalty and the noise by itself.
        max_iter
            The most iterations, each one or a few passes over all rows.
        tolerance
            Stop when no element of the gradient is larger: SciPy's ``gtol``. L-BFGS also stops when the loss hardly
            falls any more, by the option ``loss_tolerance``; that of L-BFGS-B is ``ftol``.
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
            same again. Nothing happens if it is over; without one, one begins.
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
            Their attributes have the same names; ``x`` are the trainable parameters in float64. The network has the
            parameters of the last iteration, and `history` the loss after each, with ``"bayesian"`` also ``"alpha"``,
            ``"beta"`` and ``"gamma"``.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, a layer has dropout or max_norm, or the loss at the start is not finite.
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

    # --- derivatives -----------------------------------------------------------------------------------------------

    def jacobian(self, X: ArrayLike) -> RealArray:
        """Return the derivatives of the outputs with respect to the inputs, by one backward pass for each output.

        Parameters
        ----------
        X
            As in `predict`, (n, n_inputs).

        Returns
        -------
        ndarray
            ``J[r, o, i]`` is the derivative of output o of row r with respect to its input i, (n, n_outputs, n_inputs),
            of the network's dtype. There is no dropout.

        Raises
        ------
        TypeError, ValueError
            If X is wrong.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=3.0)], dtype="float64")
        >>> net.jacobian([[0.5], [2.0]]).ravel()
        array([3., 3.])
        """
        from backprop.model.derivatives import jacobian

        return jacobian(self, X)

    def parameter_jacobian(self, X: ArrayLike) -> RealArray:
        """Return the derivatives of the outputs with respect to the parameters.

        Parameters
        ----------
        X
            As in `predict`, (n, n_inputs).

        Returns
        -------
        ndarray
            ``J[r, o, p]`` is the derivative of output o of row r with respect to ``parameters[p]``, (n, n_outputs,
            n_parameters), and 0 where that is not trainable.

        Raises
        ------
        TypeError, ValueError
            If X is wrong.
        MemoryError
            If the result does not fit into memory.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=3.0)], dtype="float64")
        >>> net.parameter_jacobian([[0.5], [2.0]])
        array([[[0.5, 1. ]],
        <BLANKLINE>
               [[2. , 1. ]]])
        """
        from backprop.model.derivatives import parameter_jacobian

        return parameter_jacobian(self, X)

    def hessian(self, X: ArrayLike) -> RealArray:
        """Return the second derivatives of the outputs with respect to the inputs.

        Parameters
        ----------
        X
            As in `predict`, (n, n_inputs).

        Returns
        -------
        ndarray
            ``H[r, o, i, j]`` is the second derivative of output o of row r with respect to its inputs i and j,
            (n, n_outputs, n_inputs, n_inputs). It is symmetric to the last bit. Piecewise linear activations have none:
            where they are alone it is 0.

        Raises
        ------
        TypeError, ValueError
            If X is wrong.
        MemoryError
            If the result does not fit into memory.

        Examples
        --------
        The output is ``exp(x1 + 2 x2)``:

        >>> import backprop as bp
        >>> net = bp.Network(2, [bp.Dense(1, "exp", weight_init=[[1.0], [2.0]])], dtype="float64")
        >>> net.hessian([[0.0, 0.0]])[0, 0]
        array([[1., 2.],
               [2., 4.]])
        """
        from backprop.model.derivatives import hessian

        return hessian(self, X)

    def laplacian(self, X: ArrayLike) -> RealArray:
        """Return the sums of the second derivatives of each output with respect to each input: the trace of `hessian`.

        They are carried forward with the outputs, at the cost of about ``n_inputs + 2`` forward passes.

        Parameters
        ----------
        X
            As in `predict`, (n, n_inputs).

        Returns
        -------
        ndarray
            (n, n_outputs).

        Raises
        ------
        TypeError, ValueError
            If X is wrong.

        Examples
        --------
        The output is ``exp(x1 + 2 x2)``:

        >>> import backprop as bp
        >>> net = bp.Network(2, [bp.Dense(1, "exp", weight_init=[[1.0], [2.0]])], dtype="float64")
        >>> net.laplacian([[0.0, 0.0]])
        array([[5.]])
        """
        from backprop.model.derivatives import laplacian

        return laplacian(self, X)

    def gradients_per_row(
        self, X: ArrayLike, y: ArrayLike, *, loss: LossLike = "auto", sample_weight: ArrayLike | None = None
    ) -> RealArray:
        """Return each row's part of the gradient of the loss with respect to the parameters.

        Parameters
        ----------
        X, y, loss, sample_weight
            As in `fit`; a loss of the library, and one weight for each row.

        Returns
        -------
        ndarray
            (n, n_parameters), in the order of `parameters`; 0 where they are not trainable. The rows add up to the
            gradient that `loss_and_gradients` has, less that of the penalties, which belong to no row: a loss with
            ``reduction="mean"`` has divided them by the number of rows. With ``reduction="sum"`` each is the gradient
            of its own loss.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.
        MemoryError
            If the result does not fit into memory.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)], dtype="float64")
        >>> net.gradients_per_row([[1.0], [2.0]], [1.0, 4.0], loss=bp.losses.SquaredError(reduction="sum"))
        array([[ 0.,  0.],
               [-8., -4.]])
        """
        from backprop.model.derivatives import gradients_per_row

        return gradients_per_row(self, X, y, loss, sample_weight)

    def hessian_vector_product(
        self,
        X: ArrayLike,
        y: ArrayLike,
        v: ArrayLike,
        *,
        loss: LossLike = "auto",
        sample_weight: ArrayLike | None = None,
    ) -> RealArray:
        """Return the second derivatives of the loss with respect to the parameters, times a vector.

        It costs two to three gradients, whatever the number of parameters: B. A. Pearlmutter, "Fast exact
        multiplication by the Hessian" (1994).

        Parameters
        ----------
        X, y, loss, sample_weight
            As in `fit`; a loss of the library, and one weight for each row.
        v
            The vector, (n_parameters,), in the order of `parameters`. What is not trainable counts as 0.

        Returns
        -------
        ndarray
            ``H @ v``, (n_parameters,), penalties included: l2 adds l2 times v, and l1, whose second derivative is 0,
            nothing. 0 where parameters are not trainable.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64")
        >>> net.hessian_vector_product([[1.0], [3.0]], [0.0, 0.0], [1.0, 0.0])
        array([10.,  4.])
        """
        from backprop.model.derivatives import curvature_product

        return curvature_product(self, X, y, v, loss, sample_weight, gauss_newton=False)

    def gauss_newton_vector_product(
        self,
        X: ArrayLike,
        y: ArrayLike,
        v: ArrayLike,
        *,
        loss: LossLike = "auto",
        sample_weight: ArrayLike | None = None,
    ) -> RealArray:
        """Return the Gauss-Newton matrix of the loss times a vector: ``J.T @ C @ J @ v``.

        J has the derivatives of the outputs with respect to the parameters, and C the second derivatives of the loss
        with respect to the outputs. Where a loss is computed from raw scores, as cross_entropy of softmax is, both are
        those of the scores; the matrix is then the Fisher information. It is positive semidefinite where the loss is
        convex, and the Hessian where the outputs are linear in the parameters. N. N. Schraudolph, "Fast curvature
        matrix-vector products" (2002).

        Parameters
        ----------
        X, y, v, loss, sample_weight
            As in `hessian_vector_product`.

        Returns
        -------
        ndarray
            (n_parameters,), penalties included as in `hessian_vector_product`.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64")
        >>> net.gauss_newton_vector_product([[1.0], [3.0]], [0.0, 0.0], [1.0, 0.0])
        array([10.,  4.])
        """
        from backprop.model.derivatives import curvature_product

        return curvature_product(self, X, y, v, loss, sample_weight, gauss_newton=True)

    # --- rows and files --------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
        """Write the network to a safetensors file; `backprop.load` reads it.

        The file holds the weights and biases and, as JSON in its metadata, the architecture. It is written beside
        `path` and then renamed, so that a crash leaves either the old file or the new one. Training state and
        `history` are not saved.

        Parameters
        ----------
        path
            The file.
        extra
            Anything else to keep, as JSON can hold it (some 30,000 values at most); see
            `backprop.io.load_with_extra`.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If an argument is wrong, `path` is a device or a pipe, or a parameter is not finite.

        Examples
        --------
        >>> import os, tempfile
        >>> import backprop as bp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     bp.Network(2, [bp.Dense(1)], seed=0).save(path)
        ...     bp.load(path)
        Network(2, [Dense(1, 'identity')], dtype='float32', seed=0)
        """
        from backprop.files.models import save

        save(self, path, extra)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the network and its training to one file; `backprop.resume` reads it.

        Beside what `save` writes: what the optimizer remembers, the state of the random numbers, where in which epoch
        training is and in which order it takes the rows, the counters of the stop rule, the states of the callbacks,
        and `history`; with a SHA-256 over all of it. Not in it are the data and the arguments of `fit`: give the same
        again, with ``resume=True``. The file is replaced in one piece, as by `save`, and never by parameters that are
        not finite. `callbacks.Checkpoint` does this every few epochs.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        OSError
            If the file cannot be written; the old one is then still there.
        TypeError, ValueError
            If `path` is wrong, or a parameter is not finite.

        Examples
        --------
        >>> import os, tempfile
        >>> import backprop as bp
        >>> net = bp.mlp([1, 1], seed=0)
        >>> history = net.fit([[0.0], [1.0]], [1.0, 3.0], epochs=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "run.safetensors")
        ...     net.save_checkpoint(path)
        ...     bp.resume(path).history.epochs
        5
        """
        from backprop.files.checkpoints import save

        save(self, path)

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Return the network as a model of ONNX, which onnxruntime, browsers and phones run; write it to a file.

        Its input ``X`` is (n, n_inputs) and its output ``outputs`` (n, n_outputs), both of the network's dtype and with
        any n. It computes what `predict` does, the activations of float32 within 2 units in the last place. Opset 17
        and IR version 8, which onnxruntime reads from 1.13 on. Dropout, penalties and what training remembers are not
        in it.

        Parameters
        ----------
        path
            The file, which is replaced in one piece; None writes none.

        Returns
        -------
        onnx.ModelProto
            The model, checked by `onnx`.

        Raises
        ------
        ImportError
            Without the package `onnx` (the extra ``onnx``).
        OSError
            If the file cannot be written.
        ValueError
            If a parameter is not finite, or there are 2 GB of them or more, which ONNX cannot hold.

        Examples
        --------
        >>> import backprop as bp
        >>> model = bp.mlp([4, 16, 3], output="softmax", seed=0).to_onnx()  # doctest: +SKIP
        >>> [node.op_type for node in model.graph.node]  # doctest: +SKIP
        ['Gemm', 'Relu', 'Gemm', 'Softmax']
        """
        from backprop.export.onnx import to_onnx

        return to_onnx(self, path)

    def to_c(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        weights: Literal["exact", "int8"] = "exact",
        training: bool = False,
    ) -> None:
        """Write the network as a header of C99 that computes its outputs for one row, for a controller or any program.

        ``void NAME_predict(const float *inputs, float *outputs)``, with double for float64. Nothing is allocated, the
        weights are ``static const``, and no library is called: exp, tanh and the like are the core's own. Where the
        processor fuses multiply-adds, the outputs have the bits of `predict`. A comment in the file says how much
        memory it takes. C++ compiles it too. The file is replaced in one piece.

        Parameters
        ----------
        path
            The file.
        name
            With what all names in it begin; None for the name of the file.
        weights
            ``"exact"``, or ``"int8"``: whole numbers from -127 to 127 with a scale for each column, which take a
            quarter (float64: an eighth) of the memory, and change the outputs a little.
        training
            Whether it also has ``NAME_train_one(inputs, targets, learning_rate)``: one step of gradient descent on one
            row, as `fit` takes it with ``loss="auto"``, ``optimizer="sgd"`` and ``batch_size=1``. The weights are then
            variables.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If an argument is wrong, a parameter is not finite, or `training` is asked for with int8 weights or layers
            that have dropout, l1, l2 or max_norm.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import backprop as bp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "model.h")
        ...     bp.mlp([30, 16, 1], output="sigmoid", seed=0).to_c(path)
        ...     print(path.read_text().splitlines()[0])
        /* A network 30 -> 16 -> 1 (relu, sigmoid), float32
        """
        from backprop.export.c import to_c

        to_c(self, path, name, weights, training)

    def to_torch(self) -> Any:
        """Return the network as a ``torch.nn.Sequential`` in evaluation mode, with parameters of its own.

        It has ``Linear``, activations and ``Dropout``; what is not trainable has no ``requires_grad``. Penalties and
        ``max_norm`` are left to its optimizer. `backprop.from_torch` gives the same network again.

        Raises
        ------
        ImportError
            Without PyTorch.
        ValueError
            For ``exp``, which no module of PyTorch is.

        Examples
        --------
        >>> import backprop as bp
        >>> bp.mlp([2, 3, 1], hidden="tanh", seed=0).to_torch()  # doctest: +SKIP
        Sequential(
          (0): Linear(in_features=2, out_features=3, bias=True)
          (1): Tanh()
          (2): Linear(in_features=3, out_features=1, bias=True)
        )
        """
        from backprop.export.torch import to_torch

        return to_torch(self)

    def to_keras(self) -> Any:
        """Return the network as a ``keras.Sequential`` that is built, not compiled; it needs Keras 3.

        Penalties, ``max_norm``, dropout and ``trainable`` go along. `backprop.from_keras` gives the same network again.
        Keras converts inputs to ``keras.config.floatx()``, float32 by default, for a network of float64 too.

        Raises
        ------
        ImportError
            Without Keras or its backend.
        ValueError
            For ``gelu_tanh``, which has no name there, and for biases that are frozen alone.

        Examples
        --------
        >>> import backprop as bp
        >>> bp.mlp([2, 3, 1], seed=0).to_keras().count_params()  # doctest: +SKIP
        13
        """
        from backprop.export.keras import to_keras

        return to_keras(self)

    def to_sklearn(self, classes: Sequence[Any] | None = None) -> Any:
        """Return the network as a fitted ``MLPClassifier`` or ``MLPRegressor`` of scikit-learn.

        The identity as output gives a regressor; softmax for three classes or more, one sigmoid for two, or several for
        labels of their own give a classifier. `backprop.from_sklearn` gives the same layers and parameters again.

        Parameters
        ----------
        classes
            What the outputs mean, in ascending order; None for 0, 1, 2 and so on.

        Raises
        ------
        ImportError
            Without scikit-learn.
        ValueError
            If `classes` is wrong; or if scikit-learn has no such network: it has identity, logistic, tanh and relu, one
            of them for all hidden layers.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.mlp([2, 3, 1], hidden="tanh", output="sigmoid", seed=0)
        >>> estimator = net.to_sklearn(classes=["no", "yes"])
        >>> estimator, estimator.predict([[0.0, 1.0]]).shape
        (MLPClassifier(activation='tanh', hidden_layer_sizes=(3,)), (1,))
        """
        from backprop.export.sklearn import to_sklearn

        return to_sklearn(self, classes)

    def to_jax(self) -> tuple[Callable[[list[dict[str, Any]], Any], Any], list[dict[str, Any]]]:
        """Return the network as a pure function ``predict(parameters, X)`` for JAX, and its parameters.

        The parameters are a list with a dict of arrays for each layer: ``weights``, ``biases``, ``slopes``. The
        function can be differentiated, mapped and compiled. JAX computes in float32 unless ``jax_enable_x64`` is set.
        Dropout is not in it.

        Raises
        ------
        ImportError
            Without JAX.

        Examples
        --------
        >>> import backprop as bp
        >>> predict, parameters = bp.mlp([2, 3, 1], seed=0).to_jax()  # doctest: +SKIP
        >>> predict(parameters, [[0.0, 1.0]]).shape  # doctest: +SKIP
        (1, 1)
        """
        from backprop.export.jax import to_jax

        return to_jax(self)

    # --- copies, pickles, text -------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"Network({self._n_inputs}, {list(self._layers)}, dtype={self._dtype.name!r}, seed={self._seed})"

    def summary(self) -> str:
        """Return a table of the layers: their settings, shapes and numbers of parameters.

        Where not all of them are trainable, a last line says how many are. Notebooks show the same table.

        Examples
        --------
        >>> import backprop as bp
        >>> print(bp.mlp([4, 16, 3], output="softmax").summary())
        layer                shape    parameters
        Dense(16, 'relu')    4 -> 16          80
        Dense(3, 'softmax')  16 -> 3          51
        total                4 -> 3          131
        """
        from backprop.explain.summary import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from backprop.explain.summary import html

        return html(self)
