"""The avatar: Gaussians bound to a body, how they are posed, shaded and varied."""

from __future__ import annotations

from avatars.avatar.model import Avatar

__all__ = ["Avatar"]
