"""`avatars export AVATAR -o FILE`: an avatar as files that splat viewers, Blender and other programs open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from avatars.io.option_rules import Range, Suffix

if TYPE_CHECKING:
    from avatars.avatar import Avatar
    from avatars.body import Body
    from avatars.body.motion import Motion
    from avatars.rasterizer.gaussians import Gaussians

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
    frame: Annotated[int, Range(0, 10**9)] = 0
    """Which frame of the motion (0 is the first); motion-ply takes all of them."""
    every: Annotated[int, Range(1, 10**6)] = 1
    """motion-ply: write every so many frames."""
    up: Literal["+y", "-y"] = "+y"
    """Which axis points up. Viewers made for photographed places (SuperSplat, antimatter15's) take PLY and splat as
    -y; a glb is always +y."""
    body: Path | None = None
    """SMPL-X npz the avatar was fitted on; default: SMPLX_BODY, else the free default body."""

    def run(self) -> None:
        """Export. Raises InputError for a missing avatar or motion, an unfit frame, or an output that exists."""
        from avatars.avatar import Avatar
        from avatars.body import load_body
        from avatars.io.outputs import fresh_file
        from avatars.splat_formats.gltf import save_glb
        from avatars.splat_formats.splat import save_splat

        kind = self.kind()
        self.check(kind)
        body = load_body(self.body)
        avatar = Avatar.load(self.avatar, body)
        if kind == "motion-ply":
            print(f"{self._write_frames(avatar, body)} frames of {len(avatar)} Gaussians -> {self.output}")
            return
        gaussians = turned(self._posed(avatar, body), self.up)
        with fresh_file(self.output) as aside:
            if kind == "ply":
                gaussians.save_ply(aside)
            elif kind == "splat":
                save_splat(gaussians, aside)
            else:
                save_glb(aside, gaussians, (body, avatar.betas) if self.motion is None else None)
            size_mib = aside.stat().st_size / 2**20
        print(f"{len(avatar)} Gaussians -> {self.output} ({size_mib:.1f} MiB)")

    def kind(self) -> Format:
        """The format asked for, or told by the suffix. Raises InputError when neither says."""
        from avatars.errors import InputError

        by_suffix: dict[str, Format] = {".ply": "ply", ".splat": "splat", ".glb": "glb"}
        found = self.format or by_suffix.get(self.output.suffix.lower())
        if found is None:
            raise InputError(f"{self.output} does not tell the format. Add --format ply, splat, glb or motion-ply.")
        (Suffix() if found == "motion-ply" else Suffix(f".{found}")).check(self.output, f"--format {found}: -o")
        return found

    def check(self, kind: Format) -> None:
        """Everything that can be known to be wrong before work starts. Raises InputError."""
        from avatars.errors import InputError
        from avatars.io.outputs import require_fresh_file, require_fresh_folder

        if kind == "motion-ply":
            if self.motion is None:
                raise InputError("--format motion-ply needs --motion FILE.")
            require_fresh_folder(self.output, what="a motion of PLYs")
        else:
            require_fresh_file(self.output)
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
        return avatar.posed(motion[self.frame : self.frame + 1]).frame(0)

    def _write_frames(self, avatar: Avatar, body: Body) -> int:
        """A PLY per valid frame, named by the motion's frame number, and `motion.json` with their times."""
        import torch

        from avatars.errors import InputError
        from avatars.io.files import require_space, sha256_of, write_json
        from avatars.io.outputs import fresh_folder
        from avatars.io.progress import progress
        from avatars.rasterizer.gaussians import PLY_COLUMNS

        motion = self._motion(body)
        frames = [i for i in torch.nonzero(motion.valid).squeeze(-1).tolist() if i % self.every == 0]
        if not frames:
            raise InputError(f"{self.motion} has no frame with a person in it.")
        require_space(self.output, 1.1 * len(frames) * len(avatar) * 4 * len(PLY_COLUMNS) / 2**20)
        entries = []
        with fresh_folder(self.output, what="a motion of PLYs", last="motion.json") as folder:
            for i in progress(frames, "Export"):
                name = f"frame_{i:05d}.ply"
                turned(avatar.posed(motion[i : i + 1]).frame(0), self.up).save_ply(folder / name)
                entries.append({"file": name, "frame": i, "time_s": round(float(motion.times_s[i]), 6)})
            head = {
                "avatar_sha256": sha256_of(self.avatar / "gaussians.safetensors"),
                "motion": {"file": self.motion.name if self.motion else "", "name": motion.name, "fps": motion.fps},
                "n_gaussians": len(avatar),
                "up": self.up,
            }
            write_json(folder / "motion.json", head | {"frames": entries})
        return len(frames)


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
