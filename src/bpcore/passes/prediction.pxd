"""Outputs only: nothing of the layers is kept."""

from libc.string cimport memcpy

from bpcore.machine.tiles cimport Tiles, cut_tiles
from bpcore.machine.types cimport real
from bpcore.passes.batches cimport gather_rows, point_to_rows, scatter_rows
from bpcore.passes.layers cimport forward_layer, forward_row
from bpcore.passes.network cimport Layer, Network, reads_rows_in_place
from bpcore.products.vectors cimport all_finite


cdef inline bint predict_row(
    const Network *net, const real *parameters, const real *x, real *first, real *second, real *scratch, real *out,
) noexcept nogil:
    """out (n_outputs,) for x (n_inputs,)."""
    cdef const real *inputs = x
    cdef real *outputs = first
    cdef int l
    if not all_finite(x, net.n_inputs):
        return False
    for l in range(net.n_layers):
        forward_row(net.layers + l, parameters, inputs, outputs, outputs, scratch)
        inputs, outputs = outputs, second if outputs == first else first
    memcpy(out, inputs, net.n_outputs * sizeof(real))
    return True


cdef inline bint predict(
    const Network *net, const real *parameters, const real *X, Py_ssize_t n_rows, Py_ssize_t chunk, real *first,
    real *second, real *scratch, real *out,
) noexcept nogil:
    """out (n_rows, n_outputs) for X (n_rows, n_inputs).

    first, second, scratch: room for chunk lanes of the widest layer, which are GROUP_LANES at least.
    """
    cdef Tiles tiles
    cdef const Layer *layer
    cdef real *inputs
    cdef real *outputs
    cdef const real **rows
    cdef Py_ssize_t done = 0
    cdef int l
    if n_rows == 1:  # lanes over samples would be empty
        return predict_row(net, parameters, X, first, second, scratch, out)
    cut_tiles(&tiles, min(chunk, n_rows), net.splits_short_tile)
    while done < n_rows:
        if tiles.n_rows != min(chunk, n_rows - done):
            cut_tiles(&tiles, min(chunk, n_rows - done), net.splits_short_tile)
        inputs, outputs = first, second
        if not all_finite(X + done * net.n_inputs, tiles.n_rows * net.n_inputs):
            return False
        if reads_rows_in_place(net, tiles.n_rows):
            rows = <const real **> inputs  # which hold nothing then
            point_to_rows(&tiles, X, net.n_inputs, NULL, done, rows)
        else:
            rows = NULL
            gather_rows(&tiles, X, net.n_inputs, NULL, done, inputs)
        for l in range(net.n_layers):
            layer = net.layers + l
            forward_layer(
                layer, parameters, &tiles, inputs, rows if l == 0 else NULL, outputs, outputs, scratch
            )
            inputs, outputs = outputs, inputs
        scatter_rows(&tiles, inputs, net.n_outputs, out + done * net.n_outputs)
        done += tiles.n_rows
    return True
