"""What value and derivatives of the focal loss are made of, from the raw scores."""

from bpcore.machine.types cimport vabs, vec, vlt, vmask, vmax, vselect, vset1
from bpcore.machine.vmath cimport vexp, vlog1p


cdef struct FocalParts:
    vec sign  # 1 where y is 1, else -1
    vec p  # sigmoid(sign z): how likely the right class is
    vec q  # 1 - p
    vec entropy  # -log p
    vec scaled  # q^gamma, and alpha where there is one


cdef inline FocalParts focal_parts(vec z, vec y, const vec *parameters) noexcept nogil:
    """Of sums of numbers >= 0, each from exp(-|z|) alone."""
    cdef FocalParts parts
    cdef vec focus = parameters[0], alpha = parameters[1]
    cdef vmask negative = vlt(y, vset1(0.5))
    cdef vec weight = vselect(vlt(alpha, vset1(0)), vset1(1), vselect(negative, vset1(1) - alpha, alpha))
    cdef vec sign = vselect(negative, vset1(-1), vset1(1)), s = sign * z
    cdef vec tail = vexp(-vabs(z)), log_sum = vlog1p(tail)
    cdef vec larger = vset1(1) / (vset1(1) + tail), smaller = tail * larger
    cdef vmask wrong = vlt(s, vset1(0))
    parts.sign = sign
    parts.p = vselect(wrong, smaller, larger)
    parts.q = vselect(wrong, larger, smaller)
    parts.entropy = vmax(-s, vset1(0)) + log_sum
    parts.scaled = weight * vexp(-focus * (vmax(s, vset1(0)) + log_sum))
    return parts
