"""Cameras, rotations, colors, room axes: what knows nothing of people."""
