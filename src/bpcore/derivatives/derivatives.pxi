# The derivatives of `backprop.backends.contract`, part of `_core.pyx`.

cdef class Differentiation:
    """A pass over rows, by one thread: a run, and room for k tangents."""

    cdef rn.Run run
    cdef Tangents tangents
    cdef Memory memory
    cdef Memory own
    cdef Buffers buffers
    cdef real *pairs  # [k][k][lanes], for the second derivatives by pairs of inputs

    def __init__(self, Plan plan not None, parameters):
        self.buffers = Buffers()
        self.run.job.net = &plan.net
        self.run.state.parameters = <real *> self.buffers.reals(parameters, plan.n_parameters)
        self.run.job.all_scores = True
        set_alone(&self.run)

    cdef int of_outputs(self, Plan plan, X) except -1:
        cdef Job *job = &self.run.job
        job.loss.kind = loss_formulas.SQUARED_ERROR  # any that needs no scores
        job.data.n = job.batch_size = len(X)
        job.data.X = self.buffers.reals(X, job.data.n * plan.n_inputs)
        job.max_chunk = max_chunk_of(&plan.net)
        return 0

    cdef double of_loss(self, Plan plan, loss, data) except? -1:
        """What the sum over the rows is divided by."""
        cdef Job *job = &self.run.job
        fill_job(job, self.buffers, plan, loss, data)
        return denominator_of(job, weight_of(&job.data, 0, job.data.n))

    cdef int take_room(self, Plan plan, Py_ssize_t k, bint pairs) except -1:
        """Room for k tangents, and for their pairs."""
        cdef Arena *arena
        cdef Py_ssize_t lanes
        cdef int times
        self.tangents.k = k
        self.run.job.max_chunk = tangents_chunk(self.run.job.max_chunk, k)
        self.memory = take_memory(&self.run, False, False)
        lanes = lanes_of(&self.run.job)
        self.own = Memory()
        arena = &self.own.arena
        for times in range(2):
            if times == 1:
                self.own.obtain("derivatives")
            take_tangents(arena, &plan.net, lanes, &self.tangents)
            self.pairs = take_reals(arena, k * k * lanes if pairs else 0)
        return 0


def jacobian(Plan plan not None, parameters, X, out):
    """Fill `out` (n, n_outputs, n_inputs)."""
    cdef Differentiation d = Differentiation(plan, parameters)
    cdef real *out_p
    cdef unsigned int saved
    d.of_outputs(plan, X)
    out_p = d.buffers.writable_reals(out, d.run.job.data.n * plan.n_outputs * plan.n_inputs)
    d.run.workspace.input_gradient = out_p  # asks for the delta of the inputs
    d.take_room(plan, 0, False)
    with nogil:
        saved = enter_compute()
        input_jacobian(&d.run, out_p)
        leave_compute(saved)


def parameter_jacobian(Plan plan not None, parameters, X, out):
    """Fill `out` (n, n_outputs, n_parameters)."""
    cdef Differentiation d = Differentiation(plan, parameters)
    cdef real *out_p
    cdef unsigned int saved
    d.of_outputs(plan, X)
    out_p = d.buffers.writable_reals(out, d.run.job.data.n * plan.n_outputs * plan.n_parameters)
    d.take_room(plan, 0, False)
    with nogil:
        saved = enter_compute()
        row_jacobian(&d.run, &d.tangents, out_p)
        leave_compute(saved)


def gradients_per_row(Plan plan not None, loss, parameters, data, out):
    """Fill `out` (n, n_parameters)."""
    cdef Differentiation d = Differentiation(plan, parameters)
    cdef double denominator = d.of_loss(plan, loss, data)
    cdef real *out_p = d.buffers.writable_reals(out, d.run.job.data.n * plan.n_parameters)
    cdef unsigned int saved
    d.take_room(plan, 0, False)
    with nogil:
        saved = enter_compute()
        row_gradients(&d.run, denominator, &d.tangents, out_p)
        leave_compute(saved)


def curvature_product(Plan plan not None, loss, parameters, data, vector, out, bint gauss_newton=False):
    """Fill `out` (n_parameters,) with the Hessian, or the Gauss-Newton matrix, times a vector."""
    cdef Differentiation d = Differentiation(plan, parameters)
    cdef double denominator = d.of_loss(plan, loss, data)
    cdef real *out_p = d.buffers.writable_reals(out, plan.n_parameters)
    cdef unsigned int saved
    d.tangents.moves = d.buffers.reals(vector, plan.n_parameters)
    d.take_room(plan, 1, False)
    memset(out_p, 0, plan.n_parameters * sizeof(real))
    with nogil:
        saved = enter_compute()
        add_curvature_product(&d.run, denominator, &d.tangents, gauss_newton, out_p)
        leave_compute(saved)


def hessian(Plan plan not None, parameters, X, out):
    """Fill `out` (n, n_outputs, n_inputs, n_inputs)."""
    cdef Differentiation d = Differentiation(plan, parameters)
    cdef real *out_p
    cdef unsigned int saved
    d.of_outputs(plan, X)
    out_p = d.buffers.writable_reals(out, d.run.job.data.n * plan.n_outputs * plan.n_inputs * plan.n_inputs)
    d.take_room(plan, plan.n_inputs, True)
    with nogil:
        saved = enter_compute()
        input_hessian(&d.run, &d.tangents, d.pairs, out_p)
        leave_compute(saved)


def laplacian(Plan plan not None, parameters, X, out):
    """Fill `out` (n, n_outputs)."""
    cdef Differentiation d = Differentiation(plan, parameters)
    cdef real *out_p
    cdef unsigned int saved
    d.of_outputs(plan, X)
    out_p = d.buffers.writable_reals(out, d.run.job.data.n * plan.n_outputs)
    d.take_room(plan, plan.n_inputs, False)
    with nogil:
        saved = enter_compute()
        input_laplacian(&d.run, &d.tangents, out_p)
        leave_compute(saved)
