"""Products of a single row: its scores, what they leave of a delta below, and the step of the weights.

The lanes run over features. Sums have fixed partial sums: four chains over the inputs going forward, GROUP_LANES chains
for dot products. Of each width there is a function of its own, which begins at once: of several together, GCC first
computes the addresses of all, while the row waits.
"""

from bpcore.machine.types cimport (
    GROUP_VECS, LANES, MAX_LANES, MAX_TAIL_ROWS, MAX_VECS, TAIL_ROWS, always_inlined, never_inlined, real, rfma, vec,
    vfma, vload, vload_n, vset1, vstore, vstore_n, vtranspose,
)
from bpcore.products.gradients cimport sum_group


# ---- forward ----

cdef inline real dot(const real *x, const real *w, Py_ssize_t n) noexcept nogil:
    """sum of x * w over n contiguous numbers; where all of it is zero, +0, as in a fleet."""
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
    return sum_group(acc) + 0  # products that round to -0 could leave that


cdef inline always_inlined scores_row(
    const int c, const int n_vecs, const bint whole, Py_ssize_t n_out, const real *x, const real *w, Py_ssize_t n,
    vec *acc,
) noexcept nogil:
    """Row c of w, for chain c of acc (4, n_vecs): n_vecs `whole` vectors, or one of n numbers."""
    cdef vec xi = vset1(x[c]), wi
    cdef int j
    for j in range(n_vecs):
        wi = vload(w + c * n_out + j * LANES) if whole else vload_n(w + c * n_out, n)
        acc[c * n_vecs + j] = vfma(xi, wi, acc[c * n_vecs + j])


cdef inline always_inlined scores_panel(
    const int n_vecs, const bint whole, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w,
    const real *bias, Py_ssize_t n, vec *z,
) noexcept nogil:
    """z (n_vecs,) = bias + x (n_in,) @ w (n_in, n_out), for n_vecs whole vectors of outputs, or for one of n < LANES,
    whose other lanes become 0."""
    cdef vec acc[4 * 4]
    cdef int c, j
    for c in range(4 * n_vecs):
        acc[c] = vset1(0)
    while n_in >= 4:
        for c in range(4):
            scores_row(c, n_vecs, whole, n_out, x, w, n, acc)
        x += 4
        w += 4 * n_out
        n_in -= 4
    if n_in > 0:
        scores_row(0, n_vecs, whole, n_out, x, w, n, acc)
    if n_in > 1:
        scores_row(1, n_vecs, whole, n_out, x, w, n, acc)
    if n_in > 2:
        scores_row(2, n_vecs, whole, n_out, x, w, n, acc)
    for j in range(n_vecs):
        z[j] = (acc[j] + acc[n_vecs + j]) + (acc[2 * n_vecs + j] + acc[3 * n_vecs + j])
        if bias != NULL:
            z[j] = z[j] + (vload(bias + j * LANES) if whole else vload_n(bias, n))


cdef inline vec scores_vec(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias,
) noexcept nogil:
    cdef vec z[1]
    scores_panel(1, True, n_in, n_out, x, w, bias, LANES, z)
    return z[0]


cdef inline vec scores_tail(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias, Py_ssize_t n,
) noexcept nogil:
    cdef vec z[1]
    scores_panel(1, False, n_in, n_out, x, w, bias, n, z)
    return z[0]


cdef inline never_inlined scores_2_vecs(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias, real *z,
) noexcept nogil:
    cdef vec sums[2]
    cdef int j
    scores_panel(2, True, n_in, n_out, x, w, bias, LANES, sums)
    for j in range(2):
        vstore(z + j * LANES, sums[j])


cdef inline never_inlined scores_4_vecs(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias, real *z,
) noexcept nogil:
    cdef vec sums[4]
    cdef int j
    scores_panel(4, True, n_in, n_out, x, w, bias, LANES, sums)
    for j in range(4):
        vstore(z + j * LANES, sums[j])


cdef inline vec narrow_scores(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias,
) noexcept nogil:
    """bias (n_out,) or 0 + x (n_in,) @ w (n_in, n_out), for n_out <= LANES; a single one stands in all lanes."""
    cdef real score
    if n_out == 1:
        score = dot(x, w, n_in)
        return vset1(score + bias[0] if bias != NULL else score)
    if n_out == LANES:
        return scores_vec(n_in, n_out, x, w, bias)
    return scores_tail(n_in, n_out, x, w, bias, n_out)


cdef inline void row_scores(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *w, const real *bias, real *z,
) noexcept nogil:
    """The same in z (n_out,), for any n_out."""
    cdef Py_ssize_t first = 0
    cdef const real *b
    if n_out <= LANES:
        vstore(z, narrow_scores(n_in, n_out, x, w, bias))
        return
    while first < n_out:
        b = bias + first if bias != NULL else NULL
        if n_out - first >= 4 * LANES:
            scores_4_vecs(n_in, n_out, x, w + first, b, z + first)
            first += 4 * LANES
        elif n_out - first >= 2 * LANES:
            scores_2_vecs(n_in, n_out, x, w + first, b, z + first)
            first += 2 * LANES
        elif n_out - first >= LANES:
            vstore(z + first, scores_vec(n_in, n_out, x, w + first, b))
            first += LANES
        else:
            vstore(z + first, scores_tail(n_in, n_out, x, w + first, b, n_out - first))
            first = n_out


# ---- backward ----

cdef inline void delta_block(
    Py_ssize_t n, Py_ssize_t n_out, const real *w, const real *d, real *out,
) noexcept nogil:
    """out (LANES,) = n <= LANES rows of w (n, n_out) @ d (n_out,) and 0, for n_out <= LANES.

    The sum of each row is that of `dot`, with the rows in the lanes: a tree over the outputs.
    """
    cdef vec columns[MAX_LANES]
    cdef int half = LANES // 2, i
    for i in range(LANES):
        columns[i] = vload_n(w + i * n_out, n_out) if i < n else vset1(0)
    vtranspose(columns)
    for i in range(LANES):
        if i < n_out:
            columns[i] = vfma(columns[i], vset1(d[i]), vset1(0))
    while half > 0:
        for i in range(half):
            if i + half < n_out:
                columns[i] = columns[i] + columns[i + half]
        half = half // 2
    vstore(out, columns[0] + vset1(0))


cdef inline void row_delta(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *w, const real *d, real *out,
) noexcept nogil:
    """out (n_in,) = w (n_in, n_out) @ d (n_out,). It has room for whole vectors; nobody reads what is beyond n_in."""
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
    while n_out <= LANES and 4 * (n_in - i) >= 3 * LANES:  # fewer rows do not pay for their transposition
        delta_block(min(n_in - i, <Py_ssize_t> LANES), n_out, w + i * n_out, d, out + i)
        i += LANES
    while i < n_in:
        out[i] = dot(w + i * n_out, d, n_out)
        i += 1


# ---- the gradient ----

# What becomes of a gradient.
cdef enum Use:
    KEEP
    PLAIN_STEP  # of SGD: without weight decay it takes two thirds of the time, and no bit changes where w is finite
    DECAYED_STEP  # of SGD with weight decay


cdef inline vec new_weights(const Use use, vec rate, vec w, vec g) noexcept nogil:
    """The gradient itself, or what plain SGD makes of the weights."""
    return g if use == KEEP else vfma(-rate, g, w)


cdef inline always_inlined outer_rows(
    const Use use, const int n_rows, const int n_vecs, vec rate, Py_ssize_t n_out, const real *x,
    const vec *dv, real *w,
) noexcept nogil:
    """n_rows rows of `outer_panel`."""
    cdef vec xv, wv
    cdef int r, j
    for r in range(n_rows):
        xv = vset1(x[r])
        for j in range(n_vecs):
            wv = vload(w + r * n_out + j * LANES) if use != KEEP else xv
            vstore(w + r * n_out + j * LANES, new_weights(use, rate, wv, xv * dv[j]))


cdef inline always_inlined outer_panel(
    const Use use, const int n_vecs, vec rate, Py_ssize_t n_in, Py_ssize_t n_out, const real *x,
    const real *d, real *w,
) noexcept nogil:
    """w (n_in, n_vecs * LANES of n_out columns) = x (n_in,) d', or a step of SGD along that."""
    cdef vec dv[4]
    cdef int j
    for j in range(n_vecs):
        dv[j] = vload(d + j * LANES)
    while n_in >= 4:
        outer_rows(use, 4, n_vecs, rate, n_out, x, dv, w)
        x += 4
        w += 4 * n_out
        n_in -= 4
    for _ in range(n_in):
        outer_rows(use, 1, n_vecs, rate, n_out, x, dv, w)
        x += 1
        w += n_out


cdef inline always_inlined outer_tail(
    const Use use, vec rate, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
    Py_ssize_t n,
) noexcept nogil:
    """The same for the last n < LANES columns.

    A load that overlaps the masked store of a row before, if only in the lanes that are masked, waits until that has
    left the store buffer. So rows are loaded while those of TAIL_ROWS rows before are not yet stored.
    """
    cdef vec old[MAX_TAIL_ROWS]
    cdef vec dv = vload_n(d, n)
    cdef int r
    for r in range(TAIL_ROWS):
        old[r] = vload_n(w + r * n_out, n) if use != KEEP and r < n_in else dv
    while n_in > 0:
        tail_rows(use, rate, n_in, n_out, x, dv, w, n, old)
        x += TAIL_ROWS
        w += TAIL_ROWS * n_out
        n_in -= TAIL_ROWS


cdef inline always_inlined tail_rows(
    const Use use, vec rate, Py_ssize_t n_left, Py_ssize_t n_out, const real *x, vec dv, real *w,
    Py_ssize_t n, vec *old,
) noexcept nogil:
    """TAIL_ROWS rows, or n_left if that is less; old: these, and afterwards those that follow."""
    cdef vec following[MAX_TAIL_ROWS]
    cdef int r
    for r in range(TAIL_ROWS):
        following[r] = vload_n(w + (TAIL_ROWS + r) * n_out, n) if use != KEEP and TAIL_ROWS + r < n_left else dv
    for r in range(TAIL_ROWS):
        if r < n_left:
            vstore_n(w + r * n_out, new_weights(use, rate, old[r], vset1(x[r]) * dv), n)
    for r in range(TAIL_ROWS):
        old[r] = following[r]


cdef inline never_inlined step_vec(
    real rate, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
) noexcept nogil:
    outer_panel(PLAIN_STEP, 1, vset1(rate), n_in, n_out, x, d, w)


cdef inline never_inlined step_2_vecs(
    real rate, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
) noexcept nogil:
    outer_panel(PLAIN_STEP, 2, vset1(rate), n_in, n_out, x, d, w)


cdef inline never_inlined step_4_vecs(
    real rate, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
) noexcept nogil:
    outer_panel(PLAIN_STEP, 4, vset1(rate), n_in, n_out, x, d, w)


cdef inline never_inlined step_tail(
    real rate, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w, Py_ssize_t n,
) noexcept nogil:
    outer_tail(PLAIN_STEP, vset1(rate), n_in, n_out, x, d, w, n)


cdef inline void outer_step(
    real rate, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
) noexcept nogil:
    """w (n_in, n_out) makes a plain step along x (n_in,) d (n_out,)'."""
    cdef Py_ssize_t o = 0
    while n_out - o >= LANES:
        if n_out - o >= 4 * LANES:
            step_4_vecs(rate, n_in, n_out, x, d + o, w + o)
            o += 4 * LANES
        elif n_out - o >= 2 * LANES:
            step_2_vecs(rate, n_in, n_out, x, d + o, w + o)
            o += 2 * LANES
        else:
            step_vec(rate, n_in, n_out, x, d + o, w + o)
            o += LANES
    if o < n_out:
        step_tail(rate, n_in, n_out, x, d + o, w + o, n_out - o)


cdef inline never_inlined outer_gradient(
    Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
) noexcept nogil:
    """w = x (n_in,) d (n_out,)'."""
    cdef Py_ssize_t o = 0
    while n_out - o >= LANES:
        outer_panel(KEEP, 1, vset1(0), n_in, n_out, x, d + o, w + o)
        o += LANES
    if o < n_out:
        outer_tail(KEEP, vset1(0), n_in, n_out, x, d + o, w + o, n_out - o)


# Loops of their own, lest they be unrolled as often as a vector has lanes.
cdef inline never_inlined copy_numbers(Py_ssize_t n, const real *x, real *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i]


cdef inline never_inlined scaled_numbers(
    Use use, real rate, real decay, Py_ssize_t n, real scale, const real *x, const real *old, real *w,
) noexcept nogil:
    """w (n,) = scale x (n,), or a step of SGD along that from `old`."""
    cdef Py_ssize_t i
    cdef real g
    for i in range(n):
        g = scale * x[i]
        if use == DECAYED_STEP:
            g = rfma(decay, old[i], g)
        w[i] = g if use == KEEP else rfma(-rate, g, old[i])


cdef inline never_inlined scaled_vector_of(
    Use use, real rate, real decay, Py_ssize_t n, real scale, const real *x, const real *last, real *w,
) noexcept nogil:
    """The same from w; last: its numbers that make no whole vector, as they were."""
    cdef vec rate_v = vset1(rate), decay_v = vset1(decay), scale_v = vset1(scale), g
    while n >= LANES:
        g = scale_v * vload(x)
        if use == DECAYED_STEP:
            g = vfma(decay_v, vload(w), g)
        vstore(w, g if use == KEEP else vfma(-rate_v, g, vload(w)))
        x += LANES
        w += LANES
        n -= LANES
    if n > 0:
        scaled_numbers(use, rate, decay, n, scale, x, last, w)


cdef inline void scaled_vector(
    Use use, real rate, real decay, Py_ssize_t n, real scale, const real *x, const real *last, real *w,
) noexcept nogil:
    """`scaled_vector_of`, which does not keep the usual step waiting."""
    cdef vec rate_v = vset1(rate), scale_v = vset1(scale)
    if use != PLAIN_STEP:
        scaled_vector_of(use, rate, decay, n, scale, x, last, w)
        return
    if n == 1 and LANES > 1:
        w[0] = rfma(-rate, scale * x[0], last[0])
        return
    while n >= LANES:
        vstore(w, vfma(-rate_v, scale_v * vload(x), vload(w)))
        x += LANES
        w += LANES
        n -= LANES
    if n > 0:
        scaled_numbers(PLAIN_STEP, rate, 0, n, scale, x, last, w)


cdef inline void outer_decayed_step(
    real rate, real decay, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w,
) noexcept nogil:
    """w (n_in, n_out) makes a step with decay along x (n_in,) d (n_out,)'."""
    cdef Py_ssize_t i
    for i in range(n_in):
        scaled_vector_of(DECAYED_STEP, rate, decay, n_out, x[i], d, w + n_out // LANES * LANES, w)
        w += n_out


cdef inline void row_gradient(
    Use use, real rate, real decay, Py_ssize_t n_in, Py_ssize_t n_out, const real *x, const real *d, real *w, real *b,
) noexcept nogil:
    """w (n_in, n_out), b (n_out,): the gradient x d', d, or one step of SGD along it; either may be NULL.

    Biases that make no whole vector are loaded one by one, and before the masked vectors of the weights are stored:
    where a load and such a store overlap, if only in lanes that are masked, the load waits until the other is done.
    """
    cdef real last[MAX_LANES]
    cdef Py_ssize_t whole = n_out // LANES * LANES
    if b != NULL and n_out == 1:
        last[0] = b[0]
    elif b != NULL and n_out > whole:
        copy_numbers(n_out - whole, b + whole, last)
    if w == NULL:
        pass
    elif n_out == 1:
        scaled_vector(use, rate, decay, n_in, d[0], x, w + n_in // LANES * LANES, w)
    elif use == PLAIN_STEP:
        outer_step(rate, n_in, n_out, x, d, w)
    elif use == DECAYED_STEP:
        outer_decayed_step(rate, decay, n_in, n_out, x, d, w)
    elif use == KEEP:
        outer_gradient(n_in, n_out, x, d, w)
    if b != NULL:
        scaled_vector(use, rate, decay, n_out, 1, d, last, b)
