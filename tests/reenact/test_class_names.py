"""A file's name tells its action class as the data set that it comes from means it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reenact.planning.class_names import label_from_name


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("wave_07.npz", "wave"),
        ("wave07.mp4", "wave"),
        ("sit_down-12.npz", "sit_down"),
        ("007.npz", "007"),
        ("A001.npz", "A001"),
        ("a_01.npz", "a_01"),
        ("S001C001P001R001A043.npz", "A043"),
        ("S018C003P041R002A120_rgb.avi", "A120"),
        ("S001C001P001R001A001.skeleton", "A001"),
        ("P01G01R01F0001T0064A0101.npz", "A0101"),
        ("A013_P002_G001_C003.mp4", "A013"),
        ("a27_s8_t4_color.avi", "a27"),
        ("a12_d0_p118_c1_color.avi", "a12"),
        ("v_ApplyEyeMakeup_g08_c01.avi", "ApplyEyeMakeup"),
        ("v_HandStandPushups_g01_c02.avi", "HandstandPushups"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair"),
        ("Fellowship_5_draw_sword_f_cm_np1_fr_med_12.avi", "draw_sword"),
        ("a_sword_exercise_f_cm_np1_fr_med_12.avi", "sword_exercise"),
        ("Cook.Cleandishes_p02_r00_v02_c03.mp4", "Cook.Cleandishes"),
        ("Drink.Fromcup_p10_r02_02_c05.npz", "Drink.Fromcup"),
        ("playing guitar/abc-DEF_123_000000_000010.mp4", "playing guitar"),
        ("person01_handwaving_d2_uncomp.avi", "handwaving"),
        ("012_003_005.mp4", "012"),
    ],
)
def test_the_class_is_the_data_sets(name: str, label: str) -> None:
    assert label_from_name(Path(name)) == label
