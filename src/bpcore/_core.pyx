"""The compiled core for one instruction set and one dtype: a `Core` as `backprop.backends.contract` has it.

Entry points only: they fill structs from Python objects, hold the arrays, and release the GIL.
"""

from backprop.reference.layout import layout

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.float cimport DBL_MAX
from libc.limits cimport LLONG_MAX
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from bpcore.derivatives.curvature cimport add_curvature_product
from bpcore.derivatives.of_inputs cimport input_hessian, input_jacobian, input_laplacian
from bpcore.derivatives.row_gradients cimport row_gradients, row_jacobian
from bpcore.derivatives.slopes cimport Slopes, slopes_pass, take_slopes
from bpcore.derivatives.tangents cimport Tangents, take_tangents, tangents_chunk
from bpcore.fleet.fleet cimport RUNNING, Fleet, FleetRows, Member, RateTable, batch_of, is_waiting
from bpcore.fleet.workers cimport (
    FleetTeam, count_threads, lanes_pay, least_members, suits_lanes, take_team, train_fleet,
)
from bpcore.formulas cimport activations, losses as loss_formulas, optimizers
from bpcore.formulas.losses cimport Loss
from bpcore.formulas.optimizers cimport MAX_HYPERPARAMETERS, Optimizer
from bpcore.machine.threads cimport now
from bpcore.machine.types cimport (
    GROUP_LANES, LANES, always_inlined, enter_compute, leave_compute, real, vec, vload_n, vstore_n,
)
from bpcore.machine.vmath cimport verf, vexp, vexpm1, vlog, vlog1p, vroot, vsigmoid, vtanh
from bpcore.passes cimport network
from bpcore.passes.batches cimport BitGenerator
from bpcore.passes.network cimport DENSE, Layer, Network, gains_by_splitting
from bpcore.passes.prediction cimport predict
from bpcore.products.sinks cimport SET, sink_to
from bpcore.run cimport epochs, partition, run as rn
from bpcore.run.batch cimport data_loss
from bpcore.run.heads cimport all_gradients, all_outputs
from bpcore.run.job cimport (
    Average, Job, Rows, chunk_length, denominator_of, factor_of, fill_ranges, is_plain_sgd, max_chunk_of,
    solver_chunk_of, targets_per_row, weight_of,
)
from bpcore.run.penalties cimport add_penalties, limit_all_norms
from bpcore.run.run cimport set_alone, take_ranges
from bpcore.run.state cimport State
from bpcore.run.step cimport update_parameters
from bpcore.run.team cimport start_team, stop_team
from bpcore.run.team_size cimport ALL, ONE_ALONE, begin_size, present_size
from bpcore.run.workspace cimport (
    Arena, lanes_of, most_rows, reserve, rounded, shares_blocks, take, take_reals,
)
from bpcore.solve.evidence cimport Evidence, fill_prior, take_evidence
from bpcore.solve.gauss_newton cimport chunk_for, trainable_parameters
from bpcore.solve.lbfgs cimport Lbfgs, advance_lbfgs, begin_lbfgs, recall_pairs, take_lbfgs
from bpcore.solve.levenberg cimport Levenberg, advance_levenberg, begin_levenberg, take_levenberg
from bpcore.solve.solution cimport (
    EVALUATIONS, GRADIENT, ITERATIONS, LOSS, NONE, NOT_FINITE, STUCK, TIME, Reason, Solution,
)


ctypedef const char *(*NameOf)(int kind) noexcept

cdef tuple names(NameOf name_of):
    """The names of all kinds, in the order of their numbers."""
    cdef list found = []
    while name_of(<int> len(found)) != NULL:
        found.append(name_of(<int> len(found)).decode())
    return tuple(found)

cdef inline const char *activation_name(int kind) noexcept:
    return activations.activation_name(<activations.ActivationKind> kind)

cdef inline const char *loss_name(int kind) noexcept:
    return loss_formulas.loss_name(<loss_formulas.LossKind> kind)

cdef inline const char *optimizer_name(int kind) noexcept:
    return optimizers.optimizer_name(<optimizers.OptimizerKind> kind)


ACTIVATIONS = names(activation_name)
LOSSES = names(loss_name)
OPTIMIZERS = names(optimizer_name)
FEW_OUTPUTS = network.FEW_OUTPUTS
MAX_THREADS = partition.MAX_THREADS
VECTOR_BYTES = LANES * sizeof(real)
STOP_REASONS = {
    epochs.EPOCHS: "epochs", epochs.TOLERANCE: "tolerance", epochs.DIVERGED: "diverged", epochs.TIME: "time"
}
SOLVE_REASONS = {
    ITERATIONS: "iterations", GRADIENT: "gradient", LOSS: "loss", EVALUATIONS: "evaluations", STUCK: "stuck",
    NOT_FINITE: "not finite", TIME: "time",
}


# ---- memory ----

cdef int lack_memory(Py_ssize_t size, str what) except -1:
    raise MemoryError(f"backprop needs {size} bytes for {what}")


cdef void *allocate(Py_ssize_t size, str what) except NULL:
    """Memory for what is named, which the caller frees; malloc may have no block of no bytes."""
    cdef void *block = malloc(max(size, <Py_ssize_t> 1))
    if block == NULL:
        lack_memory(size, what)
    return block


cdef class Memory:
    """The block of an arena, freed with this object."""

    cdef Arena arena

    cdef int obtain(self, str what) except -1:
        """Get as much memory as was measured."""
        if not reserve(&self.arena):
            lack_memory(self.arena.size, what)
        return 0

    def __dealloc__(self):
        free(self.arena.block)


cdef Memory take_memory(rn.Run *run, bint keeps_data, bint keeps_gradient):
    """The buffers of a run: measured first, then taken from one block."""
    cdef Memory memory = Memory()
    cdef Py_ssize_t measured
    rn.take_memory(&memory.arena, run, keeps_data, keeps_gradient)
    measured = memory.arena.used
    memory.obtain("a workspace")
    rn.take_memory(&memory.arena, run, keeps_data, keeps_gradient)
    if memory.arena.used != measured:
        raise AssertionError(f"the workspace was measured as {measured} bytes, and has {memory.arena.used}")
    return memory


cdef enum:
    MAX_VIEWS = 20

cdef class Buffers:
    """What belongs to the caller, held while the core works on it: arrays, and a compiled loss."""

    cdef Py_buffer views[MAX_VIEWS]
    cdef int n_views
    cdef object loss  # whose function the core calls

    cdef void *add(self, object array, Py_ssize_t itemsize, Py_ssize_t n, bint writable) except NULL:
        """The first of the array's n items; they were checked at the Python edge, this guards against a wrong call."""
        cdef Py_buffer *view = self.views + self.n_views
        if self.n_views == MAX_VIEWS:
            raise AssertionError(f"needs room for more than {MAX_VIEWS} arrays")
        PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
        self.n_views += 1
        if view.itemsize != itemsize:
            raise TypeError(f"expected items of {itemsize} bytes, got {view.itemsize}")
        if view.len != n * itemsize:
            raise ValueError(f"expected {n} items, got {view.len // itemsize}")
        # an empty array may have no memory; nothing is read from it then
        return view.buf if view.buf != NULL else <void *> self

    cdef const real *reals(self, object array, Py_ssize_t n) except NULL:
        return <const real *> self.add(array, sizeof(real), n, False)

    cdef real *writable_reals(self, object array, Py_ssize_t n) except NULL:
        return <real *> self.add(array, sizeof(real), n, True)

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_views):
            PyBuffer_Release(self.views + i)


# ---- the plan ----

cdef class Plan:
    """A network's layers as C structs."""

    cdef Network net
    cdef Layer *layers
    cdef readonly Py_ssize_t n_inputs, n_outputs, n_parameters

    def __init__(self, Py_ssize_t n_inputs, layers):
        cdef int l
        self.layers = <Layer *> allocate(len(layers) * sizeof(Layer), "the layers")
        memset(self.layers, 0, len(layers) * sizeof(Layer))
        self.net.layers = self.layers
        self.net.n_layers = len(layers)
        self.net.n_inputs = n_inputs
        for l, settings in enumerate(layers):
            self.fill_layer(l, settings)
        self.place_arrays(layers)
        self.sum_up()
        self.n_inputs, self.n_outputs, self.n_parameters = n_inputs, self.net.n_outputs, self.net.n_parameters

    cdef int fill_layer(self, int l, settings) except -1:
        cdef Layer *layer = self.layers + l
        layer.kind = DENSE
        layer.reads = l - 1  # `predict` and `delta_below` expect that each reads the one before it
        layer.n_in = self.net.n_inputs if layer.reads == network.NETWORK_INPUTS else self.layers[layer.reads].n_out
        layer.n_out = settings.units
        layer.activation = <activations.ActivationKind> <int> ACTIVATIONS.index(settings.activation)
        layer.alpha = 0 if settings.alpha is None else settings.alpha
        layer.trainable = settings.trainable
        layer.l1 = settings.l1
        layer.l2 = settings.l2
        layer.dropout = settings.dropout
        layer.max_norm = settings.max_norm or 0
        return 0

    cdef int place_arrays(self, layers) except -1:
        """Where each array lies: from the one table that all read."""
        cdef Layer *layer
        for array in layout(self.net.n_inputs, layers):
            layer = self.layers + <int> array.layer
            if array.name == "weights":
                layer.weights = array.start
            elif array.name == "biases":
                layer.biases = array.start
                layer.has_bias = True
                layer.bias_trainable = array.trainable
            elif array.name == "slopes":
                layer.slopes = array.start
                layer.has_slopes = True
            else:
                raise AssertionError(f"layers[{array.layer}]: the core knows no array {array.name!r}")
            self.net.n_parameters = array.start + array.size
        return 0

    cdef void sum_up(self) noexcept:
        """What is known of the whole network."""
        cdef const Layer *layer
        cdef int l
        self.net.width_sum = self.net.width_max = self.net.n_outputs = self.net.n_inputs
        self.net.first_trainable = self.net.n_layers
        for l in range(self.net.n_layers):
            layer = self.net.layers + l
            self.net.width_sum += layer.n_out
            self.net.width_max = max(self.net.width_max, layer.n_out)
            self.net.n_outputs = layer.n_out
            self.net.has_dropout = self.net.has_dropout or layer.dropout > 0
            self.net.has_max_norm = self.net.has_max_norm or layer.max_norm > 0
            if (layer.trainable or layer.bias_trainable) and self.net.first_trainable == self.net.n_layers:
                self.net.first_trainable = l
        self.net.splits_short_tile = gains_by_splitting(&self.net)

    def __dealloc__(self):
        free(self.layers)


# ---- prediction ----

def forward(Plan plan not None, parameters, X, out):
    """Fill `out` (n, n_outputs); False where X (n, n_inputs) holds a NaN or an infinity."""
    cdef Buffers buffers = Buffers()
    cdef Py_ssize_t n_rows = len(X)
    cdef const real *parameters_p = buffers.reals(parameters, plan.n_parameters)
    cdef const real *X_p = buffers.reals(X, n_rows * plan.n_inputs)
    cdef real *out_p = buffers.writable_reals(out, n_rows * plan.n_outputs)
    cdef Py_ssize_t chunk = min(max_chunk_of(&plan.net), (n_rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES)
    cdef Py_ssize_t half = rounded(plan.net.width_max * chunk * sizeof(real))
    cdef real *room = <real *> allocate(3 * half + 64, "a workspace")
    cdef real *first = <real *> ((<uintptr_t> room + 63) & ~<uintptr_t> 63)
    cdef bint finite
    cdef unsigned int saved
    with nogil:
        saved = enter_compute()
        finite = predict(
            &plan.net, parameters_p, X_p, n_rows, chunk, first, first + half // <Py_ssize_t> sizeof(real),
            first + 2 * half // <Py_ssize_t> sizeof(real), out_p
        )
        leave_compute(saved)
        free(room)
    return finite


# ---- what a job is made of ----

cdef int fill_loss(Loss *native, Buffers buffers, loss, bint labels) except -1:
    cdef int i
    cdef double value
    parameters = loss.parameters
    if len(parameters) > loss_formulas.MAX_LOSS_PARAMETERS:
        raise AssertionError(f"loss: the core has room for {loss_formulas.MAX_LOSS_PARAMETERS} parameters")
    if loss.name in LOSSES:
        native.kind = <loss_formulas.LossKind> <int> LOSSES.index(loss.name)
    else:
        native.kind = loss_formulas.COMPILED
        function, user, batched = loss.pointers(f"float{sizeof(real) * 8}")
        if batched:
            native.batch_function = <loss_formulas.CompiledBatchLoss> <uintptr_t> function
        else:
            native.function = <loss_formulas.CompiledLoss> <uintptr_t> function
        native.user = <void *> <uintptr_t> user
        buffers.loss = loss
    for i, value in enumerate(parameters):
        native.parameters[i] = value
    native.scale = loss.scale
    native.mean = loss.reduction == "mean"
    native.elementwise = loss.elementwise
    native.labels = labels
    return 0


cdef int fill_optimizer(Optimizer *native, optimizer) except -1:
    cdef int i
    cdef double value
    hyperparameters = optimizer.hyperparameters
    if len(hyperparameters) > MAX_HYPERPARAMETERS:
        raise AssertionError(f"optimizer: the core has room for {MAX_HYPERPARAMETERS} hyperparameters")
    native.kind = <optimizers.OptimizerKind> <int> OPTIMIZERS.index(optimizer.name)
    for i, value in enumerate(hyperparameters):
        native.hyper[i] = value
    return 0


cdef real *take_slots(Buffers buffers, Plan plan, optimizer, slots) except NULL:
    """The array (n_slots, n_parameters) of what the optimizer remembers."""
    if optimizer.n_slots > optimizers.MAX_SLOTS:
        raise AssertionError(f"optimizer: the core has room for {optimizers.MAX_SLOTS} slots")
    return buffers.writable_reals(slots, <Py_ssize_t> optimizer.n_slots * plan.n_parameters)


cdef int fill_rows(Rows *rows, Buffers buffers, Plan plan, data, bint labels, Py_ssize_t n_targets) except -1:
    X, targets, weight = data
    if (targets.ndim == 1) != labels:
        raise ValueError("validation: needs targets of the training data's form, class labels or rows of numbers")
    rows.n = len(X)
    rows.X = buffers.reals(X, rows.n * plan.n_inputs)
    if labels:
        rows.labels = <const int64_t *> buffers.add(targets, sizeof(int64_t), rows.n, False)
    else:
        rows.y = buffers.reals(targets, rows.n * n_targets)
    if weight is not None:
        rows.weight = buffers.reals(weight, rows.n)
    return 0


cdef int fill_stop_rule(Job *job, settings) except -1:
    """When a run stops, and what comes between its gradients and the optimizer."""
    job.clip_norm = settings.clip_norm or 0
    job.clip_value = settings.clip_value or 0
    job.has_tolerance = settings.tolerance is not None
    job.tolerance = settings.tolerance or 0
    job.equal_is_progress = settings.equal_is_progress
    job.patience = settings.patience
    job.penalty_per_row = settings.penalty_per_row
    job.watches_validation = settings.monitor == "val_loss"
    return 0


cdef int fill_average(Average *native, settings) except -1:
    """What average of the parameters is kept, if any."""
    average = settings.average
    native.wanted = average is not None
    if native.wanted:
        native.measured = average.measured
        native.decay = average.decay or 0
        native.start = average.start
        native.every = average.every or 0
    return 0


cdef int fill_job(Job *job, Buffers buffers, Plan plan, loss, data) except -1:
    """What every job has: the network, the loss and the data, in one batch."""
    job.net = &plan.net
    if loss.sees_derivatives:
        job.slopes_per_row = plan.n_outputs * plan.n_inputs
        loss = loss.loss
    fill_loss(&job.loss, buffers, loss, data.targets.ndim == 1)
    fill_rows(&job.data, buffers, plan, data, job.loss.labels, targets_per_row(job))
    job.batch_size = job.data.n
    job.max_chunk = max_chunk_of(&plan.net)
    return 0


cdef class SlopePass:
    """What a loss that sees derivatives needs."""

    cdef Network net  # the plan's, but by chunks
    cdef Slopes slopes[partition.MAX_THREADS]
    cdef Memory own


cdef SlopePass take_slope_pass(rn.Run *run, Plan plan, loss):
    """Let such a loss have its own pass, before the memory of the run is taken; None for other losses.

    The team, whose size is known, shares blocks of chunks. Where there are none, there is one thread.
    """
    cdef SlopePass found
    cdef Job *job = &run.job
    cdef Arena *arena
    cdef int times, k
    if job.slopes_per_row == 0:
        return None
    found = SlopePass()
    found.net = plan.net
    found.net.by_chunks = True
    job.net = &found.net
    job.own_pass = slopes_pass
    job.own = found.slopes
    job.all_scores = True
    job.max_chunk = tangents_chunk(max_chunk_of(&plan.net), plan.n_inputs)
    if not shares_blocks(job, most_rows(job)):
        set_alone(run)
    found.own = Memory()
    arena = &found.own.arena
    for times in range(2):
        if times == 1:
            found.own.obtain("derivatives")
        for k in range(run.team.size.most):
            found.slopes[k].ratio = loss.weight / (loss.loss.scale * (plan.n_inputs if job.loss.mean else 1))
            found.slopes[k].tangents.k = plan.n_inputs
            take_slopes(arena, job, found.slopes + k)
    return found


# ---- loss, gradient, update ----

cdef int ask_for_gradients(rn.Run *run, Buffers buffers, Plan plan, gradient, input_gradient) except -1:
    if gradient is not None:
        run.workspace.gradient = buffers.writable_reals(gradient, plan.n_parameters)
        memset(run.workspace.gradient, 0, plan.n_parameters * sizeof(real))
    if input_gradient is not None:
        run.workspace.input_gradient = buffers.writable_reals(input_gradient, run.job.data.n * plan.n_inputs)
    return 0


def loss_and_gradient(Plan plan not None, loss, parameters, data, gradient, input_gradient=None):
    """The loss over all rows, penalties included; its gradients go into what is not None."""
    cdef rn.Run run
    cdef Buffers buffers = Buffers()
    cdef Memory memory
    cdef SlopePass slope_pass
    cdef double value, denominator
    cdef unsigned int saved
    memset(&run, 0, sizeof(run))
    fill_job(&run.job, buffers, plan, loss, data)
    set_alone(&run)
    slope_pass = take_slope_pass(&run, plan, loss)  # no-cython-lint: it keeps its memory alive
    run.state.parameters = <real *> buffers.reals(parameters, plan.n_parameters)
    ask_for_gradients(&run, buffers, plan, gradient, input_gradient)
    memory = take_memory(&run, False, False)  # no-cython-lint: it keeps the buffers alive
    fill_ranges(&run.job)
    with nogil:
        saved = enter_compute()
        denominator = denominator_of(&run.job, weight_of(&run.job.data, 0, run.job.data.n))
        value = data_loss(
            &run, &run.workspace.data, 0, run.job.data.n, denominator, run.workspace.gradient,
            sink_to(SET),
        )
        value += add_penalties(&run.job, run.state.parameters, run.workspace.gradient, 1)
        leave_compute(saved)
    return value


def backward(Plan plan not None, parameters, X, head, gradient, input_gradient, dropout_key=None):
    """The gradients of any function of the outputs; `head` returns its gradient with respect to them."""
    import numpy

    cdef rn.Run run
    cdef Buffers buffers = Buffers()
    cdef Memory memory
    cdef Py_ssize_t n_rows = len(X), chunk
    cdef real *outputs_p
    cdef const real *output_gradient_p
    cdef unsigned int saved
    memset(&run, 0, sizeof(run))
    run.job.net = &plan.net
    run.job.loss.kind = loss_formulas.SQUARED_ERROR  # any that needs no scores
    run.job.data.n = run.job.batch_size = n_rows
    run.job.data.X = buffers.reals(X, n_rows * plan.n_inputs)
    run.job.max_chunk = max_chunk_of(&plan.net)
    run.state.parameters = <real *> buffers.reals(parameters, plan.n_parameters)
    set_alone(&run)
    if dropout_key is not None and plan.net.has_dropout:
        run.workspace.batch.drops = True
        run.workspace.batch.key = <uint64_t> dropout_key
    ask_for_gradients(&run, buffers, plan, gradient, input_gradient)
    memory = take_memory(&run, False, False)  # no-cython-lint: it keeps the buffers alive
    chunk = chunk_length(n_rows, run.job.max_chunk)
    outputs = numpy.empty((n_rows, plan.n_outputs), X.dtype)
    outputs_p = buffers.writable_reals(outputs, n_rows * plan.n_outputs)
    with nogil:
        saved = enter_compute()
        all_outputs(&run, chunk, outputs_p)
        leave_compute(saved)
    output_gradient = head(outputs)
    if output_gradient.shape != outputs.shape:
        raise ValueError(f"head: needs to return shape {outputs.shape}, got {output_gradient.shape}")
    output_gradient_p = buffers.reals(output_gradient, n_rows * plan.n_outputs)
    with nogil:
        saved = enter_compute()
        all_gradients(&run, chunk, output_gradient_p)
        leave_compute(saved)


def update(Plan plan not None, optimizer, parameters, gradient, slots, long long step, double learning_rate):
    """One optimizer step, in place; `step` counts from 1."""
    cdef rn.Run run
    cdef Buffers buffers = Buffers()
    cdef Memory memory
    cdef unsigned int saved
    memset(&run, 0, sizeof(run))
    run.job.net = &plan.net
    run.job.max_chunk = GROUP_LANES
    set_alone(&run)
    fill_optimizer(&run.job.optimizer, optimizer)
    memory = take_memory(&run, False, False)  # no-cython-lint: it keeps the buffers alive
    fill_ranges(&run.job)
    run.state.parameters = buffers.writable_reals(parameters, plan.n_parameters)
    run.state.slots = take_slots(buffers, plan, optimizer, slots)
    run.state.step = step
    run.workspace.gradient = <real *> buffers.reals(gradient, plan.n_parameters)
    with nogil:
        saved = enter_compute()
        update_parameters(&run, learning_rate)
        leave_compute(saved)


def limit_norms(Plan plan not None, parameters):
    """What follows an optimizer step, in place: the weights into each unit get at most the norm max_norm."""
    cdef Buffers buffers = Buffers()
    cdef real *parameters_p = buffers.writable_reals(parameters, plan.n_parameters)
    cdef unsigned int saved
    with nogil:
        saved = enter_compute()
        limit_all_norms(&plan.net, parameters_p)
        leave_compute(saved)


include "run/training.pxi"
include "solve/solving.pxi"
include "derivatives/derivatives.pxi"
include "fleet/training.pxi"
include "machine/vector_math.pxi"
