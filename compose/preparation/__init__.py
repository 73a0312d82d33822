"""A photograph or video of a place in, a prepared place out: camera, depth, floor, light."""
