"""Forward and backward through all layers, for one chunk of samples."""

from bpcore.formulas.dropout cimport drop_outputs
from bpcore.machine.types cimport never_inlined, real
from bpcore.passes.layers cimport (
    delta_below, delta_is_short, delta_panels_below, forward_layer, input_delta_product, layer_gradient,
    lowest_gradients,
)
from bpcore.passes.network cimport NETWORK_INPUTS, Chunk, Layer, Network, inputs_of, needs_panels
from bpcore.products.gradients cimport Sink, transpose_rows


cdef inline never_inlined forward(const Network *net, const real *parameters, Chunk *chunk) noexcept nogil:
    """chunk.a[1:] and chunk.z[1:] from chunk.a[0]."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        forward_layer(
            layer, parameters, &chunk.tiles, inputs_of(chunk, layer), chunk.z[l + 1], chunk.a[l + 1], chunk.scratch
        )
        if chunk.dropout.active and layer.dropout > 0:
            drop_outputs(
                &chunk.dropout, layer.dropout, l, &chunk.tiles, layer.n_out, 0, layer.n_out, chunk.a[l + 1],
                chunk.dropout_factors[l + 1], chunk.after_dropout[l + 1],
            )


cdef inline never_inlined backward(
    const Network *net, const real *parameters, Chunk *chunk, real *target, const Sink *sink,
) noexcept nogil:
    """All gradients from one chunk. target may be the parameters: each layer is stepped after it was read.

    Of the deltas, only that of the last layer is sure to be there afterwards.
    """
    cdef const Layer *layer
    cdef const real *panels
    cdef bint in_panels = False
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        if in_panels or layer.reads < net.first_trainable:
            pass  # as layers are a chain, nothing is below this one
        elif not delta_is_short(net, l, chunk):
            delta_below(net, l, parameters, chunk)
        elif needs_panels(net, net.layers + layer.reads):
            delta_panels_below(net, l, parameters, chunk)
            in_panels = True
        else:
            lowest_gradients(net, l, parameters, chunk, target, sink)
            break
        if not (layer.trainable or layer.bias_trainable):
            continue
        panels = chunk.scratch if needs_panels(net, layer) else NULL
        if panels != NULL and not in_panels:
            transpose_rows(&chunk.tiles, layer.n_out, chunk.delta[l + 1], chunk.tiles.n_lanes, 0, chunk.scratch)
        layer_gradient(
            layer, &chunk.tiles, inputs_of(chunk, layer), chunk.delta[l + 1], chunk.slope_delta[l + 1], panels,
            0, layer.n_in, True, target, sink,
        )


cdef inline never_inlined input_delta(const Network *net, const real *parameters, Chunk *chunk) noexcept nogil:
    """chunk.delta[0], the gradient with respect to the network's input, and all deltas above it."""
    cdef int l
    for l in range(net.n_layers - 1, -1, -1):
        if net.layers[l].reads == NETWORK_INPUTS:
            input_delta_product(net.layers + l, l, parameters, chunk)
        else:
            delta_below(net, l, parameters, chunk)
