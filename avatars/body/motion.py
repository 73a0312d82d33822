"""Motion: SMPL-X pose over time, stored as an AMASS-compatible npz."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.errors import InputError
from avatars.io.files import atomic_path

N_JOINTS = 55
GLOBAL, BODY, JAW, LEFT_EYE, RIGHT_EYE = 0, slice(1, 22), 22, 23, 24
LEFT_HAND, RIGHT_HAND = slice(25, 40), slice(40, 55)


@dataclass(frozen=True, slots=True)
class Motion:
    """SMPL-X parameters of one person over time, in a world with +Y up (meters) whose ground is y = 0."""

    poses: Float[Tensor, "frames 55 3"]
    """Axis-angle (radians) in SMPL-X joint order: root, 21 body, jaw, left and right eye, 15 left and 15 right hand.
    Full rotations: the hand mean is included (`smplx` with `use_pca=False, flat_hand_mean=True`)."""
    transl: Float[Tensor, "frames 3"]
    """smplx's `transl`, meters."""
    betas: Float[Tensor, " shape"]
    """Shape coefficients of the body file named by `body_sha256`."""
    expression: Float[Tensor, "frames expression"]
    times_s: Float[Tensor, " frames"]
    """Presentation times from the container, seconds, increasing."""
    valid: Bool[Tensor, " frames"]
    """False where nobody was seen; the pose of such a frame must not be used."""
    body_sha256: str
    """Hash of the body file that `betas` belong to ("" when unknown)."""
    name: str = ""
    confidence: Float[Tensor, "frames 55"] | None = None
    """How well each joint was seen, in [0, 1]; 0 in frames that are not valid. None where nobody measured it."""
    contacts: Bool[Tensor, "frames 4"] | None = None
    """Whether left heel, left big toe, right heel and right big toe stand on the ground. None where nobody looked."""

    def __post_init__(self) -> None:
        frames = self.poses.shape[0]
        shapes = {
            "poses": (self.poses.shape, (frames, N_JOINTS, 3)),
            "transl": (self.transl.shape, (frames, 3)),
            "expression": (self.expression.shape[:1], (frames,)),
            "times_s": (self.times_s.shape, (frames,)),
            "valid": (self.valid.shape, (frames,)),
        }
        if self.confidence is not None:
            shapes["confidence"] = (self.confidence.shape, (frames, N_JOINTS))
        if self.contacts is not None:
            shapes["contacts"] = (self.contacts.shape, (frames, 4))
        for key, (found, wanted) in shapes.items():
            if tuple(found) != wanted:
                raise InputError(f"Motion {self.name!r}: {key} has shape {tuple(found)}, expected {wanted}.")

    def __len__(self) -> int:
        return self.poses.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Motion:
        """Chosen frames."""
        return replace(
            self,
            poses=self.poses[index],
            transl=self.transl[index],
            expression=self.expression[index],
            times_s=self.times_s[index],
            valid=self.valid[index],
            confidence=None if self.confidence is None else self.confidence[index],
            contacts=None if self.contacts is None else self.contacts[index],
        )

    @property
    def fps(self) -> float:
        """Mean frame rate (Hz); 0 for a single frame."""
        if len(self) < 2:
            return 0.0
        return float((len(self) - 1) / (self.times_s[-1] - self.times_s[0]))

    def smplx_arguments(self) -> dict[str, Tensor]:
        """Keyword arguments of `smplx.SMPLX.forward` (made with `use_pca=False`)."""
        frames = len(self)
        return {
            "betas": self.betas[None].expand(frames, -1),
            "global_orient": self.poses[:, GLOBAL],
            "body_pose": self.poses[:, BODY].reshape(frames, 63),
            "jaw_pose": self.poses[:, JAW],
            "leye_pose": self.poses[:, LEFT_EYE],
            "reye_pose": self.poses[:, RIGHT_EYE],
            "left_hand_pose": self.poses[:, LEFT_HAND].reshape(frames, 45),
            "right_hand_pose": self.poses[:, RIGHT_HAND].reshape(frames, 45),
            "expression": self.expression,
            "transl": self.transl,
        }

    def save(self, path: str | Path, *, more: Mapping[str, np.ndarray] | None = None) -> Path:
        """Write an AMASS-compatible npz (`poses` T x 165, `trans`, `betas`, `gender`, `mocap_frame_rate`,
        `surface_model_type`) with our own keys beside them (`expression`, `times_s`, `valid`, `body_sha256`, `name`,
        `up_axis`, `confidence` and `contacts` where they are known, and those of `more`)."""
        path = Path(path)
        optional = {} if self.confidence is None else {"confidence": self.confidence.numpy().astype(np.float32)}
        if self.contacts is not None:
            optional["contacts"] = self.contacts.numpy()
        with atomic_path(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(
                file,
                poses=self.poses.reshape(len(self), -1).numpy().astype(np.float32),
                trans=self.transl.numpy().astype(np.float32),
                betas=self.betas.numpy().astype(np.float32),
                gender=np.array("neutral"),
                mocap_frame_rate=np.array(self.fps),
                surface_model_type=np.array("smplx"),
                expression=self.expression.numpy().astype(np.float32),
                times_s=self.times_s.numpy().astype(np.float64),
                valid=self.valid.numpy(),
                body_sha256=np.array(self.body_sha256),
                name=np.array(self.name),
                up_axis=np.array("Y"),
                **optional,
                **(more or {}),
            )
        return path

    @staticmethod
    def load(path: str | Path) -> Motion:
        """Read what `save` wrote, or an AMASS / SMPL-X npz of T x 165 poses.

        Raises InputError when the file is no such npz.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as archive:
                data = {key: archive[key] for key in archive.files}
        except FileNotFoundError:
            raise InputError(f"No motion file at {path}.") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a motion npz ({error}).") from None
        if "poses" not in data or "trans" not in data:
            raise InputError(
                f"{path} has no `poses` and `trans`; it holds {sorted(data)}. Expected an AMASS-style npz."
            )
        poses = data["poses"]
        if poses.ndim != 2 or poses.shape[1] != 3 * N_JOINTS:
            raise InputError(f"{path}: `poses` has shape {poses.shape}, expected (frames, 165), the SMPL-X layout.")
        frames = len(poses)
        rate = float(data.get("mocap_frame_rate", data.get("mocap_framerate", 30.0)))

        def tensor(key: str, default: np.ndarray) -> Tensor:
            return torch.from_numpy(np.asarray(data.get(key, default)))

        return Motion(
            poses=torch.from_numpy(poses).float().reshape(frames, N_JOINTS, 3),
            transl=torch.from_numpy(data["trans"]).float(),
            betas=tensor("betas", np.zeros(10)).float(),
            expression=tensor("expression", np.zeros((frames, 10))).float(),
            times_s=tensor("times_s", np.arange(frames) / rate).double(),
            valid=tensor("valid", np.ones(frames, bool)).bool(),
            body_sha256=str(data.get("body_sha256", "")),
            name=str(data.get("name", path.stem)),
            confidence=torch.from_numpy(data["confidence"]).float() if "confidence" in data else None,
            contacts=torch.from_numpy(data["contacts"]).bool() if "contacts" in data else None,
        )


def runs(flags: Bool[Tensor, " frames"]) -> list[tuple[int, int]]:
    """First frame of every run of set flags, and the frame after its last."""
    padded = torch.cat([flags.new_zeros(1), flags, flags.new_zeros(1)]).int()
    edges = torch.nonzero(padded[1:] - padded[:-1])[:, 0].tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
