#include "pose.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "thread_pool.h"

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

void place_joints_backward(const Joints& joints, const float* transforms, const float* places,
                           const float* v_transforms, const float* v_places, float* v_axis_angles, float* v_rest,
                           float* v_transl) {
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

void joint_quaternions_backward(const float* transforms, const float* quaternions, const float* v_quaternions,
                                int64_t count, float* v_transforms) {
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

namespace {

// What a radian of a joint's axis-angle does: a turn about these axes (columns), through a place.
struct Turns {
    float axes[9], moments[9];
};

Turns turns_of(const float* A, const float* place, const float* w, const float* center) {
    const Rodrigues factors(w);
    const float K[9] = {0, -w[2], w[1], w[2], 0, -w[0], -w[1], w[0], 0};
    float J[9];  // the right Jacobian (Sola et al. 2018, equation 143)
    for (int i = 0; i < 9; ++i) {
        float twice = 0.0f;
        for (int k = 0; k < 3; ++k) twice += K[3 * (i / 3) + k] * K[3 * k + i % 3];
        J[i] = (i % 4 == 0) - factors.b * K[i] + factors.c * twice;
    }
    Turns turns;
    const float arm[3] = {place[0] - center[0], place[1] - center[1], place[2] - center[2]};
    for (int column = 0; column < 3; ++column) {
        float axis[3], moment[3];
        for (int row = 0; row < 3; ++row) {
            axis[row] = 0.0f;
            for (int k = 0; k < 3; ++k) axis[row] += A[4 * row + k] * J[3 * k + column];
        }
        cross(arm, axis, moment);
        for (int row = 0; row < 3; ++row)
            turns.axes[3 * column + row] = axis[row], turns.moments[3 * column + row] = moment[row];
    }
    return turns;
}

// Motion across the line of sight (mm, right and down) per meter along each world axis.
void across(const float* T, const float* x, float lines[2][3]) {
    float seen[3];
    for (int row = 0; row < 3; ++row) seen[row] = dot(T + 4 * row, x) + T[4 * row + 3];
    const float depth = std::max(seen[2], 0.1f);
    for (int row = 0; row < 2; ++row)
        for (int k = 0; k < 3; ++k) lines[row][k] = 1000.0f * (T[4 * row + k] - seen[row] / depth * T[8 + k]);
}

// Solves M x = b for a symmetric positive M (lower triangle, row by row), in place (Cholesky).
void solve(double* M, double* x, int n) {
    for (int j = 0; j < n; ++j) {
        for (int i = j; i < n; ++i) {
            double sum = M[i * n + j];
            for (int k = 0; k < j; ++k) sum -= M[i * n + k] * M[j * n + k];
            M[i * n + j] = i == j ? std::sqrt(std::max(sum, 1e-9)) : sum / M[j * n + j];
        }
    }
    for (int i = 0; i < n; ++i) {
        for (int k = 0; k < i; ++k) x[i] -= M[i * n + k] * x[k];
        x[i] /= M[i * n + i];
    }
    for (int i = n - 1; i >= 0; --i) {
        for (int k = i + 1; k < n; ++k) x[i] -= M[k * n + i] * x[k];
        x[i] /= M[i * n + i];
    }
}

void even_step(const ImageMotion& m, int frame, const float* gradient, float* step, float* length) {
    const int n = m.n, size = 3 * m.coupled + 3;
    const float *A = m.transforms + 12 * n * frame, *places = m.places + 3 * n * frame,
                *T = m.T_cam_world + (m.cameras > 1 ? 16 * frame : 0);
    std::vector<Turns> turns(n);
    for (int j = 0; j < n; ++j)
        turns[j] = turns_of(A + 12 * j, places + 3 * j, m.axis_angles + 3 * (n * frame + j), places);
    std::vector<float> metric(size * size, 0.0f), alone(3 * n, 0.0f), moved(size);
    std::vector<int> columns(size);
    for (int p = 0; p < m.count; ++p) {
        const float *weights = m.weights + n * p, *shares = m.shares + n * p, *rest = m.points + 3 * p;
        float x[3] = {}, lines[2][3];
        for (int j = 0; j < n; ++j)
            if (weights[j] != 0.0f)
                for (int row = 0; row < 3; ++row)
                    x[row] += weights[j] * (dot(A + 12 * j + 4 * row, rest) + A[12 * j + 4 * row + 3]);
        across(T, x, lines);
        for (const float* line : {lines[0], lines[1]}) {
            const float from_center[3] = {x[0] - places[0], x[1] - places[1], x[2] - places[2]};
            float moment[3];
            cross(from_center, line, moment);
            int active = 0;
            for (int j = 0; j < n; ++j) {
                if (shares[j] == 0.0f || (j >= m.coupled && j < m.first_finger)) continue;
                for (int k = 0; k < 3; ++k) {
                    const float along =
                        shares[j] * (dot(moment, turns[j].axes + 3 * k) + dot(line, turns[j].moments + 3 * k));
                    if (j < m.coupled)
                        columns[active] = 3 * j + k, moved[active++] = along;
                    else
                        alone[3 * j + k] += along * along;
                }
            }
            for (int k = 0; k < 3; ++k) columns[active] = 3 * m.coupled + k, moved[active++] = line[k];
            for (int i = 0; i < active; ++i) {
                float* row = metric.data() + size * columns[i];
                for (int k = 0; k <= i; ++k) row[columns[k]] += moved[i] * moved[k];
            }
        }
    }
    const double share = 1.0 / m.count;
    std::vector<double> M(size * size), asked(size);
    for (int i = 0; i < size; ++i) {
        for (int k = 0; k <= i; ++k) M[size * i + k] = share * metric[size * i + k];
        if (i < 3 * m.coupled) {
            const float* row = m.stiffness + 9 * m.coupled * frame + 3 * i;
            for (int k = 0; k <= i % 3; ++k) M[size * i + i / 3 * 3 + k] += row[k];
        }
        asked[i] = gradient[i < 3 * m.coupled ? i : 3 * n + i - 3 * m.coupled];
    }
    solve(M.data(), asked.data(), size);
    std::fill_n(step, 3 * n + 3, 0.0f);
    for (int i = 0; i < size; ++i)
        step[i < 3 * m.coupled ? i : 3 * n + i - 3 * m.coupled] = static_cast<float>(asked[i]);
    for (int i = 3 * m.first_finger; i < 3 * n; ++i)
        step[i] = gradient[i] / (static_cast<float>(share) * alone[i] + m.finger_stiffness);
    double sum = 0.0;
    for (int i = 0; i < 3 * n + 3; ++i) sum += double(gradient[i]) * step[i];
    *length = static_cast<float>(std::max(sum, 0.0));
}

}  // namespace

void even_steps(const ImageMotion& motion, const float* gradients, float* steps, float* lengths, int threads) {
    const int width = 3 * motion.n + 3;
    parallel(threads, motion.frames, [&](int frame) {
        even_step(motion, frame, gradients + width * frame, steps + width * frame, lengths + frame);
    });
}

}  // namespace splat
