// Joints of a kinematic tree in a pose, and their gradients: the definitions are in forward_kinematics.py.

#pragma once

#include <cstdint>

namespace splat {

// Frames of n joints; a parent stands before its children, and the root's is -1.
struct Joints {
    const float* axis_angles;  // frames x n x 3
    const float* rest;         // (frames or 1) x n x 3
    int rest_frames;
    const float* transl;  // frames x 3, or null
    const int32_t* parents;
    int frames, n;
};

// Skinning transforms (frames x n x 12: rows of rotation and translation) and joints (frames x n x 3).
void place_joints(const Joints& joints, float* transforms, float* places);

// From the gradients of both, those of axis-angles and rest (frames x n x 3 each), and each frame's sum of forces,
// which is that of transl (frames x 3).
void place_joints_backward(const Joints& joints, const float* transforms, const float* places,
                           const float* v_transforms, const float* v_places, float* v_axis_angles, float* v_rest,
                           float* v_transl);

// Unit quaternions (frames x n x 4, wxyz) of the transforms' rotations, each in its parent's hemisphere.
void joint_quaternions(const float* transforms, const int32_t* parents, int frames, int n, float* quaternions);
void joint_quaternions_backward(const float* transforms, const float* quaternions, const float* v_quaternions,
                                int64_t count, float* v_transforms);

// How points on a posed body move across the line of sight (image_motion.py).
struct ImageMotion {
    const float *transforms, *places, *axis_angles;  // of joints, as above
    const float* points;                             // count x 3, at rest
    const float *weights, *shares;                   // count x n: of each joint, and of each joint and all below it
    const float* T_cam_world;                        // (frames or 1) x 16
    const float* stiffness;                          // frames x coupled x 9: of the coupled joints' axis-angles
    float finger_stiffness;
    int cameras, frames, n, count;
    int coupled, first_finger;  // joints before the first are solved for together, those from the second on one by one
};

// Steps (frames x (3 n + 3)) for gradients of axis-angles and transl, and their squared lengths in the picture
// (frames).
void even_steps(const ImageMotion& motion, const float* gradients, float* steps, float* lengths, int threads);

}  // namespace splat
