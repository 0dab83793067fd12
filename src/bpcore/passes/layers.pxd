"""What a kind of layer does, chosen by its kind: forward, the delta of what it reads, the gradient of its arrays.

To add a kind: its name in `LayerKind`, a file like `dense.pxd`, and a branch in each function here. A forgotten branch
is an error of the C compiler (-Werror=switch-enum).
"""

from bpcore.formulas.activation_loops cimport activate, multiply_derivative, prelu_delta_units, softmax
from bpcore.formulas.activations cimport PRELU, ActivationKind
from bpcore.formulas.loss_loops cimport loss_and_delta
from bpcore.formulas.losses cimport Loss
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, never_inlined, real, vset1, vstore
from bpcore.passes.dense cimport (
    dense_delta_is_short, dense_delta_panels, dense_delta_units, dense_forward_row, dense_forward_rows,
    dense_forward_units, dense_gradient, dense_gradient_below, dense_input_delta,
)
from bpcore.passes.network cimport DENSE, NO_KIND, Chunk, Layer, Network, mixes_units, needs_panels
from bpcore.products.few_inputs cimport suits_few_inputs
from bpcore.products.rows_in_place cimport knows_rows_in_place
from bpcore.products.sinks cimport Sink


cdef inline never_inlined forward_units(
    const Layer *layer, Py_ssize_t first, Py_ssize_t end, const real *parameters, const Tiles *tiles,
    const real *inputs, real *z, real *a, real *scratch,
) noexcept nogil:
    """Units first ... end of what `forward_layer` computes, but for the activation of a layer that `mixes_units`."""
    if layer.kind == DENSE:
        dense_forward_units(layer, first, end, parameters, tiles, inputs, z, a, scratch)
    elif layer.kind == NO_KIND:
        pass


cdef inline never_inlined forward_rows(
    const Layer *layer, const real *parameters, const Tiles *tiles, const real **rows, real *z, real *a, real *scratch,
) noexcept nogil:
    """All units, from rows that are read where they lie."""
    if layer.kind == DENSE:
        dense_forward_rows(layer, parameters, tiles, rows, z, a, scratch)
    elif layer.kind == NO_KIND:
        pass


cdef inline void delta_units(
    const Network *net, int number, Py_ssize_t first, Py_ssize_t end, const real *parameters, const Tiles *tiles,
    Chunk *chunk,
) noexcept nogil:
    """Units first ... end of what `delta_below` computes, but for the derivative of a layer that `mixes_units`.

    tiles: of all samples; those of the chunk may be fewer.
    """
    cdef const Layer *layer = net.layers + number
    if layer.kind == DENSE:
        dense_delta_units(layer, number, net.layers + layer.reads, first, end, parameters, tiles, chunk)
    elif layer.kind == NO_KIND:
        pass


cdef inline void layer_gradient(
    const Layer *layer, const Tiles *tiles, const real *inputs, const real **rows, const real *delta,
    const real *slope_delta, const real *panels, Py_ssize_t first_row, Py_ssize_t end_row, bint with_unit_arrays,
    real *target, const Sink *sink,
) noexcept nogil:
    """The gradient of a layer's arrays from one chunk; see `dense_gradient`."""
    if layer.kind == DENSE:
        dense_gradient(
            layer, tiles, inputs, rows, delta, slope_delta, panels, first_row, end_row, with_unit_arrays, target, sink
        )
    elif layer.kind == NO_KIND:
        pass


# ---- whole layers ----

cdef inline void forward_layer(
    const Layer *layer, const real *parameters, const Tiles *tiles, const real *inputs, const real **rows, real *z,
    real *a, real *scratch,
) noexcept nogil:
    """z [n_out][lanes] and a = activation(z) from what the layer reads; a may be z.

    That is inputs [n_in][lanes], unless rows (lanes,) say where each sample's are.
    """
    if not knows_rows_in_place() or rows == NULL:
        forward_units(layer, 0, layer.n_out, parameters, tiles, inputs, z, a, scratch)
    else:
        forward_rows(layer, parameters, tiles, rows, z, a, scratch)
    if mixes_units(layer):
        activate(layer.activation, layer.alpha, tiles, layer.n_out, z, a)


cdef inline void forward_row(
    const Layer *layer, const real *parameters, const real *inputs, real *z, real *a, real *scratch,
) noexcept nogil:
    """`forward_layer` for one row: inputs (n_in,), z and a (n_out,) with room for whole vectors; a may be z.

    scratch: room for [n_out][LANES], where the activation `mixes_units`.
    """
    cdef Py_ssize_t o
    if layer.kind == DENSE:
        dense_forward_row(layer, parameters, inputs, z, a)
    elif layer.kind == NO_KIND:
        pass
    if mixes_units(layer):
        for o in range(layer.n_out):
            vstore(scratch + o * LANES, vset1(z[o]))
        softmax(layer.n_out, 1, scratch, scratch)
        for o in range(layer.n_out):
            a[o] = scratch[o * LANES]


cdef inline void derivative_below(const Network *net, int number, Chunk *chunk) noexcept nogil:
    """Multiply the delta of the layer that this one reads by its derivative, where that `mixes_units`: after all units
    and after dropout."""
    cdef int at = net.layers[number].reads + 1
    cdef const Layer *below = net.layers + at - 1
    multiply_derivative(
        below.activation, below.alpha, &chunk.tiles, below.n_out, chunk.z[at], chunk.a[at], chunk.delta[at]
    )


cdef inline never_inlined delta_below(
    const Network *net, int number, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """The delta of the layer that this one reads, from the layer's own."""
    cdef const Layer *layer = net.layers + number
    delta_units(net, number, 0, layer.n_in, parameters, &chunk.tiles, chunk)
    if mixes_units(net.layers + layer.reads):
        derivative_below(net, number, chunk)


# What becomes of the delta of the layer that a layer reads.
cdef enum DeltaBelow:
    STORED  # by `delta_below`
    IN_PANELS  # by `delta_panels_below`, as the weight gradient reads it
    IN_SUMS  # by `gradient_below`, which stores none


cdef inline DeltaBelow way_of_delta(
    const Network *net, int number, const Chunk *chunk, const Sink *sink,
) noexcept nogil:
    """Short work that nothing but one gradient reads need not be stored.

    It is stored for an optimizer that takes each piece of a gradient at once: that is for `dense_gradient` to say.
    """
    cdef const Layer *layer = net.layers + number
    cdef const Layer *below = net.layers + layer.reads
    cdef bint is_short = False
    if layer.reads != number - 1 or below.reads >= net.first_trainable or below.kind != DENSE:
        return STORED
    if layer.kind == DENSE:
        is_short = dense_delta_is_short(layer, below, chunk)
    elif layer.kind == NO_KIND:
        pass
    if is_short and needs_panels(net, below):
        return IN_PANELS
    if is_short and sink.update == NULL and suits_few_inputs(below.n_in, below.n_out):
        return IN_SUMS
    return STORED


cdef inline void delta_panels_below(
    const Network *net, int number, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """`delta_below`, but in panels in the scratch, as the weight gradient reads them."""
    cdef const Layer *layer = net.layers + number
    if layer.kind == DENSE:
        dense_delta_panels(layer, number, net.layers + layer.reads, parameters, chunk)
    elif layer.kind == NO_KIND:
        pass


cdef inline Py_ssize_t gradient_below(
    const Network *net, int number, const real *parameters, Chunk *chunk, real *target, const Sink *sink,
) noexcept nogil:
    """The gradient of the layer that this one reads, without its delta; returns how many rows of this layer's weights
    have theirs, too."""
    cdef const Layer *layer = net.layers + number
    if layer.kind == DENSE:
        return dense_gradient_below(layer, number, net.layers + layer.reads, parameters, chunk, target, sink)
    elif layer.kind == NO_KIND:
        pass
    return 0


cdef inline void output_derivative(const Network *net, const real *parameters, Chunk *chunk) noexcept nogil:
    """The delta of the last layer, dL/dz, from dL/da in its place."""
    cdef int n = net.n_layers
    cdef const Layer *last = net.layers + n - 1
    if last.activation == PRELU:
        output_slopes(net, parameters, chunk)
    else:
        multiply_derivative(
            last.activation, last.alpha, &chunk.tiles, last.n_out, chunk.z[n], chunk.a[n], chunk.delta[n]
        )


cdef inline never_inlined output_slopes(const Network *net, const real *parameters, Chunk *chunk) noexcept nogil:
    """`output_derivative` of a prelu layer."""
    cdef int n = net.n_layers
    cdef const Layer *last = net.layers + n - 1
    prelu_delta_units(
        &chunk.tiles, last.n_out, 0, last.n_out, parameters + last.slopes, chunk.z[n], chunk.delta[n],
        chunk.slope_delta[n],
    )


cdef inline never_inlined loss_delta(
    const Network *net, const Loss *loss, ActivationKind activation, const real *y, Chunk *chunk, real *delta,
) noexcept nogil:
    """chunk.value, and delta = dL/dz by the activation of the last layer; by the identity it is dL/da."""
    cdef int n = net.n_layers
    cdef const Layer *last = net.layers + n - 1
    loss_and_delta(
        loss, activation, last.alpha, &chunk.tiles, last.n_out, chunk.a[n], chunk.z[n], y, chunk.factor, delta,
        chunk.value, chunk.scratch,
    )


cdef inline void output_delta(
    const Network *net, const Loss *loss, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """chunk.value and the delta of the last layer from the outputs."""
    cdef int n = net.n_layers
    cdef ActivationKind activation = net.layers[n - 1].activation
    loss_delta(net, loss, activation, chunk.y, chunk, chunk.delta[n])
    if activation == PRELU:
        output_slopes(net, parameters, chunk)


cdef inline void input_delta_product(
    const Layer *layer, int number, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """chunk.delta[0] [n_inputs][lanes] from the delta of a layer that reads the network's inputs."""
    if layer.kind == DENSE:
        dense_input_delta(layer, number, parameters, chunk)
    elif layer.kind == NO_KIND:
        pass
