"""Forward and backward through all layers, for one chunk of samples."""

from bpcore.formulas.dropout cimport drop_outputs
from bpcore.machine.types cimport never_inlined, real
from bpcore.passes.layers cimport (
    IN_PANELS, IN_SUMS, STORED, DeltaBelow, delta_below, delta_panels_below, forward_layer, gradient_below,
    input_delta_product, layer_gradient, way_of_delta,
)
from bpcore.passes.network cimport NETWORK_INPUTS, Chunk, Layer, Network, inputs_of, needs_panels, rows_of
from bpcore.products.gradients cimport transpose_rows
from bpcore.products.sinks cimport Sink


cdef inline never_inlined forward(const Network *net, const real *parameters, Chunk *chunk) noexcept nogil:
    """chunk.a[1:] and chunk.z[1:] from chunk.a[0], or from chunk.rows."""
    cdef const Layer *layer
    cdef int l
    for l in range(net.n_layers):
        layer = net.layers + l
        forward_layer(
            layer, parameters, &chunk.tiles, inputs_of(chunk, layer), rows_of(chunk, layer), chunk.z[l + 1],
            chunk.a[l + 1], chunk.scratch,
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
    cdef DeltaBelow way = STORED
    cdef Py_ssize_t first_row = 0
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        layer = net.layers + l
        if <int> way == STORED and layer.reads >= net.first_trainable:
            way = way_of_delta(net, l, chunk, sink)
            if way == STORED:
                delta_below(net, l, parameters, chunk)
            elif way == IN_PANELS:
                delta_panels_below(net, l, parameters, chunk)
            elif way == IN_SUMS:
                first_row = gradient_below(net, l, parameters, chunk, target, sink)
        if layer.trainable or layer.bias_trainable:
            panels = chunk.scratch if needs_panels(net, layer) else NULL
            if panels != NULL and <int> way == STORED:
                transpose_rows(&chunk.tiles, layer.n_out, chunk.delta[l + 1], chunk.tiles.n_lanes, 0, chunk.scratch)
            layer_gradient(
                layer, &chunk.tiles, inputs_of(chunk, layer), rows_of(chunk, layer), chunk.delta[l + 1],
                chunk.slope_delta[l + 1], panels, first_row, layer.n_in, True, target, sink,
            )
        if <int> way == IN_SUMS:
            break  # as layers are a chain, the one below is the lowest


cdef inline never_inlined input_delta(const Network *net, const real *parameters, Chunk *chunk) noexcept nogil:
    """chunk.delta[0], the gradient with respect to the network's input, and all deltas above it."""
    cdef int l
    for l in range(net.n_layers - 1, -1, -1):
        if net.layers[l].reads == NETWORK_INPUTS:
            input_delta_product(net.layers + l, l, parameters, chunk)
        else:
            delta_below(net, l, parameters, chunk)
