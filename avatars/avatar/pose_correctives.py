"""How clothes shift with the pose: a body pose in, small offsets of the Gaussians out.

The offsets are linear in the few directions in which the poses of a clip vary most, after the pose blend shapes of SMPL
(Loper et al. 2015). Where a pose goes beyond the clip's, the codes stop at the clip's ends; where it goes another way
altogether, they fade to nothing, and the avatar is the one that all frames share.

A clip of a turn teaches none: there a pose goes with the side that was seen in it, and correctives would repaint sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.avatar.binding import laplacian
from avatars.geometry.rotations import headings_seen_deg, matrix_from_axis_angle

BODY = slice(1, 22)
"""Joints whose rotations count."""
MOST_CODES, FRAMES_PER_CODE = 10, 5
"""With 4 codes a man who juggles scores 26.0 dB at `draft`, with 6 26.3, with 10 26.7, without any 25.2."""
LEAST_RAD = 0.1
"""Directions in which poses vary less (standard deviation of all rotations together) teach nothing."""
LEAST_REACH_RAD = 0.3
"""A clip's own distance from what codes stand for counts as at least this."""
MOST_TURNED_DEG = 120.0
"""Of headings seen; in more, a pose goes with a side."""
LIMIT = 2.5
"""Each code goes no further, standard deviations; all together go two further than is usual."""
FADED = 2.0
"""Times the clip's own distance from what codes stand for, at which they have faded to nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class PoseCorrectives:
    """Offsets by pose."""

    mean: Float[Tensor, " rotations"]
    """Of the clip's axis-angles (21 joints x 3)."""
    axes: Float[Tensor, "codes rotations"]
    """Orthonormal: the directions in which they vary most."""
    spread: Float[Tensor, " codes"]
    """Standard deviations along them, radians."""
    reach: Float[Tensor, " one"]
    """How far from what codes stand for the clip's poses lie, radians; farther out, codes fade."""
    directions: Float[Tensor, "codes n 3"]
    """Offset by a code of one, meters, in the axes of the T-pose."""

    @staticmethod
    def of(poses: Float[Tensor, "frames 55 3"], n: int) -> PoseCorrectives | None:
        """None yet, for `n` Gaussians, along the directions in which these poses vary; None for a turn or a pose held
        still."""
        x = poses[:, BODY].flatten(1)
        if headings_seen_deg(matrix_from_axis_angle(poses[:, 0])) > MOST_TURNED_DEG:
            return None
        mean = x.mean(0)
        _, sizes, axes = torch.linalg.svd(x - mean, full_matrices=False)
        spread = sizes / len(x) ** 0.5
        count = min(MOST_CODES, len(x) // FRAMES_PER_CODE, int((spread >= LEAST_RAD).sum()))
        if count == 0:
            return None
        axes, spread = axes[:count].contiguous(), spread[:count].clone()
        found = PoseCorrectives(mean, axes, spread, torch.ones(1), torch.zeros(count, n, 3))
        return replace(found, reach=found._along_and_off(poses)[1].quantile(0.95).clamp_min(LEAST_REACH_RAD)[None])

    def codes(self, poses: Float[Tensor, "frames 55 3"]) -> Float[Tensor, "frames codes"]:
        """Standard deviations along each direction."""
        along, off = self._along_and_off(poses)
        fade = ((FADED - off / self.reach) / (FADED - 1)).clamp(0, 1)
        most = (along.shape[1] ** 0.5 + 2) / along.norm(dim=1).clamp_min(1e-6)
        return along * (fade * most.clamp_max(1.0))[:, None]

    def offsets(self, shared: Float[Tensor, "n 3"], poses: Float[Tensor, "frames 55 3"]) -> Float[Tensor, "frames n 3"]:
        """What all frames share, and what each pose adds to it."""
        codes = self.codes(poses.detach().to(self.mean.device)).to(shared.device)
        return shared + (codes @ self.directions.flatten(1)).unflatten(1, shared.shape)

    @torch.no_grad()
    def smooth(self, neighbors: Int[Tensor, "n k"], share: float) -> None:
        """Draw each Gaussian's offsets by pose towards its neighbors': in poses that no frame shows, neighbors that go
        ways of their own would come out as specks."""
        by_gaussian = self.directions.permute(1, 0, 2).flatten(1)
        rough = laplacian(by_gaussian, neighbors).unflatten(1, (len(self.directions), 3))
        self.directions.sub_(share * rough.permute(1, 0, 2))

    def _along_and_off(self, poses: Tensor) -> tuple[Float[Tensor, "frames codes"], Float[Tensor, " frames"]]:
        """Codes within their limits, and how far (radians) a pose is from what they stand for."""
        x = poses[:, BODY].flatten(1) - self.mean
        along = (x @ self.axes.T / self.spread).clamp(-LIMIT, LIMIT)
        return along, (x - (along * self.spread) @ self.axes).norm(dim=-1)
