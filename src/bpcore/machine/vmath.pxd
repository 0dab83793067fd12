"""Elementary functions of vectors.

Only + - * /, vfma, comparisons, selects and integer operations, in one fixed order: AVX2 and AVX-512 give the same
bits. Unless its docstring says otherwise, a function takes every x: a NaN stays a NaN; infinities, and zeros with their
sign, come out as the mathematics has them. Errors, float32 first, are in units in the last place of the result: for
float32 the largest over all inputs, for float64 the largest that was seen. `bench/minimax.py` prints the coefficients.
`if REAL_BITS == 32` is decided by the C compiler. The order of evaluation is chosen for throughput: with vectors of 64
bytes a function takes 0.5 to 0.8 cycles per operation, and no less than the 6 (float64: 9) of its one division (Zen 4).
"""

from libc.math cimport INFINITY, NAN

from bpcore.machine.types cimport (
    MANTISSA_BITS, REAL_BITS, ivec, vabs, vbits, vcopysign, vec, vfma, vfrombits, viadd, visub, vldexp, vle, vlt,
    vmask, vmax, vmin, vselect, vset1, vshl, vshr,
)


# Adding 1.5 * 2^MANTISSA_BITS rounds a small number to a whole one and leaves that, as an integer, in the low bits.
# With the exponent's bias on top, a shift of the sum by MANTISSA_BITS is 2 to that whole number.
cdef inline vec _magic() noexcept nogil:
    return vset1(12582912.0 if REAL_BITS == 32 else 6755399441055744.0)

cdef inline vec _biased_magic(double more) noexcept nogil:
    return vset1(12582912.0 + 127.0 + more if REAL_BITS == 32 else 6755399441055744.0 + 1023.0 + more)


cdef inline vec _less_n_ln2(vec x, vec n) noexcept nogil:
    """x - n ln 2 for whole |n| < 1100; ln 2's first part is so short that its product and the difference are exact."""
    if REAL_BITS == 32:
        return vfma(n, vset1(-1.42860677e-06), vfma(n, vset1(-0.693145752), x))
    return vfma(n, vset1(1.7239444525614835e-13), vfma(n, vset1(-0.6931471805601177), x))


cdef inline vec _expm1_reduced(vec r) noexcept nogil:
    """e^r - 1 for |r| <= ln 2 / 2, as r + r^2 (1/2 + r P(r))."""
    cdef vec r2 = r * r, r4, a, b, c
    if REAL_BITS == 32:
        a = vfma(r, vset1(0.16666548), vset1(0.5))
        b = vfma(r, vset1(0.00836609956), vset1(0.0416668542))
        a = vfma(r2, vfma(r2, vset1(0.00138982409), b), a)
    else:
        r4 = r2 * r2
        a = vfma(r, vset1(0.16666666666666677), vset1(0.5))
        b = vfma(r, vset1(0.008333333333322078), vset1(0.041666666666666574))
        a = vfma(r2, b, a)
        b = vfma(r, vset1(0.00019841269885179306), vset1(0.001388888888894306))
        c = vfma(r, vset1(2.7557245026972816e-06), vset1(2.4801587197647523e-05))
        b = vfma(r2, c, b)
        c = vfma(r, vset1(2.5108788700495545e-08), vset1(2.7557387303174583e-07))
        c = vfma(r2, vset1(2.0878911170317823e-09), c)
        a = vfma(r4, vfma(r4, c, b), a)
    return vfma(r2, a, r)


cdef inline vec vexp(vec x) noexcept nogil:
    """e^x, within 1.1 and 1.0 ulp."""
    cdef vec n
    if REAL_BITS == 32:
        x = vmax(vmin(x, vset1(89.0)), vset1(-104.0))
    else:
        x = vmax(vmin(x, vset1(710.0)), vset1(-746.0))
    n = vfma(x, vset1(1.4426950408889634), _magic()) - _magic()
    return vldexp(vset1(1.0) + _expm1_reduced(_less_n_ln2(x, n)), n)


cdef inline vec vexpm1(vec x) noexcept nogil:
    """e^x - 1, within 1.7 and 2.0 ulp."""
    cdef vec magic = _biased_magic(-1.0), t, half, y
    if REAL_BITS == 32:
        y = vmax(vmin(x, vset1(89.0)), vset1(-20.0))
    else:
        y = vmax(vmin(x, vset1(710.0)), vset1(-40.0))
    t = vfma(y, vset1(1.4426950408889634), magic)
    half = vfrombits(vshl(vbits(t), MANTISSA_BITS))  # 2^(n-1), as 2^n itself may be too large
    y = vfma(half, _expm1_reduced(_less_n_ln2(y, t - magic)), half - vset1(0.5))
    return vcopysign(y + y, x)


cdef inline vec _sigmoid_float32(vec x) noexcept nogil:
    # Both sides of the fraction are multiplied by 1.34375, which moves the denominator to where its rounding errors
    # count less.
    cdef vec magic = _biased_magic(-32.0), small = vset1(3.128661774098873e-10)  # 1.34375 * 2^-32
    cdef vec t = vfma(x, vset1(-1.4426950408889634), magic)
    cdef vec h = vfrombits(vshl(vbits(t), MANTISSA_BITS)) * vset1(1.34375)
    return small / vfma(h, _expm1_reduced(_less_n_ln2(-x, t - magic)), h + small)


cdef inline vec _sigmoid_float64(vec x) noexcept nogil:
    # e^r = (2 + q + w) / (2 + q - w) with q = 2 r^2 Q(r^2), w = r + r^3 P(r^2): a fraction of two short polynomials in
    # the place of a long one, whose division is that of the sigmoid. 51/64 moves both sums to where their rounding
    # errors count less.
    cdef vec magic = _biased_magic(-128.0), small = vset1(2.341805152028776e-39)  # 51/64 * 2^-128
    cdef vec t = vfma(x, vset1(-1.4426950408889634), magic)
    cdef vec h = vfrombits(vshl(vbits(t), MANTISSA_BITS)) * vset1(0.796875)
    cdef vec r = _less_n_ln2(-x, t - magic), z = r * r
    cdef vec q = z * vfma(z, vset1(2.0 * 0.0009917697365144373), vset1(2.0 * 0.11110817320126158))
    cdef vec w = vfma(r * z, vfma(z, vset1(6.60886362921637e-05), vset1(0.02777483986792969)), r)
    cdef vec n = vfma(small, q - w, small + small)
    return n / vfma(h, vset1(2.0), vfma(h, q + w, n))


cdef inline vec vsigmoid(vec x) noexcept nogil:
    """1 / (1 + e^-x), within 2.0 and 2.0 ulp."""
    # Both sides of the fraction are multiplied by a power of two, lest e^-x overflow where the result is subnormal.
    # What is not between -104 and 20 (float64: -746 and 40), where this holds, is chosen at the end: a selection is
    # over sooner than bounds for x.
    cdef vmask inside
    if REAL_BITS == 32:
        inside = vle(vabs(x + vset1(42.0)), vset1(62.0))
    else:
        inside = vle(vabs(x + vset1(353.0)), vset1(393.0))
    return vselect(
        inside,
        _sigmoid_float32(x) if REAL_BITS == 32 else _sigmoid_float64(x),
        vmin(vmax(x, vset1(0.0)), vset1(1.0)),
    )


cdef inline vec _tanh_float32(vec y) noexcept nogil:
    # (1 - e^(-2y)) / (1 + e^(-2y)) with e^(-2y) = s (1 + p), s = 2^n <= 1. One rounded product n ln 2 is enough, as s
    # shrinks its error.
    cdef vec magic = _biased_magic(0.0), one = vset1(1.0)
    cdef vec t = vfma(y, vset1(-2.8853900817779268), magic), s = vfrombits(vshl(vbits(t), MANTISSA_BITS))
    cdef vec p = _expm1_reduced(vfma(t - magic, vset1(-0.6931471805599453), -(y + y)))
    return vfma(-s, p, one - s) / vfma(s, p, one + s)


# What the first half of float64's tanh leaves to the second.
cdef struct TanhHalf:
    vec x
    vec t
    vec r
    vec z
    vec p
    vec q
    vmask above


cdef inline void begin_tanh(vec x, TanhHalf *half) noexcept nogil:
    # tanh r = w / q with w = r + r^3 P(r^2), q = 1 + r^2 Q(r^2). Below 1/2 that is r + r^3 (P - Q) / q, with r = y.
    # From there on e^(-2y) = s (q - w) / (q + w), s = 2^n, and tanh y = 1 - 2 s (q - w) / ((q + w) + s (q - w)): either
    # adds little to what is exact. As q - w is between 0.8 and 1.2, s multiplies it by a sum of the exponents.
    cdef vec magic = _magic(), y = vmin(vabs(x), vset1(20.0)), r, z
    half.x = x
    half.above = vle(vset1(0.54931), y)
    half.t = vselect(half.above, vfma(y, vset1(-2.8853900817779268), magic), magic)
    r = vfma(half.t - magic, vset1(0.34657359027997264), y)
    z = r * r
    half.p = vfma(z, vfma(z, vset1(7.360793244945883e-06), vset1(0.0027930708689720488)), vset1(0.12816791904365887))
    half.q = vfma(z, vfma(z, vset1(0.0002066105538593275), vset1(0.023293488327970846)), vset1(0.4615012523769922))
    half.r = r
    half.z = z


cdef inline vec end_tanh(const TanhHalf *half) noexcept nogil:
    cdef vec one = vset1(1.0), r = half.r, rz = r * half.z, p = rz * (half.q - half.p), q = vfma(half.z, half.q, one)
    cdef vec w = vfma(rz, half.p, r), b = q - w
    b = vfrombits(viadd(vbits(b), vshl(vbits(half.t), MANTISSA_BITS)))
    # What is computed stands first in a selection: with masks, GCC then makes one instruction of both.
    b = vselect(half.above, b + b, p) / vselect(half.above, q + w + b, q)
    return vcopysign(vselect(half.above, one, r) - b, half.x)


cdef inline vec vtanh(vec x) noexcept nogil:
    """tanh x, within 2.0 and 1.9 ulp; for float64 1.0 where the result is below 1/2."""
    cdef TanhHalf half
    if REAL_BITS == 32:
        return vcopysign(_tanh_float32(vmin(vabs(x), vset1(10.0))), x)
    begin_tanh(x, &half)
    return end_tanh(&half)


cdef inline vec _sqrt_half() noexcept nogil:
    return vset1(0.7071067811865476)


cdef inline vec _exponent(vec x) noexcept nogil:
    """k with 1/sqrt(2) <= x / 2^k < sqrt(2), for normal x > 0."""
    # The bits of 1 keep the difference from being negative: AVX2 has no signed shift of 64 bits.
    cdef ivec e = vshr(viadd(visub(vbits(x), vbits(_sqrt_half())), vbits(vset1(1.0))), MANTISSA_BITS)
    return vfrombits(vbits(_magic()) + e) - _biased_magic(0.0)


cdef inline vec _log_reduced(vec f, vec k) noexcept nogil:
    """log(1 + f) + k ln 2 for 1/sqrt(2) <= 1 + f < sqrt(2)."""
    # With s = f / (2 + f): log(1 + f) = 2 artanh s = f - (f^2/2 - s (f^2/2 + s^2 P(s^2))): f is exact, the rest small.
    cdef vec s = f / (f + vset1(2.0)), z = s * s, h = vset1(0.5) * f * f, p
    if REAL_BITS == 32:
        p = vfma(z, vset1(0.298736244), vset1(0.39977482))
        p = vfma(z, p, vset1(0.666667759))
        p = vfma(s, vfma(z, p, h), k * vset1(1.42860677e-06))
        return vfma(k, vset1(0.693145752), f - (h - p))
    p = vfma(z, vset1(0.14798590311457593), vset1(0.15313804254530997))
    p = vfma(z, vfma(z, p, vset1(0.1818357323288423)), vset1(0.22222198416362385))
    p = vfma(z, vfma(z, p, vset1(0.28571428743765925)), vset1(0.39999999999409197))
    p = vfma(z, p, vset1(0.6666666666666735))
    p = vfma(s, vfma(z, p, h), k * vset1(-1.7239444525614835e-13))
    return vfma(k, vset1(0.6931471805601177), f - (h - p))


cdef inline vec _special_log(vec y, vec x) noexcept nogil:
    """y, or log x where x is not in (0, inf)."""
    cdef vec special = vselect(vlt(x, vset1(0.0)), vset1(NAN), vset1(-INFINITY))
    y = vselect(vlt(vset1(0.0), x), y, special)
    return vselect(vlt(x, vset1(INFINITY)), y, x)  # and NaN


cdef inline vec vlog(vec x) noexcept nogil:
    """log x, within 0.9 and 0.9 ulp; -inf at 0, NaN below."""
    cdef vec k = vset1(0.0), y = x
    cdef vmask subnormal
    cdef ivec i
    if REAL_BITS == 32:
        subnormal = vlt(x, vset1(1.17549435e-38))
        y = vselect(subnormal, x * vset1(16777216.0), x)
        k = vselect(subnormal, vset1(-24.0), k)
    else:
        subnormal = vlt(x, vset1(2.2250738585072014e-308))
        y = vselect(subnormal, x * vset1(18014398509481984.0), x)
        k = vselect(subnormal, vset1(-54.0), k)
    k = k + _exponent(y)
    # the number whose mantissa is y's and which is nearest 1: clear the exponent of the difference to sqrt(1/2)
    i = visub(vbits(y), vbits(_sqrt_half())) & ~vbits(vset1(-INFINITY))
    y = vfrombits(i + vbits(_sqrt_half())) - vset1(1.0)
    return _special_log(_log_reduced(y, k), x)


cdef inline vec vlog1p(vec x) noexcept nogil:
    """log(1 + x), within 1.4 and 1.4 ulp; -inf at -1, NaN below."""
    cdef vec u = vset1(1.0) + x, k = _exponent(u), s, f
    # 1 + f = (1 + x) 2^-k without the rounding of 1 + x; with 2^(2-k) and x/4, as 2^-k may be subnormal
    s = vfrombits(vshl(vbits(_biased_magic(2.0) - k), MANTISSA_BITS))
    f = vfma(vset1(0.25) * x, s, vfma(vset1(0.25), s, vset1(-1.0)))
    f = _special_log(_log_reduced(f, k), u)
    return vselect(vlt(vabs(x), vset1(1e-20)), x, f)


cdef inline vec verf(vec x) noexcept nogil:
    """The error function, within 1.4 and 1.2 ulp."""
    cdef vec a, y, small, large, p, q, t, n, magic = _biased_magic(0.0)
    cdef vmask is_small
    a = vmin(vabs(x), vset1(3.95 if REAL_BITS == 32 else 6.0))
    y = a * a
    is_small = vlt(a, vset1(1.0))
    if REAL_BITS == 32:
        # a + a P(a^2) up to 1
        p = vfma(y, vset1(7.8538651e-05), vset1(-0.000801019429))
        p = vfma(y, vfma(y, p, vset1(0.00518832775)), vset1(-0.0268538129))
        p = vfma(y, vfma(y, p, vset1(0.112835854)), vset1(-0.37612626))
        p = vfma(y, p, vset1(0.128379166))
        small = vfma(a, p, a)
        # 1 - 2^P(a) from there on
        p = vfma(a, vset1(0.000268886972), vset1(-0.00425255811))
        p = vfma(a, vfma(a, p, vset1(0.0315056108)), vset1(-0.148751482))
        p = vfma(a, vfma(a, p, vset1(-0.920648515)), vset1(-1.62604594))
        p = vfma(a, p, vset1(-0.000492734485))
        t = p + magic
        p = p - (t - magic)
        q = vfma(p, vset1(0.00132644549), vset1(0.00967172533))
        q = vfma(p, vfma(p, q, vset1(0.0555073619)), vset1(0.240222394))
        q = vfma(p, q, vset1(0.693147004))
        q = vfma(p, q, vset1(1.0))
        large = vfma(-vfrombits(vshl(vbits(t), MANTISSA_BITS)), q, vset1(1.0))
        return vcopysign(vselect(is_small, small, large), x)
    # a + a P(a^2) / Q(a^2) up to 1
    small = vfma(y, vset1(-2.0732541212184217e-05), vset1(-0.0004956135083447881))
    small = vfma(y, vfma(y, small, vset1(-0.0088156682912895)), vset1(-0.048329457787094715))
    small = vfma(y, vfma(y, small, vset1(-0.3170061386759467)), vset1(0.1283791670955126))
    n = vfma(y, vset1(2.0810259179835023e-05), vset1(0.0006924982528827008))
    n = vfma(y, vfma(y, n, vset1(0.01069307964012755)), vset1(0.09381307155974797))
    n = vfma(y, vfma(y, n, vset1(0.4605128051026089)), vset1(1.0))
    # 1 - e^(-a^2) P(a) / Q(a) from there on
    p = vfma(a, vset1(0.008913581291102611), vset1(0.08423749549037066))
    p = vfma(a, vfma(a, p, vset1(0.37324953807107547)), vset1(0.9489349767285434))
    p = vfma(a, vfma(a, p, vset1(1.390106033820067)), vset1(0.9999998890680302))
    q = vfma(a, vset1(0.015799034825071726), vset1(0.14930314425917116))
    q = vfma(a, vfma(a, q, vset1(0.6695268570544606)), vset1(1.756018810047647))
    q = vfma(a, vfma(a, q, vset1(2.790745776797784)), vset1(2.5184840306012455))
    q = vfma(a, q, vset1(1.0))
    t = vfma(y, vset1(-1.4426950408889634), magic)
    large = vfrombits(vshl(vbits(t), MANTISSA_BITS))
    large = vfma(large, _expm1_reduced(_less_n_ln2(-y, t - magic)), large)
    # one division for both
    p = vselect(is_small, small, p) / vselect(is_small, n, q)
    return vcopysign(vfma(vselect(is_small, a, -large), p, vselect(is_small, a, vset1(1.0))), x)


cdef inline vec vroot(vec x) noexcept nogil:
    """sqrt x for x >= 0, within 1.2 and 0.8 ulp (baseline: 1.6 and 1.3); a subnormal x gives between 0 and its root.

    It needs no divider, so in a / vroot(x) it takes no time of its own; vsqrt takes 12 cycles (float64: 24) there.
    """
    # r nears 1 / sqrt(x): halving the exponent by a shift leaves an error of 3.5 %. With e = 1 - x r^2 the root is
    # x r (1 - e)^(-1/2) = x r (1 + e P(e)). In float64 that is only a better r; of what is then left of e, two terms of
    # the series are enough.
    cdef vec r, e, y, p
    r = vset1(1.4318 * 9223372036854775808.0 if REAL_BITS == 32 else 1.4318 * 6.703903964971299e+153)  # 2^63, 2^511
    r = vfrombits(vbits(r) - vshr(vbits(x), 1))
    y = x * r
    e = vfma(-y, r, vset1(1.0))
    p = vfma(e, vfma(e, vset1(0.275062352), vset1(0.313936114)), vset1(0.374997348))
    p = vfma(e, p, vset1(0.499998331))
    if REAL_BITS == 64:
        r = vfma(r * e, p, r)
        y = x * r
        e = vfma(-y, r, vset1(1.0))
        p = vfma(e, vset1(0.375), vset1(0.5))
    y = vfma(y * e, p, y)
    return vselect(vlt(x, vset1(INFINITY)), y, x)
