"""The `reenact` command: features, plan, run, gate, export, report and more."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from avatars import console
from reenact.backgrounds_command import BackgroundsCommand
from reenact.data_set_commands import MergeCommand, StatusCommand, VerifyCommand
from reenact.demo_command import DemoCommand
from reenact.export_command import ExportCommand
from reenact.features_command import FeaturesCommand
from reenact.gate_command import GateCommand
from reenact.normalize_command import NormalizeCommand
from reenact.plan_command import PlanCommand
from reenact.report_command import ReportCommand
from reenact.run_command import RunCommand

Commands = (
    Annotated[FeaturesCommand, tyro.conf.subcommand("features")]
    | Annotated[NormalizeCommand, tyro.conf.subcommand("normalize")]
    | Annotated[BackgroundsCommand, tyro.conf.subcommand("backgrounds")]
    | Annotated[PlanCommand, tyro.conf.subcommand("plan")]
    | Annotated[RunCommand, tyro.conf.subcommand("run")]
    | Annotated[StatusCommand, tyro.conf.subcommand("status")]
    | Annotated[VerifyCommand, tyro.conf.subcommand("verify")]
    | Annotated[MergeCommand, tyro.conf.subcommand("merge")]
    | Annotated[GateCommand, tyro.conf.subcommand("gate")]
    | Annotated[ExportCommand, tyro.conf.subcommand("export")]
    | Annotated[ReportCommand, tyro.conf.subcommand("report")]
    | Annotated[DemoCommand, tyro.conf.subcommand("demo")]
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(console.main(Commands, prog="reenact", description="Avatars x motions x places -> labelled clips."))


if __name__ == "__main__":
    main()
