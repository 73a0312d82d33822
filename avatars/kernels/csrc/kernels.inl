// The kernels of one instruction set: included once per set, after the lanes_*.h that defines F and M.
//
// Everything here has internal linkage and calls nothing from the standard library's templates: a function compiled
// for AVX-512 must never be the copy that the linker keeps for a machine without it.

#include <cmath>
#include <cstring>

#include "splat.h"

namespace splat {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

alignas(64) const float kColumn[kLanes] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
alignas(64) const float kRow[kLanes] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
const float kOrigin[kBlocksPerSide] = {0, 4, 8, 12, 16, 20, 24, 28};

inline int smaller(int a, int b) { return a < b ? a : b; }
inline int larger(int a, int b) { return a > b ? a : b; }
inline float smaller(float a, float b) { return a < b ? a : b; }
inline float larger(float a, float b) { return a > b ? a : b; }

// ---------------------------------------------------------------------------------------------------- projection

inline float log2_of(float x) {
    // x = 2^e m, m in [sqrt(1/2), sqrt(2)); log2(m) from the series of artanh. Relative error 1e-7.
    int32_t bits;
    std::memcpy(&bits, &x, 4);
    const int32_t e = (bits - 0x3F3504F3) >> 23;
    bits -= static_cast<int32_t>(static_cast<uint32_t>(e) << 23);
    float m;
    std::memcpy(&m, &bits, 4);
    const float t = (m - 1.0f) / (m + 1.0f), t2 = t * t;
    const float series = 1.0f + t2 * (1.0f / 3 + t2 * (1.0f / 5 + t2 * (1.0f / 7 + t2 * (1.0f / 9))));
    return static_cast<float>(e) + 2.0f * kLog2E * t * series;
}

// The inputs of 16 Gaussians, one array per number.
struct alignas(64) Group {
    float mean[3][kLanes], quat[4][kLanes], scale[3][kLanes], opacity[kLanes];
};

inline void gather(const Frame& f, int64_t g, int lane, Group& out) {
    for (int k = 0; k < 3; ++k) out.mean[k][lane] = f.means[g * 3 + k];
    for (int k = 0; k < 4; ++k) out.quat[k][lane] = f.quats[g * 4 + k];
    for (int k = 0; k < 3; ++k) out.scale[k][lane] = f.scales[g * 3 + k];
    out.opacity[lane] = f.opacities[g];
}

// One Gaussian on its way to the image; see `project` in reference.py.
struct Projected {
    float qw, qx, qy, qz, per_norm;
    float r[9];              // rotation of the quaternion
    float m[9];              // r times the scales
    float x, y, z, per_z;    // center before the camera
    float x_over_z, y_over_z;  // clamped, for the Jacobian
    bool x_free, y_free;     // not clamped
    float j00, j02, j11, j12;
    float p[6];              // Jacobian times the camera's rotation
    float v[6];              // p m: the covariance is v v^T
    float cxx, cxy, cyy;     // covariance with eps2d
    float per_det;
};

// What is the same for all Gaussians of a frame.
struct Lens {
    float w[9], t[3], fx, fy, cx, cy, x_min, x_max, y_min, y_max, eps2d;
    float eye[3];  // the camera in the world
};

inline Lens lens_of(const Frame& f) {
    Lens l;
    for (int k = 0; k < 9; ++k) l.w[k] = f.rotation[k];
    for (int k = 0; k < 3; ++k) l.t[k] = f.translation[k];
    for (int k = 0; k < 3; ++k) l.eye[k] = -(l.w[k] * l.t[0] + l.w[3 + k] * l.t[1] + l.w[6 + k] * l.t[2]);
    l.fx = f.fx, l.fy = f.fy, l.cx = f.cx, l.cy = f.cy, l.eps2d = f.eps2d;
    l.x_min = -(f.cx + 0.15f * f.width) / f.fx, l.x_max = (1.15f * f.width - f.cx) / f.fx;
    l.y_min = -(f.cy + 0.15f * f.height) / f.fy, l.y_max = (1.15f * f.height - f.cy) / f.fy;
    return l;
}

inline __attribute__((always_inline)) Projected projected(const Group& in, int i, const Lens& l) {
    Projected o;
    const float q0 = in.quat[0][i], q1 = in.quat[1][i], q2 = in.quat[2][i], q3 = in.quat[3][i];
    o.per_norm = 1.0f / larger(__builtin_sqrtf(q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3), 1e-12f);
    const float w = o.qw = q0 * o.per_norm, x = o.qx = q1 * o.per_norm;
    const float y = o.qy = q2 * o.per_norm, z = o.qz = q3 * o.per_norm;
    o.r[0] = 1 - 2 * (y * y + z * z), o.r[1] = 2 * (x * y - w * z), o.r[2] = 2 * (x * z + w * y);
    o.r[3] = 2 * (x * y + w * z), o.r[4] = 1 - 2 * (x * x + z * z), o.r[5] = 2 * (y * z - w * x);
    o.r[6] = 2 * (x * z - w * y), o.r[7] = 2 * (y * z + w * x), o.r[8] = 1 - 2 * (x * x + y * y);
    for (int k = 0; k < 9; ++k) o.m[k] = o.r[k] * in.scale[k % 3][i];

    const float m0 = in.mean[0][i], m1 = in.mean[1][i], m2 = in.mean[2][i];
    o.x = l.w[0] * m0 + l.w[1] * m1 + l.w[2] * m2 + l.t[0];
    o.y = l.w[3] * m0 + l.w[4] * m1 + l.w[5] * m2 + l.t[1];
    o.z = l.w[6] * m0 + l.w[7] * m1 + l.w[8] * m2 + l.t[2];
    o.per_z = 1.0f / o.z;
    const float xz = o.x * o.per_z, yz = o.y * o.per_z;
    o.x_free = (xz >= l.x_min) & (xz <= l.x_max), o.y_free = (yz >= l.y_min) & (yz <= l.y_max);
    o.x_over_z = smaller(larger(xz, l.x_min), l.x_max), o.y_over_z = smaller(larger(yz, l.y_min), l.y_max);
    o.j00 = l.fx * o.per_z, o.j02 = -o.j00 * o.x_over_z;
    o.j11 = l.fy * o.per_z, o.j12 = -o.j11 * o.y_over_z;
    for (int k = 0; k < 3; ++k) {
        o.p[k] = o.j00 * l.w[k] + o.j02 * l.w[6 + k];
        o.p[3 + k] = o.j11 * l.w[3 + k] + o.j12 * l.w[6 + k];
    }
    for (int k = 0; k < 3; ++k) {
        o.v[k] = o.p[0] * o.m[k] + o.p[1] * o.m[3 + k] + o.p[2] * o.m[6 + k];
        o.v[3 + k] = o.p[3] * o.m[k] + o.p[4] * o.m[3 + k] + o.p[5] * o.m[6 + k];
    }
    const float xx = o.v[0] * o.v[0] + o.v[1] * o.v[1] + o.v[2] * o.v[2];
    const float yy = o.v[3] * o.v[3] + o.v[4] * o.v[4] + o.v[5] * o.v[5];
    o.cxy = o.v[0] * o.v[3] + o.v[1] * o.v[4] + o.v[2] * o.v[5];
    o.cxx = xx + l.eps2d, o.cyy = yy + l.eps2d;
    // The determinant as |v0 x v1|^2 + eps (xx + yy) + eps^2: xx yy - xy^2 would lose the digits of long thin ones.
    const float n0 = o.v[1] * o.v[5] - o.v[2] * o.v[4], n1 = o.v[2] * o.v[3] - o.v[0] * o.v[5];
    const float n2 = o.v[0] * o.v[4] - o.v[1] * o.v[3];
    o.per_det = 1.0f / (n0 * n0 + n1 * n1 + n2 * n2 + l.eps2d * (xx + yy) + l.eps2d * l.eps2d);
    return o;
}

inline bool all_finite(const float* values, int64_t begin, int64_t end) {
    uint32_t bad = 0;
    for (int64_t k = begin; k < end; ++k) {
        uint32_t bits;
        std::memcpy(&bits, values + k, 4);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return bad == 0;
}

inline bool inputs_finite(const Frame& f, int64_t begin, int64_t end) {
    return all_finite(f.means, begin * 3, end * 3) & all_finite(f.quats, begin * 4, end * 4) &
           all_finite(f.scales, begin * 3, end * 3) & all_finite(f.opacities, begin, end) &
           all_finite(f.colors, begin * f.channels, end * f.channels);
}

struct alignas(64) GroupSplats {
    float x[kLanes], y[kLanes], z[kLanes], a[kLanes], b[kLanes], c[kLanes], log2_opacity[kLanes];
    int32_t x0[kLanes], x1[kLanes], y0[kLanes], y1[kLanes];
};

inline void project_group(const Frame& f, const Lens& l, const Group& in, GroupSplats& out) {
    // Further out, a float no longer knows the pixel.
    constexpr float kFar = 1e9f;
    const float log2_threshold = __builtin_log2f(f.threshold);
    const float width = static_cast<float>(f.width), height = static_cast<float>(f.height);
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
        const Projected o = projected(in, i, l);
        const float x = l.fx * o.x * o.per_z + l.cx, y = l.fy * o.y * o.per_z + l.cy;
        const float opacity = in.opacity[i];
        const float log2_opacity = log2_of(opacity > 0.0f ? opacity : 1.0f);
        const float a = o.cyy * o.per_det, b = -o.cxy * o.per_det, c = o.cxx * o.per_det;
        // alpha >= threshold inside of the ellipse sigma <= reach; a little more for rounding.
        const float reach = 2.0f / kLog2E * (log2_opacity - log2_threshold);
        const float safe_reach = larger(reach, 0.0f) * 1.0001f;
        const float rx = __builtin_sqrtf(safe_reach * o.cxx) + 1e-3f, ry = __builtin_sqrtf(safe_reach * o.cyy) + 1e-3f;
        const bool good = (o.z >= f.near_plane) & (o.z <= f.far_plane) & (opacity > 0.0f) & (reach >= 0.0f) &
                          (__builtin_fabsf(x) < kFar) & (__builtin_fabsf(y) < kFar) & (o.per_det > 0.0f) &
                          (o.per_det < 1e30f);
        // How far the third axis turns away from the camera.
        const float d0 = in.mean[0][i] - l.eye[0], d1 = in.mean[1][i] - l.eye[1], d2 = in.mean[2][i] - l.eye[2];
        const float away = o.r[2] * d0 + o.r[5] * d1 + o.r[8] * d2;
        const bool faces = away <= f.cull_cosine * __builtin_sqrtf(d0 * d0 + d1 * d1 + d2 * d2);
        // Pixel i has its center at i + 1/2. Not drawn: an empty range.
        const float x0 = __builtin_ceilf(smaller(larger(x - rx - 0.5f, 0.0f), width));
        const float x1 = __builtin_floorf(smaller(larger(x + rx - 0.5f, -1.0f), width - 1.0f));
        const float y0 = __builtin_ceilf(smaller(larger(y - ry - 0.5f, 0.0f), height));
        const float y1 = __builtin_floorf(smaller(larger(y + ry - 0.5f, -1.0f), height - 1.0f));
        const bool seen = good & faces & (x1 >= x0) & (y1 >= y0);
        out.x[i] = x, out.y[i] = y, out.z[i] = o.z;
        out.a[i] = -0.5f * kLog2E * a, out.b[i] = -kLog2E * b, out.c[i] = -0.5f * kLog2E * c;
        out.log2_opacity[i] = log2_opacity;
        out.x0[i] = seen ? static_cast<int32_t>(x0) : 0, out.x1[i] = seen ? static_cast<int32_t>(x1) : -1;
        out.y0[i] = seen ? static_cast<int32_t>(y0) : 0, out.y1[i] = seen ? static_cast<int32_t>(y1) : -1;
    }
}

bool project(const Frame& f, int64_t begin, int64_t end, Splat* splats) {
    if (!inputs_finite(f, begin, end)) return false;
    const Lens lens = lens_of(f);
    Group in;
    GroupSplats out;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = static_cast<int>(end - first < kLanes ? end - first : kLanes);
        for (int i = 0; i < kLanes; ++i) gather(f, first + smaller(i, count - 1), i, in);
        project_group(f, lens, in, out);
        for (int i = 0; i < count; ++i) {
            Splat& s = splats[first + i];
            s.x = out.x[i], s.y = out.y[i], s.z = out.z[i];
            s.a = out.a[i], s.b = out.b[i], s.c = out.c[i], s.log2_opacity = out.log2_opacity[i];
            s.x0 = static_cast<int16_t>(out.x0[i]), s.x1 = static_cast<int16_t>(out.x1[i]);
            s.y0 = static_cast<int16_t>(out.y0[i]), s.y1 = static_cast<int16_t>(out.y1[i]);
            if (f.channels >= 3)
                for (int k = 0; k < 3; ++k) s.rgb[k] = f.colors[(first + i) * f.channels + k];
        }
    }
    return true;
}

// ---------------------------------------------------------------------------------------------------- drawing

// The blocks of a tile as the bits of a word, row by row.
inline uint64_t blocks_touched(const Splat& s, const Tile& tile) {
    const int x0 = larger(s.x0 - tile.x, 0) / kBlock, x1 = smaller(s.x1 - tile.x, kTile - 1) / kBlock;
    const int y0 = larger(s.y0 - tile.y, 0) / kBlock, y1 = smaller(s.y1 - tile.y, kTile - 1) / kBlock;
    const uint64_t columns = (0xFFull >> (7 - (x1 - x0))) << x0;
    const uint64_t rows = (0x0101010101010101ull >> (8 * (7 - (y1 - y0)))) << (8 * y0);
    return columns * rows;
}

// The blocks of a tile that hold pixels of the image.
inline uint64_t blocks_inside(const Frame& f, const Tile& tile) {
    Splat image;
    image.x0 = image.y0 = 0, image.x1 = static_cast<int16_t>(f.width - 1),
    image.y1 = static_cast<int16_t>(f.height - 1);
    return blocks_touched(image, tile);
}

// A splat as seen from a tile, whose first pixel's center is the origin.
struct Stroke {
    float x, y, a, b, c, log2_opacity, z, rgb[3];
    uint32_t g;
    float unused;
};

inline Stroke stroke_of(const Splat& s, const Tile& tile, uint32_t g) {
    const float x = s.x - (static_cast<float>(tile.x) + 0.5f), y = s.y - (static_cast<float>(tile.y) + 0.5f);
    return {x, y, s.a, s.b, s.c, s.log2_opacity, s.z, {s.rgb[0], s.rgb[1], s.rgb[2]}, g, 0.0f};
}

inline F log2_alpha_of(const Stroke& s, F dx, F dy) {
    return fma(dx, fma(all(s.a), dx, all(s.b) * dy), fma(all(s.c) * dy, dy, all(s.log2_opacity)));
}

inline F columns_of(int block) { return load(kColumn) + all(kOrigin[block % kBlocksPerSide]); }
inline F rows_of(int block) { return load(kRow) + all(kOrigin[block / kBlocksPerSide]); }

// What a pixel that takes no more lets through falls on to this: the products of denormal numbers would be slow.
constexpr float kDark = 1e-20f;

// Transmittance of a block's pixels: 1, or 0 where there is no pixel.
inline void open_block(const Frame& f, const Tile& tile, int block, float* transmittance) {
    const int x = tile.x + block % kBlocksPerSide * kBlock, y = tile.y + block / kBlocksPerSide * kBlock;
    for (int i = 0; i < kLanes; ++i)
        transmittance[i] = x + i % kBlock < f.width && y + i / kBlock < f.height ? 1.0f : 0.0f;
}

// log2(alpha) below which nothing is drawn; a threshold of 0 is taken for 2^-80, which keeps denormal numbers away.
inline F threshold_of(const Frame& f) { return all(larger(__builtin_log2f(f.threshold), -80.0f)); }

// The first `Channels` channels (3, or 0 where there are fewer) are kept in registers, the rest in memory.
template <int Channels>
inline const float* rest_of_color(const Frame& f, const Stroke& s) {
    return f.colors + static_cast<int64_t>(s.g) * f.channels + Channels;
}

// Some of a tile's splats, front to back, and which of them touch a block: so a block's pixels stay in registers while
// all that touch it are drawn.
constexpr int kBatch = 256, kWords = kBatch / 64;
struct alignas(64) Batch {
    Stroke strokes[kBatch];
    uint64_t drawn[kBatch];                  // blocks, as bits, where a pixel took something
    uint8_t x0[kBatch], x1[kBatch], y0[kBatch], y1[kBatch];  // first and last block of the tile
    uint64_t columns[kBlocksPerSide][kWords], rows[kBlocksPerSide][kWords];  // which splats meet them, as bits

    void fill(const Splat* splats, const Tile& tile, uint32_t begin, uint32_t end) {
        for (uint32_t k = begin; k < end; ++k) {
            if (k + 12 < tile.count) __builtin_prefetch(splats + tile.order[k + 12]);
            const Splat& s = splats[tile.order[k]];
            const uint32_t i = k - begin;
            strokes[i] = stroke_of(s, tile, tile.order[k]);
            x0[i] = static_cast<uint8_t>(larger(s.x0 - tile.x, 0) / kBlock);
            y0[i] = static_cast<uint8_t>(larger(s.y0 - tile.y, 0) / kBlock);
            x1[i] = static_cast<uint8_t>(smaller(s.x1 - tile.x, kTile - 1) / kBlock);
            y1[i] = static_cast<uint8_t>(smaller(s.y1 - tile.y, kTile - 1) / kBlock);
        }
        for (uint32_t i = end - begin; i < kBatch; ++i) x0[i] = y0[i] = kBlocksPerSide, x1[i] = y1[i] = 0;
        std::memset(drawn, 0, sizeof drawn);
        for (int b = 0; b < kBlocksPerSide; ++b)
            for (int w = 0; w < kWords; ++w) {
                columns[b][w] = within(x0 + 64 * w, x1 + 64 * w, static_cast<uint8_t>(b));
                rows[b][w] = within(y0 + 64 * w, y1 + 64 * w, static_cast<uint8_t>(b));
            }
    }

    uint64_t touching(int block, int word) const {
        return columns[block % kBlocksPerSide][word] & rows[block / kBlocksPerSide][word];
    }
};

// A block's state in vectors of 16: transmittance, coverage, sum of z, sums of the colors.
enum DrawState { kOpen, kCovered, kDepth, kColors };

// Draws what touches a block; false if none of its pixels takes more.
template <int Channels, bool Rest>
bool draw_block(const Frame& f, Batch& batch, int block, F threshold, float* at) {
    const int rest = Rest ? f.channels - Channels : 0;
    const F max_alpha = all(kMaxAlpha), min_transmittance = all(kMinTransmittance), dark = all(kDark);
    const F columns = columns_of(block), rows = rows_of(block);
    F before = load(at), covered = load(at + kCovered * kLanes), depth = load(at + kDepth * kLanes);
    F sum[Channels ? Channels : 1];
    for (int c = 0; c < Channels; ++c) sum[c] = load(at + (kColors + c) * kLanes);
    M still = before > min_transmittance;
    for (int word = 0; word < kWords; ++word)
        for (uint64_t todo = batch.touching(block, word); todo; todo &= todo - 1) {
            const int i = 64 * word + __builtin_ctzll(todo);
            const Stroke& s = batch.strokes[i];
            const F log2_alpha = log2_alpha_of(s, columns - all(s.x), rows - all(s.y));
            const M touched = log2_alpha >= threshold;
            const F alpha = least(exp2_where(touched, log2_alpha), max_alpha);
            const F behind = fnma(alpha, before, before);
            still = behind > min_transmittance;
            const F weight = keep(still, alpha * before);
            before = most(behind, dark);
            covered = covered + weight;
            depth = fma(weight, all(s.z), depth);
            for (int c = 0; c < Channels; ++c) sum[c] = fma(weight, all(s.rgb[c]), sum[c]);
            for (int c = 0; c < rest; ++c) {
                float* place = at + (kColors + Channels + c) * kLanes;
                store(place, fma(weight, all(rest_of_color<Channels>(f, s)[c]), load(place)));
            }
            batch.drawn[i] |= static_cast<uint64_t>(any(touched & still)) << block;
        }
    store(at, before), store(at + kCovered * kLanes, covered), store(at + kDepth * kLanes, depth);
    for (int c = 0; c < Channels; ++c) store(at + (kColors + c) * kLanes, sum[c]);
    return any(still);
}

template <int Channels, bool Rest>
void draw_splats(const Frame& f, const Splat* splats, const Tile& tile, Batch& batch, float* state, uint64_t* drawn) {
    const int stride = (kColors + f.channels) * kLanes;
    const F threshold = threshold_of(f);
    uint64_t open = blocks_inside(f, tile);
    for (uint32_t begin = 0; begin < tile.count; begin += kBatch) {
        const uint32_t end = tile.count - begin < kBatch ? tile.count : begin + kBatch;
        if (!open) {
            std::memset(drawn + begin, 0, sizeof(uint64_t) * (tile.count - begin));
            return;
        }
        batch.fill(splats, tile, begin, end);
        for (uint64_t todo = open; todo; todo &= todo - 1) {
            const int block = __builtin_ctzll(todo);
            if (!draw_block<Channels, Rest>(f, batch, block, threshold, state + block * stride))
                open &= ~(1ull << block);
        }
        std::memcpy(drawn + begin, batch.drawn, sizeof(uint64_t) * (end - begin));
    }
}

// Calls `row(pixel, lane, count)` for each of a block's rows that is in the image.
template <class Row>
inline void each_row(const Frame& f, const Tile& tile, int block, Row row) {
    const int x = tile.x + block % kBlocksPerSide * kBlock, y = tile.y + block / kBlocksPerSide * kBlock;
    const int count = smaller(kBlock, f.width - x);
    for (int r = 0; r < kBlock && y + r < f.height; ++r)
        row(static_cast<int64_t>(y + r) * f.width + x, r * kBlock, count);
}

inline void copy_pixels(float* to, const float* from, int count) {
    if (count == kBlock)
        std::memcpy(to, from, kBlock * sizeof(float));
    else
        for (int i = 0; i < count; ++i) to[i] = from[i];
}

void fill_rows(const Frame& f, const Tile& tile, float* plane, float value) {
    const int width = smaller(kTile, f.width - tile.x);
    for (int y = tile.y; y < smaller(tile.y + kTile, f.height); ++y)
        for (int x = 0; x < width; ++x) plane[static_cast<int64_t>(y) * f.width + tile.x + x] = value;
}

void draw_nothing(const Frame& f, const Tile& tile, const Image& image) {
    const int64_t pixels = static_cast<int64_t>(f.width) * f.height;
    for (int c = 0; c < f.channels; ++c)
        fill_rows(f, tile, image.rgb + c * pixels, f.background ? f.background[c] : 0.0f);
    fill_rows(f, tile, image.alpha, 0.0f);
    fill_rows(f, tile, image.depth, INFINITY);
}

void write_block(const Frame& f, const Tile& tile, const Image& image, int block, float* at) {
    const int64_t pixels = static_cast<int64_t>(f.width) * f.height;
    const F zero = all(0.0f), one = all(1.0f), infinity = all(INFINITY);
    float *covered = at + kCovered * kLanes, *depth = at + kDepth * kLanes, *colors = at + kColors * kLanes;
    const F alpha = load(covered);
    const M hit = alpha > zero;
    store(depth, choose(hit, load(depth) * reciprocal(choose(hit, alpha, one)), infinity));
    if (f.background)
        for (int c = 0; c < f.channels; ++c)
            store(colors + c * kLanes, fma(one - alpha, all(f.background[c]), load(colors + c * kLanes)));
    each_row(f, tile, block, [&](int64_t pixel, int lane, int count) {
        copy_pixels(image.alpha + pixel, covered + lane, count);
        copy_pixels(image.depth + pixel, depth + lane, count);
        for (int c = 0; c < f.channels; ++c)
            copy_pixels(image.rgb + c * pixels + pixel, colors + c * kLanes + lane, count);
    });
}

void draw(const Frame& f, const Splat* splats, const Tile& tile, const Image& image, void* scratch, uint64_t* drawn) {
    if (tile.count == 0) return draw_nothing(f, tile, image);
    Batch& batch = *static_cast<Batch*>(scratch);
    float* state = reinterpret_cast<float*>(static_cast<char*>(scratch) + sizeof(Batch));
    const int stride = (kColors + f.channels) * kLanes;
    std::memset(state, 0, sizeof(float) * stride * kBlocksPerTile);
    for (int block = 0; block < kBlocksPerTile; ++block) open_block(f, tile, block, state + block * stride);
    if (f.channels == 3)
        draw_splats<3, false>(f, splats, tile, batch, state, drawn);
    else if (f.channels > 3)
        draw_splats<3, true>(f, splats, tile, batch, state, drawn);
    else
        draw_splats<0, true>(f, splats, tile, batch, state, drawn);
    for (uint64_t todo = blocks_inside(f, tile); todo; todo &= todo - 1) {
        const int block = __builtin_ctzll(todo);
        write_block(f, tile, image, block, state + block * stride);
    }
}

// ---------------------------------------------------------------------------------------------------- backward

// A block's state in the backward pass, in vectors of 16: transmittance, remainder, gradient of alpha, gradient of the
// sum of z, gradients of the colors. With g = the gradient's product with the values of a splat, the image's part of
// the loss is sum(weight g); the remainder is what is left of that sum behind the splat at hand, and dL/dalpha = T g -
// remainder / (1 - alpha).
enum State { kTransmittance, kRemainder, kAlphaGradient, kZGradient, kColorGradient };

// Loads the gradients that reach a block; false if all are zero.
bool open_block_backward(const Frame& f, const Tile& tile, const Image& image, const ImageGradient& v, int block,
                         float* at) {
    const int64_t pixels = static_cast<int64_t>(f.width) * f.height;
    std::memset(at, 0, sizeof(float) * kLanes * (kColorGradient + f.channels));
    open_block(f, tile, block, at);
    float* remainder = at + kRemainder * kLanes;
    float* alpha_gradient = at + kAlphaGradient * kLanes;
    float* z_gradient = at + kZGradient * kLanes;
    bool some = false;
    each_row(f, tile, block, [&](int64_t pixel, int lane, int count) {
        for (int i = 0; i < count; ++i, ++pixel, ++lane) {
            const float alpha = image.alpha[pixel];
            if (alpha <= 0.0f) continue;
            float v_alpha = v.alpha ? v.alpha[pixel] : 0.0f;
            if (v.depth) {
                z_gradient[lane] = v.depth[pixel] / alpha;
                v_alpha -= z_gradient[lane] * image.depth[pixel];
                remainder[lane] += v.depth[pixel] * image.depth[pixel];
            }
            if (v.rgb)
                for (int c = 0; c < f.channels; ++c) {
                    const float v_color = v.rgb[c * pixels + pixel];
                    const float background = f.background ? f.background[c] : 0.0f;
                    at[(kColorGradient + c) * kLanes + lane] = v_color;
                    v_alpha -= v_color * background;
                    remainder[lane] += v_color * (image.rgb[c * pixels + pixel] - (1.0f - alpha) * background);
                    some |= v_color != 0.0f;
                }
            alpha_gradient[lane] = v_alpha;
            remainder[lane] += v_alpha * alpha;
            some |= (v_alpha != 0.0f) | (z_gradient[lane] != 0.0f);
        }
    });
    return some;
}

inline void sum_lanes(const F* in, int count, float* out) {
    for (int k = 0; k < count; k += 4)
        sum_lanes4(in[k], k + 1 < count ? in[k + 1] : in[k], k + 2 < count ? in[k + 2] : in[k],
                   k + 3 < count ? in[k + 3] : in[k], out + k);
}

template <int Channels, bool Rest, bool Depth>
void draw_splats_backward(const Frame& f, const Splat* splats, const Tile& tile, uint64_t open, float* state,
                          float* scratch, const uint64_t* drawn, float* sums, uint8_t* seen) {
    const int rest = Rest ? f.channels - Channels : 0, stride = (kColorGradient + f.channels) * kLanes;
    const int record = sums_stride(f.channels);
    const F threshold = threshold_of(f), max_alpha = all(kMaxAlpha), zero = all(0.0f), one = all(1.0f);
    const F min_transmittance = all(kMinTransmittance), dark = all(kDark);
    for (uint32_t k = 0; k < tile.count; ++k) {
        if (k + 8 < tile.count) __builtin_prefetch(splats + tile.order[k + 8]);
        uint64_t todo = drawn[k] & open;
        if (!todo) continue;
        const Splat& splat = splats[tile.order[k]];
        const Stroke s = stroke_of(splat, tile, tile.order[k]);
        F sum[kColor + Channels];
        for (F& each : sum) each = zero;
        if (Rest) std::memset(scratch, 0, sizeof(float) * kLanes * rest);
        do {
            const int block = __builtin_ctzll(todo);
            todo &= todo - 1;
            float* at = state + block * stride;
            const F before = load(at);
            const F dx = columns_of(block) - all(s.x), dy = rows_of(block) - all(s.y);
            const F log2_alpha = log2_alpha_of(s, dx, dy);
            const M touched = log2_alpha >= threshold;
            const F unclamped = exp2_where(touched, log2_alpha);
            const F alpha = least(unclamped, max_alpha);
            const F behind = fnma(alpha, before, before);
            const M still = behind > min_transmittance;
            const F weight = keep(still, alpha * before);
            store(at, most(behind, dark));
            F value = load(at + kAlphaGradient * kLanes);
            if (Depth) {
                const F v_z = load(at + kZGradient * kLanes);
                value = fma(all(s.z), v_z, value);
                sum[kZ] = fma(weight, v_z, sum[kZ]);
            }
            for (int c = 0; c < Channels; ++c) {
                const F v_color = load(at + (kColorGradient + c) * kLanes);
                value = fma(all(s.rgb[c]), v_color, value);
                sum[kColor + c] = fma(weight, v_color, sum[kColor + c]);
            }
            for (int c = 0; c < rest; ++c) {
                const F v_color = load(at + (kColorGradient + Channels + c) * kLanes);
                value = fma(all(rest_of_color<Channels>(f, s)[c]), v_color, value);
                store(scratch + c * kLanes, fma(weight, v_color, load(scratch + c * kLanes)));
            }
            const F remainder = fnma(weight, value, load(at + kRemainder * kLanes));
            store(at + kRemainder * kLanes, remainder);
            const F v_alpha = fnma(remainder, reciprocal(one - alpha), before * value);
            const F q = keep(without(still, unclamped > max_alpha), v_alpha * alpha);
            const F qx = q * dx, qy = q * dy;
            sum[kQ] = sum[kQ] + q, sum[kQx] = sum[kQx] + qx, sum[kQy] = sum[kQy] + qy;
            sum[kQxx] = fma(qx, dx, sum[kQxx]), sum[kQxy] = fma(qx, dy, sum[kQxy]), sum[kQyy] = fma(qy, dy, sum[kQyy]);
        } while (todo);
        const int row = tile.y / kTile - splat.y0 / kTile, columns = splat.x1 / kTile - splat.x0 / kTile + 1;
        const int64_t slot = static_cast<int64_t>(splat.slot) + row * columns + (tile.x / kTile - splat.x0 / kTile);
        seen[slot] = 1;
        float* out = sums + slot * record;
        sum_lanes(sum, kColor + Channels, out);
        for (int c = 0; c < rest; ++c) {
            alignas(16) float four[4];
            sum_lanes4(load(scratch + c * kLanes), zero, zero, zero, four);
            out[kColor + Channels + c] = four[0];
        }
    }
}

void draw_backward(const Frame& f, const Splat* splats, const Tile& tile, const Image& image, const ImageGradient& v,
                   void* memory, const uint64_t* drawn, float* sums, uint8_t* seen) {
    float* state = static_cast<float*>(memory);
    const int stride = (kColorGradient + f.channels) * kLanes;
    uint64_t open = 0;
    for (uint64_t todo = blocks_inside(f, tile); todo; todo &= todo - 1) {
        const int block = __builtin_ctzll(todo);
        if (open_block_backward(f, tile, image, v, block, state + block * stride)) open |= 1ull << block;
    }
    float* scratch = state + kBlocksPerTile * stride;
    const auto run = f.channels > 3   ? draw_splats_backward<3, true, true>
                     : f.channels < 3 ? draw_splats_backward<0, true, true>
                     : v.depth        ? draw_splats_backward<3, false, true>
                                      : draw_splats_backward<3, false, false>;
    run(f, splats, tile, open, state, scratch, drawn, sums, seen);
}

size_t scratch_bytes(int channels) {
    const size_t forward = sizeof(Batch) + sizeof(float) * kBlocksPerTile * (kColors + channels) * kLanes;
    const size_t backward = sizeof(float) * (kBlocksPerTile * (kColorGradient + channels) + channels) * kLanes;
    return forward > backward ? forward : backward;
}

// Gradients of 16 Gaussians.
struct alignas(64) GroupGradient {
    float mean[3][kLanes], quat[4][kLanes], scale[3][kLanes], opacity[kLanes], pose[12][kLanes];
};

// `s[k]` are the sums of Sum over all tiles. The chain rule through `projected`, in reverse.
inline void project_group_backward(const Lens& l, const Group& in, const float (*s)[kLanes], GroupGradient& out) {
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
        const Projected o = projected(in, i, l);
        const float a = o.cyy * o.per_det, b = -o.cxy * o.per_det, c = o.cxx * o.per_det;
        const float sx = s[kQx][i], sy = s[kQy][i], sxx = s[kQxx][i], sxy = s[kQxy][i], syy = s[kQyy][i];
        out.opacity[i] = s[kQ][i] / in.opacity[i];
        const float v_u = a * sx + b * sy, v_w = b * sx + c * sy;  // center in pixels
        // Covariance: 1/2 X Q X with the conic X and Q = sum(q d d^T).
        const float e00 = a * sxx + b * sxy, e01 = a * sxy + b * syy, e10 = b * sxx + c * sxy, e11 = b * sxy + c * syy;
        const float g00 = e00 * a + e01 * b, g01 = e00 * b + e01 * c, g11 = e10 * b + e11 * c;  // twice the gradient
        float v_v[6], v_p[6], v_m[9];
        for (int k = 0; k < 3; ++k) {
            v_v[k] = g00 * o.v[k] + g01 * o.v[3 + k];
            v_v[3 + k] = g01 * o.v[k] + g11 * o.v[3 + k];
        }
        for (int k = 0; k < 3; ++k) {
            v_p[k] = v_v[0] * o.m[3 * k] + v_v[1] * o.m[3 * k + 1] + v_v[2] * o.m[3 * k + 2];
            v_p[3 + k] = v_v[3] * o.m[3 * k] + v_v[4] * o.m[3 * k + 1] + v_v[5] * o.m[3 * k + 2];
            for (int j = 0; j < 3; ++j) v_m[3 * k + j] = o.p[k] * v_v[j] + o.p[3 + k] * v_v[3 + j];
        }
        for (int j = 0; j < 3; ++j)
            out.scale[j][i] = o.r[j] * v_m[j] + o.r[3 + j] * v_m[3 + j] + o.r[6 + j] * v_m[6 + j];
        float r[9];
        for (int k = 0; k < 9; ++k) r[k] = v_m[k] * in.scale[k % 3][i];
        const float w = o.qw, x = o.qx, y = o.qy, z = o.qz;
        const float vw = 2 * (z * (r[3] - r[1]) + y * (r[2] - r[6]) + x * (r[7] - r[5]));
        const float vx = 2 * (y * (r[1] + r[3]) + z * (r[2] + r[6]) - 2 * x * (r[4] + r[8]) + w * (r[7] - r[5]));
        const float vy = 2 * (x * (r[1] + r[3]) + z * (r[5] + r[7]) - 2 * y * (r[0] + r[8]) + w * (r[2] - r[6]));
        const float vz = 2 * (x * (r[2] + r[6]) + y * (r[5] + r[7]) - 2 * z * (r[0] + r[4]) + w * (r[3] - r[1]));
        const float along = w * vw + x * vx + y * vy + z * vz;  // a quaternion's length changes nothing
        out.quat[0][i] = (vw - w * along) * o.per_norm, out.quat[1][i] = (vx - x * along) * o.per_norm;
        out.quat[2][i] = (vy - y * along) * o.per_norm, out.quat[3][i] = (vz - z * along) * o.per_norm;

        float v_j00 = 0, v_j02 = 0, v_j11 = 0, v_j12 = 0;
        for (int k = 0; k < 3; ++k) {
            v_j00 += v_p[k] * l.w[k], v_j02 += v_p[k] * l.w[6 + k];
            v_j11 += v_p[3 + k] * l.w[3 + k], v_j12 += v_p[3 + k] * l.w[6 + k];
        }
        // j02 = -fx (x/z) / z, where a clamped x/z is constant.
        const float pull_x = v_j02 * o.j00 * o.per_z, pull_y = v_j12 * o.j11 * o.per_z;
        const float v_x = v_u * o.j00 - (o.x_free ? pull_x : 0.0f);
        const float v_y = v_w * o.j11 - (o.y_free ? pull_y : 0.0f);
        const float v_z = s[kZ][i] - (v_u * o.j00 * o.x + v_w * o.j11 * o.y) * o.per_z -
                          (v_j00 * o.j00 + v_j11 * o.j11) * o.per_z + pull_x * o.x_over_z * (o.x_free ? 2.0f : 1.0f) +
                          pull_y * o.y_over_z * (o.y_free ? 2.0f : 1.0f);
        for (int k = 0; k < 3; ++k) {
            out.mean[k][i] = l.w[k] * v_x + l.w[3 + k] * v_y + l.w[6 + k] * v_z;
            out.pose[k][i] = v_x * in.mean[k][i] + o.j00 * v_p[k];
            out.pose[3 + k][i] = v_y * in.mean[k][i] + o.j11 * v_p[3 + k];
            out.pose[6 + k][i] = v_z * in.mean[k][i] + o.j02 * v_p[k] + o.j12 * v_p[3 + k];
        }
        out.pose[9][i] = v_x, out.pose[10][i] = v_y, out.pose[11][i] = v_z;
    }
}

inline void zero_rows(float* values, bool add, int64_t begin, int64_t end, int width) {
    if (values && !add) std::memset(values + begin * width, 0, sizeof(float) * (end - begin) * width);
}

inline void add_row(float* values, int64_t g, int width, const float (*rows)[kLanes], int lane) {
    if (values)
        for (int k = 0; k < width; ++k) values[g * width + k] += rows[k][lane];
}

// Adds up the sums of a Gaussian's tiles, always in the same order; false if it is seen in none.
inline bool gather_sums(const Frame& f, const Splat& s, const float* sums, const uint8_t* seen, int lane,
                        float (*out)[kLanes], float* v_color) {
    const int tiles = (s.x1 / kTile - s.x0 / kTile + 1) * (s.y1 / kTile - s.y0 / kTile + 1);
    const int record = sums_stride(f.channels);
    bool some = false;
    for (int64_t slot = s.slot; slot < static_cast<int64_t>(s.slot) + tiles; ++slot) {
        if (!seen[slot]) continue;
        const float* from = sums + slot * record;
        for (int k = 0; k < kColor; ++k) out[k][lane] = some ? out[k][lane] + from[k] : from[k];
        if (v_color)
            for (int c = 0; c < f.channels; ++c) v_color[c] += from[kColor + c];
        some = true;
    }
    return some;
}

void project_backward(const Frame& f, const Splat* splats, int64_t begin, int64_t end, const float* sums,
                      const uint8_t* seen, const Gradient& v) {
    zero_rows(v.means, v.add_means, begin, end, 3);
    zero_rows(v.quats, v.add_quats, begin, end, 4);
    zero_rows(v.scales, v.add_scales, begin, end, 3);
    zero_rows(v.opacities, v.add_opacities, begin, end, 1);
    zero_rows(v.colors, v.add_colors, begin, end, f.channels);
    float pose[12] = {};
    const Lens lens = lens_of(f);
    Group in;
    GroupGradient out;
    alignas(64) float sum[kColor][kLanes];
    int64_t member[kLanes];
    int count = 0;
    for (int64_t g = begin; g <= end; ++g) {
        if (g < end && drawn(splats[g]) &&
            gather_sums(f, splats[g], sums, seen, count, sum, v.colors ? v.colors + g * f.channels : nullptr)) {
            gather(f, g, count, in);
            member[count++] = g;
        }
        if (count == 0 || (count < kLanes && g < end)) continue;
        for (int i = count; i < kLanes; ++i) {  // only at the end: lanes that count for nothing
            gather(f, member[0], i, in);
            for (int k = 0; k < kColor; ++k) sum[k][i] = 0.0f;
        }
        project_group_backward(lens, in, sum, out);
        for (int i = 0; i < count; ++i) {
            add_row(v.means, member[i], 3, out.mean, i);
            add_row(v.quats, member[i], 4, out.quat, i);
            add_row(v.scales, member[i], 3, out.scale, i);
            add_row(v.opacities, member[i], 1, &out.opacity, i);
            for (int k = 0; k < 12; ++k) pose[k] += out.pose[k][i];
        }
        count = 0;
    }
    if (v.pose) std::memcpy(v.pose, pose, sizeof pose);
}

}  // namespace
}  // namespace splat

#include "film_kernels.inl"
#include "loss_kernels.inl"
#include "shade_kernels.inl"
#include "shadow_kernels.inl"
#include "skin_kernels.inl"

namespace splat {

extern const Kernels SPLAT_KERNELS = {
    SPLAT_NAME,     scratch_bytes, project, draw,  draw_backward, project_backward, skin,         skin_backward, shade,
    shade_backward, self_shadow,   relight, grain, compare,       sum_cells,        ssim_windows, differentiate};

}  // namespace splat
