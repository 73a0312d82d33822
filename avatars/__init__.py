"""Identity video -> Track -> Avatar -> rendered foreground."""

__version__ = "0.1.0"
