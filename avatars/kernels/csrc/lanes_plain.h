// Sixteen floats as four vectors of four in the compilers' own notation (GCC, Clang): SSE2, NEON, or whatever there is.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

typedef float V4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

struct F {
    V4 v[4];
};
struct M {
    I4 v[4];
};

#define SPLAT_EACH(expression) \
    for (int i = 0; i < 4; ++i) expression

inline F load(const float* p) {
    F r;
    std::memcpy(&r, p, sizeof r);
    return r;
}
inline void store(float* p, const F& a) { std::memcpy(p, &a, sizeof a); }
inline F all(float x) {
    F r;
    SPLAT_EACH((r.v[i] = V4{x, x, x, x}));
    return r;
}
inline F operator+(F a, F b) {
    SPLAT_EACH(a.v[i] += b.v[i]);
    return a;
}
inline F operator-(F a, F b) {
    SPLAT_EACH(a.v[i] -= b.v[i]);
    return a;
}
inline F operator*(F a, F b) {
    SPLAT_EACH(a.v[i] *= b.v[i]);
    return a;
}
inline F fma(F a, F b, F c) {
    SPLAT_EACH(a.v[i] = a.v[i] * b.v[i] + c.v[i]);
    return a;
}
inline F fnma(F a, F b, F c) {
    SPLAT_EACH(a.v[i] = c.v[i] - a.v[i] * b.v[i]);
    return a;
}

inline M operator>=(F a, F b) {
    M r;
    SPLAT_EACH(r.v[i] = a.v[i] >= b.v[i]);
    return r;
}
inline M operator>(F a, F b) {
    M r;
    SPLAT_EACH(r.v[i] = a.v[i] > b.v[i]);
    return r;
}
inline M operator&(M a, M b) {
    SPLAT_EACH(a.v[i] &= b.v[i]);
    return a;
}
inline M without(M a, M b) {
    SPLAT_EACH(a.v[i] &= ~b.v[i]);
    return a;
}
inline bool any(M m) {
    const I4 r = m.v[0] | m.v[1] | m.v[2] | m.v[3];
    return (r[0] | r[1] | r[2] | r[3]) != 0;
}
inline F choose(M m, F yes, F no) {
    SPLAT_EACH(yes.v[i] = (V4)((m.v[i] & (I4)yes.v[i]) | (~m.v[i] & (I4)no.v[i])));
    return yes;
}
inline F keep(M m, F a) {
    SPLAT_EACH(a.v[i] = (V4)(m.v[i] & (I4)a.v[i]));
    return a;
}
inline F least(F a, F b) { return choose(b > a, a, b); }
inline F most(F a, F b) { return choose(a > b, a, b); }

inline F reciprocal(F a) {
    SPLAT_EACH(a.v[i] = 1.0f / a.v[i]);
    return a;
}

// 2^a where m, else 0; see lanes_avx512.h.
inline F exp2_where(M m, F a) {
    const F lowest = all(-80.0f);
    a = choose(a > lowest, a, lowest);
    F r;
    for (int i = 0; i < 4; ++i) {
        // Adding 1.5 * 2^23 leaves the rounded number in the low bits of the mantissa.
        const V4 shifted = a.v[i] + 12582912.0f;
        const V4 f = a.v[i] - (shifted - 12582912.0f);
        V4 p = V4{} + 1.327647128e-03f;
        p = p * f + 9.675541329e-03f;
        p = p * f + 5.550713276e-02f;
        p = p * f + 2.402211972e-01f;
        p = p * f + 6.931469671e-01f;
        p = p * f + 1.0f;
        r.v[i] = (V4)((I4)p + (((I4)shifted - 0x4B400000) << 23));
    }
    return keep(m, r);
}

inline uint64_t within(const uint8_t* first, const uint8_t* last, uint8_t value) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; ++i) bits |= static_cast<uint64_t>((first[i] <= value) & (value <= last[i])) << i;
    return bits;
}

inline void sum_lanes4(F a, F b, F c, F d, float* out) {
    const F in[4] = {a, b, c, d};
    for (int k = 0; k < 4; ++k) {
        const V4 s = in[k].v[0] + in[k].v[1] + in[k].v[2] + in[k].v[3];
        out[k] = (s[0] + s[1]) + (s[2] + s[3]);
    }
}

#undef SPLAT_EACH

}  // namespace
