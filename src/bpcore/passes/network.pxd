"""A network as the passes see it: its layers, what each reads, and where its arrays lie in the flat vector."""

from bpcore.formulas.activations cimport RELU, SOFTMAX, TANH, ActivationKind
from bpcore.formulas.dropout cimport Dropout
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, real
from bpcore.products.few_inputs cimport FEW_INPUTS
from bpcore.products.rows_in_place cimport suits_rows_in_place
from bpcore.products.units cimport LEAST_WEIGHTS, units_pay


cdef enum LayerKind:
    NO_KIND  # of a layer that was not filled in; with a second name each choice is a `switch`, which must be complete
    DENSE

cdef enum:
    NETWORK_INPUTS = -1  # what a layer reads that reads no other layer
    # Layers with fewer outputs get their weight gradient by dot products over the samples: lanes over outputs would
    # run mostly empty. A function of the shape alone, so that every instruction set adds up in the same order.
    FEW_OUTPUTS = 8

# DENSE: a = activation(inputs @ W + b).
cdef struct Layer:
    LayerKind kind
    int reads  # the number of the layer whose outputs are its inputs, or NETWORK_INPUTS
    Py_ssize_t n_in
    Py_ssize_t n_out
    # its arrays: where each starts in the flat vector
    Py_ssize_t weights  # (n_in, n_out) row by row
    Py_ssize_t biases  # (n_out,)
    Py_ssize_t slopes  # (n_out,): of prelu
    bint has_bias
    bint has_slopes
    bint trainable
    bint bias_trainable
    ActivationKind activation
    real alpha
    real l1
    real l2
    double dropout  # share of the outputs that a training step drops
    double max_norm  # bound for the norm of each column of the weights; 0: none


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
    bint by_chunks  # whether it needs more than the passes for small batches know
    bint splits_short_tile  # see `cut_tiles`
    bint sums_few_inputs  # whether some layers with few inputs, too, get their weight gradient by dot products


# The arrays of one chunk of samples. Index 0 is the network's input, index l + 1 the output of layer l. All are
# [features][lanes]; to `single_row.pxd` and `few_rows.pxd` the same memory is [rows][features], and scratch holds the
# last layer's scores.
cdef struct Chunk:
    Tiles tiles
    Dropout dropout
    real **a
    real **after_dropout  # the same as a where the layer has no dropout
    real **dropout_factors  # after_dropout / a
    real **z  # the same as a where the scores are not needed any more
    real **delta
    real **slope_delta  # of prelu layers: each sample's part of the gradient of the slopes
    real *scratch  # packed weights, or transposed deltas, or what a loss of one sample needs
    const real **rows  # where the rows lie that the lowest layer reads there, of whole groups; NULL: they are in a[0]
    real *y
    real *factor
    real *value
    # where a[0], rows, y and factor point, unless a full batch was gathered elsewhere
    real *own_x
    const real **own_rows
    real *own_y
    real *own_factor
    int slot  # which of the rooms of an `OwnPass` is for it


# ---- questions about a network: answered from shapes and settings alone, so that every instruction set agrees ----

cdef inline bint mixes_units(const Layer *layer) noexcept nogil:
    """Whether the activation and its derivative mix the units of a sample."""
    return layer.activation == SOFTMAX


cdef inline bint fits_small_batches(const Network *net) noexcept nogil:
    """Whether the passes for small batches know all that the network has: tiny, of one row and of a few."""
    cdef const Layer *layer
    cdef int l
    if net.by_chunks:
        return False
    for l in range(net.n_layers):
        layer = net.layers + l
        if layer.kind != DENSE or layer.has_slopes or (l < net.n_layers - 1 and mixes_units(layer)):
            return False
    return not net.has_dropout


cdef inline bint is_wide(const Layer *layer) noexcept nogil:
    return layer.n_out >= FEW_OUTPUTS


cdef inline bint has_short_delta(const Network *net, const Layer *layer) noexcept nogil:
    """Whether it is the lowest layer that learns, and its delta, of few units above, has a simple derivative.

    From the network alone: what `knows_derivative` knows differs between instruction sets. Layers are a chain.
    """
    return (
        layer.reads < net.first_trainable and layer < net.layers + net.n_layers - 1 and not is_wide(layer + 1)
        and (<int> layer.activation == RELU or <int> layer.activation == TANH)
    )


cdef inline bint needs_panels(const Network *net, const Layer *layer) noexcept nogil:
    """Whether the weight gradient reads the deltas transposed."""
    return is_wide(layer) and not (net.sums_few_inputs and layer.n_in <= FEW_INPUTS and has_short_delta(net, layer))


cdef inline bint gains_by_splitting(const Network *net) noexcept nogil:
    """Whether to give few samples at the end a tile of their own."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        if units_pay(layer.n_out, layer.n_in) and layer.n_in * layer.n_out >= LEAST_WEIGHTS:
            return True
    return False


cdef inline bint reads_rows_in_place(const Network *net, Py_ssize_t n_rows) noexcept nogil:
    """Whether the lowest layer reads the rows of a chunk where they lie; it changes no bit.

    It has more than FEW_INPUTS then, so its gradient is made from panels.
    """
    cdef const Layer *lowest = net.layers
    cdef bint is_split = net.splits_short_tile and n_rows % LANES <= LANES // 4
    cdef int l
    for l in range(1, net.n_layers):
        if net.layers[l].reads == NETWORK_INPUTS:
            return False
    return lowest.kind == DENSE and is_wide(lowest) and suits_rows_in_place(
        lowest.n_in, lowest.n_out, n_rows, n_rows if is_split else (n_rows + LANES - 1) // LANES * LANES
    )


# ---- the arrays of a chunk ----

cdef inline real *inputs_of(const Chunk *chunk, const Layer *layer) noexcept nogil:
    """What a layer reads, [n_in][lanes]."""
    if chunk.dropout.active and layer.reads != NETWORK_INPUTS:
        return chunk.after_dropout[layer.reads + 1]
    return chunk.a[layer.reads + 1]


cdef inline const real **rows_of(const Chunk *chunk, const Layer *layer) noexcept nogil:
    """Where the rows lie that a layer reads; NULL: what it reads is `inputs_of`."""
    return chunk.rows if layer.reads == NETWORK_INPUTS else NULL
