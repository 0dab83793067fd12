"""The average of the parameters over the steps of a run; how many are in it follows from where the run is."""

from libc.string cimport memcpy

from bpcore.machine.types cimport real
from bpcore.products.vectors cimport approach
from bpcore.run.run cimport AVERAGE, Run
from bpcore.run.step cimport SHARED_PARAMETERS
from bpcore.run.team cimport command_team


cdef inline long long steps_averaged(const Run *run) noexcept nogil:
    """How many steps of this run have been done since the average began."""
    cdef Py_ssize_t size = run.job.batch_size
    cdef long long per_epoch = (run.job.data.n + size - 1) // size
    cdef long long epochs = run.state.epoch - run.state.first_epoch - run.job.average.start
    return epochs * per_epoch + (run.state.cursor + size - 1) // size


cdef inline long long steps_between(const Run *run) noexcept nogil:
    """Steps from one set of parameters that counts to the next."""
    cdef Py_ssize_t size = run.job.batch_size
    return run.job.average.every if run.job.average.every > 0 else (run.job.data.n + size - 1) // size


cdef inline void average_step(Run *run) noexcept nogil:
    """After a step: enter the parameters, if it is their turn."""
    cdef long long steps = steps_averaged(run), between = steps_between(run), count
    if steps <= 0 or steps % between != 0:
        return
    count = steps // between
    run.workspace.average_weight = <real> (1 - run.job.average.decay if run.job.average.decay > 0 else 1.0 / count)
    if count == 1:
        memcpy(run.state.average, run.state.parameters, run.job.net.n_parameters * sizeof(real))
    elif run.team.n_threads > 1 and run.job.net.n_parameters >= SHARED_PARAMETERS:
        command_team(run, AVERAGE)
    else:
        approach(run.state.average, run.state.parameters, run.workspace.average_weight, run.job.net.n_parameters)


cdef inline real *measured_parameters(const Run *run) noexcept nogil:
    """Those whose validation loss is wanted: the average once there is one, if that is asked for."""
    if run.job.average.measured and steps_averaged(run) >= steps_between(run):
        return run.state.average
    return run.state.parameters
