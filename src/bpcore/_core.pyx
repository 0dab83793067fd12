"""The compiled core for one instruction set and one dtype: what `_core.pyi` promises."""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.limits cimport LLONG_MAX
from libc.string cimport memset

from bpcore cimport activations as act
from bpcore cimport losses as lss
from bpcore cimport optimizers as opt
from bpcore cimport run as rn
from bpcore cimport training as trn
from bpcore.batches cimport BitGenerator, gather_rows, scatter_rows
from bpcore.dropout cimport place_rows
from bpcore.layers cimport Loss, Network, Workspace, backward as backward_pass
from bpcore.layers cimport forward as forward_pass, forward_layer, gains_by_splitting, input_delta
from bpcore.activations cimport multiply_derivative, needs_scores
from bpcore.gradients cimport ADD, SET, Sink
from bpcore.types cimport (
    GROUP_LANES, LANES, Layer, Tiles, cut_tiles, enter_compute, leave_compute, real, template, vec, vload_n, vstore_n,
)
from bpcore.vmath cimport verf, vexp, vexpm1, vlog, vlog1p, vroot, vsigmoid, vtanh


ACTIVATIONS = tuple(act.activation_name(code).decode() for code in range(act.N_ACTIVATIONS))
LOSSES = tuple(lss.loss_name(code).decode() for code in range(lss.N_LOSSES))
OPTIMIZERS = tuple(opt.optimizer_name(code).decode() for code in range(opt.N_OPTIMIZERS))
STOP_REASONS = {trn.EPOCHS: "epochs", trn.TOLERANCE: "tolerance", trn.DIVERGED: "diverged", trn.TIME: "time"}


# ---- memory ----

cdef extern from "<stdlib.h>":
    int posix_memalign(void **block, size_t alignment, size_t size) nogil
    void free(void *block) nogil

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #define bp_ask_for_huge_pages(p, n) ((void)madvise((p), (n), MADV_HUGEPAGE))
    #else
    #define bp_ask_for_huge_pages(p, n) ((void)(p), (void)(n))
    #endif
    """
    void ask_for_huge_pages "bp_ask_for_huge_pages"(void *start, size_t size) nogil

cdef enum:
    HUGE_PAGE = 2097152


cdef class Memory:
    """One block, zeroed, cut into arrays that each start at a 64-byte boundary."""

    cdef void *block
    cdef char *free
    cdef char *end

    def __cinit__(self, Py_ssize_t size):
        # Large workspaces ask for large pages: walking the page table costs wide layers a tenth of their time.
        cdef size_t alignment = HUGE_PAGE if size >= 2 * HUGE_PAGE else 64
        size = rounded(size)
        if posix_memalign(&self.block, alignment, size) != 0:
            self.block = NULL
            raise MemoryError(f"backprop needs a workspace of {size} bytes")
        if alignment == HUGE_PAGE:
            ask_for_huge_pages(self.block, size)
        self.free = <char *> self.block
        self.end = self.free + size

    def __dealloc__(self):
        free(self.block)

    cdef void *take(self, Py_ssize_t size) except NULL:
        """The next `size` bytes, zeroed."""
        cdef void *start = self.free
        self.free += rounded(size)
        if self.free > self.end:
            raise AssertionError("the workspace was measured too small")
        memset(start, 0, size)
        return start


cdef Py_ssize_t rounded(Py_ssize_t size) noexcept:
    return (size + 63) // 64 * 64


cdef class Buffers:
    """Arrays of the caller, held while the core works on them."""

    cdef Py_buffer views[12]
    cdef int n_views

    cdef void *add(self, object array, Py_ssize_t itemsize, bint writable) except NULL:
        """Its first element; the arrays were checked at the Python edge, this only guards against a wrong call."""
        cdef Py_buffer *view = self.views + self.n_views
        PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
        self.n_views += 1
        if view.itemsize != itemsize:
            raise TypeError(f"expected items of {itemsize} bytes, got {view.itemsize}")
        # an empty array may have no memory; nothing is read from it then
        return view.buf if view.buf != NULL else <void *> self

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_views):
            PyBuffer_Release(self.views + i)


# ---- the plan ----

cdef class Plan:
    """A network's layers as C structs."""

    cdef Network net
    cdef Memory memory
    cdef readonly Py_ssize_t n_inputs, n_outputs, n_parameters

    def __init__(self, Py_ssize_t n_inputs, layers):
        cdef Py_ssize_t n_in = n_inputs, offset = 0
        cdef Layer *layer
        cdef int l
        self.memory = Memory(rounded(len(layers) * sizeof(Layer)))
        self.net.layers = <Layer *> self.memory.take(len(layers) * sizeof(Layer))
        self.net.n_layers = len(layers)
        self.net.n_inputs = n_inputs
        self.net.width_sum = n_inputs
        self.net.width_max = n_inputs
        self.net.first_trainable = self.net.n_layers
        for l, dense in enumerate(layers):
            layer = self.net.layers + l
            layer.n_in = n_in
            layer.n_out = dense.units
            layer.activation = ACTIVATIONS.index(dense.activation)
            layer.alpha = 0 if dense.alpha is None else dense.alpha
            layer.has_bias = dense.bias
            layer.trainable = dense.trainable
            layer.bias_trainable = dense.bias and dense.bias_trainable
            layer.l1 = dense.l1
            layer.l2 = dense.l2
            layer.dropout = dense.dropout
            layer.max_norm = dense.max_norm or 0
            self.net.has_dropout = self.net.has_dropout or layer.dropout > 0
            self.net.has_max_norm = self.net.has_max_norm or layer.max_norm > 0
            layer.weights = offset
            layer.biases = offset + layer.n_in * layer.n_out
            offset = layer.biases + (layer.n_out if layer.has_bias else 0)
            n_in = layer.n_out
            self.net.width_sum += n_in
            self.net.width_max = max(self.net.width_max, n_in)
            if (layer.trainable or layer.bias_trainable) and self.net.first_trainable == self.net.n_layers:
                self.net.first_trainable = l
        self.net.n_outputs = n_in
        self.net.splits_few = gains_by_splitting(&self.net)
        self.net.n_parameters = offset
        self.n_inputs, self.n_outputs, self.n_parameters = n_inputs, n_in, offset

    cdef Py_ssize_t max_chunk(self) noexcept:
        """How many samples go through the layers together, a multiple of 3 groups.

        Few enough to stay in the caches; but where the weights do not, the more samples meet them the better.
        From the shape alone, so that every instruction set cuts its sums alike.
        """
        cdef Py_ssize_t rows = CHUNK_BYTES // (self.net.width_sum * 2 * <Py_ssize_t> sizeof(real))
        cdef Py_ssize_t step = 3 * GROUP_LANES
        if self.net.n_parameters * <Py_ssize_t> sizeof(real) > LARGE_WEIGHTS:
            return LONG_CHUNK
        return max(2 * step, min(rows, <Py_ssize_t> 240) // step * step)


cdef enum:
    CHUNK_BYTES = 131072
    LARGE_WEIGHTS = 1048576
    LONG_CHUNK = 288


# ---- prediction ----

cdef bint predict(
    const Network *net, const real *parameters, const real *X, Py_ssize_t n_rows, Py_ssize_t chunk, real *first,
    real *second, real *scratch, real *out,
) noexcept nogil:
    """out (n_rows, n_outputs) for X (n_rows, n_inputs).

    first, second, scratch: room for chunk lanes of the widest layer.
    """
    cdef Tiles tiles
    cdef const Layer *layer
    cdef real *below
    cdef real *above
    cdef Py_ssize_t done = 0
    cdef int l
    cut_tiles(&tiles, min(chunk, n_rows), net.splits_few)
    while done < n_rows:
        if tiles.n_rows != min(chunk, n_rows - done):
            cut_tiles(&tiles, min(chunk, n_rows - done), net.splits_few)
        below, above = first, second
        gather_rows(&tiles, X, net.n_inputs, NULL, done, below)
        if not rn.all_finite(below, net.n_inputs * tiles.n_lanes):
            return False
        for l in range(net.n_layers):
            layer = net.layers + l
            forward_layer(layer, parameters, &tiles, below, above, above, scratch)
            below, above = above, below
        scatter_rows(&tiles, below, net.n_outputs, out + done * net.n_outputs)
        done += tiles.n_rows
    return True


def forward(Plan plan not None, parameters, X, out):
    cdef Buffers buffers = Buffers()
    cdef const real *parameters_p = <const real *> buffers.add(parameters, sizeof(real), False)
    cdef const real *X_p = <const real *> buffers.add(X, sizeof(real), False)
    cdef real *out_p = <real *> buffers.add(out, sizeof(real), True)
    cdef Py_ssize_t n_rows = len(X)
    cdef Py_ssize_t chunk = min(plan.max_chunk(), (n_rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES)
    cdef Py_ssize_t half = rounded(plan.net.width_max * chunk * sizeof(real))
    cdef real *room = <real *> PyMem_RawMalloc(3 * half + 64)
    cdef real *first = <real *> ((<uintptr_t> room + 63) & ~<uintptr_t> 63)
    cdef bint finite
    cdef unsigned int saved
    if room == NULL:
        raise MemoryError(f"backprop needs a workspace of {3 * half} bytes")
    with nogil:
        saved = enter_compute()
        finite = predict(
            &plan.net, parameters_p, X_p, n_rows, chunk, first, first + half // <Py_ssize_t> sizeof(real),
            first + 2 * half // <Py_ssize_t> sizeof(real), out_p
        )
        leave_compute(saved)
        PyMem_RawFree(room)
    return finite


# ---- loss, gradient, update ----

cdef int fill_loss(Loss *native, loss, targets) except -1:
    native.kind = LOSSES.index(loss.name)
    native.parameter = loss.parameter
    native.scale = loss.scale
    native.mean = loss.reduction == "mean"
    native.elementwise = loss.elementwise
    native.labels = targets.ndim == 1
    return 0


cdef int fill_optimizer(opt.Optimizer *native, optimizer) except -1:
    cdef int i
    cdef double value
    native.kind = OPTIMIZERS.index(optimizer.name)
    for i, value in enumerate(optimizer.hyperparameters):
        native.hyper[i] = value
    return 0


cdef int fill_ranges(rn.Run *run, const Network *net) noexcept:
    """run.ranges and run.penalties (room for two a layer) from the layers; neighbouring trainable stretches merge."""
    cdef const Layer *layer
    cdef int l
    run.n_ranges = 0
    run.n_penalties = 0
    for l in range(net.n_layers):
        layer = net.layers + l
        if layer.trainable:
            add_range(run, layer.weights, layer.n_in * layer.n_out)
        if layer.has_bias and layer.bias_trainable:
            add_range(run, layer.biases, layer.n_out)
        if layer.l1 != 0 or layer.l2 != 0:
            run.penalties[run.n_penalties] = rn.Range(
                layer.weights, layer.n_in * layer.n_out, layer.l1, layer.l2, layer.trainable
            )
            run.n_penalties += 1
    return 0


cdef void add_range(rn.Run *run, Py_ssize_t start, Py_ssize_t length) noexcept:
    cdef rn.Range *last = run.ranges + run.n_ranges - 1
    if run.n_ranges > 0 and last.start + last.length == start:
        last.length += length
    else:
        run.ranges[run.n_ranges] = rn.Range(start, length, 0, 0, True)
        run.n_ranges += 1


cdef Py_ssize_t workspace_size(const rn.Run *run, Py_ssize_t lanes) noexcept:
    """Bytes that `fill_workspace` takes for a workspace of that many lanes."""
    cdef const Network *net = run.net
    cdef Py_ssize_t targets = 1 if run.loss.labels else net.n_outputs
    cdef Py_ssize_t reals = net.n_inputs + targets + 2 + net.width_max + GROUP_LANES, l
    if run.input_gradient != NULL:
        reals += net.n_inputs
    for l in range(net.n_layers):
        reals += (2 + keeps_scores(run, l) + 2 * (net.layers[l].dropout > 0)) * net.layers[l].n_out
    return (
        reals * lanes * sizeof(real) + lanes * sizeof(uint32_t) + 64 * (6 * net.n_layers + 10)
        + POINTER_ARRAYS * rounded((net.n_layers + 1) * sizeof(real *))
    )


cdef int fill_workspace(const rn.Run *run, Workspace *ws, Memory memory, Py_ssize_t lanes) except -1:
    """Arrays for chunks of that many lanes."""
    cdef const Network *net = run.net
    cdef Py_ssize_t targets = 1 if run.loss.labels else net.n_outputs, l, width
    take_pointers(net, ws, memory)
    ws.own_x = <real *> memory.take(net.n_inputs * lanes * sizeof(real))
    ws.own_y = <real *> memory.take(targets * lanes * sizeof(real))
    ws.own_factor = <real *> memory.take(lanes * sizeof(real))
    ws.a[0], ws.y, ws.factor = ws.own_x, ws.own_y, ws.own_factor
    ws.dropout.rows = <uint32_t *> memory.take(lanes * sizeof(uint32_t))
    if run.input_gradient != NULL:
        ws.delta[0] = <real *> memory.take(net.n_inputs * lanes * sizeof(real))
    ws.value = <real *> memory.take(lanes * sizeof(real))
    ws.scratch = <real *> memory.take((net.width_max + GROUP_LANES) * lanes * sizeof(real))
    for l in range(net.n_layers):
        width = net.layers[l].n_out
        ws.a[l + 1] = <real *> memory.take(width * lanes * sizeof(real))
        ws.delta[l + 1] = <real *> memory.take(width * lanes * sizeof(real))
        ws.z[l + 1] = <real *> memory.take(width * lanes * sizeof(real)) if keeps_scores(run, l) else ws.a[l + 1]
        ws.dropped[l + 1] = ws.kept[l + 1] = ws.a[l + 1]
        if net.layers[l].dropout > 0:
            ws.dropped[l + 1] = <real *> memory.take(width * lanes * sizeof(real))
            ws.kept[l + 1] = <real *> memory.take(width * lanes * sizeof(real))
    return 0


cdef enum:
    POINTER_ARRAYS = 5  # of a workspace


cdef int take_pointers(const Network *net, Workspace *ws, Memory memory) except -1:
    ws.a = <real **> memory.take((net.n_layers + 1) * sizeof(real *))
    ws.z = <real **> memory.take((net.n_layers + 1) * sizeof(real *))
    ws.delta = <real **> memory.take((net.n_layers + 1) * sizeof(real *))
    ws.dropped = <real **> memory.take((net.n_layers + 1) * sizeof(real *))
    ws.kept = <real **> memory.take((net.n_layers + 1) * sizeof(real *))
    return 0


cdef Py_ssize_t whole_groups(Py_ssize_t n_rows) noexcept:
    return (n_rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES


cdef Py_ssize_t gathered_size(const rn.Run *run, Py_ssize_t n_rows) noexcept:
    """Bytes that `keep_gathered` takes."""
    cdef Py_ssize_t targets = 1 if run.loss.labels else run.net.n_outputs
    return 3 * 64 + (run.net.n_inputs + targets + 1) * whole_groups(n_rows) * <Py_ssize_t> sizeof(real)


cdef int keep_gathered(const rn.Run *run, rn.Rows *rows, Memory memory) except -1:
    """Arrays for data that are gathered once."""
    cdef Py_ssize_t targets = 1 if run.loss.labels else run.net.n_outputs, lanes = whole_groups(rows.n)
    rows.all_x = <real *> memory.take(run.net.n_inputs * lanes * sizeof(real))
    rows.all_y = <real *> memory.take(targets * lanes * sizeof(real))
    rows.all_factor = <real *> memory.take(lanes * sizeof(real))
    return 0


cdef Memory new_workspace(rn.Run *run, bint keeps_data, Py_ssize_t extra):
    """The buffers of a run, in one block with `extra` bytes to spare; net, loss, data, batch_size ... must be set."""
    cdef const Network *net = run.net
    cdef Py_ssize_t l
    # a short last batch may make a longer chunk than the others, so not chunk_length of the batch size
    cdef Py_ssize_t most = max(min(run.batch_size, run.data.n), run.validation.n)
    cdef Py_ssize_t lanes = whole_groups(min(most, run.max_chunk))
    cdef Py_ssize_t n_ranges = 2 * net.n_layers * sizeof(rn.Range), size
    cdef Py_ssize_t blocks = 0, panels = 0, member = 0, scratch = 0
    cdef bint shares_blocks = most > run.max_chunk and net.n_parameters <= rn.BLOCK_PARAMETERS
    cdef int rank
    keeps_data = keeps_data and run.batch_size >= run.data.n
    if shares_blocks:
        blocks = (rn.MAX_BLOCKS - 1) * net.n_parameters * sizeof(real)
    if run.n_threads > 1:
        scratch = (net.width_max + GROUP_LANES) * lanes * sizeof(real)
        member = sizeof(rn.Member) + 64 + rounded(scratch)
        member += POINTER_ARRAYS * rounded((net.n_layers + 1) * sizeof(real *))
        if shares_blocks:
            member += workspace_size(run, lanes)
        for l in range(net.n_layers):
            panels += rounded((net.layers[l].n_out + GROUP_LANES) * lanes * sizeof(real))
    size = (
        workspace_size(run, lanes) + 2 * rounded(n_ranges) + rounded(blocks) + 64 + extra
        + gathered_size(run, run.data.n if keeps_data else 0) + gathered_size(run, run.validation.n)
        + run.n_threads * member + panels + rounded(net.n_layers * sizeof(real *)) + 64
    )
    cdef Memory memory = Memory(size)
    fill_workspace(run, &run.ws, memory, lanes)
    run.ranges = <rn.Range *> memory.take(n_ranges)
    run.penalties = <rn.Range *> memory.take(n_ranges)
    if keeps_data:
        keep_gathered(run, &run.data, memory)
    if run.validation.n > 0:
        keep_gathered(run, &run.validation, memory)
    if blocks > 0:
        run.block_gradients = <real *> memory.take(blocks)
    if run.n_threads > 1:
        run.members = <rn.Member *> memory.take(run.n_threads * sizeof(rn.Member))
        run.panels = <real **> memory.take(net.n_layers * sizeof(real *))
        for l in range(net.n_layers):
            run.panels[l] = <real *> memory.take((net.layers[l].n_out + GROUP_LANES) * lanes * sizeof(real))
        for rank in range(run.n_threads):
            run.members[rank].run = run
            run.members[rank].rank = rank
            if shares_blocks:
                fill_workspace(run, &run.members[rank].block_ws, memory, lanes)
            take_pointers(net, &run.members[rank].ws, memory)
            run.members[rank].ws.scratch = <real *> memory.take(scratch)
    return memory


cdef bint keeps_scores(const rn.Run *run, Py_ssize_t l) noexcept:
    cdef const Layer *layer = run.net.layers + l
    return needs_scores(layer.activation) or (
        l == run.net.n_layers - 1 and lss.from_scores(run.loss.kind, layer.activation)
    )


cdef int fill_rows(rn.Rows *rows, Buffers buffers, data, bint labels) except -1:
    X, targets, weight = data
    if (targets.ndim == 1) != labels:
        raise ValueError("validation: needs targets of the training data's form, class labels or rows of numbers")
    rows.n = len(X)
    rows.X = <const real *> buffers.add(X, sizeof(real), False)
    if labels:
        rows.labels = <const int64_t *> buffers.add(targets, sizeof(int64_t), False)
    else:
        rows.y = <const real *> buffers.add(targets, sizeof(real), False)
    if weight is not None:
        rows.weight = <const real *> buffers.add(weight, sizeof(real), False)
    return 0


cdef int fill_data(rn.Run *run, Buffers buffers, data, loss) except -1:
    fill_loss(&run.loss, loss, data.targets)
    fill_rows(&run.data, buffers, data, run.loss.labels)
    return 0


def loss_and_gradient(Plan plan not None, loss, parameters, data, gradient, input_gradient=None):
    cdef rn.Run run
    cdef Buffers buffers = Buffers()
    cdef double value, denominator
    cdef unsigned int saved
    memset(&run, 0, sizeof(run))
    run.net = &plan.net
    run.parameters = <real *> buffers.add(parameters, sizeof(real), False)
    fill_data(&run, buffers, data, loss)
    run.n_threads = 1
    run.batch_size = run.data.n
    run.max_chunk = plan.max_chunk()
    if input_gradient is not None:
        run.input_gradient = <real *> buffers.add(input_gradient, sizeof(real), True)
    memory = new_workspace(&run, False, 0)  # no-cython-lint: it keeps the buffers alive
    fill_ranges(&run, &plan.net)
    if gradient is not None:
        run.gradient = <real *> buffers.add(gradient, sizeof(real), True)
        memset(run.gradient, 0, plan.n_parameters * sizeof(real))
    with nogil:
        saved = enter_compute()
        denominator = trn.denominator_of(&run, trn.weight_of(&run.data, 0, run.data.n))
        value = trn.data_loss(&run, &run.data, 0, run.data.n, denominator, run.gradient, Sink(SET, 0, 0, NULL, False))
        value += trn.penalty(&run, run.gradient, 1)
        leave_compute(saved)
    return value


cdef void outputs_of_chunk(rn.Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """run.ws.a[...] for rows first ... first + n; dropped as run.batch says."""
    cdef Workspace *ws = &run.ws
    if ws.tiles.n_rows != n:
        cut_tiles(&ws.tiles, n, run.net.splits_few)
    if run.batch.drops:
        place_rows(&ws.dropout, run.batch.key, first, &ws.tiles)
    gather_rows(&ws.tiles, run.data.X, run.net.n_inputs, NULL, first, ws.a[0])
    forward_pass(run.net, run.parameters, ws)


cdef void gradients_of_chunk(rn.Run *run, Py_ssize_t first, const real *output_gradient, Sink *sink) noexcept nogil:
    """The gradients of the chunk in run.ws, which begins at row `first` of (n_rows, n_outputs) output_gradient."""
    cdef const Layer *last = run.net.layers + run.net.n_layers - 1
    cdef Workspace *ws = &run.ws
    cdef real *delta = ws.delta[run.net.n_layers]
    cdef Py_ssize_t o, k, width
    cdef int t
    gather_rows(&ws.tiles, output_gradient, last.n_out, NULL, first, delta)
    for t in range(ws.tiles.n_tiles):  # lanes that hold no sample have no gradient
        width = ws.tiles.vecs[t] * LANES
        for o in range(last.n_out):
            for k in range(ws.tiles.rows[t], width):
                delta[last.n_out * ws.tiles.start[t] + o * width + k] = 0
    multiply_derivative(
        last.activation, last.alpha, &ws.tiles, last.n_out, ws.z[run.net.n_layers], ws.a[run.net.n_layers], delta
    )
    if run.gradient != NULL:
        backward_pass(run.net, run.parameters, ws, run.gradient, sink)
    if run.input_gradient != NULL:
        input_delta(run.net, run.parameters, ws)
        scatter_rows(&ws.tiles, ws.delta[0], run.net.n_inputs, run.input_gradient + first * run.net.n_inputs)


def backward(Plan plan not None, parameters, X, head, gradient, input_gradient, dropout_key=None):
    import numpy

    cdef rn.Run run
    cdef Buffers buffers = Buffers()
    cdef Py_ssize_t n_rows = len(X), chunk, first = 0, n
    cdef real *outputs_p
    cdef const real *output_gradient_p
    cdef Sink sink = Sink(SET, 0, 0, NULL, False)
    cdef unsigned int saved
    memset(&run, 0, sizeof(run))
    run.net = &plan.net
    run.loss.kind = lss.SQUARED_ERROR  # any that needs no scores
    run.parameters = <real *> buffers.add(parameters, sizeof(real), False)
    run.data.X = <const real *> buffers.add(X, sizeof(real), False)
    run.data.n = n_rows
    run.n_threads = 1
    run.batch_size = n_rows
    run.max_chunk = plan.max_chunk()
    if dropout_key is not None and plan.net.has_dropout:
        run.batch.drops = True
        run.batch.key = <uint64_t> dropout_key
    if gradient is not None:
        run.gradient = <real *> buffers.add(gradient, sizeof(real), True)
        memset(run.gradient, 0, plan.n_parameters * sizeof(real))
    if input_gradient is not None:
        run.input_gradient = <real *> buffers.add(input_gradient, sizeof(real), True)
    memory = new_workspace(&run, False, 0)  # no-cython-lint: it keeps the buffers alive
    chunk = rn.chunk_length(n_rows, run.max_chunk)
    outputs = numpy.empty((n_rows, plan.n_outputs), X.dtype)
    outputs_p = <real *> buffers.add(outputs, sizeof(real), True)
    with nogil:
        saved = enter_compute()
        while first < n_rows:
            n = min(chunk, n_rows - first)
            outputs_of_chunk(&run, first, n)
            scatter_rows(
                &run.ws.tiles, run.ws.a[plan.net.n_layers], plan.net.n_outputs, outputs_p + first * plan.net.n_outputs
            )
            first += n
        leave_compute(saved)
    output_gradient = head(outputs)
    if output_gradient.shape != outputs.shape:
        raise ValueError(f"head: needs to return shape {outputs.shape}, got {output_gradient.shape}")
    output_gradient_p = <const real *> buffers.add(output_gradient, sizeof(real), False)
    first = 0
    with nogil:
        saved = enter_compute()
        while first < n_rows:
            n = min(chunk, n_rows - first)
            if n < n_rows:  # a single chunk is still there
                outputs_of_chunk(&run, first, n)
            gradients_of_chunk(&run, first, output_gradient_p, &sink)
            sink.mode = ADD
            first += n
        leave_compute(saved)


def update(Plan plan not None, optimizer, parameters, gradient, slots, long long step, double learning_rate):
    cdef rn.Run run
    cdef Buffers buffers = Buffers()
    cdef Memory memory = Memory(4 * rounded((plan.net.n_layers + 1) * 2 * sizeof(rn.Range)))
    cdef unsigned int saved
    memset(&run, 0, sizeof(run))
    run.net = &plan.net
    run.ranges = <rn.Range *> memory.take((plan.net.n_layers + 1) * 2 * sizeof(rn.Range))
    run.penalties = <rn.Range *> memory.take((plan.net.n_layers + 1) * 2 * sizeof(rn.Range))
    run.parameters = <real *> buffers.add(parameters, sizeof(real), True)
    run.gradient = <real *> buffers.add(gradient, sizeof(real), False)
    run.slots = <real *> buffers.add(slots, sizeof(real), True)
    run.step = step
    fill_optimizer(&run.optimizer, optimizer)
    fill_ranges(&run, &plan.net)
    with nogil:
        saved = enter_compute()
        trn.update_parameters(&run, learning_rate)
        leave_compute(saved)


# ---- training ----

cdef class Training:
    cdef rn.Run native
    cdef Plan plan
    cdef Memory memory
    cdef Buffers buffers
    cdef Buffers rates
    cdef object state

    def __init__(self, Plan plan not None, loss, optimizer, settings, data, state, learning_rates, validation=None):
        cdef rn.Run *run = &self.native
        cdef bint shuffled
        self.plan = plan
        self.buffers = Buffers()
        self.state = state
        run.net = &plan.net
        fill_data(run, self.buffers, data, loss)
        fill_optimizer(&run.optimizer, optimizer)
        if validation is not None:
            fill_rows(&run.validation, self.buffers, validation, run.loss.labels)
            run.validation_denominator = trn.denominator_of(
                run, trn.weight_of(&run.validation, 0, run.validation.n)
            )
        run.batch_size = run.data.n
        if settings.batch_size is not None:
            run.batch_size = min(<Py_ssize_t> settings.batch_size, run.data.n)
        run.max_chunk = plan.max_chunk()
        run.n_threads = min(<int> settings.n_threads, <int> rn.MAX_THREADS)
        run.clip_norm = settings.clip_norm or 0
        run.clip_value = settings.clip_value or 0
        run.has_tolerance = settings.tolerance is not None
        run.tolerance = settings.tolerance or 0
        run.equal_is_progress = settings.equal_is_progress
        run.patience = settings.patience
        run.penalty_per_row = settings.penalty_per_row
        run.watches_validation = settings.monitor == "val_loss"
        self.set_learning_rates(learning_rates)
        run.parameters = <real *> self.buffers.add(state.parameters, sizeof(real), True)
        run.slots = <real *> self.buffers.add(state.slots, sizeof(real), True)
        if settings.keep_best:
            if len(state.best_parameters) != plan.n_parameters:
                state.best_parameters = state.parameters.copy()
            run.best_parameters = <real *> self.buffers.add(state.best_parameters, sizeof(real), True)
        shuffled = settings.shuffle and run.batch_size < run.data.n
        if shuffled:
            if len(state.permutation) != run.data.n:
                import numpy

                state.permutation = numpy.arange(run.data.n, dtype=numpy.int64)
            run.data.order = <int64_t *> self.buffers.add(state.permutation, sizeof(int64_t), True)
        if shuffled or plan.net.has_dropout:
            run.bits = <BitGenerator *> PyCapsule_GetPointer(state.bit_generator.capsule, "BitGenerator")
        run.steps_per_look = 1
        self.memory = new_workspace(run, True, rounded(plan.n_parameters * sizeof(real)))
        run.gradient = <real *> self.memory.take(plan.n_parameters * sizeof(real))
        fill_ranges(run, &plan.net)

    def set_learning_rates(self, learning_rates):
        self.rates = Buffers()
        self.native.rates = <const double *> self.rates.add(learning_rates, sizeof(double), False)
        self.native.n_rates = len(learning_rates)
        self.native.first_step = self.state.step

    cdef object draws_of_step(self):
        """How many random numbers the step at hand took: for the order of the rows, and for its dropout."""
        cdef bint shuffled = self.native.cursor == 0 and self.native.data.order != NULL
        return (self.native.data.n - 1 if shuffled else 0) + self.native.net.has_dropout

    def run(self, long long last_epoch, double seconds, losses, validation_losses=None, last_step=None):
        cdef rn.Run *run = &self.native
        cdef Buffers buffers = Buffers()
        cdef double *losses_p = <double *> buffers.add(losses, sizeof(double), True)
        cdef double *validation_losses_p = NULL
        cdef long long final_step = LLONG_MAX if last_step is None else last_step
        cdef unsigned int saved
        cdef int reason
        state = self.state
        if run.step != state.step or run.epoch != state.epoch:
            run.validated = 0
            run.validation_sum = 0
            run.paused = False
        run.step = state.step
        run.epoch = state.epoch
        run.cursor = state.cursor
        run.loss_sum = state.loss_sum
        run.weight_sum = state.weight_sum
        run.best_loss = state.best_loss
        run.best_epoch = state.best_epoch
        run.stale_epochs = state.stale_epochs
        if last_epoch - run.epoch > len(losses):
            raise ValueError(f"losses: needs room for {last_epoch - run.epoch} epochs, got {len(losses)}")
        if run.validation.n > 0:
            validation_losses_p = <double *> buffers.add(validation_losses, sizeof(double), True)
            if last_epoch - run.epoch > len(validation_losses):
                raise ValueError(
                    f"validation_losses: needs room for {last_epoch - run.epoch} epochs, got {len(validation_losses)}"
                )
        if run.paused:
            state.bit_generator.advance(self.draws_of_step())
        with nogil:
            saved = enter_compute()
            reason = trn.train(run, last_epoch, final_step, seconds, losses_p, validation_losses_p)
            leave_compute(saved)
        if run.paused:  # to whoever looks at the state, the step has not begun
            state.bit_generator.advance(2**128 - self.draws_of_step())
        state.step = run.step
        state.epoch = run.epoch
        state.cursor = run.cursor
        state.loss_sum = run.loss_sum
        state.weight_sum = run.weight_sum
        state.best_loss = run.best_loss
        state.best_epoch = run.best_epoch
        state.stale_epochs = run.stale_epochs
        return STOP_REASONS[reason]


# ---- for the tests ----

ctypedef vec (*VectorFunction)(vec x) noexcept nogil

vector_math_names = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "root")


cdef inline template map_vector(VectorFunction function, const real *x, real *out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n:
        vstore_n(out + i, function(vload_n(x + i, min(n - i, <Py_ssize_t> LANES))), min(n - i, <Py_ssize_t> LANES))
        i += LANES


def vector_math(name, x, out):
    """out = the vector function `name` of x; both 1-D of this core's dtype."""
    cdef Buffers buffers = Buffers()
    cdef const real *x_p = <const real *> buffers.add(x, sizeof(real), False)
    cdef real *out_p = <real *> buffers.add(out, sizeof(real), True)
    cdef Py_ssize_t n = len(x)
    cdef int code = vector_math_names.index(name)
    with nogil:
        if code == 0:
            map_vector(vexp, x_p, out_p, n)
        elif code == 1:
            map_vector(vexpm1, x_p, out_p, n)
        elif code == 2:
            map_vector(vlog, x_p, out_p, n)
        elif code == 3:
            map_vector(vlog1p, x_p, out_p, n)
        elif code == 4:
            map_vector(vtanh, x_p, out_p, n)
        elif code == 5:
            map_vector(vsigmoid, x_p, out_p, n)
        elif code == 6:
            map_vector(verf, x_p, out_p, n)
        else:
            map_vector(vroot, x_p, out_p, n)
