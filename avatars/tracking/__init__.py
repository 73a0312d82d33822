"""Keypoints of a video in, SMPL-X motion, camera and ground out. Empty, so that `--help` loads no torch."""
