"""Levenberg-Marquardt; see `backprop.reference.solvers.levenberg_marquardt`, whose formulas and order these are.

It comes in pieces, each of which may end before it is done: the matrix, what the evidence needs of it, the factors of
the damped matrix, a step and its loss.
"""

from libc.math cimport fabs, isfinite
from libc.string cimport memcpy

from bpcore.run.job cimport Job
from bpcore.run.run cimport Run
from bpcore.run.workspace cimport Arena
from bpcore.solve.cholesky cimport (
    DONE, NOT_POSITIVE, PAUSED, Outcome, factorise, invert_factor, packed_doubles, padded, solve_factorised,
)
from bpcore.solve.doubles cimport dot, to_reals
from bpcore.solve.evidence cimport Evidence, begin_evidence, penalty_of, weigh
from bpcore.solve.gauss_newton cimport GaussNewton, find_product, take_gauss_newton
from bpcore.solve.solution cimport (
    LOSS, NONE, NOT_FINITE, STUCK, Reason, Solution, enter, evaluate, is_flat, reason_to_stop, take_doubles,
)


cdef enum:
    MOST_TRIALS = 30  # steps that an iteration may try

cdef enum Piece:
    FACTOR
    TRY
    MATRIX
    WEIGH
    INVERT

# All vectors but `scales`, `tried` and `slopes` are of the trainable parameters, (n,).
cdef struct Levenberg:
    GaussNewton gn
    Evidence evidence
    bint by_diagonal  # whether the damping is scaled by the diagonal of the matrix
    double *scales  # (n_parameters,): the largest diagonal so far, or what else it is scaled by; 0, or NULL: by 1
    double first_damping
    double damping
    double growth
    Py_ssize_t row  # the length of a row of `matrix`
    double *matrix  # (n, row), lower triangle: what is factorised
    double *packed  # see `factorise`
    double *penalties  # (n,): l2
    double *gradient
    double *diagonal  # of the Gauss-Newton matrix
    double *scale  # what the damping is multiplied with
    double *step
    double *tried  # (n_parameters,)
    double *slopes  # (n_parameters,): the gradient
    double value  # what is minimised, at the point
    double after  # and where the step leads
    double data  # likewise, without the penalty that the evidence asks for
    int trials
    bint refused  # whether this iteration has tried a step that promised something
    Piece piece
    Py_ssize_t done  # rows or columns of the piece


cdef inline double ROUNDING() noexcept nogil:
    return 2.220446049250313e-16


cdef inline void take_levenberg(Arena *arena, const Job *job, Py_ssize_t n_parameters, Levenberg *lm) noexcept nogil:
    cdef Py_ssize_t n = lm.gn.n
    take_gauss_newton(arena, job, &lm.gn)
    lm.row = padded(n)
    lm.matrix = take_doubles(arena, n * lm.row)
    lm.packed = take_doubles(arena, packed_doubles(n))
    lm.penalties = take_doubles(arena, n)
    lm.gradient = take_doubles(arena, n)
    lm.diagonal = take_doubles(arena, n)
    lm.scale = take_doubles(arena, n)
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


# ---- the matrix ----

cdef inline void read_product(const Job *job, const double *x, Levenberg *lm) noexcept nogil:
    """The gradient and the diagonal at x (n_parameters,), penalties included."""
    cdef Py_ssize_t n = lm.gn.n, at = 0, i
    cdef double l2
    cdef int k
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            l2 = lm.penalties[at] + (lm.evidence.penalty if lm.evidence.wanted and lm.evidence.prior[i] else 0)
            lm.gradient[at] = lm.gn.product[at * (n + 1) + n] + l2 * x[i]
            lm.diagonal[at] = lm.gn.product[at * (n + 1) + at] + l2
            lm.slopes[i] = lm.gradient[at]
            at += 1


cdef inline void fill_matrix(Levenberg *lm, bint damped) noexcept nogil:
    """lm.matrix, to be factorised."""
    cdef Py_ssize_t n = lm.gn.n, i, j
    for i in range(n):
        for j in range(i):
            lm.matrix[i * lm.row + j] = lm.gn.product[j * (n + 1) + i]
        lm.matrix[i * lm.row + i] = lm.diagonal[i] + (lm.damping * lm.scale[i] if damped else 0)


cdef inline void fill_scale(const Job *job, Levenberg *lm) noexcept nogil:
    """What the damping is multiplied with at the point."""
    cdef Py_ssize_t at = 0, i
    cdef int k
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            lm.scale[at] = 1
            if lm.scales != NULL:
                if lm.by_diagonal and lm.diagonal[at] > lm.scales[i] and isfinite(lm.diagonal[at]):
                    lm.scales[i] = lm.diagonal[at]
                if lm.scales[i] > 0:
                    lm.scale[at] = lm.scales[i]
            at += 1


cdef inline double unit_of(const Levenberg *lm) noexcept nogil:
    """The damping of a step of the size of one along the gradient."""
    cdef double most = 0
    cdef Py_ssize_t i
    for i in range(lm.gn.n):
        most = max(most, lm.diagonal[i] / lm.scale[i])
    return 1 if lm.by_diagonal else most


cdef inline double promised_fall(const Levenberg *lm) noexcept nogil:
    """By how much the model of the loss falls along the step."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(lm.gn.n):
        total += lm.damping * lm.scale[i] * lm.step[i] * lm.step[i]
    return 0.5 * (total - dot(lm.gradient, lm.step, lm.gn.n))


# ---- iterations ----

cdef inline void go_to(Levenberg *lm, Piece piece) noexcept nogil:
    lm.piece = piece
    lm.done = 0


cdef inline Reason begin_levenberg(Run *run, Solution *solution, Levenberg *lm) noexcept nogil:
    """The loss at the start; `advance_levenberg` goes on with the matrix there."""
    cdef long long evaluations = solution.evaluations
    lm.data = evaluate(run, solution, solution.point, NULL)
    if run.state.paused:
        return NONE
    solution.started = True
    lm.after = lm.data + penalty_of(&lm.evidence, solution.point)
    if solution.iteration > 0:
        solution.evaluations = evaluations
    fill_penalties(&run.job, lm)
    memcpy(lm.tried, solution.point, solution.n * sizeof(double))
    go_to(lm, MATRIX)
    return NONE


cdef inline Reason advance_levenberg(Run *run, Solution *solution, Levenberg *lm, double deadline) noexcept nogil:
    """One more piece; the end of an iteration where its last one is done."""
    cdef Outcome outcome
    cdef Reason reason
    if lm.piece == FACTOR:
        reason = reason_to_stop(solution) if lm.trials == 0 else NONE
        return reason if reason != NONE else factor_damped(run, lm, deadline)
    elif lm.piece == TRY:
        return try_step(run, solution, lm)
    elif lm.piece == MATRIX:
        if lm.done == 0:
            to_reals(run.state.parameters, lm.tried, solution.n)
        if find_product(run, solution, &lm.gn, &lm.done, deadline):
            return end_matrix(run, solution, lm)
    elif lm.piece == WEIGH:
        if lm.done == 0:
            fill_matrix(lm, False)
        outcome = factorise(run, lm.matrix, lm.gn.n, lm.row, lm.packed, &lm.done, deadline)
        if outcome == NOT_POSITIVE:
            lm.evidence.settled = True
            return end_iteration(run, solution, lm)
        elif outcome == DONE:
            go_to(lm, INVERT)
        elif outcome == PAUSED:
            pass
    elif lm.piece == INVERT:
        if invert_factor(lm.matrix, lm.gn.n, lm.row, lm.packed, &lm.done, deadline) == DONE:
            lm.evidence.before = lm.after
            weigh(&lm.evidence, &run.job, lm.matrix, lm.row, lm.tried, lm.data)
            lm.after = lm.data + penalty_of(&lm.evidence, lm.tried)
            read_product(&run.job, lm.tried, lm)
            return end_iteration(run, solution, lm)
    return NONE


cdef inline Reason end_matrix(Run *run, Solution *solution, Levenberg *lm) noexcept nogil:
    """The matrix is there: the end of the iteration, unless the penalty follows from it."""
    read_product(&run.job, lm.tried, lm)
    if lm.evidence.wanted and solution.begun:
        go_to(lm, WEIGH)
        return NONE
    if lm.evidence.wanted and solution.iteration == 0:
        begin_evidence(&lm.evidence, &run.job, &lm.gn)
        read_product(&run.job, lm.tried, lm)
        lm.after = lm.data + penalty_of(&lm.evidence, lm.tried)
    return end_iteration(run, solution, lm)


cdef inline Reason end_iteration(Run *run, Solution *solution, Levenberg *lm) noexcept nogil:
    """The point that was tried is that of the solution; also at the start, which is no iteration."""
    cdef double before = lm.value, fallen_to = lm.evidence.before if lm.evidence.weighed else lm.after
    cdef Reason reason
    lm.evidence.weighed = False
    solution.unsettled = lm.evidence.wanted and not lm.evidence.settled
    lm.value = lm.after
    lm.trials = 0
    lm.refused = False
    lm.growth = 2
    go_to(lm, FACTOR)
    fill_scale(&run.job, lm)
    enter(solution, lm.tried, lm.data, lm.slopes)
    if not solution.begun:
        solution.begun = True
        if solution.iteration == 0:
            solution.damping = min(max(lm.first_damping, ROUNDING()), 1 / ROUNDING()) * unit_of(lm)
        lm.damping = solution.damping
        return NONE if isfinite(lm.value) and isfinite(solution.slope) else NOT_FINITE
    solution.iteration += 1
    solution.damping = lm.damping
    reason = reason_to_stop(solution)
    return LOSS if reason == NONE and is_flat(solution, before, fallen_to) else reason


cdef inline Reason factor_damped(Run *run, Levenberg *lm, double deadline) noexcept nogil:
    """The factors of the damped matrix; where it has none, the next damping."""
    cdef Outcome outcome
    if lm.trials >= MOST_TRIALS:
        lm.trials = 0
        return STUCK
    if lm.done == 0:
        fill_matrix(lm, True)
    outcome = factorise(run, lm.matrix, lm.gn.n, lm.row, lm.packed, &lm.done, deadline)
    if outcome == DONE:
        go_to(lm, TRY)
    elif outcome == NOT_POSITIVE:
        lm.trials += 1
        refuse(lm)
    elif outcome == PAUSED:
        pass
    return NONE


cdef inline void refuse(Levenberg *lm) noexcept nogil:
    """A shorter step."""
    lm.damping = max(lm.damping * lm.growth, ROUNDING() * unit_of(lm))
    lm.growth *= 2
    lm.refused = True
    go_to(lm, FACTOR)


cdef inline Reason try_step(Run *run, Solution *solution, Levenberg *lm) noexcept nogil:
    """Where the step leads; it is taken where the loss falls."""
    cdef double promised, gain, unit
    cdef Py_ssize_t i
    if not run.state.paused:
        for i in range(lm.gn.n):
            lm.step[i] = -lm.gradient[i]
        solve_factorised(lm.matrix, lm.gn.n, lm.row, lm.step)
        memcpy(lm.tried, solution.point, solution.n * sizeof(double))
        add_to_parameters(&run.job, lm.step, lm.tried)
    lm.data = evaluate(run, solution, lm.tried, NULL)
    if run.state.paused:
        return NONE
    lm.after = lm.data + penalty_of(&lm.evidence, lm.tried)
    lm.trials += 1
    promised = promised_fall(lm)
    if lm.after < lm.value:
        if promised > 0:  # unless rounding hides it
            gain = 2 * ((lm.value - lm.after) / promised) - 1
            lm.damping *= max(<double> 1 / 3, 1 - gain * gain * gain)
        go_to(lm, MATRIX)
        return NONE
    if not promised <= ROUNDING() * fabs(lm.value):
        refuse(lm)
        return NONE
    unit = unit_of(lm)
    if not lm.damping <= unit and not lm.refused:  # damped too much to tell
        lm.damping = unit
        go_to(lm, FACTOR)
        return NONE
    go_to(lm, FACTOR)
    lm.trials = 0
    return LOSS if lm.damping <= unit else STUCK
