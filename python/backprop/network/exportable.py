"""The ways out of the library: a network as what other programs run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from backprop.base.keywords import explained
from backprop.model.model import Model

if TYPE_CHECKING:
    import os


class Exportable(Model):
    """A model that can be had in the forms of other libraries and languages."""

    @explained
    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Write the network as a model of ONNX, which onnxruntime, browsers and phones run, or return it.

        Its input ``X`` is (n, n_inputs) and its output ``outputs`` (n, n_outputs), both of the network's dtype and with
        any n. It computes what `predict` does, the activations of float32 within 2 units in the last place. Opset 17
        and IR version 8, which onnxruntime reads from 1.13 on. Dropout, penalties and what training remembers are not
        in it.

        Parameters
        ----------
        path
            The file, which is replaced in one piece; None for no file, but the model.

        Returns
        -------
        onnx.ModelProto or None
            The model, checked by `onnx`; None if it was written to a file.

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

    @overload
    def to_c(
        self,
        path: None = None,
        *,
        name: str | None = None,
        weights: Literal["exact", "int8"] = "exact",
        training: bool = False,
    ) -> str: ...
    @overload
    def to_c(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        weights: Literal["exact", "int8"] = "exact",
        training: bool = False,
    ) -> None: ...

    @explained
    def to_c(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        weights: Literal["exact", "int8"] = "exact",
        training: bool = False,
    ) -> str | None:
        """Write the network as a header of C99 that computes its outputs for one row, or return the text of it.

        ``void NAME_predict(const float *inputs, float *outputs)``, with double for float64, for a controller or any
        program. Nothing is allocated, the weights are ``static const``, and no library is called: exp, tanh and the
        like are the core's own. The outputs have the bits of `predict`. A comment in the file says how much memory it
        takes. C++ compiles it too.

        Parameters
        ----------
        path
            The file, which is replaced in one piece; None for no file, but its text.
        name
            With what all names in it begin; None for the name of the file, or ``"model"`` without one.
        weights
            ``"exact"``, or ``"int8"``: whole numbers from -127 to 127 with a scale for each column, which take a
            quarter (float64: an eighth) of the memory, and change the outputs a little.
        training
            Whether it also has ``NAME_train_one(inputs, targets, learning_rate)``: one step of gradient descent on one
            row, as `fit` takes it with ``loss="auto"``, ``optimizer="sgd"`` and ``batch_size=1``, with l1 and l2. The
            weights are then variables.

        Returns
        -------
        str or None
            The text; None if it was written to a file.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If an argument is wrong, a parameter is not finite, or `training` is asked for with int8 weights or layers
            that have dropout or max_norm.

        Examples
        --------
        >>> import backprop as bp
        >>> text = bp.mlp([30, 16, 1], output="sigmoid", seed=0).to_c(name="valve")
        >>> print(text.splitlines()[0])
        /* A network 30 -> 16 -> 1 (relu, sigmoid), float32
        """
        from backprop.export.c import to_c

        return to_c(self, path, name, weights, training)

    @explained
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

    @explained
    def to_keras(self) -> Any:
        """Return the network as a ``keras.Sequential`` that is built, not compiled; it needs Keras 3.

        Penalties, ``max_norm``, dropout and ``trainable`` go along. `backprop.from_keras` gives the same network again.
        A network of float64 keeps its parameters, but Keras multiplies in float32 unless its backend is TensorFlow,
        and ``predict`` of Keras converts inputs to ``keras.config.floatx()``, float32 by default.

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

    @explained
    def to_sklearn(self, classes: Sequence[Any] | None = None) -> Any:
        """Return the network as a fitted ``MLPClassifier`` or ``MLPRegressor`` of scikit-learn.

        The identity as output gives a regressor; softmax for three classes or more, one sigmoid for two, or several for
        labels of their own give a classifier. `backprop.from_sklearn` gives the same layers and parameters again. Its
        own ``partial_fit``, and ``fit`` with ``warm_start=True``, go on from them.

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

    @explained
    def to_jax(self) -> tuple[Callable[[list[dict[str, Any]], Any], Any], list[dict[str, Any]]]:
        """Return the network as a pure function ``predict(parameters, X)`` for JAX, and its parameters.

        The parameters are a list with a dict of arrays for each layer: ``weights``, ``biases``, ``slopes``. The
        function can be differentiated, mapped and compiled. It computes in the dtype of the parameters; JAX has no
        float64 unless ``jax_enable_x64`` is set. Dropout is not in it.

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
