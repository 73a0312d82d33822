// A smooth light on Gaussians by their normals, and its gradients, the kernels of one instruction set: included by
// kernels.inl. The definition is `shaded_reference` of shading.py.

namespace splat {
namespace {

// Sixteen Gaussians: the harmonics of their normals, and the factor on their colors.
struct alignas(64) ShadeGroup {
    float harmonics[kHarmonics][kLanes], factor[3][kLanes];
};

// 2^x for x in [-126, 126], relative error 1e-7; the polynomial of exp2_where.
inline float power_of_two(float x) {
    const float shifted = x + 12582912.0f;  // 1.5 * 2^23 leaves the rounded number in the low bits
    const float f = x - (shifted - 12582912.0f);
    float p = 1.327647128e-03f;
    p = p * f + 9.675541329e-03f;
    p = p * f + 5.550713276e-02f;
    p = p * f + 2.402211972e-01f;
    p = p * f + 6.931469671e-01f;
    p = p * f + 1.0f;
    int32_t scale, result;
    std::memcpy(&scale, &shifted, sizeof scale);
    std::memcpy(&result, &p, sizeof result);
    result += (scale - 0x4B400000) * (1 << 23);
    std::memcpy(&p, &result, sizeof p);
    return p;
}

inline float harmonics_times(float x, float y, float z, const float* light) {
    const float first = light[0] * x + light[1] * y + light[2] * z;
    const float mixed = light[3] * (2 * x * y) + light[4] * (2 * y * z) + light[5] * (2 * x * z);
    return first + mixed + light[6] * (1.5f * z * z - 0.5f) + light[7] * (x * x - y * y);
}

inline void shade_group(const Shade& s, int64_t first, int count, ShadeGroup& g) {
    alignas(64) float normal[3][kLanes] = {};
    for (int k = 0; k < 3; ++k) std::memcpy(normal[k], s.normals + k * s.n + first, sizeof(float) * count);
    alignas(64) float shadow[kLanes] = {};
    if (s.shadow) std::memcpy(shadow, s.shadow + first, sizeof(float) * count);
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
        const float x = normal[0][i], y = normal[1][i], z = normal[2][i];
        const float h[kHarmonics] = {x, y, z, 2 * x * y, 2 * y * z, 2 * x * z, 1.5f * z * z - 0.5f, x * x - y * y};
        for (int k = 0; k < kHarmonics; ++k) g.harmonics[k][i] = h[k];
        for (int c = 0; c < 3; ++c) {
            float sum = s.exposure[c] + shadow[i];
            for (int k = 0; k < kHarmonics; ++k) sum += s.light[3 * k + c] * h[k];
            sum *= kLog2E;
            sum = sum < 100.0f ? sum : 100.0f;
            g.factor[c][i] = power_of_two(sum > -100.0f ? sum : -100.0f);
        }
    }
}

void shade(const Shade& s, int64_t begin, int64_t end, float* colors) {
    ShadeGroup g;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = static_cast<int>(end - first < kLanes ? end - first : kLanes);
        shade_group(s, first, count, g);
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < 3; ++c) colors[3 * (first + i) + c] = s.albedo[3 * (first + i) + c] * g.factor[c][i];
    }
}

void shade_backward(const Shade& s, int64_t begin, int64_t end, const ShadeGradient& v) {
    ShadeGroup g;
    alignas(64) float sums[3 * kHarmonics + 3][kLanes] = {}, moved[3][kLanes];
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = static_cast<int>(end - first < kLanes ? end - first : kLanes);
        shade_group(s, first, count, g);
        for (int i = 0; i < kLanes; ++i)
            for (int c = 0; c < 3; ++c) {
                const int64_t at = 3 * (first + smaller(i, count - 1)) + c;
                const float arriving = i < count ? v.colors[at] * g.factor[c][i] : 0.0f;
                if (i < count) v.albedo[at] = arriving + (v.add_albedo ? v.albedo[at] : 0.0f);
                moved[c][i] = arriving * s.albedo[at];
            }
#pragma omp simd
        for (int i = 0; i < kLanes; ++i) {
            for (int k = 0; k < kHarmonics; ++k)
                for (int c = 0; c < 3; ++c) sums[3 * k + c][i] += g.harmonics[k][i] * moved[c][i];
            for (int c = 0; c < 3; ++c) sums[3 * kHarmonics + c][i] += moved[c][i];
        }
    }
    for (int k = 0; k < 3 * kHarmonics + 3; ++k) {
        v.light[k] = 0.0f;
        for (int i = 0; i < kLanes; ++i) v.light[k] += sums[k][i];
    }
}

}  // namespace
}  // namespace splat
