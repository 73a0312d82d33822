"""Kills a command before its n-th change of a file, runs it again, and compares what is there with an unbroken run.

python kill_points.py SPEC.json, where the spec is {prog, words, template, sandbox, ignore}: `template` is copied to
`sandbox` before each kill, and the changes that count are those below `sandbox`. Prints a JSON object: `points`, and
`wrong` with a line for every point after which the same command did not end in the same files. Attempts are forked from
this process, which has loaded everything and computed nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

KILLED = 137
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link")


def attempt(spec: dict, kill_at: int | None, log: Path) -> int:
    """Run the command in a child; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if kill_at is not None:
            sys.addaudithook(Killer(spec["sandbox"], kill_at))
        os._exit(command(spec))
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(99)


def command(spec: dict) -> int:
    """What the console script does."""
    import torch

    from actionrec.manifest import ManifestError
    from avatars.commands import cli, console
    from reenact import cli as reenact_cli

    torch.set_num_threads(1)
    commands = {"avatars": cli.Commands, "reenact": reenact_cli.Commands}[spec["prog"]]
    code = console.main(commands, prog=spec["prog"], description="", argv=spec["words"], mistakes=(ManifestError,))
    sys.stdout.flush()
    sys.stderr.flush()
    return code


class Killer:
    """An audit hook that ends the process before the n-th change below a folder."""

    def __init__(self, folder: str, kill_at: int) -> None:
        self.folder, self.left = folder + os.sep, kill_at

    def __call__(self, event: str, arguments: tuple) -> None:
        changes = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and any(str(a).startswith(self.folder) for a in arguments[:2] if isinstance(a, (str, os.PathLike))):
            self.left -= 1
            if self.left == 0:
                os._exit(KILLED)


def fresh(spec: dict) -> None:
    """The sandbox as it is before the command."""
    shutil.rmtree(spec["sandbox"], ignore_errors=True)
    shutil.copytree(spec["template"], spec["sandbox"])


def contents(spec: dict) -> dict[str, bytes | None]:
    """Every file and folder of the sandbox, but those that name times."""
    root = Path(spec["sandbox"])
    return {
        p.relative_to(root).as_posix(): None if p.is_dir() else p.read_bytes()
        for p in root.rglob("*")
        if p.name not in spec["ignore"]
    }


def main() -> None:
    """Try every point."""
    import numpy  # noqa: F401
    import torch  # noqa: F401

    import reenact.commands.export
    import reenact.data_set.quality
    import reenact.running.run  # noqa: F401

    spec = json.loads(Path(sys.argv[1]).read_text())
    log = Path(sys.argv[1]).with_suffix(".log")
    fresh(spec)
    code = attempt(spec, None, log)
    if code:
        sys.exit(f"unbroken: {code}: {log.read_text()[-2000:]}")
    wanted, wrong, point = contents(spec), [], 0
    while True:
        point += 1
        fresh(spec)
        if attempt(spec, point, log) != KILLED:
            break
        code = attempt(spec, None, log)
        found = contents(spec)
        different = sorted(k for k in {*wanted, *found} if wanted.get(k, 0) != found.get(k, 0))
        if code not in (0, 2) or different:
            wrong.append(f"point {point}: exit code {code}, different {different[:4]}, said {log.read_text()[-300:]!r}")
    print(json.dumps({"points": point - 1, "wrong": wrong}))


if __name__ == "__main__":
    main()
