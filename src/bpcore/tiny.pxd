"""Forward and backward for networks so small that reaching a product costs more than computing it.

For batches that fit into one vector and layers of fewer than FEW_OUTPUTS units: the sums of `layers.pxd`, in the same
order and so with the same bits, as bare loops.
"""

from bpcore.activations cimport activate, multiply_derivative
from bpcore.gemm cimport STEP, Sink
from bpcore.layers cimport FEW_OUTPUTS, Network, Workspace
from bpcore.types cimport LANES, Layer, apart, real, rfma, template, vec, vfma, vload, vset1, vstore, vsum


cdef inline bint is_tiny(const Network *net, Py_ssize_t batch_size) noexcept nogil:
    cdef int l
    for l in range(net.n_layers):
        if net.layers[l].n_out >= FEW_OUTPUTS:
            return False
    return batch_size <= LANES and net.n_inputs <= 8 * FEW_OUTPUTS and not net.has_dropout


cdef inline apart tiny_forward(const Network *net, const real *parameters, Workspace *ws) noexcept nogil:
    """ws.a[1:] and ws.z[1:] from ws.a[0]."""
    cdef const Layer *layer
    cdef const real *w
    cdef const real *a
    cdef vec z
    cdef Py_ssize_t i, o
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        a = ws.a[l]
        for o in range(layer.n_out):
            w = parameters + layer.weights + o
            z = vset1(parameters[layer.biases + o]) if layer.has_bias else vset1(0)
            for i in range(layer.n_in):
                z = vfma(vset1(w[i * layer.n_out]), vload(a + i * LANES), z)
            vstore(ws.z[l + 1] + o * LANES, z)
        activate(layer.activation, layer.alpha, &ws.tiles, layer.n_out, ws.z[l + 1], ws.a[l + 1])


cdef inline apart tiny_backward(
    const Network *net, const real *parameters, Workspace *ws, real *target, const Sink *sink,
) noexcept nogil:
    """What `layers.backward` does, for SET and STEP: a tiny batch is a single chunk."""
    if sink.mode == STEP:
        backward_loops(True, sink.rate, sink.decay, net, parameters, ws, target)
    else:
        backward_loops(False, 0, 0, net, parameters, ws, target)


cdef inline void put(const bint step, real rate, real decay, real *w, real g) noexcept nogil:
    w[0] = rfma(-rate, rfma(decay, w[0], g), w[0]) if step else g


cdef inline template backward_loops(
    const bint step, real rate, real decay, const Network *net, const real *parameters, Workspace *ws, real *target,
) noexcept nogil:
    cdef const Layer *layer
    cdef const real *w
    cdef const real *d
    cdef const real *a
    cdef vec below, zero = vset1(0)
    cdef Py_ssize_t i, o
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        d = ws.delta[l + 1]
        a = ws.a[l]
        if l > net.first_trainable:
            w = parameters + layer.weights
            for i in range(layer.n_in):
                below = zero
                for o in range(layer.n_out):
                    below = vfma(vset1(w[i * layer.n_out + o]), vload(d + o * LANES), below)
                vstore(ws.delta[l] + i * LANES, below)
            multiply_derivative(
                net.layers[l - 1].activation, net.layers[l - 1].alpha, &ws.tiles, layer.n_in, ws.z[l], a, ws.delta[l]
            )
        if layer.trainable:
            for i in range(layer.n_in):
                for o in range(layer.n_out):
                    put(
                        step, rate, decay, target + layer.weights + i * layer.n_out + o,
                        vsum(vfma(vload(a + i * LANES), vload(d + o * LANES), zero)),
                    )
        if layer.bias_trainable:
            for o in range(layer.n_out):
                put(step, rate, decay, target + layer.biases + o, vsum(zero + vload(d + o * LANES)))
