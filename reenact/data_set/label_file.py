"""The labels of a clip, read from its npz: every array judged by its header before it is read, then by its values.

What the keys mean stands in reenact.rendering.labels, which writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from actionrec.manifest import ManifestClip
from avatars.errors import InputError
from avatars.io.checked_npz import ArrayRule, read_arrays
from reenact.rendering.labels import decode_rle

LABEL_RULES = {
    "poses": ArrayRule(("frames", 165), most=1e3),
    "trans": ArrayRule(("frames", 3), most=1e5),
    "betas": ArrayRule((None,), most=1e3),
    "expression": ArrayRule(("frames", None), most=1e3),
    "times_s": ArrayRule(("frames",)),
    "valid": ArrayRule(("frames",), "b"),
    "body_sha256": ArrayRule((), "U"),
    "K": ArrayRule((3, 3), most=1e7),
    "T_cam_world": ArrayRule((4, 4), or_shape=("frames", 4, 4), most=1e6),
    "size_hw": ArrayRule((2,), "iu"),
    "distortion": ArrayRule((2,), most=10),
    "joints_px": ArrayRule(("frames", 55, 2)),
    "keypoints_px": ArrayRule(("frames", 133, 2)),
    "keypoints_in_frame": ArrayRule(("frames", 133), "b"),
    "box_px": ArrayRule(("frames", 4), "iu", most=2**20),
    "mask_rle": ArrayRule(("frames",), "S"),
    "whole_rle": ArrayRule(("frames",), "S", optional=True),
    "depth_mm": ArrayRule(("frames", "height", "width"), "u", optional=True),
    "place_depth_mm": ArrayRule(("height", "width"), "u", optional=True),
}
"""By key. Sizes named alike agree with each other, and with the clip's."""


def read_labels(path: Path, keys: Sequence[str], clip: ManifestClip) -> dict[str, np.ndarray]:
    """Arrays of a clip's labels; `depth_mm` and the like are left out where the labels do not hold them.

    Raises InputError when the file cannot be read, or its arrays are not those of such a clip.
    """
    height, width = clip.size_hw
    sizes = {"frames": clip.n_frames, "height": height, "width": width}
    found = read_arrays(path, {key: LABEL_RULES[key] for key in keys}, sizes=sizes)
    if "size_hw" in found and tuple(found["size_hw"].tolist()) != tuple(clip.size_hw):
        raise InputError(f"{path}: `size_hw` is {found['size_hw'].tolist()}, the clip's is {list(clip.size_hw)}.")
    if "body_sha256" in found and len(str(found["body_sha256"])) > 64:
        raise InputError(f"{path}: `body_sha256` is no hash.")
    return found


def masks_of(counts: np.ndarray, clip: ManifestClip) -> np.ndarray:
    """Masks (frames, height, width) bool of a clip's run lengths. Raises InputError when one is none."""
    return np.stack([decode_rle(bytes(of_frame), clip.size_hw) for of_frame in counts])
