"""The `reenact` command: features, plan, run, gate, export, report and more."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from actionrec.manifest import ManifestError
from avatars.commands import console
from reenact.commands.backgrounds import BackgroundsCommand
from reenact.commands.data_set import MergeCommand, StatusCommand, VerifyCommand
from reenact.commands.demo import DemoCommand
from reenact.commands.export import ExportCommand
from reenact.commands.features import FeaturesCommand
from reenact.commands.filter import FilterCommand
from reenact.commands.layers import LayersCommand
from reenact.commands.normalize import NormalizeCommand
from reenact.commands.plan import PlanCommand
from reenact.commands.report import ReportCommand
from reenact.commands.run import RunCommand
from reenact.reproduction.command import ReproduceCommand

Commands = (
    Annotated[FeaturesCommand, tyro.conf.subcommand("features")]
    | Annotated[NormalizeCommand, tyro.conf.subcommand("normalize")]
    | Annotated[BackgroundsCommand, tyro.conf.subcommand("backgrounds")]
    | Annotated[PlanCommand, tyro.conf.subcommand("plan")]
    | Annotated[RunCommand, tyro.conf.subcommand("run")]
    | Annotated[StatusCommand, tyro.conf.subcommand("status")]
    | Annotated[VerifyCommand, tyro.conf.subcommand("verify")]
    | Annotated[MergeCommand, tyro.conf.subcommand("merge")]
    | Annotated[FilterCommand, tyro.conf.subcommand("gate")]
    | Annotated[ExportCommand, tyro.conf.subcommand("export")]
    | Annotated[LayersCommand, tyro.conf.subcommand("layers")]
    | Annotated[ReportCommand, tyro.conf.subcommand("report")]
    | Annotated[ReproduceCommand, tyro.conf.subcommand("reproduce")]
    | Annotated[DemoCommand, tyro.conf.subcommand("demo")]
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(
        console.main(
            Commands,
            prog="reenact",
            description="Avatars x motions x places -> labelled clips.",
            mistakes=(ManifestError,),
        )
    )


if __name__ == "__main__":
    main()
