"""Chooses the importer by what a path is, and the exporter by what it is called."""

from __future__ import annotations

import logging
from pathlib import Path

from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.motion_formats.amass import load_amass, save_amass
from avatars.motion_formats.arrays import read_npz
from avatars.motion_formats.bvh_motion import load_bvh, save_bvh
from avatars.motion_formats.exavatar import load_exavatar, params_folder, save_exavatar
from avatars.motion_formats.gravity import Up
from avatars.motion_formats.smpl_results import load_smpl_results, looks_like_results

log = logging.getLogger(__name__)

_KNOWN = (
    "a .bvh, an npz (ours, AMASS, or SMPL(-X) results of 4D-Humans, GVHMR, WHAM), a .pt of GVHMR, or one of ExAvatar's "
    "folders"
)


def load_motion(
    path: str | Path, body: Body | None = None, *, fps: float = 30.0, up: Up = "auto", place: bool = True
) -> Motion:
    """Read any motion that the toolkit knows as a motion of `body` (default: what `load_body()` finds) in a
    +Y-up world, meters.

    `fps` is for files that hold no times (ExAvatar, SMPL results). `up` is the axis of the file's world that points up;
    `auto`: what the format states, unless gravity tells of another. `place` puts foreign motions on the ground y = 0,
    beginning over the origin and facing +Z; our own files are never moved.

    Raises InputError when the path is none of them or its content is broken.
    """
    path, body = Path(path), body or load_body()
    suffix = path.suffix.lower()
    if fps <= 0:
        raise InputError(f"fps is {fps}; expected frames per second above 0.")
    if not path.exists():
        raise InputError(f"No motion at {path}. Expected {_KNOWN}.")
    if path.is_dir():
        if params_folder(path) is None:
            raise InputError(f"{path} is a folder but not one of ExAvatar's. Expected {_KNOWN}.")
        return load_exavatar(path, body, fps=fps, up=up, place=place)
    if suffix == ".bvh":
        return load_bvh(path, body, up=up, place=place)
    if suffix in (".pt", ".pth", ".pkl", ".pickle", ".joblib"):
        return load_smpl_results(path, body, fps=fps, up=up, place=place)
    if suffix == ".npz":
        data = read_npz(path)
        if "poses" not in data and looks_like_results(data):
            return load_smpl_results(path, body, fps=fps, up=up, place=place)
        return load_amass(path, body, up=up, place=place)
    raise InputError(f"{path} is no motion that can be read. Expected {_KNOWN}.")


def save_motion(motion: Motion, path: str | Path, body: Body, *, amass: bool = False) -> Path:
    """Write a motion: .bvh, .npz (ours, +Y up; `amass`: AMASS's keys and Z-up world), or, without a suffix, a folder
    for ExAvatar.

    Raises InputError for another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".bvh":
        return save_bvh(motion, path, body)
    if suffix == ".npz":
        return save_amass(motion, path, body) if amass else motion.save(path)
    if suffix == "":
        return save_exavatar(motion, path, body)
    raise InputError(f"Motions are written as .bvh, .npz or a folder for ExAvatar; {suffix!r} is none of them.")
