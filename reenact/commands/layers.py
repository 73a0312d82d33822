"""`reenact layers OUT -o DIR`: the people of finished clips alone, with an alpha channel or over white."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatars.io.option_rules import Suffix


@dataclass(frozen=True)
class LayersCommand:
    """Draw finished clips' people and shadows without the place, for places that are put behind them later."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder to make."""
    form: Literal["png", "webm", "white"] = "png"
    """png: a folder of RGBA pictures a clip, exact; webm: VP9 with alpha; white: H.264 over white."""
    clips: tuple[str, ...] = ()
    """Ids of clips; default: all that are finished."""

    def run(self) -> int:
        """Write. Raises InputError when there is nothing to draw, or the folder is not new."""
        from avatars.io.outputs import require_fresh_folder
        from reenact.data_set.layers import write_layers

        require_fresh_folder(self.output, what="the layers")
        count = write_layers(self.out, self.output, self.form, clips=self.clips)
        print(f"{count} clips' people ({self.form}) -> {self.output}")
        return 0
