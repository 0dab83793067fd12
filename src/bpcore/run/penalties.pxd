"""What comes between a gradient and the optimizer, and after its step: penalties, clipping, bounds of norms."""

from libc.math cimport sqrt

from bpcore.formulas.optimizer_loops cimport limit_norms
from bpcore.machine.types cimport LANES, real, vload, vset1, vstore
from bpcore.passes.network cimport Layer, Network
from bpcore.products.vectors cimport add_norms
from bpcore.run.job cimport Job, Range


cdef inline void add_penalty(real *gradient, const real *w, Py_ssize_t n, real l1, real l2) noexcept nogil:
    """gradient += l1 sign(w) + l2 w, n numbers."""
    cdef Py_ssize_t i = 0, whole = n // LANES * LANES
    if l1 == 0:
        while i < whole:
            vstore(gradient + i, vload(gradient + i) + vset1(l2) * vload(w + i))
            i += LANES
        for i in range(whole, n):
            gradient[i] = gradient[i] + l2 * w[i]
    else:
        for i in range(n):
            gradient[i] = gradient[i] + (l1 * <real> ((w[i] > 0) - (w[i] < 0)) + l2 * w[i])


cdef inline double add_penalties(
    const Job *job, const real *parameters, real *gradient, double factor,
) noexcept nogil:
    """factor * sum of l1 |w| + l2 / 2 w**2; its gradient is added to `gradient`, unless that is NULL."""
    cdef double total = 0, absolute, square
    cdef const Range *at
    cdef int k
    for k in range(job.n_penalties):
        at = job.penalties + k
        add_norms(parameters + at.start, at.length, &absolute, &square)
        if gradient != NULL and at.trainable:
            add_penalty(
                gradient + at.start, parameters + at.start, at.length, <real> (at.l1 * factor), <real> (at.l2 * factor)
            )
        # the sum that is not asked for may be infinite
        if at.l1 != 0:
            total += at.l1 * absolute
        if at.l2 != 0:
            total += 0.5 * at.l2 * square
    return total * factor


cdef inline double clip_values(const Job *job, real *gradient) noexcept nogil:
    """Limit each number of the trainable gradient to +-clip_value; the sum of their squares."""
    cdef double square = 0
    cdef real limit = <real> job.clip_value, g
    cdef Py_ssize_t i
    cdef int k
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            g = gradient[i]
            if job.clip_value > 0:
                g = limit if g > limit else (-limit if g < -limit else g)
                gradient[i] = g
            square += <double> g * g
    return square


cdef inline void clip(const Job *job, real *gradient) noexcept nogil:
    """By value, then by the norm of the whole trainable gradient: PyTorch's clip_grad_value_ and clip_grad_norm_."""
    cdef double square = clip_values(job, gradient), factor
    cdef Py_ssize_t i
    cdef int k
    if job.clip_norm > 0:
        factor = job.clip_norm / (sqrt(square) + 1e-6)
        if factor < 1:
            for k in range(job.n_ranges):
                for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
                    gradient[i] = gradient[i] * <real> factor


cdef inline void limit_all_norms(const Network *net, real *parameters) noexcept nogil:
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        if layer.max_norm > 0 and layer.trainable:
            limit_norms(parameters + layer.weights, layer.n_in, layer.n_out, <real> layer.max_norm)
