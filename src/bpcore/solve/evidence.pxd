"""The penalty by the evidence of the data; see `backprop.reference.solvers.bayesian`, whose formulas these are."""

from libc.math cimport fabs, isfinite

from bpcore.passes.network cimport Network
from bpcore.run.job cimport Job
from bpcore.run.workspace cimport Arena, take
from bpcore.solve.gauss_newton cimport GaussNewton


cdef struct Evidence:
    bint wanted
    double factor  # what half of the sum of squared errors is multiplied by in the loss
    double n_targets
    Py_ssize_t n_flat  # trainable parameters without a prior
    Py_ssize_t n  # parameters
    char *prior  # (n,): whether each of them has one
    double penalty  # l2; 0: none yet
    double alpha
    double beta
    double gamma
    double before  # the loss with the penalty that led to the point
    bint weighed  # whether there is another one since
    bint settled  # whether that has hardly changed the precisions


cdef inline void take_evidence(Arena *arena, Py_ssize_t n, Evidence *evidence) noexcept nogil:
    evidence.n = n
    evidence.prior = <char *> take(arena, n)


cdef inline void fill_prior(Evidence *evidence, const Job *job) noexcept nogil:
    """What is trainable has a prior, but for the biases of the last layer."""
    cdef const Network *net = job.net
    cdef Py_ssize_t i
    cdef int k
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            evidence.prior[i] = True
    evidence.n_flat = 0
    if net.layers[net.n_layers - 1].has_bias and net.layers[net.n_layers - 1].bias_trainable:
        evidence.n_flat = net.n_outputs
        for i in range(net.n_outputs):
            evidence.prior[net.layers[net.n_layers - 1].biases + i] = False


cdef inline double square_of(const Evidence *evidence, const double *x) noexcept nogil:
    """The sum of squares of the parameters that have a prior."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(evidence.n):
        if evidence.prior[i]:
            total += x[i] * x[i]
    return total


cdef inline double penalty_of(const Evidence *evidence, const double *x) noexcept nogil:
    if not evidence.wanted or evidence.penalty == 0:
        return 0
    return 0.5 * evidence.penalty * square_of(evidence, x)


cdef inline void begin_evidence(Evidence *evidence, const Job *job, const GaussNewton *gn) noexcept nogil:
    """The first penalty, relative to the mean of the diagonal."""
    cdef double total = 0, mean
    cdef Py_ssize_t at = 0, i, count = 0
    cdef int k
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            if evidence.prior[i]:
                total += gn.product[at * (gn.n + 1) + at]
                count += 1
            at += 1
    mean = total / count if count > 0 and total > 0 else 1  # none of them may have an influence
    evidence.beta = 1 / evidence.factor
    evidence.alpha = 1e-2 * mean / evidence.factor * evidence.beta
    evidence.gamma = count
    evidence.penalty = evidence.factor * evidence.alpha / evidence.beta


cdef inline bint is_near(double after, double before) noexcept nogil:
    return fabs(after - before) <= 1e-3 * before


cdef inline void weigh(
    Evidence *evidence, const Job *job, const double *inverse, Py_ssize_t row_length, const double *x, double data,
) noexcept nogil:
    """Take the penalty that the evidence asks for at x, where the loss is `data`. inverse: of the matrix's factor."""
    cdef double trace = 0, square, alpha, beta, gamma
    cdef Py_ssize_t at = 0, i, k, count = 0, n = 0
    cdef int r
    for r in range(job.n_ranges):
        n += job.ranges[r].length
    for r in range(job.n_ranges):
        for i in range(job.ranges[r].start, job.ranges[r].start + job.ranges[r].length):
            if evidence.prior[i]:
                square = 0
                for k in range(at, n):
                    square += inverse[k * row_length + at] * inverse[k * row_length + at]
                trace += square
                count += 1
            at += 1
    gamma = count - evidence.penalty * trace
    if gamma <= 1e-12 * count:  # what rounding leaves: it would decide alpha
        gamma = 0
    alpha = gamma / square_of(evidence, x)
    beta = (evidence.n_targets - gamma - evidence.n_flat) / (2 * data / evidence.factor)
    evidence.weighed = True
    evidence.settled = True
    if 0 < beta and isfinite(beta):
        if not (0 < alpha and isfinite(alpha)):
            alpha = evidence.alpha
        evidence.settled = is_near(alpha, evidence.alpha) and is_near(beta, evidence.beta)
        evidence.alpha, evidence.beta, evidence.gamma = alpha, beta, gamma
        evidence.penalty = evidence.factor * alpha / beta
