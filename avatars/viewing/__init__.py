"""Reports, previews, overlays and the interactive viewer. Empty, so that `--help` loads no torch."""
