"""A person and a place in, composed frames out: placement, shadow, blending, camera effects."""
