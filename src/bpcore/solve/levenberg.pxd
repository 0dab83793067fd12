"""Levenberg-Marquardt; see `backprop.reference.solvers.levenberg_marquardt`, whose formulas and order these are."""

from libc.math cimport fabs, isfinite
from libc.string cimport memcpy

from bpcore.run.job cimport Job, Range
from bpcore.run.run cimport Run
from bpcore.run.workspace cimport Arena
from bpcore.solve.cholesky cimport factorise, solve_factorised
from bpcore.solve.gauss_newton cimport GaussNewton, find_product, take_gauss_newton
from bpcore.solve.solution cimport (
    LOSS, NONE, NOT_FINITE, STUCK, Reason, Solution, enter, evaluate, is_flat, reason_to_stop, take_doubles,
)
from bpcore.solve.doubles cimport dot, to_reals


cdef enum:
    MOST_TRIALS = 30  # steps that an iteration may try

# All vectors but `tried` and `slopes` are of the trainable parameters, (n,).
cdef struct Levenberg:
    GaussNewton gn
    bint scaled  # by the diagonal of the matrix, and not by 1
    double first_damping
    double damping
    double growth
    double *matrix  # (n, n), lower triangle: what is factorised
    double *penalties  # (n,): l2
    double *gradient
    double *diagonal  # of the Gauss-Newton matrix
    double *step
    double *tried  # (n_parameters,)
    double *slopes  # (n_parameters,): the gradient
    int trials


cdef inline void take_levenberg(Arena *arena, const Job *job, Py_ssize_t n_parameters, Levenberg *lm) noexcept nogil:
    cdef Py_ssize_t n = lm.gn.n
    take_gauss_newton(arena, job, &lm.gn)
    lm.matrix = take_doubles(arena, n * n)
    lm.penalties = take_doubles(arena, n)
    lm.gradient = take_doubles(arena, n)
    lm.diagonal = take_doubles(arena, n)
    lm.step = take_doubles(arena, n)
    lm.tried = take_doubles(arena, n_parameters)
    lm.slopes = take_doubles(arena, n_parameters)


cdef inline void fill_penalties(const Job *job, Levenberg *lm) noexcept nogil:
    """The l2 of each trainable parameter."""
    cdef Py_ssize_t at = 0, i
    cdef int k, p
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            lm.penalties[at] = 0
            for p in range(job.n_penalties):
                if job.penalties[p].start <= i and i < job.penalties[p].start + job.penalties[p].length:
                    lm.penalties[at] = job.penalties[p].l2
            at += 1


cdef inline void add_to_parameters(const Job *job, const double *step, double *x) noexcept nogil:
    """x (n_parameters,) += step, where it is trainable."""
    cdef Py_ssize_t at = 0, i
    cdef int k
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            x[i] += step[at]
            at += 1


cdef inline void find_matrix(Run *run, const Solution *solution, const double *x, Levenberg *lm) noexcept nogil:
    """The product, the gradient and the diagonal at x (n_parameters,), penalties included."""
    cdef Py_ssize_t n = lm.gn.n, at = 0, i
    cdef int k
    to_reals(run.state.parameters, x, solution.n)
    find_product(run, solution, &lm.gn)
    for k in range(run.job.n_ranges):
        for i in range(run.job.ranges[k].start, run.job.ranges[k].start + run.job.ranges[k].length):
            lm.gradient[at] = lm.gn.product[at * (n + 1) + n] + lm.penalties[at] * x[i]
            lm.diagonal[at] = lm.gn.product[at * (n + 1) + at] + lm.penalties[at]
            lm.slopes[i] = lm.gradient[at]
            at += 1


cdef inline double scale_of(const Levenberg *lm, Py_ssize_t i) noexcept nogil:
    """What the damping is multiplied with; 1 for a parameter without influence."""
    return lm.diagonal[i] if lm.scaled and lm.diagonal[i] != 0 else 1


cdef inline bint find_step(Levenberg *lm) noexcept nogil:
    """lm.step; False where the damped matrix is not positive definite."""
    cdef Py_ssize_t n = lm.gn.n, i, j
    for i in range(n):
        for j in range(i):
            lm.matrix[i * n + j] = lm.gn.product[j * (n + 1) + i]
        lm.matrix[i * n + i] = lm.diagonal[i] + lm.damping * scale_of(lm, i)
        lm.step[i] = -lm.gradient[i]
    if not factorise(lm.matrix, n, n):
        return False
    solve_factorised(lm.matrix, n, n, lm.step)
    return True


cdef inline double promised_fall(const Levenberg *lm) noexcept nogil:
    """By how much the model of the loss falls along the step."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(lm.gn.n):
        total += lm.damping * scale_of(lm, i) * lm.step[i] * lm.step[i]
    return 0.5 * (total - dot(lm.gradient, lm.step, lm.gn.n))


cdef inline Reason begin_levenberg(Run *run, Solution *solution, Levenberg *lm) noexcept nogil:
    cdef double value = evaluate(run, solution, solution.point, NULL), most = 0
    cdef Py_ssize_t i
    fill_penalties(&run.job, lm)
    memcpy(lm.tried, solution.point, solution.n * sizeof(double))
    find_matrix(run, solution, solution.point, lm)
    enter(solution, lm.tried, value, lm.slopes)
    for i in range(lm.gn.n):
        most = max(most, lm.diagonal[i])
    lm.damping = lm.first_damping * (1 if lm.scaled else most)
    lm.growth = 2
    solution.damping = lm.damping
    return NONE if isfinite(value) and isfinite(solution.slope) else NOT_FINITE


cdef inline Reason advance_levenberg(Run *run, Solution *solution, Levenberg *lm) noexcept nogil:
    """Try one more step; the end of an iteration where it is taken."""
    cdef double value, before = solution.loss, gain, promised
    cdef bint solved
    cdef Reason reason = reason_to_stop(solution) if lm.trials == 0 else NONE
    if reason != NONE:
        return reason
    if lm.trials >= MOST_TRIALS:
        lm.trials = 0
        return STUCK
    lm.trials += 1
    solved = find_step(lm)
    memcpy(lm.tried, solution.point, solution.n * sizeof(double))
    if solved:
        add_to_parameters(&run.job, lm.step, lm.tried)
    value = evaluate(run, solution, lm.tried, NULL)
    promised = promised_fall(lm)
    if not (solved and value < before):
        lm.damping *= lm.growth
        lm.growth *= 2
        if solved and promised <= 2.220446049250313e-16 * fabs(before):  # rounding hides what is left
            lm.trials = 0
            return LOSS
        return NONE
    gain = 2 * ((before - value) / promised) - 1
    lm.damping *= max(<double> 1 / 3, 1 - gain * gain * gain)
    lm.growth = 2
    lm.trials = 0
    find_matrix(run, solution, lm.tried, lm)
    solution.iteration += 1
    solution.damping = lm.damping
    enter(solution, lm.tried, value, lm.slopes)
    reason = reason_to_stop(solution)
    return LOSS if reason == NONE and is_flat(solution, before, value) else reason
