"""What is compiled once, for every CPU: which of the instruction sets of the core this one has, and the rule by which
teams of threads vary."""

from bpcore.run.team_size cimport (
    ALL, ONE_ALONE, ONE_AT_FIRST, Beginning, TeamSize, begin_size, follow_costs, present_size,
)

cdef extern from * nogil:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    static int bp_has_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    }
    static int bp_has_v4(void) {
        return bp_has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int bp_has_v3(void) { return 0; }
    static int bp_has_v4(void) { return 0; }
    #endif
    #if defined(__aarch64__)
    static int bp_has_neon(void) { return 1; } /* every one of them has it */
    #else
    static int bp_has_neon(void) { return 0; }
    #endif
    """
    bint bp_has_v3()
    bint bp_has_v4()
    bint bp_has_neon()


def instruction_sets():
    """The names of the supported ones, the best first; "baseline" is always among them."""
    supported = {"v4": bp_has_v4(), "v3": bp_has_v3(), "neon": bp_has_neon(), "baseline": True}
    return tuple([name for name, is_there in supported.items() if is_there])


def team_sizes(seconds, bint one_at_first=False, bint one_alone=False):
    """The size of the team in each step; step k takes seconds[k][size - 1] with so many members.

    For tests, with times that do not depend on the machine.
    """
    cdef TeamSize team
    cdef Beginning beginning = ONE_AT_FIRST if one_at_first else ONE_ALONE if one_alone else ALL
    begin_size(&team, <int> len(seconds[0]), False, beginning)
    sizes = []
    for of_step in seconds:
        sizes.append(present_size(&team))
        follow_costs(&team, of_step[present_size(&team) - 1])
    return sizes
