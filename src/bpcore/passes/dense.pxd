"""The dense layer: forward, the delta of what it reads, and the gradient of its arrays, for a chunk of samples.

`layers.pxd` chooses it by the kind of the layer. Units are computed in ranges, so that threads can share them.
"""

from bpcore.formulas.activation_loops cimport activate_vecs, prelu_delta_units, prelu_row, prelu_units
from bpcore.formulas.activations cimport PRELU, is_elementwise
from bpcore.formulas.optimizer_loops cimport optimize
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, TILE_ROWS, real, vload, vstore
from bpcore.passes.network cimport Chunk, Layer, inputs_of, is_wide, mixes_units
from bpcore.products.delta_panels cimport DeltaPanels, delta_panels, knows_derivative
from bpcore.products.few_inputs cimport FEW_ABOVE, FewInputs, few_inputs_gradient
from bpcore.products.gradients cimport dots_product, outputs_product, sums_of_units
from bpcore.products.row_units cimport RowProduct, row_product
from bpcore.products.rows_in_place cimport RowsProduct, units_product
from bpcore.products.samples cimport RELU_VALUE, Finish, Product, ending_of, finish, samples_product
from bpcore.products.sinks cimport SET, Sink


cdef enum:
    # Weights whose gradient is made at a time: whole rows, which lie together, and what they need of the inputs stay in
    # the cache meanwhile, also for the optimizer. Without it a step of 256-1024-1024-10 takes 3 % longer.
    PIECE_WEIGHTS = 16384


# ---- forward ----

cdef inline void dense_forward_units(
    const Layer *layer, Py_ssize_t first, Py_ssize_t end, const real *parameters, const Tiles *tiles,
    const real *inputs, real *z, real *a, real *scratch,
) noexcept nogil:
    """Units first ... end of z and a [n_out][lanes], but for the activation of a layer that `mixes_units`.

    inputs: [n_in][lanes]. a may be z.
    """
    cdef Finish how = Finish(layer.activation, layer.alpha, False, NULL, a)
    cdef const real *biases = parameters + layer.biases if layer.has_bias else NULL
    cdef Product product = Product(
        layer.n_out, layer.n_in, parameters + layer.weights, 1, layer.n_out, biases, inputs, z
    )
    samples_product(tiles, &product, first, end, scratch, &how if is_elementwise(layer.activation) else NULL)
    if layer.activation == PRELU:
        prelu_units(tiles, layer.n_out, first, end, parameters + layer.slopes, z, a)


cdef inline void dense_forward_rows(
    const Layer *layer, const real *parameters, const Tiles *tiles, const real **rows, real *z, real *a, real *scratch,
) noexcept nogil:
    """The same for all units, from rows (lanes,) that are read where they lie; see `RowsProduct`."""
    cdef Finish how = Finish(layer.activation, layer.alpha, False, NULL, a)
    cdef const real *biases = parameters + layer.biases if layer.has_bias else NULL
    cdef bint ends = ending_of(&how, z) == RELU_VALUE
    cdef RowsProduct product = RowsProduct(
        layer.n_out, layer.n_in, parameters + layer.weights, biases, rows, z, ends, scratch
    )
    cdef Py_ssize_t first = 0, width
    cdef int n_vecs = 0, t
    while first < layer.n_out:
        first = units_product(tiles, &product, first, &n_vecs)
        if is_elementwise(layer.activation) and not ends:
            for t in range(tiles.n_tiles):
                width = tiles.vecs[t] * LANES
                finish(&how, layer.n_out * tiles.start[t] + first * width, n_vecs * width, z)
        first += n_vecs * LANES
    if layer.activation == PRELU:
        prelu_units(tiles, layer.n_out, 0, layer.n_out, parameters + layer.slopes, z, a)


cdef inline void dense_forward_row(
    const Layer *layer, const real *parameters, const real *inputs, real *z, real *a,
) noexcept nogil:
    """The same for one row: inputs (n_in,), z and a (n_out,) with room for whole vectors."""
    cdef const real *biases = parameters + layer.biases if layer.has_bias else NULL
    cdef RowProduct product = RowProduct(
        layer.n_out, layer.n_in, parameters + layer.weights, biases, inputs, z
    )
    row_product(&product)
    if is_elementwise(layer.activation):
        activate_vecs(layer.activation, layer.alpha, (layer.n_out + LANES - 1) // LANES, z, a)
    elif layer.activation == PRELU:
        prelu_row(layer.n_out, parameters + layer.slopes, z, a)


# ---- backward ----

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


cdef inline Product dense_backward_product(
    const Layer *layer, const real *parameters, const real *delta, real *below,
) noexcept nogil:
    """below [n_in][lanes] = W @ delta [n_out][lanes]."""
    return Product(
        layer.n_in, layer.n_out, parameters + layer.weights, layer.n_out, 1, NULL, delta, below
    )


cdef inline bint dense_delta_is_short(const Layer *layer, const Layer *below, const Chunk *chunk) noexcept nogil:
    """Whether the delta of `below` is short work, and those who make it in passing know all that the layer has.

    The scratch is free then.
    """
    cdef Finish how = Finish(below.activation, below.alpha, True, NULL, NULL)
    return (
        not is_wide(layer) and knows_derivative(&how) and not (chunk.dropout.active and below.dropout > 0)
    )


cdef inline void dense_delta_panels(
    const Layer *layer, int number, const Layer *below, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """The delta of `below`, the layer that this one reads, in panels in the scratch, and nowhere else."""
    cdef int at = layer.reads + 1
    cdef Finish how = Finish(below.activation, below.alpha, True, NULL, NULL)
    cdef DeltaPanels panels = DeltaPanels(
        layer.n_in, layer.n_out, parameters + layer.weights, chunk.delta[number + 1], chunk.a[at], chunk.scratch
    )
    delta_panels(&chunk.tiles, &panels, &how)


cdef inline void dense_delta_units(
    const Layer *layer, int number, const Layer *below, Py_ssize_t first, Py_ssize_t end, const real *parameters,
    const Tiles *tiles, Chunk *chunk,
) noexcept nogil:
    """Units first ... end of the delta of `below`, the layer that this one reads, but for the derivative of a layer
    that `mixes_units`.

    number: of this layer. tiles: of all samples; those of the chunk may be fewer.
    """
    cdef int at = layer.reads + 1
    cdef Finish how = Finish(below.activation, below.alpha, True, chunk.z[at], chunk.a[at])
    cdef Product product = dense_backward_product(layer, parameters, chunk.delta[number + 1], chunk.delta[at])
    samples_product(
        tiles, &product, first, end, chunk.scratch, &how if is_elementwise(below.activation) else NULL
    )
    if chunk.dropout.active and below.dropout > 0:
        multiply_units(tiles, layer.n_in, first, end, chunk.dropout_factors[at], chunk.delta[at])
    if below.activation == PRELU:
        prelu_delta_units(
            tiles, layer.n_in, first, end, parameters + below.slopes, chunk.z[at], chunk.delta[at],
            chunk.slope_delta[at],
        )


cdef inline void dense_input_delta(
    const Layer *layer, int number, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """chunk.delta[0] [n_inputs][lanes], where this layer reads the network's inputs."""
    cdef Product product = dense_backward_product(layer, parameters, chunk.delta[number + 1], chunk.delta[0])
    samples_product(&chunk.tiles, &product, 0, layer.n_in, chunk.scratch, NULL)


# ---- the gradient of the arrays ----

cdef inline void dense_gradient(
    const Layer *layer, const Tiles *tiles, const real *inputs, const real **rows, const real *delta,
    const real *slope_delta, const real *panels, Py_ssize_t first_row, Py_ssize_t end_row, bint with_unit_arrays,
    real *target, const Sink *sink,
) noexcept nogil:
    """The gradient of rows first_row ... end_row of the weights, and of biases and slopes, from one chunk.

    It goes into `target`, laid out like the parameters, in the way that `sink` says; what is not trainable is left as
    it is. Where an optimizer follows, it takes each piece while that is in the cache, and nobody reads it again.
    """
    cdef Py_ssize_t some = max(PIECE_WEIGHTS // layer.n_out, <Py_ssize_t> TILE_ROWS) // TILE_ROWS * TILE_ROWS
    cdef Py_ssize_t row = first_row, end
    cdef bint one_place = sink.update != NULL and sink.mode == SET  # for all pieces, which spares the cache
    cdef real *weights = target + layer.weights + first_row * layer.n_out if layer.trainable else NULL
    cdef real *biases = target + layer.biases if layer.bias_trainable and with_unit_arrays else NULL
    cdef real *changes
    while True:
        end = min(end_row, row + some)
        changes = weights
        if weights != NULL and sink.update != NULL:
            changes = sink.update.parameters + layer.weights + row * layer.n_out
        gradient_rows(
            layer, tiles, inputs, rows, delta, panels, row, end, weights, biases if end == end_row else NULL, changes,
            sink,
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
    if layer.has_slopes and layer.trainable and with_unit_arrays:
        sums_of_units(tiles, layer.n_out, slope_delta, target + layer.slopes, sink)
        if sink.update != NULL:
            optimize(sink.update, target + layer.slopes, layer.slopes, layer.n_out)


cdef inline void gradient_rows(
    const Layer *layer, const Tiles *tiles, const real *inputs, const real **rows, const real *delta,
    const real *panels, Py_ssize_t first_row, Py_ssize_t end_row, real *g_weights, real *g_biases, real *changes,
    const Sink *sink,
) noexcept nogil:
    """The gradient of those rows of the weights, g_weights (end_row - first_row, n_out), and of the biases; either may
    be NULL. rows: see `forward_layer`; for panels alone. panels: NULL where they are not needed. changes: see
    `outputs_product`."""
    if panels != NULL:
        outputs_product(
            tiles, layer.n_in, layer.n_out, first_row, end_row, inputs, rows, panels, g_weights, g_biases, changes, sink
        )
    else:
        dots_product(tiles, layer.n_in, layer.n_out, first_row, end_row, inputs, delta, g_weights, g_biases, sink)


cdef inline Py_ssize_t dense_gradient_below(
    const Layer *layer, int number, const Layer *below, const real *parameters, Chunk *chunk, real *target,
    const Sink *sink,
) noexcept nogil:
    """The gradient of `below`, the layer that this one reads, which has few inputs and whose delta is nowhere.

    Returns how many rows of this layer's weights have theirs, too: all or none.
    """
    cdef int at = layer.reads + 1
    cdef Finish how = Finish(below.activation, below.alpha, True, NULL, NULL)
    cdef real *weights = target + below.weights if below.trainable else NULL
    cdef real *biases = target + below.biases if below.bias_trainable else NULL
    cdef real *above = target + layer.weights if layer.trainable and layer.n_out == FEW_ABOVE else NULL
    cdef FewInputs sums = FewInputs(
        below.n_in, layer.n_in, layer.n_out, parameters + layer.weights, chunk.delta[number + 1],
        inputs_of(chunk, below), chunk.a[at], weights, biases, above,
    )
    few_inputs_gradient(&chunk.tiles, &sums, &how, sink)
    return layer.n_in if above != NULL else 0
