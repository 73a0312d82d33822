"""The SMPL-X body: files, shapes, poses, skinning, motions."""

from __future__ import annotations

from avatars.body.loading import load_body
from avatars.body.model import Body, BodyPoints, PosedBody

__all__ = ["Body", "BodyPoints", "PosedBody", "load_body"]
