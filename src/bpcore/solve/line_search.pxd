"""The line search of Moré and Thuente; see `backprop.reference.solvers.line_search`, whose formulas these are."""

from libc.math cimport copysign, fabs, isfinite, sqrt


cdef enum Verdict:
    GO_ON
    FOUND
    EXHAUSTED

# An end of the interval: a step, the function and its slope there.
cdef struct End:
    double step
    double value
    double slope

cdef struct LineSearch:
    double value  # at the start
    double slope
    double step  # the one to try
    End best
    End other
    bint bracketed  # whether the interval holds a step that is searched for
    bint first_stage
    double lower
    double upper
    double most
    double width
    double width_before


cdef inline double DECREASE() noexcept nogil:
    return 1e-3

cdef inline double CURVATURE() noexcept nogil:
    return 0.9

cdef inline double LONGEST() noexcept nogil:
    return 1e10

cdef inline double SHRINK() noexcept nogil:
    return 0.66


cdef inline void begin_search(LineSearch *search, double value, double slope, double step) noexcept nogil:
    search.value = value
    search.slope = slope
    search.step = step
    search.best = search.other = End(0, value, slope)
    search.bracketed = False
    search.first_stage = True
    search.lower = 0
    search.upper = step + 4 * step
    search.most = search.width = LONGEST() * max(<double> 1, step)
    search.width_before = 2 * search.width


# ---- interpolation ----

cdef inline double terms(const End *a, const End *b, double *root) noexcept nogil:
    """The sum of differences of the cubic through two ends, and the root with the sign that it needs."""
    cdef double theta = 3 * (b.value - a.value) / (a.step - b.step) + a.slope + b.slope
    cdef double size = max(fabs(theta), max(fabs(a.slope), fabs(b.slope)))
    cdef double inside = (theta / size) * (theta / size) - a.slope / size * (b.slope / size)
    root[0] = size * sqrt(max(inside, <double> 0))
    if not b.step > a.step:
        root[0] = -root[0]
    return theta


cdef inline double cubic_minimum(const End *a, const End *b) noexcept nogil:
    """The minimum of the cubic through two ends, reckoned from a."""
    cdef double root, theta = terms(a, b, &root), below = root - a.slope + root + b.slope
    cdef double share = (root - a.slope + theta) / below if below != 0 else 0.5
    return a.step + share * (b.step - a.step)


cdef inline double cubic_beyond(const End *a, const End *b, double far) noexcept nogil:
    """The minimum of the cubic where it lies on the other side of a than b does, else `far`."""
    cdef double root, theta = terms(a, b, &root), below = root + (b.slope - a.slope) + root
    cdef double share = (root - a.slope + theta) / below if below != 0 else 0
    return a.step + share * (b.step - a.step) if share < 0 and root != 0 else far


cdef inline double secant(const End *a, const End *b) noexcept nogil:
    """Where the line through the two slopes is 0."""
    return a.step + a.slope / (a.slope - b.slope) * (b.step - a.step)


cdef inline double step_beyond(const LineSearch *search, const End *here) noexcept nogil:
    """The next step where the slope falls and does not turn: the minimum may lie far beyond."""
    cdef bint ahead = here.step > search.best.step, cubic_is_nearer
    cdef double cubic = cubic_beyond(here, &search.best, search.upper if ahead else search.lower)
    cdef double line = secant(here, &search.best), step, bound
    cubic_is_nearer = fabs(cubic - here.step) < fabs(line - here.step)
    if search.bracketed:
        step = cubic if cubic_is_nearer else line
        bound = here.step + SHRINK() * (search.other.step - here.step)
        return min(bound, step) if ahead else max(bound, step)
    step = line if cubic_is_nearer or cubic == line else cubic
    return min(max(step, search.lower), search.upper)


cdef inline double step_before(const End *best, const End *here) noexcept nogil:
    """The next step where the value here is higher than the best one."""
    cdef double cubic = cubic_minimum(best, here)
    cdef double slope = (best.value - here.value) / (here.step - best.step) + best.slope
    cdef double parabola = best.step + best.slope / slope / 2 * (here.step - best.step)
    if fabs(cubic - best.step) < fabs(parabola - best.step):
        return cubic
    return cubic + (parabola - cubic) / 2


cdef inline void interpolate(LineSearch *search, const End *here) noexcept nogil:
    """Find the next step, and put `here` in place of an end of the interval."""
    cdef bint turns = here.slope * copysign(1, search.best.slope) < 0
    cdef double cubic, line
    if here.value > search.best.value:
        search.step = step_before(&search.best, here)
        search.bracketed = True
    elif turns:
        cubic, line = cubic_minimum(here, &search.best), secant(here, &search.best)
        search.step = cubic if fabs(cubic - here.step) > fabs(line - here.step) else line
        search.bracketed = True
    elif fabs(here.slope) < fabs(search.best.slope):
        search.step = step_beyond(search, here)
    elif search.bracketed:
        search.step = cubic_minimum(here, &search.other)
    else:
        search.step = search.upper if here.step > search.best.step else search.lower
    if here.value > search.best.value:
        search.other = here[0]
    else:
        if turns:
            search.other = search.best
        search.best = here[0]


cdef inline void lower_end(End *end, double test) noexcept nogil:
    """See an end from the line of that slope."""
    end.value -= end.step * test
    end.slope -= test


# ---- the search ----

cdef inline bint is_wide(const LineSearch *search) noexcept nogil:
    return search.upper - search.lower > 0.1 * search.upper


cdef inline bint may_shrink(const LineSearch *search) noexcept nogil:
    return search.lower < search.step and search.step < search.upper and is_wide(search)


cdef inline void shrink(LineSearch *search) noexcept nogil:
    """See to it that the interval becomes shorter, and that the step lies in it."""
    cdef double best = search.best.step, other = search.other.step
    if search.bracketed:
        if fabs(other - best) >= SHRINK() * search.width_before:
            search.step = best + 0.5 * (other - best)
        search.width_before, search.width = search.width, fabs(other - best)
        search.lower, search.upper = min(best, other), max(best, other)
    else:
        search.lower = search.step + 1.1 * (search.step - best)
        search.upper = search.step + 4 * (search.step - best)
    search.step = min(max(search.step, <double> 0), search.most)
    if search.bracketed and not may_shrink(search):
        search.step = best


cdef inline Verdict take_trial(LineSearch *search, double value, double slope) noexcept nogil:
    """Enter the value and the slope at `step`; unless the search is over, `step` becomes the next one."""
    cdef double test = DECREASE() * search.slope, target = search.value + search.step * test
    cdef End here = End(search.step, value, slope)
    if not (isfinite(value) and isfinite(slope)):
        search.most = search.upper = search.step
        search.step = search.best.step + 0.5 * (search.step - search.best.step)
        return GO_ON
    if search.first_stage and value <= target and slope >= 0:
        search.first_stage = False
    if value <= target and fabs(slope) <= CURVATURE() * -search.slope:
        return FOUND
    if search.bracketed and not may_shrink(search):
        return EXHAUSTED
    if search.step == search.most and value <= target and slope <= test:
        return EXHAUSTED
    if search.first_stage and target < value and value <= search.best.value:
        lower_end(&here, test)
        lower_end(&search.best, test)
        lower_end(&search.other, test)
        interpolate(search, &here)
        lower_end(&search.best, -test)
        lower_end(&search.other, -test)
    else:
        interpolate(search, &here)
    shrink(search)
    return GO_ON
