"""One optimizer step on a batch of any size."""

from bpcore.formulas.optimizer_loops cimport optimize, prepare
from bpcore.formulas.optimizers cimport plain_sgd_decay
from bpcore.machine.types cimport real
from bpcore.passes.tiny cimport is_tiny
from bpcore.products.sinks cimport SET, STEP, Sink
from bpcore.run.batch cimport data_loss
from bpcore.run.job cimport Job, Range, denominator_of, is_bare, weight_of
from bpcore.run.muon cimport update_matrices
from bpcore.run.penalties cimport add_penalties, clip, limit_all_norms
from bpcore.run.run cimport UPDATE, Run
from bpcore.run.team cimport command_team, partition_by_speed
from bpcore.run.workspace cimport BLOCK_PARAMETERS, Batch


cdef enum:
    SHARED_PARAMETERS = 4096  # the step of fewer is over sooner than threads have met at a barrier
    LAYERED_PARAMETERS = 65536  # fewer stay in the cache anyway


cdef inline double next_rate(Run *run) noexcept nogil:
    """The learning rate of the step that begins here."""
    cdef long long since = run.state.step - run.job.first_step
    run.state.step += 1
    return run.job.rates[since if since < run.job.n_rates else run.job.n_rates - 1]


cdef inline Sink sink_of(const Job *job, bint steps, double rate) noexcept nogil:
    """Where the gradient of a step goes. steps: into the parameters, as a step of plain SGD."""
    return Sink(STEP if steps else SET, <real> rate, plain_sgd_decay(&job.optimizer), NULL, False, NULL)


cdef inline void set_update(Run *run, double rate) noexcept nogil:
    prepare(
        &run.job.optimizer, run.state.step, rate, run.state.parameters, run.state.slots, run.job.net.n_parameters,
        &run.workspace.update,
    )
    run.workspace.rate = rate


cdef inline void update_parameters(Run *run, double rate) noexcept nogil:
    cdef const Range *at
    cdef int k
    set_update(run, rate)
    if run.team.n_threads > 1 and run.job.net.n_parameters >= SHARED_PARAMETERS:
        command_team(run, UPDATE)
        return
    for k in range(run.job.n_elementwise):
        at = run.job.elementwise + k
        optimize(&run.workspace.update, run.workspace.gradient + at.start, at.start, at.length)
    if run.job.has_matrices:
        update_matrices(run, 0, 1)


cdef inline bint updates_by_layers(const Run *run, Py_ssize_t n) noexcept nogil:
    """Whether the optimizer follows each piece of the gradient at once: while it is in the cache, and in the cache of
    the thread that made it."""
    cdef Py_ssize_t least = LAYERED_PARAMETERS if run.team.n_threads == 1 else BLOCK_PARAMETERS
    return run.job.net.n_parameters > least and is_bare(&run.job) and not is_tiny(run.job.net, n) and (
        not run.job.has_matrices
    )


cdef inline void add_loss(Run *run, double loss, double penalties, double denominator, Py_ssize_t n) noexcept nogil:
    """Add the loss of a batch of n rows to the sums of the epoch."""
    if run.job.loss.mean:
        run.state.loss_sum += (loss + penalties) * denominator
        run.state.weight_sum += denominator
    else:
        run.state.loss_sum += loss
        if penalties != 0:
            run.state.loss_sum += penalties * n / run.job.data.n
        run.state.weight_sum = 1


cdef inline double step_along_gradient(Run *run, double rate, double weight) noexcept nogil:
    """What follows once workspace.gradient holds that of the data loss, of rows with that weight in all.

    Returns the value of the penalties.
    """
    cdef double penalties = 0, factor = 1
    if run.job.n_penalties > 0:
        if run.job.penalty_per_row and run.job.loss.mean:
            factor = 1 / weight if weight != 0 else 0
        penalties = add_penalties(&run.job, run.state.parameters, run.workspace.gradient, factor)
    if run.job.clip_norm > 0 or run.job.clip_value > 0:
        clip(&run.job, run.workspace.gradient)
    update_parameters(run, rate)
    return penalties


cdef inline void begin_batch(Run *run) noexcept nogil:
    cdef Batch *batch = &run.workspace.batch
    run.team.clock.may_pause = True
    if run.team.n_threads > 1 and not run.state.paused:
        partition_by_speed(run)
    if run.job.net.has_dropout:
        batch.drops = True
        if not run.state.paused:
            batch.key = run.state.bits.next_uint64(run.state.bits.state)


cdef inline void train_batch(Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """One optimizer step on rows first ... first + n of the current order; a part of it where state.paused is set."""
    cdef double rate = next_rate(run), weight = weight_of(&run.job.data, first, n)
    cdef double denominator = denominator_of(&run.job, weight), loss, penalties = 0
    cdef bint steps = run.job.steps_directly and n <= run.job.max_chunk
    cdef Sink sink = sink_of(&run.job, steps, rate)
    cdef Batch *batch = &run.workspace.batch
    begin_batch(run)
    if steps:
        loss = data_loss(run, &run.workspace.data, first, n, denominator, run.state.parameters, sink)
    elif updates_by_layers(run, n):
        set_update(run, rate)
        batch.update = &run.workspace.update
        loss = data_loss(run, &run.workspace.data, first, n, denominator, run.workspace.gradient, sink)
        batch.update = NULL
    else:
        loss = data_loss(run, &run.workspace.data, first, n, denominator, run.workspace.gradient, sink)
        if not run.state.paused:
            penalties = step_along_gradient(run, rate, weight)
    run.team.clock.may_pause = False
    batch.drops = False
    if run.state.paused:
        run.state.step -= 1
        return
    if run.job.net.has_max_norm:
        limit_all_norms(run.job.net, run.state.parameters)
    add_loss(run, loss, penalties, denominator, n)
