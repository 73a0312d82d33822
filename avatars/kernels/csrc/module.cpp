// The Python module `_cpp`: arrays in, results written in place. What is drawn has one frame per call; the rest takes
// all frames, one after the other. Each function first makes sure that no kernel reads or writes past an array.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "adam.h"
#include "array.h"
#include "pose.h"
#include "rasterizer.h"
#include "shelf.h"

namespace splat::python {
namespace {

using nb::literals::operator""_a;

constexpr int kMaxSide = 32767;  // pixels are counted in int16_t

// ------------------------------------------------------------------------------------------------------------ drawing

// Everything that a frame is made of; named after `Scene`. Keeps its arrays.
class PyFrame {
public:
    PyFrame(In<-1, 3> means, In<-1, 4> quats, In<-1, 3> scales, In<-1> opacities, In<-1, -1> colors,
            std::optional<In<-1>> background, const In<3, 3>& K, const In<4, 4>& T_cam_world, int height, int width,
            float near_plane, float far_plane, float eps2d, float alpha_threshold, float cull_cosine)
        : means_(std::move(means)),
          quats_(std::move(quats)),
          scales_(std::move(scales)),
          opacities_(std::move(opacities)),
          colors_(std::move(colors)),
          background_(std::move(background)) {
        hold_sizes(height, width);
        frame.means = means_.data(), frame.quats = quats_.data(), frame.scales = scales_.data();
        frame.opacities = opacities_.data(), frame.colors = colors_.data(),
        frame.background = data_or_null(background_);
        frame.n = means_.shape(0), frame.channels = static_cast<int>(colors_.shape(1));
        frame.height = height, frame.width = width;
        take_camera(K.data(), T_cam_world.data());
        frame.near_plane = near_plane, frame.far_plane = far_plane, frame.eps2d = eps2d;
        frame.threshold = alpha_threshold, frame.cull_cosine = cull_cosine;
    }

    Frame frame{};

private:
    void hold_sizes(int height, int width) const {
        const Size points{"points", "means", static_cast<int64_t>(means_.shape(0))};
        points.hold("quats", quats_.shape(0)), points.hold("scales", scales_.shape(0));
        points.hold("opacities", opacities_.shape(0)), points.hold("colors", colors_.shape(0));
        require(points.count <= INT_MAX, "means must have less than 2^31 points.");
        const Size channels{"channels", "colors", static_cast<int64_t>(colors_.shape(1))};
        require(1 <= channels.count && channels.count <= INT_MAX / 2, "colors must have a channel.");
        channels.hold("background", background_, 0);
        require(1 <= height && height <= kMaxSide, "height must be within 1 and 32767 pixels.");
        require(1 <= width && width <= kMaxSide, "width must be within 1 and 32767 pixels.");
    }

    void take_camera(const float* k, const float* t) {
        require_finite("K", k, 9), require_finite("T_cam_world", t, 16);
        frame.fx = k[0], frame.cx = k[2], frame.fy = k[4], frame.cy = k[5];
        for (int row = 0; row < 3; ++row) {
            for (int column = 0; column < 3; ++column) frame.rotation[3 * row + column] = t[4 * row + column];
            frame.translation[row] = t[4 * row + 3];
        }
    }

    In<-1, 3> means_;
    In<-1, 4> quats_;
    In<-1, 3> scales_;
    In<-1> opacities_;
    In<-1, -1> colors_;
    std::optional<In<-1>> background_;
};

// Planes of an image must be as a frame's.
template <class Planes>
void hold_planes(const char* name, const Planes& planes, const Frame& frame, int channels) {
    Size{"channels", "the frame", channels}.hold(name, planes.shape(0));
    Size{"rows", "the frame", frame.height}.hold(name, planes.shape(1));
    Size{"columns", "the frame", frame.width}.hold(name, planes.shape(2));
}

// Gradients that are asked for: `values` of None are not.
template <class T>
void hold_points(const char* name, const std::optional<T>& values, const Frame& frame) {
    Size{"points", "the frame", frame.n}.hold(name, values, 0);
}

// Holds a drawing as long as Python may ask for gradients.
class PyDrawing {
public:
    PyDrawing() : drawing_(take_drawing()) {}
    PyDrawing(const PyDrawing&) = delete;
    ~PyDrawing() { give_drawing(std::move(drawing_)); }

    bool draw(const PyFrame& drawn, const Out<-1, -1, -1>& rgb, const Out<1, -1, -1>& alpha,
              const Out<1, -1, -1>& depth, int threads) {
        const Frame& frame = drawn.frame;
        hold_planes("rgb", rgb, frame, frame.channels), hold_planes("alpha", alpha, frame, 1);
        hold_planes("depth", depth, frame, 1);
        done_ = false;
        done_ = draw_frame(frame, {rgb.data(), alpha.data(), depth.data()}, *drawing_, threads);
        n_ = frame.n, channels_ = frame.channels, height_ = frame.height, width_ = frame.width;
        return done_;
    }

    void backward(const PyFrame& drawn, const In<-1, -1, -1>& rgb, const In<1, -1, -1>& alpha,
                  const In<1, -1, -1>& depth, const std::optional<In<-1, -1, -1>>& v_rgb,
                  const std::optional<In<1, -1, -1>>& v_alpha, const std::optional<In<1, -1, -1>>& v_depth,
                  const std::optional<Out<-1, 3>>& v_means, bool add_means, const std::optional<Out<-1, 4>>& v_quats,
                  bool add_quats, const std::optional<Out<-1, 3>>& v_scales, bool add_scales,
                  const std::optional<Out<-1>>& v_opacities, bool add_opacities,
                  const std::optional<Out<-1, -1>>& v_colors, bool add_colors, const std::optional<Out<3, 4>>& v_pose,
                  int threads) {
        const Frame& frame = drawn.frame;
        require(
            done_ && n_ == frame.n && channels_ == frame.channels && height_ == frame.height && width_ == frame.width,
            "frame must be the one that was drawn.");
        hold_planes("rgb", rgb, frame, frame.channels), hold_planes("alpha", alpha, frame, 1);
        hold_planes("depth", depth, frame, 1);
        if (v_rgb) hold_planes("v_rgb", *v_rgb, frame, frame.channels);
        if (v_alpha) hold_planes("v_alpha", *v_alpha, frame, 1);
        if (v_depth) hold_planes("v_depth", *v_depth, frame, 1);
        hold_points("v_means", v_means, frame), hold_points("v_quats", v_quats, frame);
        hold_points("v_scales", v_scales, frame), hold_points("v_opacities", v_opacities, frame);
        hold_points("v_colors", v_colors, frame);
        Size{"channels", "the frame", frame.channels}.hold("v_colors", v_colors, 1);
        const Gradient gradient{data_or_null(v_means),
                                data_or_null(v_quats),
                                data_or_null(v_scales),
                                data_or_null(v_opacities),
                                data_or_null(v_colors),
                                add_means,
                                add_quats,
                                add_scales,
                                add_opacities,
                                add_colors,
                                data_or_null(v_pose)};
        // The kernels of the backward pass read the image and do not write it.
        const Image image{const_cast<float*>(rgb.data()), const_cast<float*>(alpha.data()),
                          const_cast<float*>(depth.data())};
        draw_frame_backward(frame, image, {data_or_null(v_rgb), data_or_null(v_alpha), data_or_null(v_depth)}, gradient,
                            *drawing_, threads);
    }

private:
    std::unique_ptr<Drawing> drawing_;
    bool done_ = false;
    int64_t n_ = 0;
    int channels_ = 0, height_ = 0, width_ = 0;
};

void lay_over(const In<3, -1, -1>& rgb, const In<1, -1, -1>& alpha, const In<3, -1, -1>& background,
              const Array<uint8_t, nb::shape<-1, -1, 3>>& out, int threads) {
    const Size rows{"rows", "rgb", static_cast<int64_t>(rgb.shape(1))};
    const Size columns{"columns", "rgb", static_cast<int64_t>(rgb.shape(2))};
    rows.hold("alpha", alpha.shape(1)), rows.hold("background", background.shape(1)), rows.hold("out", out.shape(0));
    columns.hold("alpha", alpha.shape(2)), columns.hold("background", background.shape(2));
    columns.hold("out", out.shape(1));
    splat::lay_over(rgb.data(), alpha.data(), background.data(), rows.count * columns.count, out.data(), threads);
}

// ----------------------------------------------------------------------------------------------------------- skinning

// Each one's first place in a list, and the list's length at the end.
void require_places(const char* name, const Indices<-1>& begins, int64_t n, int64_t length) {
    Size{"places, one more than there are points,", "the points", n + 1}.hold(name, begins.shape(0));
    const int32_t* at = begins.data();
    int falls = 0;
    for (int64_t i = 0; i < n; ++i) falls |= at[i] > at[i + 1];
    if (falls || at[0] != 0 || at[n] != length)
        refuse(std::string(name) + " must rise from 0 to the length of the list, " + std::to_string(length) + ".");
}

// Points that joints carry along, all frames.
struct Carried {
    const In<-1, -1, 16>& joints;
    const Indices<-1>& begins;
    const Bytes<-1>& moved_by;
    const In<-1>& weights;
    const In<-1, -1, 3>& rest;
    const In<-1, 4>& quats;
    const In<-1, 3>& normals;
    Size frames{"frames", "joints", static_cast<int64_t>(joints.shape(0))};
    Size points{"points", "quats", static_cast<int64_t>(quats.shape(0))};

    void hold_sizes() const {
        require(joints.shape(1) <= kMaxJoints, "joints must be at most 64, as many as the kernel's table holds.");
        frames.hold_or_one("rest", rest.shape(0));
        points.hold("rest", rest.shape(1)), points.hold("normals", normals.shape(0));
        Size{"values", "moved_by", static_cast<int64_t>(moved_by.shape(0))}.hold("weights", weights.shape(0));
        require_places("begins", begins, points.count, moved_by.shape(0));
        uint8_t most = 0;
        for (size_t i = 0; i < moved_by.shape(0); ++i) most = std::max(most, moved_by.data()[i]);
        require(moved_by.shape(0) == 0 || most < joints.shape(1), "moved_by must name joints that there are.");
    }

    Skin at(int64_t frame) const {
        return {joints.frame(frame), begins.data(),     moved_by.data(),
                weights.data(),      rest.frame(frame), quats.data(),
                normals.data(),      points.count,      static_cast<int>(joints.shape(1))};
    }
};

void skin(const In<-1, -1, 16>& joints, const Indices<-1>& begins, const Bytes<-1>& moved_by, const In<-1>& weights,
          const In<-1, -1, 3>& rest, const In<-1, 4>& quats, const In<-1, 3>& normals, const Out<-1, -1, 3>& means,
          const Out<-1, -1, 4>& turned, const Out<-1, 3, -1>& turned_normals, int threads) {
    const Carried carried{joints, begins, moved_by, weights, rest, quats, normals};
    carried.hold_sizes();
    carried.frames.hold("means", means.shape(0)), carried.points.hold("means", means.shape(1));
    carried.frames.hold("turned", turned.shape(0)), carried.points.hold("turned", turned.shape(1));
    carried.frames.hold("turned_normals", turned_normals.shape(0));
    carried.points.hold("turned_normals", turned_normals.shape(2));
    for (int64_t i = 0; i < carried.frames.count; ++i)
        skin_frame(carried.at(i), {means.frame(i), turned.frame(i), turned_normals.frame(i)}, threads);
}

void skin_backward(const In<-1, -1, 16>& joints, const Indices<-1>& begins, const Bytes<-1>& moved_by,
                   const In<-1>& weights, const In<-1, -1, 3>& rest, const In<-1, 4>& quats, const In<-1, 3>& normals,
                   const In<-1, -1, 3>& v_means, const In<-1, -1, 4>& v_turned, const Out<-1, -1, 16>& v_joints,
                   const Out<-1, -1, 3>& v_rest, const Out<-1, 4>& v_quats, int threads) {
    const Carried carried{joints, begins, moved_by, weights, rest, quats, normals};
    carried.hold_sizes();
    carried.frames.hold("v_means", v_means.shape(0)), carried.points.hold("v_means", v_means.shape(1));
    carried.frames.hold("v_turned", v_turned.shape(0)), carried.points.hold("v_turned", v_turned.shape(1));
    require_same_shape("v_joints", v_joints, "joints", joints);
    carried.frames.hold("v_rest", v_rest.shape(0)), carried.points.hold("v_rest", v_rest.shape(1));
    carried.points.hold("v_quats", v_quats.shape(0));
    for (int64_t i = 0; i < carried.frames.count; ++i)
        skin_frame_backward(
            carried.at(i),
            {v_means.frame(i), v_turned.frame(i), v_joints.frame(i), v_rest.frame(i), v_quats.data(), i > 0}, threads);
}

// ------------------------------------------------------------------------------------------------------------ shading

// Gaussians in a light, all frames.
struct Shaded {
    const In<-1, 3, -1>& normals;
    const In<kHarmonics, 3>& light;
    const In<-1, 3>& exposure;
    const std::optional<In<-1, -1>>& shadow;
    const In<-1, 3>& albedo;
    Size frames{"frames", "normals", static_cast<int64_t>(normals.shape(0))};
    Size points{"points", "albedo", static_cast<int64_t>(albedo.shape(0))};

    void hold_sizes() const {
        points.hold("normals", normals.shape(2)), frames.hold("exposure", exposure.shape(0));
        if (shadow) frames.hold_or_one("shadow", shadow->shape(0));
        points.hold("shadow", shadow, 1);
    }

    Shade at(int64_t frame) const {
        return {normals.frame(frame), light.data(), exposure.frame(frame), shadow ? shadow->frame(frame) : nullptr,
                albedo.data(),        points.count};
    }
};

void shade(const In<-1, 3, -1>& normals, const In<kHarmonics, 3>& light, const In<-1, 3>& exposure,
           const std::optional<In<-1, -1>>& shadow, const In<-1, 3>& albedo, const Out<-1, -1, 3>& colors,
           int threads) {
    const Shaded shaded{normals, light, exposure, shadow, albedo};
    shaded.hold_sizes();
    shaded.frames.hold("colors", colors.shape(0)), shaded.points.hold("colors", colors.shape(1));
    for (int64_t i = 0; i < shaded.frames.count; ++i) shade_frame(shaded.at(i), colors.frame(i), threads);
}

void shade_backward(const In<-1, 3, -1>& normals, const In<kHarmonics, 3>& light, const In<-1, 3>& exposure,
                    const std::optional<In<-1, -1>>& shadow, const In<-1, 3>& albedo, const In<-1, -1, 3>& v_colors,
                    const Out<-1, 3>& v_albedo, const Out<-1, kHarmonics + 1, 3>& v_light, int threads) {
    const Shaded shaded{normals, light, exposure, shadow, albedo};
    shaded.hold_sizes();
    shaded.frames.hold("v_colors", v_colors.shape(0)), shaded.points.hold("v_colors", v_colors.shape(1));
    shaded.points.hold("v_albedo", v_albedo.shape(0)), shaded.frames.hold("v_light", v_light.shape(0));
    for (int64_t i = 0; i < shaded.frames.count; ++i)
        shade_frame_backward(shaded.at(i), {v_colors.frame(i), v_albedo.data(), i > 0, v_light.frame(i)}, threads);
}

void self_shadow(const In<-1, 3, -1>& points, const In<-1, 3, -1>& normals, const In<-1, -1, 3>& centers,
                 const In<-1>& radii_m, const In<-1, -1>& hides, const In<kHarmonics>& light, float strength,
                 float brightest, float most, const Out<-1, -1>& out, int threads) {
    const Size frames{"frames", "points", static_cast<int64_t>(points.shape(0))};
    const Size count{"points", "points", static_cast<int64_t>(points.shape(2))};
    const Size spheres{"spheres", "radii_m", static_cast<int64_t>(radii_m.shape(0))};
    frames.hold("normals", normals.shape(0)), count.hold("normals", normals.shape(2));
    frames.hold("centers", centers.shape(0)), spheres.hold("centers", centers.shape(1));
    spheres.hold("hides", hides.shape(0)), count.hold("hides", hides.shape(1));
    frames.hold("out", out.shape(0)), count.hold("out", out.shape(1));
    require(spheres.count <= INT_MAX, "radii_m must have less than 2^31 spheres.");
    for (int64_t i = 0; i < frames.count; ++i)
        self_shadow_frame({points.frame(i), normals.frame(i), centers.frame(i), radii_m.data(), hides.data(),
                           light.data(), strength, brightest, most, count.count, static_cast<int>(spheres.count)},
                          out.frame(i), threads);
}

void spread(const In<-1, -1>& values, const Indices<-1, 3>& near, const In<-1, 3>& share, const Out<-1, -1>& out,
            int threads) {
    const Size points{"points", "near", static_cast<int64_t>(near.shape(0))};
    points.hold("share", share.shape(0)), points.hold("out", out.shape(1));
    Size{"frames", "values", static_cast<int64_t>(values.shape(0))}.hold("out", out.shape(0));
    for (size_t i = 0; i < values.shape(0); ++i)
        require(splat::spread(values.frame(i), values.shape(1), near.data(), share.data(), points.count, out.frame(i),
                              threads),
                "near must name anchors that values have.");
}

void relight(const In<-1, 4>& quats, const std::optional<In<-1, 3>>& local, const In<-1, -1>& colors,
             const In<sizeof(Light) / sizeof(float)>& light, const Out<-1, 3>& out, int threads) {
    const Size points{"points", "quats", static_cast<int64_t>(quats.shape(0))};
    points.hold("local", local, 0), points.hold("colors", colors.shape(0)), points.hold("out", out.shape(0));
    require(3 <= colors.shape(1) && colors.shape(1) <= INT_MAX, "colors must have three channels or more.");
    Lit lit{quats.data(), data_or_null(local), colors.data(), static_cast<int>(colors.shape(1)), {}, out.data()};
    static_assert(sizeof(Light) == 23 * sizeof(float), "no padding between its numbers");
    std::memcpy(&lit.light, light.data(), sizeof(Light));
    splat::relight(lit, points.count, threads);
}

void grain(const Array<uint8_t>& bytes, const Array<const int16_t, nb::shape<-1>>& bank, int64_t start,
           const Indices<256>& scale, int threads) {
    const int64_t size = bank.shape(0);
    require(0 <= start && start < size, "start must be a place in bank.");
    splat::grain(bytes.data(), bytes.size(), bank.data(), size, start, scale.data(), threads);
}

// ------------------------------------------------------------------------------------------------------------- joints

void require_parents(const Indices<-1>& parents) {
    require(parents.shape(0) >= 1 && parents.data()[0] == -1, "parents must begin with the root, whose own is -1.");
    for (int j = 1; j < static_cast<int>(parents.shape(0)); ++j)
        require(-1 <= parents.data()[j] && parents.data()[j] < j, "parents must stand before their children.");
}

// A kinematic tree in a pose, all frames; `axis_angles` sets how many there are.
struct Tree {
    const In<-1, -1, 3>& axis_angles;
    const In<-1, -1, 3>& rest;
    const std::optional<In<-1, 3>>& transl;
    const Indices<-1>& parents;
    Size frames{"frames", "axis_angles", static_cast<int64_t>(axis_angles.shape(0))};
    Size joints{"joints", "parents", static_cast<int64_t>(parents.shape(0))};

    void hold_sizes() const {
        require(16 * frames.count <= INT_MAX / std::max<int64_t>(joints.count, 1), "axis_angles are too many.");
        require_parents(parents);
        joints.hold("axis_angles", axis_angles.shape(1)), joints.hold("rest", rest.shape(1));
        frames.hold_or_one("rest", rest.shape(0)), frames.hold("transl", transl, 0);
    }

    template <class T>
    void hold(const char* name, const T& array) const {
        frames.hold(name, array.shape(0)), joints.hold(name, array.shape(1));
    }

    Joints all() const {
        return {axis_angles.data(),
                rest.data(),
                static_cast<int>(rest.shape(0)),
                data_or_null(transl),
                parents.data(),
                static_cast<int>(frames.count),
                static_cast<int>(joints.count)};
    }
};

void place_joints(const In<-1, -1, 3>& axis_angles, const In<-1, -1, 3>& rest, const std::optional<In<-1, 3>>& transl,
                  const Indices<-1>& parents, const Out<-1, -1, 3, 4>& transforms, const Out<-1, -1, 3>& places) {
    const Tree tree{axis_angles, rest, transl, parents};
    tree.hold_sizes(), tree.hold("transforms", transforms), tree.hold("places", places);
    splat::place_joints(tree.all(), transforms.data(), places.data());
}

void place_joints_backward(const In<-1, -1, 3>& axis_angles, const In<-1, -1, 3>& rest,
                           const std::optional<In<-1, 3>>& transl, const Indices<-1>& parents,
                           const In<-1, -1, 3, 4>& transforms, const In<-1, -1, 3>& places,
                           const In<-1, -1, 3, 4>& v_transforms, const In<-1, -1, 3>& v_places,
                           const Out<-1, -1, 3>& v_axis_angles, const Out<-1, -1, 3>& v_rest,
                           const Out<-1, 3>& v_transl) {
    const Tree tree{axis_angles, rest, transl, parents};
    tree.hold_sizes(), tree.hold("transforms", transforms), tree.hold("places", places);
    tree.hold("v_transforms", v_transforms), tree.hold("v_places", v_places);
    tree.hold("v_axis_angles", v_axis_angles), tree.hold("v_rest", v_rest);
    tree.frames.hold("v_transl", v_transl.shape(0));
    splat::place_joints_backward(tree.all(), transforms.data(), places.data(), v_transforms.data(), v_places.data(),
                                 v_axis_angles.data(), v_rest.data(), v_transl.data());
}

void joint_quaternions(const In<-1, -1, 3, 4>& transforms, const Indices<-1>& parents,
                       const Out<-1, -1, 4>& quaternions) {
    const Size frames{"frames", "transforms", static_cast<int64_t>(transforms.shape(0))};
    const Size joints{"joints", "transforms", static_cast<int64_t>(transforms.shape(1))};
    require(16 * frames.count <= INT_MAX / std::max<int64_t>(joints.count, 1), "transforms are too many.");
    require_parents(parents);
    joints.hold("parents", parents.shape(0));
    frames.hold("quaternions", quaternions.shape(0)), joints.hold("quaternions", quaternions.shape(1));
    splat::joint_quaternions(transforms.data(), parents.data(), static_cast<int>(frames.count),
                             static_cast<int>(joints.count), quaternions.data());
}

void joint_quaternions_backward(const In<-1, -1, 3, 4>& transforms, const In<-1, -1, 4>& quaternions,
                                const In<-1, -1, 4>& v_quaternions, const Out<-1, -1, 3, 4>& v_transforms) {
    require_same_shape("v_transforms", v_transforms, "transforms", transforms);
    require_same_shape("v_quaternions", v_quaternions, "quaternions", quaternions);
    Size{"frames", "transforms", static_cast<int64_t>(transforms.shape(0))}.hold("quaternions", quaternions.shape(0));
    Size{"joints", "transforms", static_cast<int64_t>(transforms.shape(1))}.hold("quaternions", quaternions.shape(1));
    const int64_t count = static_cast<int64_t>(transforms.shape(0)) * transforms.shape(1);
    splat::joint_quaternions_backward(transforms.data(), quaternions.data(), v_quaternions.data(), count,
                                      v_transforms.data());
}

// Joints before `coupled` are solved for together, as many as `stiffness` has; those from `first_finger` on one by one.
void even_steps(const In<-1, -1, 3, 4>& transforms, const In<-1, -1, 3>& places, const In<-1, -1, 3>& axis_angles,
                const In<-1, 3>& points, const In<-1, -1>& weights, const In<-1, -1>& shares,
                const In<-1, 4, 4>& T_cam_world, const In<-1, -1, 3, 3>& stiffness, float finger_stiffness,
                int first_finger, const In<-1, -1>& gradients, const Out<-1, -1>& steps, const Out<-1>& lengths,
                int threads) {
    const Size frames{"frames", "transforms", static_cast<int64_t>(transforms.shape(0))};
    const Size joints{"joints", "transforms", static_cast<int64_t>(transforms.shape(1))};
    const Size count{"points", "points", static_cast<int64_t>(points.shape(0))};
    const Size numbers{"numbers, three per joint and three,", "transforms", 3 * joints.count + 3};
    require(16 * frames.count <= INT_MAX / (joints.count + 1), "transforms are too many.");
    require(1 <= count.count && 3 * count.count <= INT_MAX / (joints.count + 1), "points are none, or too many.");
    frames.hold("places", places.shape(0)), joints.hold("places", places.shape(1));
    frames.hold("axis_angles", axis_angles.shape(0)), joints.hold("axis_angles", axis_angles.shape(1));
    count.hold("weights", weights.shape(0)), joints.hold("weights", weights.shape(1));
    count.hold("shares", shares.shape(0)), joints.hold("shares", shares.shape(1));
    frames.hold_or_one("T_cam_world", T_cam_world.shape(0)), frames.hold("stiffness", stiffness.shape(0));
    frames.hold("gradients", gradients.shape(0)), numbers.hold("gradients", gradients.shape(1));
    frames.hold("steps", steps.shape(0)), numbers.hold("steps", steps.shape(1));
    frames.hold("lengths", lengths.shape(0));
    const int64_t coupled = stiffness.shape(1);
    require(1 <= coupled && coupled <= first_finger && first_finger <= joints.count && coupled <= 1000,
            "first_finger must be between the joints that stiffness has and all.");
    const ImageMotion motion{transforms.data(),
                             places.data(),
                             axis_angles.data(),
                             points.data(),
                             weights.data(),
                             shares.data(),
                             T_cam_world.data(),
                             stiffness.data(),
                             finger_stiffness,
                             static_cast<int>(T_cam_world.shape(0)),
                             static_cast<int>(frames.count),
                             static_cast<int>(joints.count),
                             static_cast<int>(count.count),
                             static_cast<int>(coupled),
                             first_finger};
    splat::even_steps(motion, gradients.data(), steps.data(), lengths.data(), threads);
}

// ------------------------------------------------------------------------------------------------------------ fitting

void step_adam(const Array<float>& values, const Array<float>& gradient, const Array<float>& first,
               const Array<float>& second, float beta1, float beta2, float rate, float spread, float epsilon,
               int threads) {
    require_same_shape("gradient", gradient, "values", values);
    require_same_shape("first", first, "values", values), require_same_shape("second", second, "values", values);
    splat::step_adam({values.data(), gradient.data(), first.data(), second.data(), static_cast<int64_t>(values.size()),
                      beta1, beta2, rate, spread, epsilon},
                     threads);
}

double image_loss(const In<-1, 3, -1, -1>& rgb, const In<-1, 1, -1, -1>& alpha, const Bytes<-1, 11, -1, -1>& planes,
                  const In<-1, 3>& fill, bool over_plate, int shift_y, int shift_x, float ssim_weight,
                  float mask_weight, const Out<-1, 3, -1, -1>& v_rgb, const Out<-1, 1, -1, -1>& v_alpha, int threads) {
    const Size frames{"frames", "rgb", static_cast<int64_t>(rgb.shape(0))};
    const Size rows{"rows", "rgb", static_cast<int64_t>(rgb.shape(2))};
    const Size columns{"columns", "rgb", static_cast<int64_t>(rgb.shape(3))};
    require(1 <= frames.count && frames.count <= kMaxSide, "rgb must have a frame, and less than 32768.");
    require(rows.count <= kMaxSide && columns.count <= kMaxSide, "rgb must be at most 32767 pixels wide and high.");
    frames.hold("alpha", alpha.shape(0)), rows.hold("alpha", alpha.shape(2)), columns.hold("alpha", alpha.shape(3));
    frames.hold("planes", planes.shape(0)), rows.hold("planes", planes.shape(2));
    columns.hold("planes", planes.shape(3)), frames.hold("fill", fill.shape(0));
    require_same_shape("v_rgb", v_rgb, "rgb", rgb), require_same_shape("v_alpha", v_alpha, "alpha", alpha);
    require(0 <= shift_y && shift_y < 4 && 0 <= shift_x && shift_x < 4, "shift_y and shift_x must be in 0 to 3.");
    return splat::image_loss({rgb.data(), alpha.data(), planes.data(), fill.data(), static_cast<int>(frames.count),
                              static_cast<int>(rows.count), static_cast<int>(columns.count), over_plate, shift_y,
                              shift_x, ssim_weight, mask_weight, v_rgb.data(), v_alpha.data()},
                             threads);
}

void add_ties(const Indices<-1, -1>& neighbors, const Indices<-1>& begins, const Indices<-1>& tied_by,
              const In<-1>& spacing_m, const In<-1>& widest, const In<-1, 9>& weights, const In<-1, 1>& pull,
              const In<-1, 3>& rest, const In<-1>& flat, const In<-1, 3>& normals, float shrink, float times,
              const In<-1, 3>& offsets, const In<-1, 3>& log_scales, const In<-1, 3>& colors, const In<-1, 4>& quats,
              const Out<-1, 3>& v_offsets, const Out<-1, 3>& v_log_scales, const Out<-1, 3>& v_colors,
              const Out<-1, 4>& v_quats, int threads) {
    const int64_t n = neighbors.shape(0), k = neighbors.shape(1);
    const Size points{"points", "neighbors", n};
    require(1 <= k && k <= INT_MAX, "neighbors must be at least one per point.");
    Size{"numbers", "neighbors", n * k}.hold("tied_by", tied_by.shape(0));
    points.hold("spacing_m", spacing_m.shape(0)), points.hold("widest", widest.shape(0));
    points.hold("weights", weights.shape(0)), points.hold("pull", pull.shape(0)), points.hold("rest", rest.shape(0));
    points.hold("flat", flat.shape(0)), points.hold("normals", normals.shape(0));
    points.hold("offsets", offsets.shape(0)), points.hold("log_scales", log_scales.shape(0));
    points.hold("colors", colors.shape(0)), points.hold("quats", quats.shape(0));
    points.hold("v_offsets", v_offsets.shape(0)), points.hold("v_log_scales", v_log_scales.shape(0));
    points.hold("v_colors", v_colors.shape(0)), points.hold("v_quats", v_quats.shape(0));
    require_places("begins", begins, n, n * k);
    const bool good = splat::add_ties({neighbors.data(),
                                       begins.data(),
                                       tied_by.data(),
                                       n,
                                       static_cast<int>(k),
                                       spacing_m.data(),
                                       widest.data(),
                                       weights.data(),
                                       pull.data(),
                                       rest.data(),
                                       flat.data(),
                                       normals.data(),
                                       shrink,
                                       times,
                                       offsets.data(),
                                       log_scales.data(),
                                       colors.data(),
                                       quats.data(),
                                       v_offsets.data(),
                                       v_log_scales.data(),
                                       v_colors.data(),
                                       v_quats.data()},
                                      threads);
    require(good, "neighbors and tied_by must name points that there are.");
}

// Uninitialized memory for a tensor, which comes back here when the tensor goes.
using Memory = Buffer<float>;
using Memories = Shelf<Memory, 16>;

nb::ndarray<nb::pytorch, float, nb::ndim<1>> floats(size_t count) {
    std::unique_ptr<Memory> memory =
        Memories::take([&](const Memory& m) { return m.capacity() >= count && m.capacity() <= 2 * count + 1024; });
    if (!memory) memory = std::make_unique<Memory>();
    float* data = memory->hold(count);
    nb::capsule owner(memory.get(),
                      [](void* m) noexcept { Memories::give(std::unique_ptr<Memory>(static_cast<Memory*>(m))); });
    memory.release();
    return {data, {count}, owner};
}

void define(nb::module_& module) {
    using Unlocked = nb::call_guard<nb::gil_scoped_release>;
    nb::class_<PyFrame>(module, "Frame")
        .def(nb::init<In<-1, 3>, In<-1, 4>, In<-1, 3>, In<-1>, In<-1, -1>, std::optional<In<-1>>, const In<3, 3>&,
                      const In<4, 4>&, int, int, float, float, float, float, float>(),
             "means"_a, "quats"_a, "scales"_a, "opacities"_a, "colors"_a, "background"_a.none(), "K"_a, "T_cam_world"_a,
             "height"_a, "width"_a, "near_plane"_a, "far_plane"_a, "eps2d"_a, "alpha_threshold"_a, "cull_cosine"_a);
    nb::class_<PyDrawing>(module, "Drawing")
        .def(nb::init<>())
        .def("draw", &PyDrawing::draw, "frame"_a, "rgb"_a, "alpha"_a, "depth"_a, "threads"_a, Unlocked())
        .def("backward", &PyDrawing::backward, "frame"_a, "rgb"_a, "alpha"_a, "depth"_a, "v_rgb"_a.none(),
             "v_alpha"_a.none(), "v_depth"_a.none(), "v_means"_a.none(), "add_means"_a, "v_quats"_a.none(),
             "add_quats"_a, "v_scales"_a.none(), "add_scales"_a, "v_opacities"_a.none(), "add_opacities"_a,
             "v_colors"_a.none(), "add_colors"_a, "v_pose"_a.none(), "threads"_a, Unlocked());
    module.def("lay_over", &lay_over, "rgb"_a, "alpha"_a, "background"_a, "out"_a, "threads"_a, Unlocked());
    module.def("skin", &skin, "joints"_a, "begins"_a, "moved_by"_a, "weights"_a, "rest"_a, "quats"_a, "normals"_a,
               "means"_a, "turned"_a, "turned_normals"_a, "threads"_a, Unlocked());
    module.def("skin_backward", &skin_backward, "joints"_a, "begins"_a, "moved_by"_a, "weights"_a, "rest"_a, "quats"_a,
               "normals"_a, "v_means"_a, "v_turned"_a, "v_joints"_a, "v_rest"_a, "v_quats"_a, "threads"_a, Unlocked());
    module.def("shade", &shade, "normals"_a, "light"_a, "exposure"_a, "shadow"_a.none(), "albedo"_a, "colors"_a,
               "threads"_a, Unlocked());
    module.def("shade_backward", &shade_backward, "normals"_a, "light"_a, "exposure"_a, "shadow"_a.none(), "albedo"_a,
               "v_colors"_a, "v_albedo"_a, "v_light"_a, "threads"_a, Unlocked());
    module.def("self_shadow", &self_shadow, "points"_a, "normals"_a, "centers"_a, "radii_m"_a, "hides"_a, "light"_a,
               "strength"_a, "brightest"_a, "most"_a, "out"_a, "threads"_a, Unlocked());
    module.def("spread", &spread, "values"_a, "near"_a, "share"_a, "out"_a, "threads"_a, Unlocked());
    module.def("relight", &relight, "quats"_a, "local"_a.none(), "colors"_a, "light"_a, "out"_a, "threads"_a,
               Unlocked(), "`light` are the 23 numbers of splat::Light in their order.");
    module.def("grain", &grain, "bytes"_a, "bank"_a, "start"_a, "scale"_a, "threads"_a, Unlocked());
    module.def("place_joints", &place_joints, "axis_angles"_a, "rest"_a, "transl"_a.none(), "parents"_a, "transforms"_a,
               "places"_a, Unlocked());
    module.def("place_joints_backward", &place_joints_backward, "axis_angles"_a, "rest"_a, "transl"_a.none(),
               "parents"_a, "transforms"_a, "places"_a, "v_transforms"_a, "v_places"_a, "v_axis_angles"_a, "v_rest"_a,
               "v_transl"_a, Unlocked());
    module.def("joint_quaternions", &joint_quaternions, "transforms"_a, "parents"_a, "quaternions"_a, Unlocked());
    module.def("joint_quaternions_backward", &joint_quaternions_backward, "transforms"_a, "quaternions"_a,
               "v_quaternions"_a, "v_transforms"_a, Unlocked());
    module.def("even_steps", &even_steps, "transforms"_a, "places"_a, "axis_angles"_a, "points"_a, "weights"_a,
               "shares"_a, "T_cam_world"_a, "stiffness"_a, "finger_stiffness"_a, "first_finger"_a, "gradients"_a,
               "steps"_a, "lengths"_a, "threads"_a, Unlocked());
    module.def("step_adam", &step_adam, "values"_a, "gradient"_a, "first"_a, "second"_a, "beta1"_a, "beta2"_a, "rate"_a,
               "spread"_a, "epsilon"_a, "threads"_a, Unlocked());
    module.def("image_loss", &image_loss, "rgb"_a, "alpha"_a, "planes"_a, "fill"_a, "over_plate"_a, "shift_y"_a,
               "shift_x"_a, "ssim_weight"_a, "mask_weight"_a, "v_rgb"_a, "v_alpha"_a, "threads"_a, Unlocked());
    module.def("add_ties", &add_ties, "neighbors"_a, "begins"_a, "tied_by"_a, "spacing_m"_a, "widest"_a, "weights"_a,
               "pull"_a, "rest"_a, "flat"_a, "normals"_a, "shrink"_a, "times"_a, "offsets"_a, "log_scales"_a,
               "colors"_a, "quats"_a, "v_offsets"_a, "v_log_scales"_a, "v_colors"_a, "v_quats"_a, "threads"_a,
               Unlocked());
    module.def("floats", &floats, "count"_a, "A tensor of so many float32, uninitialized.");
    module.def("instruction_set", [] { return std::string(kernels().name); });
    module.def(
        "use_instruction_set", [](const std::string& name) { return use_kernels(name.c_str()); },
        "For tests: False if this processor cannot run it.");
}

}  // namespace
}  // namespace splat::python

NB_MODULE(_cpp, module) {
    // A picture with gradients that is still alive when Python ends is no leak.
    nanobind::set_leak_warnings(false);
    splat::python::define(module);
}
