// The Python module `_cpu`: addresses of contiguous arrays in (float32 where no type is named), results written in place.
//
// Addresses and not array objects, since the caller (cpu.py) has checked them already and a call must cost microseconds.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "adam.h"
#include "pose.h"
#include "rasterizer.h"
#include "shelf.h"

namespace nb = nanobind;

namespace {

using Address = uintptr_t;

template <class T = float>
T* at(Address address) { return reinterpret_cast<T*>(address); }

// Everything that a frame is made of; named after `Scene`.
struct PyFrame {
    splat::Frame frame{};

    PyFrame(Address means, Address quats, Address scales, Address opacities, Address colors, Address background,
            Address K, Address T_cam_world, int64_t n, int channels, int height, int width, float near_plane,
            float far_plane, float eps2d, float alpha_threshold, float cull_cosine) {
        frame.means = at(means), frame.quats = at(quats), frame.scales = at(scales);
        frame.opacities = at(opacities), frame.colors = at(colors), frame.background = at(background);
        frame.n = n, frame.channels = channels, frame.height = height, frame.width = width;
        const float *k = at(K), *t = at(T_cam_world);
        frame.fx = k[0], frame.cx = k[2], frame.fy = k[4], frame.cy = k[5];
        for (int row = 0; row < 3; ++row) {
            for (int column = 0; column < 3; ++column) frame.rotation[3 * row + column] = t[4 * row + column];
            frame.translation[row] = t[4 * row + 3];
        }
        frame.near_plane = near_plane, frame.far_plane = far_plane, frame.eps2d = eps2d;
        frame.threshold = alpha_threshold, frame.cull_cosine = cull_cosine;
    }
};

// Holds a drawing as long as Python may ask for gradients.
class PyDrawing {
public:
    PyDrawing() : drawing_(splat::take_drawing()) {}
    PyDrawing(const PyDrawing&) = delete;
    ~PyDrawing() { splat::give_drawing(std::move(drawing_)); }

    bool draw(const PyFrame& frame, Address rgb, Address alpha, Address depth, int threads) {
        return splat::draw_frame(frame.frame, {at(rgb), at(alpha), at(depth)}, *drawing_, threads);
    }

    void backward(const PyFrame& frame, Address rgb, Address alpha, Address depth, Address v_rgb, Address v_alpha,
                  Address v_depth, Address v_means, bool add_means, Address v_quats, bool add_quats, Address v_scales,
                  bool add_scales, Address v_opacities, bool add_opacities, Address v_colors, bool add_colors,
                  Address v_pose, int threads) {
        const splat::Gradient gradient{at(v_means), at(v_quats), at(v_scales), at(v_opacities), at(v_colors),
                                       add_means,   add_quats,   add_scales,   add_opacities,   add_colors,
                                       at(v_pose)};
        splat::draw_frame_backward(frame.frame, {at(rgb), at(alpha), at(depth)}, {at(v_rgb), at(v_alpha), at(v_depth)},
                                   gradient, *drawing_, threads);
    }

private:
    std::unique_ptr<splat::Drawing> drawing_;
};

splat::Skin skin_of(Address joints, Address begins, Address moved_by, Address weights, Address rest, Address quats,
                    Address normals, int64_t n, int n_joints) {
    if (n_joints > splat::kMaxJoints) throw std::invalid_argument("more joints than the kernel's table holds");
    return {at(joints), at<int32_t>(begins), at<uint8_t>(moved_by), at(weights), at(rest), at(quats), at(normals), n, n_joints};
}

void skin(Address joints, Address begins, Address moved_by, Address weights, Address rest, Address quats,
          Address normals, int64_t n, int n_joints, Address means, Address turned, Address turned_normals, int threads) {
    splat::skin_frame(skin_of(joints, begins, moved_by, weights, rest, quats, normals, n, n_joints),
                      {at(means), at(turned), at(turned_normals)}, threads);
}

void skin_backward(Address joints, Address begins, Address moved_by, Address weights, Address rest, Address quats,
                   Address normals, int64_t n, int n_joints, Address v_means, Address v_turned, Address v_joints,
                   Address v_rest, Address v_quats, bool add_quats, int threads) {
    splat::skin_frame_backward(skin_of(joints, begins, moved_by, weights, rest, quats, normals, n, n_joints),
                               {at(v_means), at(v_turned), at(v_joints), at(v_rest), at(v_quats), add_quats}, threads);
}

void shade(Address normals, Address light, Address exposure, Address shadow, Address albedo, int64_t n, Address colors,
           int threads) {
    splat::shade_frame({at(normals), at(light), at(exposure), at(shadow), at(albedo), n}, at(colors), threads);
}

void shade_backward(Address normals, Address light, Address exposure, Address shadow, Address albedo, int64_t n,
                    Address v_colors, Address v_albedo, bool add_albedo, Address v_light, int threads) {
    splat::shade_frame_backward({at(normals), at(light), at(exposure), at(shadow), at(albedo), n},
                                {at(v_colors), at(v_albedo), add_albedo, at(v_light)}, threads);
}

void self_shadow(Address points, Address normals, Address centers, Address radii_m, Address hides, Address light,
                 float strength, float brightest, float most, int64_t n, int spheres, Address out, int threads) {
    splat::self_shadow_frame({at(points), at(normals), at(centers), at(radii_m), at(hides), at(light), strength, brightest,
                              most, n, spheres},
                             at(out), threads);
}

void spread(Address values, Address near, Address share, int64_t n, Address out, int threads) {
    splat::spread(at(values), at<int32_t>(near), at(share), n, at(out), threads);
}

splat::Joints joints_of(Address axis_angles, Address rest, int rest_frames, Address transl, Address parents, int frames,
                        int n) {
    return {at(axis_angles), at(rest), rest_frames, at(transl), at<int32_t>(parents), frames, n};
}

void place_joints(Address axis_angles, Address rest, int rest_frames, Address transl, Address parents, int frames, int n,
                  Address transforms, Address places) {
    splat::place_joints(joints_of(axis_angles, rest, rest_frames, transl, parents, frames, n), at(transforms), at(places));
}

void place_joints_backward(Address axis_angles, Address rest, int rest_frames, Address transl, Address parents, int frames,
                           int n, Address transforms, Address places, Address v_transforms, Address v_places,
                           Address v_axis_angles, Address v_rest, Address v_transl) {
    splat::place_joints_backward(joints_of(axis_angles, rest, rest_frames, transl, parents, frames, n), at(transforms),
                                 at(places), at(v_transforms), at(v_places), at(v_axis_angles), at(v_rest), at(v_transl));
}

void joint_quaternions(Address transforms, Address parents, int frames, int n, Address quaternions) {
    splat::joint_quaternions(at(transforms), at<int32_t>(parents), frames, n, at(quaternions));
}

void joint_quaternions_backward(Address transforms, Address quaternions, Address v_quaternions, int64_t count,
                                Address v_transforms) {
    splat::joint_quaternions_backward(at(transforms), at(quaternions), at(v_quaternions), count, at(v_transforms));
}

void even_steps(Address transforms, Address places, Address axis_angles, Address points, Address weights, Address shares,
                Address T_cam_world, Address stiffness, float finger_stiffness, int cameras, int frames, int n, int count,
                int coupled, int first_finger, Address gradients, Address steps, Address lengths, int threads) {
    const splat::ImageMotion motion{at(transforms), at(places), at(axis_angles), at(points), at(weights), at(shares),
                                    at(T_cam_world), at(stiffness), finger_stiffness, cameras, frames, n, count, coupled,
                                    first_finger};
    splat::even_steps(motion, at(gradients), at(steps), at(lengths), threads);
}

void step_adam(Address values, Address gradient, Address first, Address second, int64_t count, float beta1, float beta2,
               float rate, float spread, float epsilon, int threads) {
    splat::step_adam({at(values), at(gradient), at(first), at(second), count, beta1, beta2, rate, spread, epsilon}, threads);
}

void lay_over(Address rgb, Address alpha, Address background, int64_t pixels, Address out, int threads) {
    splat::lay_over(at(rgb), at(alpha), at(background), pixels, at<uint8_t>(out), threads);
}

// `light` are the 23 numbers of splat::Light in their order.
void relight(Address quats, Address local, Address colors, int64_t n, int channels, Address light, Address out, int threads) {
    splat::Lit lit{at(quats), at(local), at(colors), channels, {}, at(out)};
    static_assert(sizeof(splat::Light) == 23 * sizeof(float), "no padding between its numbers");
    std::memcpy(&lit.light, at(light), sizeof(splat::Light));
    splat::relight(lit, n, threads);
}

void grain(Address bytes, int64_t count, Address bank, int64_t size, int64_t start, Address scale, int threads) {
    splat::grain(at<uint8_t>(bytes), count, at<int16_t>(bank), size, start, at<int32_t>(scale), threads);
}

double image_loss(Address rgb, Address alpha, Address bytes, Address fill, int frames, int height, int width,
                  bool over_plate, int shift_y, int shift_x, float ssim_weight, float mask_weight, Address v_rgb,
                  Address v_alpha, int threads) {
    return splat::image_loss({at(rgb), at(alpha), at<uint8_t>(bytes), at(fill), frames, height, width, over_plate, shift_y,
                              shift_x, ssim_weight, mask_weight, at(v_rgb), at(v_alpha)}, threads);
}

void add_ties(Address neighbors, Address begins, Address tied_by, int64_t n, int k, Address spacing_m, Address widest,
              Address weights, Address pull, Address rest, Address flat, Address normals, float shrink, float times,
              Address offsets, Address log_scales, Address colors, Address quats, Address v_offsets,
              Address v_log_scales, Address v_colors, Address v_quats, int threads) {
    splat::add_ties({at<int32_t>(neighbors), at<int32_t>(begins), at<int32_t>(tied_by), n, k, at(spacing_m), at(widest), at(weights),
                     at(pull), at(rest), at(flat), at(normals), shrink, times, at(offsets), at(log_scales), at(colors),
                     at(quats), at(v_offsets), at(v_log_scales), at(v_colors), at(v_quats)}, threads);
}

// Uninitialized memory for a tensor, which comes back here when the tensor goes.
using Memory = splat::Buffer<float>;
using Memories = splat::Shelf<Memory, 16>;

nb::ndarray<nb::pytorch, float, nb::ndim<1>> floats(size_t count) {
    std::unique_ptr<Memory> memory =
        Memories::take([&](const Memory& m) { return m.capacity() >= count && m.capacity() <= 2 * count + 1024; });
    if (!memory) memory = std::make_unique<Memory>();
    float* data = memory->hold(count);
    nb::capsule owner(memory.get(), [](void* m) noexcept { Memories::give(std::unique_ptr<Memory>(static_cast<Memory*>(m))); });
    memory.release();
    return {data, {count}, owner};
}

}  // namespace

NB_MODULE(_cpu, module) {
    // A picture with gradients that is still alive when Python ends is no leak.
    nb::set_leak_warnings(false);
    nb::class_<PyFrame>(module, "Frame")
        .def(nb::init<Address, Address, Address, Address, Address, Address, Address, Address, int64_t, int, int, int,
                      float, float, float, float, float>());
    nb::class_<PyDrawing>(module, "Drawing")
        .def(nb::init<>())
        .def("draw", &PyDrawing::draw, nb::call_guard<nb::gil_scoped_release>())
        .def("backward", &PyDrawing::backward, nb::call_guard<nb::gil_scoped_release>());
    module.def("skin", &skin, nb::call_guard<nb::gil_scoped_release>());
    module.def("skin_backward", &skin_backward, nb::call_guard<nb::gil_scoped_release>());
    module.def("shade", &shade, nb::call_guard<nb::gil_scoped_release>());
    module.def("self_shadow", &self_shadow, nb::call_guard<nb::gil_scoped_release>());
    module.def("spread", &spread, nb::call_guard<nb::gil_scoped_release>());
    module.def("shade_backward", &shade_backward, nb::call_guard<nb::gil_scoped_release>());
    module.def("place_joints", &place_joints, nb::call_guard<nb::gil_scoped_release>());
    module.def("place_joints_backward", &place_joints_backward, nb::call_guard<nb::gil_scoped_release>());
    module.def("joint_quaternions", &joint_quaternions, nb::call_guard<nb::gil_scoped_release>());
    module.def("joint_quaternions_backward", &joint_quaternions_backward, nb::call_guard<nb::gil_scoped_release>());
    module.def("even_steps", &even_steps, nb::call_guard<nb::gil_scoped_release>());
    module.def("step_adam", &step_adam, nb::call_guard<nb::gil_scoped_release>());
    module.def("image_loss", &image_loss, nb::call_guard<nb::gil_scoped_release>());
    module.def("add_ties", &add_ties, nb::call_guard<nb::gil_scoped_release>());
    module.def("lay_over", &lay_over, nb::call_guard<nb::gil_scoped_release>());
    module.def("relight", &relight, nb::call_guard<nb::gil_scoped_release>());
    module.def("grain", &grain, nb::call_guard<nb::gil_scoped_release>());
    module.def("floats", &floats, "A tensor of so many float32, uninitialized.");
    module.def("instruction_set", [] { return std::string(splat::kernels().name); });
    module.def("use_instruction_set", [](const std::string& name) { return splat::use_kernels(name.c_str()); },
               "For tests: False if this processor cannot run it.");
}
