// Linear blend skinning, the kernels of one instruction set: included by kernels.inl.
//
// A joint is 16 floats, one vector: the 3x4 matrix that takes rest positions to the world, row by row, and a
// quaternion. So a point's blend is one multiplication and addition of a vector per joint that moves it.

namespace splat {
namespace {

struct alignas(64) JointTable {
    float values[kMaxJoints * kLanes];

    explicit JointTable(const Skin& s) { std::memcpy(values, s.joints, sizeof(float) * kLanes * s.n_joints); }
    const float* row(int joint) const { return values + joint * kLanes; }
};

// Sixteen points with their blended joints, one array per number.
struct alignas(64) SkinGroup {
    float blend[kLanes][kLanes], rest[3][kLanes], quat[4][kLanes], normal[3][kLanes];
};

inline void gather_points(const Skin& s, const JointTable& joints, int64_t first, int count, SkinGroup& out) {
    alignas(64) float blend[kLanes];
    for (int i = 0; i < kLanes; ++i) {
        const int64_t p = first + smaller(i, count - 1);
        F sum = all(0.0f);
        for (int32_t k = s.begins[p]; k < s.begins[p + 1]; ++k)
            sum = fma(all(s.weights[k]), load(joints.row(s.moved_by[k])), sum);
        store(blend, sum);
        for (int k = 0; k < kLanes; ++k) out.blend[k][i] = blend[k];
        for (int k = 0; k < 3; ++k) out.rest[k][i] = s.rest[p * 3 + k];
        for (int k = 0; k < 4; ++k) out.quat[k][i] = s.quats[p * 4 + k];
        for (int k = 0; k < 3; ++k) out.normal[k][i] = s.normals[p * 3 + k];
    }
}

struct alignas(64) SkinnedGroup {
    float mean[3][kLanes], quat[4][kLanes], normal[3][kLanes];
};

inline void skin_group(const SkinGroup& in, SkinnedGroup& out) {
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
        for (int r = 0; r < 3; ++r) {
            const float a = in.blend[4 * r][i], b = in.blend[4 * r + 1][i], c = in.blend[4 * r + 2][i];
            out.mean[r][i] = a * in.rest[0][i] + b * in.rest[1][i] + c * in.rest[2][i] + in.blend[4 * r + 3][i];
            out.normal[r][i] = a * in.normal[0][i] + b * in.normal[1][i] + c * in.normal[2][i];
        }
        const float aw = in.blend[12][i], ax = in.blend[13][i], ay = in.blend[14][i], az = in.blend[15][i];
        const float bw = in.quat[0][i], bx = in.quat[1][i], by = in.quat[2][i], bz = in.quat[3][i];
        out.quat[0][i] = aw * bw - ax * bx - ay * by - az * bz;
        out.quat[1][i] = aw * bx + ax * bw + ay * bz - az * by;
        out.quat[2][i] = aw * by - ax * bz + ay * bw + az * bx;
        out.quat[3][i] = aw * bz + ax * by - ay * bx + az * bw;
    }
}

void skin(const Skin& s, int64_t begin, int64_t end, const Skinned& to) {
    const JointTable joints(s);
    SkinGroup in;
    SkinnedGroup out;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = static_cast<int>(end - first < kLanes ? end - first : kLanes);
        gather_points(s, joints, first, count, in);
        skin_group(in, out);
        for (int i = 0; i < count; ++i) {
            for (int k = 0; k < 3; ++k) to.means[(first + i) * 3 + k] = out.mean[k][i];
            for (int k = 0; k < 4; ++k) to.quats[(first + i) * 4 + k] = out.quat[k][i];
        }
        for (int k = 0; k < 3; ++k) std::memcpy(to.normals + k * s.n + first, out.normal[k], sizeof(float) * count);
    }
}

// The gradients of sixteen points, and of their blended joints.
struct alignas(64) SkinGroupGradient {
    float mean[3][kLanes], turned[4][kLanes], rest[3][kLanes], quat[4][kLanes], blend[kLanes][kLanes];
};

inline void skin_group_backward(const SkinGroup& in, SkinGroupGradient& g) {
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
        for (int c = 0; c < 3; ++c) {
            g.rest[c][i] =
                in.blend[c][i] * g.mean[0][i] + in.blend[4 + c][i] * g.mean[1][i] + in.blend[8 + c][i] * g.mean[2][i];
            for (int r = 0; r < 3; ++r) g.blend[4 * r + c][i] = g.mean[r][i] * in.rest[c][i];
        }
        for (int r = 0; r < 3; ++r) g.blend[4 * r + 3][i] = g.mean[r][i];
        const float aw = in.blend[12][i], ax = in.blend[13][i], ay = in.blend[14][i], az = in.blend[15][i];
        const float bw = in.quat[0][i], bx = in.quat[1][i], by = in.quat[2][i], bz = in.quat[3][i];
        const float vw = g.turned[0][i], vx = g.turned[1][i], vy = g.turned[2][i], vz = g.turned[3][i];
        // v times the conjugate of b, and the conjugate of a times v
        g.blend[12][i] = vw * bw + vx * bx + vy * by + vz * bz;
        g.blend[13][i] = vx * bw - vw * bx - vy * bz + vz * by;
        g.blend[14][i] = vy * bw - vw * by + vx * bz - vz * bx;
        g.blend[15][i] = vz * bw - vw * bz - vx * by + vy * bx;
        g.quat[0][i] = aw * vw + ax * vx + ay * vy + az * vz;
        g.quat[1][i] = aw * vx - ax * vw - ay * vz + az * vy;
        g.quat[2][i] = aw * vy + ax * vz - ay * vw - az * vx;
        g.quat[3][i] = aw * vz - ax * vy + ay * vx - az * vw;
    }
}

void skin_backward(const Skin& s, int64_t begin, int64_t end, const SkinGradient& v) {
    const JointTable joints(s);
    alignas(64) float v_joints[kMaxJoints * kLanes] = {};
    alignas(64) float v_blend[kLanes];
    SkinGroup in;
    SkinGroupGradient g;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = static_cast<int>(end - first < kLanes ? end - first : kLanes);
        gather_points(s, joints, first, count, in);
        for (int i = 0; i < kLanes; ++i) {
            const int64_t p = first + smaller(i, count - 1);
            for (int k = 0; k < 3; ++k) g.mean[k][i] = v.means[p * 3 + k];
            for (int k = 0; k < 4; ++k) g.turned[k][i] = v.turned[p * 4 + k];
        }
        skin_group_backward(in, g);
        for (int i = 0; i < count; ++i) {
            const int64_t p = first + i;
            for (int k = 0; k < 3; ++k) v.rest[p * 3 + k] = g.rest[k][i];
            for (int k = 0; k < 4; ++k) v.quats[p * 4 + k] = g.quat[k][i] + (v.add_quats ? v.quats[p * 4 + k] : 0.0f);
            for (int k = 0; k < kLanes; ++k) v_blend[k] = g.blend[k][i];
            const F blend = load(v_blend);
            for (int32_t k = s.begins[p]; k < s.begins[p + 1]; ++k) {
                float* sum = v_joints + s.moved_by[k] * kLanes;
                store(sum, fma(all(s.weights[k]), blend, load(sum)));
            }
        }
    }
    std::memcpy(v.joints, v_joints, sizeof(float) * kLanes * s.n_joints);
}

}  // namespace
}  // namespace splat
