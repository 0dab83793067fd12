Functions of C for exported networks: those of the core (machine/vmath.pxd, formulas/activations.pxd), for one number.

`c_text.py` reads this file. A line `//// name` begins a function; what it calls comes with it. `//// name 32` and
`//// name 64` are the two forms of a function whose operations depend on the dtype. `real` stands for float or double,
`bits` for the unsigned integer of its size, `mantissa` for the bits of its fraction; `R(x)` for the number x as a
literal, `R(x, y)` for x in float and y in double, `B(x, y)` for such whole numbers of bits; `bp_` and `BP_` for the
prefix of the file that is written. The order of operations is the core's: with a fused multiply-add the results have
the bits of the library.

//// fma 32
/* a * b + c, rounded once. Without an instruction for it: a double holds the product, and its sum with c is rounded as
   the exact sum would be, but where it lies in the middle of two floats: there what it lost decides. */
static inline float bp_fma(float a, float b, float c)
{
#if defined(BP_FMA)
    return BP_FMA(a, b, c);
#elif defined(__GNUC__) && (defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__aarch64__))
    return __builtin_fmaf(a, b, c);
#elif defined(BP_FAST) || DBL_MANT_DIG < 53 || FLT_EVAL_METHOD != 0
    return a * b + c;
#else
    const double product = (double)a * (double)b, wide = (double)c;
    double sum = product + wide;
    uint64_t pattern;
    memcpy(&pattern, &sum, sizeof pattern);
    if ((pattern & UINT64_C(0x1fffffff)) == UINT64_C(0x10000000)) {
        const double added = sum - product, lost = (product - (sum - added)) + (wide - added);
        if (lost < 0 || lost > 0) {
            pattern = (lost > 0) == (sum > 0) ? pattern + 1 : pattern - 1;
            memcpy(&sum, &pattern, sizeof sum);
        }
    }
    return (float)sum;
#endif
}

//// fma 64
/* a * b + c, rounded once. Without an instruction for it: what product and sum lose is added to the sum (T. J. Dekker,
   1971). Where that is a power of two, it may be half a unit of the sum: there what it lost itself decides. */
static inline double bp_fma(double a, double b, double c)
{
#if defined(BP_FMA)
    return BP_FMA(a, b, c);
#elif defined(__GNUC__) && (defined(__FP_FAST_FMA) || defined(__FMA__) || defined(__aarch64__))
    return __builtin_fma(a, b, c);
#elif defined(BP_FAST) || FLT_EVAL_METHOD != 0
    return a * b + c;
#else
    const double wide_a = 134217729 * a, high_a = wide_a - (wide_a - a), low_a = a - high_a;
    const double wide_b = 134217729 * b, high_b = wide_b - (wide_b - b), low_b = b - high_b;
    const double product = a * b, sum = product + c, added = sum - product;
    const double lost = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b;
    const double tail = (product - (sum - added)) + (c - added);
    double rest = lost + tail, result;
    uint64_t pattern;
    memcpy(&pattern, &rest, sizeof pattern);
    if ((pattern & UINT64_C(0xfffffffffffff)) == 0) {
        const double part = rest - lost, missed = (lost - (rest - part)) + (tail - part);
        if (missed < 0 || missed > 0) {
            pattern = (missed > 0) == (rest > 0) ? pattern + 1 : pattern - 1;
            memcpy(&rest, &pattern, sizeof rest);
        }
    }
    result = sum + rest;
    return rest != 0 && result - result == 0 ? result : sum; /* -0 keeps its sign; parts of factors above 2^996 are too large */
#endif
}

//// fused_fma 32
/* a * b + c, rounded once by the processor */
static inline float bp_fused_fma(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}

//// fused_fma 64
/* a * b + c, rounded once by the processor */
static inline double bp_fused_fma(double a, double b, double c)
{
    return __builtin_fma(a, b, c);
}

//// to_bits
static inline bits bp_to_bits(real x)
{
    bits b;
    memcpy(&b, &x, sizeof b);
    return b;
}

//// from_bits
static inline real bp_from_bits(bits b)
{
    real x;
    memcpy(&x, &b, sizeof x);
    return x;
}

//// abs
static inline real bp_abs(real x)
{
    return bp_from_bits(bp_to_bits(x) & B(0x7fffffff, 0x7fffffffffffffff));
}

//// copysign
/* a >= 0 with the sign of b */
static inline real bp_copysign(real a, real b)
{
    const bits size = bp_to_bits(a) & B(0x7fffffff, 0x7fffffffffffffff);
    return bp_from_bits(size | (bp_to_bits(b) & B(0x80000000, 0x8000000000000000)));
}

//// flushed
/* 0 for a subnormal number: the library counts them as zero */
static inline real bp_flushed(real x)
{
    return bp_abs(x) < R(1.17549435e-38, 2.2250738585072014e-308) ? R(0) : x;
}

//// power
/* 2^n, where t is n, the bias of an exponent and 1.5 * 2^mantissa together */
static inline real bp_power(real t)
{
    return bp_from_bits(bp_to_bits(t) << mantissa);
}

//// ldexp
/* a * 2^n in two steps, as 2^n itself may be too large or too small */
static inline real bp_ldexp(real a, real n)
{
    const real magic = R(12583039, 6755399441056767), half = n * R(0.5) + magic, rest = (n - half) + (magic + magic);
    return a * bp_power(half) * bp_power(rest);
}

//// less_n_ln2
/* x - n ln 2 */
static inline real bp_less_n_ln2(real x, real n)
{
    return bp_fma(n, R(-1.42860677e-06, 1.7239444525614835e-13), bp_fma(n, R(-0.693145752, -0.6931471805601177), x));
}

//// expm1_reduced 32
/* e^r - 1 for |r| <= ln 2 / 2 */
static inline float bp_expm1_reduced(float r)
{
    const float r2 = r * r;
    const float b = bp_fma(r, R(0.00836609956), R(0.0416668542));
    const float a = bp_fma(r2, bp_fma(r2, R(0.00138982409), b), bp_fma(r, R(0.16666548), R(0.5)));
    return bp_fma(r2, a, r);
}

//// expm1_reduced 64
/* e^r - 1 for |r| <= ln 2 / 2 */
static inline double bp_expm1_reduced(double r)
{
    const double r2 = r * r, r4 = r2 * r2;
    double a = bp_fma(r, R(0.16666666666666677), R(0.5));
    double b = bp_fma(r, R(0.008333333333322078), R(0.041666666666666574));
    double c = bp_fma(r, R(2.7557245026972816e-06), R(2.4801587197647523e-05));
    a = bp_fma(r2, b, a);
    b = bp_fma(r, R(0.00019841269885179306), R(0.001388888888894306));
    b = bp_fma(r2, c, b);
    c = bp_fma(r, R(2.5108788700495545e-08), R(2.7557387303174583e-07));
    c = bp_fma(r2, R(2.0878911170317823e-09), c);
    a = bp_fma(r4, bp_fma(r4, c, b), a);
    return bp_fma(r2, a, r);
}

//// exp
static inline real bp_exp(real x)
{
    const real magic = R(12582912, 6755399441055744);
    real y = R(89, 710) < x ? R(89, 710) : x, n;
    y = y < R(-104, -746) ? R(-104, -746) : y;
    n = bp_fma(y, R(1.4426950408889634), magic) - magic;
    return bp_flushed(bp_ldexp(R(1) + bp_expm1_reduced(bp_less_n_ln2(y, n)), n));
}

//// expm1
/* e^x - 1 */
static inline real bp_expm1(real x)
{
    const real magic = R(12583038, 6755399441056766);
    real y = R(89, 710) < x ? R(89, 710) : x, t, half;
    y = y < R(-20, -40) ? R(-20, -40) : y;
    t = bp_fma(y, R(1.4426950408889634), magic);
    half = bp_power(t);
    y = bp_fma(half, bp_expm1_reduced(bp_less_n_ln2(y, t - magic)), half - R(0.5));
    return bp_copysign(y + y, x);
}

//// logistic 32
/* 1 / (1 + e^-x) */
static inline float bp_logistic(float x)
{
    const float magic = R(12583007), small = R(3.128661774098873e-10);
    const float t = bp_fma(x, R(-1.4426950408889634), magic), h = bp_power(t) * R(1.34375);
    const float y = small / bp_fma(h, bp_expm1_reduced(bp_less_n_ln2(-x, t - magic)), h + small);
    const float outside = x < R(0) ? R(0) : R(1) < x ? R(1) : x;
    return bp_flushed(bp_abs(x + R(42)) <= R(62) ? y : outside);
}

//// logistic 64
/* 1 / (1 + e^-x) */
static inline double bp_logistic(double x)
{
    const double magic = R(6755399441056639), small = R(2.341805152028776e-39);
    const double t = bp_fma(x, R(-1.4426950408889634), magic), h = bp_power(t) * R(0.796875);
    const double r = bp_less_n_ln2(-x, t - magic), z = r * r;
    const double q = z * bp_fma(z, R(0.0019835394730288746), R(0.22221634640252316));
    const double w = bp_fma(r * z, bp_fma(z, R(6.60886362921637e-05), R(0.02777483986792969)), r);
    const double n = bp_fma(small, q - w, small + small);
    const double y = n / bp_fma(h, R(2), bp_fma(h, q + w, n));
    const double outside = x < R(0) ? R(0) : R(1) < x ? R(1) : x;
    return bp_flushed(bp_abs(x + R(353)) <= R(393) ? y : outside);
}

//// log_reduced 32
/* log(1 + f) + k ln 2 */
static inline float bp_log_reduced(float f, float k)
{
    const float s = f / (f + R(2)), z = s * s, h = R(0.5) * f * f;
    float p = bp_fma(z, R(0.298736244), R(0.39977482));
    p = bp_fma(z, p, R(0.666667759));
    p = bp_fma(s, bp_fma(z, p, h), k * R(1.42860677e-06));
    return bp_fma(k, R(0.693145752), f - (h - p));
}

//// log_reduced 64
/* log(1 + f) + k ln 2 */
static inline double bp_log_reduced(double f, double k)
{
    const double s = f / (f + R(2)), z = s * s, h = R(0.5) * f * f;
    double p = bp_fma(z, R(0.14798590311457593), R(0.15313804254530997));
    p = bp_fma(z, bp_fma(z, p, R(0.1818357323288423)), R(0.22222198416362385));
    p = bp_fma(z, bp_fma(z, p, R(0.28571428743765925)), R(0.39999999999409197));
    p = bp_fma(z, p, R(0.6666666666666735));
    p = bp_fma(s, bp_fma(z, p, h), k * R(-1.7239444525614835e-13));
    return bp_fma(k, R(0.6931471805601177), f - (h - p));
}

//// exponent
/* k with 1 / sqrt(2) <= x / 2^k < sqrt(2) */
static inline real bp_exponent(real x)
{
    const bits e = (bp_to_bits(x) - bp_to_bits(R(0.7071067811865476)) + bp_to_bits(R(1))) >> mantissa;
    return bp_from_bits(bp_to_bits(R(12582912, 6755399441055744)) + e) - R(12583039, 6755399441056767);
}

//// log1p
/* log(1 + x) for 0 <= x <= 1 */
static inline real bp_log1p(real x)
{
    const real k = bp_exponent(R(1) + x), s = bp_power(R(12583041, 6755399441056769) - k);
    const real f = bp_log_reduced(bp_fma(R(0.25) * x, s, bp_fma(R(0.25), s, R(-1))), k);
    return x < R(1e-20) ? x : f;
}

//// erf 32
/* the error function */
static inline float bp_erf(float x)
{
    const float magic = R(12583039), size = bp_abs(x), a = R(3.95) < size ? R(3.95) : size, y = a * a;
    float p, q, t, small, large;
    p = bp_fma(y, R(7.8538651e-05), R(-0.000801019429));
    p = bp_fma(y, bp_fma(y, p, R(0.00518832775)), R(-0.0268538129));
    p = bp_fma(y, bp_fma(y, p, R(0.112835854)), R(-0.37612626));
    p = bp_fma(y, p, R(0.128379166));
    small = bp_fma(a, p, a);
    p = bp_fma(a, R(0.000268886972), R(-0.00425255811));
    p = bp_fma(a, bp_fma(a, p, R(0.0315056108)), R(-0.148751482));
    p = bp_fma(a, bp_fma(a, p, R(-0.920648515)), R(-1.62604594));
    p = bp_fma(a, p, R(-0.000492734485));
    t = p + magic;
    p = p - (t - magic);
    q = bp_fma(p, R(0.00132644549), R(0.00967172533));
    q = bp_fma(p, bp_fma(p, q, R(0.0555073619)), R(0.240222394));
    q = bp_fma(p, q, R(0.693147004));
    q = bp_fma(p, q, R(1));
    large = bp_fma(-bp_power(t), q, R(1));
    return bp_copysign(a < R(1) ? small : large, x);
}

//// erf 64
/* the error function */
static inline double bp_erf(double x)
{
    const double magic = R(6755399441056767), size = bp_abs(x), a = R(6) < size ? R(6) : size, y = a * a;
    double n, p, q, t, small, large;
    small = bp_fma(y, R(-2.0732541212184217e-05), R(-0.0004956135083447881));
    small = bp_fma(y, bp_fma(y, small, R(-0.0088156682912895)), R(-0.048329457787094715));
    small = bp_fma(y, bp_fma(y, small, R(-0.3170061386759467)), R(0.1283791670955126));
    n = bp_fma(y, R(2.0810259179835023e-05), R(0.0006924982528827008));
    n = bp_fma(y, bp_fma(y, n, R(0.01069307964012755)), R(0.09381307155974797));
    n = bp_fma(y, bp_fma(y, n, R(0.4605128051026089)), R(1));
    p = bp_fma(a, R(0.008913581291102611), R(0.08423749549037066));
    p = bp_fma(a, bp_fma(a, p, R(0.37324953807107547)), R(0.9489349767285434));
    p = bp_fma(a, bp_fma(a, p, R(1.390106033820067)), R(0.9999998890680302));
    q = bp_fma(a, R(0.015799034825071726), R(0.14930314425917116));
    q = bp_fma(a, bp_fma(a, q, R(0.6695268570544606)), R(1.756018810047647));
    q = bp_fma(a, bp_fma(a, q, R(2.790745776797784)), R(2.5184840306012455));
    q = bp_fma(a, q, R(1));
    t = bp_fma(y, R(-1.4426950408889634), magic);
    large = bp_power(t);
    large = bp_fma(large, bp_expm1_reduced(bp_less_n_ln2(-y, t - magic)), large);
    p = (a < R(1) ? small : p) / (a < R(1) ? n : q);
    return bp_copysign(bp_fma(a < R(1) ? a : -large, p, a < R(1) ? a : R(1)), x);
}

//// identity
static inline real bp_identity(real z)
{
    return z;
}

//// identity_slope value
static inline real bp_identity_slope(real a)
{
    (void)a;
    return R(1);
}

//// sigmoid
static inline real bp_sigmoid(real z)
{
    return bp_logistic(z);
}

//// sigmoid_slope value
static inline real bp_sigmoid_slope(real a)
{
    return a * (R(1) - a);
}

//// tanh 32
static inline float bp_tanh(float z)
{
    const float magic = R(12583039), size = bp_abs(z), y = R(10) < size ? R(10) : size;
    const float t = bp_fma(y, R(-2.8853900817779268), magic), s = bp_power(t);
    const float p = bp_expm1_reduced(bp_fma(t - magic, R(-0.6931471805599453), R(-2) * y));
    return bp_copysign(bp_fma(-s, p, R(1) - s) / bp_fma(s, p, R(1) + s), z);
}

//// tanh 64
static inline double bp_tanh(double z)
{
    const double magic = R(6755399441055744), size = bp_abs(z), y = R(20) < size ? R(20) : size;
    const int below = y < R(0.54931);
    const double t = below ? magic : bp_fma(y, R(-2.8853900817779268), magic);
    const double r = bp_fma(t - magic, R(0.34657359027997264), y), r2 = r * r, r3 = r * r2;
    const double p = bp_fma(r2, bp_fma(r2, R(7.360793244945883e-06), R(0.0027930708689720488)), R(0.12816791904365887));
    const double q = bp_fma(r2, bp_fma(r2, R(0.0002066105538593275), R(0.023293488327970846)), R(0.4615012523769922));
    const double w = bp_fma(r3, p, r), d = bp_fma(r2, q, R(1));
    const double b = bp_from_bits(bp_to_bits(d - w) + (bp_to_bits(t) << mantissa));
    return bp_copysign(below ? r - r3 * (q - p) / d : R(1) - (b + b) / (d + w + b), z);
}

//// tanh_slope value
static inline real bp_tanh_slope(real a)
{
    return bp_fma(-a, a, R(1));
}

//// relu
static inline real bp_relu(real z)
{
    return z < R(0) ? R(0) : z;
}

//// relu_slope value
static inline real bp_relu_slope(real a)
{
    return a <= R(0) ? R(0) : R(1);
}

//// leaky_relu
static inline real bp_leaky_relu(real z, real alpha)
{
    return z < R(0) ? alpha * z : z;
}

//// leaky_relu_slope value
static inline real bp_leaky_relu_slope(real a, real alpha)
{
    return a <= R(0) ? alpha : R(1);
}

//// elu
static inline real bp_elu(real z, real alpha)
{
    const real low = alpha * bp_expm1(z);
    return z < R(0) ? low : z;
}

//// elu_slope value
static inline real bp_elu_slope(real a, real alpha)
{
    return a <= R(0) ? a + alpha : R(1);
}

//// gelu
static inline real bp_gelu(real z)
{
    return R(0.5) * z * (R(1) + bp_erf(z * R(0.70710678118654752440)));
}

//// gelu_slope score
static inline real bp_gelu_slope(real z)
{
    const real below = R(0.5) * (R(1) + bp_erf(z * R(0.70710678118654752440)));
    return bp_fma(z, R(0.39894228040143267794) * bp_exp(R(-0.5) * z * z), below);
}

//// gelu_tanh_inner
static inline real bp_gelu_tanh_inner(real z)
{
    return R(0.79788456080286535588) * bp_fma(R(0.044715) * z * z, z, z);
}

//// gelu_tanh
static inline real bp_gelu_tanh(real z)
{
    const real u = bp_gelu_tanh_inner(z);
    return z * bp_logistic(u + u);
}

//// gelu_tanh_slope score
static inline real bp_gelu_tanh_slope(real z)
{
    const real x = z < R(-50) ? R(-50) : R(50) < z ? R(50) : z, u = bp_gelu_tanh_inner(x), s = bp_logistic(u + u);
    const real inner = R(0.79788456080286535588) * bp_fma(R(0.134145) * x, x, R(1));
    return bp_fma((x + x) * s * bp_logistic(-(u + u)), inner, s);
}

//// silu
static inline real bp_silu(real z)
{
    return z * bp_logistic(z);
}

//// silu_slope score
static inline real bp_silu_slope(real z)
{
    const real tail = bp_exp(-bp_abs(z)), larger = R(1) / (R(1) + tail), smaller = tail * larger;
    return z < R(0) ? smaller * bp_fma(z, larger, R(1)) : larger * bp_fma(z, smaller, R(1));
}

//// softplus
static inline real bp_softplus(real z)
{
    return (z < R(0) ? R(0) : z) + bp_log1p(bp_exp(-bp_abs(z)));
}

//// softplus_slope value
static inline real bp_softplus_slope(real a)
{
    return -bp_expm1(-a);
}

//// exp_slope value
static inline real bp_exp_slope(real a)
{
    return a;
}

//// selu
static inline real bp_selu(real z)
{
    const real low = R(1.7580993408473768599) * bp_expm1(z);
    return z < R(0) ? low : R(1.0507009873554804934) * z;
}

//// selu_slope value
static inline real bp_selu_slope(real a)
{
    return a <= R(0) ? a + R(1.7580993408473768599) : R(1.0507009873554804934);
}

//// mish_score
/* z up to where tanh(softplus(z)) is 1 to the last digit */
static inline real bp_mish_score(real z)
{
    return R(20, 40) < z ? R(20, 40) : z;
}

//// mish
static inline real bp_mish(real z)
{
    const real e = bp_exp(bp_mish_score(z)), n = e * (e + R(2));
    return z * (n / (n + R(2)));
}

//// mish_slope score
static inline real bp_mish_slope(real z)
{
    const real x = bp_mish_score(z), e = bp_exp(x), n = e * (e + R(2)), q = R(1) / (n + R(2));
    return bp_fma(x, R(4) * e * q * ((e + R(1)) * q), n * q);
}

//// softsign
static inline real bp_softsign(real z)
{
    return z / (R(1) + bp_abs(z));
}

//// softsign_slope score
static inline real bp_softsign_slope(real z)
{
    const real q = R(1) / (R(1) + bp_abs(z));
    return q * q;
}

//// relu6
static inline real bp_relu6(real z)
{
    return z < R(0) ? R(0) : R(6) < z ? R(6) : z;
}

//// relu6_slope value
static inline real bp_relu6_slope(real a)
{
    return R(0) < a && a < R(6) ? R(1) : R(0);
}

//// hard_tanh
static inline real bp_hard_tanh(real z)
{
    return z < R(-1) ? R(-1) : R(1) < z ? R(1) : z;
}

//// hard_tanh_slope value
static inline real bp_hard_tanh_slope(real a)
{
    return bp_abs(a) < R(1) ? R(1) : R(0);
}

//// hard_sigmoid
static inline real bp_hard_sigmoid(real z)
{
    return bp_relu6(z + R(3)) * R(0.16666666666666666667);
}

//// hard_sigmoid_slope score
static inline real bp_hard_sigmoid_slope(real z)
{
    return bp_abs(z) < R(3) ? R(0.16666666666666666667) : R(0);
}

//// hard_swish
static inline real bp_hard_swish(real z)
{
    return z * bp_hard_sigmoid(z);
}

//// hard_swish_slope score
static inline real bp_hard_swish_slope(real z)
{
    const real between = ((z + z) + R(3)) * R(0.16666666666666666667);
    return z <= R(-3) ? R(0) : R(3) <= z ? R(1) : between;
}

//// prelu
static inline real bp_prelu(real z, real alpha)
{
    return z <= R(0) ? alpha * z : z;
}

//// prelu_slope score
static inline real bp_prelu_slope(real z, real alpha)
{
    return z <= R(0) ? alpha : R(1);
}

//// softmax
/* a (n,) = exp(a - max) / sum */
static inline void bp_softmax(int n, real *a)
{
    real top = a[0], total = R(0);
    int i;
    for (i = 1; i < n; i++)
        top = top < a[i] ? a[i] : top;
    for (i = 0; i < n; i++) {
        a[i] = bp_exp(a[i] - top);
        total = total + a[i];
    }
    total = R(1) / total;
    for (i = 0; i < n; i++)
        a[i] = a[i] * total;
}

//// softmax_slope value
/* d (n,) = a * (d - sum of a * d): the gradient with respect to the scores */
static inline void bp_softmax_slope(int n, const real *a, real *d)
{
    real total = R(0);
    int i;
    for (i = 0; i < n; i++)
        total = bp_fma(a[i], d[i], total);
    for (i = 0; i < n; i++)
        d[i] = a[i] * (d[i] - total);
}

//// product
/* z (n_out,) = biases + inputs (n_in,) @ weights (n_in, n_out); each sum runs from the first input to the last */
static inline void bp_product(int n_in, int n_out, const real *weights, const real *biases, const real *inputs, real *z)
{
    int i, o;
    for (o = 0; o < n_out; o++)
        z[o] = biases[o];
    for (i = 0; i < n_in; i++) {
        const real x = inputs[i];
        for (o = 0; o < n_out; o++)
            z[o] = bp_fma(x, weights[o], z[o]);
        weights += n_out;
    }
}

//// product_without_biases
/* z (n_out,) = inputs (n_in,) @ weights (n_in, n_out); each sum runs from the first input to the last */
static inline void bp_product_without_biases(int n_in, int n_out, const real *weights, const real *inputs, real *z)
{
    int i, o;
    for (o = 0; o < n_out; o++)
        z[o] = R(0);
    for (i = 0; i < n_in; i++) {
        const real x = inputs[i];
        for (o = 0; o < n_out; o++)
            z[o] = bp_fma(x, weights[o], z[o]);
        weights += n_out;
    }
}

//// int8_product
/* z (n_out,) = inputs (n_in,) @ weights (n_in, n_out) * scales; each sum runs from the first input to the last */
static inline void bp_int8_product(
    int n_in, int n_out, const int8_t *weights, const real *scales, const real *inputs, real *z)
{
    int i, o;
    for (o = 0; o < n_out; o++)
        z[o] = R(0);
    for (i = 0; i < n_in; i++) {
        const real x = inputs[i];
        for (o = 0; o < n_out; o++)
            z[o] = bp_fma(x, (real)weights[o], z[o]);
        weights += n_out;
    }
    for (o = 0; o < n_out; o++)
        z[o] = z[o] * scales[o];
}

//// gradient_below
/* below (n_in,) = weights (n_in, n_out) @ delta (n_out,) */
static inline void bp_gradient_below(int n_in, int n_out, const real *weights, const real *delta, real *below)
{
    int i, o;
    for (i = 0; i < n_in; i++) {
        real total = R(0);
        for (o = 0; o < n_out; o++)
            total = bp_fma(weights[o], delta[o], total);
        below[i] = total;
        weights += n_out;
    }
}

//// step
/* weights (n_in, n_out) -= rate * inputs (n_in,) x delta (n_out,) */
static inline void bp_step(int n_in, int n_out, real *weights, const real *inputs, const real *delta, real rate)
{
    int i, o;
    for (i = 0; i < n_in; i++) {
        const real x = rate * inputs[i];
        for (o = 0; o < n_out; o++)
            weights[o] = bp_fma(-x, delta[o], weights[o]);
        weights += n_out;
    }
}

//// penalised_step
/* weights (n_in, n_out) -= rate * (inputs (n_in,) x delta (n_out,) + l1 * their signs + l2 * themselves) */
static inline void bp_penalised_step(
    int n_in, int n_out, real *weights, const real *inputs, const real *delta, real rate, real l1, real l2)
{
    int i, o;
    for (i = 0; i < n_in; i++) {
        for (o = 0; o < n_out; o++) {
            const real w = weights[o], l = w < R(0) ? -l1 : R(0) < w ? l1 : R(0);
            weights[o] = bp_fma(-rate, bp_fma(inputs[i], delta[o], bp_fma(l2, w, l)), w);
        }
        weights += n_out;
    }
}
