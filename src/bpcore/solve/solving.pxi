# `Solving` of `backprop.backends.contract`, part of `_core.pyx`.

cdef class Solving:
    """A minimisation over fixed data: holds the buffers, changes `state` in place."""

    cdef rn.Run native
    cdef Solution solution
    cdef Lbfgs lbfgs
    cdef Levenberg lm
    cdef bint is_lbfgs
    cdef Plan plan
    cdef Network net  # the plan's, but with the sums that L-BFGS takes
    cdef Memory memory
    cdef Memory own
    cdef SlopePass slope_pass
    cdef Buffers buffers
    cdef object state

    def __init__(
        self, Plan plan not None, loss, solver, data, state, int n_threads=1, bint fixed_threads=False,
        double bound=DBL_MAX, bint begins_alone=False,
    ):
        cdef rn.Run *run = &self.native
        self.plan = plan
        self.buffers = Buffers()
        self.state = state
        fill_job(&run.job, self.buffers, plan, loss, data)
        self.net = plan.net
        run.job.net = &self.net
        self.fill_solution(solver)
        self.solution.bound = bound
        self.fill_method(solver)
        begin_size(
            &run.team.size, min(n_threads, <int> partition.MAX_THREADS), fixed_threads,
            ONE_ALONE if begins_alone else epochs.beginning_of(&run.job) if self.is_lbfgs else ALL,
        )
        run.team.n_threads = 1
        self.slope_pass = take_slope_pass(run, plan, loss)
        n_threads = run.team.size.most
        if self.is_lbfgs:
            self.solution.shares_rows = n_threads > 1 and epochs.gains_by_threads(&run.job)
        else:  # its chunks are whole: they lie as a team leaves them only where members share blocks of chunks
            self.solution.shares_rows = n_threads > 1 and shares_blocks(&run.job, most_rows(&run.job))
        self.memory = take_memory(run, True, True)
        fill_ranges(&run.job)
        self.take_own_memory()
        run.state.parameters = <real *> (<char *> self.own.arena.block)
        if self.lm.evidence.wanted:
            fill_prior(&self.lm.evidence, &run.job)
        if self.is_lbfgs:
            self.recall()

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
        solution.iteration = self.state.iteration
        solution.evaluations = solution.counted = self.state.counted
        solution.damping = self.state.damping
        return 0

    cdef int fill_method(self, solver) except -1:
        cdef Job *job = &self.native.job
        self.is_lbfgs = solver.name == "lbfgs"
        if self.is_lbfgs:
            self.lbfgs.history = solver.history
            job.max_chunk = solver_chunk_of(&self.net, job.data.n)
            self.net.sums_few_inputs = True  # never one of many in the lanes, where that order of the sums is slower
        elif solver.name in ("lm", "bayesian"):
            self.lm.gn.n = trainable_parameters(&self.plan.net)
            self.lm.first_damping = solver.damping
            self.lm.by_diagonal = solver.scaling == "marquardt"
            if self.lm.by_diagonal and not len(self.state.scale):
                self.state.scale = 0 * self.state.point
            if len(self.state.scale):
                self.lm.scales = <double *> self.buffers.add(self.state.scale, sizeof(double), self.solution.n, True)
            job.max_chunk = chunk_for(self.lm.gn.n, job.max_chunk)
            if solver.name == "bayesian":
                self.fill_evidence()
        else:
            raise AssertionError(f"solver: the core knows no {solver.name!r}")
        return 0

    cdef int fill_evidence(self) except -1:
        cdef Evidence *evidence = &self.lm.evidence
        cdef Job *job = &self.native.job
        evidence.wanted = True
        evidence.factor = 2 * factor_of(job, self.solution.denominator)
        evidence.n_targets = weight_of(&job.data, 0, job.data.n) * self.plan.net.n_outputs
        if self.solution.iteration > 0:
            evidence.alpha, evidence.beta, evidence.gamma = self.state.alpha, self.state.beta, self.state.gamma
            evidence.penalty = evidence.factor * evidence.alpha / evidence.beta
        return 0

    cdef int take_own_memory(self) except -1:
        """The parameters in the network's dtype, and what the method needs."""
        cdef Arena *arena
        cdef int k
        self.own = Memory()
        arena = &self.own.arena
        for k in range(2):
            if k == 1:
                self.own.obtain("the solver")
            take(arena, self.solution.n * sizeof(real))
            if self.is_lbfgs:
                take_lbfgs(arena, self.solution.n, &self.lbfgs)
            else:
                take_levenberg(arena, &self.native.job, self.solution.n, &self.lm)
                take_evidence(arena, self.solution.n, &self.lm.evidence)
        return 0

    cdef int recall(self) except -1:
        """Take up the pairs of the state, oldest first."""
        cdef Buffers buffers
        cdef Py_ssize_t n = self.solution.n, at
        for s, y in self.state.pairs[-self.lbfgs.history:]:
            buffers = Buffers()
            at = self.lbfgs.n_pairs * self.lbfgs.width
            memcpy(self.lbfgs.s + at, buffers.add(s, sizeof(double), n, False), n * sizeof(double))
            memcpy(self.lbfgs.y + at, buffers.add(y, sizeof(double), n, False), n * sizeof(double))
            self.lbfgs.n_pairs += 1
        recall_pairs(&self.lbfgs)
        return 0

    @property
    def n_threads(self):
        """How many take part at the moment, where there is something to share."""
        return present_size(&self.native.team.size)

    def remember(self):
        """Put what the method has learned into the state: what a minimisation that goes on from it needs."""
        cdef Py_ssize_t n = self.solution.n, width = self.lbfgs.width, k, at
        if not self.is_lbfgs:
            return
        self.state.pairs = pairs = []
        for k in range(self.lbfgs.n_pairs):
            at = (self.lbfgs.oldest + k) % self.lbfgs.history
            pairs.append((
                copied(self.state.point, self.lbfgs.s + at * width, n),
                copied(self.state.point, self.lbfgs.y + at * width, n) / self.lbfgs.unit,
            ))

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
        self.state.counted = self.solution.counted
        self.state.loss = self.solution.loss
        self.state.slope = self.solution.slope
        if not self.is_lbfgs:
            self.state.damping = self.solution.damping
        if self.lm.evidence.wanted:
            self.state.alpha = self.lm.evidence.alpha
            self.state.beta = self.lm.evidence.beta
            self.state.gamma = self.lm.evidence.gamma
        return SOLVE_REASONS[reason]


cdef object copied(like, const double *x, Py_ssize_t n):
    """A new array (n,) of the kind of `like` with these numbers."""
    cdef Buffers buffers = Buffers()
    array = like.copy()
    memcpy(buffers.add(array, sizeof(double), n, True), x, n * sizeof(double))
    return array


cdef Reason solve(
    rn.Run *run, Solution *solution, Lbfgs *lbfgs, Levenberg *lm, long long last_iteration, double seconds,
    double *losses,
) noexcept nogil:
    """One call: evaluation after evaluation, by the one method or the other, by one thread or by the team."""
    cdef double deadline = now() + seconds
    cdef Reason reason
    run.team.clock.may_pause = True
    run.team.clock.deadline = deadline
    start_team(run, present_size(&run.team.size) if lbfgs == NULL or solution.shares_rows else 1)
    reason = solve_in_team(run, solution, lbfgs, lm, last_iteration, deadline, losses)
    stop_team(run)
    return reason


cdef Reason solve_in_team(
    rn.Run *run, Solution *solution, Lbfgs *lbfgs, Levenberg *lm, long long last_iteration, double deadline,
    double *losses,
) noexcept nogil:
    cdef long long first = solution.iteration, before
    cdef Reason reason
    while not solution.begun or solution.iteration < last_iteration:
        before = solution.iteration
        if lbfgs != NULL:
            reason = advance_lbfgs(run, solution, lbfgs) if solution.begun else begin_lbfgs(run, solution, lbfgs)
        elif solution.started:
            reason = advance_levenberg(run, solution, lm, deadline)
        else:
            reason = begin_levenberg(run, solution, lm)
        if solution.iteration > before:
            losses[before - first] = solution.loss
        if reason != NONE:
            return reason
        if now() >= deadline:
            break
    return ITERATIONS if solution.begun and solution.iteration >= last_iteration else TIME
