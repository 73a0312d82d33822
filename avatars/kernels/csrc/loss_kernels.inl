// What a render is held against and its gradient, the kernels of one instruction set: included by kernels.inl.
// The definition is `difference` of fit_target.py.

namespace splat {
namespace {

constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
constexpr float kPerByte = 1.0f / 255.0f;

// What one pixel should look like, over what, and how much it counts.
struct PixelTarget {
    float image[3], background[3], weight, sure;
    bool shown;
};

inline __attribute__((always_inline)) PixelTarget pixel_target(const LossFrame& f, int64_t i) {
    const int64_t plane = static_cast<int64_t>(f.width) * f.height;
    const uint8_t* b = f.bytes + i;
    const float mask = b[3 * plane] * kPerByte, near = b[9 * plane] * kPerByte;
    const bool room = b[7 * plane] == 255, known = f.over_plate & room;
    PixelTarget t;
    for (int c = 0; c < 3; ++c) {
        const float rgb = b[c * plane] * kPerByte, plate = b[(4 + c) * plane] * kPerByte;
        const float cut = rgb - (1.0f - mask) * plate, person = cut < 0.0f ? 0.0f : cut < mask ? cut : mask;
        t.background[c] = known ? plate : f.fill[c];
        t.image[c] = known  ? near * rgb + (1.0f - near) * plate
                     : room ? person + (1.0f - mask) * f.fill[c]
                            : mask * rgb + (1.0f - mask) * f.fill[c];
    }
    const float shown = b[10 * plane] * kPerByte;
    t.sure = b[8 * plane] * kPerByte * shown;
    t.weight = known ? shown : t.sure;
    t.shown = b[10 * plane] > 0;
    return t;
}

// Rows [begin, end): composite and target images, sums of weights and errors.
void compare(const LossFrame& f, int begin, int end, LossSums& sums) {
    const int64_t plane = static_cast<int64_t>(f.width) * f.height;
    double weight = 0, error = 0, mask_weight = 0, mask_error = 0;
    for (int row = begin; row < end; ++row) {
        float w_sum = 0, e_sum = 0, mw_sum = 0, me_sum = 0;
        const int64_t first = static_cast<int64_t>(row) * f.width;
#pragma omp simd reduction(+ : w_sum, e_sum, mw_sum, me_sum)
        for (int64_t i = first; i < first + f.width; ++i) {
            const PixelTarget t = pixel_target(f, i);
            const float left = 1.0f - f.alpha[i];
            float apart = 0;
            for (int c = 0; c < 3; ++c) {
                const float x = f.rgb[c * plane + i] + left * t.background[c];
                f.image[c * plane + i] = x, f.target[c * plane + i] = t.shown ? t.image[c] : x;
                apart += __builtin_fabsf(x - t.image[c]);
            }
            w_sum += t.weight, e_sum += t.weight * apart;
            mw_sum += t.sure, me_sum += t.sure * __builtin_fabsf(f.alpha[i] - f.bytes[3 * plane + i] * kPerByte);
        }
        weight += w_sum, error += e_sum / 3.0f, mask_weight += mw_sum, mask_error += me_sum;
    }
    sums.weight = weight, sums.error = error, sums.mask_weight = mask_weight, sums.mask_error = mask_error;
}

// Sums of x, y, xx, yy, xy over 4x4 cells, for rows of cells [begin, end) of one channel.
void sum_cells(const LossFrame& f, int channel, int begin, int end) {
    const int64_t plane = static_cast<int64_t>(f.width) * f.height, cells = static_cast<int64_t>(f.cells_x) * f.cells_y;
    for (int cy = begin; cy < end; ++cy)
        for (int cx = 0; cx < f.cells_x; ++cx) {
            const int64_t first =
                channel * plane + static_cast<int64_t>(4 * cy + f.shift_y) * f.width + 4 * cx + f.shift_x;
            float sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0;
            for (int r = 0; r < 4; ++r)
                for (int k = 0; k < 4; ++k) {
                    const float x = f.image[first + r * f.width + k], y = f.target[first + r * f.width + k];
                    sx += x, sy += y, sxx += x * x, syy += y * y, sxy += x * y;
                }
            float* out = f.cells + channel * 5 * cells + static_cast<int64_t>(cy) * f.cells_x + cx;
            out[0] = sx, out[cells] = sy, out[2 * cells] = sxx, out[3 * cells] = syy, out[4 * cells] = sxy;
        }
}

// SSIM of the windows (2x2 cells) of one channel, and its derivatives by the moments mx, mxx, mxy in place of the
// cells' first three sums: each cell gets those of the windows that it lies in, added up.
double ssim_windows(const LossFrame& f, int channel, float* derivatives) {
    const int64_t cells = static_cast<int64_t>(f.cells_x) * f.cells_y;
    const float* in = f.cells + channel * 5 * cells;
    std::memset(derivatives, 0, sizeof(float) * 3 * cells);
    double sum = 0;
    for (int wy = 0; wy + 1 < f.cells_y; ++wy) {
        float row = 0;
        const int64_t first = static_cast<int64_t>(wy) * f.cells_x;
        for (int wx = 0; wx + 1 < f.cells_x; ++wx) {
            const int64_t a = first + wx, b = a + f.cells_x;
            float m[5];
            for (int k = 0; k < 5; ++k) {
                const float* s = in + k * cells;
                m[k] = (s[a] + s[a + 1] + s[b] + s[b + 1]) * (1.0f / 64);
            }
            const float vx = m[2] - m[0] * m[0], vy = m[3] - m[1] * m[1], vxy = m[4] - m[0] * m[1];
            const float p = 2 * m[0] * m[1] + kC1, q = 2 * vxy + kC2, r = m[0] * m[0] + m[1] * m[1] + kC1,
                        t = vx + vy + kC2;
            const float per = 1.0f / (r * t), s = p * q * per;
            row += s;
            const float d[3] = {2 * m[1] * (q - p) * per + 2 * s * m[0] * (1 / t - 1 / r), -s / t, 2 * p * per};
            for (int k = 0; k < 3; ++k) {
                float* out = derivatives + k * cells;
                out[a] += d[k], out[a + 1] += d[k], out[b] += d[k], out[b + 1] += d[k];
            }
        }
        sum += row;
    }
    return sum;
}

// Rows [begin, end): gradients by rgb and alpha.
void differentiate(const LossFrame& f, int begin, int end, const LossScales& k) {
    const int64_t plane = static_cast<int64_t>(f.width) * f.height, cells = static_cast<int64_t>(f.cells_x) * f.cells_y;
    for (int row = begin; row < end; ++row) {
        const int64_t first = static_cast<int64_t>(row) * f.width;
        const int cy = row >= f.shift_y ? (row - f.shift_y) / 4 : -1;
        const bool inside = cy >= 0 && cy < f.cells_y && k.ssim != 0.0f;
        for (int c = 0; c < 3; ++c) {
            float* v = f.v_rgb + c * plane + first;
            const float *x = f.image + c * plane + first, *y = f.target + c * plane + first;
            std::memset(v, 0, sizeof(float) * f.width);
            if (!inside) continue;
            const float* d = f.derivatives + c * 3 * cells + static_cast<int64_t>(cy) * f.cells_x;
            for (int cx = 0; cx < f.cells_x; ++cx)
                for (int i = 4 * cx + f.shift_x; i < 4 * cx + f.shift_x + 4; ++i)
                    v[i] = k.ssim * (d[cx] + 2 * x[i] * d[cells + cx] + y[i] * d[2 * cells + cx]);
        }
#pragma omp simd
        for (int64_t i = first; i < first + f.width; ++i) {
            const PixelTarget t = pixel_target(f, i);
            float v_alpha = 0;
            for (int c = 0; c < 3; ++c) {
                const float apart = f.image[c * plane + i] - f.target[c * plane + i];
                const float sign = apart > 0 ? 1.0f : apart < 0 ? -1.0f : 0.0f;
                const float v = t.shown ? f.v_rgb[c * plane + i] + k.error * t.weight * sign : 0.0f;
                f.v_rgb[c * plane + i] = v;
                v_alpha -= v * t.background[c];
            }
            const float off = f.alpha[i] - f.bytes[3 * plane + i] * kPerByte;
            const float sign = off > 0 ? 1.0f : off < 0 ? -1.0f : 0.0f;
            f.v_alpha[i] = v_alpha + k.mask * t.sure * sign;
        }
    }
}

}  // namespace
}  // namespace splat
