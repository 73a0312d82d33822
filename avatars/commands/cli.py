"""The `avatars` command: doctor, body, check, track, motion, fit, render, view, export, vary."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from avatars.commands import console
from avatars.commands.body import BodyCommand
from avatars.commands.check import CheckCommand
from avatars.commands.doctor import Doctor
from avatars.commands.export import ExportCommand
from avatars.commands.fit import FitCommand
from avatars.commands.motion import MotionCommand
from avatars.commands.render import RenderCommand
from avatars.commands.track import TrackCommand
from avatars.commands.vary import VaryCommand
from avatars.commands.view import ViewCommand

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
