"""How many members a team has at the moment: as many as pay.

A team waits for its slowest member, and a member whose CPU does something else is slow for as long as that lasts. So
now and then a team of another size, the rival, does some steps, and whichever is faster goes on. The number of threads
changes no bit of the result.
"""


cdef enum:
    # What is measured at a time, in microseconds. A scheduler takes a CPU away for some milliseconds, and a thread that
    # is new often keeps one for as long. One thread waits for nobody, so less shows what it is worth.
    WINDOW = 10000
    SHORT_WINDOW = 1500
    TRIAL_STEPS = 3  # of a team at least: the first one finds its data in other caches
    # How long nothing is tried after a change, and at most, in microseconds of training.
    FIRST_PAUSE = 50000
    LAST_PAUSE = 1000000
    PAUSE_GROWTH = 3
    # A pause lasts as long as so many trials at least, where steps are long; the one before the first trial is shorter.
    TRIALS_PER_PAUSE = 50
    TRIALS_PER_FIRST_PAUSE = 8

# Who does the first steps.
cdef enum Beginning:
    ALL
    ONE_AT_FIRST  # then all, who go on if they are faster
    ONE_ALONE  # others join it later, where that shows to be faster

cdef enum Turn:
    ONE
    HALF
    ONE_LESS
    DOUBLE
    ONE_MORE  # the last

# Costs are in seconds per step; 0: not known.
cdef struct TeamSize:
    int most
    bint is_fixed
    int size  # of the team that has shown to be the faster one
    double cost
    int rival  # the size that was tried last; 0: none yet
    double rival_cost
    bint on_trial  # whether the rival is at work
    bint tries_all  # whether the first trial, of all, is still to come: as soon as one thread has shown its cost
    Turn turn  # which rival is the next
    double of_step  # seconds of the step at hand, of which earlier calls may have done a part
    # what is being measured
    Py_ssize_t n_steps
    double seconds
    # seconds of training until the next trial, and from one to the next
    double left
    double pause


cdef inline void begin_size(TeamSize *team, int most, bint is_fixed, Beginning beginning) noexcept nogil:
    """A fixed team begins with all."""
    team.most = most
    team.is_fixed = is_fixed or most == 1
    team.size = most if <int> beginning == ALL or team.is_fixed else 1
    team.tries_all = <int> beginning == ONE_AT_FIRST
    team.cost = team.rival_cost = 0
    team.rival = 0
    team.on_trial = False
    team.turn = ONE
    team.left = team.of_step = 0
    team.pause = 1e-6 * FIRST_PAUSE
    begin_window(team)


cdef inline void begin_window(TeamSize *team) noexcept nogil:
    team.n_steps = 0
    team.seconds = 0


cdef inline int present_size(const TeamSize *team) noexcept nogil:
    return team.rival if team.on_trial else team.size


cdef inline int rival_of(const TeamSize *team, Turn turn) noexcept nogil:
    """The size that is tried in this turn; 0 where another turn tries it, or where there is none. One thread is always
    among them: no team may be slower."""
    cdef int half = team.size // 2, double = min(2 * team.size, team.most)
    if turn == ONE:
        return 1 if team.size > 1 else 0
    elif turn == HALF:
        return half if half > 1 else 0
    elif turn == ONE_LESS:
        return team.size - 1 if team.size - 1 > max(half, 1) else 0
    elif turn == DOUBLE:
        return double if double > team.size else 0
    elif turn == ONE_MORE:
        return team.size + 1 if team.size + 1 < double else 0
    return 0


cdef inline void begin_trial(TeamSize *team) noexcept nogil:
    """Put the next rival to work. There is one, since a team that varies has at least two sizes."""
    team.rival = 0
    while team.rival == 0:
        team.rival = rival_of(team, team.turn)
        if team.rival == 0:
            take_turn(team)
    team.on_trial = True


cdef inline void take_turn(TeamSize *team) noexcept nogil:
    """The next turn. Once all rivals have had theirs, they wait for longer until the next one."""
    if team.turn == ONE_MORE:
        team.pause = min(PAUSE_GROWTH * team.pause, 1e-6 * LAST_PAUSE)
        team.turn = ONE
    else:
        team.turn = <Turn> (<int> team.turn + 1)


cdef inline void swap_with_rival(TeamSize *team, double cost) noexcept nogil:
    """The rival, whose cost this is, becomes the team, and the other way round."""
    cdef int size = team.size
    team.size, team.rival = team.rival, size
    team.rival_cost, team.cost = team.cost, cost
    team.pause = team.left = 1e-6 * FIRST_PAUSE


cdef inline void end_trial(TeamSize *team, double cost) noexcept nogil:
    """A rival that has won has the next turn too: what was a gain once may be one again."""
    team.on_trial = False
    if cost < 0.97 * team.cost:
        swap_with_rival(team, cost)
        return
    team.rival_cost = cost
    take_turn(team)
    team.left = max(team.pause, TRIALS_PER_PAUSE * team.seconds)


cdef inline bint trial_is_over(const TeamSize *team) noexcept nogil:
    if team.seconds < 1e-6 * SHORT_WINDOW:
        return False
    if team.rival == 1 or team.seconds > 2 * team.cost * team.n_steps:  # a member is missing
        return True
    return team.n_steps >= TRIAL_STEPS and team.seconds >= 1e-6 * WINDOW


cdef inline void follow_costs(TeamSize *team, double seconds) noexcept nogil:
    """Enter a step into what is measured; `present_size` may be another one afterwards."""
    cdef double cost
    if team.is_fixed:
        return
    team.n_steps += 1
    team.seconds += seconds
    team.left -= seconds
    if team.on_trial:
        if trial_is_over(team):
            end_trial(team, team.seconds / team.n_steps)
            begin_window(team)
        return
    cost = team.seconds / team.n_steps
    if team.tries_all:
        if team.seconds >= 1e-6 * SHORT_WINDOW:
            team.tries_all = False
            team.cost = cost
            team.rival = team.most
            team.on_trial = True
            begin_window(team)
        return
    if team.seconds < 1e-6 * WINDOW:
        return
    if team.cost == 0 and team.rival == 0:
        # the first window: as long as a trial of one thread may take, which would do the work of all
        team.left = TRIALS_PER_FIRST_PAUSE * max(1e-6 * SHORT_WINDOW, team.size * cost)
    team.cost = cost if team.cost == 0 else (team.cost + cost) / 2
    if team.rival > 0 and team.cost > 1.03 * team.rival_cost:
        swap_with_rival(team, 0)
    elif team.left <= 0:
        begin_trial(team)
    begin_window(team)
