"""Elementary functions of vectors: exp, expm1, log, log1p, tanh, sigmoid, erf.

Only + - * /, vfma, comparisons, selects and integer operations, in one fixed order: AVX2 and AVX-512 give the same bits.
A NaN stays a NaN; infinities and zeros, with their sign, come out as the mathematics has them. Errors are in ulp of the
result: for float32 the largest over all inputs, for float64 the largest seen in dense samples. The coefficients are those
that `bench/minimax.py` prints. `if REAL_BITS == 32` is decided by the C compiler.
"""

from libc.math cimport INFINITY, NAN

from bpcore.types cimport (
    MANTISSA_BITS,
    REAL_BITS,
    ivec,
    vabs,
    vbits,
    vcopysign,
    vec,
    veq,
    vfma,
    vfrombits,
    vldexp,
    vlt,
    vmask,
    vmax,
    vmin,
    vselect,
    vset1,
    vshl,
    vshr,
    viset1,
)


# Adding 1.5 * 2^mantissa bits rounds a small number to a whole one and leaves that, as an integer, in the low bits.
cdef inline vec _magic() noexcept nogil:
    return vset1(12582912.0) if REAL_BITS == 32 else vset1(6755399441055744.0)


cdef inline vec _less_n_ln2(vec x, vec n) noexcept nogil:
    """x - n ln 2 for |n| < 2^11; the first part of ln 2 is short enough that its product and difference are exact."""
    if REAL_BITS == 32:
        return vfma(n, vset1(2.12194440e-4), vfma(n, vset1(-0.693359375), x))
    return vfma(n, vset1(-1.90821492927058770002e-10), vfma(n, vset1(-6.93147180369123816490e-01), x))


cdef inline vec _expm1_reduced(vec r) noexcept nogil:
    """e^r - 1 for |r| <= ln 2 / 2, relative error of the polynomial below 1.5e-8 and 2e-17."""
    cdef vec r2 = r * r, r4, q, a, b, c
    if REAL_BITS == 32:
        a = vfma(r, vset1(0.16666539), vset1(0.49999997))
        b = vfma(r, vset1(0.00836713798), vset1(0.0416677445))
        q = vfma(r2, vfma(r2, vset1(0.00138369447), b), a)
    else:
        r4 = r2 * r2
        a = vfma(r2, vfma(r, vset1(0.008333333333389934), vset1(0.041666666666576105)),
                 vfma(r, vset1(0.16666666666666588), vset1(0.5000000000000006)))
        b = vfma(r2, vfma(r, vset1(2.7557407812494374e-06), vset1(2.480150497928533e-05)),
                 vfma(r, vset1(0.000198412697183992), vset1(0.0013888888931794816)))
        c = vfma(r, vset1(2.5053793073127353e-08), vset1(2.762616122294416e-07))
        q = vfma(r4, vfma(r4, c, b), a)
    return vfma(r2, q, r)


cdef inline vec vexp(vec x) noexcept nogil:
    """e^x, whole domain."""
    cdef vec n, p
    if REAL_BITS == 32:
        x = vmax(vmin(x, vset1(89.0)), vset1(-104.0))
    else:
        x = vmax(vmin(x, vset1(710.0)), vset1(-746.0))
    n = vfma(x, vset1(1.4426950408889634), _magic()) - _magic()
    p = _expm1_reduced(_less_n_ln2(x, n))
    return vldexp(vset1(1.0) + p, n)


cdef inline vec vexpm1(vec x) noexcept nogil:
    """e^x - 1, whole domain."""
    cdef vec magic, t, half, p, y
    if REAL_BITS == 32:
        y = vmax(vmin(x, vset1(89.0)), vset1(-20.0))
        magic = vset1(12582912.0 + 126.0)
    else:
        y = vmax(vmin(x, vset1(710.0)), vset1(-40.0))
        magic = vset1(6755399441055744.0 + 1022.0)
    t = vfma(y, vset1(1.4426950408889634), magic)
    p = _expm1_reduced(_less_n_ln2(y, t - magic))
    half = vfrombits(vshl(vbits(t), MANTISSA_BITS))  # 2^(n-1), as 2^n itself may be too large
    y = vfma(half, p, half - vset1(0.5))
    return vcopysign(y + y, x)


cdef inline vec vsigmoid(vec x) noexcept nogil:
    """1 / (1 + e^-x), whole domain."""
    # Both sides of the fraction are multiplied by a power of two, lest e^-x overflow where the result is still subnormal,
    # and by 1.5, which moves the denominator to where its rounding errors count less.
    cdef vec magic, small, t, n, h
    if REAL_BITS == 32:
        x = vmax(vmin(x, vset1(20.0)), vset1(-104.0))
        magic = vset1(12582912.0 + 127.0 - 32.0)
        small = vset1(3.4924596548080444e-10)  # 1.5 * 2^-32
    else:
        x = vmax(vmin(x, vset1(40.0)), vset1(-746.0))
        magic = vset1(6755399441055744.0 + 1023.0 - 128.0)
        small = vset1(4.408103815583578e-39)  # 1.5 * 2^-128
    t = vfma(x, vset1(-1.4426950408889634), magic)
    n = t - magic
    h = vfrombits(vshl(vbits(t), MANTISSA_BITS)) * vset1(1.5)
    return small / vfma(h, _expm1_reduced(_less_n_ln2(-x, n)), h + small)


cdef inline vec vtanh(vec x) noexcept nogil:
    """tanh x, whole domain."""
    # With e^(-2|x|) = 2^n e^(-2w), |w| <= ln 2 / 4, s = 2^(n+1) and p = (1 - e^(-2w)) / 2:
    # tanh |x| = (1 - e^(-2|x|)) / (1 + e^(-2|x|)) = (1 - s/2 + s p) / (1 + s/2 - s p).
    # One rounded product n ln 2 / 2 is enough, as s shrinks its error.
    cdef vec y, magic, t, s, w, w2, p, a, b, c
    if REAL_BITS == 32:
        y = vmin(vabs(x), vset1(10.0))
        magic = vset1(12582912.0 + 128.0)
    else:
        y = vmin(vabs(x), vset1(20.0))
        magic = vset1(6755399441055744.0 + 1024.0)
    t = vfma(y, vset1(-2.8853900817779268), magic)
    s = vfrombits(vshl(vbits(t), MANTISSA_BITS))
    w = vfma(t - magic, vset1(0.34657359027997264), y)
    # p, by the polynomial of _expm1_reduced for -2 w
    w2 = w * w
    if REAL_BITS == 32:
        a = vfma(w, vset1(4 * 0.16666539), vset1(-2 * 0.49999997))
        b = vfma(w, vset1(16 * 0.00836713798), vset1(-8 * 0.0416677445))
        p = vfma(w2, vfma(w2, vset1(-32 * 0.00138369447), b), a)
    else:
        a = vfma(w2, vfma(w, vset1(16 * 0.008333333333389934), vset1(-8 * 0.041666666666576105)),
                 vfma(w, vset1(4 * 0.16666666666666588), vset1(-2 * 0.5000000000000006)))
        b = vfma(w2, vfma(w, vset1(256 * 2.7557407812494374e-06), vset1(-128 * 2.480150497928533e-05)),
                 vfma(w, vset1(64 * 0.000198412697183992), vset1(-32 * 0.0013888888931794816)))
        c = vfma(w, vset1(1024 * 2.5053793073127353e-08), vset1(-512 * 2.762616122294416e-07))
        p = vfma(w2 * w2, vfma(w2 * w2, c, b), a)
    p = vfma(w2, p, w)
    return vcopysign(vfma(s, p, vfma(s, vset1(-0.5), vset1(1.0))) / vfma(-s, p, vfma(s, vset1(0.5), vset1(1.0))), x)


cdef inline vec _log_reduced(vec f, vec k) noexcept nogil:
    """log(1 + f) + k ln 2 for 1/sqrt(2) <= 1 + f < sqrt(2)."""
    # With s = f / (2 + f): log(1 + f) = 2 artanh s = f - f^2/2 + s (f^2/2 + s^2 P(s^2))
    cdef vec s = f / (f + vset1(2.0)), z, p, h
    z = s * s
    h = vset1(0.5) * f * f
    if REAL_BITS == 32:
        p = vfma(z, vfma(z, vset1(0.298718989), vset1(0.399775594)), vset1(0.666667759))
        p = vfma(s, vfma(z, p, h), k * vset1(-2.12194440e-4))
        return vfma(k, vset1(0.693359375), f - (h - p))
    p = vfma(z, vset1(0.14798615401563237), vset1(0.1531380191115604))
    p = vfma(z, vfma(z, p, vset1(0.181835733180096)), vset1(0.22222198414846492))
    p = vfma(z, vfma(z, p, vset1(0.28571428743779587)), vset1(0.3999999999940914))
    p = vfma(z, p, vset1(0.6666666666666735))
    p = vfma(s, vfma(z, p, h), k * vset1(1.90821492927058770002e-10))
    return vfma(k, vset1(6.93147180369123816490e-01), f - (h - p))


cdef inline vec vroot(vec x) noexcept nogil:
    """sqrt x for x >= 0, by multiplications only: where the result is then a divisor, the divider is free for that.

    Zero and infinity are exact. Subnormal x come out too small or too large by some percent.
    """
    # r = 1 / sqrt(x): halving the exponent by a shift gives 3.5 %; r (1 + e/2 + 3/8 e^2) with e = 1 - x r^2 leaves
    # 5/16 e^3. The last step is Newton's, for the root itself and from its exact remainder.
    cdef vec r, e, y
    # Three halves of the bits of 1, less half those of x, is the halved exponent; the rest of the constant centres the error.
    r = vfrombits(vbits(vset1(1.3e19 if REAL_BITS == 32 else 1.3e154)) - vshr(vbits(x), 1))
    e = vfma(-(x * r), r, vset1(1.0))
    r = vfma(r, e * vfma(e, vset1(0.375), vset1(0.5)), r)
    if REAL_BITS == 64:
        e = vfma(-(x * r), r, vset1(1.0))
        r = vfma(r, e * vfma(e, vset1(0.375), vset1(0.5)), r)
    y = x * r
    y = vfma(vfma(-y, y, x), vset1(0.5) * r, y)
    return vselect(vlt(x, vset1(INFINITY)), y, x)


cdef inline ivec _sqrt_half_bits() noexcept nogil:
    return vbits(vset1(0.7071067811865476))


cdef inline vec _exponent(vec x) noexcept nogil:
    """k with 1/sqrt(2) <= x / 2^k < sqrt(2), for normal x > 0."""
    # One is added to the exponent field so that it is never negative.
    cdef vec one = vset1(1.0)
    cdef ivec e = vshr(vbits(x) - _sqrt_half_bits() + vbits(one), MANTISSA_BITS)
    return vfrombits(vbits(_magic()) + e) - (_magic() + vset1(127.0 if REAL_BITS == 32 else 1023.0))


cdef inline vec _special_log(vec y, vec x) noexcept nogil:
    """Put log x in place of y where x is not in (0, inf)."""
    y = vselect(vlt(x, vset1(INFINITY)), y, x)  # and NaN
    y = vselect(vlt(x, vset1(0.0)), vset1(NAN), y)
    return vselect(veq(x, vset1(0.0)), vset1(-INFINITY), y)


cdef inline vec vlog(vec x) noexcept nogil:
    """log x, whole domain: -inf at 0, NaN below."""
    cdef vec y, k, m
    cdef vmask subnormal
    cdef ivec i
    if REAL_BITS == 32:
        subnormal = vlt(x, vset1(1.17549435e-38))
        y = vselect(subnormal, x * vset1(16777216.0), x)
        k = vselect(subnormal, vset1(-24.0), vset1(0.0))
    else:
        subnormal = vlt(x, vset1(2.2250738585072014e-308))
        y = vselect(subnormal, x * vset1(18014398509481984.0), x)
        k = vselect(subnormal, vset1(-54.0), vset1(0.0))
    i = vbits(y) - _sqrt_half_bits()
    m = vfrombits((i & ~vbits(vset1(-INFINITY))) + _sqrt_half_bits())
    return _special_log(_log_reduced(m - vset1(1.0), k + _exponent(y)), x)


cdef inline vec vlog1p(vec x) noexcept nogil:
    """log(1 + x), whole domain: -inf at -1, NaN below."""
    cdef vec u = vset1(1.0) + x, k = _exponent(u), s, f, y
    # 1 + f = (1 + x) 2^-k without the rounding of 1 + x; 2^(2-k) and x/4, as 2^-k may be subnormal.
    s = vfrombits(vshl(vbits(_magic() + (vset1(129.0 if REAL_BITS == 32 else 1025.0) - k)), MANTISSA_BITS))
    f = vfma(x * vset1(0.25), s, vfma(vset1(0.25), s, vset1(-1.0)))
    y = _special_log(_log_reduced(f, k), u)
    return vselect(vlt(vabs(x), vset1(1e-20)), x, y)


cdef inline vec verf(vec x) noexcept nogil:
    """The error function, whole domain."""
    cdef vec a, y, n, d, p, q, t, s, magic, e
    cdef vmask small
    if REAL_BITS == 32:
        a = vmin(vabs(x), vset1(3.95))
        y = a * a
        # |x| < 1: x + x P(x^2)
        n = vfma(y, vset1(7.85386583e-05), vset1(-0.000801019487))
        n = vfma(y, vfma(y, n, vset1(0.00518832775)), vset1(-0.0268538129))
        n = vfma(y, vfma(y, n, vset1(0.112835854)), vset1(-0.37612626))
        n = vfma(a, vfma(y, n, vset1(0.128379166)), a)
        # else 1 - 2^P(|x|)
        p = vfma(a, vset1(0.000268886972), vset1(-0.00425255811))
        p = vfma(a, vfma(a, p, vset1(0.0315056108)), vset1(-0.148751482))
        p = vfma(a, vfma(a, p, vset1(-0.920648515)), vset1(-1.62604594))
        p = vfma(a, p, vset1(-0.000492734485))
        magic = vset1(12582912.0 + 127.0)
        t = p + magic
        s = vfrombits(vshl(vbits(t), MANTISSA_BITS))
        q = p - (t - magic)
        e = vfma(q, vfma(q, vset1(0.00132644549), vset1(0.00967172533)), vset1(0.0555073619))
        e = vfma(q, vfma(q, vfma(q, e, vset1(0.240222394)), vset1(0.693147004)), vset1(1.0))
        d = vfma(-s, e, vset1(1.0))
        return vcopysign(vselect(vlt(a, vset1(1.0)), n, d), x)
    a = vmin(vabs(x), vset1(6.0))
    y = a * a
    # |x| < 1: x + x P(y) / Q(y)
    n = vfma(y, vset1(-2.073254121218775e-05), vset1(-0.0004956135083448635))
    n = vfma(y, vfma(y, n, vset1(-0.00881566829128999)), vset1(-0.04832945778709777))
    n = vfma(y, vfma(y, n, vset1(-0.31700613867594546)), vset1(0.1283791670955126))
    d = vfma(y, vset1(2.081025917983918e-05), vset1(0.0006924982528827919))
    d = vfma(y, vfma(y, d, vset1(0.010693079640128443)), vset1(0.09381307155975248))
    d = vfma(y, vfma(y, d, vset1(0.46051280510261856)), vset1(1.0))
    # else 1 - e^-y P(|x|) / Q(|x|)
    p = vfma(a, vset1(0.008913601978689135), vset1(0.08423763412511852))
    p = vfma(a, vfma(a, p, vset1(0.37324997503419116)), vset1(0.9489357110148908))
    p = vfma(a, vfma(a, p, vset1(1.3901066269076083)), vset1(0.9999998890658833))
    q = vfma(a, vset1(0.01579907149173702), vset1(0.14930339001318257))
    q = vfma(a, vfma(a, q, vset1(0.6695276495014659)), vset1(1.7560202374268934))
    q = vfma(a, vfma(a, q, vset1(2.790747180387979)), vset1(2.5184846236674927))
    q = vfma(a, q, vset1(1.0))
    magic = vset1(6755399441055744.0 + 1023.0)
    t = vfma(y, vset1(-1.4426950408889634), magic)
    s = vfrombits(vshl(vbits(t), MANTISSA_BITS))
    e = vfma(s, _expm1_reduced(_less_n_ln2(-y, t - magic)), s)
    small = vlt(a, vset1(1.0))
    p = vselect(small, n, p) / vselect(small, d, q)
    return vcopysign(vfma(vselect(small, a, -e), p, vselect(small, a, vset1(1.0))), x)
