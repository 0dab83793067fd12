"""L-BFGS; see `backprop.reference.solvers.lbfgs`, whose formulas and order of tests these are."""

from libc.math cimport frexp, isfinite, ldexp, sqrt
from libc.string cimport memcpy

from bpcore.machine.types cimport never_inlined
from bpcore.run.run cimport Run
from bpcore.run.workspace cimport Arena
from bpcore.solve.line_search cimport FOUND, GO_ON, LineSearch, Verdict, begin_search, take_trial
from bpcore.solve.solution cimport (
    LOSS, NONE, NOT_FINITE, STUCK, Reason, Solution, enter, evaluate, is_flat, reason_to_stop, take_doubles,
)
from bpcore.solve.doubles cimport SUM_LANES, add_scaled_and_dot, dot, go_along, largest, scale, subtract


cdef enum:
    MAX_TRIALS = 20  # steps that a line search may try

# All vectors are (width,), with zeros beyond the n parameters: loops over them have no remainder. Gradients and what
# comes from them are in a unit of their own, so that no square of them leaves the range of doubles.
cdef struct Lbfgs:
    Py_ssize_t width
    Py_ssize_t history  # how many steps are kept
    Py_ssize_t n_pairs
    Py_ssize_t oldest
    double *x  # the point that is tried; once a search has begun and nothing was, anything
    double *gradient
    double *before  # the point where the search began
    double *gradient_before
    double *direction
    double *s  # (history, width): the last steps, and what each changed in the gradient
    double *y
    double *r  # (history,): 1 / s . y
    double *share  # (history,)
    double yy  # y . y of the newest
    double unit  # what losses and gradients are multiplied by: a power of two, which changes no bit of the steps
    double own_unit  # the same for `gradient` alone, which may be too small for the unit of the search
    LineSearch search
    bint searching
    int trials


cdef inline void take_lbfgs(Arena *arena, Py_ssize_t n_parameters, Lbfgs *lbfgs) noexcept nogil:
    cdef Py_ssize_t n = (n_parameters + SUM_LANES - 1) // SUM_LANES * SUM_LANES
    lbfgs.width = n
    lbfgs.x = take_doubles(arena, n)
    lbfgs.gradient = take_doubles(arena, n)
    lbfgs.before = take_doubles(arena, n)
    lbfgs.gradient_before = take_doubles(arena, n)
    lbfgs.direction = take_doubles(arena, n)
    lbfgs.s = take_doubles(arena, lbfgs.history * n)
    lbfgs.y = take_doubles(arena, lbfgs.history * n)
    lbfgs.r = take_doubles(arena, lbfgs.history)
    lbfgs.share = take_doubles(arena, lbfgs.history)
    lbfgs.unit = lbfgs.own_unit = 1


cdef inline Py_ssize_t place_of(const Lbfgs *lbfgs, Py_ssize_t k) noexcept nogil:
    """Where the k-th oldest pair lies."""
    return (lbfgs.oldest + k) % lbfgs.history


cdef inline double find_direction(Lbfgs *lbfgs) noexcept nogil:
    """Minus the gradient times the estimate of the inverse Hessian; returns the slope along it.

    Each pass also computes the dot product that the next one needs.
    """
    cdef double *q = lbfgs.direction
    cdef const double *following
    cdef Py_ssize_t n = lbfgs.width, m = lbfgs.n_pairs, k, at
    cdef double product, factor
    scale(q, -1, lbfgs.gradient, n)
    if m == 0:
        return dot(lbfgs.gradient, q, n)
    at = place_of(lbfgs, m - 1)
    factor = 1 / (lbfgs.r[at] * lbfgs.yy)
    product = dot(lbfgs.s + at * n, q, n)
    for k in range(m - 1, -1, -1):
        at = place_of(lbfgs, k)
        lbfgs.share[at] = lbfgs.r[at] * product
        following = lbfgs.s + place_of(lbfgs, k - 1) * n if k > 0 else lbfgs.y + at * n
        product = add_scaled_and_dot(q, -lbfgs.share[at], lbfgs.y + at * n, 1 if k > 0 else factor, following, n)
    for k in range(m):
        at = place_of(lbfgs, k)
        following = lbfgs.y + place_of(lbfgs, k + 1) * n if k < m - 1 else lbfgs.gradient
        product = add_scaled_and_dot(q, lbfgs.share[at] - lbfgs.r[at] * product, lbfgs.s + at * n, 1, following, n)
    return product


cdef inline void recall_pairs(Lbfgs *lbfgs) noexcept nogil:
    """What follows from pairs s and y that have come or changed, the first n_pairs of them."""
    cdef Py_ssize_t n = lbfgs.width, at
    for at in range(lbfgs.n_pairs):
        lbfgs.r[at] = 1 / dot(lbfgs.s + at * n, lbfgs.y + at * n, n)
    if lbfgs.n_pairs > 0:
        at = place_of(lbfgs, lbfgs.n_pairs - 1)
        lbfgs.yy = dot(lbfgs.y + at * n, lbfgs.y + at * n, n)


cdef inline double unit_of(double slope) noexcept nogil:
    """A power of two that brings a gradient with this largest element near 1: 1 from 2**-128 to 2**128."""
    cdef int exponent, quotient
    frexp(slope, &exponent)
    quotient = (exponent + 127 + 1024) // 256 - 4  # // rounds towards 0 here
    return ldexp(1, -256 * max(-3, min(quotient, 3)))


cdef inline void rescale(double *x, double unit, double before, Py_ssize_t n) noexcept nogil:
    """Bring n numbers from one unit to another."""
    cdef double factor = unit / before
    if isfinite(factor):
        scale(x, factor, x, n)
        return
    scale(x, 1 / before, x, n)
    scale(x, unit, x, n)


cdef inline never_inlined change_unit(Lbfgs *lbfgs, double unit) noexcept nogil:
    """Bring the gradient and the pairs to another unit."""
    rescale(lbfgs.gradient, unit, lbfgs.own_unit, lbfgs.width)
    rescale(lbfgs.y, unit, lbfgs.unit, lbfgs.n_pairs * lbfgs.width)
    lbfgs.unit = lbfgs.own_unit = unit
    recall_pairs(lbfgs)


cdef inline never_inlined give_unit(Lbfgs *lbfgs) noexcept nogil:
    """Bring the gradient at a new point to the unit of the search; one that could vanish in it, to its own."""
    cdef double size = largest(lbfgs.gradient, lbfgs.width)
    lbfgs.own_unit = lbfgs.unit
    if lbfgs.unit < 1 and isfinite(size):
        lbfgs.own_unit = max(lbfgs.unit, unit_of(size))
    scale(lbfgs.gradient, lbfgs.own_unit, lbfgs.gradient, lbfgs.width)


cdef inline void begin_trials(Lbfgs *lbfgs, const Solution *solution) noexcept nogil:
    cdef Py_ssize_t n = lbfgs.width
    cdef double unit = unit_of(solution.slope), slope, step = 1
    if unit != lbfgs.unit or unit != lbfgs.own_unit:
        change_unit(lbfgs, unit)
    slope = find_direction(lbfgs)
    lbfgs.before, lbfgs.x = lbfgs.x, lbfgs.before
    lbfgs.gradient_before, lbfgs.gradient = lbfgs.gradient, lbfgs.gradient_before
    if solution.iteration == 0:
        step = 1 / sqrt(dot(lbfgs.direction, lbfgs.direction, n))
    begin_search(&lbfgs.search, solution.loss * unit, slope, step)
    lbfgs.trials = 0 if slope < 0 else MAX_TRIALS
    lbfgs.searching = True


cdef inline void keep_pair(Lbfgs *lbfgs, double step, double slope) noexcept nogil:
    """Keep the step, and what it changed in the gradient, where that is enough to learn from."""
    cdef Py_ssize_t n = lbfgs.width, at = place_of(lbfgs, lbfgs.n_pairs)
    if not (slope - lbfgs.search.slope) * step > 2.220446049250313e-16 * -lbfgs.search.slope * step:
        return
    if lbfgs.n_pairs == lbfgs.history:
        lbfgs.oldest = (lbfgs.oldest + 1) % lbfgs.history
    else:
        lbfgs.n_pairs += 1
    scale(lbfgs.s + at * n, step, lbfgs.direction, n)
    if lbfgs.own_unit == lbfgs.unit:
        subtract(lbfgs.y + at * n, lbfgs.gradient, lbfgs.gradient_before, n)
    else:
        scale(lbfgs.y + at * n, lbfgs.unit / lbfgs.own_unit, lbfgs.gradient, n)
        subtract(lbfgs.y + at * n, lbfgs.y + at * n, lbfgs.gradient_before, n)
    lbfgs.r[at] = 1 / dot(lbfgs.s + at * n, lbfgs.y + at * n, n)
    lbfgs.yy = dot(lbfgs.y + at * n, lbfgs.y + at * n, n)


cdef inline Reason give_up_search(Lbfgs *lbfgs, Solution *solution) noexcept nogil:
    """Go back to where it began, and forget the past: it led here. STUCK where there is none."""
    cdef Py_ssize_t n = lbfgs.width
    memcpy(lbfgs.x, lbfgs.before, n * sizeof(double))
    memcpy(lbfgs.gradient, lbfgs.gradient_before, n * sizeof(double))
    lbfgs.own_unit = lbfgs.unit
    lbfgs.searching = False
    if lbfgs.n_pairs == 0:
        return STUCK
    lbfgs.n_pairs = lbfgs.oldest = 0
    solution.counted = solution.evaluations
    return NONE


cdef inline Reason begin_lbfgs(Run *run, Solution *solution, Lbfgs *lbfgs) noexcept nogil:
    """The loss at the start."""
    cdef double value
    cdef long long evaluations = solution.evaluations
    memcpy(lbfgs.x, solution.point, solution.n * sizeof(double))
    value = evaluate(run, solution, lbfgs.x, lbfgs.gradient)
    if run.state.paused:
        return NONE
    if solution.iteration > 0:
        solution.evaluations = evaluations
    solution.begun = True
    enter(solution, lbfgs.x, value, lbfgs.gradient)
    return NONE if isfinite(value) and isfinite(solution.slope) else NOT_FINITE


cdef inline Reason begin_trial(Solution *solution, Lbfgs *lbfgs) noexcept nogil:
    """The next point to try, unless there is a reason to stop."""
    cdef Py_ssize_t n = lbfgs.width
    cdef Reason reason = reason_to_stop(solution) if not lbfgs.searching else NONE
    if reason != NONE:
        return reason
    if not lbfgs.searching:
        begin_trials(lbfgs, solution)
    if lbfgs.trials >= MAX_TRIALS:
        return give_up_search(lbfgs, solution)
    lbfgs.trials += 1
    go_along(lbfgs.x, lbfgs.before, lbfgs.search.step, lbfgs.direction, n)
    return NONE


cdef inline Reason advance_lbfgs(Run *run, Solution *solution, Lbfgs *lbfgs) noexcept nogil:
    """One more evaluation of the loss, or what the time allows of it; the end of an iteration where the search is over
    with it."""
    cdef Py_ssize_t n = lbfgs.width
    cdef double value, slope, tried, before
    cdef Verdict verdict
    cdef Reason reason
    if not run.state.paused:
        reason = begin_trial(solution, lbfgs)
        if reason != NONE or not lbfgs.searching:
            return reason
    tried = lbfgs.search.step
    value = evaluate(run, solution, lbfgs.x, lbfgs.gradient)
    if run.state.paused:
        return NONE
    if lbfgs.unit != 1:
        give_unit(lbfgs)
    slope = dot(lbfgs.gradient, lbfgs.direction, n)
    if lbfgs.own_unit != lbfgs.unit:
        slope = slope / lbfgs.own_unit * lbfgs.unit
    verdict = take_trial(&lbfgs.search, value * lbfgs.unit, slope)
    if verdict == GO_ON:
        return NONE
    lbfgs.searching = False
    before = solution.loss
    solution.iteration += 1
    enter(solution, lbfgs.x, value, lbfgs.gradient)
    solution.slope /= lbfgs.own_unit
    keep_pair(lbfgs, tried, slope)
    reason = reason_to_stop(solution)
    return LOSS if reason == NONE and is_flat(solution, before, value) else reason
