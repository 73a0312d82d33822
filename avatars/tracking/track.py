"""Track: what is known of one person through one video, in memory and as a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.files import read_json, write_json
from avatars.io.mask_stack import MaskStack
from avatars.perception.containers import Keypoints
from avatars.perception.frame_quality import FrameQuality
from avatars.tracking.config import TrackConfig
from avatars.tracking.model_files import ModelFiles
from avatars.tracking.spans import unsure_spans


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """Which video a track was made from."""

    path: str
    sha256: str
    size_hw: tuple[int, int]
    """As displayed, upright."""
    keypoints: str = ""
    """File that the keypoints were read from, and its hash; empty where a detector found them."""
    keypoints_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """One person followed through one video of a still camera."""

    motion: Motion
    """World: +Y up, ground y = 0, the person near the origin."""
    camera: Camera
    """One camera for all frames, at the video's own size, upright."""
    keypoints: Keypoints
    masks: MaskStack | UInt8[Tensor, "frames height width"] | None
    """Probability of the person times 255, opened when indexed; None where the track was made without masks."""
    video: SourceVideo
    config: TrackConfig
    quality: FrameQuality | None = None
    models: tuple[ModelFiles, ...] = ()
    """What looked at the video."""
    focal_source: str = "given"
    """How the camera's focal length is known: "given", "file", "edges" (of the room) or "assumed"."""

    def save(self, folder: str | Path) -> Path:
        """Write `motion.npz`, `keypoints.npz`, `masks.npz`, `quality.npz` and, last, `track.json`."""
        folder = Path(folder)
        self.motion.save(folder / "motion.npz")
        self.keypoints.save(folder / "keypoints.npz")
        if self.masks is not None:
            masks = MaskStack.of(self.masks) if isinstance(self.masks, Tensor) else self.masks
            masks.save(folder / "masks.npz")
        if self.quality is not None:
            self.quality.save(folder / "quality.npz")
        camera = {
            "K": self.camera.K.tolist(),
            "T_cam_world": self.camera.T_cam_world.tolist(),
            "size_hw": list(self.camera.size_hw),
        }
        write_json(
            folder / "track.json",
            {
                "video": asdict(self.video),
                "camera": camera,
                "focal_source": self.focal_source,
                "config": as_json(self.config),
                "models": [asdict(model) for model in self.models],
                "unsure": [asdict(span) for span in unsure_spans(self.motion)],
            },
        )
        return folder

    @staticmethod
    def load(folder: str | Path) -> Track:
        """Read what `save` wrote; masks stay in their file. Raises InputError when the folder is no track."""
        folder = Path(folder)
        receipt = read_json(folder / "track.json")
        try:
            video, camera, config = receipt["video"], receipt["camera"], receipt["config"]
            config["body"] = Path(config["body"]) if config["body"] else None
            config["backend"] = tuple(config.get("backend", ()))
            return Track(
                motion=Motion.load(folder / "motion.npz"),
                camera=Camera(torch.tensor(camera["K"]), torch.tensor(camera["T_cam_world"]), _pair(camera["size_hw"])),
                keypoints=Keypoints.load(folder / "keypoints.npz"),
                masks=MaskStack.load(folder / "masks.npz") if (folder / "masks.npz").exists() else None,
                video=SourceVideo(**{**video, "size_hw": _pair(video["size_hw"])}),
                config=TrackConfig(**config),
                quality=FrameQuality.load(folder / "quality.npz") if (folder / "quality.npz").exists() else None,
                models=tuple(ModelFiles(**model) for model in receipt.get("models", ())),
                focal_source=receipt.get("focal_source", "given"),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / 'track.json'} is not a track's receipt (missing or odd: {error}).") from None


def as_json(config: TrackConfig) -> dict[str, Any]:
    """A config as JSON can hold it."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    values["backend"] = list(config.backend)
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _pair(values: list[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
