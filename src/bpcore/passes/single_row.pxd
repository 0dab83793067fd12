"""Batches of one row: the lanes run over features instead of samples.

Hidden layers are vectors of features. Only the loss keeps its layout, samples in the lanes, with the one sample in
every lane: so there is one implementation of each loss.

Sums have fixed partial sums here too: four chains over the inputs going forward, GROUP_LANES chains for dot products.
"""

from bpcore.formulas.activation_loops cimport activate, activate_vecs, multiply_derivative_vecs
from bpcore.formulas.losses cimport Loss
from bpcore.machine.types cimport (
    GROUP_VECS, LANES, MAX_VECS, always_inlined, real, vec, vfma, vload, vload_n, vset1, vstore, vstore_n,
)
from bpcore.passes.layers cimport output_delta
from bpcore.passes.network cimport NETWORK_INPUTS, Chunk, Layer, Network
from bpcore.products.gradients cimport sum_group


cdef inline real dot(const real *x, const real *w, Py_ssize_t n) noexcept nogil:
    """sum of x * w over n contiguous numbers."""
    cdef vec acc[MAX_VECS]
    cdef Py_ssize_t i = 0
    cdef int s
    for s in range(GROUP_VECS):
        acc[s] = vset1(0)
    while n - i >= GROUP_VECS * LANES:
        for s in range(GROUP_VECS):
            acc[s] = vfma(vload(x + i + s * LANES), vload(w + i + s * LANES), acc[s])
        i += GROUP_VECS * LANES
    for s in range(GROUP_VECS):
        if n - i >= LANES:
            acc[s] = vfma(vload(x + i), vload(w + i), acc[s])
            i += LANES
        elif n > i:
            acc[s] = vfma(vload_n(x + i, n - i), vload_n(w + i, n - i), acc[s])
            i = n
    return sum_group(acc)


# ---- forward ----

cdef inline always_inlined scores_panel(
    const int n_vecs, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias, real *z,
) noexcept nogil:
    """z (n_vecs * LANES) = bias + x (n_in,) @ w (n_in, n_out), for n_vecs whole vectors of outputs."""
    cdef vec acc[4 * 4]
    cdef vec xi, total
    cdef Py_ssize_t i
    cdef int c, j
    for c in range(4 * n_vecs):
        acc[c] = vset1(0)
    for i in range(n_in // 4):
        for c in range(4):
            xi = vset1(x[4 * i + c])
            for j in range(n_vecs):
                acc[c * n_vecs + j] = vfma(xi, vload(w + (4 * i + c) * n_out + j * LANES), acc[c * n_vecs + j])
    for c in range(3):
        i = n_in // 4 * 4 + c
        if i < n_in:
            xi = vset1(x[i])
            for j in range(n_vecs):
                acc[c * n_vecs + j] = vfma(xi, vload(w + i * n_out + j * LANES), acc[c * n_vecs + j])
    for j in range(n_vecs):
        total = (acc[j] + acc[n_vecs + j]) + (acc[2 * n_vecs + j] + acc[3 * n_vecs + j])
        vstore(z + j * LANES, total + vload(bias + j * LANES) if bias != NULL else total)


cdef inline void scores_tail(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias, real *z, Py_ssize_t n,
) noexcept nogil:
    """The same for the last n < LANES outputs; the lanes of z beyond them become 0."""
    cdef vec acc[4]
    cdef vec total
    cdef Py_ssize_t i
    cdef int c
    for c in range(4):
        acc[c] = vset1(0)
    for i in range(n_in // 4):
        for c in range(4):
            acc[c] = vfma(vset1(x[4 * i + c]), vload_n(w + (4 * i + c) * n_out, n), acc[c])
    for c in range(3):
        i = n_in // 4 * 4 + c
        if i < n_in:
            acc[c] = vfma(vset1(x[i]), vload_n(w + i * n_out, n), acc[c])
    total = (acc[0] + acc[1]) + (acc[2] + acc[3])
    vstore(z, total + vload_n(bias, n) if bias != NULL else total)


cdef inline void row_scores(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias, real *z,
) noexcept nogil:
    """z (n_out,) = bias (n_out,) or 0 + x (n_in,) @ w (n_in, n_out)."""
    cdef Py_ssize_t first = 0
    cdef real score
    if n_out == 1:
        score = dot(x, w, n_in)
        vstore(z, vset1(score + bias[0] if bias != NULL else score))
        return
    while n_out - first >= 4 * LANES:
        scores_panel(4, n_in, n_out, x, w + first, bias + first if bias != NULL else NULL, z + first)
        first += 4 * LANES
    while n_out - first >= LANES:
        scores_panel(1, n_in, n_out, x, w + first, bias + first if bias != NULL else NULL, z + first)
        first += LANES
    if first < n_out:
        scores_tail(n_in, n_out, x, w + first, bias + first if bias != NULL else NULL, z + first, n_out - first)


cdef inline const real *row_inputs(const Chunk *chunk, const Layer *layer, const real *row) noexcept nogil:
    """What a layer reads, (n_in,), where `row` is what the network reads."""
    return row if layer.reads == NETWORK_INPUTS else chunk.a[layer.reads + 1]


cdef inline void layer_scores(
    const Layer *layer, const real *parameters, const real *inputs, real *z,
) noexcept nogil:
    """z (n_out,) of a layer from what it reads, (n_in,)."""
    cdef const real *biases = parameters + layer.biases if layer.has_bias else NULL
    row_scores(layer.n_in, layer.n_out, inputs, parameters + layer.weights, biases, z)


cdef inline void row_forward(
    const Network *net, const Loss *loss, const real *parameters, const real *row, Chunk *chunk,
) noexcept nogil:
    """Activations of all layers for one row (n_inputs,), then chunk.value and the delta of the last layer, (n_out,)."""
    cdef int l, last = net.n_layers - 1
    cdef const Layer *layer
    cdef real *spread = chunk.z[last + 1]
    cdef Py_ssize_t i
    for l in range(last):
        layer = net.layers + l
        layer_scores(layer, parameters, row_inputs(chunk, layer, row), chunk.z[l + 1])
        activate_vecs(
            layer.activation, layer.alpha, (layer.n_out + LANES - 1) // LANES, chunk.z[l + 1], chunk.a[l + 1]
        )
    layer = net.layers + last
    layer_scores(layer, parameters, row_inputs(chunk, layer, row), chunk.scratch)
    for i in range(layer.n_out):
        vstore(spread + i * LANES, vset1(chunk.scratch[i]))
    activate(layer.activation, layer.alpha, &chunk.tiles, layer.n_out, spread, chunk.a[last + 1])
    output_delta(net, loss, parameters, chunk)
    for i in range(layer.n_out):
        chunk.delta[last + 1][i] = chunk.delta[last + 1][i * LANES]


# ---- backward ----

cdef inline vec new_weights(const bint step, vec rate, vec decay, vec w, vec g) noexcept nogil:
    """The gradient itself, or, if `step`, what plain SGD makes of the weights."""
    return vfma(-rate, vfma(decay, w, g), w) if step else g


cdef inline always_inlined outer_panel(
    const bint step, const int n_vecs, vec rate, vec decay, Py_ssize_t n_in, Py_ssize_t n_out, const real *x,
    const real *d, real *w,
) noexcept nogil:
    """w (n_in, n_vecs * LANES of n_out columns) = x (n_in,) d', or, if `step`, a plain SGD step along that."""
    cdef vec dv[4]
    cdef vec xv, wv
    cdef Py_ssize_t i
    cdef int j
    for j in range(n_vecs):
        dv[j] = vload(d + j * LANES)
    for i in range(n_in):
        xv = vset1(x[i])
        for j in range(n_vecs):
            wv = vload(w + j * LANES) if step else xv
            vstore(w + j * LANES, new_weights(step, rate, decay, wv, xv * dv[j]))
        w += n_out


cdef inline always_inlined outer_tail(
    const bint step, vec rate, vec decay, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
    Py_ssize_t n,
) noexcept nogil:
    """The same for the last n < LANES columns."""
    cdef vec dv = vload_n(d, n), xv, wv
    cdef Py_ssize_t i
    for i in range(n_in):
        xv = vset1(x[i])
        wv = vload_n(w, n) if step else xv
        vstore_n(w, new_weights(step, rate, decay, wv, xv * dv), n)
        w += n_out


cdef inline always_inlined outer_product(
    const bint step, vec rate, vec decay, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
) noexcept nogil:
    """w (n_in, n_out) = x (n_in,) d (n_out,)', or, if `step`, a plain SGD step along that."""
    cdef Py_ssize_t o = 0
    while n_out - o >= 4 * LANES:
        outer_panel(step, 4, rate, decay, n_in, n_out, x, d + o, w + o)
        o += 4 * LANES
    while n_out - o >= LANES:
        outer_panel(step, 1, rate, decay, n_in, n_out, x, d + o, w + o)
        o += LANES
    if o < n_out:
        outer_tail(step, rate, decay, n_in, n_out, x, d + o, w + o, n_out - o)


cdef inline always_inlined row_gradient(
    const bint step, vec rate, vec decay, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
    real *b,
) noexcept nogil:
    """w (n_in, n_out), b (n_out,): the gradient x d', d, or one plain SGD step along it; either may be NULL."""
    cdef real one = 1
    if w != NULL:
        if n_out == 1:
            outer_product(step, rate, decay, 1, n_in, d, x, w)
        else:
            outer_product(step, rate, decay, n_in, n_out, x, d, w)
    if b != NULL:
        outer_product(step, rate, decay, 1, n_out, &one, d, b)


cdef inline void row_delta(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *w, const real *d, real *out,
) noexcept nogil:
    """out (n_in,) = w (n_in, n_out) @ d (n_out,); lanes beyond n_in become 0."""
    cdef Py_ssize_t i = 0
    cdef vec dv
    if n_out == 1:
        dv = vset1(d[0])
        while n_in - i >= LANES:
            vstore(out + i, vload(w + i) * dv)
            i += LANES
        if i < n_in:
            vstore(out + i, vload_n(w + i, n_in - i) * dv)
        return
    for i in range(n_in):
        out[i] = dot(w + i * n_out, d, n_out)


cdef inline void row_backward(
    const Network *net, const real *parameters, const real *row, Chunk *chunk, real *target, bint step, real rate,
    real decay,
) noexcept nogil:
    """target: the gradient of one row, or, if `step`, the parameters, which make a plain SGD step along it."""
    cdef const Layer *layer
    cdef const Layer *below
    cdef const real *inputs
    cdef real *w
    cdef real *b
    cdef vec rate_v = vset1(rate), decay_v = vset1(decay)
    cdef int l, at
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        inputs = row_inputs(chunk, layer, row)
        if layer.reads >= net.first_trainable:
            at = layer.reads + 1
            below = net.layers + layer.reads
            row_delta(layer.n_in, layer.n_out, parameters + layer.weights, chunk.delta[l + 1], chunk.delta[at])
            multiply_derivative_vecs(
                below.activation, below.alpha, (layer.n_in + LANES - 1) // LANES, chunk.z[at], chunk.a[at],
                chunk.delta[at],
            )
        w = target + layer.weights if layer.trainable else NULL
        b = target + layer.biases if layer.bias_trainable else NULL
        if step:
            row_gradient(True, rate_v, decay_v, layer.n_in, layer.n_out, inputs, chunk.delta[l + 1], w, b)
        else:
            row_gradient(False, rate_v, decay_v, layer.n_in, layer.n_out, inputs, chunk.delta[l + 1], w, b)
