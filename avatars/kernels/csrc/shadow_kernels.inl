// What spheres hide of the light on points, the kernel of one instruction set: included by kernels.inl. The definition
// is `hidden` of tests/test_self_shadow.py.

namespace splat {
namespace {

void self_shadow(const SelfShadow& s, int64_t begin, int64_t end, float* out) {
    float light[kHarmonics];  // a copy, and everything that the lanes share in locals, or the loops are not vectorized
    std::memcpy(light, s.light, sizeof light);
    const float brightest = std::log2(s.brightest), most = s.most;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = static_cast<int>(end - first < kLanes ? end - first : kLanes);
        alignas(64) float point[3][kLanes] = {}, normal[3][kLanes] = {}, own[kLanes] = {}, left[kLanes];
        for (int k = 0; k < 3; ++k) {
            std::memcpy(point[k], s.points + k * s.n + first, sizeof(float) * count);
            std::memcpy(normal[k], s.normals + k * s.n + first, sizeof(float) * count);
        }
#pragma omp simd
        for (int i = 0; i < kLanes; ++i) {
            own[i] = harmonics_times(normal[0][i], normal[1][i], normal[2][i], light);
            left[i] = 1.0f;
        }
        for (int sphere = 0; sphere < s.spheres; ++sphere) {
            const float* center = s.centers + 3 * sphere;
            const float center_x = center[0], center_y = center[1], center_z = center[2], radius = s.radii_m[sphere];
            alignas(64) float counts[kLanes] = {};
            std::memcpy(counts, s.hides + sphere * s.n + first, sizeof(float) * count);
#pragma omp simd
            for (int i = 0; i < kLanes; ++i) {
                const float x = center_x - point[0][i], y = center_y - point[1][i], z = center_z - point[2][i];
                const float squared = x * x + y * y + z * z;
                const float near = 1.0f / std::sqrt(squared > 1e-12f ? squared : 1e-12f);
                const float cosine = (x * normal[0][i] + y * normal[1][i] + z * normal[2][i]) * near;
                const float sine = radius * near < 1.0f ? radius * near : 1.0f;  // of half the sphere's angle
                const float risen = cosine + sine > 0.0f ? cosine + sine : 0.0f;
                const float above = cosine > sine ? cosine : risen * risen / (4.0f * sine);
                float brighter = (harmonics_times(x * near, y * near, z * near, light) - own[i]) * kLog2E;
                brighter = brighter > -100.0f ? brighter : -100.0f;
                const float hidden =
                    above * sine * sine * counts[i] * power_of_two(brighter < brightest ? brighter : brightest);
                left[i] *= 1.0f - (hidden < most ? hidden : most);
            }
        }
        for (int i = 0; i < count; ++i) out[first + i] = s.strength * (left[i] - 1.0f);
    }
}

}  // namespace
}  // namespace splat
