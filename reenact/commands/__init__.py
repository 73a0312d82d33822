"""The `reenact` command line, one file per command."""
