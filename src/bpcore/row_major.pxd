"""Batches of a few rows: the lanes run over features, which lie row by row, [rows][features].

With samples in the lanes most of these would be empty. Only the loss keeps that layout, as in `online.pxd`. Products
have one chain of additions, in the order of the inputs going forward, of the outputs going back and of the rows for the
gradient; narrow layers have the fixed partial sums of `online.pxd` instead. Which of these it is depends on shapes
alone, so that every instruction set gives the same bits.
"""

from bpcore.activations cimport activate, activate_vecs, multiply_derivative_vecs
from bpcore.batches cimport gather_rows, scatter_rows
from bpcore.few cimport FewProduct, few_rows
from bpcore.gradients cimport SET, STEP, Sink, sink_block, sink_real
from bpcore.layers cimport Loss, Network, Workspace, output_delta
from bpcore.microkernel cimport multiply_add
from bpcore.online cimport dot, row_delta, row_scores
from bpcore.types cimport GROUP_LANES, LANES, Layer, MAX_BLOCK, real, rfma, template, vec, vset1


cdef enum:
    HANDFUL = GROUP_LANES // 2  # so many rows at most are faster this way
    NARROW = 16  # layers of fewer units do not fill every instruction set's vectors
    MOST_PARAMETERS = 131072  # larger networks gain by threads


cdef inline bint suits_handfuls(const Network *net) noexcept nogil:
    return net.n_parameters <= MOST_PARAMETERS and not net.has_dropout


cdef inline Py_ssize_t vecs_of(Py_ssize_t n) noexcept nogil:
    """How many vectors n contiguous numbers lie in."""
    return (n + LANES - 1) // LANES


# ---- forward ----

cdef inline void layer_scores(
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
        for s in range(n_rows):  # in this order: what a row writes behind its end belongs to the next one
            row_scores(n_in, n_out, x + s * n_in, w, biases, z + s * n_out)
    else:
        few_rows(n_rows, FewProduct(n_out, n_in, w, 1, n_out, biases, x, z))


cdef inline void rows_forward(
    const Network *net, const Loss *loss, const real *parameters, Workspace *ws,
) noexcept nogil:
    """From ws.own_x [rows][n_inputs]: activations of all layers, ws.value, and the delta of the last in ws.scratch."""
    cdef const Layer *layer
    cdef const real *below = ws.own_x
    cdef Py_ssize_t n_rows = ws.tiles.n_rows
    cdef int l, last = net.n_layers - 1
    for l in range(last):
        layer = net.layers + l
        layer_scores(layer, parameters, n_rows, below, ws.z[l + 1])
        activate_vecs(layer.activation, layer.alpha, vecs_of(n_rows * layer.n_out), ws.z[l + 1], ws.a[l + 1])
        below = ws.a[l + 1]
    layer = net.layers + last
    layer_scores(layer, parameters, n_rows, below, ws.scratch)
    gather_rows(&ws.tiles, ws.scratch, layer.n_out, NULL, 0, ws.z[last + 1])
    activate(layer.activation, layer.alpha, &ws.tiles, layer.n_out, ws.z[last + 1], ws.a[last + 1])
    output_delta(net, loss, ws)
    scatter_rows(&ws.tiles, ws.delta[last + 1], layer.n_out, ws.scratch)


# ---- backward ----

cdef inline void rows_delta(
    const Layer *layer, const real *parameters, Py_ssize_t n_rows, const real *d, real *out,
) noexcept nogil:
    """out [n_rows][n_in] = d [n_rows][n_out] @ W.T."""
    cdef Py_ssize_t n_in = layer.n_in, n_out = layer.n_out, s
    cdef const real *w = parameters + layer.weights
    if n_in == 1:
        for s in range(n_rows):
            out[s] = dot(w, d + s * n_out, n_out)
    elif n_in < NARROW or n_out == 1:
        for s in range(n_rows):  # in this order, as in `layer_scores`
            row_delta(n_in, n_out, w, d + s * n_out, out + s * n_in)
    else:
        few_rows(n_rows, FewProduct(n_in, n_out, w, n_out, 1, NULL, d, out))


cdef inline template sums_block(
    const int n_rows, const int n_vecs, Py_ssize_t n_k, const real *a, Py_ssize_t a_k, const real *d, Py_ssize_t d_k,
    real *g, Py_ssize_t g_row, Py_ssize_t last, const Sink *sink,
) noexcept nogil:
    """g (n_rows, columns) takes a (n_k, n_rows).T @ d (n_k, columns), with `last` columns in the last vector."""
    cdef vec acc[MAX_BLOCK]
    cdef int i
    for i in range(n_rows * n_vecs):
        acc[i] = vset1(0)
    multiply_add(n_rows, n_vecs, acc, n_k, a, 1, a_k, d, d_k, NULL, 0)
    if sink.mode == STEP:
        sink_block(STEP, n_rows, n_vecs, sink, g, g_row, last, acc)
    else:
        sink_block(SET, n_rows, n_vecs, sink, g, g_row, last, acc)


cdef inline template sums_panel(
    const int n_vecs, Py_ssize_t n_k, Py_ssize_t n_rows, const real *a, Py_ssize_t a_k, const real *d, Py_ssize_t d_k,
    real *g, Py_ssize_t g_row, Py_ssize_t last, const Sink *sink,
) noexcept nogil:
    """`sums_block` for all rows."""
    cdef Py_ssize_t r
    for r in range(n_rows // 2):
        sums_block(2, n_vecs, n_k, a + 2 * r, a_k, d, d_k, g + 2 * r * g_row, g_row, last, sink)
    if n_rows & 1:
        r = n_rows - 1
        sums_block(1, n_vecs, n_k, a + r, a_k, d, d_k, g + r * g_row, g_row, last, sink)


cdef inline void sums_over_rows(
    Py_ssize_t n_k, Py_ssize_t n_rows, Py_ssize_t n_columns, const real *a, Py_ssize_t a_k, const real *d,
    Py_ssize_t d_k, real *g, const Sink *sink,
) noexcept nogil:
    """g (n_rows, n_columns) takes a (n_k, n_rows).T @ d (n_k, n_columns), whose rows are a_k and d_k apart."""
    cdef Py_ssize_t first = 0, k, last, vecs
    cdef real total = 0
    if n_rows == n_columns == 1:
        for k in range(n_k):
            total = rfma(a[k * a_k], d[k * d_k], total)
        sink_real(sink, g, total)
        return
    while first < n_columns:
        vecs = min(<Py_ssize_t> 4, vecs_of(n_columns - first))
        last = min(n_columns - first - (vecs - 1) * LANES, <Py_ssize_t> LANES)
        if vecs == 4:
            sums_panel(4, n_k, n_rows, a, a_k, d + first, d_k, g + first, n_columns, last, sink)
        elif vecs == 3:
            sums_panel(3, n_k, n_rows, a, a_k, d + first, d_k, g + first, n_columns, last, sink)
        elif vecs == 2:
            sums_panel(2, n_k, n_rows, a, a_k, d + first, d_k, g + first, n_columns, last, sink)
        else:
            sums_panel(1, n_k, n_rows, a, a_k, d + first, d_k, g + first, n_columns, last, sink)
        first += vecs * LANES


cdef inline void rows_gradient(
    const Layer *layer, Py_ssize_t n_rows, const real *x, const real *d, real *target, const Sink *sink,
) noexcept nogil:
    """A layer's gradient from x [n_rows][n_in] and d [n_rows][n_out], into `target` as `sink` says: SET or STEP."""
    cdef Py_ssize_t n_in = layer.n_in, n_out = layer.n_out
    cdef real one = 1
    if layer.trainable:
        if n_out == 1:
            sums_over_rows(n_rows, 1, n_in, d, 1, x, n_in, target + layer.weights, sink)
        else:
            sums_over_rows(n_rows, n_in, n_out, x, n_in, d, n_out, target + layer.weights, sink)
    if layer.bias_trainable:
        sums_over_rows(n_rows, 1, n_out, &one, 0, d, n_out, target + layer.biases, sink)


cdef inline void rows_backward(
    const Network *net, const real *parameters, Workspace *ws, real *target, const Sink *sink,
) noexcept nogil:
    """All gradients, from what `rows_forward` left. target may be the parameters, as in `layers.backward`."""
    cdef const Layer *layer
    cdef const real *d = ws.scratch
    cdef Py_ssize_t n_rows = ws.tiles.n_rows
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        if l > net.first_trainable:
            rows_delta(layer, parameters, n_rows, d, ws.delta[l])
            multiply_derivative_vecs(
                net.layers[l - 1].activation, net.layers[l - 1].alpha, vecs_of(n_rows * layer.n_in), ws.z[l], ws.a[l],
                ws.delta[l],
            )
        rows_gradient(layer, n_rows, ws.a[l] if l > 0 else ws.own_x, d, target, sink)
        d = ws.delta[l]
