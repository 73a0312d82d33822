"""The `avatars` command line, one file per command."""
