"""Data sets as they lie on disk -> manifests."""

from __future__ import annotations
