# pyright: reportAttributeAccessIssue=false
# Warp's results of mesh queries get their fields when a kernel is built, which no checker can know.
"""20 motions on 12 bodies: how far feet skate, float and sink, how deep arms enter the body, whether hands still touch
what they touched, how much rougher the motion gets, how long it takes.

python scripts/benchmarks/benchmark_retarget.py --json retarget.json [--motions data/motions/cmu]

Depths are measured on the whole mesh by winding numbers (Barill et al. 2018, as Warp has them), not by the points and
planes that retargeting goes by. They count beyond what the source's own body has at the same vertex, for copied
rotations as for ours: what a motion has inside its own body (fingers in a palm) no new shape caused. The keys with
`whole` count that, too.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import warp as wp
from benchmark_results import main, write_results

from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from reenact.retargeting import retarget as retargeting
from reenact.retargeting.contacts import Soles, foot_track
from reenact.retargeting.retarget import Retargeted, on_body, on_ground, resampled, retarget
from reenact.retargeting.self_contact import TOUCH_M, posed, touches_of
from reenact.retargeting.surface import Surface

RECORDED = ("walking_1", "washwindow_1", "basketball_signal_1")
BOUNDS = {"skate_max_mm": 5.0, "off_ground_max_mm": 10.0, "sunk_max_mm": 10.0, "jerk_ratio": 1.1, "depth_max_mm": 10.0}


NAME = "retarget"


@dataclass(frozen=True)
class RetargetBenchmark:
    """Retarget actions that touch, cross, bend and sit, and recorded ones, onto 12 bodies."""

    json: Path | None = None
    motions: Path | None = None
    """Folder of BVH or npz files: three of them are taken, too. Without, 17 motions."""
    fps: float = 15.0
    every: int = 3
    """Frames between those in which depths are measured."""
    seconds: float = 5.0
    """At most so much of a recorded motion."""
    only: str = ""
    """The motions whose name holds this."""

    def run(self) -> int:
        """Measure and print; always 0."""
        torch.set_num_threads(1)
        body = load_body()
        meter, rows, result = DepthMeter(body), [], {}
        for motion in (*self._recorded(body), *actions(body)):
            if self.only in motion.name:
                rows += self._on_all_bodies(motion, body, meter)
                result = summary(rows)
                write_results(self.json, NAME, result | {"rows": rows})  # as far as it has come: this takes a while
        print(json.dumps(result, indent=2))
        return 0

    def _recorded(self, body: Body) -> list[Motion]:
        from avatars.motion_formats import load_motion

        files = [] if self.motions is None else [p for p in self.motions.iterdir() if p.stem in RECORDED]
        motions = [load_motion(path, body) for path in sorted(files)]
        return [motion[1 : int(self.seconds * motion.fps)] for motion in motions]

    def _on_all_bodies(self, motion: Motion, body: Body, meter: DepthMeter) -> list[dict[str, Any]]:
        source = Source(motion, body, self.fps, meter, self.every)
        rows = []
        for name, betas in bodies(body).items():
            rows.append({"motion": motion.name, "body": name} | measured(source, betas))
        worst = {key: max(row[key] for row in rows) for key in ("depth_max_mm", "touch_max_mm", "jerk_ratio", "cpu_s")}
        print(motion.name, worst, flush=True)
        return rows


def actions(body: Body) -> list[Motion]:
    """The studio's actions by a person of mean shape, and hands on hips."""
    from avatars.studio.actions import ACTIONS, BACK_TO_REST, REST, act, motion_of
    from avatars.studio.keyframes import IN, STANCE, Arm, Key, Manner, duration_s, perform
    from avatars.studio.kinematics import Rig

    betas, by = np.zeros(body.n_betas, np.float32), Manner.sample(1)
    rig = Rig.of(body, betas)
    hip = (0.185, float(rig.joints[0][1] - rig.sole_y) + 0.12, 0.0)
    hand = Arm(mark="ground", point="palm", to=hip, palm=IN, fingers=(-0.2, -0.4, 0.9), elbow=(1, 0, -0.35))
    script = [REST, Key(0.8, STANCE.but(left=hand, right=hand), 1.0), BACK_TO_REST]
    times_s = np.arange(round(duration_s(script) * 30) + 1) / 30
    on_hips = motion_of(perform(script, rig, by, times_s), rig, body, betas, name="hands_on_hips")
    return [on_hips, *(act(name, body, betas, by).motion for name in ACTIONS)]


def bodies(body: Body) -> dict[str, Any]:
    """12 shapes. Heavy and thin are along the direction of betas that widens the waist most for its length."""
    from avatars.studio.people import betas_of

    def person(**knobs: float) -> Any:
        mean = {"gender": 0.5, "age": 0.7, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.5}
        origin = {"african": 0.33, "asian": 0.33, "caucasian": 0.34}
        return torch.as_tensor(betas_of(mean | origin | knobs, body))

    def size(value: float) -> Any:
        return torch.zeros(body.n_betas).index_fill(0, torch.tensor(0), value)

    girth = girth_direction(body)
    return {
        "child": person(age=0.2), "teenager": person(age=0.45), "short woman": person(gender=0.0, height=0.1),
        "tall man": person(gender=1.0, height=0.9), "old": person(age=1.0), "strong": person(gender=1.0, muscle=0.95),
        "short": size(-2.5), "tall": size(2.5), "heavy": 3.0 * girth, "thin": -2.5 * girth,
        "short and heavy": size(-2.0) + 2.5 * girth, "tall and thin": size(2.0) - 2.0 * girth,
    }  # fmt: skip


def girth_direction(body: Body) -> Any:
    """Unit betas along which the waist's depth and width over the height grow fastest."""

    def girth(betas: Any) -> float:
        rest, joints = body.shaped(betas)
        waist = rest[((rest[:, 1] - joints[JOINT_NAMES.index("spine1"), 1]).abs() < 0.04) & (rest[:, 0].abs() < 0.3)]
        extent = waist.amax(0) - waist.amin(0)
        return float((extent[0] + extent[2]) / (rest[:, 1].max() - rest[:, 1].min()))

    steps = torch.eye(body.n_betas)
    slope = torch.tensor([girth(step) - girth(-step) for step in steps])
    return slope / slope.norm()


class Source:
    """A motion on its own body, and what it touches and enters there."""

    def __init__(self, motion: Motion, body: Body, fps: float, meter: DepthMeter, every: int) -> None:
        self.motion, self.body, self.fps, self.meter, self.every = motion, body, fps, meter, every
        self.own, _ = retargeting._source(resampled(motion, fps), body, motion.betas, fps)
        at = posed(self.own, body)
        self.touches = touches_of(Surface.of(body, self.own.betas).placed(at), at.joints, fps)

    @cached_property
    def depths(self) -> dict[tuple[str, str], np.ndarray]:
        """Of the source in itself."""
        return self.depths_of(self.own)

    def depths_of(self, motion: Motion) -> dict[tuple[str, str], np.ndarray]:
        """How deep limbs are in other parts, in some frames."""
        return self.meter.depths(posed(motion[:: self.every], self.body).vertices().numpy())


def measured(source: Source, betas: Any) -> dict[str, float]:
    """What `retarget` made, beside plainly copied rotations."""
    start = time.process_time()
    found = retarget(source.motion, source.body, betas, fps=source.fps)
    cpu_s = time.process_time() - start
    scaled, _ = on_body(resampled(source.motion, source.fps), source.body, betas)
    copied, _ = on_ground(scaled, source.body, Soles.of(source.body, betas), source.fps)
    depth, before = source.depths_of(found.motion), source.depths_of(copied)
    excess, was = (
        np.concatenate([np.maximum(d[pair] - source.depths[pair], 0.0).ravel() for pair in d]) for d in (depth, before)
    )
    return {
        "frames": len(found.motion),
        "cpu_s": cpu_s,
        "jerk_ratio": jerk(found.motion, source.body) / jerk(copied, source.body),
        "depth_sum_mm": 1000 * float(excess.sum()),
        "depth_copied_sum_mm": 1000 * float(was.sum()),
        "depth_max_mm": 1000 * float(excess.max()),
        "depth_copied_max_mm": 1000 * float(was.max()),
        "depth_whole_max_mm": 1000 * max(float(d.max()) for d in depth.values()),
        "depth_whole_copied_max_mm": 1000 * max(float(d.max()) for d in before.values()),
        **feet(found, copied, source.body),
        **touches(found, copied, source),
    }


def feet(found: Retargeted, copied: Motion, body: Body) -> dict[str, float]:
    """Skate (mm per frame) and height (mm) in contact."""
    soles = Soles.of(body, found.motion.betas)
    before = foot_track(soles.feet(soles.followed(copied, body)))
    both = found.contact[:-1] & found.contact[1:]

    def worst(values: Any) -> float:
        return 1000 * float(values.max()) if len(values) else 0.0

    return {
        "skate_max_mm": worst(found.slip_m[:-1][both]),
        "skate_copied_max_mm": worst(before.slip_m[:-1].norm(dim=-1)[both]),
        "off_ground_max_mm": worst(found.sole_m[found.contact].abs()),
        "off_ground_copied_max_mm": worst(before.height_m[found.contact].abs()),
        "sunk_max_mm": max(-1000 * float(found.sole_m.min()), 0.0),
    }


def touches(found: Retargeted, copied: Motion, source: Source) -> dict[str, float]:
    """Of every hand and frame that touched something in the source: how far its touching points are from the same
    places on the new body (the middle of them; in the source at most 10 mm)."""
    kept, entries = source.touches, source.touches.close
    on = (kept.held[entries.frame, found_side(source, entries)] > 0.99) & (entries.distance_m < TOUCH_M)
    entries = entries[on]
    group = entries.frame * 2 + found_side(source, entries)
    gaps = []
    for motion in (found.motion, copied):
        places = Surface.of(source.body, motion.betas).placed(posed(motion, source.body)).places
        gap = (places[entries.frame, entries.point] - places[entries.frame, entries.near[:, 0]]).norm(dim=-1)
        gaps.append(np.array([float(gap[group == g].median()) for g in group.unique()]))
    after, before = gaps
    return {
        "touches": len(after),
        "touches_kept": int((after <= 0.02).sum()),
        "touches_copied_kept": int((before <= 0.02).sum()),
        "touch_max_mm": 1000 * float(after.max(initial=0.0)),
    }


def found_side(source: Source, entries: Any) -> Any:
    """0 for points of the left hand, 1 for the right."""
    return Surface.of(source.body, source.own.betas).part[entries.point]


def jerk(motion: Motion, body: Body) -> float:
    """Mean third difference of the body's joints."""
    return float(torch.diff(posed(motion, body).joints[:, :22], n=3, dim=0).norm(dim=-1).mean())


@wp.kernel
def _depth(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), out: wp.array(dtype=float)):
    i = wp.tid()
    found = wp.mesh_query_point_sign_winding_number(mesh, points[i], 0.15, 2.0, 0.5)
    out[i] = 0.0
    if found.result:
        out[i] = wp.max(
            -found.sign * wp.length(wp.mesh_eval_position(mesh, found.face, found.u, found.v) - points[i]), 0.0
        )


class DepthMeter:
    """How deep the vertices of a limb are in the mesh of another part. Skin next to shoulders and hips is left out: on
    everybody it touches the trunk."""

    PAIRS = (
        ("left_arm", "trunk"), ("right_arm", "trunk"), ("left_arm", "right_arm"), ("left_arm", "left_leg"),
        ("left_arm", "right_leg"), ("right_arm", "left_leg"), ("right_arm", "right_leg"), ("left_leg", "right_leg"),
    )  # fmt: skip

    def __init__(self, body: Body) -> None:
        wp.config.log_level = getattr(wp, "LOG_ERROR", wp.config.log_level)
        part = np.array([_limb(name) for name in JOINT_NAMES])[body.lbs_weights.argmax(-1).numpy()]
        rest, joints = body.v_template.numpy(), body.shaped(torch.zeros(body.n_betas))[1].numpy()
        faces = body.faces.numpy()
        self.meshes, self.points = {}, {}
        for limb in dict.fromkeys(part.tolist()):
            own = faces[(part[faces] == limb).all(1)]
            used = np.unique(own)
            self.meshes[limb] = used, np.searchsorted(used, own).astype(np.int32)
        for limb, joint, reach_m in (("arm", "shoulder", 0.14), ("leg", "hip", 0.2)):
            for side in ("left", "right"):
                gap = np.linalg.norm(rest - joints[JOINT_NAMES.index(f"{side}_{joint}")], axis=-1)
                self.points[f"{side}_{limb}"] = np.flatnonzero((part == f"{side}_{limb}") & (gap > reach_m))[::3]

    def depths(self, vertices: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        """(frames, points) meters for each pair, 0 outside."""
        built: dict[str, Any] = {}
        found: dict[tuple[str, str], list[np.ndarray]] = {pair: [] for pair in self.PAIRS}
        for frame in vertices:
            for limb, (used, faces) in self.meshes.items():
                if limb in built:
                    built[limb].points.assign(frame[used])
                    built[limb].refit()
                else:
                    corners = wp.array(frame[used], dtype=wp.vec3, device="cpu")
                    indices = wp.array(faces.ravel(), dtype=int, device="cpu")
                    built[limb] = wp.Mesh(points=corners, indices=indices, support_winding_number=True)
            for limb, other in self.PAIRS:
                found[limb, other].append(
                    self._of(frame[self.points[limb]], built[other], frame[self.meshes[other][0]])
                )
        return {pair: np.stack(depths) for pair, depths in found.items()}

    @staticmethod
    def _of(points: np.ndarray, mesh: Any, corners: np.ndarray) -> np.ndarray:
        depths = np.zeros(len(points), np.float32)
        boxed = ((points > corners.min(0)) & (points < corners.max(0))).all(1)
        if boxed.any():
            out = wp.zeros(int(boxed.sum()), dtype=float, device="cpu")
            inputs = [mesh.id, wp.array(points[boxed], dtype=wp.vec3, device="cpu"), out]
            wp.launch(_depth, dim=len(out), inputs=inputs, device="cpu")
            depths[boxed] = out.numpy()
        return depths


def _limb(joint: str) -> str:
    side, _, name = joint.partition("_")
    if side not in ("left", "right") or "eye" in joint or name == "collar":
        return "trunk"
    return f"{side}_leg" if name in ("hip", "knee", "ankle", "foot") else f"{side}_arm"


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all motions and bodies: median, worst and the share that keeps each bound; depths and touches in all."""
    result: dict[str, Any] = {"pairs": len(rows), "motions": len({row["motion"] for row in rows})}
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key not in ("motion", "body")}
    result["depth_reduced"] = round(1 - total["depth_sum_mm"] / max(total["depth_copied_sum_mm"], 1e-9), 4)
    result["touches_kept"] = round(total["touches_kept"] / max(total["touches"], 1), 4)
    result["touches_copied_kept"] = round(total["touches_copied_kept"] / max(total["touches"], 1), 4)
    whole = ("depth_copied_max_mm", "depth_whole_max_mm", "depth_whole_copied_max_mm")
    for key in ("cpu_s", "touch_max_mm", *whole, "skate_copied_max_mm", *BOUNDS):
        values = np.array([row[key] for row in rows])
        result[key] = {"median": round(float(np.median(values)), 3), "worst": round(float(values.max()), 3)}
        if key in BOUNDS:
            result[key]["share_within"] = round(float((values <= BOUNDS[key]).mean()), 4)
    return result


if __name__ == "__main__":
    sys.exit(main(RetargetBenchmark, NAME, __doc__ or ""))
