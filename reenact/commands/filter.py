"""`reenact gate OUT`: which clips of a data set may be used, and why the others may not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from avatars.io.option_rules import Range

if TYPE_CHECKING:
    from reenact.data_set.quality import Measures


@dataclass(frozen=True)
class FilterCommand:
    """Judge every clip, stage by stage; writes accepted.jsonl, rejected.jsonl and gate.json, and deletes nothing."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""
    detector: Literal["mediapipe", "none"] = "mediapipe"
    """What looks for the pose in the finished pixels; none: it is not looked for, and the report says so."""
    pass_rate: Annotated[float | None, Range(0, 1)] = None
    """Choose the pose threshold so that this share of the clips passes (say 0.95), instead of --min-oks."""
    min_oks: Annotated[float, Range(0, 1)] = 0.5
    """Least similarity of the pose seen in the pixels with the labels."""
    jobs: Annotated[int, Range(0, 4096)] = 0
    """Processes to work with; 0: one per core."""
    thresholds: Annotated[dict[str, float], tyro.conf.Suppress, Range(0, 1e6)] = field(default_factory=dict)

    def run(self) -> int:
        """Judge; 0 when there were clips to judge. Raises InputError when there is no manifest."""
        from actionrec.manifest import write_manifest
        from avatars.io.files import write_json
        from avatars.io.outputs import require_folder_for
        from reenact.data_set.quality import QualityRules, calibrated_oks, funnel, judge
        from reenact.planning.receipts import manifest_clips

        clips = manifest_clips(self.out / "manifest.jsonl")
        require_folder_for(self.out, what="the data set")  # clears up after a killed command
        measured = self._measured(clips)
        rules = QualityRules(**{"min_oks": self.min_oks, **self.thresholds})
        if self.pass_rate is not None:
            rules = replace(rules, min_oks=calibrated_oks(measured, self.pass_rate))
        verdicts = judge(clips, measured, rules)
        rows = funnel(verdicts)
        write_manifest(self.out / "rejected.jsonl", [c for c, v in zip(clips, verdicts, strict=True) if v.stage])
        write_manifest(self.out / "accepted.jsonl", [c for c, v in zip(clips, verdicts, strict=True) if not v.stage])
        record = {
            "rules": asdict(rules),
            "detector": self.detector,
            "funnel": [{"stage": stage, "came": came, "rejected": lost} for stage, came, lost in rows],
            "rejected": [asdict(v) for v in verdicts if v.stage],
        }
        write_json(self.out / "gate.json", record)
        for stage, came, lost in rows:
            print(f"{stage:<8}  {came:7d} clips, {lost:6d} rejected")
        unseen = "" if self.detector != "none" else " (the pose was not looked for)"
        print(f"{rows[-1][1] - rows[-1][2]} of {len(clips)} clips accepted{unseen} -> {self.out}/accepted.jsonl")
        return 0

    def _measured(self, clips: list[Any]) -> list[Measures]:
        import multiprocessing

        from avatars.io.machine import processors
        from avatars.io.progress import progress

        jobs = min(self.jobs or processors(), max(len(clips) // 8, 1))
        tasks = [(self.out, clip, self.detector) for clip in clips]
        if jobs < 2:
            return [_measure(task) for task in progress(tasks, "measure clips")]
        with multiprocessing.get_context("spawn").Pool(jobs, initializer=_begin) as pool:
            return list(progress(pool.imap(_measure, tasks, chunksize=2), "measure clips", total=len(tasks)))


_estimators: dict[str, Any] = {}
"""Loaded once per process."""


def _begin() -> None:
    import torch

    torch.set_num_threads(1)


def _measure(task: tuple[Path, Any, str]) -> Measures:
    from reenact.data_set.quality import measure, mediapipe_estimator

    out, clip, detector = task
    if detector not in _estimators:
        _estimators[detector] = None if detector == "none" else mediapipe_estimator()
    return measure(out, clip, _estimators[detector])
