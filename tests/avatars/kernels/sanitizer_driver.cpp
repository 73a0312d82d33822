// Runs the CPU rasterizer's C++ without Python, for the address and undefined-behavior sanitizers: scenes of all
// shapes, degenerate ones among them, forward and backward, on several threads, with every instruction set that this
// machine has.

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "adam.h"
#include "pose.h"
#include "rasterizer.h"

namespace {

using Floats = std::vector<float>;  // exact size: a read past the end is found

struct Shape {
    int64_t n;
    int channels, width, height;
    bool background, depth_gradient;
};

struct Scene {
    Floats means, quats, scales, opacities, colors, background;
    splat::Frame frame{};

    Scene(const Shape& shape, unsigned seed)
        : means(3 * shape.n),
          quats(4 * shape.n),
          scales(3 * shape.n),
          opacities(shape.n),
          colors(shape.channels * shape.n),
          background(shape.channels, 0.5f) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        std::uniform_real_distribution<float> uniform;
        for (float& x : means) x = normal(random);
        for (float& x : quats) x = normal(random);
        for (float& x : scales) x = 0.2f * uniform(random);
        for (float& x : opacities) x = uniform(random);
        for (float& x : colors) x = uniform(random);
        degrade();
        frame.means = means.data(), frame.quats = quats.data(), frame.scales = scales.data();
        frame.opacities = opacities.data(), frame.colors = colors.data();
        frame.background = shape.background ? background.data() : nullptr;
        frame.n = shape.n, frame.channels = shape.channels, frame.width = shape.width, frame.height = shape.height;
        frame.fx = frame.fy = 0.9f * shape.width, frame.cx = 0.5f * shape.width, frame.cy = 0.5f * shape.height;
        for (int k = 0; k < 3; ++k) frame.rotation[4 * k] = 1.0f;
        frame.translation[2] = 2.0f;
        frame.near_plane = 0.01f, frame.far_plane = 1e10f, frame.eps2d = 0.3f, frame.threshold = 1.0f / 255;
        frame.cull_cosine = seed % 2 ? 0.3f : 2.0f;
    }

    // Some are endless, flat, far away, in the camera, or nothing at all.
    void degrade() {
        const float odd[] = {0.0f, 1e-30f, 1e30f, -1e30f, 1e8f, -1e8f, 3e-39f};
        for (size_t g = 0; g < opacities.size(); g += 5) {
            const float value = odd[g / 5 % 7];
            if (g % 4 == 0) means[3 * g + g % 3] = value;
            if (g % 4 == 1) scales[3 * g + g % 3] = std::fabs(value);
            if (g % 4 == 2)
                for (int k = 0; k < 4; ++k) quats[4 * g + k] = value;
            if (g % 4 == 3) opacities[g] = g % 8 == 3 ? 0.0f : 1.0f;
        }
    }
};

bool run_scene(const Shape& shape, unsigned seed, int threads) {
    const Scene scene(shape, seed);
    const int64_t pixels = static_cast<int64_t>(shape.width) * shape.height;
    Floats rgb(pixels * shape.channels), alpha(pixels), depth(pixels), ones(pixels * shape.channels, 1.0f);
    std::unique_ptr<splat::Drawing> drawing = splat::take_drawing();
    const splat::Image image{rgb.data(), alpha.data(), depth.data()};
    if (!splat::draw_frame(scene.frame, image, *drawing, threads)) return false;
    Floats v_means(scene.means), v_quats(scene.quats), v_scales(scene.scales), v_opacities(scene.opacities);
    Floats v_colors(scene.colors), v_pose(12);
    const splat::ImageGradient v_image{ones.data(), ones.data(), shape.depth_gradient ? ones.data() : nullptr};
    const splat::Gradient gradient{v_means.data(),  v_quats.data(), v_scales.data(), v_opacities.data(),
                                   v_colors.data(), false,          false,           false,
                                   false,           seed % 3 == 0,  v_pose.data()};
    splat::draw_frame_backward(scene.frame, image, v_image, gradient, *drawing, threads);
    splat::give_drawing(std::move(drawing));
    for (float value : rgb)
        if (!std::isfinite(value)) return false;
    for (float value : alpha)
        if (!(value >= 0.0f && value <= 1.0001f)) return false;
    std::vector<uint8_t> bytes(3 * pixels);
    if (shape.channels == 3) {
        const Floats white(3 * pixels, 1.0f);
        splat::lay_over(rgb.data(), alpha.data(), white.data(), pixels, bytes.data(), threads);
        const std::vector<int16_t> bank(1000, 5);
        const std::vector<int32_t> scale(256, 32);
        splat::grain(bytes.data(), 3 * pixels, bank.data(), 1000, 990, scale.data(), threads);
        Floats lit(3 * scene.frame.n);
        const splat::Light light{{1, 1, 1}, {}, {0, 1, 0}, {1, 1, 1}, 0.05f, 2.5f, {1, 1, 1}};
        splat::relight({scene.frame.quats, nullptr, scene.frame.colors, 3, light, lit.data()}, scene.frame.n, threads);
    }
    return true;
}

bool run_not_finite() {
    const Shape shape{300, 3, 40, 30, true, true};
    Scene scene(shape, 1);
    scene.means[100] = NAN;
    Floats rgb(3 * 1200), alpha(1200), depth(1200);
    std::unique_ptr<splat::Drawing> drawing = splat::take_drawing();
    return !splat::draw_frame(scene.frame, {rgb.data(), alpha.data(), depth.data()}, *drawing, 2);
}

bool run_skin(int64_t n, int n_joints, int threads) {
    std::mt19937 random(7);
    std::uniform_real_distribution<float> uniform;
    std::vector<int32_t> begins(n + 1);
    std::vector<uint8_t> moved_by;
    Floats weights;
    for (int64_t p = 0; p < n; ++p) {
        for (int k = 0; k < p % 5; ++k)
            moved_by.push_back(static_cast<uint8_t>((p + k) % n_joints)), weights.push_back(0.25f);
        begins[p + 1] = static_cast<int32_t>(weights.size());
    }
    Floats joints(16 * n_joints), rest(3 * n), quats(4 * n), normals(3 * n);
    for (Floats* each : {&joints, &rest, &quats, &normals})
        for (float& x : *each) x = uniform(random);
    Floats means(3 * n), turned(4 * n), turned_normals(3 * n), v_joints(16 * n_joints), v_rest(3 * n), v_quats(4 * n);
    const splat::Skin skin{joints.data(), begins.data(), moved_by.data(), weights.data(),
                           rest.data(),   quats.data(),  normals.data(),  n,
                           n_joints};
    splat::skin_frame(skin, {means.data(), turned.data(), turned_normals.data()}, threads);
    splat::skin_frame_backward(
        skin, {means.data(), turned.data(), v_joints.data(), v_rest.data(), v_quats.data(), false}, threads);
    for (float value : v_joints)
        if (!std::isfinite(value)) return false;
    return true;
}

bool run_shade(int64_t n, int threads) {
    std::mt19937 random(8);
    std::uniform_real_distribution<float> uniform;
    Floats normals(3 * n), albedo(3 * n), light(24), exposure(3), shadow(n), colors(3 * n), v_albedo(3 * n),
        v_light(27);
    for (Floats* each : {&normals, &albedo, &light, &exposure, &shadow})
        for (float& x : *each) x = uniform(random);
    const float* dark = n % 2 ? shadow.data() : nullptr;
    const splat::Shade shade{normals.data(), light.data(), exposure.data(), dark, albedo.data(), n};
    splat::shade_frame(shade, colors.data(), threads);
    splat::shade_frame_backward(shade, {colors.data(), v_albedo.data(), n % 2 == 0, v_light.data()}, threads);
    for (float value : v_light)
        if (!std::isfinite(value)) return false;
    return true;
}

bool run_self_shadow(int64_t n, int spheres, bool even) {
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    Floats points(3 * n), normals(3 * n), centers(3 * spheres), radii(spheres, 0.1f), hides(n * spheres, 1.0f),
        light(8);
    Floats out(n), share(3 * n, 0.3f), between(n);
    for (Floats* each : {&points, &normals, &centers})
        for (float& x : *each) x = normal(random);
    if (!even) light[3] = 0.4f;
    const std::vector<int32_t> near(3 * n, static_cast<int32_t>(n) - 1);
    splat::self_shadow_frame({points.data(), normals.data(), centers.data(), radii.data(), hides.data(), light.data(),
                              0.5f, 4.0f, 0.9f, n, spheres},
                             out.data(), 3);
    if (!splat::spread(out.data(), n, near.data(), share.data(), n, between.data(), 3)) return false;
    for (float value : between)
        if (!std::isfinite(value)) return false;
    return true;
}

bool run_joints(int frames, int rest_frames, bool moved) {
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    const std::vector<int32_t> parents = {-1, 0, 0, 1, 3, 2};
    const int n = static_cast<int>(parents.size());
    Floats poses(3 * n * frames), rest(3 * n * rest_frames), transl(3 * frames), A(12 * n * frames),
        places(3 * n * frames);
    Floats q(4 * n * frames), v_A(A.size()), v_poses(poses.size()), v_rest(poses.size()), v_transl(transl.size());
    for (Floats* each : {&poses, &rest, &transl})
        for (float& x : *each) x = normal(random);
    const splat::Joints joints{
        poses.data(), rest.data(), rest_frames, moved ? transl.data() : nullptr, parents.data(), frames, n};
    splat::place_joints(joints, A.data(), places.data());
    splat::joint_quaternions(A.data(), parents.data(), frames, n, q.data());
    splat::joint_quaternions_backward(A.data(), q.data(), q.data(), int64_t(n) * frames, v_A.data());
    splat::place_joints_backward(joints, A.data(), places.data(), v_A.data(), places.data(), v_poses.data(),
                                 v_rest.data(), v_transl.data());
    const int count = 5;
    Floats points(3 * count), weights(n * count, 1.0f / n), camera(16 * rest_frames), stiffness(27 * frames);
    Floats gradients((3 * n + 3) * frames, 1.0f), steps(gradients.size()), lengths(frames);
    for (float& x : points) x = normal(random);
    for (size_t i = 0; i < stiffness.size(); ++i) stiffness[i] = i % 9 % 4 == 0;  // 3 x 3 each
    for (int frame = 0; frame < rest_frames; ++frame)
        for (int i = 0; i < 4; ++i) camera[16 * frame + 5 * i] = 1.0f, camera[16 * frame + 11] = 9.0f;
    splat::even_steps({A.data(), places.data(), poses.data(), points.data(), weights.data(), weights.data(),
                       camera.data(), stiffness.data(), 1.0f, rest_frames, frames, n, count, 3, 4},
                      gradients.data(), steps.data(), lengths.data(), 2);
    for (const Floats* each : {&q, &v_A, &v_poses, &v_rest, &v_transl, &steps, &lengths})
        for (float value : *each)
            if (!std::isfinite(value)) return false;
    return true;
}

bool run_adam(int64_t count) {
    Floats x(count, 1.0f), g(count, 0.5f), m(count), v(count);
    splat::step_adam({x.data(), g.data(), m.data(), v.data(), count, 0.9f, 0.99f, 0.1f, 10.0f, 1e-8f}, 3);
    for (int64_t i = 0; i < count; ++i)
        if (g[i] != 0.0f || !(x[i] < 1.0f)) return false;
    return true;
}

}  // namespace

int main() {
    const Shape shapes[] = {
        {0, 3, 20, 10, true, true},   {1, 3, 1, 1, false, true},       {400, 3, 37, 45, true, false},
        {400, 1, 45, 37, true, true}, {400, 5, 64, 64, false, true},   {3000, 3, 33, 31, false, false},
        {700, 3, 1, 200, true, true}, {5000, 3, 260, 130, true, true}, {900, 9, 70, 33, true, false},
    };
    int failures = 0, runs = 0;
    for (const char* name : {"plain", "avx2", "avx512"}) {
        if (!splat::use_kernels(name)) continue;
        for (const Shape& shape : shapes)
            for (unsigned seed = 0; seed < 4; ++seed) {
                ++runs;
                if (run_scene(shape, seed, 1 + static_cast<int>(seed))) continue;
                ++failures;
                std::printf("%s: %d x %d, %d channels, seed %u: not finite\n", name, shape.width, shape.height,
                            shape.channels, seed);
            }
        for (int64_t n : {0, 1, 17, 5000}) failures += !run_skin(n, 55, 3) + !run_shade(n, 3), runs += 2;
        failures += !run_not_finite(), ++runs;
    }
    for (int frames : {0, 1, 3})
        for (int rest_frames : {1, 3}) failures += !run_joints(frames, rest_frames, frames == 3), ++runs;
    for (int64_t n : {0, 1, 1500})
        for (int spheres : {0, 43}) failures += !run_self_shadow(n, spheres, n == 1), ++runs;
    for (int64_t count : {0, 1, 40000}) failures += !run_adam(count), ++runs;
    std::printf("%d runs, %d failures\n", runs, failures);
    return failures != 0;
}
