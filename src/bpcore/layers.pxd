"""Forward and backward through all layers, for one chunk of samples."""

from bpcore.activations cimport activate, multiply_derivative
from bpcore.gemm cimport Sink, dots_product, lanes_product, outputs_product
from bpcore.losses cimport loss_and_delta
from bpcore.types cimport Layer, Tiles, real


cdef enum:
    # Layers with fewer outputs get their weight gradient by dot products over the samples: lanes over outputs would run
    # mostly empty. A function of the shape alone, so that every instruction set adds up in the same order.
    FEW_OUTPUTS = 8


cdef struct Network:
    int n_layers
    Layer *layers
    Py_ssize_t n_inputs
    Py_ssize_t n_outputs
    Py_ssize_t n_parameters
    Py_ssize_t width_sum  # of inputs and all layers
    Py_ssize_t width_max
    int first_trainable  # below this layer no gradient is needed; n_layers where nothing is trainable

cdef struct Loss:
    int kind
    real parameter
    bint labels
    bint elementwise
    bint mean
    double scale

# What one chunk needs; index 0 is the network's input, index l + 1 the output of layer l. All [features][lanes].
cdef struct Workspace:
    Tiles tiles
    real **a
    real **z  # the same as a where the scores are not needed any more
    real **delta
    real *transposed
    real *y
    real *factor
    real *value


cdef inline void forward(const Network *net, const real *parameters, Workspace *ws) noexcept nogil:
    """ws.a[1:] and ws.z[1:] from ws.a[0]."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        lanes_product(
            &ws.tiles, layer.n_out, layer.n_in, parameters + layer.weights, 1, layer.n_out,
            parameters + layer.biases if layer.has_bias else NULL, ws.a[l], ws.z[l + 1], ws.transposed,
        )
        activate(layer.activation, layer.alpha, &ws.tiles, layer.n_out, ws.z[l + 1], ws.a[l + 1])


cdef inline void output_delta(const Network *net, const Loss *loss, Workspace *ws) noexcept nogil:
    """ws.value and ws.delta[n_layers] from the outputs."""
    cdef const Layer *last = net.layers + net.n_layers - 1
    cdef int n = net.n_layers
    loss_and_delta(
        loss.kind, loss.parameter, loss.labels, last.activation, last.alpha, &ws.tiles, last.n_out, ws.a[n], ws.z[n],
        ws.y, ws.factor, ws.delta[n], ws.value,
    )


cdef inline void backward(
    const Network *net, const real *parameters, Workspace *ws, real *target, const Sink *sink,
) noexcept nogil:
    """The gradient from this chunk goes into `target`, laid out like the parameters, in the way that `sink` says.

    What is not trainable is left as it is. target may be the parameters: each layer is stepped after it was read.
    """
    cdef const Layer *layer
    cdef real *g_weights
    cdef real *g_biases
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        if l > net.first_trainable:
            lanes_product(
                &ws.tiles, layer.n_in, layer.n_out, parameters + layer.weights, layer.n_out, 1, NULL, ws.delta[l + 1],
                ws.delta[l], ws.transposed,
            )
            multiply_derivative(
                net.layers[l - 1].activation, net.layers[l - 1].alpha, &ws.tiles, layer.n_in, ws.z[l], ws.a[l],
                ws.delta[l],
            )
        g_weights = target + layer.weights if layer.trainable else NULL
        g_biases = target + layer.biases if layer.has_bias and layer.bias_trainable else NULL
        if g_weights == NULL and g_biases == NULL:
            continue
        if layer.n_out < FEW_OUTPUTS:
            dots_product(&ws.tiles, layer.n_in, layer.n_out, ws.a[l], ws.delta[l + 1], g_weights, g_biases, sink)
        else:
            outputs_product(
                &ws.tiles, layer.n_in, layer.n_out, ws.a[l], ws.delta[l + 1], ws.transposed, g_weights, g_biases, sink
            )
