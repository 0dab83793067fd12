# `Solving` of `backprop.backends.contract`, part of `_core.pyx`.

cdef class Solving:
    """A minimisation over fixed data: holds the buffers, changes `state` in place."""

    cdef rn.Run native
    cdef Solution solution
    cdef Lbfgs lbfgs
    cdef Levenberg lm
    cdef bint is_lbfgs
    cdef Plan plan
    cdef Memory memory
    cdef Memory own
    cdef SlopePass slope_pass
    cdef Buffers buffers
    cdef object state

    def __init__(self, Plan plan not None, loss, solver, data, state):
        cdef rn.Run *run = &self.native
        self.plan = plan
        self.buffers = Buffers()
        self.state = state
        fill_job(&run.job, self.buffers, plan, loss, data)
        set_alone(run)
        self.fill_solution(solver)
        self.fill_method(solver)
        self.slope_pass = take_slope_pass(run, plan, loss)
        self.memory = take_memory(run, True, True)
        fill_ranges(&run.job)
        self.take_own_memory()
        run.state.parameters = <real *> (<char *> self.own.arena.block)

    cdef int fill_solution(self, solver) except -1:
        cdef Solution *solution = &self.solution
        solution.n = self.plan.n_parameters
        solution.tolerance = solver.tolerance
        solution.loss_tolerance = solver.loss_tolerance
        solution.max_evaluations = solver.max_evaluations
        solution.point = <double *> self.buffers.add(self.state.point, sizeof(double), solution.n, True)
        solution.denominator = denominator_of(
            &self.native.job, weight_of(&self.native.job.data, 0, self.native.job.data.n)
        )
        return 0

    cdef int fill_method(self, solver) except -1:
        cdef Job *job = &self.native.job
        self.is_lbfgs = solver.name == "lbfgs"
        if self.is_lbfgs:
            self.lbfgs.history = solver.history
        elif solver.name == "lm":
            self.lm.gn.n = trainable_parameters(&self.plan.net)
            self.lm.first_damping = solver.damping
            self.lm.scaled = solver.scaling == "marquardt"
            job.max_chunk = chunk_for(self.lm.gn.n, job.max_chunk)
        else:
            raise AssertionError(f"solver: the core knows no {solver.name!r}")
        return 0

    cdef int take_own_memory(self) except -1:
        """The parameters in the network's dtype, and what the method needs."""
        cdef Arena *arena
        cdef int k
        self.own = Memory()
        arena = &self.own.arena
        for k in range(2):
            if k == 1 and not reserve(arena):
                raise MemoryError(f"backprop needs {arena.size} bytes for the solver")
            take(arena, self.solution.n * sizeof(real))
            if self.is_lbfgs:
                take_lbfgs(arena, self.solution.n, &self.lbfgs)
            else:
                take_levenberg(arena, &self.native.job, self.solution.n, &self.lm)
        return 0

    def run(self, long long last_iteration, double seconds, losses):
        """Go on until `last_iteration`, another reason to end, or the end of the time; which of them."""
        cdef Buffers buffers = Buffers()
        cdef double *losses_p = <double *> buffers.add(losses, sizeof(double), len(losses), True)
        cdef unsigned int saved
        cdef Reason reason
        check_room("losses", losses, last_iteration - self.solution.iteration)
        with nogil:
            saved = enter_compute()
            reason = solve(
                &self.native, &self.solution, &self.lbfgs if self.is_lbfgs else NULL, &self.lm, last_iteration,
                seconds, losses_p,
            )
            leave_compute(saved)
        self.state.iteration = self.solution.iteration
        self.state.evaluations = self.solution.evaluations
        self.state.loss = self.solution.loss
        self.state.slope = self.solution.slope
        if not self.is_lbfgs:
            self.state.damping = self.solution.damping
        return SOLVE_REASONS[reason]


cdef Reason solve(
    rn.Run *run, Solution *solution, Lbfgs *lbfgs, Levenberg *lm, long long last_iteration, double seconds,
    double *losses,
) noexcept nogil:
    """One call: evaluation after evaluation, by the one method or the other."""
    cdef double deadline = now() + seconds
    cdef long long first = solution.iteration, before
    cdef Reason reason
    while not solution.begun or solution.iteration < last_iteration:
        before = solution.iteration
        if solution.begun:
            reason = advance_lbfgs(run, solution, lbfgs) if lbfgs != NULL else advance_levenberg(run, solution, lm)
        else:
            solution.begun = True
            reason = begin_lbfgs(run, solution, lbfgs) if lbfgs != NULL else begin_levenberg(run, solution, lm)
        if solution.iteration > before:
            losses[before - first] = solution.loss
        if reason != NONE:
            return reason
        if now() >= deadline:
            break
    return ITERATIONS if solution.iteration >= last_iteration else TIME
