"""Products of a vector with the Hessian of the loss, or with its Gauss-Newton matrix."""

from bpcore.derivatives.tangents cimport (
    Tangents, gradient_of, output_tangent, share_outputs, tangents_backward, tangents_forward,
)
from bpcore.formulas.activations cimport IDENTITY
from bpcore.formulas.loss_curvatures cimport loss_tangent
from bpcore.formulas.losses cimport from_scores
from bpcore.machine.types cimport real
from bpcore.passes.chunks cimport backward, forward
from bpcore.passes.layers cimport loss_delta, output_derivative
from bpcore.passes.network cimport Chunk, Layer, Network
from bpcore.products.sinks cimport ADD, SET, Sink, sink_to
from bpcore.run.gradient cimport set_batch, set_chunk
from bpcore.run.job cimport Job
from bpcore.run.run cimport Run


cdef inline void chunk_product(
    const Job *job, const real *parameters, Chunk *chunk, Tangents *t, bint gauss_newton, real *target,
    const Sink *sink,
) noexcept nogil:
    """The part of the chunk at hand; see `add_curvature_product`."""
    cdef const Network *net = job.net
    cdef int n = net.n_layers
    cdef const Layer *last = net.layers + n - 1
    cdef bint scores = from_scores(job.loss.kind, last.activation)
    share_outputs(net, chunk, t)
    forward(net, parameters, chunk)
    tangents_forward(net, parameters, chunk, t)
    loss_tangent(
        &job.loss, last.activation, &chunk.tiles, last.n_out, chunk.a[n], chunk.z[n], chunk.y, chunk.factor,
        t.scores[n], output_tangent(t, last, chunk, n, 0), chunk.delta[n] if gauss_newton else t.bent,
    )
    if gauss_newton:
        if not scores:
            output_derivative(net, parameters, chunk)
        backward(net, parameters, chunk, target, sink)
        return
    loss_delta(
        net, &job.loss, last.activation if scores else IDENTITY, chunk.y, chunk, gradient_of(t, last, chunk, 0)
    )
    tangents_backward(net, parameters, chunk, t, scores, target, sink)


cdef inline void add_curvature_of_penalties(const Network *net, const real *vector, real *target) noexcept nogil:
    """target += l2 vector, for the weights that are trainable."""
    cdef const Layer *layer
    cdef Py_ssize_t i
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        if layer.trainable and layer.l2 != 0:
            for i in range(layer.weights, layer.weights + layer.n_in * layer.n_out):
                target[i] = target[i] + layer.l2 * vector[i]


cdef inline void add_curvature_product(
    Run *run, double denominator, Tangents *t, bint gauss_newton, real *target,
) noexcept nogil:
    """target (n_parameters,), which is 0: the matrix times t.moves, over all rows, penalties included."""
    cdef Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t done = 0
    cdef Sink sink = sink_to(SET)
    set_batch(run, &run.workspace.data, 0, run.job.data.n, denominator)
    while done < run.job.data.n:
        set_chunk(
            run, chunk, done, min(run.workspace.batch.chunk, run.job.data.n - done), run.workspace.batch.factor,
            False,
        )
        chunk_product(&run.job, run.state.parameters, chunk, t, gauss_newton, target, &sink)
        sink.mode = ADD
        done += run.workspace.batch.chunk
    add_curvature_of_penalties(run.job.net, t.moves, target)
