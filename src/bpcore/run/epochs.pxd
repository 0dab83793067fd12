"""Many epochs of steps: until the last one, a stop rule, or the end of the time that a call has."""

from libc.math cimport isfinite
from libc.string cimport memcpy

from bpcore.machine.threads cimport now
from bpcore.machine.types cimport never_inlined, real, unlikely
from bpcore.passes.batches cimport shuffle
from bpcore.passes.few_rows cimport FEW_ROWS
from bpcore.passes.tiny cimport is_tiny
from bpcore.products.vectors cimport all_finite
from bpcore.run.average cimport average_step, measured_parameters
from bpcore.run.batch cimport tiny_pass
from bpcore.run.job cimport Job, goes_row_by_row
from bpcore.run.penalties cimport add_penalties
from bpcore.run.row_losses cimport add_held_losses
from bpcore.run.run cimport Clock, Run
from bpcore.run.small_steps cimport (
    begin_rows, takes_few_rows, train_few_rows, train_row, train_tiny_batch,
)
from bpcore.run.state cimport State
from bpcore.run.step cimport train_batch
from bpcore.run.team cimport start_team, stop_team, vary_team
from bpcore.run.team_size cimport ALL, ONE_AT_FIRST, Beginning, present_size
from bpcore.run.validation cimport (
    append_validation_lanes, validate, validate_with_next_step, validates_in_spare_lanes,
)


cdef enum:
    LONG_STEP = 100000000  # operations: about a millisecond of one core

cdef enum StopReason:
    EPOCHS
    TOLERANCE
    DIVERGED
    TIME


# One call of `train`.
cdef struct Call:
    double last_clock_check
    bint over  # the time, or the steps
    long long last_step
    bint varies_team
    # the regime of small batches
    bint by_row
    bint tiny
    bint by_few_rows
    # validation in spare lanes
    bint uses_spare_lanes
    bint holds_validation  # the rows lie there
    bint has_passed  # the first half of the next step is done: they took it with them, or `pass_ahead`
    bint passes_ahead


cdef inline bint time_is_over(Run *run, Call *call) noexcept nogil:
    """Whether the deadline has passed, checked about once in a millisecond: a check costs as much as a step of a tiny
    network."""
    cdef Clock *clock = &run.team.clock
    cdef double time
    clock.steps_to_check -= 1
    if clock.steps_to_check > 0:
        return False
    time = now()
    if time - call.last_clock_check < 0.5e-3:
        clock.steps_per_check *= 2
    elif time - call.last_clock_check > 2e-3 and clock.steps_per_check > 1:
        clock.steps_per_check //= 2
    call.last_clock_check = time
    clock.steps_to_check = clock.steps_per_check
    return time >= clock.deadline


# ---- the end of an epoch ----

cdef inline bint apply_stop_rule(Run *run, double watched) noexcept nogil:
    """Enter the monitored loss of an epoch into the stop rule; whether it asks to stop."""
    cdef const Job *job = &run.job
    cdef State *state = &run.state
    cdef const real *best
    cdef bint progress
    if job.has_tolerance:
        progress = (watched < state.best_loss or job.equal_is_progress) and watched <= state.best_loss - job.tolerance
        state.stale_epochs = 0 if progress else state.stale_epochs + 1
    if watched < state.best_loss:
        state.best_loss = watched
        state.best_epoch = state.epoch
        if state.best_parameters != NULL:
            best = measured_parameters(run) if job.watches_validation else state.parameters
            memcpy(state.best_parameters, best, job.net.n_parameters * sizeof(real))
    return job.has_tolerance and state.stale_epochs >= job.patience


cdef inline StopReason end_epoch(Run *run, double *loss, double *validation_loss) noexcept nogil:
    """End an epoch: its loss, and the stop rule. EPOCHS means: go on."""
    cdef State *state = &run.state
    cdef double watched
    loss[0] = state.loss_sum / state.weight_sum if state.weight_sum != 0 else 0
    watched = loss[0]
    if run.job.validation.n > 0:
        validation_loss[0] = state.validation_sum + add_penalties(&run.job, measured_parameters(run), NULL, 1)
        if run.job.watches_validation:
            watched = validation_loss[0]
    state.loss_sum = 0
    state.weight_sum = 0
    state.epoch += 1
    state.cursor = 0
    state.validated = 0
    state.validation_sum = 0
    if not (isfinite(loss[0]) and all_finite(state.parameters, run.job.net.n_parameters)):
        return DIVERGED
    return TOLERANCE if apply_stop_rule(run, watched) else EPOCHS


# ---- an epoch ----

cdef inline bint train_large_batch(Run *run, const Call *call, Py_ssize_t n) noexcept nogil:
    """A step by the team, which follows what it costs; False where the time is over in the middle of it."""
    cdef double begun = now() if call.varies_team else 0
    train_batch(run, run.state.cursor, n)
    if call.varies_team:
        run.team.size.of_step += now() - begun
    if run.state.paused:
        return False
    if call.varies_team:
        vary_team(run, n)
    return True


cdef inline never_inlined train_single_rows(Run *run, Call *call) noexcept nogil:
    """`train_rows` for batches of one row."""
    cdef State *state = &run.state
    cdef bint over = call.over
    begin_rows(run)
    while state.cursor < run.job.data.n and not over:
        train_row(run, state.cursor)
        state.cursor += 1
        if unlikely(run.job.average.wanted):
            average_step(run)
        over = time_is_over(run, call) or state.step >= call.last_step
    add_held_losses(run)
    call.over = over


cdef inline bint train_rows(Run *run, Call *call) noexcept nogil:
    """The steps that are left of this epoch; False where the call is over before them."""
    cdef State *state = &run.state
    cdef bint tiny = call.tiny, over = call.over
    cdef Py_ssize_t n
    if call.by_row:
        train_single_rows(run, call)
        return state.cursor >= run.job.data.n
    while state.cursor < run.job.data.n and not over:
        n = min(run.job.batch_size, run.job.data.n - state.cursor)
        if tiny:
            train_tiny_batch(run, state.cursor, n, call.has_passed)
            call.has_passed = False
        elif call.by_few_rows and 1 < n <= FEW_ROWS:
            train_few_rows(run, state.cursor, n)
        else:
            if not train_large_batch(run, call, n):
                return False
        state.cursor += n
        if unlikely(run.job.average.wanted):
            average_step(run)
        over = time_is_over(run, call) or state.step >= call.last_step
    call.over = over
    return state.cursor >= run.job.data.n


cdef inline bint validate_pieces(Run *run, Call *call, bint is_last) noexcept nogil:
    """`validate_rows`, with the parameters of the state."""
    cdef State *state = &run.state
    while state.validated < run.job.validation.n:
        if call.over and now() >= run.team.clock.deadline:
            return False
        if call.uses_spare_lanes and not call.over and not is_last:
            if not call.holds_validation:
                append_validation_lanes(run)
            call.holds_validation = call.uses_spare_lanes = call.has_passed = validate_with_next_step(run)
            if call.has_passed:
                break
            run.workspace.data.filled = False
        validate(run)
        if state.validated < run.job.validation.n:  # a whole piece takes long enough to check the clock
            call.over = call.over or now() >= run.team.clock.deadline
        else:
            call.over = call.over or time_is_over(run, call)
    return True


cdef inline bint validate_rows(Run *run, Call *call, bint is_last) noexcept nogil:
    """The validation that is left of this epoch; False where the call is over before that. is_last: no step follows."""
    cdef real *own = run.state.parameters
    cdef bint is_done
    if run.job.validation.n == 0:
        return True
    run.state.parameters = measured_parameters(run)
    is_done = validate_pieces(run, call, is_last)
    run.state.parameters = own
    return is_done


# ---- a call ----

cdef inline bint gains_by_threads(const Job *job) noexcept nogil:
    """Whether a step has enough work to share; nothing in so little is worth a barrier."""
    if job.batch_size == 1 or is_tiny(job.net, job.batch_size):
        return False
    return job.batch_size > FEW_ROWS or not takes_few_rows(job) or job.validation.n > 0


cdef inline Beginning beginning_of(const Job *job) noexcept nogil:
    """Who does the first steps: of long ones, one alone would cost what all gain later."""
    cdef double operations = 6.0 * job.net.n_parameters * min(job.batch_size, job.data.n)
    return ONE_AT_FIRST if operations < LONG_STEP else ALL


cdef inline void begin_call(Run *run, long long last_step, double seconds, Call *call) noexcept nogil:
    cdef Clock *clock = &run.team.clock
    call.last_clock_check = now()
    call.last_step = last_step
    call.over = run.state.step >= last_step
    call.varies_team = not run.team.size.is_fixed and gains_by_threads(&run.job)
    call.by_row = goes_row_by_row(run.job.net, run.job.batch_size, run.job.data.n)
    call.tiny = not call.by_row and is_tiny(run.job.net, run.job.batch_size)
    call.by_few_rows = takes_few_rows(&run.job)
    call.uses_spare_lanes = call.tiny and validates_in_spare_lanes(run)
    call.holds_validation = call.has_passed = False
    call.passes_ahead = call.tiny and run.workspace.data.x != NULL and run.job.validation.n == 0
    clock.deadline = call.last_clock_check + seconds
    if seconds <= 0:
        clock.steps_per_check = 1
    clock.steps_to_check = clock.steps_per_check
    if call.uses_spare_lanes:
        run.workspace.data.filled = False  # the first step goes without the validation rows, which may be anything


cdef inline void pass_ahead(Run *run, Call *call) noexcept nogil:
    """The first half of the next step of a tiny full batch, before the end of this epoch: that then takes no time of
    its own."""
    if run.workspace.data.filled:
        tiny_pass(run, &run.workspace.data, 0, run.job.data.n, 0)
        call.has_passed = True


cdef inline StopReason train_in_team(
    Run *run, long long last_epoch, long long last_step, double seconds, double *losses, double *validation_losses,
) noexcept nogil:
    """`train`, by the first member of a team that is there."""
    cdef State *state = &run.state
    cdef Call call
    cdef Py_ssize_t finished = 0
    cdef StopReason reason
    begin_call(run, last_step, seconds, &call)
    while state.epoch < last_epoch:
        if call.over:
            return TIME
        if state.cursor == 0 and run.job.data.order != NULL and not state.paused:
            shuffle(state.bits, run.job.data.order, run.job.data.n)
        if not train_rows(run, &call) or not validate_rows(run, &call, state.epoch + 1 >= last_epoch):
            return TIME
        if call.passes_ahead and not call.over and state.epoch + 1 < last_epoch:
            pass_ahead(run, &call)
        reason = end_epoch(run, losses + finished, validation_losses + finished)
        finished += 1
        if reason != EPOCHS:
            return reason
    return EPOCHS


cdef inline StopReason train(
    Run *run, long long last_epoch, long long last_step, double seconds, double *losses, double *validation_losses,
) noexcept nogil:
    """Train until last_epoch or last_step is done, a stop rule fires or the time is over.

    losses[0], validation_losses[0]: those of the epoch that ends next.
    """
    cdef StopReason reason
    start_team(run, present_size(&run.team.size) if gains_by_threads(&run.job) else 1)
    reason = train_in_team(run, last_epoch, last_step, seconds, losses, validation_losses)
    stop_team(run)
    return reason
