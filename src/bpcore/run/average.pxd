"""The average of the parameters over the steps of a run; how many are in it follows from where the run is."""

from libc.string cimport memcpy

from bpcore.machine.types cimport never_inlined, real
from bpcore.products.vectors cimport approach
from bpcore.run.job cimport Average
from bpcore.run.run cimport AVERAGE, Run
from bpcore.run.step cimport SHARED_PARAMETERS
from bpcore.run.team cimport command_team


# ---- which steps count ----

cdef inline long long steps_averaged(
    const Average *average, long long epochs, long long cursor, long long n, long long batch_size,
) noexcept nogil:
    """How many steps of a run have been done since the average began, after so many epochs and rows of the next."""
    return (epochs - average.start) * ((n + batch_size - 1) // batch_size) + (cursor + batch_size - 1) // batch_size


cdef inline long long steps_between(const Average *average, long long n, long long batch_size) noexcept nogil:
    """Steps from one set of parameters that counts to the next."""
    return average.every if average.every > 0 else (n + batch_size - 1) // batch_size


cdef inline long long place_in_average(
    const Average *average, long long epochs, long long cursor, long long n, long long batch_size,
) noexcept nogil:
    """Whether the step just done counts: as the how many-th, or 0."""
    cdef long long steps = steps_averaged(average, epochs, cursor, n, batch_size)
    cdef long long between = steps_between(average, n, batch_size)
    return steps // between if steps > 0 and steps % between == 0 else 0


cdef inline real weight_in_average(const Average *average, long long place) noexcept nogil:
    """How far the average goes towards the parameters of that place, from the second one on."""
    return <real> (1 - average.decay if average.decay > 0 else 1.0 / place)


# ---- a run ----

cdef inline never_inlined average_step(Run *run) noexcept nogil:
    """After a step: enter the parameters, if it is their turn. Not inlined, as most runs have no average."""
    cdef const Average *average = &run.job.average
    cdef Py_ssize_t n = run.job.net.n_parameters
    cdef long long place = place_in_average(
        average, run.state.epoch - run.state.first_epoch, run.state.cursor, run.job.data.n, run.job.batch_size
    )
    if place == 0:
        return
    run.workspace.average_weight = weight_in_average(average, place)
    if place == 1:
        memcpy(run.state.average, run.state.parameters, n * sizeof(real))
    elif run.team.n_threads > 1 and n >= SHARED_PARAMETERS:
        command_team(run, AVERAGE)
    else:
        approach(run.state.average, run.state.parameters, run.workspace.average_weight, n)


cdef inline real *measured_parameters(const Run *run) noexcept nogil:
    """Those whose validation loss is wanted: the average once there is one, if that is asked for."""
    cdef const Average *average = &run.job.average
    cdef long long n = run.job.data.n, size = run.job.batch_size
    if average.measured and steps_averaged(
        average, run.state.epoch - run.state.first_epoch, run.state.cursor, n, size
    ) >= steps_between(average, n, size):
        return run.state.average
    return run.state.parameters
