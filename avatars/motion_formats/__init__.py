"""Motions from elsewhere into `Motion`, and out again: BVH, AMASS npz, SMPL(-X) results, ExAvatar's folders."""

from __future__ import annotations

from avatars.motion_formats.loading import load_motion, save_motion

__all__ = ["load_motion", "save_motion"]
