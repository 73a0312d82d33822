// Sixteen floats in two AVX2 registers.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

struct F {
    __m256 v, w;
};
using M = F;

inline F load(const float* p) { return {_mm256_load_ps(p), _mm256_load_ps(p + 8)}; }
inline void store(float* p, F a) {
    _mm256_store_ps(p, a.v);
    _mm256_store_ps(p + 8, a.w);
}
inline F all(float x) {
    const __m256 v = _mm256_set1_ps(x);
    return {v, v};
}
inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v), _mm256_add_ps(a.w, b.w)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v), _mm256_sub_ps(a.w, b.w)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v), _mm256_mul_ps(a.w, b.w)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v), _mm256_fmadd_ps(a.w, b.w, c.w)}; }
inline F fnma(F a, F b, F c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v), _mm256_fnmadd_ps(a.w, b.w, c.w)}; }
inline F least(F a, F b) { return {_mm256_min_ps(a.v, b.v), _mm256_min_ps(a.w, b.w)}; }
inline F most(F a, F b) { return {_mm256_max_ps(a.v, b.v), _mm256_max_ps(a.w, b.w)}; }

inline M operator>=(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ), _mm256_cmp_ps(a.w, b.w, _CMP_GE_OQ)}; }
inline M operator>(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ), _mm256_cmp_ps(a.w, b.w, _CMP_GT_OQ)}; }
inline M operator&(M a, M b) { return {_mm256_and_ps(a.v, b.v), _mm256_and_ps(a.w, b.w)}; }
inline M without(M a, M b) { return {_mm256_andnot_ps(b.v, a.v), _mm256_andnot_ps(b.w, a.w)}; }
inline bool any(M m) { return _mm256_movemask_ps(_mm256_or_ps(m.v, m.w)) != 0; }
inline F choose(M m, F yes, F no) { return {_mm256_blendv_ps(no.v, yes.v, m.v), _mm256_blendv_ps(no.w, yes.w, m.w)}; }
inline F keep(M m, F a) { return m & a; }

inline F reciprocal(F a) {
    const __m256 one = _mm256_set1_ps(1.0f);
    return {_mm256_div_ps(one, a.v), _mm256_div_ps(one, a.w)};
}

inline __m256 exp2_half(__m256 a) {
    a = _mm256_max_ps(a, _mm256_set1_ps(-80.0f));
    const __m256 whole = _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 f = _mm256_sub_ps(a, whole);
    __m256 p = _mm256_set1_ps(1.327647128e-03f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(9.675541329e-03f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.550713276e-02f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.402211972e-01f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.931469671e-01f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

// 2^a where m, else 0; see lanes_avx512.h.
inline F exp2_where(M m, F a) { return m & F{exp2_half(a.v), exp2_half(a.w)}; }

inline uint64_t within(const uint8_t* first, const uint8_t* last, uint8_t value) {
    const __m256i v = _mm256_set1_epi8(static_cast<char>(value));
    uint64_t bits = 0;
    for (int half = 0; half < 2; ++half) {
        const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(first) + half);
        const __m256i b = _mm256_load_si256(reinterpret_cast<const __m256i*>(last) + half);
        const __m256i inside =
            _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_min_epu8(a, v), a), _mm256_cmpeq_epi8(_mm256_max_epu8(b, v), b));
        bits |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(inside))) << (32 * half);
    }
    return bits;
}

inline void sum_lanes4(F a, F b, F c, F d, float* out) {
    const __m256 x = _mm256_add_ps(a.v, a.w), y = _mm256_add_ps(b.v, b.w);
    const __m256 z = _mm256_add_ps(c.v, c.w), u = _mm256_add_ps(d.v, d.w);
    const __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(x, y), _mm256_hadd_ps(z, u));
    _mm_store_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}

}  // namespace
