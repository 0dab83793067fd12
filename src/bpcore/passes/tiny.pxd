"""Forward and backward for networks so small that reaching a product costs more than computing it.

For batches that fit into one vector and layers of fewer than FEW_OUTPUTS units, none of the hidden ones a softmax: the
sums of `chunks.pxd`, in the same order and so with the same bits, as bare loops.
"""

from bpcore.formulas.activation_loops cimport DERIVATIVE, VALUE, activate, dispatch
from bpcore.formulas.activations cimport SOFTMAX
from bpcore.formulas.loss_loops cimport tile_delta
from bpcore.formulas.losses cimport Loss
from bpcore.machine.types cimport (
    LANES, always_inlined, never_inlined, real, rfma, vec, vfma, vload, vset1, vstore, vsum,
)
from bpcore.passes.network cimport FEW_OUTPUTS, Chunk, Layer, Network, fits_small_batches
from bpcore.products.sinks cimport STEP, Sink


cdef inline bint has_tiny_layers(const Network *net) noexcept nogil:
    cdef int l
    for l in range(net.n_layers):
        if net.layers[l].n_out >= FEW_OUTPUTS:
            return False
    return net.n_inputs <= 8 * FEW_OUTPUTS and fits_small_batches(net)


cdef inline bint is_tiny(const Network *net, Py_ssize_t batch_size) noexcept nogil:
    return batch_size <= LANES and has_tiny_layers(net)


cdef inline never_inlined tiny_forward(
    const Network *net, const Loss *loss, const real *parameters, Chunk *chunk,
) noexcept nogil:
    """chunk.a[1:] and chunk.z[1:] from chunk.a[0], then chunk.value and the delta of the outputs."""
    cdef const Layer *layer
    cdef const real *w
    cdef const real *inputs
    cdef real *z
    cdef vec score
    cdef Py_ssize_t i, o
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        inputs = chunk.a[layer.reads + 1]
        z = chunk.z[l + 1]
        for o in range(layer.n_out):
            w = parameters + layer.weights + o
            score = vset1(parameters[layer.biases + o]) if layer.has_bias else vset1(0)
            for i in range(layer.n_in):
                score = vfma(vset1(w[i * layer.n_out]), vload(inputs + i * LANES), score)
            vstore(z + o * LANES, score)
            dispatch(
                VALUE, layer.activation, layer.alpha, 1, z + o * LANES, chunk.a[l + 1] + o * LANES, NULL, NULL, NULL
            )
    l = net.n_layers
    if layer.activation == SOFTMAX:
        activate(SOFTMAX, layer.alpha, &chunk.tiles, layer.n_out, chunk.z[l], chunk.a[l])
    tile_delta(
        loss, layer.activation, layer.alpha, layer.n_out, 1, chunk.a[l], chunk.z[l], chunk.y, chunk.factor,
        chunk.delta[l], chunk.value, chunk.scratch,
    )


cdef inline never_inlined tiny_backward(
    const Network *net, const real *parameters, Chunk *chunk, real *target, const Sink *sink,
) noexcept nogil:
    """What `chunks.backward` does, for SET and STEP: a tiny batch is a single chunk."""
    if sink.mode != STEP:
        backward_loops(False, False, 0, 0, net, parameters, chunk, target)
    elif sink.decay != 0:
        backward_loops(True, True, sink.rate, sink.decay, net, parameters, chunk, target)
    else:
        backward_loops(True, False, sink.rate, 0, net, parameters, chunk, target)


cdef inline void put(const bint step, const bint decays, real rate, real decay, real *w, real g) noexcept nogil:
    if decays:
        g = rfma(decay, w[0], g)
    w[0] = rfma(-rate, g, w[0]) if step else g


cdef inline always_inlined tiny_delta(
    const Layer *layer, const Layer *below, const real *parameters, const real *d, const real *z, const real *a,
    real *delta,
) noexcept nogil:
    """delta [n_in][LANES] of the layer that this one reads, from its own, d [n_out][LANES]."""
    cdef const real *w = parameters + layer.weights
    cdef vec total
    cdef Py_ssize_t i, o
    for i in range(layer.n_in):
        total = vset1(0)
        for o in range(layer.n_out):
            total = vfma(vset1(w[o]), vload(d + o * LANES), total)
        vstore(delta + i * LANES, total)
        w += layer.n_out
    # In place, without a call: that would take 5 % of a step of 2-2-1.
    dispatch(DERIVATIVE, below.activation, below.alpha, layer.n_in, z, <real *> a, delta, NULL, NULL)


cdef inline always_inlined backward_loops(
    const bint step, const bint decays, real rate, real decay, const Network *net, const real *parameters,
    Chunk *chunk, real *target,
) noexcept nogil:
    cdef const Layer *layer
    cdef const real *d
    cdef const real *inputs
    cdef real *g
    cdef vec zero = vset1(0), a
    cdef Py_ssize_t i, o
    cdef int l, at
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        at = layer.reads + 1
        d = chunk.delta[l + 1]
        inputs = chunk.a[at]
        if layer.reads >= net.first_trainable:
            tiny_delta(layer, net.layers + layer.reads, parameters, d, chunk.z[at], inputs, chunk.delta[at])
        if layer.trainable:
            g = target + layer.weights
            for i in range(layer.n_in):
                a = vload(inputs + i * LANES)
                for o in range(layer.n_out):
                    put(step, decays, rate, decay, g + o, vsum(vfma(a, vload(d + o * LANES), zero)))
                g += layer.n_out
        if layer.bias_trainable:
            for o in range(layer.n_out):
                put(step, decays, rate, decay, target + layer.biases + o, vsum(zero + vload(d + o * LANES)))
