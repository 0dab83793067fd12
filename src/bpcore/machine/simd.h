/* The C of the core, but for small headers: the scalar type, the vector type, and the few operations on them that
 * Cython cannot say.
 *
 * Compile-time choices, made by CMake and nowhere else:
 *   BP_REAL_BITS   32 or 64: real is float or double
 *   BP_VEC_BYTES   64, 32 or 16: size of a vector; 0: no vector types, a vector is one real
 * What the compiler then may use follows from its own macros: __AVX512F__, __AVX2__ and __FMA__ on x86, BP_NEON on Arm.
 *
 * Plain arithmetic (+ - * / and comparisons) is written with the operators of GCC's vector extension, which Clang
 * shares.
 * Contraction is off (-ffp-contract=off); vfma is the one place where a product and a sum round once.
 */
#ifndef BPCORE_SIMD_H
#define BPCORE_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if BP_REAL_BITS == 32
typedef float real;
typedef int32_t ireal;
#else
typedef double real;
typedef int64_t ireal;
#endif

#if defined(__GNUC__)
#define BP_INLINE static inline __attribute__((always_inline))
#define BP_ALWAYS_INLINED __attribute__((always_inline)) void
#define BP_NEVER_INLINED __attribute__((noinline)) void
#else
#define BP_INLINE static inline
#define BP_ALWAYS_INLINED void
#define BP_NEVER_INLINED void
#endif

#if BP_VEC_BYTES > 0
#define BP_LANES ((int)(BP_VEC_BYTES / sizeof(real)))
typedef real vec __attribute__((vector_size(BP_VEC_BYTES)));
typedef ireal ivec __attribute__((vector_size(BP_VEC_BYTES)));
typedef real uvec __attribute__((vector_size(BP_VEC_BYTES), aligned(sizeof(real)))); /* anywhere in an array of reals */
#if defined(__FMA__)
#include <immintrin.h>
#endif
#if BP_VEC_BYTES == 16 && defined(__aarch64__)
#define BP_NEON
#include <arm_neon.h>
#endif
#else
#define BP_LANES 1
typedef real vec;
typedef ireal ivec;
#endif

/* A product keeps a block of BP_TILE_ROWS x BP_TILE_VECS vectors in registers, or of BP_MAX_ROWS rows of fewer
 * vectors. BP_GROUP_VECS vectors make a group of 64 bytes: sums over samples use one partial sum per lane of a group on
 * every instruction set. A tile that is not the last of its batch starts and ends at a group. */
#if BP_VEC_BYTES == 64
#define BP_TILE_ROWS 6
#define BP_TILE_VECS 4
#define BP_MAX_ROWS 8
#elif BP_VEC_BYTES == 32
#define BP_TILE_ROWS 6
#define BP_TILE_VECS 2
#define BP_MAX_ROWS 6
#elif defined(BP_NEON) /* 32 registers, as many as AVX-512 has */
#define BP_TILE_ROWS 6
#define BP_TILE_VECS 4
#define BP_MAX_ROWS 8
#elif BP_VEC_BYTES == 16
#define BP_TILE_ROWS 2
#define BP_TILE_VECS 4
#define BP_MAX_ROWS 2
#else
#define BP_TILE_ROWS 1
#define BP_TILE_VECS ((int)(64 / sizeof(real)))
#define BP_MAX_ROWS 1
#endif
/* where the sums of a block without biases begin: as many as it has rows, or units in vectors */
static const real bp_zeros[BP_TILE_VECS * BP_LANES] = {0};
/* The units whose sums with a few inputs are made at a time. */
#define BP_SUM_UNITS (BP_MAX_ROWS < 8 ? 1 : 2)
/* The blocks of short sums, over few samples, of which there are many. */
#define BP_SUM_ROWS (BP_TILE_ROWS < 4 ? BP_TILE_ROWS : 4)
#define BP_SUM_VECS (BP_TILE_VECS < 4 ? BP_TILE_VECS : 4)
/* At most so many samples make the last tile a short one. */
#define BP_SHORT_TILE (BP_LANES / 2)
/* The last units of a layer have blocks of their own if they are one, two or three times so many. */
#define BP_QUARTER (BP_LANES > 4 ? BP_LANES / 4 : 1)
/* Rows of at least two numbers that lie one after the other: so many rows on, a vector has none of the first's lanes. */
#define BP_TAIL_ROWS (BP_LANES > 1 ? BP_LANES / 2 : 1)
/* The blocks of products whose every number is a vector, so that both factors are loaded. */
#if BP_VEC_BYTES == 64 || defined(BP_NEON)
#define BP_MEMBER_ROWS 4
#define BP_MEMBER_COLUMNS 4
#elif BP_VEC_BYTES == 32
#define BP_MEMBER_ROWS 4
#define BP_MEMBER_COLUMNS 2
#else
#define BP_MEMBER_ROWS 2
#define BP_MEMBER_COLUMNS 2
#endif
#define BP_GROUP_LANES ((int)(64 / sizeof(real)))
#define BP_GROUP_VECS (BP_GROUP_LANES / BP_LANES)
/* The sums of a block of dot products that the registers hold beside its factors: 12, or of 32 registers 24. */
#define BP_DOT_SUMS (BP_MAX_ROWS < 8 ? 12 : 24)

/* ---- memory ---- */
#if BP_VEC_BYTES > 0
BP_INLINE vec vload(const real *p) { return *(const uvec *)p; }
BP_INLINE void vstore(real *p, vec v) { *(uvec *)p = v; }
BP_INLINE vec vset1(real x) { return x - (vec){0}; }
#else
BP_INLINE vec vload(const real *p) { return *p; }
BP_INLINE void vstore(real *p, vec v) { *p = v; }
BP_INLINE vec vset1(real x) { return x; }
#endif

/* The same number or pointer, in a register. GCC otherwise folds the load into each multiply-add that takes the number,
 * 1 to 3 % of an epoch where a processor loads one vector of 64 bytes a cycle, and keeps the distance of each number behind
 * the pointer in a register of its own. */
#if BP_VEC_BYTES == 64 && defined(__x86_64__)
BP_INLINE vec vheld(vec v) {
    __asm__("" : "+v"(v));
    return v;
}
BP_INLINE const real *bp_held(const real *p) {
    __asm__("" : "+r"(p));
    return p;
}
#else
BP_INLINE vec vheld(vec v) { return v; }
BP_INLINE const real *bp_held(const real *p) { return p; }
#endif

/* the first n lanes (0 <= n <= BP_LANES); the others are 0 and no memory behind them is touched */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* GCC's sanitizers see neither masked instructions nor, everywhere, memcpy: they would miss what happens here. */
BP_INLINE vec vload_n(const real *p, ptrdiff_t n) {
    vec v = vset1(0);
    for (ptrdiff_t i = 0; i < n; i++)
        ((real *)&v)[i] = p[i];
    return v;
}
BP_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] = ((const real *)&v)[i];
}
#elif BP_VEC_BYTES == 64 && BP_REAL_BITS == 32 && defined(__AVX512F__)
BP_INLINE vec vload_n(const real *p, ptrdiff_t n) { return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
BP_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
#elif BP_VEC_BYTES == 64 && BP_REAL_BITS == 64 && defined(__AVX512F__)
BP_INLINE vec vload_n(const real *p, ptrdiff_t n) { return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p); }
BP_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
#elif BP_VEC_BYTES == 32 && BP_REAL_BITS == 32 && defined(__AVX2__)
BP_INLINE __m256i bp_first_lanes(ptrdiff_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
BP_INLINE vec vload_n(const real *p, ptrdiff_t n) { return (vec)_mm256_maskload_ps(p, bp_first_lanes(n)); }
BP_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) { _mm256_maskstore_ps(p, bp_first_lanes(n), (__m256)v); }
#elif BP_VEC_BYTES == 32 && BP_REAL_BITS == 64 && defined(__AVX2__)
BP_INLINE __m256i bp_first_lanes(ptrdiff_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3));
}
BP_INLINE vec vload_n(const real *p, ptrdiff_t n) { return (vec)_mm256_maskload_pd(p, bp_first_lanes(n)); }
BP_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) { _mm256_maskstore_pd(p, bp_first_lanes(n), (__m256d)v); }
#else
BP_INLINE vec vload_n(const real *p, ptrdiff_t n) {
    vec v = vset1(0);
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
}
BP_INLINE void vstore_n(real *p, vec v, ptrdiff_t n) { memcpy(p, &v, (size_t)n * sizeof(real)); }
#endif

/* ---- one rounding: a * b + c ---- */
#if BP_VEC_BYTES == 64 && BP_REAL_BITS == 32 && defined(__AVX512F__)
BP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
BP_INLINE vec vsqrt(vec a) { return (vec)_mm512_sqrt_ps((__m512)a); }
#elif BP_VEC_BYTES == 64 && BP_REAL_BITS == 64 && defined(__AVX512F__)
BP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
BP_INLINE vec vsqrt(vec a) { return (vec)_mm512_sqrt_pd((__m512d)a); }
#elif BP_VEC_BYTES == 32 && BP_REAL_BITS == 32 && defined(__FMA__)
BP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
BP_INLINE vec vsqrt(vec a) { return (vec)_mm256_sqrt_ps((__m256)a); }
#elif BP_VEC_BYTES == 32 && BP_REAL_BITS == 64 && defined(__FMA__)
BP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
BP_INLINE vec vsqrt(vec a) { return (vec)_mm256_sqrt_pd((__m256d)a); }
#elif defined(BP_NEON) && BP_REAL_BITS == 32
BP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
BP_INLINE vec vsqrt(vec a) { return (vec)vsqrtq_f32((float32x4_t)a); }
#elif defined(BP_NEON)
BP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
BP_INLINE vec vsqrt(vec a) { return (vec)vsqrtq_f64((float64x2_t)a); }
#elif BP_VEC_BYTES > 0
BP_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
BP_INLINE vec vsqrt(vec a) {
    for (int i = 0; i < BP_LANES; i++)
        a[i] = BP_REAL_BITS == 32 ? (real)sqrtf((float)a[i]) : (real)sqrt((double)a[i]);
    return a;
}
#else
BP_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
BP_INLINE vec vsqrt(vec a) { return BP_REAL_BITS == 32 ? (real)sqrtf((float)a) : (real)sqrt((double)a); }
#endif

/* the same for one number; where a vector has no fused multiply-add, it has none either */
#if (defined(__FMA__) && BP_VEC_BYTES > 16) || defined(BP_NEON)
BP_INLINE real rfma(real a, real b, real c) {
    return BP_REAL_BITS == 32 ? (real)__builtin_fmaf((float)a, (float)b, (float)c)
                              : (real)__builtin_fma((double)a, (double)b, (double)c);
}
#else
BP_INLINE real rfma(real a, real b, real c) { return a * b + c; }
#endif

/* ---- select, bits, conversion ---- */
#if BP_VEC_BYTES > 0
BP_INLINE ivec vbits(vec v) { return (ivec)v; }
BP_INLINE vec vfrombits(ivec b) { return (vec)b; }
BP_INLINE ivec viset1(ireal x) { return x - (ivec){0}; }
BP_INLINE ivec vtoint(vec v) { return __builtin_convertvector(v, ivec); }
BP_INLINE vec vtoreal(ivec v) { return __builtin_convertvector(v, vec); }
BP_INLINE real vlane(vec v, int i) { return v[i]; }
#else
BP_INLINE ivec vbits(vec v) { ivec b; memcpy(&b, &v, sizeof b); return b; }
BP_INLINE vec vfrombits(ivec b) { vec v; memcpy(&v, &b, sizeof v); return v; }
BP_INLINE ivec viset1(ireal x) { return x; }
BP_INLINE ivec vtoint(vec v) { return (ivec)v; }
BP_INLINE vec vtoreal(ivec v) { return (vec)v; }
BP_INLINE real vlane(vec v, int i) { (void)i; return v; }
#endif

/* a mask is what comparisons give and vselect takes: a bit per lane where the processor has such registers */
#if BP_VEC_BYTES == 64 && BP_REAL_BITS == 32 && defined(__AVX512F__)
typedef __mmask16 vmask;
BP_INLINE vmask vlt(vec a, vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
BP_INLINE vmask vle(vec a, vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ); }
BP_INLINE vmask veq(vec a, vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
BP_INLINE vec vselect(vmask m, vec a, vec b) { return (vec)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
#elif BP_VEC_BYTES == 64 && BP_REAL_BITS == 64 && defined(__AVX512F__)
typedef __mmask8 vmask;
BP_INLINE vmask vlt(vec a, vec b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ); }
BP_INLINE vmask vle(vec a, vec b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LE_OQ); }
BP_INLINE vmask veq(vec a, vec b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_EQ_OQ); }
BP_INLINE vec vselect(vmask m, vec a, vec b) { return (vec)_mm512_mask_blend_pd(m, (__m512d)b, (__m512d)a); }
#elif BP_VEC_BYTES > 0
typedef ivec vmask; /* -1 or 0; compilers know the selection, too, where there is an instruction for it */
BP_INLINE vmask vlt(vec a, vec b) { return a < b; }
BP_INLINE vmask vle(vec a, vec b) { return a <= b; }
BP_INLINE vmask veq(vec a, vec b) { return a == b; }
BP_INLINE vec vselect(vmask m, vec a, vec b) { return (vec)((m & (ivec)a) | (~m & (ivec)b)); }
#else
typedef int vmask;
BP_INLINE vmask vlt(vec a, vec b) { return a < b; }
BP_INLINE vmask vle(vec a, vec b) { return a <= b; }
BP_INLINE vmask veq(vec a, vec b) { return a == b; }
BP_INLINE vec vselect(vmask m, vec a, vec b) { return m ? a : b; }
#endif
BP_INLINE vec vabs(vec a) { return vfrombits(vbits(a) & ~vbits(vset1((real)-0.0))); }

/* vmin: b where b < a, else a; vmax: b where a < b, else a. So a NaN in a stays, and one in b is passed over. */
#if BP_VEC_BYTES == 64 && BP_REAL_BITS == 32 && defined(__AVX512F__)
BP_INLINE vec vmin(vec a, vec b) { return (vec)_mm512_min_ps((__m512)b, (__m512)a); }
BP_INLINE vec vmax(vec a, vec b) { return (vec)_mm512_max_ps((__m512)b, (__m512)a); }
#elif BP_VEC_BYTES == 64 && BP_REAL_BITS == 64 && defined(__AVX512F__)
BP_INLINE vec vmin(vec a, vec b) { return (vec)_mm512_min_pd((__m512d)b, (__m512d)a); }
BP_INLINE vec vmax(vec a, vec b) { return (vec)_mm512_max_pd((__m512d)b, (__m512d)a); }
#elif BP_VEC_BYTES == 32 && BP_REAL_BITS == 32 && defined(__AVX2__)
BP_INLINE vec vmin(vec a, vec b) { return (vec)_mm256_min_ps((__m256)b, (__m256)a); }
BP_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_ps((__m256)b, (__m256)a); }
#elif BP_VEC_BYTES == 32 && BP_REAL_BITS == 64 && defined(__AVX2__)
BP_INLINE vec vmin(vec a, vec b) { return (vec)_mm256_min_pd((__m256d)b, (__m256d)a); }
BP_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_pd((__m256d)b, (__m256d)a); }
#else
BP_INLINE vec vmin(vec a, vec b) { return vselect(vlt(b, a), b, a); }
BP_INLINE vec vmax(vec a, vec b) { return vselect(vlt(a, b), b, a); }
#endif

/* ---- exponents and signs, for vmath.pxd ---- */
#if BP_REAL_BITS == 32
#define BP_MANTISSA_BITS 23
typedef uint32_t bp_unsigned;
#else
#define BP_MANTISSA_BITS 52
typedef uint64_t bp_unsigned;
#endif
#if BP_VEC_BYTES > 0
typedef bp_unsigned bp_uivec __attribute__((vector_size(BP_VEC_BYTES)));
#else
typedef bp_unsigned bp_uivec;
#endif
/* bits move up or down, zeros follow; not << on ivec, which is undefined for negative numbers where a vector is one
 * real,
 * nor >>, which AVX2 lacks for 64-bit signed numbers */
BP_INLINE ivec vshl(ivec v, int n) { return (ivec)((bp_uivec)v << n); }
BP_INLINE ivec vshr(ivec v, int n) { return (ivec)((bp_uivec)v >> n); }
/* bits as numbers that wrap around; + and - on ivec are undefined where they would */
BP_INLINE ivec viadd(ivec a, ivec b) { return (ivec)((bp_uivec)a + (bp_uivec)b); }
BP_INLINE ivec visub(ivec a, ivec b) { return (ivec)((bp_uivec)a - (bp_uivec)b); }
/* a with the sign of b */
BP_INLINE vec vcopysign(vec a, vec b) {
    const ivec sign = vbits(vset1((real)-0.0));
#if BP_VEC_BYTES == 64 && defined(__AVX512F__)
    return (vec)_mm512_ternarylogic_epi64((__m512i)sign, (__m512i)a, (__m512i)b, 0xAC);
#else
    return vfrombits((vbits(a) & ~sign) | (vbits(b) & sign));
#endif
}
/* a * 2^n, rounded once; n integral, 0.5 <= abs(a) < 2 or NaN, and the result may be subnormal, zero or infinite.
 * |n| may be as large as 1.5 times the largest exponent. AVX-512 has an instruction for it with the very same result.
 */
BP_INLINE vec vldexp(vec a, vec n) {
#if BP_VEC_BYTES == 64 && BP_REAL_BITS == 32 && defined(__AVX512F__)
    return (vec)_mm512_scalef_ps((__m512)a, (__m512)n);
#elif BP_VEC_BYTES == 64 && BP_REAL_BITS == 64 && defined(__AVX512F__)
    return (vec)_mm512_scalef_pd((__m512d)a, (__m512d)n);
#else
    /* 2^n = 2^h * 2^(n - h) with h near n / 2. Added to 1.5 * 2^mantissa + bias, a small whole number leaves its own
     * biased
     * exponent in the low bits, which then are shifted into place. The first product is exact. */
    const vec magic = vset1(BP_REAL_BITS == 32 ? (real)(12582912 + 127) : (real)(6755399441055744 + 1023));
    const vec half = n * vset1((real)0.5) + magic;
    const vec rest = (n - half) + (magic + magic);
    return a * vfrombits(vshl(vbits(half), BP_MANTISSA_BITS)) * vfrombits(vshl(vbits(rest), BP_MANTISSA_BITS));
#endif
}

#if defined(__GNUC__)
/* To GCC, a function that only prefetches has no effect, and it drops the calls. Those who call this one write
 * something, too; those of the next one do not, and its empty asm keeps them. */
BP_INLINE void bp_prefetch(const real *p) { __builtin_prefetch(p, 0, 2); }
/* Where the compiler may not use PREFETCHW (baseline), it fetches for reading. */
BP_INLINE void bp_prefetch_to_write(real *p) {
    __builtin_prefetch(p, 1, 3);
    __asm__ volatile("");
}
#else
BP_INLINE void bp_prefetch(const real *p) { (void)p; }
BP_INLINE void bp_prefetch_to_write(real *p) { (void)p; }
#endif

/* Make a cache line that other cores have read this core's own, by a store that changes nothing. PREFETCHW leaves a
 * line alone that the own cache has already, though shared (Zen 4). */
BP_INLINE void bp_claim(real *p) { *(volatile real *)p = *(volatile real *)p; }

/* ---- a double or a whole number of 64 bits for each lane ----
 * BP_PARTS vectors hold as many as a vec has lanes; one after the other, as no compiler splits wider ones well. Masks
 * are -1 for yes and 0 for no. */
#if BP_VEC_BYTES > 0
#define BP_PART (BP_VEC_BYTES / 8)
#define BP_PARTS (BP_LANES / BP_PART)
typedef double dvec __attribute__((vector_size(BP_VEC_BYTES)));
typedef int64_t lvec __attribute__((vector_size(BP_VEC_BYTES)));
typedef double bp_udvec __attribute__((vector_size(BP_VEC_BYTES), aligned(8)));
typedef int64_t bp_ulvec __attribute__((vector_size(BP_VEC_BYTES), aligned(8)));
typedef real bp_part __attribute__((vector_size(BP_PART * sizeof(real)), aligned(sizeof(real))));
BP_INLINE dvec dload(const double *p) { return *(const bp_udvec *)p; }
BP_INLINE void dstore(double *p, dvec v) { *(bp_udvec *)p = v; }
BP_INLINE lvec lload(const int64_t *p) { return *(const bp_ulvec *)p; }
BP_INLINE void lstore(int64_t *p, lvec v) { *(bp_ulvec *)p = v; }
BP_INLINE dvec dset1(double x) { return x - (dvec){0}; }
BP_INLINE lvec lset1(int64_t x) { return x - (lvec){0}; }
#if BP_REAL_BITS == 32 && BP_VEC_BYTES == 64 && defined(__AVX512F__) /* GCC 12 converts by halves, in three times as many */
BP_INLINE dvec dload_reals(const real *p) { return (dvec)_mm512_cvtps_pd(_mm256_loadu_ps(p)); }
#elif BP_REAL_BITS == 32 && BP_VEC_BYTES == 32 && defined(__AVX__)
BP_INLINE dvec dload_reals(const real *p) { return (dvec)_mm256_cvtps_pd(_mm_loadu_ps(p)); }
#else
BP_INLINE dvec dload_reals(const real *p) { return __builtin_convertvector(*(const bp_part *)p, dvec); }
#endif
BP_INLINE lvec dlt(dvec a, dvec b) { return (lvec)(a < b); }
BP_INLINE lvec dle(dvec a, dvec b) { return (lvec)(a <= b); }
BP_INLINE lvec deq(dvec a, dvec b) { return (lvec)(a == b); }
BP_INLINE lvec llt(lvec a, lvec b) { return (lvec)(a < b); }
BP_INLINE dvec dselect(lvec m, dvec a, dvec b) { return (dvec)((m & (lvec)a) | (~m & (lvec)b)); }
BP_INLINE lvec lselect(lvec m, lvec a, lvec b) { return (m & a) | (~m & b); }
#else
#define BP_PART 1
#define BP_PARTS 1
typedef double dvec;
typedef int64_t lvec;
BP_INLINE dvec dload(const double *p) { return *p; }
BP_INLINE void dstore(double *p, dvec v) { *p = v; }
BP_INLINE lvec lload(const int64_t *p) { return *p; }
BP_INLINE void lstore(int64_t *p, lvec v) { *p = v; }
BP_INLINE dvec dset1(double x) { return x; }
BP_INLINE lvec lset1(int64_t x) { return x; }
BP_INLINE dvec dload_reals(const real *p) { return (double)*p; }
BP_INLINE lvec dlt(dvec a, dvec b) { return -(int64_t)(a < b); }
BP_INLINE lvec dle(dvec a, dvec b) { return -(int64_t)(a <= b); }
BP_INLINE lvec deq(dvec a, dvec b) { return -(int64_t)(a == b); }
BP_INLINE lvec llt(lvec a, lvec b) { return -(int64_t)(a < b); }
BP_INLINE dvec dselect(lvec m, dvec a, dvec b) { return m ? a : b; }
BP_INLINE lvec lselect(lvec m, lvec a, lvec b) { return m ? a : b; }
#endif
#if BP_PART > 1 && !defined(__clang__)
BP_INLINE dvec bp_dfold(dvec v, const int s) {
    lvec other;
    for (int i = 0; i < BP_PART; i++)
        other[i] = i ^ s;
    return v + __builtin_shuffle(v, other);
}
/* the sum of the doubles, upper half onto lower half each time */
BP_INLINE double dsum(dvec v) {
    if (BP_PART > 4) v = bp_dfold(v, 4);
    if (BP_PART > 2) v = bp_dfold(v, 2);
    return bp_dfold(v, 1)[0];
}
#else
BP_INLINE double dsum(dvec v) {
    double parts[BP_PART];
    memcpy(parts, &v, sizeof v);
    for (int s = BP_PART / 2; s > 0; s /= 2)
        for (int i = 0; i < s; i++)
            parts[i] += parts[i + s];
    return parts[0];
}
#endif
/* whether any bit is set */
BP_INLINE int lany(lvec m) {
#if BP_VEC_BYTES == 64 && defined(__AVX512F__)
    return _mm512_test_epi64_mask((__m512i)m, (__m512i)m) != 0;
#elif BP_VEC_BYTES == 32 && defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)m, (__m256i)m);
#else
    int64_t found = 0, parts[BP_PART];
    memcpy(parts, &m, sizeof m);
    for (int i = 0; i < BP_PART; i++)
        found |= parts[i];
    return found != 0;
#endif
}

/* ---- across lanes ---- */
#if BP_VEC_BYTES > 0 && !defined(__clang__)
/* one stage of a transposition: exchange the blocks of size s off the diagonal */
BP_INLINE void bp_exchange(vec *rows, const int n_rows, const int s) {
    ivec low, high;
    for (int i = 0; i < BP_LANES; i++) {
        low[i] = i & s ? i - s + BP_LANES : i;
        high[i] = i & s ? i + BP_LANES : i + s;
    }
    for (int i = 0; i < n_rows; i++)
        if (!(i & s)) {
            const vec a = rows[i], b = rows[i + s];
            rows[i] = __builtin_shuffle(a, b, low);
            rows[i + s] = __builtin_shuffle(a, b, high);
        }
}
/* rows (BP_LANES, BP_LANES), in place */
BP_INLINE void vtranspose(vec *rows) {
    if (BP_LANES > 1) bp_exchange(rows, BP_LANES, 1);
    if (BP_LANES > 2) bp_exchange(rows, BP_LANES, 2);
    if (BP_LANES > 4) bp_exchange(rows, BP_LANES, 4);
    if (BP_LANES > 8) bp_exchange(rows, BP_LANES, 8);
}
/* the lower half of a, then that of b */
BP_INLINE vec vpair(vec a, vec b) {
    ivec both;
    for (int i = 0; i < BP_LANES; i++)
        both[i] = i < BP_LANES / 2 ? i : i + BP_LANES / 2;
    return __builtin_shuffle(a, b, both);
}
/* half as many rows, each half of each transposed by itself */
BP_INLINE void vtranspose_halves(vec *rows) {
    if (BP_LANES > 2) bp_exchange(rows, BP_LANES / 2, 1);
    if (BP_LANES > 4) bp_exchange(rows, BP_LANES / 2, 2);
    if (BP_LANES > 8) bp_exchange(rows, BP_LANES / 2, 4);
}
BP_INLINE vec bp_fold(vec v, const int s) {
    ivec other;
    for (int i = 0; i < BP_LANES; i++)
        other[i] = i ^ s;
    return v + __builtin_shuffle(v, other);
}
/* the sum of the lanes, upper half onto lower half each time: the same tree at every width */
BP_INLINE real vsum(vec v) {
    if (BP_LANES > 8) v = bp_fold(v, 8);
    if (BP_LANES > 4) v = bp_fold(v, 4);
    if (BP_LANES > 2) v = bp_fold(v, 2);
    if (BP_LANES > 1) v = bp_fold(v, 1);
    return v[0];
}
#elif BP_VEC_BYTES > 0
BP_INLINE void vtranspose(vec *rows) {
    for (int i = 0; i < BP_LANES; i++)
        for (int j = 0; j < i; j++) {
            const real x = rows[i][j];
            rows[i][j] = rows[j][i];
            rows[j][i] = x;
        }
}
BP_INLINE vec vpair(vec a, vec b) {
    for (int i = 0; i < BP_LANES / 2; i++)
        a[i + BP_LANES / 2] = b[i];
    return a;
}
BP_INLINE void vtranspose_halves(vec *rows) {
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < BP_LANES / 2; i++)
            for (int j = 0; j < i; j++) {
                const int at = h * (BP_LANES / 2);
                const real x = rows[i][at + j];
                rows[i][at + j] = rows[j][at + i];
                rows[j][at + i] = x;
            }
}
BP_INLINE real vsum(vec v) {
    for (int s = BP_LANES / 2; s > 0; s /= 2)
        for (int i = 0; i < s; i++)
            v[i] += v[i + s];
    return v[0];
}
#else
BP_INLINE void vtranspose(vec *rows) { (void)rows; }
BP_INLINE vec vpair(vec a, vec b) { (void)b; return a; }
BP_INLINE void vtranspose_halves(vec *rows) { (void)rows; }
BP_INLINE real vsum(vec v) { return v; }
#endif

#endif
