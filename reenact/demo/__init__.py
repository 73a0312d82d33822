"""The whole path on built-in input."""
