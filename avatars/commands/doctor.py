"""Lists what is installed, which backends would work, and what to do about those that would not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "optional", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report."""

    what: str
    state: State
    """`ok`: works; `optional`: absent, and nothing needs it; `broken`: the default path would fail."""
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Doctor:
    """Check this machine: what is installed, which backends would work, and what to do about the others."""

    def run(self) -> int:
        """Print the table; exit code 1 when the default path would fail."""
        findings = examine()
        _print(findings)
        broken = [f.what for f in findings if f.state == "broken"]
        print(f"\n{'Broken: ' + ', '.join(broken) if broken else 'Everything that the default path needs works.'}")
        return 1 if broken else 0


def examine() -> list[Check]:
    """All findings, in the order of the pipeline; a check that fails hides no other."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("numpy", _numpy),
        ("protobuf", _protobuf),
        ("torch", _torch),
        ("CPU rasterizer", _cpu_rasterizer),
        ("CUDA rasterizer", _cuda_rasterizer),
        ("video", _video),
        ("body model", _body),
        ("keypoints and masks: MediaPipe", _mediapipe),
        ("disk", _disk),
    ]
    findings = []
    for what, check in checks:
        try:
            findings.append(check())
        except Exception as error:  # the doctor reports what fails, whatever it is
            findings.append(Check(what, "broken", f"{type(error).__name__}: {error}", "See docs/install.md."))
    return findings + _better_models()


def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


def _major(distribution: str) -> int:
    return int(_version(distribution).split(".")[0])


def _python() -> Check:
    good = (3, 10) <= tuple(map(int, platform.python_version_tuple()[:2])) <= (3, 12)
    advice = "" if good else "MediaPipe 0.10.21 has wheels up to Python 3.12: use 3.10, 3.11 or 3.12."
    return Check("python", "ok" if good else "broken", f"{platform.python_version()}, {os.cpu_count()} cores", advice)


def _numpy() -> Check:
    good = _major("numpy") < 2
    return Check("numpy", "ok" if good else "broken", _version("numpy"), "" if good else "pip install 'numpy<2'")


def _protobuf() -> Check:
    good = _major("protobuf") < 5
    advice = "" if good else "MediaPipe fails with protobuf 5 and later: pip install 'protobuf>=4.25,<5'"
    return Check("protobuf", "ok" if good else "broken", _version("protobuf"), advice)


def _torch() -> Check:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device; the CPU does everything"
    return Check("torch", "ok", f"{torch.__version__}, {device}")


def _cpu_rasterizer() -> Check:
    import torch

    from avatars.geometry.camera import Camera
    from avatars.rasterizer import rasterize
    from avatars.rasterizer.gaussians import Gaussians

    one = Gaussians(
        torch.tensor([[0.0, 0.0, 0.0]]),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.full((1, 3), 0.1),
        torch.ones(1),
        torch.ones(1, 3),
    )
    camera = Camera.level(focal_px=16.0, size_hw=(8, 8), distance_m=1.0)
    center = float(rasterize(one, camera, implementation="cpu").alpha[0, 0, 4, 4])
    good = center > 0.5
    return Check("CPU rasterizer", "ok" if good else "broken", f"drew one Gaussian, alpha {center:.2f}")


def _cuda_rasterizer() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("CUDA rasterizer", "optional", "no CUDA device", "Drawing uses it by itself where there is one.")
    if importlib.util.find_spec("gsplat") is None:
        return Check("CUDA rasterizer", "optional", "gsplat is not installed", "pip install 'splat-avatars[cuda]'")
    return Check("CUDA rasterizer", "ok", f"gsplat {_version('gsplat')}")


def _video() -> Check:
    import av

    decord = _version("decord") if importlib.util.find_spec("decord") else "absent, PyAV reads everything"
    good = "libx264" in av.codecs_available
    advice = "" if good else "This PyAV cannot write H.264: pip install --force-reinstall av"
    return Check("video", "ok" if good else "broken", f"PyAV {av.__version__}, decord {decord}", advice)


def _body() -> Check:
    licensed = os.environ.get("SMPLX_BODY")
    if licensed:
        there = Path(licensed).is_file()
        advice = "" if there else "SMPLX_BODY names no file: correct or unset it."
        return Check("body model", "ok" if there else "broken", f"SMPLX_BODY={licensed}", advice)
    from avatars.body.default_body import cached_body_path

    path = cached_body_path()
    if path.is_file():
        return Check("body model", "ok", f"default body, {path}")
    return Check("body model", "ok", "default body, not built yet", "Built at first use, or now: avatars body build")


def _mediapipe() -> Check:
    what = "keypoints and masks: MediaPipe"
    if importlib.util.find_spec("mediapipe") is None:
        return Check(what, "broken", "not installed", "pip install mediapipe==0.10.21")
    version = _version("mediapipe")
    good = version == "0.10.21"
    return Check(what, "ok" if good else "broken", version, "" if good else "pip install mediapipe==0.10.21")


def _better_models() -> list[Check]:
    from avatars.perception.backend_table import availability

    return [
        Check(
            f"{a.task}: {a.name}",
            "ok" if a.usable else "optional",
            "usable" if a.usable else f"missing: {'; '.join(a.missing)}",
            a.fix,
        )
        for a in availability()
    ]


def _disk() -> Check:
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    advice = "" if free_gib > 1 else "A capture and its avatar take about 0.3 GiB."
    return Check("disk", "ok" if free_gib > 1 else "broken", f"{free_gib:.0f} GiB free here", advice)


def _print(findings: list[Check]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    color = {"ok": "green", "optional": "yellow", "broken": "red"}
    table = Table("", "", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        state = f"[{color[finding.state]}]{finding.state}[/]"
        table.add_row(state, *map(escape, (finding.what, finding.found, finding.advice)))  # 'splat-avatars[sam]'
    Console(width=None if os.isatty(1) else 160).print(table)
