"""One planned clip in, its video and labels out."""
