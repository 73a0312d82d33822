"""Rendered foreground + a place -> finished frames."""
