"""How a detector's 3D hint errs: bones point off by an angle that depends on where the person is heading.

MediaPipe's people seen from the front stand with bent knees and with their arms forward; seen from behind they do so
less. The errors were measured on two rendered people whose pose is known, by least squares over clips seen from all
sides and from the front. On twelve others what is left is smaller by two fifths in legs and a quarter in arms when they
face the camera, by a quarter and a tenth when they turn.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

# bones of the left side by COCO-WholeBody keypoints: error of the unit direction in percent, in the root's axes (x to
# the person's left, y up, z ahead), as Fourier series of the heading h (0 facing the camera, positive turned to the
# person's left): 1, cos h, sin h, cos 2h, sin 2h.
_Series = tuple[tuple[int, int, int], ...]
_BIAS_PERCENT: dict[str, dict[tuple[int, int], _Series]] = {
    "mediapipe": {
        (11, 13): ((0, 1, -1), (-6, 0, 3), (5, 1, -8), (0, -1, 5), (0, 0, -5)),
        (13, 15): ((6, 2, 1), (1, 3, -14), (11, 2, 0), (-6, -1, 0), (-1, 1, -8)),
        (5, 7): ((-6, 6, 8), (1, -2, 4), (-9, 0, -9), (4, -1, 1), (2, -3, 6)),
        (7, 9): ((-2, -5, 4), (4, 5, 9), (1, -3, 1), (3, 1, 8), (-4, 2, 7)),
        (5, 11): ((1, 0, -4), (3, 0, 1), (3, 0, 3), (-1, 0, -1), (6, -1, -4)),
        (5, 12): ((0, 0, -4), (-2, 2, 1), (0, 0, -3), (0, 0, -1), (4, -3, -6)),
        (11, 12): ((-1, 0, 0), (0, 0, 0), (0, 10, -16), (0, 0, 0), (0, -4, -6)),
        (5, 6): ((-1, 0, 0), (0, 0, 0), (0, 8, 0), (1, 0, 0), (0, -3, -16)),
    },
}


def unbiased_directions(
    directions: Float[Tensor, "frames bones 3"],
    bones: tuple[tuple[int, int], ...],
    rotation: Float[Tensor, "frames 3 3"],
    detector: str,
) -> Float[Tensor, "frames bones 3"]:
    """The hint's unit directions (view axes) less their usual error; `rotation` is the root's in view axes.

    Bones that were not measured stay as they are, and so do all bones of a detector that was not measured.
    """
    bias = _bias(detector, bones)
    heading = torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])
    series = torch.stack(
        [torch.ones_like(heading), *(f(k * heading) for k in (1, 2) for f in (torch.cos, torch.sin))], -1
    )
    off = torch.einsum("tij,tk,bkj->tbi", rotation, series, bias)
    return torch.nn.functional.normalize(directions - off, dim=-1)


@cache
def _bias(detector: str, bones: tuple[tuple[int, int], ...]) -> Float[Tensor, "bones 5 3"]:
    """Coefficients for each bone, mirrored for the right side and turned round for bones that run backward."""
    table = {}
    for (a, b), series in _BIAS_PERCENT.get(detector, {}).items():
        left = torch.tensor(series) / 100.0
        right = left * torch.tensor([-1.0, 1.0, 1.0]) * torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0])[:, None]
        for bone, value in (((_mirrored(a), _mirrored(b)), right), ((a, b), left)):
            table[bone], table[bone[::-1]] = value, -value
    zero = torch.zeros(5, 3)
    return torch.stack([table.get(bone, zero) for bone in bones])


def _mirrored(point: int) -> int:
    """The other side's keypoint of 5 (left shoulder) to 16 (right ankle)."""
    return point + 1 if point % 2 else point - 1
