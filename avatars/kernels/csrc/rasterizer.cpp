#include "rasterizer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "shelf.h"
#include "thread_pool.h"

namespace splat {
namespace {

// ---------------------------------------------------------------------------------------------------- dispatch

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        found.push_back(&kernels_avx512);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kernels_avx2);
#endif
    found.push_back(&kernels_plain);
    return found;
}

std::atomic<const Kernels*>& chosen_kernels() {
    static std::atomic<const Kernels*> chosen{runnable_kernels().front()};
    return chosen;
}

// ---------------------------------------------------------------------------------------------------- layout

// Gaussians are handled in chunks whose size depends on their number alone, so that nothing depends on the threads.
struct Chunks {
    int64_t n, size;
    int count;

    explicit Chunks(int64_t n)
        : n(n),
          size(std::max<int64_t>(1024, ((n + 63) / 64 + 15) / 16 * 16)),
          count(static_cast<int>((n + size - 1) / size)) {}
    int64_t begin(int chunk) const { return chunk * size; }
    int64_t end(int chunk) const { return std::min(n, (chunk + 1) * size); }
};

struct Tiles {
    int columns, rows, count;

    explicit Tiles(const Frame& f)
        : columns((f.width + kTile - 1) / kTile), rows((f.height + kTile - 1) / kTile), count(columns * rows) {}

    Tile tile(int index, const uint32_t* begins, const uint32_t* order) const {
        return {index % columns * kTile, index / columns * kTile, order + begins[index],
                begins[index + 1] - begins[index]};
    }
};

template <class Visit>
void each_tile(const Splat& s, const Tiles& tiles, Visit visit) {
    for (int y = s.y0 / kTile; y <= s.y1 / kTile; ++y)
        for (int x = s.x0 / kTile; x <= s.x1 / kTile; ++x) visit(y * tiles.columns + x);
}

// Whether each of `count` numbers is at least 0 and below n.
bool all_below(const int32_t* numbers, int64_t count, int64_t n) {
    const uint32_t last = static_cast<uint32_t>(std::min<int64_t>(n, INT32_MAX)) - 1;
    uint32_t signs = 0;  // x or last - x is negative where x is not within
    for (int64_t i = 0; i < count; ++i)
        signs |= static_cast<uint32_t>(numbers[i]) | (last - static_cast<uint32_t>(numbers[i]));
    return count == 0 || (n > 0 && signs >> 31 == 0);
}

char* thread_scratch(int channels) {
    static thread_local Buffer<char> scratch;
    return scratch.hold(kernels().scratch_bytes(channels));
}

uint64_t* thread_entries(size_t count) {
    static thread_local Buffer<uint64_t> entries;
    return entries.hold(count);
}

// ---------------------------------------------------------------------------------------------------- sorting

// Depths are positive floats, whose bits sort as they do.
uint64_t entry_of(float z, int64_t g) {
    uint32_t bits;
    std::memcpy(&bits, &z, 4);
    return static_cast<uint64_t>(bits) << 32 | static_cast<uint32_t>(g);
}

// Stable radix sort (least digit first) by the upper 32 bits, of which only those that differ are looked at.
template <int Bits>
const uint64_t* radix_sort(uint64_t* from, uint64_t* to, uint32_t count, uint32_t lowest, uint32_t range) {
    constexpr uint32_t kBuckets = 1u << Bits;
    uint32_t places[kBuckets];
    for (int shift = 0; shift < 32 && (range >> shift) != 0; shift += Bits) {
        std::memset(places, 0, sizeof places);
        const auto digit = [&](uint64_t e) {
            return ((static_cast<uint32_t>(e >> 32) - lowest) >> shift) & (kBuckets - 1);
        };
        for (uint32_t i = 0; i < count; ++i) ++places[digit(from[i])];
        uint32_t sum = 0;
        for (uint32_t& place : places) {
            const uint32_t here = place;
            place = sum;
            sum += here;
        }
        for (uint32_t i = 0; i < count; ++i) to[places[digit(from[i])]++] = from[i];
        std::swap(from, to);
    }
    return from;
}

void sort_tile(uint64_t* entries, uint32_t count, uint32_t* order) {
    if (count == 0) return;
    uint32_t lowest = UINT32_MAX, highest = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t key = static_cast<uint32_t>(entries[i] >> 32);
        lowest = std::min(lowest, key);
        highest = std::max(highest, key);
    }
    const uint64_t* sorted = entries;
    if (count < 48)
        std::sort(entries, entries + count);
    else if (count < 1024)
        sorted = radix_sort<8>(entries, thread_entries(count), count, lowest, highest - lowest);
    else
        sorted = radix_sort<11>(entries, thread_entries(count), count, lowest, highest - lowest);
    for (uint32_t i = 0; i < count; ++i) order[i] = static_cast<uint32_t>(sorted[i]);
}

// ---------------------------------------------------------------------------------------------------- stages

bool project_all(const Frame& f, const Chunks& chunks, const Tiles& tiles, Drawing& d, int threads) {
    Splat* splats = d.splats.hold(f.n);
    uint32_t* counts = d.tile_cursors.hold(static_cast<size_t>(chunks.count) * tiles.count);
    std::atomic<bool> finite{true};
    parallel(threads, chunks.count, [&](int chunk) {
        uint32_t* mine = counts + static_cast<size_t>(chunk) * tiles.count;
        std::memset(mine, 0, sizeof(uint32_t) * tiles.count);
        if (!kernels().project(f, chunks.begin(chunk), chunks.end(chunk), splats)) {
            finite = false;
            return;
        }
        for (int64_t g = chunks.begin(chunk); g < chunks.end(chunk); ++g)
            if (drawn(splats[g])) each_tile(splats[g], tiles, [&](int tile) { ++mine[tile]; });
    });
    return finite;
}

// Turns the counts into each chunk's first place in each tile's part; returns each chunk's first slot.
std::vector<uint32_t> lay_out_entries(const Chunks& chunks, const Tiles& tiles, Drawing& d) {
    uint32_t* begins = d.tile_begins.hold(tiles.count + 1);
    uint32_t* cursors = d.tile_cursors.data();
    std::vector<uint32_t> slots(chunks.count + 1, 0);
    uint32_t sum = 0;
    uint64_t total = 0;
    for (int tile = 0; tile < tiles.count; ++tile) {
        begins[tile] = sum;
        for (int chunk = 0; chunk < chunks.count; ++chunk) {
            uint32_t& cursor = cursors[static_cast<size_t>(chunk) * tiles.count + tile];
            const uint32_t here = cursor;
            slots[chunk + 1] += here;
            cursor = sum;
            sum += here, total += here;
        }
    }
    if (total > UINT32_MAX) throw std::length_error("The Gaussians cover more tiles than are counted: 2^32.");
    begins[tiles.count] = sum;
    for (int chunk = 0; chunk < chunks.count; ++chunk) slots[chunk + 1] += slots[chunk];
    return slots;
}

void enter_all(const Chunks& chunks, const Tiles& tiles, Drawing& d, int threads) {
    const std::vector<uint32_t> slots = lay_out_entries(chunks, tiles, d);
    uint64_t* entries = d.entries.hold(slots.back());
    d.order.hold(slots.back());
    d.drawn.hold(slots.back());
    Splat* splats = d.splats.data();
    parallel(threads, chunks.count, [&](int chunk) {
        uint32_t* cursors = d.tile_cursors.data() + static_cast<size_t>(chunk) * tiles.count;
        uint32_t slot = slots[chunk];
        for (int64_t g = chunks.begin(chunk); g < chunks.end(chunk); ++g) {
            Splat& s = splats[g];
            if (!drawn(s)) continue;
            s.slot = slot;
            const uint64_t entry = entry_of(s.z, g);
            each_tile(s, tiles, [&](int tile) { entries[cursors[tile]++] = entry, ++slot; });
        }
    });
}

// The most crowded tiles go first, so that no thread is left with one at the end.
void rank_tiles(const Tiles& tiles, Drawing& d) {
    const uint32_t* begins = d.tile_begins.data();
    uint32_t* ranking = d.tile_ranking.hold(tiles.count);
    for (int i = 0; i < tiles.count; ++i) ranking[i] = i;
    std::stable_sort(ranking, ranking + tiles.count,
                     [&](uint32_t a, uint32_t b) { return begins[a + 1] - begins[a] > begins[b + 1] - begins[b]; });
}

void draw_all(const Frame& f, const Tiles& tiles, const Image& image, Drawing& d, int threads) {
    rank_tiles(tiles, d);
    const uint32_t* begins = d.tile_begins.data();
    uint32_t* order = d.order.data();
    parallel(threads, tiles.count, [&](int i) {
        const Tile tile = tiles.tile(d.tile_ranking.data()[i], begins, order);
        const size_t first = tile.order - order;
        sort_tile(d.entries.data() + first, tile.count, order + first);
        kernels().draw(f, d.splats.data(), tile, image, thread_scratch(f.channels), d.drawn.data() + first);
    });
}

using Drawings = Shelf<Drawing, 4>;

}  // namespace

const Kernels& kernels() { return *chosen_kernels().load(std::memory_order_relaxed); }

bool use_kernels(const char* name) {
    for (const Kernels* each : runnable_kernels())
        if (std::string(each->name) == name) {
            chosen_kernels() = each;
            return true;
        }
    return false;
}

std::unique_ptr<Drawing> take_drawing() {
    std::unique_ptr<Drawing> drawing = Drawings::take([](const Drawing&) { return true; });
    return drawing ? std::move(drawing) : std::make_unique<Drawing>();
}

void give_drawing(std::unique_ptr<Drawing> drawing) { Drawings::give(std::move(drawing)); }

bool draw_frame(const Frame& f, const Image& image, Drawing& d, int threads) {
    const Chunks chunks(f.n);
    const Tiles tiles(f);
    if (!project_all(f, chunks, tiles, d, threads)) return false;
    enter_all(chunks, tiles, d, threads);
    draw_all(f, tiles, image, d, threads);
    return true;
}

void draw_frame_backward(const Frame& f, const Image& image, const ImageGradient& v_image, const Gradient& gradient,
                         Drawing& d, int threads) {
    const Chunks chunks(f.n);
    const Tiles tiles(f);
    const uint32_t* begins = d.tile_begins.data();
    const size_t slots = begins[tiles.count];
    float* sums = d.sums.hold(slots * sums_stride(f.channels));
    uint8_t* seen = d.seen.hold(slots);
    std::fill(seen, seen + slots, uint8_t{0});
    parallel(threads, tiles.count, [&](int i) {
        const Tile tile = tiles.tile(d.tile_ranking.data()[i], begins, d.order.data());
        if (tile.count == 0) return;
        kernels().draw_backward(f, d.splats.data(), tile, image, v_image, thread_scratch(f.channels),
                                d.drawn.data() + begins[d.tile_ranking.data()[i]], sums, seen);
    });
    float* poses = d.poses.hold(static_cast<size_t>(chunks.count) * 12);
    parallel(threads, chunks.count, [&](int chunk) {
        Gradient mine = gradient;
        mine.pose = poses + chunk * 12;
        kernels().project_backward(f, d.splats.data(), chunks.begin(chunk), chunks.end(chunk), sums, seen, mine);
    });
    if (!gradient.pose) return;
    std::fill(gradient.pose, gradient.pose + 12, 0.0f);
    for (int chunk = 0; chunk < chunks.count; ++chunk)
        for (int k = 0; k < 12; ++k) gradient.pose[k] += poses[chunk * 12 + k];
}

void skin_frame(const Skin& skin, const Skinned& skinned, int threads) {
    const Chunks chunks(skin.n);
    parallel(threads, chunks.count, [&](int c) { kernels().skin(skin, chunks.begin(c), chunks.end(c), skinned); });
}

void skin_frame_backward(const Skin& skin, const SkinGradient& gradient, int threads) {
    const Chunks chunks(skin.n);
    const size_t size = static_cast<size_t>(skin.n_joints) * kLanes;
    std::vector<float> parts(chunks.count * size);
    parallel(threads, chunks.count, [&](int c) {
        SkinGradient mine = gradient;
        mine.joints = parts.data() + c * size;
        kernels().skin_backward(skin, chunks.begin(c), chunks.end(c), mine);
    });
    std::fill(gradient.joints, gradient.joints + size, 0.0f);
    for (int c = 0; c < chunks.count; ++c)
        for (size_t k = 0; k < size; ++k) gradient.joints[k] += parts[c * size + k];
}

void shade_frame(const Shade& shade, float* colors, int threads) {
    const Chunks chunks(shade.n);
    parallel(threads, chunks.count, [&](int c) { kernels().shade(shade, chunks.begin(c), chunks.end(c), colors); });
}

void self_shadow_frame(const SelfShadow& shadow, float* out, int threads) {
    const Chunks chunks(shadow.n);
    parallel(threads, chunks.count, [&](int c) { kernels().self_shadow(shadow, chunks.begin(c), chunks.end(c), out); });
}

bool spread(const float* values, int64_t anchors, const int32_t* near, const float* share, int64_t n, float* out,
            int threads) {
    const Chunks chunks(n);
    std::atomic<bool> good{true};
    parallel(threads, chunks.count, [&](int c) {
        if (!all_below(near + 3 * chunks.begin(c), 3 * (chunks.end(c) - chunks.begin(c)), anchors)) {
            good = false;
            return;
        }
        for (int64_t i = chunks.begin(c); i < chunks.end(c); ++i) {
            const int32_t* at = near + 3 * i;
            const float* counts = share + 3 * i;
            out[i] = values[at[0]] * counts[0] + values[at[1]] * counts[1] + values[at[2]] * counts[2];
        }
    });
    return good;
}

void shade_frame_backward(const Shade& shade, const ShadeGradient& gradient, int threads) {
    const Chunks chunks(shade.n);
    constexpr int kSums = 3 * kHarmonics + 3;
    std::vector<float> parts(static_cast<size_t>(chunks.count) * kSums);
    parallel(threads, chunks.count, [&](int c) {
        ShadeGradient mine = gradient;
        mine.light = parts.data() + static_cast<size_t>(c) * kSums;
        kernels().shade_backward(shade, chunks.begin(c), chunks.end(c), mine);
    });
    std::fill(gradient.light, gradient.light + kSums, 0.0f);
    for (int c = 0; c < chunks.count; ++c)
        for (int k = 0; k < kSums; ++k) gradient.light[k] += parts[static_cast<size_t>(c) * kSums + k];
}

void lay_over(const float* rgb, const float* alpha, const float* background, int64_t pixels, uint8_t* out,
              int threads) {
    constexpr int64_t kPart = 1 << 14;
    parallel(threads, static_cast<int>((pixels + kPart - 1) / kPart), [&](int part) {
        const int64_t end = std::min<int64_t>(pixels, (part + 1) * kPart);
        for (int64_t i = part * kPart; i < end; ++i)
            for (int c = 0; c < 3; ++c) {
                const float value = rgb[c * pixels + i] + (1.0f - alpha[i]) * background[c * pixels + i];
                out[3 * i + c] = static_cast<uint8_t>(std::min(std::max(value, 0.0f), 1.0f) * 255.0f + 0.5f);
            }
    });
}

void relight(const Lit& lit, int64_t n, int threads) {
    const Chunks chunks(n);
    parallel(threads, chunks.count, [&](int c) { kernels().relight(lit, chunks.begin(c), chunks.end(c)); });
}

void grain(uint8_t* bytes, int64_t count, const int16_t* bank, int64_t size, int64_t start, const int32_t* scale,
           int threads) {
    constexpr int64_t kPart = 1 << 16;
    parallel(threads, static_cast<int>((count + kPart - 1) / kPart), [&](int part) {
        const int64_t end = std::min(count, (part + 1) * kPart);
        for (int64_t i = part * kPart; i < end;) {
            const int64_t from = (start + i) % size, some = std::min(end - i, size - from);
            kernels().grain(bytes + i, bank + from, scale, some);
            i += some;
        }
    });
}

namespace {

constexpr int kBand = 32;

// Bands of all frames, in order; what is added up is added in that order.
template <class Visit>
void each_band(const std::vector<LossFrame>& frames, int threads, Visit visit) {
    const int bands = (frames[0].height + kBand - 1) / kBand;
    parallel(threads, bands * static_cast<int>(frames.size()), [&](int i) {
        const LossFrame& f = frames[i / bands];
        const int begin = i % bands * kBand;
        visit(f, i, begin, std::min(begin + kBand, f.height));
    });
}

std::vector<LossFrame> loss_frames(const Loss& l, std::vector<float>& memory) {
    const int cells_x = std::max((l.width - l.shift_x) / 4, 0), cells_y = std::max((l.height - l.shift_y) / 4, 0);
    const size_t plane = static_cast<size_t>(l.width) * l.height, cells = static_cast<size_t>(cells_x) * cells_y;
    const size_t each = 6 * plane + 24 * cells;
    memory.resize(each * l.frames);
    std::vector<LossFrame> frames;
    for (int i = 0; i < l.frames; ++i) {
        float* at = memory.data() + i * each;
        frames.push_back({l.rgb + 3 * plane * i,
                          l.alpha + plane * i,
                          l.bytes + 11 * plane * i,
                          {l.fill[3 * i], l.fill[3 * i + 1], l.fill[3 * i + 2]},
                          l.over_plate,
                          l.width,
                          l.height,
                          l.shift_x,
                          l.shift_y,
                          cells_x,
                          cells_y,
                          at,
                          at + 3 * plane,
                          at + 6 * plane,
                          at + 6 * plane + 15 * cells,
                          l.v_rgb + 3 * plane * i,
                          l.v_alpha + plane * i});
    }
    return frames;
}

}  // namespace

double image_loss(const Loss& l, int threads) {
    static thread_local std::vector<float> memory;
    const std::vector<LossFrame> frames = loss_frames(l, memory);
    const int bands = (l.height + kBand - 1) / kBand;
    std::vector<LossSums> parts(bands * frames.size());
    each_band(frames, threads,
              [&](const LossFrame& f, int i, int begin, int end) { kernels().compare(f, begin, end, parts[i]); });
    LossSums sums{};
    for (const LossSums& part : parts) {
        sums.weight += part.weight, sums.error += part.error;
        sums.mask_weight += part.mask_weight, sums.mask_error += part.mask_error;
    }
    sums.weight = std::max(sums.weight, 1.0), sums.mask_weight = std::max(sums.mask_weight, 1.0);
    std::vector<double> similarity(3 * frames.size());
    const int windows_x = frames[0].cells_x - 1, windows_y = frames[0].cells_y - 1;
    const double windows = 3.0 * l.frames * std::max(windows_x, 0) * std::max(windows_y, 0);
    const bool with_ssim = l.ssim_weight > 0.0f && windows > 0;
    if (with_ssim)
        parallel(threads, 3 * l.frames, [&](int i) {
            const LossFrame& f = frames[i / 3];
            kernels().sum_cells(f, i % 3, 0, f.cells_y);
            float* derivatives = f.derivatives + static_cast<size_t>(i % 3) * 3 * f.cells_x * f.cells_y;
            similarity[i] = kernels().ssim_windows(f, i % 3, derivatives);
        });
    const float share = with_ssim ? l.ssim_weight : 0.0f;
    const LossScales scales{static_cast<float>((1 - l.ssim_weight) / (3 * sums.weight)),
                            with_ssim ? static_cast<float>(-share / (64 * windows)) : 0.0f,
                            static_cast<float>(l.mask_weight / sums.mask_weight)};
    each_band(frames, threads,
              [&](const LossFrame& f, int, int begin, int end) { kernels().differentiate(f, begin, end, scales); });
    double total_similarity = 0;
    for (double each : similarity) total_similarity += each;
    return (1 - l.ssim_weight) * sums.error / sums.weight +
           (with_ssim ? share * (1 - total_similarity / windows) : 0.0) +
           l.mask_weight * sums.mask_error / sums.mask_weight;
}

// Adds weight * the gradient of sin^2 of the angle between a quaternion's third axis and a unit normal. With c the
// cosine, c = a(q).n / |q|^2 where a is quadratic in q, so that dc/dq = (da/dq n - 2 c q) / |q|^2.
static void add_tilt(const float* q, const float* n, float weight, float* v) {
    const float w = q[0], x = q[1], y = q[2], z = q[3], length = w * w + x * x + y * y + z * z;
    if (length <= 0.0f) return;
    const float by[4] = {y * n[0] - x * n[1] + w * n[2], z * n[0] - w * n[1] - x * n[2], w * n[0] + z * n[1] - y * n[2],
                         x * n[0] + y * n[1] + z * n[2]};
    const float c = (w * by[0] + x * by[1] + y * by[2] + z * by[3]) / length;
    for (int k = 0; k < 4; ++k) v[k] -= weight * 4 * c * (by[k] - c * q[k]) / length;
}

bool add_ties(const Ties& t, int threads) {
    constexpr int kRow = 12;  // 9 numbers, padded
    static thread_local std::vector<float> memory;
    memory.resize(2 * kRow * t.n);
    float *values = memory.data(), *apart = values + kRow * t.n;
    const Chunks chunks(t.n);
    parallel(threads, chunks.count, [&](int c) {
        for (int64_t i = chunks.begin(c); i < chunks.end(c); ++i) {
            const float per_spacing = 1.0f / t.spacing_m[i];
            for (int k = 0; k < 3; ++k) {
                values[kRow * i + k] = t.offsets[3 * i + k] * per_spacing;
                values[kRow * i + 3 + k] = t.log_scales[3 * i + k];
                values[kRow * i + 6 + k] = t.colors[3 * i + k];
                values[kRow * i + 9 + k] = 0.0f;
            }
        }
    });
    const float share = 1.0f / static_cast<float>(t.k);
    std::atomic<bool> good{true};
    parallel(threads, chunks.count, [&](int c) {
        const int64_t begin = t.k * chunks.begin(c), count = t.k * chunks.end(c) - begin;
        if (!all_below(t.neighbors + begin, count, t.n) || !all_below(t.tied_by + begin, count, t.n)) {
            good = false;
            return;
        }
        for (int64_t i = chunks.begin(c); i < chunks.end(c); ++i) {
            float mean[kRow] = {};
            for (int j = 0; j < t.k; ++j) {
                const float* other = values + kRow * static_cast<int64_t>(t.neighbors[i * t.k + j]);
                for (int k = 0; k < kRow; ++k) mean[k] += other[k];
            }
            for (int k = 0; k < 9; ++k)
                apart[kRow * i + k] = t.weights[9 * i + k] * (values[kRow * i + k] - share * mean[k]);
            for (int k = 9; k < kRow; ++k) apart[kRow * i + k] = 0.0f;
        }
    });
    if (!good) return false;
    parallel(threads, chunks.count, [&](int c) {
        for (int64_t i = chunks.begin(c); i < chunks.end(c); ++i) {
            float sum[kRow] = {}, v[9];
            for (int32_t j = t.begins[i]; j < t.begins[i + 1]; ++j) {
                const float* other = apart + kRow * static_cast<int64_t>(t.tied_by[j]);
                for (int k = 0; k < kRow; ++k) sum[k] += other[k];
            }
            for (int k = 0; k < 9; ++k) v[k] = 2 * (apart[kRow * i + k] - share * sum[k]);
            const float per_spacing = 1.0f / t.spacing_m[i];
            for (int k = 0; k < 3; ++k) {
                const float excess = std::max(values[kRow * i + 3 + k] - t.widest[i], 0.0f);
                const float off = values[kRow * i + k] - t.rest[3 * i + k];
                t.v_offsets[3 * i + k] += t.times * (v[k] + 2 * t.pull[i] * off) * per_spacing;
                t.v_log_scales[3 * i + k] += t.times * (v[3 + k] + 2 * t.shrink / static_cast<float>(t.n) * excess);
                t.v_colors[3 * i + k] += t.times * v[6 + k];
            }
            add_tilt(t.quats + 4 * i, t.normals + 3 * i, t.times * t.flat[i], t.v_quats + 4 * i);
        }
    });
    return true;
}

}  // namespace splat
