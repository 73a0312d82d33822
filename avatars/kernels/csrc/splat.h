// The data that the stages of the CPU rasterizer hand to each other, and the table of the stages' kernels.
//
// The image is cut into tiles of 32x32 pixels, the tiles into blocks of 4x4. One block is one vector of 16 lanes: each
// quantity of its pixels lies in 16 consecutive floats. A Gaussian of the usual 7x7 pixels meets about 5 blocks.

#pragma once

#include <cstddef>
#include <cstdint>

namespace splat {

constexpr int kLanes = 16;
constexpr int kBlock = 4;
constexpr int kTile = 32;
constexpr int kBlocksPerSide = kTile / kBlock;
constexpr int kBlocksPerTile = kBlocksPerSide * kBlocksPerSide;

constexpr float kMaxAlpha = 0.999f;          // scene.MAX_ALPHA
constexpr float kMinTransmittance = 1e-4f;   // scene.MIN_TRANSMITTANCE

// One frame of what is drawn. Arrays are contiguous, in the layout of the PyTorch tensors.
struct Frame {
    const float* means;       // n x 3, world, meters
    const float* quats;       // n x 4, wxyz
    const float* scales;      // n x 3
    const float* opacities;   // n
    const float* colors;      // n x channels
    const float* background;  // channels, or null
    int64_t n;
    int channels;
    int width, height;
    float fx, fy, cx, cy;
    float rotation[9], translation[3];  // camera from world
    float near_plane, far_plane, eps2d;
    float threshold;                    // alpha below this is not drawn
    float cull_cosine;                  // between third axis and line of sight; more is not drawn
};

// A projected Gaussian, one cache line. log2(alpha) at an offset (dx, dy) from its center is
// a dx^2 + b dx dy + c dy^2 + log2_opacity.
struct alignas(64) Splat {
    float x, y;
    float a, b, c, log2_opacity;
    float rgb[3];               // the color, where there are three channels
    float z;
    int16_t x0, x1, y0, y1;     // first and last pixel touched; x1 < x0: not drawn
    uint32_t slot;              // where its sums begin: one record per tile it touches, row by row
    uint32_t unused[3];
};
static_assert(sizeof(Splat) == 64, "one cache line");

static inline bool drawn(const Splat& s) { return s.x1 >= s.x0; }

struct Image {
    float* rgb;      // channels x height x width
    float* alpha;    // height x width
    float* depth;    // height x width
};

struct ImageGradient {
    const float* rgb;    // any of these may be null: no gradient arrives there
    const float* alpha;
    const float* depth;
};

// What the backward pass sums over the pixels of one Gaussian in one tile, in this order; the colors follow.
// q is dL/dlog(alpha).
enum Sum { kQ, kQx, kQy, kQxx, kQxy, kQyy, kZ, kColor };

static inline int sums_stride(int channels) { return (kColor + channels + 15) / 16 * 16; }

struct Tile {
    int x, y;               // first pixel
    const uint32_t* order;  // Gaussians that touch the tile, front to back
    uint32_t count;
};

// Null: the gradient is not asked for.
struct Gradient {
    float *means, *quats, *scales, *opacities, *colors;
    bool add_means, add_quats, add_scales, add_opacities, add_colors;  // add to what is there, or replace it
    float* pose;                                                        // 12: rotation (9), translation (3)
};

// Points that joints carry along (linear blend skinning), one frame.
constexpr int kMaxJoints = 64;
struct Skin {
    const float* joints;      // n_joints x 16: 3x4 matrix, quaternion
    const int32_t* begins;    // n + 1: each point's first place in the next two
    const uint8_t* moved_by;  // joints
    const float* weights;
    const float* rest;     // n x 3
    const float* quats;    // n x 4
    const float* normals;  // n x 3
    int64_t n;
    int n_joints;
};

struct Skinned {
    float *means, *quats, *normals;  // n x 3, n x 4, 3 x n
};

struct SkinGradient {
    const float *means, *turned;  // arriving, n x 3 and n x 4
    float* joints;                // a part's sum: n_joints x 16
    float *rest, *quats;
    bool add_quats;  // to what is there, or replace it
};

// The light that a capture was filmed in, one frame: colors are albedo times
// exp(harmonics(normal) . light + exposure + shadow).
constexpr int kHarmonics = 8;
struct Shade {
    const float* normals;   // 3 x n, world
    const float* light;     // kHarmonics x 3
    const float* exposure;  // 3
    const float* shadow;    // n, or null
    const float* albedo;    // n x 3
    int64_t n;
};

// Spheres that hide light from points: the logarithm of what they leave of display-referred colors.
struct SelfShadow {
    const float *points, *normals;  // 3 x n, world; normals unit
    const float* centers;           // spheres x 3
    const float* radii_m;
    const float* hides;  // spheres x n: how much each counts
    const float* light;  // kHarmonics, gray
    float strength, brightest, most;
    int64_t n;
    int spheres;
};

struct ShadeGradient {
    const float* colors;  // arriving, n x 3
    float* albedo;        // n x 3
    bool add_albedo;      // to what is there, or replace it
    float* light;         // a part's sums: kHarmonics x 3, then those of exposure
};

// Light on surfaces by their normals, in the axes of the Gaussians; see `PlaceLight` of compose/places/light.py.
struct Light {
    float base[3], slope[9], toward[3], key[3];  // of each color: without direction, by normal; and the key light's
    float least, most;                           // linear light is kept between
    float gain[3];                               // on display-referred values
};

struct Lit {
    const float* quats;   // n x 4
    const float* local;   // n x 3, normals in the Gaussians' own axes, or null: the third
    const float* colors;  // n x channels
    int channels;
    Light light;
    float* out;  // n x 3
};

// A frame that is fitted: what was drawn, and the crop that it is held against (crops.py), as bytes: rgb (3), mask,
// plate (3), known, sure, near, shown.
struct LossFrame {
    const float *rgb, *alpha;  // 3 and 1 planes
    const uint8_t* bytes;      // 11 planes
    float fill[3];             // laid under where the plate is not
    bool over_plate;
    int width, height;
    int shift_x, shift_y, cells_x, cells_y;  // SSIM's grid of 4x4 cells; a window is 2x2 cells
    float *image, *target;                   // 3 planes each: composite and target
    float *cells, *derivatives;              // 3 channels x 5 and x 3 planes of cells
    float *v_rgb, *v_alpha;
};

struct LossSums {
    double weight, error, mask_weight, mask_error;
};

// What each part of the loss is multiplied by in the gradient.
struct LossScales {
    float error, ssim, mask;
};

struct Kernels {
    const char* name;
    // What `scratch` must hold, 64-byte aligned.
    size_t (*scratch_bytes)(int channels);
    // Fills splats[begin, end); false if an input is NaN or infinite.
    bool (*project)(const Frame&, int64_t begin, int64_t end, Splat*);
    // `drawn` gets, for each Gaussian of the tile, the blocks where it is seen.
    void (*draw)(const Frame&, const Splat*, const Tile&, const Image&, void* scratch, uint64_t* drawn);
    // Writes the sums of each Gaussian that is seen in this tile to its slot, and marks the slot.
    void (*draw_backward)(const Frame&, const Splat*, const Tile&, const Image&, const ImageGradient&, void* scratch,
                          const uint64_t* drawn, float* sums, uint8_t* seen);
    void (*project_backward)(const Frame&, const Splat*, int64_t begin, int64_t end, const float* sums,
                             const uint8_t* seen, const Gradient&);
    void (*skin)(const Skin&, int64_t begin, int64_t end, const Skinned&);
    void (*skin_backward)(const Skin&, int64_t begin, int64_t end, const SkinGradient&);
    void (*shade)(const Shade&, int64_t begin, int64_t end, float* colors);
    void (*shade_backward)(const Shade&, int64_t begin, int64_t end, const ShadeGradient&);
    void (*self_shadow)(const SelfShadow&, int64_t begin, int64_t end, float* out);
    void (*relight)(const Lit&, int64_t begin, int64_t end);
    void (*grain)(uint8_t* bytes, const int16_t* noise, const int32_t* scale, int64_t count);
    void (*compare)(const LossFrame&, int begin, int end, LossSums&);
    void (*sum_cells)(const LossFrame&, int channel, int begin, int end);
    double (*ssim_windows)(const LossFrame&, int channel, float* derivatives);
    void (*differentiate)(const LossFrame&, int begin, int end, const LossScales&);
};

extern const Kernels kernels_plain;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

}  // namespace splat
