"""Forward and backward through all layers, for one chunk of samples."""

from bpcore.activations cimport SOFTMAX, Finish, activate, multiply_derivative
from bpcore.dropout cimport Dropout, drop
from bpcore.few cimport few_pays
from bpcore.gradients cimport SET, Sink, dots_product, outputs_product, transpose_rows
from bpcore.losses cimport loss_and_delta
from bpcore.optimizers cimport optimize
from bpcore.products cimport Product, lanes_product
from bpcore.types cimport LANES, TILE_ROWS, Layer, Tiles, real, vload, vstore


cdef enum:
    # Layers with fewer outputs get their weight gradient by dot products over the samples: lanes over outputs would
    # run mostly empty. A function of the shape alone, so that every instruction set adds up in the same order.
    FEW_OUTPUTS = 8
    # A layer needs so many weights for another tile, of few samples, to pay.
    LEAST_WEIGHTS = 4096
    # Weights whose gradient is made at a time: whole rows, which lie together, and what they need of the inputs stay in
    # the cache meanwhile, also for the optimizer. Without it a step of 256-1024-1024-10 takes 3 % longer.
    PIECE_WEIGHTS = 16384


cdef struct Network:
    int n_layers
    Layer *layers
    Py_ssize_t n_inputs
    Py_ssize_t n_outputs
    Py_ssize_t n_parameters
    Py_ssize_t width_sum  # of inputs and all layers
    Py_ssize_t width_max
    int first_trainable  # below this layer no gradient is needed; n_layers where nothing is trainable
    bint has_dropout
    bint has_max_norm
    bint splits_few  # see `cut_tiles`


cdef inline bint gains_by_splitting(const Network *net) noexcept nogil:
    """Whether to give few samples at the end a tile of their own."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        if few_pays(layer.n_out, layer.n_in) and layer.n_in * layer.n_out >= LEAST_WEIGHTS:
            return True
    return False


cdef struct Loss:
    int kind
    real parameter
    bint labels
    bint elementwise
    bint mean
    double scale

# What one chunk needs; index 0 is the network's input, index l + 1 the output of layer l. All [features][lanes], but to
# `online.pxd` and `row_major.pxd` the same memory is [rows][features], and scratch the last layer's scores.
cdef struct Workspace:
    Tiles tiles
    Dropout dropout
    real **a
    real **dropped  # what is left of a after dropout; the same as a where the layer has none
    real **kept  # the factors between the two
    real **z  # the same as a where the scores are not needed any more
    real **delta
    real *scratch  # packed weights, or transposed deltas
    real *y
    real *factor
    real *value
    # where a[0], y and factor point, unless a full batch was gathered elsewhere
    real *own_x
    real *own_y
    real *own_factor


cdef inline real *inputs_of(const Workspace *ws, int l) noexcept nogil:
    """What layer l reads."""
    return ws.dropped[l] if ws.dropout.active and l > 0 else ws.a[l]


cdef inline bint mixes_units(const Layer *layer) noexcept nogil:
    """Whether the activation and its derivative mix the units of a sample."""
    return layer.activation == SOFTMAX


cdef inline bint mixes_hidden_units(const Network *net) noexcept nogil:
    cdef int l
    for l in range(net.n_layers - 1):
        if mixes_units(net.layers + l):
            return True
    return False


cdef inline void forward_units(
    const Layer *layer, Py_ssize_t first, Py_ssize_t end, const real *parameters, const Tiles *tiles,
    const real *below, real *z, real *a, real *scratch,
) noexcept nogil:
    """Units first ... end of what `forward_layer` computes, but for the activation of a layer that `mixes_units`."""
    cdef Finish how = Finish(layer.activation, layer.alpha, False, NULL, a)
    cdef const real *biases = parameters + layer.biases if layer.has_bias else NULL
    cdef Product product = Product(
        layer.n_out, layer.n_in, parameters + layer.weights, 1, layer.n_out, biases, below, z
    )
    lanes_product(tiles, &product, first, end, scratch, NULL if mixes_units(layer) else &how)


cdef inline void forward_layer(
    const Layer *layer, const real *parameters, const Tiles *tiles, const real *below, real *z, real *a, real *scratch,
) noexcept nogil:
    """z [n_out][lanes] and a = activation(z) from what the layer reads, below [n_in][lanes]; a may be z."""
    forward_units(layer, 0, layer.n_out, parameters, tiles, below, z, a, scratch)
    if mixes_units(layer):
        activate(layer.activation, layer.alpha, tiles, layer.n_out, z, a)


cdef inline void forward(const Network *net, const real *parameters, Workspace *ws) noexcept nogil:
    """ws.a[1:] and ws.z[1:] from ws.a[0]."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        forward_layer(layer, parameters, &ws.tiles, inputs_of(ws, l), ws.z[l + 1], ws.a[l + 1], ws.scratch)
        if ws.dropout.active and layer.dropout > 0:
            drop(&ws.dropout, layer, l, &ws.tiles, 0, layer.n_out, ws.a[l + 1], ws.kept[l + 1], ws.dropped[l + 1])


cdef inline void output_delta(const Network *net, const Loss *loss, Workspace *ws) noexcept nogil:
    """ws.value and ws.delta[n_layers] from the outputs."""
    cdef const Layer *last = net.layers + net.n_layers - 1
    cdef int n = net.n_layers
    loss_and_delta(
        loss.kind, loss.parameter, loss.labels, last.activation, last.alpha, &ws.tiles, last.n_out, ws.a[n], ws.z[n],
        ws.y, ws.factor, ws.delta[n], ws.value,
    )


cdef inline void multiply_units(
    const Tiles *tiles, Py_ssize_t n, Py_ssize_t first, Py_ssize_t end, const real *factor, real *x,
) noexcept nogil:
    """Rows first ... end of x [n][lanes] *= factor [n][lanes]."""
    cdef Py_ssize_t at, i
    cdef int t
    for t in range(tiles.n_tiles):
        for i in range((end - first) * tiles.vecs[t]):
            at = n * tiles.start[t] + (first * tiles.vecs[t] + i) * LANES
            vstore(x + at, vload(x + at) * vload(factor + at))


cdef inline Product backward_product(
    const Layer *layer, const real *parameters, const real *delta, real *below,
) noexcept nogil:
    """below [n_in][lanes] = W @ delta [n_out][lanes]."""
    return Product(
        layer.n_in, layer.n_out, parameters + layer.weights, layer.n_out, 1, NULL, delta, below
    )


cdef inline void delta_units(
    const Network *net, Py_ssize_t first, Py_ssize_t end, const real *parameters, const Tiles *tiles, Workspace *ws,
    int l,
) noexcept nogil:
    """Units first ... end of what `delta_below` computes, but for the derivative of a layer that `mixes_units`.

    tiles: of all samples; those of ws may be fewer.
    """
    cdef const Layer *layer = net.layers + l
    cdef const Layer *below = layer - 1
    cdef Finish how = Finish(below.activation, below.alpha, True, ws.z[l], ws.a[l])
    cdef Product product = backward_product(layer, parameters, ws.delta[l + 1], ws.delta[l])
    lanes_product(tiles, &product, first, end, ws.scratch, NULL if mixes_units(below) else &how)
    if ws.dropout.active and below.dropout > 0:
        multiply_units(tiles, layer.n_in, first, end, ws.kept[l], ws.delta[l])


cdef inline void derivative_below(const Network *net, Workspace *ws, int l) noexcept nogil:
    """ws.delta[l] *= the derivative of the layer below, where that `mixes_units`: after all units and after dropout."""
    cdef const Layer *below = net.layers + l - 1
    multiply_derivative(below.activation, below.alpha, &ws.tiles, below.n_out, ws.z[l], ws.a[l], ws.delta[l])


cdef inline void delta_below(const Network *net, const real *parameters, Workspace *ws, int l) noexcept nogil:
    """ws.delta[l], of the layer below layer l, from ws.delta[l + 1]."""
    delta_units(net, 0, net.layers[l].n_in, parameters, &ws.tiles, ws, l)
    if mixes_units(net.layers + l - 1):
        derivative_below(net, ws, l)


cdef inline void layer_gradient(
    const Layer *layer, const Tiles *tiles, const real *a, const real *d, const real *panels, Py_ssize_t first_row,
    Py_ssize_t end_row, bint with_biases, real *target, const Sink *sink,
) noexcept nogil:
    """The gradient of a layer's weights, rows first_row ... end_row, and of its biases, from one chunk.

    It goes into `target`, laid out like the parameters, in the way that `sink` says; what is not trainable is left as
    it is. Where an optimizer follows, it takes each piece while that is in the cache, and nobody reads it again.
    """
    cdef Py_ssize_t some = max(PIECE_WEIGHTS // layer.n_out, <Py_ssize_t> TILE_ROWS) // TILE_ROWS * TILE_ROWS
    cdef Py_ssize_t row = first_row, end
    cdef bint one_place = sink.update != NULL and sink.mode == SET  # for all pieces, which spares the cache
    cdef real *weights = target + layer.weights + first_row * layer.n_out if layer.trainable else NULL
    cdef real *biases = target + layer.biases if layer.bias_trainable and with_biases else NULL
    cdef real *changes
    while True:
        end = min(end_row, row + some)
        changes = weights
        if weights != NULL and sink.update != NULL:
            changes = sink.update.parameters + layer.weights + row * layer.n_out
        gradient_rows(
            layer, tiles, a, d, panels, row, end, weights, biases if end == end_row else NULL, changes, sink
        )
        if weights != NULL:
            if sink.update != NULL:
                optimize(sink.update, weights, layer.weights + row * layer.n_out, (end - row) * layer.n_out)
            if not one_place:
                weights += (end - row) * layer.n_out
        if end == end_row:
            break
        row = end
    if sink.update != NULL and biases != NULL:
        optimize(sink.update, biases, layer.biases, layer.n_out)


cdef inline void gradient_rows(
    const Layer *layer, const Tiles *tiles, const real *a, const real *d, const real *panels, Py_ssize_t first_row,
    Py_ssize_t end_row, real *g_weights, real *g_biases, real *changes, const Sink *sink,
) noexcept nogil:
    """The gradient of those rows of the weights, g_weights (end_row - first_row, n_out), and of the biases; either may
    be NULL. changes: see `outputs_product`."""
    if layer.n_out < FEW_OUTPUTS:
        dots_product(tiles, layer.n_in, layer.n_out, first_row, end_row, a, d, g_weights, g_biases, sink)
    else:
        outputs_product(
            tiles, layer.n_in, layer.n_out, first_row, end_row, a, panels, g_weights, g_biases, changes, sink
        )


cdef inline void backward(
    const Network *net, const real *parameters, Workspace *ws, real *target, const Sink *sink,
) noexcept nogil:
    """All gradients from one chunk. target may be the parameters: each layer is stepped after it was read."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        if l > net.first_trainable:
            delta_below(net, parameters, ws, l)
        if not (layer.trainable or layer.bias_trainable):
            continue
        if layer.n_out >= FEW_OUTPUTS:
            transpose_rows(&ws.tiles, layer.n_out, ws.delta[l + 1], ws.tiles.n_lanes, 0, ws.scratch)
        layer_gradient(
            layer, &ws.tiles, inputs_of(ws, l), ws.delta[l + 1], ws.scratch, 0, layer.n_in, True, target, sink
        )


cdef inline void input_delta(const Network *net, const real *parameters, Workspace *ws) noexcept nogil:
    """ws.delta[0], the gradient with respect to the network's input, and all deltas above it."""
    cdef Product product = backward_product(net.layers, parameters, ws.delta[1], ws.delta[0])
    cdef int l
    for l in range(net.n_layers - 1, 0, -1):
        delta_below(net, parameters, ws, l)
    lanes_product(&ws.tiles, &product, 0, net.n_inputs, ws.scratch, NULL)
