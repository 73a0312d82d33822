#include "pose.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace splat {
namespace {

inline void cross(const float* a, const float* b, float* out) {
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

inline float dot(const float* a, const float* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// sin(t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3, by their series for small t.
struct Rodrigues {
    float a, b, c;

    explicit Rodrigues(const float* w) {
        const float squared = dot(w, w);
        if (squared < 1e-2f) {
            a = 1.0f - squared / 6.0f * (1.0f - squared / 20.0f);
            b = 0.5f - squared / 24.0f * (1.0f - squared / 30.0f);
            c = 1.0f / 6.0f - squared / 120.0f * (1.0f - squared / 42.0f);
        } else {
            const float t = std::sqrt(squared), sine = std::sin(t);
            a = sine / t, b = (1.0f - std::cos(t)) / squared, c = (t - sine) / (squared * t);
        }
    }

    void rotation(const float* w, float* R) const {
        const float o = 1.0f - b * dot(w, w), x = a * w[0], y = a * w[1], z = a * w[2];
        const float skew[9] = {o, -z, y, z, o, -x, -y, x, o};
        for (int i = 0; i < 9; ++i) R[i] = b * w[i / 3] * w[i % 3] + skew[i];
    }
};

// Entries of the four forms of Shepperd (1978): each is a constant and a sum of matrix entries with signs.
constexpr int kForms[4][4][3] = {
    // m00, m11, m22 with these signs in the form's own place; elsewhere two entries and their signs (1-based, signed)
    {{1, 1, 1}, {8, -6, 0}, {3, -7, 0}, {4, -2, 0}},
    {{8, -6, 0}, {1, -1, -1}, {4, 2, 0}, {3, 7, 0}},
    {{3, -7, 0}, {4, 2, 0}, {-1, 1, -1}, {6, 8, 0}},
    {{4, -2, 0}, {3, 7, 0}, {6, 8, 0}, {-1, -1, 1}},
};

// Where entry m (0 to 8) of a 3x3 matrix stands in a 3x4 one.
inline int in_transform(int m) { return 4 * (m / 3) + m % 3; }

inline void form_of(const float* T, int form, float* q) {
    for (int k = 0; k < 4; ++k) {
        const int* e = kForms[form][k];
        if (k == form) {
            q[k] = 1.0f + e[0] * T[0] + e[1] * T[5] + e[2] * T[10];
        } else {
            q[k] = 0.0f;
            for (int i = 0; i < 2; ++i)
                q[k] += (e[i] > 0 ? 1.0f : -1.0f) * T[in_transform((e[i] > 0 ? e[i] : -e[i]) - 1)];
        }
    }
}

inline int best_form(const float* T) {
    const float d[4] = {T[0] + T[5] + T[10], T[0] - T[5] - T[10], T[5] - T[0] - T[10], T[10] - T[0] - T[5]};
    int best = 0;
    for (int k = 1; k < 4; ++k)
        if (d[k] > d[best]) best = k;
    return best;
}

}  // namespace

void place_joints(const Joints& joints, float* transforms, float* places) {
    const int n = joints.n;
    for (int frame = 0; frame < joints.frames; ++frame) {
        const float* omega = joints.axis_angles + 3 * n * frame;
        const float* rest = joints.rest + (joints.rest_frames > 1 ? 3 * n * frame : 0);
        float *A = transforms + 12 * n * frame, *p = places + 3 * n * frame;
        for (int j = 0; j < n; ++j) {
            const int parent = joints.parents[j];
            float local[9];
            Rodrigues(omega + 3 * j).rotation(omega + 3 * j, local);
            for (int row = 0; row < 3; ++row) {
                float* W = A + 12 * j + 4 * row;
                if (parent < 0) {
                    for (int k = 0; k < 3; ++k) W[k] = local[3 * row + k];
                    p[3 * j + row] = rest[3 * j + row] + (joints.transl ? joints.transl[3 * frame + row] : 0.0f);
                } else {
                    const float* outer = A + 12 * parent + 4 * row;
                    for (int k = 0; k < 3; ++k)
                        W[k] = outer[0] * local[k] + outer[1] * local[3 + k] + outer[2] * local[6 + k];
                    float place = p[3 * parent + row];
                    for (int k = 0; k < 3; ++k) place += outer[k] * (rest[3 * j + k] - rest[3 * parent + k]);
                    p[3 * j + row] = place;
                }
                W[3] = p[3 * j + row] - dot(W, rest + 3 * j);
            }
        }
    }
}

void place_joints_backward(const Joints& joints, const float* transforms, const float* places, const float* v_transforms,
                           const float* v_places, float* v_axis_angles, float* v_rest, float* v_transl) {
    const int n = joints.n;
    std::vector<float> sums(6 * n);  // of each joint and all below it: force, torque about the origin
    for (int frame = 0; frame < joints.frames; ++frame) {
        const float* omega = joints.axis_angles + 3 * n * frame;
        const float* rest = joints.rest + (joints.rest_frames > 1 ? 3 * n * frame : 0);
        const float *A = transforms + 12 * n * frame, *p = places + 3 * n * frame;
        const float *vA = v_transforms + 12 * n * frame, *vp = v_places + 3 * n * frame;
        float *v_omega = v_axis_angles + 3 * n * frame, *vr = v_rest + 3 * n * frame;
        for (int j = 0; j < n; ++j) {
            float *force = sums.data() + 6 * j, *torque = force + 3;
            for (int k = 0; k < 3; ++k) force[k] = vp[3 * j + k] + vA[12 * j + 4 * k + 3];
            cross(p + 3 * j, force, torque);
            for (int column = 0; column < 3; ++column) {
                float W[3], g[3], turn[3];
                for (int k = 0; k < 3; ++k) {
                    W[k] = A[12 * j + 4 * k + column];
                    g[k] = vA[12 * j + 4 * k + column] - vA[12 * j + 4 * k + 3] * rest[3 * j + column];
                }
                cross(W, g, turn);
                for (int k = 0; k < 3; ++k) torque[k] += turn[k];
            }
        }
        for (int j = n - 1; j > 0; --j)
            if (joints.parents[j] >= 0)
                for (int k = 0; k < 6; ++k) sums[6 * joints.parents[j] + k] += sums[6 * j + k];
        std::fill_n(vr, 3 * n, 0.0f);
        for (int j = 0; j < n; ++j) {
            const float* force = sums.data() + 6 * j;
            const int parent = joints.parents[j];
            float moment[3], torque[3], turn[3], push[3];
            cross(p + 3 * j, force, moment);
            for (int k = 0; k < 3; ++k) torque[k] = force[3 + k] - moment[k];
            for (int k = 0; k < 3; ++k) {
                turn[k] = push[k] = 0.0f;
                for (int row = 0; row < 3; ++row) {
                    const float outer = parent < 0 ? (row == k) : A[12 * parent + 4 * row + k];
                    turn[k] += outer * torque[row], push[k] += outer * force[row];
                }
            }
            for (int k = 0; k < 3; ++k) {
                float own = 0.0f;
                for (int row = 0; row < 3; ++row) own += A[12 * j + 4 * row + k] * vA[12 * j + 4 * row + 3];
                vr[3 * j + k] += push[k] - own;
                if (parent >= 0) vr[3 * parent + k] -= push[k];
            }
            const float* w = omega + 3 * j;
            const Rodrigues factors(w);
            float turned[3], twice[3];
            cross(w, turn, turned);
            cross(w, turned, twice);
            for (int k = 0; k < 3; ++k) v_omega[3 * j + k] = turn[k] - factors.b * turned[k] + factors.c * twice[k];
        }
        for (int k = 0; k < 3; ++k) v_transl[3 * frame + k] = sums[k];
    }
}

void joint_quaternions(const float* transforms, const int32_t* parents, int frames, int n, float* quaternions) {
    for (int frame = 0; frame < frames; ++frame) {
        float* q = quaternions + 4 * n * frame;
        for (int j = 0; j < n; ++j) {
            const float* T = transforms + 12 * (n * frame + j);
            float* here = q + 4 * j;
            form_of(T, best_form(T), here);
            float scale = 1.0f / std::sqrt(dot(here, here) + here[3] * here[3]);
            if (parents[j] < 0) {
                if (here[0] < 0.0f) scale = -scale;
            } else {
                const float* above = q + 4 * parents[j];
                if (dot(here, above) + here[3] * above[3] < 0.0f) scale = -scale;
            }
            for (int k = 0; k < 4; ++k) here[k] *= scale;
        }
    }
}

void joint_quaternions_backward(const float* transforms, const float* quaternions, const float* v_quaternions, int64_t count,
                                float* v_transforms) {
    std::fill_n(v_transforms, 12 * count, 0.0f);
    for (int64_t j = 0; j < count; ++j) {
        const float *T = transforms + 12 * j, *q = quaternions + 4 * j, *v = v_quaternions + 4 * j;
        float* vT = v_transforms + 12 * j;
        const int form = best_form(T);
        float f[4], along = 0.0f, length = 0.0f, sign = 0.0f;
        form_of(T, form, f);
        for (int k = 0; k < 4; ++k) along += q[k] * v[k], length += f[k] * f[k], sign += f[k] * q[k];
        const float scale = (sign < 0.0f ? -1.0f : 1.0f) / std::sqrt(length);
        for (int k = 0; k < 4; ++k) {
            const float arriving = scale * (v[k] - q[k] * along);
            const int* e = kForms[form][k];
            if (k == form) {
                for (int i = 0; i < 3; ++i) vT[5 * i] += e[i] * arriving;
            } else {
                for (int i = 0; i < 2; ++i)
                    vT[in_transform((e[i] > 0 ? e[i] : -e[i]) - 1)] += (e[i] > 0 ? arriving : -arriving);
            }
        }
    }
}

}  // namespace splat
