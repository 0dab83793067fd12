# How the size of a team follows what its steps cost, to be tested with times that do not depend on the machine; part of
# `_core.pyx`.

def team_sizes(seconds, beginning="all"):
    """The size of the team in each step; step k takes seconds[k][size - 1] with so many members.

    beginning: with "all", "one at first" or "one alone".
    """
    cdef TeamSize team
    cdef dict kinds = {"all": ALL, "one at first": ONE_AT_FIRST, "one alone": ONE_ALONE}
    begin_size(&team, <int> len(seconds[0]), False, <Beginning> (<int> kinds[beginning]))
    sizes = []
    for of_step in seconds:
        sizes.append(present_size(&team))
        follow_costs(&team, of_step[present_size(&team) - 1])
    return sizes
