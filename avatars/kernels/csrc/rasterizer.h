// Draws one frame and takes gradients back through it: the order of the stages, and which thread does what.

#pragma once

#include <memory>

#include "buffer.h"
#include "splat.h"

namespace splat {

// What the backward pass needs of the forward pass.
struct Drawing {
    Buffer<Splat> splats;
    Buffer<uint64_t> entries;       // Gaussians by tile: depth and number, in the order of their numbers
    Buffer<uint32_t> order;         // Gaussians by tile, front to back
    Buffer<uint64_t> drawn;         // beside `order`: the blocks of the tile where the Gaussian is seen
    Buffer<uint32_t> tile_begins;   // tiles + 1 places in `order`
    Buffer<uint32_t> tile_cursors;  // chunks x tiles
    Buffer<uint32_t> tile_ranking;  // tiles, the most crowded first
    Buffer<float> sums;
    Buffer<uint8_t> seen;
    Buffer<float> poses;            // chunks x 12
};

// Kept for the next call when released; a drawing is tens of MB that would otherwise be new pages each time.
std::unique_ptr<Drawing> take_drawing();
void give_drawing(std::unique_ptr<Drawing> drawing);

// False, with an unfinished image, if an input is NaN or infinite.
bool draw_frame(const Frame& frame, const Image& image, Drawing& drawing, int threads);

void draw_frame_backward(const Frame& frame, const Image& image, const ImageGradient& image_gradient,
                         const Gradient& gradient, Drawing& drawing, int threads);

void skin_frame(const Skin& skin, const Skinned& skinned, int threads);
void skin_frame_backward(const Skin& skin, const SkinGradient& gradient, int threads);

// `colors` are n x 3; `gradient.light` gets the sums over all.
void shade_frame(const Shade& shade, float* colors, int threads);
void shade_frame_backward(const Shade& shade, const ShadeGradient& gradient, int threads);

// `out` has n values; one frame.
void self_shadow_frame(const SelfShadow& shadow, float* out, int threads);
// Values at points between anchors: sums over three of them each. False, unfinished, if `near` names others.
bool spread(const float* values, int64_t anchors, const int32_t* near, const float* share, int64_t n, float* out,
            int threads);

// A frame over a background, to bytes: rgb (3 planes) premultiplied by alpha, background (3 planes), row-major pixels
// out.
void lay_over(const float* rgb, const float* alpha, const float* background, int64_t pixels, uint8_t* out, int threads);

void relight(const Lit& lit, int64_t n, int threads);

// Adds noise to bytes in place; noise is read from `bank` (of `size` numbers), from `start` on and over its end.
void grain(uint8_t* bytes, int64_t count, const int16_t* bank, int64_t size, int64_t start, const int32_t* scale,
           int threads);

// The loss of frames of one size and its gradients by rgb and alpha (both frames x planes x height x width).
struct Loss {
    const float *rgb, *alpha;
    const uint8_t* bytes;
    const float* fill;  // frames x 3
    int frames, height, width;
    bool over_plate;
    int shift_y, shift_x;
    float ssim_weight, mask_weight;
    float *v_rgb, *v_alpha;
};
double image_loss(const Loss& loss, int threads);

// Ties between neighbors (ties.py): the gradient of weight * |value - mean of the neighbors' values|^2 over offsets (in
// spacings), logarithms of scales and colors, three numbers each, of pull * |offset - rest|^2, and of flat * sin^2 of
// the angle between a Gaussian's third axis and its normal, added to what is there.
struct Ties {
    const int32_t* neighbors;  // n x k
    const int32_t* begins;     // n + 1: each one's first place in the next
    const int32_t* tied_by;    // whose neighbor it is
    int64_t n;
    int k;
    const float* spacing_m;  // n
    const float* widest;     // n: logarithms of the scales from which on to shrink
    const float* weights;    // n x 9
    const float* pull;       // n
    const float* rest;       // n x 3, in spacings
    const float* flat;       // n
    const float* normals;    // n x 3
    float shrink, times;     // the first against scales beyond the widest
    const float *offsets, *log_scales, *colors, *quats;  // quats: n x 4, wxyz, of any length
    float *v_offsets, *v_log_scales, *v_colors, *v_quats;
};
// False, with nothing added, if `neighbors` or `tied_by` name others than the n.
bool add_ties(const Ties& ties, int threads);

// The kernels in use, the fastest that this processor runs; another by name ("plain", "avx2", "avx512").
const Kernels& kernels();
bool use_kernels(const char* name);

}  // namespace splat
