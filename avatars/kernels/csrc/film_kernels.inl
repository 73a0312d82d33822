// Light on Gaussians and noise on pixels, the kernels of one instruction set: included by kernels.inl.
// The definitions are `light_factor` of compose/places/light.py and `add_grain` of compose/rendering/compositor.py.

namespace splat {
namespace {

// x^(1 / 2.2) for a positive normal x, relative error 2e-6: 2^(log2(x) / 2.2) with a minimax polynomial each.
inline float display_power(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const int32_t whole = (bits - 0x3F3504F3) >> 23;  // the rest is between sqrt(1/2) and sqrt(2)
    bits -= whole * (1 << 23);
    float t;
    std::memcpy(&t, &bits, sizeof t);
    t -= 1.0f;
    float p = 1.261484660e-01f;
    p = p * t - 2.074210351e-01f;
    p = p * t + 2.156698591e-01f;
    p = p * t - 2.389203398e-01f;
    p = p * t + 2.879183245e-01f;
    p = p * t - 3.607048281e-01f;
    p = p * t + 4.809106099e-01f;
    p = p * t - 7.213473334e-01f;
    p = p * t + 1.442695004e+00f;
    const float power = (static_cast<float>(whole) + p * t) * (1.0f / 2.2f);
    const float shifted = power + 12582912.0f;  // 1.5 * 2^23 leaves the rounded number in the low bits
    const float f = power - (shifted - 12582912.0f);
    float q = 1.327647128e-03f;
    q = q * f + 9.675541329e-03f;
    q = q * f + 5.550713276e-02f;
    q = q * f + 2.402211972e-01f;
    q = q * f + 6.931469671e-01f;
    q = q * f + 1.0f;
    int32_t scale, result;
    std::memcpy(&scale, &shifted, sizeof scale);
    std::memcpy(&result, &q, sizeof result);
    result += (scale - 0x4B400000) * (1 << 23);
    std::memcpy(&q, &result, sizeof q);
    return q;
}

struct alignas(64) LitGroup {
    float quat[4][kLanes], local[3][kLanes], color[3][kLanes];
};

inline void light_group(const Light& l, LitGroup& g) {
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
        const float w = g.quat[0][i], x = g.quat[1][i], y = g.quat[2][i], z = g.quat[3][i];
        const float a = g.local[0][i], b = g.local[1][i], c = g.local[2][i];
        const float square = w * w + x * x + y * y + z * z;
        const float two = 2.0f / (square > 1e-12f ? square : 1e-12f);
        // v + 2 u x (u x v + w v)
        const float p = y * c - z * b + w * a, q = z * a - x * c + w * b, r = x * b - y * a + w * c;
        const float nx = a + two * (y * r - z * q), ny = b + two * (z * p - x * r), nz = c + two * (x * q - y * p);
        const float facing = l.toward[0] * nx + l.toward[1] * ny + l.toward[2] * nz;
        const float lit = facing > 0.0f ? facing : 0.0f;
        for (int k = 0; k < 3; ++k) {
            float linear =
                l.base[k] + l.slope[3 * k] * nx + l.slope[3 * k + 1] * ny + l.slope[3 * k + 2] * nz + l.key[k] * lit;
            linear = linear > l.least ? linear : l.least;
            linear = linear < l.most ? linear : l.most;
            float color = g.color[k][i] * display_power(linear) * l.gain[k];
            color = color > 0.0f ? color : 0.0f;
            g.color[k][i] = color < 1.0f ? color : 1.0f;
        }
    }
}

void relight(const Lit& s, int64_t begin, int64_t end) {
    LitGroup g;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = static_cast<int>(end - first < kLanes ? end - first : kLanes);
        for (int i = 0; i < kLanes; ++i) {
            const int64_t at = first + smaller(i, count - 1);
            for (int k = 0; k < 4; ++k) g.quat[k][i] = s.quats[at * 4 + k];
            for (int k = 0; k < 3; ++k) g.local[k][i] = s.local ? s.local[at * 3 + k] : (k == 2 ? 1.0f : 0.0f);
            for (int k = 0; k < 3; ++k) g.color[k][i] = s.colors[at * s.channels + k];
        }
        light_group(s.light, g);
        for (int i = 0; i < count; ++i)
            for (int k = 0; k < 3; ++k) s.out[(first + i) * 3 + k] = g.color[k][i];
    }
}

// Adds noise (steps of 1/32) times the scale of each value (steps of 1/32) to bytes.
void grain(uint8_t* bytes, const int16_t* noise, const int32_t* scale, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        const int32_t moved = bytes[i] + ((scale[bytes[i]] * noise[i] + 512) >> 10);
        bytes[i] = static_cast<uint8_t>(moved < 0 ? 0 : moved > 255 ? 255 : moved);
    }
}

}  // namespace
}  // namespace splat
