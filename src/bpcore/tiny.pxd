"""Forward and backward for networks so small that reaching a product costs more than computing it.

For batches that fit into one vector and layers of fewer than FEW_OUTPUTS units, none of the hidden ones a softmax: the
sums of `layers.pxd`, in the same order and so with the same bits, as bare loops.
"""

from bpcore.activations cimport SOFTMAX, activate, activate_vecs, multiply_derivative_vecs
from bpcore.gradients cimport STEP, Sink
from bpcore.layers cimport FEW_OUTPUTS, Loss, Network, Workspace, mixes_hidden_units
from bpcore.losses cimport tile_delta
from bpcore.types cimport LANES, Layer, apart, real, rfma, template, vec, vfma, vload, vset1, vstore, vsum


cdef inline bint has_tiny_layers(const Network *net) noexcept nogil:
    cdef int l
    for l in range(net.n_layers):
        if net.layers[l].n_out >= FEW_OUTPUTS:
            return False
    return net.n_inputs <= 8 * FEW_OUTPUTS and not net.has_dropout and not mixes_hidden_units(net)


cdef inline bint is_tiny(const Network *net, Py_ssize_t batch_size) noexcept nogil:
    return batch_size <= LANES and has_tiny_layers(net)


cdef inline apart tiny_forward(
    const Network *net, const Loss *loss, const real *parameters, Workspace *ws,
) noexcept nogil:
    """ws.a[1:] and ws.z[1:] from ws.a[0], then ws.value and the delta of the outputs."""
    cdef const Layer *layer
    cdef const real *w
    cdef const real *below
    cdef real *a
    cdef real *z
    cdef vec score
    cdef Py_ssize_t i, o
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        below = ws.a[l]
        for o in range(layer.n_out):
            w = parameters + layer.weights + o
            z = ws.z[l + 1] + o * LANES
            a = ws.a[l + 1] + o * LANES
            score = vset1(parameters[layer.biases + o]) if layer.has_bias else vset1(0)
            for i in range(layer.n_in):
                score = vfma(vset1(w[i * layer.n_out]), vload(below + i * LANES), score)
            vstore(z, score)
            activate_vecs(layer.activation, layer.alpha, 1, z, a)
    l = net.n_layers
    if layer.activation == SOFTMAX:
        activate(SOFTMAX, layer.alpha, &ws.tiles, layer.n_out, ws.z[l], ws.a[l])
    tile_delta(
        loss.kind, loss.parameter, loss.labels, layer.activation, layer.alpha, layer.n_out, 1, ws.a[l], ws.z[l], ws.y,
        ws.factor, ws.delta[l], ws.value,
    )


cdef inline apart tiny_backward(
    const Network *net, const real *parameters, Workspace *ws, real *target, const Sink *sink,
) noexcept nogil:
    """What `layers.backward` does, for SET and STEP: a tiny batch is a single chunk."""
    if sink.mode != STEP:
        backward_loops(False, False, 0, 0, net, parameters, ws, target)
    elif sink.decay != 0:
        backward_loops(True, True, sink.rate, sink.decay, net, parameters, ws, target)
    else:
        backward_loops(True, False, sink.rate, 0, net, parameters, ws, target)


cdef inline void put(const bint step, const bint decays, real rate, real decay, real *w, real g) noexcept nogil:
    if decays:
        g = rfma(decay, w[0], g)
    w[0] = rfma(-rate, g, w[0]) if step else g


cdef inline template backward_loops(
    const bint step, const bint decays, real rate, real decay, const Network *net, const real *parameters,
    Workspace *ws, real *target,
) noexcept nogil:
    cdef const Layer *layer
    cdef const real *w
    cdef const real *d
    cdef real *g
    cdef vec zero = vset1(0), below, a
    cdef Py_ssize_t i, o
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        d = ws.delta[l + 1]
        for i in range(layer.n_in):
            w = parameters + layer.weights + i * layer.n_out
            g = target + layer.weights + i * layer.n_out
            a = vload(ws.a[l] + i * LANES)
            if l > net.first_trainable:
                below = zero
                for o in range(layer.n_out):
                    below = vfma(vset1(w[o]), vload(d + o * LANES), below)
                vstore(ws.delta[l] + i * LANES, below)
                multiply_derivative_vecs(
                    net.layers[l - 1].activation, net.layers[l - 1].alpha, 1, ws.z[l] + i * LANES, ws.a[l] + i * LANES,
                    ws.delta[l] + i * LANES,
                )
            if layer.trainable:
                for o in range(layer.n_out):
                    put(step, decays, rate, decay, g + o, vsum(vfma(a, vload(d + o * LANES), zero)))
        if layer.bias_trainable:
            for o in range(layer.n_out):
                put(step, decays, rate, decay, target + layer.biases + o, vsum(zero + vload(d + o * LANES)))
