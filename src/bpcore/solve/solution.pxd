"""What every minimizer has: the run that computes the loss, when it stops, and where it is."""

from libc.math cimport INFINITY, NAN, fabs, isfinite
from libc.string cimport memcpy

from bpcore.machine.threads cimport now
from bpcore.machine.types cimport real
from bpcore.products.sinks cimport SET, sink_to
from bpcore.run.batch cimport data_loss
from bpcore.run.penalties cimport add_penalties
from bpcore.run.run cimport Run
from bpcore.run.team cimport vary_team
from bpcore.run.workspace cimport Arena, take
from bpcore.solve.doubles cimport fill, largest, to_doubles, to_reals


cdef enum Reason:
    NONE
    ITERATIONS
    GRADIENT
    LOSS
    EVALUATIONS
    STUCK
    NOT_FINITE
    TIME

# What a minimisation is asked to do, and where it is.
cdef struct Solution:
    Py_ssize_t n  # parameters
    double denominator
    # when it stops
    double tolerance
    double loss_tolerance
    long long max_evaluations
    double bound  # of the size of a parameter
    # as the last whole iteration left it
    double *point  # (n,)
    double loss
    double slope
    double damping
    bint unsettled  # whether what is minimised has changed more than a little since
    long long iteration
    long long evaluations
    long long counted  # evaluations when the last whole iteration, or what it has learned last, was done
    bint shares_rows  # whether the threads of a team compute the loss
    bint started  # whether there was a call
    bint begun  # the loss at the start is known, and its slope


cdef inline double evaluate(Run *run, Solution *solution, const double *x, double *gradient) noexcept nogil:
    """The loss at x (n,), penalties included; its gradient, unless that is NULL. Infinite beyond the bound.

    Where run.state.paused is set afterwards, the time is over and it is not there yet: the same call again goes on.
    """
    cdef real *slopes = run.workspace.gradient if gradient != NULL else NULL
    cdef double value, begun = 0
    cdef int n_threads = run.team.n_threads
    if not largest(x, solution.n) <= solution.bound:
        if gradient != NULL:
            fill(gradient, NAN, solution.n)
        solution.evaluations += 1
        return INFINITY
    if solution.shares_rows:
        begun = now()
    else:
        run.team.n_threads = 1
    to_reals(run.state.parameters, x, solution.n)
    value = data_loss(
        run, &run.workspace.data, 0, run.job.data.n, solution.denominator, slopes, sink_to(SET)
    )
    run.team.n_threads = n_threads
    if solution.shares_rows and gradient != NULL:
        run.team.size.of_step += now() - begun
    if run.state.paused:
        return 0
    value += add_penalties(&run.job, run.state.parameters, slopes, 1)
    if gradient != NULL:
        to_doubles(gradient, slopes, solution.n)
        if solution.shares_rows:
            vary_team(run, run.job.batch_size)
    solution.evaluations += 1
    return value


cdef inline void enter(Solution *solution, const double *x, double value, const double *gradient) noexcept nogil:
    """Make a point that of the state."""
    memcpy(solution.point, x, solution.n * sizeof(double))
    solution.loss = value
    solution.counted = solution.evaluations
    solution.slope = largest(gradient, solution.n)


cdef inline Reason reason_to_stop(const Solution *solution) noexcept nogil:
    if solution.slope <= solution.tolerance and (not solution.unsettled or solution.slope == 0):
        return GRADIENT
    return EVALUATIONS if solution.evaluations >= solution.max_evaluations else NONE


cdef inline bint is_flat(const Solution *solution, double before, double after) noexcept nogil:
    """Whether the loss fell by no more than the tolerance."""
    return before - after <= solution.loss_tolerance * max(fabs(before), max(fabs(after), <double> 1))


cdef inline double *take_doubles(Arena *arena, Py_ssize_t n) noexcept nogil:
    return <double *> take(arena, n * sizeof(double))
