"""Gaussians as files that other programs open: 3DGS PLY, .splat, glTF."""
