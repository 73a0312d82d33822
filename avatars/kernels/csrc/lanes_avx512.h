// Sixteen floats in one AVX-512 register.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

struct F {
    __m512 v;
};
struct M {
    __mmask16 v;
};

inline F load(const float* p) { return {_mm512_load_ps(p)}; }
inline void store(float* p, F a) { _mm512_store_ps(p, a.v); }
inline F all(float x) { return {_mm512_set1_ps(x)}; }
inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
inline F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
inline F least(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F most(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }

inline M operator>=(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
inline M operator>(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
inline M operator&(M a, M b) { return {static_cast<__mmask16>(a.v & b.v)}; }
inline M without(M a, M b) { return {static_cast<__mmask16>(a.v & ~b.v)}; }
inline bool any(M m) { return m.v != 0; }
inline F choose(M m, F yes, F no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }
inline F keep(M m, F a) { return {_mm512_maskz_mov_ps(m.v, a.v)}; }

inline F reciprocal(F a) {
    const __m512 r = _mm512_rcp14_ps(a.v);
    return {_mm512_mul_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(2.0f)))};
}

// 2^a where m, else 0; relative error 1e-7: a minimax polynomial on [-1/2, 1/2] times a power of two. a is at least
// -80 where m: denormal numbers, which would cost a hundred cycles each, do not come about.
inline F exp2_where(M m, F a) {
    const __m512 whole = _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(a.v, whole);
    __m512 p = _mm512_set1_ps(1.327647128e-03f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.675541329e-03f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550713276e-02f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402211972e-01f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931469671e-01f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return {_mm512_maskz_scalef_ps(m.v, p, whole)};
}

// For each of 64 ranges, as a bit: does it hold `value`?
inline uint64_t within(const uint8_t* first, const uint8_t* last, uint8_t value) {
    const __m512i v = _mm512_set1_epi8(static_cast<char>(value));
    return _mm512_cmple_epu8_mask(_mm512_load_si512(first), v) & _mm512_cmpge_epu8_mask(_mm512_load_si512(last), v);
}

// The sums over the lanes of four vectors.
inline void sum_lanes4(F a, F b, F c, F d, float* out) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.v, b.v), _mm512_unpackhi_ps(a.v, b.v));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.v, d.v), _mm512_unpackhi_ps(c.v, d.v));
    const __m512 lo = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)));
    const __m512 hi = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)));
    const __m512 s = _mm512_add_ps(lo, hi);
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    _mm_store_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

}  // namespace
