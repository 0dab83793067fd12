"""A loss of outputs and of their derivatives with respect to the inputs, in training: a pass for a chunk.

The tangents at the outputs are the Jacobian. Their errors, and the gradient of the loss of the outputs, go back over
the tangents. To the chunk's own value and factor, those of the derivatives are in a constant ratio.
"""

from libc.string cimport memset

from bpcore.derivatives.tangents cimport (
    Tangents, add_arrays, gradient_of, output_tangent, share_outputs, take_tangents, tangents_backward,
    tangents_forward, to_scores,
)
from bpcore.formulas.activations cimport IDENTITY
from bpcore.formulas.losses cimport from_scores
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, real, vec, vfma, vload, vset1, vstore
from bpcore.passes.chunks cimport forward
from bpcore.passes.layers cimport loss_delta
from bpcore.passes.network cimport Chunk, Layer, Network
from bpcore.products.sinks cimport Sink
from bpcore.run.job cimport Job, targets_per_row
from bpcore.run.workspace cimport Arena, lanes_of, take_reals


cdef struct Slopes:
    Tangents tangents  # one for each input
    real *y  # [n_outputs][lanes]: the targets for the outputs
    real ratio  # of what a squared error of a derivative counts to what the value of a row does


cdef inline void take_slopes(Arena *arena, const Job *job, Slopes *slopes) noexcept nogil:
    take_tangents(arena, job.net, lanes_of(job), &slopes.tangents)
    slopes.y = take_reals(arena, job.net.n_outputs * lanes_of(job))


cdef inline void copy_targets(
    const Tiles *tiles, Py_ssize_t n, Py_ssize_t all, const real *y, real *out,
) noexcept nogil:
    """out [n][lanes] = the first n of y [all][lanes]."""
    cdef Py_ssize_t i
    cdef int t
    for t in range(tiles.n_tiles):
        for i in range(n * tiles.vecs[t]):
            vstore(out + n * tiles.start[t] + i * LANES, vload(y + all * tiles.start[t] + i * LANES))


cdef inline void slope_errors(const Job *job, Chunk *chunk, Slopes *slopes) noexcept nogil:
    """The gradients with respect to the tangents of the outputs, g; their squared errors are added to chunk.value."""
    cdef const Network *net = job.net
    cdef const Tiles *tiles = &chunk.tiles
    cdef Tangents *t = &slopes.tangents
    cdef const Layer *last = net.layers + net.n_layers - 1
    cdef Py_ssize_t n = net.n_outputs, all = targets_per_row(job), o, i, at, width
    cdef const real *y
    cdef vec e, f, total, ratio = vset1(slopes.ratio)
    cdef int s, v
    for s in range(tiles.n_tiles):
        width = tiles.vecs[s] * LANES
        for v in range(tiles.vecs[s]):
            y = chunk.y + all * tiles.start[s] + n * width + v * LANES
            f = vload(chunk.factor + tiles.start[s] + v * LANES) * ratio
            f = f + f
            total = vset1(0)
            for o in range(n):
                at = n * tiles.start[s] + o * width + v * LANES
                for i in range(t.k):
                    e = vload(output_tangent(t, last, chunk, net.n_layers, i) + at)
                    e = e - vload(y + (o * t.k + i) * width)
                    total = vfma(e, e, total)
                    vstore(gradient_of(t, last, chunk, i) + at, f * e)
            at = tiles.start[s] + v * LANES
            vstore(chunk.value + at, vfma(ratio, total, vload(chunk.value + at)))


cdef inline void slopes_pass(
    void *own, const Job *job, const real *parameters, Chunk *chunk, real *target, const Sink *sink,
) noexcept nogil:
    """An `OwnPass`; own: Slopes, one for each thread."""
    cdef Slopes *slopes = <Slopes *> own + chunk.slot
    cdef Tangents *t = &slopes.tangents
    cdef const Network *net = job.net
    cdef int n = net.n_layers
    cdef const Layer *last = net.layers + n - 1
    cdef bint scores = from_scores(job.loss.kind, last.activation)
    copy_targets(&chunk.tiles, net.n_outputs, targets_per_row(job), chunk.y, slopes.y)
    share_outputs(net, chunk, t)
    forward(net, parameters, chunk)
    tangents_forward(net, parameters, chunk, t)
    loss_delta(
        net, &job.loss, last.activation if scores else IDENTITY, slopes.y, chunk, chunk.delta[n] if scores else t.bent
    )
    slope_errors(job, chunk, slopes)
    if target == NULL:
        return
    if scores:
        memset(t.bent, 0, last.n_out * chunk.tiles.n_lanes * sizeof(real))
        to_scores(last, n, chunk, t)
        add_arrays(last.n_out * chunk.tiles.n_lanes // LANES, chunk.delta[n], t.bent)
    tangents_backward(net, parameters, chunk, t, scores, target, sink)
