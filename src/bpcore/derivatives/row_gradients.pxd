"""Gradients with respect to the parameters, row by row."""

from libc.string cimport memset

from bpcore.derivatives.tangents cimport Tangents
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, real, vec, vload_n, vset1, vstore_n
from bpcore.passes.batches cimport scatter_apart, scatter_rows
from bpcore.passes.chunks cimport forward
from bpcore.passes.layers cimport delta_below, output_delta, output_derivative
from bpcore.passes.network cimport Chunk, Layer, Network, inputs_of
from bpcore.run.gradient cimport set_batch, set_chunk
from bpcore.run.heads cimport outputs_of_chunk
from bpcore.run.job cimport chunk_length
from bpcore.run.run cimport Run


cdef inline void one_hot(const Tiles *tiles, Py_ssize_t n, Py_ssize_t feature, real *out) noexcept nogil:
    """out [n][lanes] = 1 in one feature, else 0."""
    cdef Py_ssize_t o, k, width
    cdef int t
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        for o in range(n):
            for k in range(width):
                out[n * tiles.start[t] + o * width + k] = 1 if o == feature else 0


cdef inline void outer_product(
    const real *x, Py_ssize_t n_in, const real *d, Py_ssize_t n_out, real *out,
) noexcept nogil:
    """out (n_in, n_out) = x (n_in,) times d (n_out,)."""
    cdef Py_ssize_t i, o, left
    cdef vec xv
    if n_out == 1:  # lanes over the inputs
        xv = vset1(d[0])
        i = 0
        while i < n_in:
            left = min(n_in - i, <Py_ssize_t> LANES)
            vstore_n(out + i, vload_n(x + i, left) * xv, left)
            i += LANES
        return
    for i in range(n_in):
        xv = vset1(x[i])
        o = 0
        while o < n_out:
            left = min(n_out - o, <Py_ssize_t> LANES)
            vstore_n(out + i * n_out + o, xv * vload_n(d + o, left), left)
            o += LANES


cdef inline void layer_rows(
    const Layer *layer, Chunk *chunk, const real *delta, const real *slope_delta, real *inputs_of_rows,
    real *deltas_of_rows, real *out, Py_ssize_t apart,
) noexcept nogil:
    """The gradient of a layer's arrays for each row of a chunk, (n_rows, n_parameters) out with rows so far apart.

    inputs_of_rows, deltas_of_rows: room for width_max times the lanes of the chunk.
    """
    cdef Py_ssize_t row
    if layer.trainable:
        scatter_rows(&chunk.tiles, inputs_of(chunk, layer), layer.n_in, inputs_of_rows)
        scatter_rows(&chunk.tiles, delta, layer.n_out, deltas_of_rows)
        for row in range(chunk.tiles.n_rows):
            outer_product(
                inputs_of_rows + row * layer.n_in, layer.n_in, deltas_of_rows + row * layer.n_out, layer.n_out,
                out + row * apart + layer.weights,
            )
    if layer.has_bias and layer.bias_trainable:
        scatter_apart(&chunk.tiles, delta, layer.n_out, out + layer.biases, apart)
    if layer.has_slopes and layer.trainable:
        scatter_apart(&chunk.tiles, slope_delta, layer.n_out, out + layer.slopes, apart)


cdef inline void rows_of_chunk(
    const Network *net, const real *parameters, Chunk *chunk, Tangents *room, real *out, Py_ssize_t apart,
) noexcept nogil:
    """The gradients of all arrays, from the delta of the last layer; what is not trainable is left as it is."""
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer_rows(
            net.layers + l, chunk, chunk.delta[l + 1], chunk.slope_delta[l + 1], room.bent, room.bent_below, out, apart
        )
        if net.layers[l].reads >= net.first_trainable:
            delta_below(net, l, parameters, chunk)


cdef inline void row_gradients(Run *run, double denominator, Tangents *room, real *out) noexcept nogil:
    """out (n_rows, n_parameters): each row's part of the gradient of the data loss."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t done = 0
    memset(out, 0, run.job.data.n * net.n_parameters * sizeof(real))
    set_batch(run, &run.workspace.data, 0, run.job.data.n, denominator)
    while done < run.job.data.n:
        set_chunk(
            run, chunk, done, min(run.workspace.batch.chunk, run.job.data.n - done), run.workspace.batch.factor,
            False,
        )
        forward(net, run.state.parameters, chunk)
        output_delta(net, &run.job.loss, run.state.parameters, chunk)
        rows_of_chunk(net, run.state.parameters, chunk, room, out + done * net.n_parameters, net.n_parameters)
        done += run.workspace.batch.chunk


cdef inline void row_jacobian(Run *run, Tangents *room, real *out) noexcept nogil:
    """out (n_rows, n_outputs, n_parameters)."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t done = 0, output, apart = net.n_outputs * net.n_parameters
    cdef Py_ssize_t length = chunk_length(run.job.data.n, run.job.max_chunk)
    memset(out, 0, run.job.data.n * apart * sizeof(real))
    while done < run.job.data.n:
        outputs_of_chunk(run, done, min(length, run.job.data.n - done))
        for output in range(net.n_outputs):
            one_hot(&chunk.tiles, net.n_outputs, output, chunk.delta[net.n_layers])
            output_derivative(net, run.state.parameters, chunk)
            rows_of_chunk(
                net, run.state.parameters, chunk, room, out + done * apart + output * net.n_parameters, apart
            )
        done += length
