"""Derivatives of the outputs with respect to the inputs, of first and second order."""

from libc.string cimport memset

from bpcore.derivatives.row_gradients cimport one_hot
from bpcore.derivatives.tangents cimport (
    Tangents, backward_product, forward_product, multiply_arrays, share_outputs, tangents_forward,
)
from bpcore.formulas.activation_loops cimport multiply_derivative
from bpcore.formulas.second_derivatives cimport bends
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, real, vec, vfma, vload, vset1, vstore
from bpcore.passes.batches cimport scatter_apart, scatter_rows
from bpcore.passes.chunks cimport input_delta
from bpcore.passes.layers cimport output_derivative
from bpcore.passes.network cimport DENSE, NETWORK_INPUTS, NO_KIND, Chunk, Layer, Network, mixes_units
from bpcore.run.heads cimport outputs_of_chunk
from bpcore.run.job cimport chunk_length
from bpcore.run.run cimport Run


cdef inline void input_jacobian(Run *run, real *out) noexcept nogil:
    """out (n_rows, n_outputs, n_inputs): one way forward, and one back for each output."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t done = 0, output, apart = net.n_outputs * net.n_inputs
    cdef Py_ssize_t length = chunk_length(run.job.data.n, run.job.max_chunk)
    while done < run.job.data.n:
        outputs_of_chunk(run, done, min(length, run.job.data.n - done))
        for output in range(net.n_outputs):
            one_hot(&chunk.tiles, net.n_outputs, output, chunk.delta[net.n_layers])
            output_derivative(net, run.state.parameters, chunk)
            input_delta(net, run.state.parameters, chunk)
            scatter_apart(
                &chunk.tiles, chunk.delta[0], net.n_inputs, out + done * apart + output * net.n_inputs, apart
            )
        done += length


# ---- second derivatives of each output by each pair of inputs ----

cdef inline void add_pairs(
    const Tiles *tiles, Py_ssize_t n, const real *weight, const Tangents *t, const real *scores, real *weighted,
    real *pairs,
) noexcept nogil:
    """pairs [k][k][lanes], where j <= i, += sum over units of weight times the tangents i and j.

    weighted: room for [n][lanes of a tile].
    """
    cdef Py_ssize_t stride = n * tiles.n_lanes, i, j, u, width, at
    cdef const real *one
    cdef real *pair
    cdef vec total
    cdef int s, v
    for s in range(tiles.n_tiles):
        width = tiles.vecs[s] * LANES
        at = n * tiles.start[s]
        for i in range(t.k):
            multiply_arrays(n * tiles.vecs[s], weight + at, scores + i * stride + at, weighted)
            for j in range(i + 1):
                one = scores + j * stride + at
                pair = pairs + t.k * t.k * tiles.start[s] + (i * t.k + j) * width
                for v in range(tiles.vecs[s]):
                    total = vload(pair + v * LANES)
                    for u in range(n):
                        total = vfma(
                            vload(weighted + u * width + v * LANES), vload(one + u * width + v * LANES), total
                        )
                    vstore(pair + v * LANES, total)


cdef inline void mirror_pairs(const Tiles *tiles, Py_ssize_t k, real *pairs) noexcept nogil:
    """The other half of pairs [k][k][lanes]."""
    cdef Py_ssize_t i, j, width
    cdef real *tile
    cdef int s, v
    for s in range(tiles.n_tiles):
        width = tiles.vecs[s] * LANES
        tile = pairs + k * k * tiles.start[s]
        for i in range(k):
            for j in range(i):
                for v in range(tiles.vecs[s]):
                    vstore(tile + (j * k + i) * width + v * LANES, vload(tile + (i * k + j) * width + v * LANES))


cdef inline void pairs_of_output(
    const Network *net, const real *parameters, Chunk *chunk, Tangents *t, Py_ssize_t output, real *pairs,
) noexcept nogil:
    """pairs [k][k][lanes]: the second derivatives of one output, after `tangents_forward`."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef const Layer *layer
    cdef Py_ssize_t n_vecs
    cdef int l
    memset(pairs, 0, t.k * t.k * tiles.n_lanes * sizeof(real))
    one_hot(tiles, net.n_outputs, output, t.bent)
    for l in range(net.n_layers - 1, -1, -1):
        layer = net.layers + l
        n_vecs = layer.n_out * tiles.n_lanes // LANES
        if mixes_units(layer):
            multiply_derivative(layer.activation, 0, tiles, layer.n_out, NULL, chunk.a[l + 1], t.bent)
            add_pairs(tiles, layer.n_out, t.bent, t, t.scores[l + 1], chunk.scratch, pairs)
        else:
            if bends(layer.activation):
                multiply_arrays(n_vecs, t.bent, t.second[l + 1], t.product)
                add_pairs(tiles, layer.n_out, t.product, t, t.scores[l + 1], chunk.scratch, pairs)
            multiply_arrays(n_vecs, t.bent, t.first[l + 1], t.bent)
        if layer.reads != NETWORK_INPUTS:
            if layer.kind == DENSE:
                backward_product(layer, parameters + layer.weights, tiles, t.bent, t.bent_below, chunk.scratch)
            elif layer.kind == NO_KIND:
                pass
            t.bent, t.bent_below = t.bent_below, t.bent
    mirror_pairs(tiles, t.k, pairs)


cdef inline void input_hessian(Run *run, Tangents *t, real *pairs, real *out) noexcept nogil:
    """out (n_rows, n_outputs, n_inputs, n_inputs); pairs: room for [k][k][lanes]."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t done = 0, output, square = net.n_inputs * net.n_inputs
    cdef Py_ssize_t length = chunk_length(run.job.data.n, run.job.max_chunk)
    share_outputs(net, chunk, t)
    while done < run.job.data.n:
        outputs_of_chunk(run, done, min(length, run.job.data.n - done))
        tangents_forward(net, run.state.parameters, chunk, t)
        for output in range(net.n_outputs):
            pairs_of_output(net, run.state.parameters, chunk, t, output, pairs)
            scatter_apart(
                &chunk.tiles, pairs, square, out + (done * net.n_outputs + output) * square, net.n_outputs * square
            )
        done += length


# ---- the sum of the second derivatives by each input alone, carried forward ----

cdef inline void add_squares(
    const Layer *layer, int at, const Tiles *tiles, const Tangents *t, real *sums,
) noexcept nogil:
    """sums [n_out][lanes] of the scores become those of the outputs: f' sums + f'' times the squares of tangents."""
    cdef Py_ssize_t stride = layer.n_out * tiles.n_lanes, v, k
    cdef vec total, x
    for v in range(layer.n_out * tiles.n_lanes // LANES):
        total = vset1(0)
        for k in range(t.k):
            x = vload(t.scores[at] + k * stride + v * LANES)
            total = vfma(x, x, total)
        total = vload(t.second[at] + v * LANES) * total
        vstore(sums + v * LANES, vfma(vload(t.first[at] + v * LANES), vload(sums + v * LANES), total))


cdef inline void add_softmax_squares(
    const Layer *layer, const real *a, const Tiles *tiles, const Tangents *t, const real *scores, real *sums,
) noexcept nogil:
    """The same for softmax: a (sums + squares) less a times its mean; the tangents are less their mean."""
    cdef Py_ssize_t n = layer.n_out, stride = n * tiles.n_lanes, u, k, at
    cdef vec total, mean, x
    cdef int s, v
    for s in range(tiles.n_tiles):
        for v in range(tiles.vecs[s]):
            mean = vset1(0)
            for u in range(n):
                at = n * tiles.start[s] + (u * tiles.vecs[s] + v) * LANES
                total = vload(sums + at)
                for k in range(t.k):
                    x = vload(scores + k * stride + at)
                    total = vfma(x, x, total)
                mean = vfma(vload(a + at), total, mean)
                vstore(sums + at, total)
            for u in range(n):
                at = n * tiles.start[s] + (u * tiles.vecs[s] + v) * LANES
                vstore(sums + at, vload(a + at) * (vload(sums + at) - mean))


cdef inline void chunk_laplacian(
    const Network *net, const real *parameters, Chunk *chunk, Tangents *t,
) noexcept nogil:
    """t.bent [n_outputs][lanes], after `tangents_forward`."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        if layer.reads == NETWORK_INPUTS:
            memset(t.bent_below, 0, layer.n_out * tiles.n_lanes * sizeof(real))
        elif layer.kind == DENSE:
            forward_product(layer, parameters + layer.weights, NULL, tiles, t.bent, t.bent_below, chunk.scratch)
        elif layer.kind == NO_KIND:
            pass
        t.bent, t.bent_below = t.bent_below, t.bent
        if mixes_units(layer):
            add_softmax_squares(layer, chunk.a[l + 1], tiles, t, t.scores[l + 1], t.bent)
        else:
            add_squares(layer, l + 1, tiles, t, t.bent)


cdef inline void input_laplacian(Run *run, Tangents *t, real *out) noexcept nogil:
    """out (n_rows, n_outputs)."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t done = 0, length = chunk_length(run.job.data.n, run.job.max_chunk)
    share_outputs(net, chunk, t)
    while done < run.job.data.n:
        outputs_of_chunk(run, done, min(length, run.job.data.n - done))
        tangents_forward(net, run.state.parameters, chunk, t)
        chunk_laplacian(net, run.state.parameters, chunk, t)
        scatter_rows(&chunk.tiles, t.bent, net.n_outputs, out + done * net.n_outputs)
        done += length
