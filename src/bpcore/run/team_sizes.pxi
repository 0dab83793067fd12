# How the size of a team follows what its steps cost, to be tested with times that do not depend on the machine; part of
# `_core.pyx`.

def team_sizes(seconds, bint one_at_first=False, bint one_alone=False):
    """The size of the team in each step; step k takes seconds[k][size - 1] with so many members."""
    cdef TeamSize team
    cdef Beginning beginning = ONE_AT_FIRST if one_at_first else ONE_ALONE if one_alone else ALL
    begin_size(&team, <int> len(seconds[0]), False, beginning)
    sizes = []
    for of_step in seconds:
        sizes.append(present_size(&team))
        follow_costs(&team, of_step[present_size(&team) - 1])
    return sizes
