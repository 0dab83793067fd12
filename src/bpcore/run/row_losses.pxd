"""The losses of single rows, which wait until they fill a vector.

The step of a row needs its gradient, but nobody its loss before the epoch ends. So what a loss reads is put into the
lanes of the chunk, where the loss of samples is at home, and computed for all of them at once: a step of 30-16-1 with
binary cross-entropy takes a tenth less time. Losses are added up in the order of the rows, as if each had not waited.
"""

from bpcore.machine.types cimport LANES, never_inlined, real
from bpcore.passes.layers cimport loss_delta
from bpcore.passes.network cimport Chunk, Network
from bpcore.passes.single_row cimport RowLayer
from bpcore.run.run cimport Run
from bpcore.run.step cimport add_loss
from bpcore.run.workspace cimport HeldLosses


cdef inline void hold_loss(Run *run, double factor, double penalties, double denominator) noexcept nogil:
    """Keep what the loss of the row in hand needs, and what it counts."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef const RowLayer *last = run.workspace.row.layers + net.n_layers - 1
    cdef const real *y = run.workspace.row.targets
    cdef HeldLosses *held = &run.workspace.held
    cdef real *z = chunk.z[net.n_layers]
    cdef real *a = chunk.a[net.n_layers]
    cdef Py_ssize_t i
    for i in range(net.n_outputs):
        z[i * LANES + held.n] = last.z[i]
        a[i * LANES + held.n] = last.a[i]
        chunk.y[i * LANES + held.n] = y[i]
    held.factor[held.n] = factor
    held.penalties[held.n] = penalties
    held.denominator[held.n] = denominator
    held.n += 1
    if held.n == LANES:
        add_held_losses(run)


cdef inline never_inlined add_held_loss(Run *run, int k) noexcept nogil:
    cdef const HeldLosses *held = &run.workspace.held
    add_loss(run, held.factor[k] * run.workspace.chunk.value[k], held.penalties[k], held.denominator[k], 1)


cdef inline void add_held_losses(Run *run) noexcept nogil:
    """Add those to the sums of the epoch. The deltas that come with them go where nobody needs them any more."""
    cdef const Network *net = run.job.net
    cdef Chunk *chunk = &run.workspace.chunk
    cdef HeldLosses *held = &run.workspace.held
    cdef int k
    if held.n == 0:
        return
    loss_delta(
        net, &run.job.loss, net.layers[net.n_layers - 1].activation, chunk.y, chunk, chunk.delta[net.n_layers]
    )
    for k in range(held.n):
        add_held_loss(run, k)
    held.n = 0
