"""The tracking benchmark: what is done is not done again, what fails is told, and the keys are as promised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_tracking import Ledger, TrackingBenchmark, film, multiview_summary, row, summary
from tracking_scores import ClipScore, Rig, ViewScore, aligned_errors_mm, hand_error_mm, rotated_error_mm

from avatars.errors import InputError
from avatars.geometry.rotations import matrix_from_axis_angle

KEYS = {
    "mpjpe_mm", "pa_mpjpe_mm", "yaw_error_max_deg", "hand_pa_mpjpe_mm", "jitter_ratio", "mediapipe_mpjpe_mm",
    "multiview_mpjpe_mm", "multiview_mediapipe_mpjpe_mm", "frames_per_s", "peak_gib",
}  # fmt: skip
SCORE = ClipScore(
    seed=1, action="turn", frames=300, mpjpe_mm=40.0, pa_mpjpe_mm=30.0, error_2d_px=3.0, yaw_error_max_deg=9.0,
    hand_pa_mpjpe_mm=8.0, jitter_ratio=1.0, mediapipe_mpjpe_mm=80.0, mediapipe_pa_mpjpe_mm=60.0, limbs_mpjpe_mm=50.0,
    limbs_pa_mpjpe_mm=40.0, mask_iou=0.9, height_error_m=0.0, perception_s=20.0, fit_s=10.0, peak_gib=1.5,
)  # fmt: skip


def test_the_summary_has_every_promised_key_and_means_over_clips() -> None:
    kick = replace(
        SCORE, action="kick", frames=60, mpjpe_mm=60.0, yaw_error_max_deg=25.0, hand_pa_mpjpe_mm=None, peak_gib=2.0
    )
    result = {**summary([SCORE, kick]), **multiview_summary([])}
    assert set(result) >= KEYS
    assert result["mpjpe_mm"] == 50.0 and result["hand_pa_mpjpe_mm"] == 8.0 and result["peak_gib"] == 2.0
    assert (result["yaw_error_max_deg"], result["yaw_error_max_any_clip_deg"]) == (9.0, 25.0)
    assert result["frames_per_s"] == pytest.approx(360 / 60)
    assert result["multiview_mpjpe_mm"] is None
    views = [ViewScore("a", 9, 60.0, 61.0, 40.0, 90.0, 91.0, 70.0, 2.0)]
    views.append(replace(views[0], camera="b", mpjpe_mm=80.0))
    assert multiview_summary(views)["multiview_mpjpe_mm"] == 70.0
    assert "hands   -  " in row(kick) and all(value is None for value in summary([]).values())


def test_a_quick_run_is_two_people_with_a_turn_and_one_action() -> None:
    clips = TrackingBenchmark(json=Path("x.json"), quick=True).clips()
    assert [(c.seed, c.action) for c in clips] == [(s, a) for s in (1, 2) for a in ("turn", "drink_water")]
    assert len(TrackingBenchmark(json=Path("x.json")).clips()) == 60


def test_scores_are_kept_until_the_code_changes_and_failures_are_told(tmp_path: Path, capsys) -> None:
    made, failures = [], {}

    def make() -> dict[str, int]:
        made.append(1)
        return {"frames": len(made)}

    assert Ledger(tmp_path, "code 1").kept("kick_1", make, failures) == {"frames": 1}
    assert Ledger(tmp_path, "code 1").kept("kick_1", make, failures) == {"frames": 1}
    assert Ledger(tmp_path, "code 2").kept("kick_1", make, failures) == {"frames": 2}
    assert not failures
    assert Ledger(tmp_path, "code 2").kept("wave_1", lambda: 1 // 0, failures) is None
    assert failures == {"wave_1": "ZeroDivisionError: integer division or modulo by zero"}
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not (tmp_path / "wave_1.json").exists()


@pytest.mark.slow
def test_a_capture_that_cannot_be_filmed_is_named(tmp_path: Path) -> None:
    benchmark = TrackingBenchmark(json=tmp_path / "x.json", people=1, actions=("swim",))
    for clip in benchmark.clips()[:1]:
        (tmp_path / clip.name).mkdir()  # the turn is there
    failures = film(benchmark.clips(), tmp_path, jobs=1)
    assert list(failures) == ["swim_1_0_512"] and "No action 'swim'" in failures["swim_1_0_512"]


def test_a_folder_without_calibration_or_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0 \*\.qca\.txt"):
        Rig.open(tmp_path)


def test_errors_of_known_shifts_and_turns() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(4, 12, 3, generator=generator)
    moved = true.clone()
    moved[:, 0] += torch.tensor([0.12, 0.0, 0.0])  # one of twelve points
    assert aligned_errors_mm(moved + 5.0, true)[0] == pytest.approx(10.0, abs=0.01)
    assert aligned_errors_mm(1.3 * true, true)[1] == pytest.approx(0.0, abs=1e-2)


def test_small_hands_do_not_count() -> None:
    from types import SimpleNamespace

    import numpy as np

    px = np.zeros((3, 133, 2))
    px[0, 91] = 50.0  # a left hand 50 px long in the first frame alone
    joints = torch.randn(3, 55, 3, generator=torch.Generator().manual_seed(0))
    wrong = joints.clone()
    wrong[1:, 25:] += torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(1))
    assert hand_error_mm(wrong, joints, SimpleNamespace(keypoints_px=px)) == pytest.approx(0.0, abs=1e-2)
    assert hand_error_mm(wrong, joints, SimpleNamespace(keypoints_px=0 * px)) is None


def test_one_rotation_of_the_whole_clip_is_forgiven_and_one_per_frame_is_not() -> None:
    torch.manual_seed(0)
    true = torch.randn(5, 12, 3)
    turn = matrix_from_axis_angle(torch.tensor([0.3, -0.2, 0.1]))
    moved = true @ turn.T + torch.randn(5, 1, 3)
    assert rotated_error_mm(moved, true) < 0.01 < 100 < aligned_errors_mm(moved, true)[0]
    each = matrix_from_axis_angle(0.3 * torch.randn(5, 3))
    assert rotated_error_mm(true @ each.mT, true) > 50
    assert rotated_error_mm(true * torch.tensor([-1.0, 1.0, 1.0]), true) > 50  # a mirror image is no rotation
