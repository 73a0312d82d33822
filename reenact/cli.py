"""The `reenact` command: features, backgrounds, plan, run, status, verify, merge, demo."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from avatars import console
from reenact.backgrounds_command import BackgroundsCommand
from reenact.data_set_commands import MergeCommand, StatusCommand, VerifyCommand
from reenact.demo_command import DemoCommand
from reenact.features_command import FeaturesCommand
from reenact.plan_command import PlanCommand
from reenact.run_command import RunCommand

Commands = (
    Annotated[FeaturesCommand, tyro.conf.subcommand("features")]
    | Annotated[BackgroundsCommand, tyro.conf.subcommand("backgrounds")]
    | Annotated[PlanCommand, tyro.conf.subcommand("plan")]
    | Annotated[RunCommand, tyro.conf.subcommand("run")]
    | Annotated[StatusCommand, tyro.conf.subcommand("status")]
    | Annotated[VerifyCommand, tyro.conf.subcommand("verify")]
    | Annotated[MergeCommand, tyro.conf.subcommand("merge")]
    | Annotated[DemoCommand, tyro.conf.subcommand("demo")]
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(console.main(Commands, prog="reenact", description="Avatars x motions x places -> labelled clips."))


if __name__ == "__main__":
    main()
