"""The Gauss-Newton matrix of a loss of residuals; see `backprop.reference.gauss_newton`.

Chunk by chunk, output by output: the deltas that begin with a one at that output make the rows of the Jacobian, with
the samples in the lanes. The product of these rows with themselves is added to the matrix. The residuals are one more
column of the Jacobian, so the gradient is a column of the product. The whole Jacobian is never stored.
"""

from bpcore.formulas.losses cimport HUBER, LOG_COSH, Loss
from bpcore.machine.threads cimport now
from bpcore.machine.tiles cimport Tiles, block_rows, tile_width
from bpcore.machine.types cimport GROUP_LANES, LANES, real, vabs, vec, veq, vload, vmax, vselect, vset1, vsqrt, vstore
from bpcore.machine.vmath cimport vtanh
from bpcore.passes.chunks cimport forward
from bpcore.passes.layers cimport delta_below, output_derivative
from bpcore.passes.network cimport Chunk, Layer, Network, inputs_of
from bpcore.products.gradients cimport outputs_panel, transpose_rows
from bpcore.products.sinks cimport ADD, SET, Sink, sink_to
from bpcore.run.gradient cimport set_batch, set_chunk
from bpcore.run.job cimport Job
from bpcore.run.run cimport Member, Run
from bpcore.run.team cimport share, vary_team
from bpcore.run.workspace cimport Arena, lanes_of, take_reals
from bpcore.solve.solution cimport Solution


cdef enum:
    SHORT_CHUNK = 96  # the rows of the Jacobian that a block of the product reads stay in the first cache
    FEW_FEATURES = 64  # so few stay there with more rows, too
    SHARED_COLUMNS = 128  # fewer are done sooner than threads have met

cdef struct GaussNewton:
    Py_ssize_t n  # trainable parameters
    real *roots  # (lanes,): the square roots of what the squared derivatives of a row are weighted with
    real *jacobian  # [n + 1][lanes]; the last are the residuals
    real *panels  # its transpose
    real *product  # (n + 1, n + 1), the upper triangle


cdef inline Py_ssize_t trainable_parameters(const Network *net) noexcept nogil:
    cdef const Layer *layer
    cdef Py_ssize_t n = 0
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        if layer.trainable:
            n += layer.n_in * layer.n_out
            n += layer.n_out if layer.has_slopes else 0
        if layer.has_bias and layer.bias_trainable:
            n += layer.n_out
    return n


cdef inline Py_ssize_t chunk_for(Py_ssize_t n, Py_ssize_t max_chunk) noexcept nogil:
    """The most rows of a chunk."""
    return max_chunk if n <= FEW_FEATURES else min(max_chunk, <Py_ssize_t> SHORT_CHUNK)


cdef inline void take_gauss_newton(Arena *arena, const Job *job, GaussNewton *gn) noexcept nogil:
    cdef Py_ssize_t lanes = lanes_of(job)
    gn.roots = take_reals(arena, lanes)
    gn.jacobian = take_reals(arena, (gn.n + 1) * lanes)
    gn.panels = take_reals(arena, (gn.n + 1 + GROUP_LANES) * lanes)
    gn.product = take_reals(arena, (gn.n + 1) * (gn.n + 1))


# ---- rows of the Jacobian ----

cdef inline vec weight_of_residual(const Loss *loss, vec e) noexcept nogil:
    """The slope of the loss over the residual."""
    cdef vec delta
    if loss.kind == HUBER:
        delta = vset1(<real> loss.parameters[0])
        return delta / vmax(vabs(e), delta)
    if loss.kind == LOG_COSH:
        return vselect(veq(e, vset1(0)), vset1(1), vtanh(e) / vselect(veq(e, vset1(0)), vset1(1), e))
    return vset1(2)


cdef inline void begin_output(
    const Loss *loss, const Network *net, Chunk *chunk, Py_ssize_t output, GaussNewton *gn,
) noexcept nogil:
    """The deltas of the outputs, 0 but at one of them, and the residuals there, both times the roots."""
    cdef const Tiles *tiles = &chunk.tiles
    cdef Py_ssize_t n_out = net.n_outputs, o, width, at
    cdef vec e, root
    cdef int t, v
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        for v in range(tiles.vecs[t]):
            at = n_out * tiles.start[t] + output * width + v * LANES
            e = vload(chunk.a[net.n_layers] + at) - vload(chunk.y + at)
            root = vsqrt(vload(chunk.factor + tiles.start[t] + v * LANES) * weight_of_residual(loss, e))
            for o in range(n_out):
                vstore(
                    chunk.delta[net.n_layers] + n_out * tiles.start[t] + o * width + v * LANES,
                    root if o == output else vset1(0),
                )
            vstore(gn.jacobian + (gn.n + 1) * tiles.start[t] + gn.n * width + v * LANES, root * e)


cdef inline void weights_of_rows(
    const Tiles *tiles, const Layer *layer, const real *inputs, const real *delta, Py_ssize_t first, GaussNewton *gn,
) noexcept nogil:
    """The derivatives with respect to the weights of a layer, from the feature `first` on: inputs times deltas."""
    cdef Py_ssize_t i, o, width
    cdef const real *x
    cdef const real *d
    cdef real *out
    cdef int t, v
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        x = inputs + layer.n_in * tiles.start[t]
        d = delta + layer.n_out * tiles.start[t]
        out = gn.jacobian + (gn.n + 1) * tiles.start[t] + first * width
        for i in range(layer.n_in):
            for o in range(layer.n_out):
                for v in range(tiles.vecs[t]):
                    vstore(out + v * LANES, vload(x + i * width + v * LANES) * vload(d + o * width + v * LANES))
                out += width


cdef inline void units_of_rows(
    const Tiles *tiles, const Layer *layer, const real *delta, Py_ssize_t first, GaussNewton *gn,
) noexcept nogil:
    """The derivatives with respect to an array with a number for each unit."""
    cdef Py_ssize_t width, i
    cdef real *out
    cdef int t
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        out = gn.jacobian + (gn.n + 1) * tiles.start[t] + first * width
        for i in range(layer.n_out * tiles.vecs[t]):
            vstore(out + i * LANES, vload(delta + layer.n_out * tiles.start[t] + i * LANES))


cdef inline void rows_of_jacobian(const Network *net, Chunk *chunk, GaussNewton *gn) noexcept nogil:
    """All derivatives of an output, from the deltas of all layers; in the order of the trainable parameters."""
    cdef const Layer *layer
    cdef Py_ssize_t first = 0
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        if layer.trainable:
            weights_of_rows(&chunk.tiles, layer, inputs_of(chunk, layer), chunk.delta[l + 1], first, gn)
            first += layer.n_in * layer.n_out
        if layer.has_bias and layer.bias_trainable:
            units_of_rows(&chunk.tiles, layer, chunk.delta[l + 1], first, gn)
            first += layer.n_out
        if layer.has_slopes and layer.trainable:
            units_of_rows(&chunk.tiles, layer, chunk.slope_delta[l + 1], first, gn)
            first += layer.n_out


# ---- the product ----

# What the threads of a team share: the product of a chunk.
cdef struct Adding:
    const Tiles *tiles
    const GaussNewton *gn
    Sink sink


cdef inline void add_panels(const Adding *adding, int rank, int n_threads) noexcept nogil:
    """A thread's panels of columns of the product take jacobian @ jacobian.T, down to the diagonal."""
    cdef const GaussNewton *gn = adding.gn
    cdef const Tiles *tiles = adding.tiles
    cdef Py_ssize_t n = gn.n + 1, first = 0, end, row
    cdef int n_vecs, height, panel = 0
    while first < n:
        n_vecs = tile_width((n - first + LANES - 1) // LANES)
        end = min(n, first + n_vecs * LANES)
        row = 0 if panel % n_threads == rank else end
        while row < end:
            height = <int> min(end - row, <Py_ssize_t> block_rows(n_vecs))
            outputs_panel(
                n_vecs, height, tiles, n, row, gn.jacobian, gn.panels + first * tiles.n_lanes,
                gn.product + row * n + first, n, end - first, NULL, &adding.sink,
            )
            row += height
        first = end
        panel += 1


cdef inline void add_as_member(Member *member) noexcept nogil:
    add_panels(<const Adding *> member.run.team.argument, member.rank, member.run.team.n_threads)


cdef inline void add_product(Run *run, const Tiles *tiles, GaussNewton *gn, const Sink *sink) noexcept nogil:
    """The product takes jacobian @ jacobian.T; the team shares it where it is large."""
    cdef Adding adding = Adding(tiles, gn, sink[0])
    transpose_rows(tiles, gn.n + 1, gn.jacobian, tiles.n_lanes, 0, gn.panels)
    if run.team.n_threads > 1 and gn.n >= SHARED_COLUMNS:
        share(run, add_as_member, &adding)
    else:
        add_panels(&adding, 0, 1)


cdef inline bint find_product(
    Run *run, const Solution *solution, GaussNewton *gn, Py_ssize_t *done, double deadline,
) noexcept nogil:
    """gn.product at the parameters of the run, over all rows, from row done[0] on; False where time is over before.

    After each whole chunk, the team for the next ones follows from what it has taken.
    """
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t output
    cdef Py_ssize_t n
    cdef Sink sink = sink_to(SET if done[0] == 0 else ADD)
    cdef double begun = now(), ended
    cdef int l
    set_batch(run, &run.workspace.data, 0, run.job.data.n, solution.denominator)
    while done[0] < run.job.data.n:
        n = min(run.workspace.batch.chunk, run.job.data.n - done[0])
        set_chunk(run, chunk, done[0], n, run.workspace.batch.factor, False)
        forward(net, run.state.parameters, chunk)
        for output in range(net.n_outputs):
            begin_output(&run.job.loss, net, chunk, output, gn)
            output_derivative(net, run.state.parameters, chunk)
            for l in range(net.n_layers - 1, net.first_trainable, -1):
                delta_below(net, l, run.state.parameters, chunk)
            rows_of_jacobian(net, chunk, gn)
            add_product(run, &chunk.tiles, gn, &sink)
            sink.mode = ADD
        done[0] += run.workspace.batch.chunk
        ended = now()
        if n == run.workspace.batch.chunk and not run.team.size.is_fixed:
            run.team.size.of_step = ended - begun
            vary_team(run, run.job.batch_size)
        if done[0] < run.job.data.n and ended >= deadline:
            return False
        begun = ended
    return True
