"""Joints of the rigs that people have are found by name; where they are not, the message says which bones matter."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.stick_figure import stick_figure

from avatars.errors import InputError
from avatars.motion_formats.skeleton_names import map_joints

PLAIN = stick_figure()
CENTER = ("Hips", "Spine", "Spine1", "Neck", "Head")
LIMBS = ("UpLeg", "Leg", "Foot", "ToeBase", "Shoulder", "Arm", "ForeArm", "Hand")
BLENDER = "thigh shin foot toe shoulder upper_arm forearm hand"
UNREAL = "thigh calf foot ball clavicle upperarm lowerarm hand"
BIPED = "Thigh Calf Foot Toe0 Clavicle UpperArm Forearm Hand"

# What the five joints of the trunk and the eight of a limb are called; {L} stands for the limb, {s} {S} for the side.
RIGS = {
    "character creator": ("CC_Base_Hip CC_Base_Waist CC_Base_Spine02 CC_Base_NeckTwist01 CC_Base_Head", 
                          "CC_Base_{S}_{L}",
                          "Thigh Calf Foot ToeBase Clavicle Upperarm Forearm Hand"),
    "valve": ("ValveBiped.Bip01_Pelvis ValveBiped.Bip01_Spine ValveBiped.Bip01_Spine2 ValveBiped.Bip01_Neck1 "
              "ValveBiped.Bip01_Head1", "ValveBiped.Bip01_{S}_{L}", BIPED),
    "biped": ("Bip01 Bip01_Spine Bip01_Spine1 Bip01_Neck Bip01_Head", "Bip01 {S} {L}", BIPED),
    "biped 2": ("Bip002 Bip002_Spine Bip002_Spine1 Bip002_Neck Bip002_Head", "Bip002_{S}_{L}", BIPED),
    "azure kinect": ("PELVIS SPINE_NAVEL SPINE_CHEST NECK HEAD", "{L}_{SIDE}",
                     "HIP KNEE ANKLE FOOT CLAVICLE SHOULDER ELBOW WRIST"),
    "kinect 2": ("SpineBase SpineMid SpineShoulder Neck Head", "{L}{Side}",
                 "Hip Knee Ankle Foot Clavicle Shoulder Elbow Wrist"),
    "motive": ("Skeleton_001:Hip Skeleton_001:Ab Skeleton_001:Chest Skeleton_001:Neck Skeleton_001:Head",
               "Skeleton_001:{S}{L}", "Thigh Shin Foot Toe Shoulder UArm FArm Hand"),
    "motive, fbx": ("Bob_Hips Bob_Spine Bob_Spine1 Bob_Neck Bob_Head", "Bob_{Side}{L}", " ".join(LIMBS)),
    "humanik": ("Character1_Hips Character1_Spine Character1_Spine1 Character1_Neck Character1_Head",
                "Character1_{Side}{L}", " ".join(LIMBS)),
    "humanik, another": ("Character12_Hips Character12_Spine Character12_Spine1 Character12_Neck Character12_Head",
                         "Character12_{Side}{L}", " ".join(LIMBS)),
    "rigify": ("ORG-spine ORG-spine.001 ORG-spine.003 ORG-spine.004 ORG-spine.006", "ORG-{L}.{S}", BLENDER),
    "rigify, deforming": ("DEF-spine DEF-spine.001 DEF-spine.003 DEF-spine.004 DEF-spine.006", "DEF-{L}.{S}", BLENDER),
    "blender's copy": ("hips.001 spine.001 chest.001 neck.001 head.001", "{L}.{S}.001", BLENDER),
    "blender's later copy": ("hips.012 spine.012 chest.012 neck.012 head.012", "{L}.{S}.012", BLENDER),
    "mocapnet": ("hip abdomen chest neck head", "{s}{L}", "hip knee foot toe collar shoulder elbow hand"),
    "mmd": ("センター 上半身 上半身2 首 頭", "{漢}{L}", "足 ひざ 足首 つま先 肩 腕 ひじ 手首"),
    "mmd, kanji": ("下半身 上半身 上半身２ 首 頭", "{漢}{L}", "足 膝 足首 足先EX 肩 腕 肘 手首"),
    "mmd, english": ("center upper_body upper_body2 neck head", "{L}_{S}",
                     "leg knee ankle toe shoulder arm elbow wrist"),
    "vrchat": ("Hips Spine Chest Neck Head", "{Side} {L}", "leg knee ankle toe shoulder arm elbow wrist"),
    "unreal": ("pelvis spine_01 spine_03 neck_01 head", "{L}_{s}", UNREAL),
    "mixamo, no colon": ("mixamorigHips mixamorigSpine mixamorigSpine1 mixamorigNeck mixamorigHead",
                         "mixamorig{Side}{L}",
                         " ".join(LIMBS)),
    "mixamo, again": ("mixamorig9:Hips mixamorig9:Spine mixamorig9:Spine1 mixamorig9:Neck mixamorig9:Head",
                      "mixamorig9:{Side}{L}", " ".join(LIMBS)),
    "biovision": ("Hips Chest Chest2 Neck Head", "{Side}{L}", "Hip Knee Ankle Toe Collar Shoulder Elbow Wrist"),
    "biovision, up and low": ("Hips Chest Chest2 Neck Head", "{Side}{L}",
                              "UpLeg LowLeg Foot Toe Collar UpArm LowArm Hand"),
    "vrm": ("J_Bip_C_Hips J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_Neck J_Bip_C_Head", "J_Bip_{S}_{L}",
            "UpperLeg LowerLeg Foot ToeBase Shoulder UpperArm LowerArm Hand"),
    "makehuman": ("root spine05 spine01 neck01 head", "{L}.{S}",
                  "upperleg01 lowerleg01 foot toe1-1 clavicle upperarm01 lowerarm01 wrist"),
    "advanced skeleton": ("Root_M Spine1_M Chest_M Neck_M Head_M", "{L}_{S}",
                          "Hip Knee Ankle Toes Scapula Shoulder Elbow Wrist"),
    "auto-rig": ("root.x spine_01.x spine_02.x neck.x head.x", "{L}.{s}",
                 "thigh_stretch leg_stretch foot toes_01 shoulder arm_stretch forearm_stretch hand"),
    "second life": ("mPelvis mTorso mChest mNeck mHead", "m{L}{Side}",
                    "Hip Knee Ankle Foot Collar Shoulder Elbow Wrist"),
    "source 2": ("bip_pelvis bip_spine_0 bip_spine_2 bip_neck bip_head", "bip_{L}_{S}",
                 "hip knee foot toe collar upperArm lowerArm hand"),
    "smpl": ("m_avg_Pelvis m_avg_Spine1 m_avg_Spine3 m_avg_Neck m_avg_Head", "m_avg_{S}_{L}",
             "Hip Knee Ankle Foot Collar Shoulder Elbow Wrist"),
    "joints by suffix": ("hips_JNT spine_JNT chest_JNT neck_JNT head_JNT", "{s}_{L}_JNT",
                         "upleg leg foot toe shoulder arm forearm hand"),
    "creation engine": ("NPC_Pelvis_[Pelv] NPC_Spine_[Spn0] NPC_Spine2_[Spn2] NPC_Neck_[Neck] NPC_Head_[Head]",
                        "NPC {S} {L} [{S}Abc]", BIPED),
    "path": ("|rig|Hips |rig|Spine |rig|Spine1 |rig|Neck |rig|Head", "|rig|{Side}{L}", " ".join(LIMBS)),
}  # fmt: skip


def renamed(trunk: str, pattern: str, limbs: str) -> tuple[str, ...]:
    """The stick figure's joints under a rig's names."""
    names = dict(zip(CENTER, trunk.split(), strict=True))
    for side, kanji in (("Left", "左"), ("Right", "右")):
        for ours, theirs in zip(LIMBS, limbs.split(), strict=True):
            words = {
                "{L}": theirs,
                "{s}": side[0].lower(),
                "{S}": side[0],
                "{Side}": side,
                "{SIDE}": side.upper(),
                "{漢}": kanji,
            }
            name = pattern
            for word, value in words.items():
                name = name.replace(word, value)
            names[f"{side}{ours}"] = name
    return tuple(names[name] for name in PLAIN.names)


@pytest.mark.parametrize("rig", RIGS)
def test_the_joints_of_a_rig_are_found_by_its_names(rig: str) -> None:
    wanted = map_joints(PLAIN.names, PLAIN.parents, Path("plain.bvh"))
    found = map_joints(renamed(*RIGS[rig]), PLAIN.parents, Path("rig.bvh"))
    toes = {"left_foot", "right_foot"} if rig == "makehuman" else set()  # it numbers every toe
    assert found.limbs == {name: joint for name, joint in wanted.limbs.items() if name not in toes}
    assert (found.pelvis, found.spine) == (wanted.pelvis, wanted.spine)
    assert found.neck == wanted.neck


def test_a_missing_bone_is_named_and_fingers_and_face_are_not() -> None:
    figure = stick_figure(names={"LeftForeArm": "LeftTentacle", "RightForeArm": "RightTentacle", "Neck": "jaw_helper"})
    with pytest.raises(InputError, match="no left and right elbow") as caught:
        map_joints(figure.names, figure.parents, Path("x.bvh"))
    said = str(caught.value)
    assert "LeftTentacle, RightTentacle" in said and "LeftForeArm" in said
    assert "jaw" not in said and "hip" not in said and "\n" not in said


def test_of_a_skeleton_without_known_names_only_a_few_are_shown() -> None:
    figure = stick_figure(names={name: f"bone{i}" for i, name in enumerate(PLAIN.names)})
    with pytest.raises(InputError) as caught:
        map_joints(figure.names, figure.parents, Path("x.bvh"))
    said = str(caught.value)
    assert said.count("bone") <= 9 and len(said) < 500
    assert all(f"left and right {part}" in said for part in ("hip", "knee", "ankle", "shoulder", "elbow"))
