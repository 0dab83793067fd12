"""The gradients of any function of the outputs: all outputs first, then, from its gradient, all gradients."""

from bpcore.formulas.dropout cimport place_rows
from bpcore.machine.tiles cimport Tiles, cut_tiles
from bpcore.machine.types cimport LANES, real
from bpcore.passes.batches cimport gather_rows, scatter_rows
from bpcore.passes.chunks cimport backward, forward, input_delta
from bpcore.passes.layers cimport output_derivative
from bpcore.passes.network cimport Chunk, Network
from bpcore.products.sinks cimport ADD, SET, Sink, sink_to
from bpcore.run.run cimport Run


cdef inline void outputs_of_chunk(Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """The activations of rows first ... first + n in the workspace's chunk; dropped as the batch says."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    if chunk.tiles.n_rows != n:
        cut_tiles(&chunk.tiles, n, net.splits_short_tile)
    if run.workspace.batch.drops:
        place_rows(&chunk.dropout, run.workspace.batch.key, first, &chunk.tiles)
    chunk.rows = NULL
    gather_rows(&chunk.tiles, run.job.data.X, net.n_inputs, NULL, first, chunk.a[0])
    forward(net, run.state.parameters, chunk)


cdef inline void clear_empty_lanes(const Tiles *tiles, Py_ssize_t n, real *d) noexcept nogil:
    """d [n][lanes] = 0 in the lanes that hold no sample."""
    cdef Py_ssize_t o, k, width
    cdef int t
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        for o in range(n):
            for k in range(tiles.rows[t], width):
                d[n * tiles.start[t] + o * width + k] = 0


cdef inline void gradients_of_chunk(Run *run, Py_ssize_t first, const real *output_gradient, Sink *sink) noexcept nogil:
    """The gradients of the chunk at hand, which begins at row `first` of (n_rows, n_outputs) output_gradient."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef real *delta = chunk.delta[net.n_layers]
    gather_rows(&chunk.tiles, output_gradient, net.n_outputs, NULL, first, delta)
    clear_empty_lanes(&chunk.tiles, net.n_outputs, delta)
    output_derivative(net, run.state.parameters, chunk)
    if run.workspace.gradient != NULL:
        backward(net, run.state.parameters, chunk, run.workspace.gradient, sink)
    if run.workspace.input_gradient != NULL:
        input_delta(net, run.state.parameters, chunk)
        scatter_rows(
            &chunk.tiles, chunk.delta[0], net.n_inputs, run.workspace.input_gradient + first * net.n_inputs
        )


cdef inline void all_outputs(Run *run, Py_ssize_t chunk, real *outputs) noexcept nogil:
    """outputs (n_rows, n_outputs) of all rows, chunk by chunk."""
    cdef Py_ssize_t first = 0, n, n_outputs = run.job.net.n_outputs
    while first < run.job.data.n:
        n = min(chunk, run.job.data.n - first)
        outputs_of_chunk(run, first, n)
        scatter_rows(
            &run.workspace.chunk.tiles, run.workspace.chunk.a[run.job.net.n_layers], n_outputs,
            outputs + first * n_outputs,
        )
        first += n


cdef inline void all_gradients(Run *run, Py_ssize_t chunk, const real *output_gradient) noexcept nogil:
    """The gradients of all rows, after `all_outputs`."""
    cdef Py_ssize_t first = 0, n
    cdef Sink sink = sink_to(SET)
    while first < run.job.data.n:
        n = min(chunk, run.job.data.n - first)
        if n < run.job.data.n:  # a single chunk is still there
            outputs_of_chunk(run, first, n)
        gradients_of_chunk(run, first, output_gradient, &sink)
        sink.mode = ADD
        first += n
