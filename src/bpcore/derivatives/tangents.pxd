"""Tangents: how the arrays of a chunk move where its inputs or the parameters do; and the way back over them.

See `backprop.reference.derivatives` for the formulas. There are k directions: one of the parameters, `moves`, or one
for each input of the network. The first and second derivatives of all activations are computed once, and all that
follows is made of products and of loops that multiply and add.

The backward pass is that of a function of outputs and tangents. Its gradients with respect to the tangents are `g`, one
for each direction, and those with respect to the outputs themselves `bent`. For a product with the Hessian these are
the gradient of the loss and the tangent of it.
"""

from bpcore.formulas.activation_loops cimport multiply_derivative
from bpcore.formulas.second_derivatives cimport both_derivatives, softmax_backward_tangent, softmax_tangent
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    GROUP_LANES, LANES, MAX_TILES, never_inlined, real, vec, vfma, vle, vload, vmin, vselect, vset1, vstore,
)
from bpcore.passes.layers cimport layer_gradient
from bpcore.passes.network cimport (
    DENSE, NETWORK_INPUTS, NO_KIND, Chunk, Layer, Network, inputs_of, is_wide, mixes_units,
)
from bpcore.products.gradients cimport sums_of_units, transpose_rows
from bpcore.products.samples cimport Product, samples_product
from bpcore.products.sinks cimport ADD, Sink
from bpcore.run.workspace cimport Arena, set_array, take, take_reals, whole_groups


# Index 0 of an array of arrays is the network's input, index l + 1 the layer l. What goes through the same product lies
# together, [n][lanes] after [n][lanes], so that the product reads its weights once: the outputs of a layer and their
# tangents, `bent` and g of all directions.
cdef struct Tangents:
    Py_ssize_t k  # directions
    const real *moves  # the direction of the parameters; NULL: the directions are those of the inputs, one by one
    real **first  # [n_out][lanes]: activation'(z)
    real **second  # activation''(z)
    real **scores  # [k][n_out][lanes]; of softmax less their mean, see `softmax_tangent`
    real **outputs  # [1 + k][n_out][lanes]: the outputs, where the chunk has them too, and their tangents
    real *bent  # [1 + k][units][lanes]: bent and all g
    real *bent_below
    real *product  # [width_max][lanes]
    real *bent_slopes
    real *scratch  # of the chunk, with room for `joint_lanes`


cdef enum:
    MOST_ROWS = 96  # more would put the arrays of a wide layer out of the second cache: 15 % more for 256 units


cdef inline Py_ssize_t tangents_chunk(Py_ssize_t max_chunk, Py_ssize_t k) noexcept nogil:
    """The most rows of a chunk, which are fewer the more arrays there are."""
    cdef Py_ssize_t rows = min(max_chunk * 3 // (3 + 2 * k), <Py_ssize_t> MOST_ROWS)
    return max(rows // GROUP_LANES * GROUP_LANES, <Py_ssize_t> GROUP_LANES)


cdef inline Py_ssize_t joint_arrays(Py_ssize_t lanes) noexcept nogil:
    """How many arrays go through a product together: no more tiles than there may be, on any instruction set."""
    return max(MAX_TILES * GROUP_LANES // whole_groups(lanes), <Py_ssize_t> 1)


cdef inline void repeat_tiles(const Tiles *tiles, Py_ssize_t times, Tiles *joint) noexcept nogil:
    """The tiles of so many arrays that lie together."""
    cdef Py_ssize_t j
    cdef int t, at = 0
    joint.n_tiles = <int> (tiles.n_tiles * times)
    joint.n_rows = tiles.n_rows * times
    joint.n_lanes = tiles.n_lanes * times
    for j in range(times):
        for t in range(tiles.n_tiles):
            joint.start[at] = j * tiles.n_lanes + tiles.start[t]
            joint.vecs[at] = tiles.vecs[t]
            joint.rows[at] = tiles.rows[t]
            at += 1


cdef inline void take_tangents(Arena *arena, const Network *net, Py_ssize_t lanes, Tangents *t) noexcept nogil:
    """Room for t.k directions."""
    cdef Py_ssize_t pointers = (net.n_layers + 1) * sizeof(real *), n, widest = net.width_max * lanes
    cdef int l
    t.first = <real **> take(arena, pointers)
    t.second = <real **> take(arena, pointers)
    t.scores = <real **> take(arena, pointers)
    t.outputs = <real **> take(arena, pointers)
    for l in range(net.n_layers):
        n = net.layers[l].n_out * lanes
        set_array(t.first, l + 1, take_reals(arena, n))
        set_array(t.second, l + 1, take_reals(arena, n))
        set_array(t.scores, l + 1, take_reals(arena, t.k * n))
        set_array(t.outputs, l + 1, take_reals(arena, (1 + t.k) * n))
    t.bent = take_reals(arena, (1 + t.k) * widest)
    t.bent_below = take_reals(arena, (1 + t.k) * widest)
    t.product = take_reals(arena, widest)
    t.bent_slopes = take_reals(arena, widest)
    # a chunk that is not full has fewer lanes, of which more arrays go together
    t.scratch = take_reals(
        arena, (net.width_max + GROUP_LANES) * max(lanes, min((1 + t.k) * lanes, <Py_ssize_t> MAX_TILES * GROUP_LANES))
    )


cdef inline void share_outputs(const Network *net, Chunk *chunk, Tangents *t) noexcept nogil:
    """Let the chunk have its outputs and its scratch here: before `forward`."""
    cdef int l
    for l in range(1, net.n_layers + 1):
        chunk.a[l] = t.outputs[l]
        chunk.after_dropout[l] = t.outputs[l]
    chunk.scratch = t.scratch


cdef inline real *score_tangent(
    const Tangents *t, const Layer *layer, const Chunk *chunk, int at, Py_ssize_t i,
) noexcept nogil:
    """The i-th direction of the scores of a layer, whose arrays stand at index `at`."""
    return t.scores[at] + i * layer.n_out * chunk.tiles.n_lanes


cdef inline real *output_tangent(
    const Tangents *t, const Layer *layer, const Chunk *chunk, int at, Py_ssize_t i,
) noexcept nogil:
    return t.outputs[at] + (1 + i) * layer.n_out * chunk.tiles.n_lanes


cdef inline real *gradient_of(const Tangents *t, const Layer *layer, const Chunk *chunk, Py_ssize_t i) noexcept nogil:
    """g of the i-th direction, at the layer at hand."""
    return t.bent + (1 + i) * layer.n_out * chunk.tiles.n_lanes


# ---- forward ----

cdef inline void fill_rows_of_weights(
    const Tiles *tiles, Py_ssize_t n, const real *weights, real *out,
) noexcept nogil:
    """out [n][lanes] = weights (n,) in all lanes."""
    cdef Py_ssize_t o, width
    cdef int t, v
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        for o in range(n):
            for v in range(tiles.vecs[t]):
                vstore(out + n * tiles.start[t] + o * width + v * LANES, vset1(weights[o]))


cdef inline void add_arrays(Py_ssize_t n_vecs, const real *x, real *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n_vecs):
        vstore(out + i * LANES, vload(out + i * LANES) + vload(x + i * LANES))


cdef inline void multiply_arrays(Py_ssize_t n_vecs, const real *x, const real *y, real *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n_vecs):
        vstore(out + i * LANES, vload(x + i * LANES) * vload(y + i * LANES))


cdef inline void forward_product(
    const Layer *layer, const real *weights, const real *biases, const Tiles *tiles, const real *inputs, real *out,
    real *scratch,
) noexcept nogil:
    """out [n_out][lanes] = biases or 0 + weights.T @ inputs."""
    cdef Product product = Product(layer.n_out, layer.n_in, weights, 1, layer.n_out, biases, inputs, out)
    samples_product(tiles, &product, 0, layer.n_out, scratch, NULL)


cdef inline void backward_product(
    const Layer *layer, const real *weights, const Tiles *tiles, const real *d, real *out, real *scratch,
) noexcept nogil:
    """out [n_in][lanes] = weights @ d [n_out][lanes]."""
    cdef Product product = Product(layer.n_in, layer.n_out, weights, layer.n_out, 1, NULL, d, out)
    samples_product(tiles, &product, 0, layer.n_in, scratch, NULL)


cdef inline void dense_score_tangents(
    const Layer *layer, const real *parameters, const Tangents *t, Chunk *chunk, int at,
) noexcept nogil:
    """All directions of the scores of a layer, from those of the outputs of the layer that it reads."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef const real *weights = parameters + layer.weights
    cdef const real *below = NULL if layer.reads == NETWORK_INPUTS else t.outputs[layer.reads + 1]
    cdef real *scores = t.scores[at]
    cdef Tiles joint
    cdef Py_ssize_t i = 0, some = joint_arrays(tiles.n_rows)
    if t.moves != NULL:
        forward_product(
            layer, t.moves + layer.weights, t.moves + layer.biases if layer.has_bias else NULL, tiles,
            inputs_of(chunk, layer), scores, chunk.scratch,
        )
        if below != NULL:
            forward_product(
                layer, weights, NULL, tiles, below + layer.n_in * tiles.n_lanes, t.product, chunk.scratch
            )
            add_arrays(layer.n_out * tiles.n_lanes // LANES, t.product, scores)
        return
    while i < t.k:
        if below == NULL:
            fill_rows_of_weights(tiles, layer.n_out, weights + i * layer.n_out, scores)
            scores += layer.n_out * tiles.n_lanes
            i += 1
            continue
        some = min(some, t.k - i)
        repeat_tiles(tiles, some, &joint)
        forward_product(
            layer, weights, NULL, &joint, below + (1 + i) * layer.n_in * tiles.n_lanes,
            scores, chunk.scratch,
        )
        scores += some * layer.n_out * tiles.n_lanes
        i += some


cdef inline void add_slope_tangent(
    const Tiles *tiles, Py_ssize_t n, const real *moves, const real *z, real *out,
) noexcept nogil:
    """out [n][lanes] += min(z, 0) moves (n,)."""
    cdef Py_ssize_t o, at
    cdef int t, v
    for t in range(tiles.n_tiles):
        for o in range(n):
            for v in range(tiles.vecs[t]):
                at = n * tiles.start[t] + (o * tiles.vecs[t] + v) * LANES
                vstore(out + at, vfma(vmin(vload(z + at), vset1(0)), vset1(moves[o]), vload(out + at)))


cdef inline void tangents_forward(
    const Network *net, const real *parameters, Chunk *chunk, Tangents *t,
) noexcept nogil:
    """All derivatives of the activations and all tangents, after `forward`."""
    cdef const Layer *layer
    cdef real *scores
    cdef real *outputs
    cdef Py_ssize_t i
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        both_derivatives(
            layer.activation, layer.alpha, parameters + layer.slopes, &chunk.tiles, layer.n_out, chunk.z[l + 1],
            chunk.a[l + 1], t.first[l + 1], t.second[l + 1],
        )
        if layer.kind == DENSE:
            dense_score_tangents(layer, parameters, t, chunk, l + 1)
        elif layer.kind == NO_KIND:
            pass
        for i in range(t.k):
            scores = score_tangent(t, layer, chunk, l + 1, i)
            outputs = output_tangent(t, layer, chunk, l + 1, i)
            if mixes_units(layer):
                softmax_tangent(&chunk.tiles, layer.n_out, chunk.a[l + 1], scores, outputs)
                continue
            multiply_arrays(layer.n_out * chunk.tiles.n_lanes // LANES, t.first[l + 1], scores, outputs)
            if layer.has_slopes and t.moves != NULL:
                add_slope_tangent(&chunk.tiles, layer.n_out, t.moves + layer.slopes, chunk.z[l + 1], outputs)


# ---- backward ----

cdef inline void bend(const Layer *layer, int at, Chunk *chunk, Tangents *t) noexcept nogil:
    cdef Py_ssize_t apart = layer.n_out * chunk.tiles.n_lanes, n_vecs = apart // LANES, i, v, k
    cdef vec f, g, total
    cdef real *scores = t.scores[at]
    cdef real *all_g = gradient_of(t, layer, chunk, 0)
    for v in range(n_vecs):
        f = vload(t.first[at] + v * LANES)
        total = vset1(0)
        for k in range(t.k):
            i = k * apart + v * LANES
            g = vload(all_g + i)
            total = vfma(vload(scores + i), g, total)
            vstore(all_g + i, g * f)
        i = v * LANES
        vstore(t.bent + i, vfma(f, vload(t.bent + i), vload(t.second[at] + i) * total))


cdef inline void bend_softmax(const Layer *layer, int at, Chunk *chunk, Tangents *t) noexcept nogil:
    cdef Py_ssize_t k
    multiply_derivative(layer.activation, layer.alpha, &chunk.tiles, layer.n_out, chunk.z[at], chunk.a[at], t.bent)
    for k in range(t.k):
        softmax_backward_tangent(
            &chunk.tiles, layer.n_out, chunk.a[at], output_tangent(t, layer, chunk, at, k),
            gradient_of(t, layer, chunk, k), t.bent,
        )


cdef inline void bend_prelu(const Layer *layer, int at, Chunk *chunk, Tangents *t) noexcept nogil:
    """Also bent_slopes, each sample's part of the gradient of the slopes."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef Py_ssize_t n = layer.n_out, apart = n * tiles.n_lanes, o, i, k
    cdef real *all_g = gradient_of(t, layer, chunk, 0)
    cdef vec f, g, z, moved, of_slope, bent
    cdef int s, v
    for s in range(tiles.n_tiles):
        for o in range(n):
            moved = vset1(t.moves[layer.slopes + o] if t.moves != NULL else 0)
            for v in range(tiles.vecs[s]):
                i = n * tiles.start[s] + (o * tiles.vecs[s] + v) * LANES
                z, f, bent = vload(chunk.z[at] + i), vload(t.first[at] + i), vload(t.bent + i)
                of_slope = bent * vmin(z, vset1(0))
                bent = f * bent
                for k in range(t.k):
                    g = vload(all_g + k * apart + i)
                    vstore(all_g + k * apart + i, g * f)
                    g = vselect(vle(z, vset1(0)), g, vset1(0))
                    of_slope = vfma(g, vload(t.scores[at] + k * apart + i), of_slope)
                    bent = vfma(moved, g, bent)
                vstore(t.bent + i, bent)
                vstore(t.bent_slopes + i, of_slope)


cdef inline void to_scores(const Layer *layer, int at, Chunk *chunk, Tangents *t) noexcept nogil:
    """g and bent from those with respect to outputs to those with respect to scores."""
    if mixes_units(layer):
        bend_softmax(layer, at, chunk, t)
    elif layer.has_slopes:
        bend_prelu(layer, at, chunk, t)
    else:
        bend(layer, at, chunk, t)


cdef inline void weight_gradient(
    const Layer *layer, const Tiles *tiles, const real *inputs, const real *d, real *scratch, real *target,
    const Sink *sink,
) noexcept nogil:
    """The gradient of the weights alone."""
    cdef bint by_panels = is_wide(layer)
    if by_panels:
        transpose_rows(tiles, layer.n_out, d, tiles.n_lanes, 0, scratch)
    layer_gradient(
        layer, tiles, inputs, NULL, d, NULL, scratch if by_panels else NULL, 0, layer.n_in, False, target, sink
    )


cdef inline void joint_gradient(
    const Layer *layer, Chunk *chunk, const Tangents *t, real *target, const Sink *sink,
) noexcept nogil:
    """The gradient of the weights of a layer that reads another: outputs times bent, and their tangents times g."""
    cdef Py_ssize_t lanes = chunk.tiles.n_lanes, j = 0, some = joint_arrays(chunk.tiles.n_rows)
    cdef Sink own = sink[0]
    cdef Tiles joint
    while j < 1 + t.k:
        some = min(some, 1 + t.k - j)
        repeat_tiles(&chunk.tiles, some, &joint)
        weight_gradient(
            layer, &joint, t.outputs[layer.reads + 1] + j * layer.n_in * lanes, t.bent + j * layer.n_out * lanes,
            chunk.scratch, target, &own,
        )
        own.mode = ADD
        j += some


cdef inline void tangent_gradient(
    const Layer *layer, Chunk *chunk, const Tangents *t, real *target, const Sink *sink,
) noexcept nogil:
    """The gradient of a layer's arrays."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef Sink add = sink[0]
    cdef Py_ssize_t k
    add.mode = ADD
    if layer.has_bias and layer.bias_trainable:
        sums_of_units(tiles, layer.n_out, t.bent, target + layer.biases, sink)
    if not layer.trainable:
        return
    if layer.has_slopes:
        sums_of_units(tiles, layer.n_out, t.bent_slopes, target + layer.slopes, sink)
    if layer.reads != NETWORK_INPUTS:
        joint_gradient(layer, chunk, t, target, sink)
        return
    weight_gradient(layer, tiles, inputs_of(chunk, layer), t.bent, chunk.scratch, target, sink)
    if t.moves == NULL:  # the tangents of the inputs are 1 in one of them, else 0
        for k in range(t.k):
            sums_of_units(
                tiles, layer.n_out, gradient_of(t, layer, chunk, k), target + layer.weights + k * layer.n_out, &add
            )


cdef inline void dense_tangent_below(
    const Layer *layer, const real *parameters, Chunk *chunk, Tangents *t,
) noexcept nogil:
    """bent_below: bent and g of the outputs of the layer that this one reads."""
    cdef Py_ssize_t lanes = chunk.tiles.n_lanes, j = 0, some = joint_arrays(chunk.tiles.n_rows)
    cdef Tiles joint
    while j < 1 + t.k:
        some = min(some, 1 + t.k - j)
        repeat_tiles(&chunk.tiles, some, &joint)
        backward_product(
            layer, parameters + layer.weights, &joint, t.bent + j * layer.n_out * lanes,
            t.bent_below + j * layer.n_in * lanes, chunk.scratch,
        )
        j += some
    if t.moves != NULL:
        backward_product(
            layer, t.moves + layer.weights, &chunk.tiles, gradient_of(t, layer, chunk, 0), t.product, chunk.scratch
        )
        add_arrays(layer.n_in * lanes // LANES, t.product, t.bent_below)


cdef inline never_inlined tangents_backward(
    const Network *net, const real *parameters, Chunk *chunk, Tangents *t, bint at_scores, real *target,
    const Sink *sink,
) noexcept nogil:
    """The gradient of all arrays, after `tangents_forward`, from g and bent of the last layer's outputs, or scores."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        if not (at_scores and l == net.n_layers - 1):
            to_scores(layer, l + 1, chunk, t)
        if layer.trainable or layer.bias_trainable:
            tangent_gradient(layer, chunk, t, target, sink)
        if layer.reads >= net.first_trainable:
            if layer.kind == DENSE:
                dense_tangent_below(layer, parameters, chunk, t)
            elif layer.kind == NO_KIND:
                pass
            t.bent, t.bent_below = t.bent_below, t.bent
