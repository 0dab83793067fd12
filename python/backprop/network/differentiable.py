"""The derivatives of a network and of its loss, beyond the gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from backprop.base.keywords import explained
from backprop.base.types import RealArray
from backprop.model.model import Model
from backprop.model.views import LayerArrays

if TYPE_CHECKING:
    from backprop.backends.custom import LossLike


class Differentiable(Model):
    """A model with derivatives of its outputs and of its loss, by inputs and by parameters."""

    def input_gradients(
        self, X: ArrayLike, y: ArrayLike, loss: LossLike = "auto", sample_weight: ArrayLike | None = None
    ) -> RealArray:
        """Return the gradient of the loss over all rows with respect to X, (n, n_inputs); parameters as in `fit`.

        `backward` gives that of any other function of the outputs.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=3.0)])
        >>> net.input_gradients([[1.0], [2.0]], [1.0, 4.0], loss="squared_error")
        array([[6.],
               [6.]], dtype=float32)
        """
        from backprop.model.derivatives import input_gradients

        return input_gradients(self, X, y, loss, sample_weight)

    def backward(
        self, X: ArrayLike, head: Callable[[RealArray], ArrayLike] | ArrayLike
    ) -> tuple[list[LayerArrays], RealArray]:
        """Return the gradients of any function of the outputs, by backpropagation.

        Parameters
        ----------
        X
            As in `predict`.
        head
            The function's gradient with respect to the outputs, (n, n_outputs), or what computes it: a function that is
            called once, with the outputs.

        Returns
        -------
        gradients : list of (dW, db)
            As `loss_and_gradients` returns them, without penalties.
        input_gradient : ndarray
            The gradient with respect to X, (n, n_inputs).

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or `head` returns anything but finite real numbers in the shape of the outputs.

        Examples
        --------
        The derivative of ``sin(output)`` with respect to the input, where ``output = 3 x``:

        >>> import backprop as bp
        >>> import numpy as np
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=3.0)], dtype="float64")
        >>> gradients, dX = net.backward([[0.5]], np.cos)
        >>> bool(np.isclose(dX[0, 0], 3 * np.cos(1.5)))
        True
        """
        from backprop.model.derivatives import backward

        return backward(self, X, head)

    @explained
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

    @explained
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

    @explained
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

    @explained
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

    @explained
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

    @explained
    def hessian_vector_product(
        self,
        X: ArrayLike,
        y: ArrayLike,
        v: ArrayLike | Sequence[LayerArrays],
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
            The vector, (n_parameters,), in the order of `parameters`; or a list with a pair (dW, db) for each layer, as
            `loss_and_gradients` returns it. What is not trainable counts as 0.

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

    @explained
    def gauss_newton_vector_product(
        self,
        X: ArrayLike,
        y: ArrayLike,
        v: ArrayLike | Sequence[LayerArrays],
        *,
        loss: LossLike = "auto",
        sample_weight: ArrayLike | None = None,
    ) -> RealArray:
        """Return the Gauss-Newton matrix of the loss times a vector: ``J.T @ C @ J @ v``.

        J has the derivatives of the outputs with respect to the parameters, and C the second derivatives of the loss
        with respect to the outputs. Where a loss is computed from raw scores, as cross_entropy of softmax is, both are
        those of the scores; with cross_entropy, kullback_leibler, binary_cross_entropy and poisson the matrix is then
        the Fisher information. It is positive semidefinite where the loss is convex, and the Hessian where the outputs
        are linear in the parameters. N. N. Schraudolph, "Fast curvature matrix-vector products" (2002).

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
