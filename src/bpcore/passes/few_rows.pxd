"""Batches of a few rows: the lanes run over features, which lie row by row, [rows][features].

With samples in the lanes most of these would be empty. Only the loss keeps that layout. Sums have one chain of
additions, in the order of the inputs going forward, of the outputs going back and of the rows for the gradient. Those
of narrow layers have four chains, and those of single units are dot products. Which of these it is depends on shapes
alone, so that every instruction set gives the same bits.

Vectors may run past the end of the last row. Every array has GROUP_LANES numbers for each feature and at most half as
many rows, so from two features on there is room; a single one is computed by scalars. What lies there is never used.
"""

from bpcore.formulas.activation_loops cimport activate, activate_vecs, multiply_derivative_vecs
from bpcore.formulas.losses cimport Loss
from bpcore.machine.types cimport (
    GROUP_LANES, LANES, MAX_BLOCK, SUM_ROWS, SUM_VECS, always_inlined, real, rfma, vec, vset1,
)
from bpcore.passes.batches cimport gather_rows, scatter_rows
from bpcore.passes.layers cimport output_delta
from bpcore.passes.network cimport NETWORK_INPUTS, Chunk, Layer, Network, fits_small_batches
from bpcore.products.microkernel cimport multiply_add
from bpcore.products.row_products cimport dot, row_delta
from bpcore.products.sinks cimport SET, STEP, Sink, sink_block, sink_real
from bpcore.products.units cimport UnitsProduct, narrow_row_major, units_row_major


cdef enum:
    FEW_ROWS = GROUP_LANES // 2  # so many rows at most are faster this way
    NARROW = 16  # fewer units do not fill every instruction set's vectors
    MOST_PARAMETERS = 131072  # larger networks gain by threads, which batches of a few rows do not use


cdef inline bint suits_few_rows(const Network *net) noexcept nogil:
    return net.n_parameters <= MOST_PARAMETERS and fits_small_batches(net)


cdef inline Py_ssize_t vecs_of(Py_ssize_t n) noexcept nogil:
    """How many vectors n contiguous numbers lie in."""
    return (n + LANES - 1) // LANES


# ---- forward ----

cdef inline void few_rows_scores(
    const Layer *layer, const real *parameters, Py_ssize_t n_rows, const real *x, real *z,
) noexcept nogil:
    """z [n_rows][n_out] = biases or 0 + x [n_rows][n_in] @ W."""
    cdef Py_ssize_t n_in = layer.n_in, n_out = layer.n_out, s
    cdef const real *w = parameters + layer.weights
    cdef const real *biases = parameters + layer.biases if layer.has_bias else NULL
    if n_out == 1:
        for s in range(n_rows):
            z[s] = dot(x + s * n_in, w, n_in)
            if biases != NULL:
                z[s] = z[s] + biases[0]
    elif n_out < NARROW:
        narrow_row_major(n_rows, UnitsProduct(n_out, n_in, w, 1, n_out, biases, x, z))
    else:
        units_row_major(n_rows, UnitsProduct(n_out, n_in, w, 1, n_out, biases, x, z))


cdef inline const real *few_rows_inputs(const Chunk *chunk, const Layer *layer) noexcept nogil:
    """What a layer reads, [n_rows][n_in]."""
    return chunk.own_x if layer.reads == NETWORK_INPUTS else chunk.a[layer.reads + 1]


cdef inline void few_rows_forward(
    const Network *net, const Loss *loss, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """From chunk.own_x [n_rows][n_inputs]: activations of all layers and chunk.value; the delta of the last layer goes
    to chunk.scratch."""
    cdef const Layer *layer
    cdef Py_ssize_t n_rows = chunk.tiles.n_rows
    cdef int l, last = net.n_layers - 1
    for l in range(last):
        layer = net.layers + l
        few_rows_scores(layer, parameters, n_rows, few_rows_inputs(chunk, layer), chunk.z[l + 1])
        activate_vecs(layer.activation, layer.alpha, vecs_of(n_rows * layer.n_out), chunk.z[l + 1], chunk.a[l + 1])
    layer = net.layers + last
    few_rows_scores(layer, parameters, n_rows, few_rows_inputs(chunk, layer), chunk.scratch)
    gather_rows(&chunk.tiles, chunk.scratch, layer.n_out, NULL, 0, chunk.z[last + 1])
    activate(layer.activation, layer.alpha, &chunk.tiles, layer.n_out, chunk.z[last + 1], chunk.a[last + 1])
    output_delta(net, loss, parameters, chunk)
    scatter_rows(&chunk.tiles, chunk.delta[last + 1], layer.n_out, chunk.scratch)


# ---- backward ----

cdef inline void few_rows_delta(
    const Layer *layer, const real *parameters, Py_ssize_t n_rows, const real *d, real *out,
) noexcept nogil:
    """out [n_rows][n_in] = d [n_rows][n_out] @ W.T."""
    cdef Py_ssize_t n_in = layer.n_in, n_out = layer.n_out, s
    cdef const real *w = parameters + layer.weights
    if n_in == 1:
        for s in range(n_rows):
            out[s] = dot(w, d + s * n_out, n_out)
    elif n_out == 1:
        for s in range(n_rows):  # in this order: what a row writes behind its end belongs to the next one
            row_delta(n_in, n_out, w, d + s * n_out, out + s * n_in)
    elif n_in < NARROW:
        narrow_row_major(n_rows, UnitsProduct(n_in, n_out, w, n_out, 1, NULL, d, out))
    else:
        units_row_major(n_rows, UnitsProduct(n_in, n_out, w, n_out, 1, NULL, d, out))


cdef inline always_inlined sums_block(
    const int n_rows, const int n_vecs, Py_ssize_t n_samples, const real *a, Py_ssize_t a_sample, const real *d,
    Py_ssize_t d_sample, real *g, Py_ssize_t g_row, Py_ssize_t last, const Sink *sink,
) noexcept nogil:
    """g (n_rows, columns) takes a.T @ d, with `last` columns in the last vector; see `sums_over_samples`."""
    cdef vec acc[MAX_BLOCK]
    cdef int i
    for i in range(n_rows * n_vecs):
        acc[i] = vset1(0)
    multiply_add(n_rows, n_vecs, acc, n_samples, a, 1, a_sample, d, d_sample, NULL, 0)
    if sink.mode == STEP:
        sink_block(STEP, n_rows, n_vecs, sink, g, g_row, last, acc)
    else:
        sink_block(SET, n_rows, n_vecs, sink, g, g_row, last, acc)


cdef inline always_inlined sums_panel(
    const int n_vecs, Py_ssize_t n_samples, Py_ssize_t n_rows, const real *a, Py_ssize_t a_sample, const real *d,
    Py_ssize_t d_sample, real *g, Py_ssize_t g_row, Py_ssize_t last, const Sink *sink,
) noexcept nogil:
    """`sums_block` for all rows."""
    cdef Py_ssize_t r = 0
    while n_rows - r >= SUM_ROWS:
        sums_block(SUM_ROWS, n_vecs, n_samples, a + r, a_sample, d, d_sample, g + r * g_row, g_row, last, sink)
        r += SUM_ROWS
    while r < n_rows:
        sums_block(1, n_vecs, n_samples, a + r, a_sample, d, d_sample, g + r * g_row, g_row, last, sink)
        r += 1


cdef inline void sums_over_samples(
    Py_ssize_t n_samples, Py_ssize_t n_rows, Py_ssize_t n_columns, const real *a, Py_ssize_t a_sample, const real *d,
    Py_ssize_t d_sample, real *g, const Sink *sink,
) noexcept nogil:
    """g (n_rows, n_columns) takes a.T @ d; a (n_samples, n_rows), d (n_samples, n_columns), samples so far apart."""
    cdef Py_ssize_t first = 0, s, last, n_vecs
    cdef real total = 0
    if n_rows == n_columns == 1:
        for s in range(n_samples):
            total = rfma(a[s * a_sample], d[s * d_sample], total)
        sink_real(sink, g, total)
        return
    while first < n_columns:
        n_vecs = min(<Py_ssize_t> SUM_VECS, vecs_of(n_columns - first))
        last = min(n_columns - first - (n_vecs - 1) * LANES, <Py_ssize_t> LANES)
        if n_vecs == 1:
            sums_panel(1, n_samples, n_rows, a, a_sample, d + first, d_sample, g + first, n_columns, last, sink)
        elif n_vecs == 2:
            sums_panel(2, n_samples, n_rows, a, a_sample, d + first, d_sample, g + first, n_columns, last, sink)
        elif SUM_VECS > 2 and n_vecs == 3:
            sums_panel(3, n_samples, n_rows, a, a_sample, d + first, d_sample, g + first, n_columns, last, sink)
        elif SUM_VECS > 2:
            sums_panel(4, n_samples, n_rows, a, a_sample, d + first, d_sample, g + first, n_columns, last, sink)
        first += n_vecs * LANES


cdef inline void few_rows_gradient(
    const Layer *layer, Py_ssize_t n_rows, const real *x, const real *d, real *target, const Sink *sink,
) noexcept nogil:
    """A layer's gradient from x [n_rows][n_in] and d [n_rows][n_out], into `target` as `sink` says: SET or STEP."""
    cdef Py_ssize_t n_in = layer.n_in, n_out = layer.n_out
    cdef real one = 1
    if layer.trainable:
        if n_out == 1:
            sums_over_samples(n_rows, 1, n_in, d, 1, x, n_in, target + layer.weights, sink)
        else:
            sums_over_samples(n_rows, n_in, n_out, x, n_in, d, n_out, target + layer.weights, sink)
    if layer.bias_trainable:
        sums_over_samples(n_rows, 1, n_out, &one, 0, d, n_out, target + layer.biases, sink)


cdef inline void few_rows_backward(
    const Network *net, const real *parameters, Chunk *chunk, real *target, const Sink *sink,
) noexcept nogil:
    """All gradients, from what `few_rows_forward` left. target may be the parameters, as in `chunks.backward`."""
    cdef const Layer *layer
    cdef const Layer *below
    cdef const real *d
    cdef Py_ssize_t n_rows = chunk.tiles.n_rows
    cdef int l, at
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        d = chunk.delta[l + 1] if l < net.n_layers - 1 else chunk.scratch
        if layer.reads >= net.first_trainable:
            at = layer.reads + 1
            below = net.layers + layer.reads
            few_rows_delta(layer, parameters, n_rows, d, chunk.delta[at])
            multiply_derivative_vecs(
                below.activation, below.alpha, vecs_of(n_rows * layer.n_in), chunk.z[at], chunk.a[at], chunk.delta[at]
            )
        few_rows_gradient(layer, n_rows, few_rows_inputs(chunk, layer), d, target, sink)
