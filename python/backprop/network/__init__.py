"""Networks: layers over one flat parameter vector, and all that can be done with them.

The methods are signatures and docstrings with bodies of a line. What these need is imported there: predicting does
without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from backprop.base.keywords import explained
from backprop.network.differentiable import Differentiable
from backprop.network.exportable import Exportable
from backprop.network.trainable import Trainable

if TYPE_CHECKING:
    import os

    from backprop.backends.custom import LossLike
    from backprop.explain.trace import Trace
    from backprop.reference.losses import Loss
    from backprop.reference.optimizers import Optimizer


class Network(Trainable, Differentiable, Exportable):
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

    @explained
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

    @explained
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

    # --- files -----------------------------------------------------------------------------------------------------

    @explained
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

    @explained
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

    # --- text ------------------------------------------------------------------------------------------------------

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
