"""Batches of one row: the lanes run over features instead of samples.

Hidden layers are vectors of features, and so are the outputs where each has a loss of its own. Other losses keep their
layout, samples in the lanes, with the one sample in every lane: so there is one implementation of each.
"""

from bpcore.formulas.activation_loops cimport (
    UnitDeltas, activate, activate_vecs, activated, multiply_derivative_vecs, set_delta_vecs,
)
from bpcore.formulas.activations cimport ActivationKind, is_elementwise
from bpcore.formulas.loss_deltas cimport elementwise_delta, has_deltas
from bpcore.formulas.losses cimport Loss, from_scores
from bpcore.machine.types cimport LANES, never_inlined, real, vec, vload, vset1, vstore
from bpcore.passes.layers cimport output_delta
from bpcore.passes.network cimport NETWORK_INPUTS, Chunk, Layer, Network
from bpcore.products.row_products cimport Use, narrow_scores, row_delta, row_gradient, row_scores


# A layer, with all its arrays where they are for every row.
cdef struct RowLayer:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Py_ssize_t n_vecs  # that n_out numbers take
    ActivationKind activation
    real alpha
    const real *weights
    const real *biases  # or NULL
    const RowLayer *below  # what it reads; NULL: the row
    real *z  # (n_out,) in whole vectors, like a and delta; may be a
    real *a
    real *delta
    real *g_weights  # what the gradient changes; NULL where it is not trainable
    real *g_biases
    bint passes_delta  # whether the layer below needs one

# The pass of a row, and what its outputs leave.
cdef struct RowPass:
    RowLayer *layers
    int n_layers
    int first_trainable
    Use use  # of the gradient
    bint side_by_side  # whether each output has a loss of its own
    real *targets  # (n_outputs,) in whole vectors, for these


cdef inline bint lie_side_by_side(const Network *net, const Loss *loss) noexcept nogil:
    """Whether each output has a loss of its own, so that they need not be samples in lanes for it."""
    return has_deltas(loss) and is_elementwise(net.layers[net.n_layers - 1].activation)


cdef inline never_inlined place_row_layer(
    const Layer *layer, const real *parameters, real *target, RowLayer *layers, RowLayer *own,
) noexcept nogil:
    """Fill in a layer but for the arrays of its outputs."""
    own.n_in, own.n_out = layer.n_in, layer.n_out
    own.n_vecs = (layer.n_out + LANES - 1) // LANES
    own.activation, own.alpha = layer.activation, layer.alpha
    own.weights = parameters + layer.weights
    own.biases = parameters + layer.biases if layer.has_bias else NULL
    own.below = layers + layer.reads if layer.reads != NETWORK_INPUTS else NULL
    own.g_weights = target + layer.weights if layer.trainable else NULL
    own.g_biases = target + layer.biases if layer.bias_trainable else NULL


cdef inline void place_row_pass(
    const Network *net, const Loss *loss, const real *parameters, real *target, Use use, const Chunk *chunk,
    RowPass *row,
) noexcept nogil:
    """Fill in the layers. target: where the gradient goes, laid out like the parameters.

    The arrays of the last layer are `row`'s own where its chunk collects outputs (`run/row_losses.pxd`).
    """
    cdef RowLayer *own
    cdef int l
    row.n_layers = net.n_layers
    row.first_trainable = net.first_trainable
    row.use = use
    row.side_by_side = lie_side_by_side(net, loss)
    for l in range(net.n_layers):
        own = row.layers + l
        place_row_layer(net.layers + l, parameters, target, row.layers, own)
        if l < net.n_layers - 1 or not row.side_by_side:
            own.z, own.a = chunk.z[l + 1], chunk.a[l + 1]
        own.delta = chunk.delta[l + 1]
        own.passes_delta = net.layers[l].reads >= net.first_trainable


# ---- forward ----

cdef inline const real *row_inputs(const RowLayer *layer, const real *row) noexcept nogil:
    """What a layer reads, (n_in,), where `row` is what the network reads."""
    return row if layer.below == NULL else layer.below.a


cdef inline vec narrow_layer(const RowLayer *layer, const real *inputs, vec *z) noexcept nogil:
    """z and a of a layer of one vector from what it reads; its scores need not go through memory to be activated."""
    cdef vec a
    z[0] = narrow_scores(layer.n_in, layer.n_out, inputs, layer.weights, layer.biases)
    vstore(layer.z, z[0])
    a = activated(layer.activation, layer.alpha, z[0])
    vstore(layer.a, a)
    return a


cdef inline void row_layer(const RowLayer *layer, const real *inputs) noexcept nogil:
    """z and a of a layer from what it reads."""
    cdef vec z
    if layer.n_vecs == 1:
        narrow_layer(layer, inputs, &z)
    else:
        row_scores(layer.n_in, layer.n_out, inputs, layer.weights, layer.biases, layer.z)
        activate_vecs(layer.activation, layer.alpha, layer.n_vecs, layer.z, layer.a)


cdef inline void hidden_layers(const RowPass *path, const real *row) noexcept nogil:
    """All layers but the last for one row (n_inputs,)."""
    cdef const RowLayer *layer
    cdef int l
    for l in range(path.n_layers - 1):
        layer = path.layers + l
        row_layer(layer, row_inputs(layer, row))


cdef inline void row_outputs(
    const RowLayer *layer, const Loss *loss, const real *inputs, const real *y, real factor,
) noexcept nogil:
    """The last layer and its delta, for outputs that lie side by side."""
    cdef vec a, z, f = vset1(factor)
    cdef Py_ssize_t i
    if layer.n_vecs == 1:
        a = narrow_layer(layer, inputs, &z)
        vstore(layer.delta, elementwise_delta(loss, layer.activation, a, z, vload(y), f))
    else:
        row_layer(layer, inputs)
        for i in range(layer.n_vecs):
            a = vload(layer.a + i * LANES)
            z = vload(layer.z + i * LANES)
            vstore(layer.delta + i * LANES, elementwise_delta(loss, layer.activation, a, z, vload(y + i * LANES), f))
    if not from_scores(loss.kind, layer.activation):
        multiply_derivative_vecs(layer.activation, layer.alpha, layer.n_vecs, layer.z, layer.a, layer.delta)


cdef inline void row_forward(
    const RowPass *path, const Loss *loss, const real *row, real factor,
) noexcept nogil:
    """All layers for one row (n_inputs,), and the delta of the last one, for outputs that lie side by side."""
    cdef const RowLayer *layer = path.layers + path.n_layers - 1
    hidden_layers(path, row)
    row_outputs(layer, loss, row_inputs(layer, row), path.targets, factor)


cdef inline void row_forward_in_lanes(
    const Network *net, const Loss *loss, const real *parameters, const RowPass *path, const real *row, Chunk *chunk,
) noexcept nogil:
    """The same for other outputs: chunk.value and the delta of the last layer, (n_out,), from chunk.y."""
    cdef const RowLayer *layer = path.layers + path.n_layers - 1
    cdef real *spread = layer.z
    cdef Py_ssize_t i
    hidden_layers(path, row)
    row_scores(layer.n_in, layer.n_out, row_inputs(layer, row), layer.weights, layer.biases, chunk.scratch)
    for i in range(layer.n_out):
        vstore(spread + i * LANES, vset1(chunk.scratch[i]))
    activate(layer.activation, layer.alpha, &chunk.tiles, layer.n_out, spread, layer.a)
    output_delta(net, loss, parameters, chunk)
    for i in range(layer.n_out):
        layer.delta[i] = layer.delta[i * LANES]


# ---- backward ----

cdef inline void row_delta_below(const RowLayer *layer) noexcept nogil:
    """The delta of the layer below: W @ delta times its derivative."""
    cdef const RowLayer *below = layer.below
    cdef Py_ssize_t done = 0
    cdef UnitDeltas deltas
    if layer.n_out == 1:  # whole vectors go from the product to the derivative without a trip to memory
        deltas.factor, deltas.zero, deltas.above, deltas.n_units = vset1(layer.delta[0]), vset1(-0.0), layer.weights, 1
        done = layer.n_in // LANES * LANES
        set_delta_vecs(below.activation, below.alpha, done // LANES, below.z, below.a, &deltas, below.delta)
        if done == layer.n_in:
            return
    row_delta(layer.n_in - done, layer.n_out, layer.weights + done * layer.n_out, layer.delta, below.delta + done)
    multiply_derivative_vecs(
        below.activation, below.alpha, below.n_vecs - done // LANES, below.z + done, below.a + done, below.delta + done
    )


cdef inline void row_backward(
    const RowPass *path, const real *row, real rate, real decay,
) noexcept nogil:
    """The gradient of one row to its place, or a step of what is there."""
    cdef const RowLayer *layer
    cdef int l
    for l in range(path.n_layers - 1, path.first_trainable - 1, -1):
        layer = path.layers + l
        if layer.passes_delta:
            row_delta_below(layer)
        row_gradient(
            path.use, rate, decay, layer.n_in, layer.n_out, row_inputs(layer, row), layer.delta, layer.g_weights,
            layer.g_biases,
        )
