"""`reenact reproduce RECIPE.yaml`: a data set, identity videos and pictures -> the tables of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatars.io.option_rules import Range


@dataclass(frozen=True)
class ReproduceCommand:
    """References, avatars, synthetic clips, quality filter, recognizers, report; run it again to go on after a stop."""

    recipe: Annotated[Path, tyro.conf.Positional]
    """RECIPE.yaml (see docs/reproduce.md)."""
    scale: Annotated[float, Range(0, 1)] = 1.0
    """A share of the clips and people, to see that everything works: 0.05 makes a twentieth."""
    dry_run: bool = False
    """Say what would be made, how long that takes and how much disk, and make nothing."""
    jobs: Annotated[int, Range(0, 4096)] = 0
    """Processes that make and judge clips; 0: one per core."""

    def run(self) -> int:
        """Run all stages; 0 when every count is the one asked for, 1 when not. Raises InputError."""
        from avatars.io.files import require_space
        from avatars.io.outputs import require_folder_for
        from avatars.io.progress import StageClock
        from reenact.reproduction.costs import costs_of
        from reenact.reproduction.recipe import load_recipe
        from reenact.reproduction.stages import counts_asked, number_of_classes, reproduce

        recipe = load_recipe(self.recipe, scale=self.scale)
        classes = number_of_classes(recipe)
        costs = costs_of(recipe, classes)
        if self.dry_run:
            print("\n".join(f"{name:<32} {n:7d}" for name, n in counts_asked(recipe, classes).items()))
            print(costs.table())
            return 0
        require_folder_for(recipe.out, what="the experiment", option="`out`")
        require_space(recipe.out, costs.mib)
        clock = StageClock()
        found = reproduce(recipe, jobs=self.jobs, clock=clock)
        print(clock.table())
        print(f"counts {'as asked for' if found.exact else 'differ from those asked for'}; look at {found.page}")
        return 0 if found.exact else 1
