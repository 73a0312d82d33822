"""Frames and motion in, an avatar out. Empty, so that `--help` loads no torch."""
