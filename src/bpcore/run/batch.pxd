"""The loss and the gradient of one batch, by one thread or by the team."""

from bpcore.machine.types cimport always_inlined, real
from bpcore.passes.network cimport Chunk
from bpcore.passes.tiny cimport tiny_forward
from bpcore.products.sinks cimport Sink
from bpcore.run.gradient cimport begin_blocks, block_gradient, blocks_are_done, end_batch, set_batch, set_chunk
from bpcore.run.run cimport GRADIENT, Run
from bpcore.run.team cimport command_team
from bpcore.run.workspace cimport Gathered


cdef inline double data_loss(
    Run *run, Gathered *source, Py_ssize_t first, Py_ssize_t n, double denominator, real *target, Sink sink,
) noexcept nogil:
    """The loss of rows first ... first + n of the current order, without penalties.

    Its gradient goes into `target`, unless that is NULL, in the way that `sink` says; STEP is for a single chunk. Where
    run.state.paused is set afterwards, it is not there yet: the same call again goes on with it.
    """
    cdef int block
    set_batch(run, source, first, n, denominator)
    run.workspace.batch.target = target
    run.workspace.batch.sink = sink
    if not run.state.paused:
        begin_blocks(run)
    run.state.paused = False
    if run.team.n_threads > 1 and (run.job.own_pass == NULL or run.workspace.batch.n_blocks > 1):
        command_team(run, GRADIENT)
    else:
        for block in range(run.workspace.batch.n_blocks):
            block_gradient(run, &run.workspace.chunk, block)
    run.state.paused = run.state.paused and not blocks_are_done(run)
    if run.state.paused:
        return 0
    if source.x != NULL and first + n == source.rows.n:
        source.filled = True
    return end_batch(run)


cdef inline always_inlined tiny_pass(
    Run *run, Gathered *source, Py_ssize_t first, Py_ssize_t n, double factor,
) noexcept nogil:
    """Forward, values and output deltas, for a tiny network and at most a vector of rows."""
    cdef Chunk *chunk = &run.workspace.chunk
    cdef bint in_place = source.filled and chunk.factor == source.factor + first
    run.workspace.batch.source = source
    if not in_place or chunk.tiles.n_rows != n:
        set_chunk(run, chunk, first, n, factor, False)
        source.filled = source.x != NULL
    tiny_forward(run.job.net, &run.job.loss, run.state.parameters, chunk)
