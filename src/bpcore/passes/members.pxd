"""Forward and backward for networks in the lanes: each number is a vector, with one number of each member of a fleet.

A member has the bits of the same network alone. What is computed number by number has them by itself. Sums take the
order that they have in the pass that a batch of this size takes there, its `Regime`.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from bpcore.formulas.activation_loops cimport (
    UnitDeltas, activate_vecs, multiply_derivative_vecs, set_delta_vecs, softmax, softmax_jacobian,
)
from bpcore.formulas.activations cimport is_elementwise
from bpcore.formulas.dropout cimport LAYER_STRIDE, mix
from bpcore.formulas.loss_loops cimport tile_delta
from bpcore.formulas.losses cimport Loss
from bpcore.machine.types cimport (
    LANES, MAX_LANES, MEMBER_COLUMNS, always_inlined, never_inlined, real, vec, vle, vload, vload_n, vmask, vpair,
    vselect, vset1, vstore, vtranspose, vtranspose_halves,
)
from bpcore.passes.few_rows cimport NARROW
from bpcore.passes.network cimport FEW_OUTPUTS, NETWORK_INPUTS, Layer, Network, mixes_units
from bpcore.products.side_by_side cimport CHAIN, FOUR, GROUPED, PRODUCT, MembersProduct, SumOrder, members_product


# Which pass the same batch takes in a network alone: `chunks.pxd` or `tiny.pxd`, `few_rows.pxd`, `single_row.pxd`.
cdef enum Regime:
    CHUNKS
    FEW
    SINGLE

# The arrays of one chunk of samples. Index 0 is the network's input, index l + 1 the output of layer l. All are
# [features][stride][LANES]: the samples of a feature lie side by side, each a vector with one number per member. What a
# layer reads has a feature more, which is 1: with it the gradient of the biases is one more row of the weights'.
cdef struct MembersChunk:
    Py_ssize_t n  # samples
    Regime regime
    bint drops  # whether the pass at hand drops anything
    bint by_units  # whether a layer is one of `goes_by_units`
    const real *parameters  # of the products
    MembersProduct *scores  # (n_layers,): forward
    MembersProduct *deltas  # (n_layers,): of what each layer reads
    MembersProduct *gradients  # (n_layers,): of weights and biases
    MembersProduct *slopes  # (n_layers,): of slopes
    Py_ssize_t stride  # vectors from one feature to the next
    real **a
    real **after_dropout  # the same as a where the layer has no dropout
    real **dropout_factors
    real **z  # the same as a where the scores are not needed any more
    real **delta
    real **slope_delta
    real *y
    real *factor  # [stride][LANES]: 0 where a member has fewer samples
    real *value  # [stride][LANES]
    real *room  # for a compiled loss, see `losses.tile_delta`
    # dropout
    uint32_t *places  # [stride][LANES]: the hash of each sample's place in its batch
    uint32_t unit_keys[MAX_LANES]
    double *rates  # (n_layers, LANES)


cdef enum:
    PADDED = 16


cdef inline Py_ssize_t stride_of(Py_ssize_t n) noexcept nogil:
    """How far apart features lie: multiples of many cache lines would meet in few places of the cache."""
    return n + 1 if n >= PADDED and n % 8 == 0 else n


cdef inline Py_ssize_t most_stride(Py_ssize_t n) noexcept nogil:
    """The largest of `stride_of` up to n."""
    return n + 1


cdef inline void fill_ones(const Network *net, MembersChunk *chunk) noexcept nogil:
    """The feature that is 1, of what each layer reads; once for each stride."""
    cdef Py_ssize_t k, features = net.n_inputs
    cdef int l
    for l in range(net.n_layers):
        for k in range(chunk.n):
            vstore(chunk.a[l] + (features * chunk.stride + k) * LANES, vset1(1))
            if chunk.after_dropout[l] != chunk.a[l]:
                vstore(chunk.after_dropout[l] + (features * chunk.stride + k) * LANES, vset1(1))
        features = net.layers[l].n_out


# ---- rows to lanes ----

cdef inline void gather_sample(
    const real **rows, Py_ssize_t n, Py_ssize_t stride, real *out,
) noexcept nogil:
    """out [n][stride][LANES], at one sample, from each member's row (n,)."""
    cdef vec block[MAX_LANES]
    cdef Py_ssize_t feature = 0, left
    cdef int i
    if n <= 2:
        for feature in range(n):
            for i in range(LANES):
                out[feature * stride * LANES + i] = rows[i][feature]
        return
    while feature < n:
        left = min(n - feature, <Py_ssize_t> LANES)
        for i in range(LANES):
            block[i] = vload_n(rows[i] + feature, left)
        vtranspose(block)
        for i in range(LANES):
            if i < left:
                vstore(out + (feature + i) * stride * LANES, block[i])
        feature += LANES


cdef inline void gather_narrow(
    const real **X, const int64_t *rows, Py_ssize_t n, Py_ssize_t stride, real *out,
) noexcept nogil:
    """`gather_sample` for row rows[i] of X[i] (any, n), n <= LANES / 2: two rows in a vector."""
    cdef vec block[MAX_LANES]
    cdef int i, half = LANES // 2
    for i in range(LANES // 2):
        block[i] = vpair(vload_n(X[i] + rows[i] * n, n), vload_n(X[i + half] + rows[i + half] * n, n))
    vtranspose_halves(block)
    for i in range(LANES // 2):
        if i < n:
            vstore(out + i * stride * LANES, block[i])


# ---- forward ----

cdef inline const real *members_inputs(const MembersChunk *chunk, const Layer *layer) noexcept nogil:
    if chunk.drops and layer.reads != NETWORK_INPUTS:
        return chunk.after_dropout[layer.reads + 1]
    return chunk.a[layer.reads + 1]


cdef inline SumOrder order_forward(Regime regime, const Layer *layer) noexcept nogil:
    if regime == CHUNKS:
        return CHAIN
    elif regime == FEW:
        return GROUPED if layer.n_out == 1 else (FOUR if layer.n_out < NARROW else CHAIN)
    elif regime == SINGLE:
        return GROUPED if layer.n_out == 1 else FOUR
    return CHAIN


cdef inline MembersProduct scores_product(
    const Layer *layer, int l, const real *parameters, const MembersChunk *chunk,
) noexcept nogil:
    """chunk.z[l + 1]."""
    cdef const real *biases = parameters + layer.biases * LANES if layer.has_bias else NULL
    return MembersProduct(
        order_forward(chunk.regime, layer), layer.n_out, chunk.n, layer.n_in, parameters + layer.weights * LANES, 1,
        layer.n_out, members_inputs(chunk, layer), 1, chunk.stride, biases, chunk.z[l + 1], chunk.stride, NULL, NULL,
        False,
    )


cdef inline void members_activate(
    const Layer *layer, const real *parameters, Py_ssize_t stride, const real *z, real *a,
) noexcept nogil:
    if mixes_units(layer):
        softmax(layer.n_out, <int> stride, z, a)
    elif layer.has_slopes:
        members_prelu(layer.n_out, stride, parameters + layer.slopes * LANES, z, a)
    else:
        activate_vecs(layer.activation, layer.alpha, layer.n_out * stride, z, a)


cdef inline void members_prelu(
    Py_ssize_t n, Py_ssize_t stride, const real *slopes, const real *z, real *a,
) noexcept nogil:
    cdef vec slope, x
    cdef Py_ssize_t o, k, at
    for o in range(n):
        slope = vload(slopes + o * LANES)
        for k in range(stride):
            at = (o * stride + k) * LANES
            x = vload(z + at)
            vstore(a + at, vselect(vle(x, vset1(0)), slope * x, x))


cdef inline void members_prelu_delta(
    Py_ssize_t n, Py_ssize_t stride, const real *slopes, const real *z, real *d, real *slope_delta,
) noexcept nogil:
    """d becomes dL/dz, and slope_delta each sample's part of dL/dslope; see `prelu_delta_units`."""
    cdef vec slope, x, dv
    cdef vmask negative
    cdef Py_ssize_t o, k, at
    for o in range(n):
        slope = vload(slopes + o * LANES)
        for k in range(stride):
            at = (o * stride + k) * LANES
            x = vload(z + at)
            dv = vload(d + at)
            negative = vle(x, vset1(0))
            vstore(slope_delta + at, vselect(negative, dv * x, vset1(0)))
            vstore(d + at, vselect(negative, dv * slope, dv))


cdef inline void members_drop(const Layer *layer, int l, MembersChunk *chunk) noexcept nogil:
    """after_dropout = a * factors, each 0 or 1 / (1 - rate); see `drop_outputs`."""
    cdef uint32_t thresholds[MAX_LANES]
    cdef uint32_t units[MAX_LANES]
    cdef real scales[MAX_LANES]
    cdef const double *rates = chunk.rates + l * LANES
    cdef const real *a = chunk.a[l + 1]
    cdef real *factors = chunk.dropout_factors[l + 1]
    cdef real *after = chunk.after_dropout[l + 1]
    cdef bint kept
    cdef Py_ssize_t o, k, at
    cdef int i
    for i in range(LANES):
        thresholds[i] = <uint32_t> (rates[i] * 2147483648.0)
        scales[i] = <real> (1 / (1 - rates[i]))
    for o in range(layer.n_out):
        for i in range(LANES):
            units[i] = mix((<uint32_t> o + <uint32_t> l * <uint32_t> LAYER_STRIDE) ^ chunk.unit_keys[i])
        for k in range(chunk.n):
            at = (o * chunk.stride + k) * LANES
            for i in range(LANES):
                kept = (mix(chunk.places[k * LANES + i] + units[i]) >> 1) >= thresholds[i]
                factors[at + i] = scales[i] if kept else 0
                after[at + i] = a[at + i] * factors[at + i]


cdef inline never_inlined members_forward(
    const Network *net, const real *parameters, MembersChunk *chunk,
) noexcept nogil:
    """chunk.a[1:] and chunk.z[1:] from chunk.a[0]; parameters [n_parameters][LANES]."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        members_product(chunk.scores + l)
        members_activate(layer, parameters, chunk.stride, chunk.z[l + 1], chunk.a[l + 1])
        if chunk.drops and layer.dropout > 0:
            members_drop(layer, l, chunk)


cdef inline never_inlined members_output_delta(
    const Network *net, const Loss *loss, const real *parameters, MembersChunk *chunk,
) noexcept nogil:
    """chunk.value and the delta of the last layer from the outputs."""
    cdef int n = net.n_layers
    cdef const Layer *last = net.layers + n - 1
    tile_delta(
        loss, last.activation, last.alpha, last.n_out, <int> chunk.stride, chunk.a[n], chunk.z[n], chunk.y,
        chunk.factor, chunk.delta[n], chunk.value, chunk.room,
    )
    if last.has_slopes:
        members_prelu_delta(
            last.n_out, chunk.stride, parameters + last.slopes * LANES, chunk.z[n], chunk.delta[n],
            chunk.slope_delta[n],
        )


# ---- backward ----

cdef inline SumOrder order_of_delta(Regime regime, const Layer *layer) noexcept nogil:
    if regime == CHUNKS:
        return CHAIN
    elif regime == FEW:
        return GROUPED if layer.n_in == 1 else (PRODUCT if layer.n_out == 1 else CHAIN)
    elif regime == SINGLE:
        return PRODUCT if layer.n_out == 1 else GROUPED
    return CHAIN


cdef inline SumOrder order_of_gradient(Regime regime, const Layer *layer) noexcept nogil:
    if regime == CHUNKS:
        return GROUPED if layer.n_out < FEW_OUTPUTS else CHAIN
    elif regime == FEW:
        return CHAIN
    elif regime == SINGLE:
        return PRODUCT
    return CHAIN


cdef inline MembersProduct delta_product(
    const Layer *layer, int l, const real *parameters, const MembersChunk *chunk,
) noexcept nogil:
    """The gradient with respect to what a layer reads, where that is another layer."""
    return MembersProduct(
        order_of_delta(chunk.regime, layer), layer.n_in, chunk.n, layer.n_out, parameters + layer.weights * LANES,
        layer.n_out, 1, chunk.delta[l + 1], 1, chunk.stride, NULL, chunk.delta[layer.reads + 1], chunk.stride, NULL,
        NULL, False,
    )


cdef inline bint reads_one_unit(const MembersProduct *deltas) noexcept nogil:
    return deltas.n_k == 1 and (<int> deltas.order == CHAIN or <int> deltas.order == PRODUCT)


cdef inline void members_delta_of_one(
    const Layer *below, const MembersProduct *deltas, const real *z, const real *a,
) noexcept nogil:
    """The delta below a layer of one unit, in one pass: each of its sums is one product."""
    cdef UnitDeltas units
    units.factor, units.factors, units.factors_apart = vload(deltas.a), deltas.a, deltas.a_row
    units.n_units, units.n_apart = deltas.n_rows, deltas.out_row
    units.zero = vset1(-0.0 if deltas.order == PRODUCT else 0.0)
    units.above = deltas.b
    set_delta_vecs(below.activation, below.alpha, deltas.n_columns, z, a, &units, deltas.out)


cdef inline always_inlined members_delta(
    const bint elementwise, const Network *net, int number, const real *parameters, MembersChunk *chunk,
    const MembersProduct *deltas, Py_ssize_t first,
) noexcept nogil:
    """The delta of units first ... of the layer that this one reads: of as many units as `deltas` has rows.

    The order of its factors is `dense.pxd`'s. elementwise: that layer's activation is one; else it may be, and all its
    units are asked for.
    """
    cdef const Layer *below = net.layers + net.layers[number].reads
    cdef int at = net.layers[number].reads + 1
    cdef Py_ssize_t skipped = first * chunk.stride * LANES, n = deltas.n_rows, i
    cdef const real *z = chunk.z[at] + skipped
    cdef const real *a = chunk.a[at] + skipped
    cdef const real *factors
    cdef real *d = deltas.out
    if reads_one_unit(deltas) and (elementwise or is_elementwise(below.activation)):
        members_delta_of_one(below, deltas, z, a)
    else:
        members_product(deltas)
        if elementwise or is_elementwise(below.activation):
            multiply_derivative_vecs(below.activation, below.alpha, n * chunk.stride, z, a, d)
    if chunk.drops and below.dropout > 0:
        factors = chunk.dropout_factors[at] + skipped
        for i in range(n * chunk.stride):
            vstore(d + i * LANES, vload(d + i * LANES) * vload(factors + i * LANES))
    if elementwise:
        return
    if below.has_slopes:
        members_prelu_delta(n, chunk.stride, parameters + below.slopes * LANES, z, d, chunk.slope_delta[at])
    elif mixes_units(below):
        softmax_jacobian(n, <int> chunk.stride, a, d)


cdef inline MembersProduct gradient_product(const Layer *layer, int l, const MembersChunk *chunk) noexcept nogil:
    """The gradient of weights and biases, which lie behind them; the target is left open. No rows: none is trained."""
    cdef Py_ssize_t first = 0 if layer.trainable else layer.n_in
    cdef Py_ssize_t end = layer.n_in + 1 if layer.has_bias and layer.bias_trainable else layer.n_in
    return MembersProduct(
        order_of_gradient(chunk.regime, layer), end - first, layer.n_out, chunk.n,
        members_inputs(chunk, layer) + first * chunk.stride * LANES, chunk.stride, 1, chunk.delta[l + 1], chunk.stride,
        1, NULL, NULL, layer.n_out, NULL, NULL, end > layer.n_in,
    )


cdef inline MembersProduct slopes_product(const Layer *layer, int l, const MembersChunk *chunk) noexcept nogil:
    """The gradient of the slopes: the sums of each sample's part; the target is left open."""
    return MembersProduct(
        GROUPED, 1, layer.n_out, chunk.n, members_inputs(chunk, layer) + layer.n_in * chunk.stride * LANES, 0, 1,
        chunk.slope_delta[l + 1], chunk.stride, 1, NULL, NULL, layer.n_out, NULL, NULL, False,
    )


# Where gradients go: into an array laid out like the parameters, or into these, as a step of plain SGD.
cdef struct MembersTarget:
    real *array  # [n_parameters][LANES]
    const real *rate  # (LANES,), or NULL: the gradient itself
    const real *decay


cdef inline real *gradient_place(const Layer *layer, const MembersTarget *target) noexcept nogil:
    """Where `gradient_product` begins: at the weights, or the biases if these alone are trained."""
    return target.array + (layer.weights + (0 if layer.trainable else layer.n_in) * layer.n_out) * LANES


cdef inline void members_gradient(
    const Layer *layer, int l, const MembersChunk *chunk, const MembersTarget *target,
) noexcept nogil:
    """The gradient of a layer's arrays."""
    cdef MembersProduct *product = chunk.gradients + l
    if product.n_rows > 0:
        product.out = gradient_place(layer, target)
        product.rate, product.decay = target.rate, target.decay
        members_product(product)
    if layer.has_slopes and layer.trainable:
        product = chunk.slopes + l
        product.out = target.array + layer.slopes * LANES
        product.rate, product.decay = target.rate, target.decay
        members_product(product)


cdef enum:
    UNITS_VECTORS = 256  # of deltas, with AVX-512 16 KiB: they are to stay in the first-level cache with what they read


cdef inline bint goes_by_units(const Network *net, const MembersChunk *chunk, int l) noexcept nogil:
    """Whether an elementwise layer's delta is read by its own gradient alone and outgrows its part of the cache."""
    cdef const Layer *layer = net.layers + l
    return (
        layer.n_out * chunk.stride > UNITS_VECTORS and layer.reads < net.first_trainable and l < net.n_layers - 1
        and is_elementwise(layer.activation)
    )


cdef inline never_inlined delta_and_gradient_below(
    const Network *net, int number, const real *parameters, MembersChunk *chunk, const MembersTarget *target,
) noexcept nogil:
    """The delta of the layer that this one reads, and its gradient, some units at a time, each in the place of those
    before: some 5 % of a step of 8-16-1 with batches of 32."""
    cdef int l = net.layers[number].reads
    cdef MembersProduct deltas = chunk.deltas[number], gradient = chunk.gradients[l]
    cdef Py_ssize_t n = deltas.n_rows, first = 0
    cdef Py_ssize_t some = max(UNITS_VECTORS // chunk.stride // MEMBER_COLUMNS, <Py_ssize_t> 1) * MEMBER_COLUMNS
    gradient.out = gradient_place(net.layers + l, target)
    gradient.rate, gradient.decay = target.rate, target.decay
    while first < n:
        deltas.n_rows = gradient.n_columns = min(some, n - first)
        members_delta(True, net, number, parameters, chunk, &deltas, first)
        if gradient.n_rows > 0:
            members_product(&gradient)
        deltas.a += some * deltas.a_row * LANES
        gradient.out += some * LANES
        first += some


cdef inline never_inlined members_backward(
    const Network *net, const real *parameters, MembersChunk *chunk, const MembersTarget *target,
) noexcept nogil:
    """All gradients of a chunk; what is not trainable is left as it is. target may be the parameters: each layer makes
    its step after it was read."""
    cdef int l, below
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        below = net.layers[l].reads
        if chunk.by_units and below >= net.first_trainable and goes_by_units(net, chunk, below):
            delta_and_gradient_below(net, l, parameters, chunk, target)
        elif below >= net.first_trainable:
            members_delta(False, net, l, parameters, chunk, chunk.deltas + l, 0)
        if not (chunk.by_units and goes_by_units(net, chunk, l)):
            members_gradient(net.layers + l, l, chunk, target)


# ---- how samples lie ----

cdef inline void set_members_chunk(
    const Network *net, const real *parameters, Py_ssize_t n, Regime regime, bint drops, MembersChunk *chunk,
) noexcept nogil:
    """Prepare for n samples in a regime: the products of all layers, which stay the same from step to step."""
    cdef const Layer *layer
    cdef bint longer = chunk.n != n
    cdef int l
    if not longer and chunk.regime == regime and chunk.drops == drops and chunk.parameters == parameters:
        return
    chunk.n, chunk.regime, chunk.drops = n, regime, drops
    chunk.parameters = parameters
    chunk.stride = stride_of(n)
    if longer:
        fill_ones(net, chunk)
    chunk.by_units = False
    for l in range(net.n_layers):
        layer = net.layers + l
        chunk.by_units = chunk.by_units or goes_by_units(net, chunk, l)
        chunk.scores[l] = scores_product(layer, l, parameters, chunk)
        chunk.gradients[l] = gradient_product(layer, l, chunk)
        if layer.reads != NETWORK_INPUTS:
            chunk.deltas[l] = delta_product(layer, l, parameters, chunk)
        if layer.has_slopes:
            chunk.slopes[l] = slopes_product(layer, l, chunk)


# ---- dropout ----

cdef inline void place_members(
    MembersChunk *chunk, const uint64_t *keys, const int64_t *first, const int64_t *n,
) noexcept nogil:
    """Prepare for n samples of each member's batch from the first-th on; see `place_rows`. Beyond them the last one is
    repeated: another one's units might overflow."""
    cdef Py_ssize_t k
    cdef int i
    for i in range(LANES):
        chunk.unit_keys[i] = <uint32_t> (keys[i] >> 32)
    for k in range(chunk.n):
        for i in range(LANES):
            chunk.places[k * LANES + i] = mix(<uint32_t> (first[i] + min(k, n[i] - 1)) ^ <uint32_t> keys[i])
