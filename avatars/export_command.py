"""`avatars export AVATAR -o FILE`: an avatar as files that splat viewers, Blender and other programs open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from avatars.avatar import Avatar
    from avatars.body import Body
    from avatars.gaussians import Gaussians
    from avatars.motion import Motion

Format = Literal["ply", "splat", "glb", "motion-ply"]


@dataclass(frozen=True)
class ExportCommand:
    """Write an avatar for other programs."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """Folder that `avatars fit` made."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; for motion-ply the folder to make."""
    format: Format | None = None
    """ply: 3DGS PLY. splat: 32 bytes per Gaussian, for web viewers. glb: glTF with KHR_gaussian_splatting, and in the
    T-pose the body mesh with its skeleton. motion-ply: a folder with a PLY per frame. Default: by the suffix."""
    motion: Path | None = None
    """An npz of `reenact features`, AMASS, BVH: whatever `avatars motion` reads; default: the T-pose."""
    frame: int = 0
    """Which frame of the motion (0 is the first); motion-ply takes all of them."""
    every: int = 1
    """motion-ply: write every so many frames."""
    up: Literal["+y", "-y"] = "+y"
    """Which axis points up. Viewers made for photographed places (SuperSplat, antimatter15's) take PLY and splat as
    -y; a glb is always +y."""
    body: Path | None = None
    """SMPL-X npz the avatar was fitted on; default: SMPLX_BODY, else the free default body."""

    def run(self) -> None:
        """Export. Raises InputError for a missing avatar or motion, an unfit frame, or an output that exists."""
        from avatars.avatar import Avatar
        from avatars.body import Body
        from avatars.gltf import save_glb
        from avatars.splat_file import save_splat

        kind = self.kind()
        self.check(kind)
        body = Body.load(self.body)
        avatar = Avatar.load(self.avatar, body)
        if kind == "motion-ply":
            print(f"{self._write_frames(avatar, body)} frames of {len(avatar)} Gaussians -> {self.output}")
            return
        gaussians = turned(self._posed(avatar, body), self.up)
        if kind == "ply":
            gaussians.save_ply(self.output)
        elif kind == "splat":
            save_splat(gaussians, self.output)
        else:
            save_glb(self.output, gaussians, (body, avatar.betas) if self.motion is None else None)
        print(f"{len(avatar)} Gaussians -> {self.output} ({self.output.stat().st_size / 2**20:.1f} MiB)")

    def kind(self) -> Format:
        """The format asked for, or told by the suffix. Raises InputError when neither says."""
        from avatars.errors import InputError

        by_suffix: dict[str, Format] = {".ply": "ply", ".splat": "splat", ".glb": "glb"}
        found = self.format or by_suffix.get(self.output.suffix.lower())
        if found is None:
            raise InputError(f"{self.output} does not tell the format. Add --format ply, splat, glb or motion-ply.")
        return found

    def check(self, kind: Format) -> None:
        """Everything that can be known to be wrong before work starts. Raises InputError."""
        from avatars.errors import InputError
        from avatars.files import require_fresh_folder

        if kind == "motion-ply":
            if self.motion is None:
                raise InputError("--format motion-ply needs --motion FILE.")
            require_fresh_folder(self.output, what="a motion of PLYs")
        elif self.output.exists():
            raise InputError(f"{self.output} already exists; nothing was overwritten. Choose another -o.")
        if self.every < 1:
            raise InputError(f"--every {self.every}: take 1 or more.")
        if kind == "glb" and self.up != "+y":
            raise InputError("A glb is +y up by glTF's definition; leave --up out.")

    def _motion(self, body: Body) -> Motion:
        from avatars.motion_formats import load_motion

        assert self.motion is not None
        return load_motion(self.motion, body)

    def _posed(self, avatar: Avatar, body: Body) -> Gaussians:
        """The T-pose, or one frame of the motion."""
        from avatars.errors import InputError

        if self.motion is None:
            return avatar.canonical()
        motion = self._motion(body)
        if not 0 <= self.frame < len(motion):
            raise InputError(f"--frame {self.frame}: {self.motion} has frames 0 to {len(motion) - 1}.")
        if not bool(motion.valid[self.frame]):
            raise InputError(f"--frame {self.frame} of {self.motion} shows nobody; choose another.")
        return first_frame(avatar.posed(motion[self.frame : self.frame + 1]))

    def _write_frames(self, avatar: Avatar, body: Body) -> int:
        """A PLY per valid frame, named by the motion's frame number, and `motion.json` with their times."""
        import torch

        from avatars.avatar import fresh_folder
        from avatars.errors import InputError
        from avatars.files import require_space, sha256_of, write_json
        from avatars.gaussians import PLY_COLUMNS
        from avatars.progress import progress

        motion = self._motion(body)
        frames = [i for i in torch.nonzero(motion.valid).squeeze(-1).tolist() if i % self.every == 0]
        if not frames:
            raise InputError(f"{self.motion} has no frame with a person in it.")
        require_space(self.output, 1.1 * len(frames) * len(avatar) * 4 * len(PLY_COLUMNS) / 2**20)
        entries = []
        with fresh_folder(self.output, what="a motion of PLYs") as folder:
            for i in progress(frames, "Export"):
                name = f"frame_{i:05d}.ply"
                turned(first_frame(avatar.posed(motion[i : i + 1])), self.up).save_ply(folder / name)
                entries.append({"file": name, "frame": i, "time_s": round(float(motion.times_s[i]), 6)})
            head = {
                "avatar_sha256": sha256_of(self.avatar / "gaussians.safetensors"),
                "motion": {"file": self.motion.name if self.motion else "", "name": motion.name, "fps": motion.fps},
                "n_gaussians": len(avatar),
                "up": self.up,
            }
            write_json(folder / "motion.json", head | {"frames": entries})
        return len(frames)


def first_frame(gaussians: Gaussians) -> Gaussians:
    """The first frame of posed Gaussians, without the frames dimension."""
    from dataclasses import fields

    from avatars.gaussians import Gaussians

    flat = {"means": 2, "quats": 2, "scales": 2, "opacities": 1, "colors": 2}
    values = {f.name: getattr(gaussians, f.name) for f in fields(gaussians)}
    return Gaussians(**{name: v[0] if v.ndim > flat[name] else v for name, v in values.items()})


def turned(gaussians: Gaussians, up: Literal["+y", "-y"]) -> Gaussians:
    """The Gaussians (one set), turned half around the x axis where -y is to point up."""
    from dataclasses import replace

    import torch

    if up == "+y":
        return gaussians
    w, x, y, z = gaussians.quats.unbind(-1)
    sign = gaussians.means.new_tensor([1.0, -1.0, -1.0])
    half = torch.stack([-x, w, -z, y], -1)  # (0, 1, 0, 0) times the quaternion
    return replace(gaussians, means=gaussians.means * sign, quats=half)
