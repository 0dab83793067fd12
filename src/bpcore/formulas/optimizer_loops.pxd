"""Optimizers: loops over a range of the flat parameter vector, in place, with the rules of `optimizers.pxd`."""

from bpcore.formulas.optimizers cimport (
    ADADELTA, ADAGRAD, ADAM, ADAMAX, ADAMW, LION, MAX_COEFFICIENTS, MAX_FLAGS, MAX_SLOTS, MUON, NADAM, RADAM, RMSPROP,
    RPROP, SGD, Coefficients, Optimizer, OptimizerKind, Rule, Update, adadelta, adagrad, adam, adamax, lion, nadam,
    prepare_adadelta, prepare_adagrad, prepare_adam, prepare_adamax, prepare_lion, prepare_muon, prepare_nadam,
    prepare_radam, prepare_rmsprop, prepare_rprop, prepare_sgd, radam, rmsprop, rprop, sgd_momentum, sgd_plain,
)
from bpcore.machine.types cimport (
    LANES, always_inlined, real, vec, vfma, vload, vload_n, vlt, vselect, vset1, vstore, vstore_n,
)
from bpcore.machine.vmath cimport vroot


# ---- bounds ----

cdef inline void limit_norms(real *w, Py_ssize_t n_in, Py_ssize_t n_out, real most) noexcept nogil:
    """Scale down each column of w (n_in, n_out) whose Euclidean norm exceeds `most`."""
    cdef vec norm, factor, wv
    cdef Py_ssize_t first = 0, n, i
    while first < n_out:
        n = min(n_out - first, <Py_ssize_t> LANES)
        norm = vset1(0)
        for i in range(n_in):
            wv = vload_n(w + i * n_out + first, n)
            norm = vfma(wv, wv, norm)
        norm = vroot(norm)
        factor = vselect(vlt(vset1(most), norm), vset1(most) / norm, vset1(1))
        for i in range(n_in):
            vstore_n(w + i * n_out + first, vload_n(w + i * n_out + first, n) * factor, n)
        first += LANES


# ---- loops ----

cdef inline always_inlined sweep(
    Rule rule, const int n_slots, const Coefficients *k, real *p, const real *g, real *slots, Py_ssize_t slot_length,
    Py_ssize_t n,
) noexcept nogil:
    cdef vec pv
    cdef vec sv[MAX_SLOTS]
    cdef Py_ssize_t i, at, rest = n % LANES
    cdef int s
    for i in range(n // LANES):
        at = i * LANES
        pv = vload(p + at)
        for s in range(n_slots):
            sv[s] = vload(slots + s * slot_length + at)
        rule(k, &pv, vload(g + at), sv)
        vstore(p + at, pv)
        for s in range(n_slots):
            vstore(slots + s * slot_length + at, sv[s])
    if rest > 0:
        at = n - rest
        pv = vload_n(p + at, rest)
        for s in range(n_slots):
            sv[s] = vload_n(slots + s * slot_length + at, rest)
        rule(k, &pv, vload_n(g + at, rest), sv)
        vstore_n(p + at, pv, rest)
        for s in range(n_slots):
            vstore_n(slots + s * slot_length + at, sv[s], rest)


cdef inline void prepare(
    const Optimizer *optimizer, long long step, double rate, real *parameters, real *slots, Py_ssize_t slot_length,
    Update *update,
) noexcept nogil:
    """Fill `update` for the step that is number `step`, counted from 1."""
    cdef const double *h = &optimizer.hyper[0]
    update.kind = optimizer.kind
    update.parameters = parameters
    update.slots = slots
    update.slot_length = slot_length
    update.rate = <real> rate
    if optimizer.kind == SGD:
        prepare_sgd(h, step, update)
    elif optimizer.kind in (ADAM, ADAMW):
        prepare_adam(h, step, rate, optimizer.kind == ADAMW, update)
    elif optimizer.kind == ADAMAX:
        prepare_adamax(h, step, rate, update)
    elif optimizer.kind == NADAM:
        prepare_nadam(h, step, rate, update)
    elif optimizer.kind == RADAM:
        prepare_radam(h, step, rate, update)
    elif optimizer.kind == RMSPROP:
        prepare_rmsprop(h, update)
    elif optimizer.kind == ADAGRAD:
        prepare_adagrad(h, step, rate, update)
    elif optimizer.kind == ADADELTA:
        prepare_adadelta(h, update)
    elif optimizer.kind == RPROP:
        prepare_rprop(h, step, update)
    elif optimizer.kind == LION:
        prepare_lion(h, rate, update)
    elif optimizer.kind == MUON:
        prepare_muon(h, step, rate, update)


cdef inline void optimize(const Update *update, const real *gradient, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """The step on parameters first ... first + n, along their gradient (n,)."""
    cdef Coefficients k
    cdef int i
    k.rate = vset1(update.rate)
    k.decay = vset1(update.decay)
    for i in range(MAX_COEFFICIENTS):
        k.c[i] = vset1(update.c[i])
    for i in range(MAX_FLAGS):
        k.flags[i] = update.flags[i]
    follow_rule(
        update.kind, &k, update.parameters + first, gradient, update.slots + first, update.slot_length, n
    )


cdef inline void follow_rule(
    OptimizerKind kind, const Coefficients *numbers, real *p, const real *gradient, real *slots, Py_ssize_t length,
    Py_ssize_t n,
) noexcept nogil:
    """The step on p (n,) along its gradient (n,); each slot's numbers begin `length` behind those of the one before."""
    cdef Coefficients own = numbers[0]  # as its own they stay in registers: what is stored cannot change them
    cdef const Coefficients *k = &own
    if kind == SGD:
        if k.flags[1]:
            sweep(sgd_momentum, 1, k, p, gradient, slots, length, n)
        else:
            sweep(sgd_plain, 0, k, p, gradient, slots, length, n)
    elif kind in (ADAM, ADAMW, MUON):
        if k.flags[0]:
            sweep(adam, 3, k, p, gradient, slots, length, n)
        else:
            sweep(adam, 2, k, p, gradient, slots, length, n)
    elif kind == ADAMAX:
        sweep(adamax, 2, k, p, gradient, slots, length, n)
    elif kind == NADAM:
        sweep(nadam, 2, k, p, gradient, slots, length, n)
    elif kind == RADAM:
        sweep(radam, 2, k, p, gradient, slots, length, n)
    elif kind == RMSPROP:
        if k.flags[0] and k.flags[1]:
            sweep(rmsprop, 3, k, p, gradient, slots, length, n)
        elif k.flags[0] or k.flags[1]:
            sweep(rmsprop, 2, k, p, gradient, slots, length, n)
        else:
            sweep(rmsprop, 1, k, p, gradient, slots, length, n)
    elif kind == ADAGRAD:
        sweep(adagrad, 1, k, p, gradient, slots, length, n)
    elif kind == ADADELTA:
        sweep(adadelta, 2, k, p, gradient, slots, length, n)
    elif kind == RPROP:
        sweep(rprop, 2, k, p, gradient, slots, length, n)
    elif kind == LION:
        sweep(lion, 1, k, p, gradient, slots, length, n)
