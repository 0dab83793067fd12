"""Tangents: how the arrays of a chunk move where its inputs or the parameters do; and the way back over them.

See `backprop.reference.derivatives` for the formulas. There are k directions: one of the parameters, `moves`, or one
for each input of the network. The first and second derivatives of all activations are computed once, and all that
follows is made of products and of loops that multiply and add.

The backward pass is that of a function of outputs and tangents. Its gradients with respect to the tangents are `g`, one
for each direction, and those with respect to the outputs themselves `bent`. For a product with the Hessian these are
the gradient of the loss and the tangent of it.
"""

from bpcore.formulas.activations cimport multiply_derivative
from bpcore.formulas.second_derivatives cimport both_derivatives, softmax_backward_tangent, softmax_tangent
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport GROUP_LANES, LANES, real, vec, vfma, vle, vload, vmin, vselect, vset1, vstore
from bpcore.passes.layers cimport layer_gradient
from bpcore.passes.network cimport (
    DENSE, NETWORK_INPUTS, NO_KIND, Chunk, Layer, Network, inputs_of, mixes_units, needs_panels,
)
from bpcore.products.gradients cimport ADD, Sink, sums_of_units, transpose_rows
from bpcore.products.samples cimport Product, samples_product
from bpcore.run.workspace cimport Arena, set_array, take, take_reals


# Index 0 of an array of arrays is the network's input, index l + 1 the layer l.
cdef struct Tangents:
    Py_ssize_t k  # directions
    const real *moves  # the direction of the parameters; NULL: the directions are those of the inputs, one by one
    Py_ssize_t lanes  # there is room for
    real **first  # [n_out][lanes]: activation'(z)
    real **second  # activation''(z)
    real **scores  # [k][n_out][lanes]; of softmax less their mean, see `softmax_tangent`
    real **outputs
    real *g  # [k][width_max][lanes]
    real *g_below
    real *bent  # [width_max][lanes]
    real *bent_below
    real *product
    real *bent_slopes


cdef inline Py_ssize_t tangents_chunk(Py_ssize_t max_chunk, Py_ssize_t k) noexcept nogil:
    """The most rows of a chunk, which are fewer the more arrays there are."""
    return max(max_chunk * 3 // (3 + 2 * k) // GROUP_LANES * GROUP_LANES, <Py_ssize_t> GROUP_LANES)


cdef inline void take_tangents(Arena *arena, const Network *net, Py_ssize_t lanes, Tangents *t) noexcept nogil:
    """Room for t.k directions."""
    cdef Py_ssize_t pointers = (net.n_layers + 1) * sizeof(real *), n, widest = net.width_max * lanes
    cdef int l
    t.lanes = lanes
    t.first = <real **> take(arena, pointers)
    t.second = <real **> take(arena, pointers)
    t.scores = <real **> take(arena, pointers)
    t.outputs = <real **> take(arena, pointers)
    for l in range(net.n_layers):
        n = net.layers[l].n_out * lanes
        set_array(t.first, l + 1, take_reals(arena, n))
        set_array(t.second, l + 1, take_reals(arena, n))
        set_array(t.scores, l + 1, take_reals(arena, t.k * n))
        set_array(t.outputs, l + 1, take_reals(arena, t.k * n))
    t.g = take_reals(arena, t.k * widest)
    t.g_below = take_reals(arena, t.k * widest)
    t.bent = take_reals(arena, widest)
    t.bent_below = take_reals(arena, widest)
    t.product = take_reals(arena, widest)
    t.bent_slopes = take_reals(arena, widest)


cdef inline real *tangent_of(const Tangents *t, real **arrays, const Layer *layer, int at, Py_ssize_t i) noexcept nogil:
    """The i-th direction of the arrays of a layer, which stand at index `at`."""
    return arrays[at] + i * layer.n_out * t.lanes


cdef inline real *gradient_of(const Tangents *t, real *g, const Network *net, Py_ssize_t i) noexcept nogil:
    return g + i * net.width_max * t.lanes


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


cdef inline void dense_score_tangent(
    const Layer *layer, const real *parameters, const Tangents *t, Chunk *chunk, Py_ssize_t i, const real *t_inputs,
    real *out,
) noexcept nogil:
    """out [n_out][lanes], the i-th direction of the scores; t_inputs is NULL for the network's own."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef const real *weights = parameters + layer.weights
    if t.moves == NULL:
        if t_inputs == NULL:
            fill_rows_of_weights(tiles, layer.n_out, weights + i * layer.n_out, out)
        else:
            forward_product(layer, weights, NULL, tiles, t_inputs, out, chunk.scratch)
        return
    forward_product(
        layer, t.moves + layer.weights, t.moves + layer.biases if layer.has_bias else NULL, tiles,
        inputs_of(chunk, layer), out, chunk.scratch,
    )
    if t_inputs != NULL:
        forward_product(layer, weights, NULL, tiles, t_inputs, t.product, chunk.scratch)
        add_arrays(layer.n_out * tiles.n_lanes // LANES, t.product, out)


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
    cdef real *z
    cdef real *a
    cdef real *scores
    cdef real *outputs
    cdef real *t_inputs
    cdef Py_ssize_t i
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        z, a = chunk.z[l + 1], chunk.a[l + 1]
        both_derivatives(
            layer.activation, layer.alpha, parameters + layer.slopes, &chunk.tiles, layer.n_out, z, a, t.first[l + 1],
            t.second[l + 1],
        )
        for i in range(t.k):
            scores = tangent_of(t, t.scores, layer, l + 1, i)
            outputs = tangent_of(t, t.outputs, layer, l + 1, i)
            t_inputs = NULL
            if layer.reads != NETWORK_INPUTS:
                t_inputs = tangent_of(t, t.outputs, net.layers + layer.reads, layer.reads + 1, i)
            if layer.kind == DENSE:
                dense_score_tangent(layer, parameters, t, chunk, i, t_inputs, scores)
            elif layer.kind == NO_KIND:
                pass
            if mixes_units(layer):
                softmax_tangent(&chunk.tiles, layer.n_out, a, scores, outputs)
                continue
            multiply_arrays(layer.n_out * chunk.tiles.n_lanes // LANES, t.first[l + 1], scores, outputs)
            if layer.has_slopes and t.moves != NULL:
                add_slope_tangent(&chunk.tiles, layer.n_out, t.moves + layer.slopes, z, outputs)


# ---- backward ----

cdef inline void bend(
    const Layer *layer, int at, const Network *net, Chunk *chunk, Tangents *t,
) noexcept nogil:
    cdef Py_ssize_t n_vecs = layer.n_out * chunk.tiles.n_lanes // LANES, stride = layer.n_out * t.lanes, i, v, k
    cdef Py_ssize_t apart = net.width_max * t.lanes
    cdef vec f, g, total
    cdef real *scores = t.scores[at]
    for v in range(n_vecs):
        f = vload(t.first[at] + v * LANES)
        total = vset1(0)
        for k in range(t.k):
            i = k * apart + v * LANES
            g = vload(t.g + i)
            total = vfma(vload(scores + k * stride + v * LANES), g, total)
            vstore(t.g + i, g * f)
        i = v * LANES
        vstore(t.bent + i, vfma(f, vload(t.bent + i), vload(t.second[at] + i) * total))


cdef inline void bend_softmax(
    const Layer *layer, int at, const Network *net, Chunk *chunk, Tangents *t,
) noexcept nogil:
    cdef Py_ssize_t k
    multiply_derivative(layer.activation, layer.alpha, &chunk.tiles, layer.n_out, chunk.z[at], chunk.a[at], t.bent)
    for k in range(t.k):
        softmax_backward_tangent(
            &chunk.tiles, layer.n_out, chunk.a[at], tangent_of(t, t.outputs, layer, at, k), gradient_of(t, t.g, net, k),
            t.bent,
        )


cdef inline void bend_prelu(
    const Layer *layer, int at, const Network *net, Chunk *chunk, Tangents *t,
) noexcept nogil:
    """Also bent_slopes, each sample's part of the gradient of the slopes."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef Py_ssize_t n = layer.n_out, stride = n * t.lanes, apart = net.width_max * t.lanes, o, i, k
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
                    g = vload(t.g + k * apart + i)
                    vstore(t.g + k * apart + i, g * f)
                    g = vselect(vle(z, vset1(0)), g, vset1(0))
                    of_slope = vfma(g, vload(t.scores[at] + k * stride + i), of_slope)
                    bent = vfma(moved, g, bent)
                vstore(t.bent + i, bent)
                vstore(t.bent_slopes + i, of_slope)


cdef inline void to_scores(
    const Layer *layer, int at, const Network *net, Chunk *chunk, Tangents *t,
) noexcept nogil:
    """g and bent from those with respect to outputs to those with respect to scores."""
    if mixes_units(layer):
        bend_softmax(layer, at, net, chunk, t)
    elif layer.has_slopes:
        bend_prelu(layer, at, net, chunk, t)
    else:
        bend(layer, at, net, chunk, t)


cdef inline void one_gradient(
    const Layer *layer, Chunk *chunk, const real *inputs, const real *d, const real *slopes, bint with_unit_arrays,
    real *target, const Sink *sink,
) noexcept nogil:
    if needs_panels(layer):
        transpose_rows(&chunk.tiles, layer.n_out, d, chunk.tiles.n_lanes, 0, chunk.scratch)
    layer_gradient(
        layer, &chunk.tiles, inputs, d, slopes, chunk.scratch, 0, layer.n_in, with_unit_arrays, target, sink
    )


cdef inline void tangent_gradient(
    const Network *net, const Layer *layer, Chunk *chunk, const Tangents *t, real *target, const Sink *sink,
) noexcept nogil:
    """The gradient of a layer's arrays: inputs times bent, and tangents of inputs times g."""
    cdef Sink add = sink[0]
    cdef Py_ssize_t k
    one_gradient(layer, chunk, inputs_of(chunk, layer), t.bent, t.bent_slopes, True, target, sink)
    add.mode = ADD
    if not layer.trainable or (layer.reads == NETWORK_INPUTS and t.moves != NULL):
        return
    for k in range(t.k):
        if layer.reads == NETWORK_INPUTS:
            sums_of_units(
                &chunk.tiles, layer.n_out, gradient_of(t, t.g, net, k), target + layer.weights + k * layer.n_out, &add
            )
        else:
            one_gradient(
                layer, chunk, tangent_of(t, t.outputs, net.layers + layer.reads, layer.reads + 1, k),
                gradient_of(t, t.g, net, k), NULL, False, target, &add,
            )


cdef inline void dense_tangent_below(
    const Network *net, const Layer *layer, const real *parameters, Chunk *chunk, Tangents *t,
) noexcept nogil:
    """g and bent of the outputs of the layer that this one reads."""
    cdef const real *weights = parameters + layer.weights
    cdef Py_ssize_t k
    backward_product(layer, weights, &chunk.tiles, t.bent, t.bent_below, chunk.scratch)
    if t.moves != NULL:
        backward_product(layer, t.moves + layer.weights, &chunk.tiles, t.g, t.product, chunk.scratch)
        add_arrays(layer.n_in * chunk.tiles.n_lanes // LANES, t.product, t.bent_below)
    for k in range(t.k):
        backward_product(
            layer, weights, &chunk.tiles, gradient_of(t, t.g, net, k), gradient_of(t, t.g_below, net, k), chunk.scratch
        )


cdef inline void tangents_backward(
    const Network *net, const real *parameters, Chunk *chunk, Tangents *t, bint at_scores, real *target,
    const Sink *sink,
) noexcept nogil:
    """The gradient of all arrays, after `tangents_forward`, from g and bent of the last layer's outputs, or scores."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        if not (at_scores and l == net.n_layers - 1):
            to_scores(layer, l + 1, net, chunk, t)
        if layer.trainable or layer.bias_trainable:
            tangent_gradient(net, layer, chunk, t, target, sink)
        if layer.reads >= net.first_trainable:
            if layer.kind == DENSE:
                dense_tangent_below(net, layer, parameters, chunk, t)
            elif layer.kind == NO_KIND:
                pass
            t.g, t.g_below = t.g_below, t.g
            t.bent, t.bent_below = t.bent_below, t.bent
