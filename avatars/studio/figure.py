"""One person's bare body in the T-pose: what clothes and hair are grown from, and its landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from avatars.body import Body
from avatars.studio.kinematics import J, K
from avatars.studio.surface import Surface


@dataclass(frozen=True)
class Figure:
    """A shaped body at rest."""

    skin: Surface
    joints: np.ndarray
    """(55, 3) meters."""
    keypoints: np.ndarray
    """(133, 3) meters."""
    eyes: np.ndarray
    """(vertices,) bool: eyeballs."""

    @staticmethod
    def of(body: Body, betas: np.ndarray) -> Figure:
        """The figure of `body` with shape `betas`."""
        with torch.no_grad():
            shape = torch.as_tensor(betas, dtype=torch.float32)
            vertices, joints = body.shaped(shape)
            keypoints = body.keypoints_133(torch.zeros(1, 55, 3), shape)[0]
        weights = body.lbs_weights.double().numpy()
        eyes = weights[:, J["left_eye_smplhf"]] + weights[:, J["right_eye_smplhf"]] > 0.5
        skin = Surface(vertices.double().numpy(), body.faces.numpy(), weights)
        return Figure(skin, joints.double().numpy(), keypoints.double().numpy(), eyes)

    def joint(self, name: str) -> np.ndarray:
        """Rest place (3,) of a joint."""
        return self.joints[J[name]]

    def keypoint(self, name: str) -> np.ndarray:
        """Rest place (3,) of a keypoint."""
        return self.keypoints[K[name]]

    @cached_property
    def sole_y(self) -> float:
        """Height of the soles in the T-pose frame."""
        return float(self.skin.rest[:, 1].min())

    @cached_property
    def face(self) -> np.ndarray:
        """(68, 3) face landmarks, iBUG order."""
        return self.keypoints[K["face0"] : K["face0"] + 68]

    @cached_property
    def loose_normals(self) -> np.ndarray:
        """Normals without the body's small detail: the way out for cloth."""
        normals = self.skin.smoothed(self.skin.normals(self.skin.rest), 12)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)

    def weight_of(self, *names: str) -> np.ndarray:
        """(vertices,) how much the skin follows the named joints."""
        return self.skin.weights[:, [J[n] for n in names]].sum(1)

    def shell(self, offset_m: np.ndarray | float, *, smooth: int = 0, free: np.ndarray | None = None) -> Surface:
        """The skin moved out by `offset_m` (per vertex), smoothed like loose cloth, but nowhere nearer than two
        thirds of it."""
        n = self.loose_normals
        offset = np.broadcast_to(np.asarray(offset_m, float), len(n))[:, None]
        out = self.skin.rest + n * offset
        if smooth:
            soft = self.skin.smoothed(out, smooth)
            lack = np.maximum(0.66 * offset - ((soft - self.skin.rest) * n).sum(1, keepdims=True), 0.0)
            out = soft + lack * n
            out = self.skin.smoothed(out, 2)
        if free is not None:
            out = out + free
        weights = self.skin.smoothed(self.skin.weights, 6 if smooth else 1)
        return Surface(out, self.skin.faces, weights)
