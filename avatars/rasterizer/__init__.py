"""Gaussians + camera -> Render: one signature, three implementations (reference, CPU, CUDA)."""
