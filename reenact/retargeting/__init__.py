"""A motion of one body in, the same motion of another out: contacts kept."""
