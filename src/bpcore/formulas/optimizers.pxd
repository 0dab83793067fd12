"""Optimizers: the numbers of a step, and what the step does to a vector of parameters, as PyTorch defines each.

To add one: its kind and its name here, the numbers of a step and the rule; its lines in `prepare` and `follow_rule` of
`optimizer_loops.pxd`; its class and its twin in `reference/optimizers/`, which gives the order of the hyperparameters
and of the slots. A kind without a name or without its lines is an error of the C compiler (-Werror=switch-enum).
"""

from libc.math cimport sqrt

from bpcore.machine.types cimport real, vabs, vec, vfma, vlt, vmax, vmin, vselect, vset1
from bpcore.machine.vmath cimport vroot


cdef enum OptimizerKind:
    SGD
    ADAM
    ADAMW
    ADAMAX
    NADAM
    RADAM
    RMSPROP
    ADAGRAD
    ADADELTA
    RPROP
    LION
    MUON

cdef enum:
    MAX_HYPERPARAMETERS = 16
    MAX_SLOTS = 4
    MAX_FLAGS = 3
    MAX_COEFFICIENTS = 6


cdef inline const char *optimizer_name(OptimizerKind kind) noexcept:
    """NULL from the last kind on."""
    if kind == SGD: return "sgd"
    elif kind == ADAM: return "adam"
    elif kind == ADAMW: return "adamw"
    elif kind == ADAMAX: return "adamax"
    elif kind == NADAM: return "nadam"
    elif kind == RADAM: return "radam"
    elif kind == RMSPROP: return "rmsprop"
    elif kind == ADAGRAD: return "adagrad"
    elif kind == ADADELTA: return "adadelta"
    elif kind == RPROP: return "rprop"
    elif kind == LION: return "lion"
    elif kind == MUON: return "muon"
    return NULL


cdef struct Optimizer:
    OptimizerKind kind
    double hyper[MAX_HYPERPARAMETERS]  # in the order of the class's `hyperparameters`

# One step: its numbers, the same for all parameters, and what it changes.
cdef struct Update:
    OptimizerKind kind
    bint flags[MAX_FLAGS]
    real rate
    real decay  # weight decay, or what parameters are multiplied by where it is decoupled
    real c[MAX_COEFFICIENTS]
    real *parameters
    real *slots
    Py_ssize_t slot_length

# Its numbers as vectors.
cdef struct Coefficients:
    vec rate
    vec decay
    vec c[MAX_COEFFICIENTS]
    bint flags[MAX_FLAGS]

# n <= LANES parameters at a time, `slots` being where each slot's own n numbers are.
ctypedef void (*Rule)(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil


cdef inline double power(double base, long long exponent) noexcept nogil:
    """base**exponent by squaring: the same bits everywhere, and a resumed run needs no running product."""
    cdef double result = 1
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


cdef inline vec sign(vec x) noexcept nogil:
    """-1, 0 or 1; NaN stays NaN, so that nothing hides it."""
    return vselect(vlt(vset1(0), x), vset1(1), vselect(vlt(x, vset1(0)), vset1(-1), x))


# ---- rules: the numbers of a step from the hyperparameters h, and what it does to parameters ----
#
# update.rate is the learning rate where nothing else is said. A second moment is a mean of squares of gradients.

cdef inline void prepare_sgd(const double *h, long long step, Update *update) noexcept nogil:
    # momentum, dampening, weight_decay, nesterov, velocity_of_steps
    update.decay = <real> h[2]
    update.c[0] = <real> h[0]
    update.c[1] = <real> (1 if step == 1 else 1 - h[1])
    update.c[2] = 1
    if h[0] != 0 and h[4] != 0:
        update.c[2] = update.rate
        update.rate = 1
    update.flags[0] = h[3] != 0
    update.flags[1] = h[0] != 0


cdef inline void sgd_plain(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    p[0] = vfma(-k.rate, vfma(k.decay, p[0], g), p[0])


cdef inline void sgd_momentum(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: momentum, 1 - dampening (1 in the first step), factor on the gradient;  rate: 1 if that is the learning rate
    g = vfma(k.decay, p[0], g) * k.c[2]
    slots[0] = vfma(k.c[0], slots[0], k.c[1] * g)
    if k.flags[0]:
        p[0] = vfma(-k.rate, vfma(k.c[0], slots[0], g), p[0])
    else:
        p[0] = vfma(-k.rate, slots[0], p[0])


cdef inline void prepare_adam(
    const double *h, long long step, double rate, bint decoupled, Update *update,
) noexcept nogil:
    # beta_1, beta_2, epsilon, weight_decay, amsgrad, epsilon_hat
    update.rate = <real> (rate / (1 - power(h[0], step)))
    update.decay = <real> h[3]
    update.c[0] = <real> (1 - h[0])
    update.c[1] = <real> h[1]
    update.c[2] = <real> (1 - h[1])
    update.c[3] = <real> (1 / sqrt(1 - power(h[1], step)))
    update.c[4] = <real> (h[2] / sqrt(1 - power(h[1], step)) if h[5] != 0 else h[2])
    update.c[5] = <real> (1 - rate * h[3])
    update.flags[0] = h[4] != 0
    update.flags[1] = decoupled
    update.flags[2] = h[3] != 0


cdef inline void adam(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: 1 - beta_1, beta_2, 1 - beta_2, 1 / sqrt(1 - beta_2**t), epsilon, 1 - rate * decay;  rate: lr / (1 - beta_1**t)
    # flags: amsgrad, decoupled decay, coupled decay
    cdef vec v
    if k.flags[1]:
        p[0] = p[0] * k.c[5]
    elif k.flags[2]:
        g = vfma(k.decay, p[0], g)
    slots[0] = vfma(g - slots[0], k.c[0], slots[0])
    slots[1] = vfma(k.c[2] * g, g, k.c[1] * slots[1])
    v = slots[1]
    if k.flags[0]:
        slots[2] = vmax(slots[2], v)
        v = slots[2]
    p[0] = vfma(-k.rate, slots[0] / vfma(vroot(v), k.c[3], k.c[4]), p[0])


cdef inline void prepare_adamax(const double *h, long long step, double rate, Update *update) noexcept nogil:
    # beta_1, beta_2, epsilon, weight_decay
    update.rate = <real> (rate / (1 - power(h[0], step)))
    update.decay = <real> h[3]
    update.c[0] = <real> (1 - h[0])
    update.c[1] = <real> h[1]
    update.c[2] = <real> h[2]


cdef inline void adamax(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: 1 - beta_1, beta_2, epsilon;  rate: lr / (1 - beta_1**t)
    g = vfma(k.decay, p[0], g)
    slots[0] = vfma(g - slots[0], k.c[0], slots[0])
    slots[1] = vmax(k.c[1] * slots[1], vabs(g) + k.c[2])
    p[0] = vfma(-k.rate, slots[0] / slots[1], p[0])


cdef inline double product_of_momenta(double beta, double fall, long long step) noexcept nogil:
    """The product of beta * (1 - fall**i / 2) for i = 1 ... step; 0 where it is nothing beside 1.

    From the step alone, so that a resumed run needs no running product. Factors are below beta: there are few of them.
    """
    cdef double product = 1, power_of_fall = 1, negligible = 1e-18
    if power(beta, step) < negligible:
        return 0
    for _ in range(step):
        power_of_fall *= fall
        product *= beta * (1 - 0.5 * power_of_fall)
        if product < negligible:
            return 0
    return product


cdef inline void prepare_nadam(const double *h, long long step, double rate, Update *update) noexcept nogil:
    # beta_1, beta_2, epsilon, weight_decay, 0.96**momentum_decay, decoupled_weight_decay
    cdef double momentum = h[0] * (1 - 0.5 * power(h[4], step))
    cdef double next_momentum = h[0] * (1 - 0.5 * power(h[4], step + 1))
    cdef double product = product_of_momenta(h[0], h[4], step)
    update.rate = <real> (rate * (1 - momentum) / (1 - product))
    update.decay = <real> (1 - rate * h[3] if h[5] != 0 else h[3])
    update.c[0] = <real> (1 - h[0])
    update.c[1] = <real> h[1]
    update.c[2] = <real> (1 - h[1])
    update.c[3] = <real> (1 / sqrt(1 - power(h[1], step)))
    update.c[4] = <real> h[2]
    update.c[5] = <real> (rate * next_momentum / (1 - product * next_momentum))
    update.flags[0] = h[5] != 0


cdef inline void nadam(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: 1 - beta_1, beta_2, 1 - beta_2, 1 / sqrt(1 - beta_2**t), epsilon, rate of the mean;  rate: of the gradient
    # flags: decoupled decay
    if k.flags[0]:
        p[0] = p[0] * k.decay
    else:
        g = vfma(k.decay, p[0], g)
    slots[0] = vfma(g - slots[0], k.c[0], slots[0])
    slots[1] = vfma(k.c[2] * g, g, k.c[1] * slots[1])
    p[0] = p[0] - vfma(k.c[5], slots[0], k.rate * g) / vfma(vroot(slots[1]), k.c[3], k.c[4])


cdef inline void prepare_radam(const double *h, long long step, double rate, Update *update) noexcept nogil:
    # beta_1, beta_2, epsilon, weight_decay, decoupled_weight_decay
    cdef double correction = 1 - power(h[1], step)
    cdef double longest = 2 / (1 - h[1]) - 1  # of the averages that the second moment is like
    cdef double length = longest - 2 * step * (1 - correction) / correction
    update.decay = <real> (1 - rate * h[3] if h[4] != 0 else h[3])
    update.c[0] = <real> (1 - h[0])
    update.c[1] = <real> h[1]
    update.c[2] = <real> (1 - h[1])
    update.c[3] = <real> h[2]
    update.flags[0] = h[4] != 0
    update.flags[1] = length > 5
    rate /= 1 - power(h[0], step)
    if length > 5:
        rate *= sqrt(correction) * sqrt(
            (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        )
    update.rate = <real> rate


cdef inline void radam(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: 1 - beta_1, beta_2, 1 - beta_2, epsilon;  rate: of the mean gradient, over the root where that is used
    # flags: decoupled decay, whether the second moment is known well enough to be used
    cdef vec direction
    if k.flags[0]:
        p[0] = p[0] * k.decay
    else:
        g = vfma(k.decay, p[0], g)
    slots[0] = vfma(g - slots[0], k.c[0], slots[0])
    slots[1] = vfma(k.c[2] * g, g, k.c[1] * slots[1])
    direction = slots[0]
    if k.flags[1]:
        direction = direction / (vroot(slots[1]) + k.c[3])
    p[0] = vfma(-k.rate, direction, p[0])


cdef inline void prepare_rmsprop(const double *h, Update *update) noexcept nogil:
    # alpha, epsilon, weight_decay, momentum, centered
    update.decay = <real> h[2]
    update.c[0] = <real> h[0]
    update.c[1] = <real> (1 - h[0])
    update.c[2] = <real> h[1]
    update.c[3] = <real> h[3]
    update.flags[0] = h[3] != 0
    update.flags[1] = h[4] != 0


cdef inline void rmsprop(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: alpha, 1 - alpha, epsilon, momentum;  flags: momentum, centered
    cdef vec average
    cdef int mean = 2 if k.flags[0] else 1
    g = vfma(k.decay, p[0], g)
    slots[0] = vfma(k.c[1] * g, g, k.c[0] * slots[0])
    average = slots[0]
    if k.flags[1]:
        slots[mean] = vfma(g - slots[mean], k.c[1], slots[mean])
        average = vmax(vfma(-slots[mean], slots[mean], average), vset1(0))  # rounding may leave it below 0
    average = g / (vroot(average) + k.c[2])
    if k.flags[0]:
        slots[1] = vfma(k.c[3], slots[1], average)
        average = slots[1]
    p[0] = vfma(-k.rate, average, p[0])


cdef inline void prepare_adagrad(const double *h, long long step, double rate, Update *update) noexcept nogil:
    # lr_decay, epsilon, weight_decay, initial_accumulator_value
    update.rate = <real> (rate / (1 + (step - 1) * h[0]))
    update.decay = <real> h[2]
    update.c[0] = <real> h[1]


cdef inline void adagrad(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: epsilon
    g = vfma(k.decay, p[0], g)
    slots[0] = vfma(g, g, slots[0])
    p[0] = vfma(-k.rate, g / (vroot(slots[0]) + k.c[0]), p[0])


cdef inline void prepare_adadelta(const double *h, Update *update) noexcept nogil:
    # rho, epsilon, weight_decay
    update.decay = <real> h[2]
    update.c[0] = <real> h[0]
    update.c[1] = <real> (1 - h[0])
    update.c[2] = <real> h[1]


cdef inline void adadelta(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: rho, 1 - rho, epsilon
    g = vfma(k.decay, p[0], g)
    slots[0] = vfma(k.c[1] * g, g, k.c[0] * slots[0])
    g = vroot(slots[1] + k.c[2]) / vroot(slots[0] + k.c[2]) * g
    slots[1] = vfma(k.c[1] * g, g, k.c[0] * slots[1])
    p[0] = vfma(-k.rate, g, p[0])


cdef inline void prepare_rprop(const double *h, long long step, Update *update) noexcept nogil:
    # eta_minus, eta_plus, step_size_min, step_size_max
    cdef int i
    for i in range(4):
        update.c[i] = <real> h[i]
    update.flags[0] = step == 1


cdef inline void rprop(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: eta_minus, eta_plus, step_size_min, step_size_max;  flags: first step, where the rate is the size of all steps
    cdef vec zero = vset1(0)
    cdef vec agreement = sign(g) * sign(slots[0])  # the product of the gradients could vanish
    cdef vec size = k.rate if k.flags[0] else slots[1]
    size = size * vselect(vlt(zero, agreement), k.c[1], vselect(vlt(agreement, zero), k.c[0], vset1(1)))
    slots[1] = vmin(vmax(size, k.c[2]), k.c[3])
    slots[0] = vselect(vlt(agreement, zero), zero, g)
    p[0] = vfma(-sign(slots[0]), slots[1], p[0])


cdef inline void prepare_lion(const double *h, double rate, Update *update) noexcept nogil:
    # beta_1, beta_2, weight_decay
    update.decay = <real> (1 - rate * h[2])
    update.c[0] = <real> h[0]
    update.c[1] = <real> (1 - h[0])
    update.c[2] = <real> h[1]
    update.c[3] = <real> (1 - h[1])


cdef inline void lion(const Coefficients *k, vec *p, vec g, vec *slots) noexcept nogil:
    # c: beta_1, 1 - beta_1, beta_2, 1 - beta_2
    p[0] = vfma(-k.rate, sign(vfma(k.c[0], slots[0], k.c[1] * g)), p[0] * k.decay)
    slots[0] = vfma(k.c[2], slots[0], k.c[3] * g)


cdef enum:
    FIRST_OF_MUON = 7  # of the hyperparameters: those before are AdamW's

cdef inline void prepare_muon(const double *h, long long step, double rate, Update *update) noexcept nogil:
    """Of what is no hidden weight, which is AdamW's; `muon.pxd` has the rest.

    The first hyperparameter is AdamW's learning rate over Muon's, so that a schedule is for both.
    """
    prepare_adam(h + 1, step, rate * h[0], True, update)


cdef inline bint counts_steps(const Optimizer *optimizer) noexcept nogil:
    """Whether the numbers of a step differ from those of the one before, at the same rate, after the second step."""
    return not (<int> optimizer.kind in (SGD, RMSPROP, ADADELTA, RPROP, LION))


cdef inline bint takes_matrices(const Optimizer *optimizer) noexcept nogil:
    """Whether hidden weights are stepped as whole matrices, in place of number by number."""
    return optimizer.kind == MUON


cdef inline real plain_sgd_decay(const Optimizer *optimizer) noexcept nogil:
    """The weight decay of `sgd`, which products need that step themselves."""
    return <real> optimizer.hyper[2]
