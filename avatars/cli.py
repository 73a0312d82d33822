"""The `avatars` command: doctor, body, check, track, motion, fit, render, view, export, vary."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from avatars import console
from avatars.body_command import BodyCommand
from avatars.check_command import CheckCommand
from avatars.doctor import Doctor
from avatars.export_command import ExportCommand
from avatars.fit_command import FitCommand
from avatars.motion_command import MotionCommand
from avatars.render_command import RenderCommand
from avatars.track_command import TrackCommand
from avatars.vary_command import VaryCommand
from avatars.view_command import ViewCommand

Commands = (
    Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[BodyCommand, tyro.conf.subcommand("body")]
    | Annotated[CheckCommand, tyro.conf.subcommand("check")]
    | Annotated[TrackCommand, tyro.conf.subcommand("track")]
    | Annotated[MotionCommand, tyro.conf.subcommand("motion")]
    | Annotated[FitCommand, tyro.conf.subcommand("fit")]
    | Annotated[RenderCommand, tyro.conf.subcommand("render")]
    | Annotated[ViewCommand, tyro.conf.subcommand("view")]
    | Annotated[ExportCommand, tyro.conf.subcommand("export")]
    | Annotated[VaryCommand, tyro.conf.subcommand("vary")]
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(console.main(Commands, prog="avatars", description="Phone video -> track -> animatable Gaussian avatar."))


if __name__ == "__main__":
    main()
