"""A posed body and a light in; how much of that light the body's own limbs take from each point on it, out.

An arm that hangs down darkens the side of the chest, and raised it does not: without this, what a video shows of the
chest contradicts itself, and colors learn a mean. Limbs are spheres, which hide the share of a point's hemisphere
that their form factor says (Bunnell 2005, "Dynamic Ambient Occlusion and Indirect Lighting"; spheres as blockers of
smooth light after Ren et al. 2006, "Real-time Soft Shadows in Dynamic Scenes using Spherical Harmonic
Exponentiation"), counted by how bright the light is from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from avatars.avatar.rig import Rig
from avatars.body import Body
from avatars.body.skinning import SkinningWeights, skin
from avatars.kernels.extension import empty, extension
from avatars.kernels.threads import kernel_threads

STRENGTH = 0.7
"""Logarithm of the darkening where all light is taken, of display-referred colors. From true poses, in short fits, two
people's held-out frames score 0.2 and 0.5 dB more than without it, and less at half of it; one was tried at 1.0: less,
too."""
ANCHORS = 1500
"""Points at which it is computed; the others lie between them."""
BRIGHTEST, MOST = 4.0, 0.9
"""How many times as bright as a point's own light the hidden one counts at most; what one sphere hides at most."""
NORMALS_APART_M = 0.05
"""How far apart anchors count whose normals differ by one."""
LIMBS = ((1, 4), (2, 5), (4, 7), (5, 8), (16, 18), (17, 19), (18, 20), (19, 21))
"""Joints at both ends."""
SPHERES_PER_LIMB = 4
PALM, HAND_M = 0.35, 0.05
"""A hand's middle beyond the wrist, in forearms, and its radius."""
TRUNK, HEAD, HANDS = (0, 3, 6, 9), 15, (20, 21)
OWNER = {12: 0, 13: 0, 14: 0, 3: 0, 6: 0, 9: 0, 7: 4, 8: 5, 10: 4, 11: 5}
"""Joints whose skin is part of another one's limb; no limb hides light from itself."""


@dataclass(frozen=True, slots=True, eq=False)
class AmbientOcclusion:
    """What does not change with the pose."""

    centers: Float[Tensor, "spheres 3"]
    """In the T-pose, meters."""
    radii_m: Float[Tensor, " spheres"]
    bones: Int[Tensor, " spheres"]
    anchors: Float[Tensor, "anchors 3"]
    normals: Float[Tensor, "anchors 3"]
    weights: SkinningWeights
    hides: Float[Tensor, "spheres anchors"]
    """0 where sphere and anchor belong to one limb."""
    near: Int32[Tensor, "n 3"]
    """Anchors near each point, and how much each counts."""
    share: Float[Tensor, "n 3"]

    @staticmethod
    def of(rig: Rig, betas: Float[Tensor, " shape"]) -> AmbientOcclusion:
        """For the points of a rig on a body of that shape."""
        from scipy.spatial import KDTree

        surface, rest_normals, weights = rig.surface.cpu(), rig.normals.cpu(), rig.weights.dense_t.t().cpu()
        centers, radii_m, bones = _spheres(rig.body, betas)
        chosen = torch.arange(0, len(surface), max(len(surface) // ANCHORS, 1))
        places = torch.cat([surface, NORMALS_APART_M * rest_normals], -1)
        distance, near = KDTree(places[chosen].numpy()).query(places.numpy(), k=3, workers=-1)
        share = 1.0 / (torch.from_numpy(distance).float() + 1e-4)
        hides = (_owner(bones)[:, None] != _limb(weights[chosen])[None]).float()
        return AmbientOcclusion(
            centers, radii_m, bones, surface[chosen], rest_normals[chosen], SkinningWeights.of(weights[chosen]), hides,
            torch.from_numpy(near).int(), share / share.sum(1, keepdim=True),
        )  # fmt: skip

    @torch.no_grad()
    def at_anchors(
        self, A_world_rest: Float[Tensor, "frames joints 3 4"], light: Float[Tensor, "8 3"]
    ) -> Float[Tensor, "frames anchors"]:
        """Logarithm (at most 0) of the factor on display-referred colors, in a light as `shading.shading` takes it.

        Our C++ does it, float32, on the CPU wherever the body is, in about half a millisecond a frame.
        """
        A, gray = A_world_rest.detach().cpu(), light.detach().cpu().float().mean(1)
        frames = len(A)
        joints = torch.nn.functional.pad(A.reshape(frames, -1, 12), (0, 4))
        unturned = torch.zeros(len(self.anchors), 4)
        points, _, normals = skin(joints, self.weights, self.anchors[None], unturned, self.normals)
        points = points.mT.contiguous()
        normals = normals * normals.square().sum(1, keepdim=True).clamp_min(1e-24).rsqrt()
        bones = A[:, self.bones]
        centers = ((bones[..., :3] * self.centers[:, None]).sum(-1) + bones[..., 3]).contiguous()
        out = torch.empty(frames, len(self.anchors))
        extension().self_shadow(
            *(points, normals, centers, self.radii_m, self.hides, gray),
            *(STRENGTH, BRIGHTEST, MOST, out, kernel_threads()),
        )
        return out

    def spread(self, values: Float[Tensor, "frames anchors"]) -> Float[Tensor, "frames n"]:
        """To all points."""
        values, out = values.contiguous(), empty((len(values), len(self.near)))
        extension().spread(values, self.near, self.share, out, kernel_threads())
        return out


def _limb(weights: Float[Tensor, "n joints"]) -> Int[Tensor, " n"]:
    """The joint that owns each point: fingers belong to wrists, and jaw and eyes to the head."""
    of_body = weights[:, :22].clone()
    for first, joint in ((22, HEAD), (25, HANDS[0]), (40, HANDS[1])):
        of_body[:, joint] += weights[:, first : first + (3 if joint == HEAD else 15)].sum(1)
    return _owner(of_body.argmax(1))


def _owner(joints: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    table = torch.tensor([OWNER.get(joint, joint) for joint in range(22)])
    return table[joints]


def _spheres(
    body: Body, betas: Float[Tensor, " shape"]
) -> tuple[Float[Tensor, "spheres 3"], Float[Tensor, " spheres"], Int[Tensor, " spheres"]]:
    """Four along each part of a limb, as thick as it is there; two side by side in each part of the trunk."""
    vertices, joints = (t.cpu() for t in body.shaped(betas))
    limb = body.lbs_weights.cpu()[:, :22].argmax(1)
    found: list[tuple[Tensor, Tensor, int]] = []
    for start, end in LIMBS:
        own = vertices[limb == start] - joints[start]
        bone = joints[end] - joints[start]
        at = own @ bone / bone.square().sum()
        off_axis_m = (own - at[:, None] * bone).norm(dim=-1)
        for k in range(SPHERES_PER_LIMB):
            share = (k + 0.5) / SPHERES_PER_LIMB
            nearest = (at - share).abs().argsort()[: len(own) // 6 + 1]
            found.append((joints[start] + share * bone, off_axis_m[nearest].median(), start))
    for joint in TRUNK:
        own = vertices[limb == joint]
        middle = own.mean(0)
        half_width, half_depth = own[:, 0].abs().quantile(0.9), (own[:, 2] - middle[2]).abs().quantile(0.8)
        aside = (half_width - half_depth).clamp_min(0) * torch.tensor([1.0, 0.0, 0.0])
        found += [(middle - aside, half_depth, joint), (middle + aside, half_depth, joint)]
    own = vertices[limb == HEAD]
    found.append((own.mean(0), (own - own.mean(0)).norm(dim=-1).median(), HEAD))
    found += [
        (joints[wrist] + PALM * (joints[wrist] - joints[wrist - 2]), torch.tensor(HAND_M), wrist) for wrist in HANDS
    ]
    centers, radii_m, bones = zip(*found, strict=True)
    return torch.stack(centers), torch.stack(radii_m), torch.tensor(bones)
