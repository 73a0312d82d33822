"""Frames -> keypoints, masks and depth: one protocol per task, one file per vendor."""
