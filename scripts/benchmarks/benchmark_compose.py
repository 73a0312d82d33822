"""Placement, occlusion, scale, labels and cost of composing, against studio rooms whose geometry is known.

    python scripts/benchmarks/benchmark_compose.py --json compose.json [--quick]

Rooms are photographed, prepared from the photograph and a depth file (exact; and with 5% noise at half size; and with
none, but a camera height rounded to 5 cm and a horizon rounded to 1% of the picture), and people are placed in them.
What came out is measured in the room's own geometry.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark_results import require_results_file, write_results

from avatars.commands import console
from avatars.errors import InputError
from compose.places.place_folder import open_place

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from PIL import Image

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.body import Body, load_body
from avatars.geometry.camera import Camera
from avatars.io.progress import StageClock, progress
from avatars.rasterizer import rasterize
from avatars.rasterizer.gaussians import Gaussians
from avatars.studio.actions import act
from avatars.studio.keyframes import Manner
from avatars.studio.patterns import Palette
from avatars.studio.plates import _Scene as Rays
from avatars.studio.plates import plate_of
from avatars.studio.raycast import developed
from avatars.studio.rooms import Room, chair, plant, table
from avatars.studio.rooms import placed as placed_parts
from compose.places.ground import camera_over_ground, ground_point, pitch_from_horizon
from compose.places.light import normals_in_gaussians, preset_light
from compose.places.place_view import Background, PlaceView
from compose.preparation.prepare import PlaceHints, prepare_place
from compose.rendering.compositor import CameraEffects
from compose.rendering.placement import NoPlacement, Placement, PlacementRules, place
from compose.rendering.shadow import ShadowLight
from reenact.rendering.labels import ClipLabels, MaskTrack, decode_rle
from reenact.rendering.scene import Drawn, StagedClip
from reenact.rendering.staging import touched_points
from reenact.retargeting.retarget import Retargeted, Soles, retarget

PHOTO_HW, CLIP_HW = (360, 480), (256, 256)
ACTIONS = ("wave", "kick", "throw", "clap", "pick_up")
TARGETS = {
    "foot_ground_cm_p95": 2.0, "furniture_penetration_cm_max": 3.0, "occlusion_iou_true_depth": 0.97,
    "occlusion_iou_noisy_depth": 0.90, "height_error_metric_pct": 2.0, "height_error_ground_pct": 6.0,
    "joint_reprojection_px": 0.5, "mask_iou": 0.99, "edge_error_max": 1 / 255, "ms_per_frame": 12.0,
}  # fmt: skip


NAME = "compose"


@dataclass(frozen=True)
class Set:
    """A room, its true camera, and the places prepared from its photograph."""

    room: Room
    rays: Rays
    camera: Camera
    true: Background
    noisy: Background
    ground: Camera


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="20 placements instead of 200")
    parser.add_argument("--placements", type=int, default=200, help="how many, eight to a room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-cost", action="store_true", help="only the time of a frame, by stage")
    options = parser.parse_args()
    try:
        require_results_file(options.json, NAME)
    except InputError as error:
        sys.exit(console.fail(console.USER_MISTAKE, str(error)))
    if options.only_cost:
        with torch.no_grad():
            stages = cost(load_body())
        print(json.dumps({"ms_per_frame": round(sum(stages.values()), 3), "stages_ms": stages}, indent=1))
        return
    each = 4 if options.quick else min(8, options.placements)
    rooms = 5 if options.quick else math.ceil(options.placements / each)
    body = load_body()
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for number in progress(range(rooms), f"{rooms} rooms"):
            stage_set = build_set(1000 + 31 * options.seed + number, Path(folder))
            performers = [performer(body, 100 * number + k + options.seed) for k in range(2)]
            for k in range(each):
                avatar, moved = performers[k % 2]
                measure(stage_set, avatar, moved, 1000 * number + k, found, want_hidden=k % 2 == 0)
        found["edge_error_max"].append(edge_error(body))
        stages = cost(body)
    report = summary(found) | {"ms_per_frame": sum(stages.values()), "stages_ms": stages}
    for key, target in TARGETS.items():
        print(f"{key:32s} {report[key]:8.4f}   target {target:.4g}")
    print(json.dumps({k: v for k, v in report.items() if k not in TARGETS}, indent=1))
    write_results(options.json, NAME, report)


def build_set(seed: int, folder: Path) -> Set:
    """Photograph a room and prepare it three ways."""
    rng = np.random.default_rng([seed, 5])
    room = Room.sample(seed, outdoors=False)
    piece = (table, chair, plant, table)[seed % 4](Palette(rng))
    room = room.with_parts(placed_parts(piece, rng.uniform(-0.5, 0.5), rng.uniform(1.0, 1.6), rng.uniform(-30, 30)))
    focal_px = PHOTO_HW[0] / 2 / math.tan(math.radians(rng.uniform(50, 60)) / 2)
    eye = torch.tensor([rng.uniform(-0.6, 0.6), rng.uniform(1.2, 1.65), rng.uniform(3.4, 4.6)], dtype=torch.float32)
    target = torch.tensor([rng.uniform(-0.4, 0.4), rng.uniform(0.6, 0.9), 0.0], dtype=torch.float32)
    camera = Camera.looking_at(eye, target, focal_px=focal_px, size_hw=PHOTO_HW)
    plate = plate_of(room, camera, samples=1)
    depth = plate.depth_m.astype(np.float32)
    noisy = (depth * (1 + 0.05 * rng.standard_normal(depth.shape)))[::2, ::2].astype(np.float32)
    places = {}
    for kind, values in (("true", depth), ("noisy", noisy)):
        photo = folder / f"{kind}{seed}.png"
        Image.fromarray(developed(plate)).save(photo)
        np.save(folder / f"{kind}{seed}_depth.npy", values)
        prepared = prepare_place(photo, PlaceHints(PlaceView(focal_px=focal_px)))
        places[kind] = open_place(prepared.save(folder / f"{kind}{seed}"))
    height_m = 0.05 * round(float(eye[1]) / 0.05)
    up = camera.T_cam_world[:3, 1]
    horizon_px = camera.K[1, 2] - camera.K[1, 1] * up[2] / up[1]  # where level directions project
    horizon = round(float(horizon_px) / PHOTO_HW[0], 2)
    pitch = pitch_from_horizon(horizon, focal_px=focal_px, height_px=PHOTO_HW[0])
    ground = camera_over_ground(size_hw=PHOTO_HW, focal_px=focal_px, camera_height_m=height_m, pitch=pitch)
    return Set(room, Rays.of(room), camera, places["true"], places["noisy"], ground)


def performer(body: Body, seed: int) -> tuple[Avatar, Retargeted]:
    """A plain white person of some shape, and an action on its body."""
    rng = np.random.default_rng([seed, 3])
    betas = torch.zeros(body.n_betas)
    betas[:4] = torch.from_numpy(rng.normal(0, 0.7, 4)).float()
    action = ACTIONS[seed % len(ACTIONS)]
    motion = act(action, body, betas.numpy(), Manner.sample(seed), fps=15).motion
    return plain_avatar(body, betas, 20_000), retarget(motion, body, betas, fps=15.0)


def plain_avatar(body: Body, betas: torch.Tensor, n: int, gray: float = 1.0) -> Avatar:
    """Round white Gaussians all over a body."""
    vertices, _ = body.shaped(betas)
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1.0
    return Avatar(
        body=body, betas=betas, binding=spread_over(body, vertices, n), offsets=torch.zeros(n, 3), quats=quats,
        log_scales=torch.full((n, 3), math.log(0.008 * math.sqrt(20_000 / n))), opacity_logits=torch.full((n,), 4.0),
        albedo=torch.full((n, 3), gray), light=torch.zeros(8, 3),
    )  # fmt: skip


def one_frame(avatar: Avatar, moved: Retargeted, index: int) -> Gaussians:
    """The posed Gaussians of a frame."""
    return avatar.posed(moved.motion[index : index + 1]).frame(0)


def measure(
    s: Set, avatar: Avatar, moved: Retargeted, seed: int, found: dict[str, list[float]], *, want_hidden: bool
) -> None:
    """Place one person by exact and by noisy depth and collect every error."""
    touched = touched_points(moved, avatar.body)
    for kind, place_ in (("true", s.true), ("noisy", s.noisy)):
        placement = placed(place_, moved, touched, seed, want_hidden)
        if placement is None:
            found[f"unplaced_{kind}"].append(1.0)
            continue
        view = place_.fitted(CLIP_HW, placement.crop)
        T_true_motion = torch.linalg.inv(s.camera.T_cam_world) @ view.camera.T_cam_world @ placement.T_world_motion
        world = touched @ T_true_motion[:3, :3].T + T_true_motion[:3, 3]
        found[f"penetration_{kind}"].append(100 * penetration_m(s.room, world.numpy()))
        found[f"foot_{kind}"] += list(100 * feet_off_ground_m(avatar.body, moved, T_true_motion))
        found[f"height_{kind}"].append(height_error_pct(view.camera, s.camera, placement, moved.height_m))
        index = len(moved.motion) // 2
        occlusion_errors(s, avatar, moved, index, kind, placement.crop, T_true_motion, found)
        if kind == "true":
            # noise keeps people away from furniture; the same spot with noisy depth is the harder question
            occlusion_errors(s, avatar, moved, index, "noisy", placement.crop, T_true_motion, found)
            found["height_ground"].append(height_error_ground_pct(s, placement, view.camera, moved.height_m))
            label_errors(avatar, moved, placement, view, index, found)


def placed(
    place_: Background, moved: Retargeted, touched: torch.Tensor, seed: int, want_hidden: bool
) -> Placement | None:
    """A placement, behind something if wanted and possible."""
    wishes = [(0.04, 0.6), (0.0, 0.5)] if want_hidden else [(0.0, 0.5)]
    for hidden in wishes:
        rules = PlacementRules(person_height=(0.35, 0.85), heading_deg=(-90.0, 90.0), hidden=hidden)
        try:
            return place(
                moved.swept, moved.height_m, place_.camera, CLIP_HW, rules, seed, floor=place_.floor, touched=touched
            )
        except NoPlacement:
            continue
    return None


def penetration_m(room: Room, points: np.ndarray) -> float:
    """How deep the deepest point is inside a box or cylinder of the room; its floor is left out."""
    deepest = 0.0
    for part in room.parts[1:]:
        c, s = np.cos(np.radians(part.yaw_deg)), np.sin(np.radians(part.yaw_deg))
        R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        local = (points - np.array(part.center)) @ R
        half = np.array(part.size) / 2
        if part.center[1] + half[1] < 0.02:
            continue  # a rug
        inside = half - np.abs(local)
        if part.round:
            across = half[0] - np.hypot(local[:, 0], local[:, 2])
            inside = np.stack([across, inside[:, 1], across], 1)
        deepest = max(deepest, float(inside.min(1).max()))
    return deepest


def feet_off_ground_m(body: Body, moved: Retargeted, T_true_motion: torch.Tensor) -> np.ndarray:
    """Height over (or depth under) the true floor of the lowest point of each foot while it touches the ground."""
    soles = Soles.of(body, moved.motion.betas)
    motion = moved.motion
    points = body.pose(motion.poses, motion.betas, motion.transl).points(soles.points)
    y = (points @ T_true_motion[1, :3] + T_true_motion[1, 3]).numpy()
    lowest = np.stack([y[:, soles.left].min(1), y[:, soles.right].min(1)], 1)
    return np.abs(lowest[moved.contact.numpy()])


def height_error_pct(estimated: Camera, true: Camera, placement: Placement, height_m: float) -> float:
    """Apparent height of somebody at the spot, against somebody of that height whose feet are in the same pixel."""
    spot = torch.tensor([[placement.x_m, 0.0, placement.z_m]])
    seen = estimated.project(torch.cat([spot, spot + torch.tensor([[0.0, height_m, 0.0]])]))
    window = replace(true, K=estimated.K, size_hw=estimated.size_hw)
    truth = ground_point(window, seen[:1])
    right = window.project(torch.cat([truth, truth + torch.tensor([[0.0, height_m, 0.0]])]))
    return 100 * abs(float((seen[0] - seen[1]).norm() / (right[0] - right[1]).norm()) - 1)


def height_error_ground_pct(s: Set, placement: Placement, view: Camera, height_m: float) -> float:
    """The same for the camera that was only told about, at the same pixel."""
    spot = torch.tensor([[placement.x_m, 0.0, placement.z_m]])
    window = replace(s.ground, K=view.K, size_hw=view.size_hw)
    on_ground = ground_point(window, view.project(spot))[0]
    there = replace(placement, x_m=float(on_ground[0]), z_m=float(on_ground[2]))
    return height_error_pct(window, s.camera, there, height_m)


def occlusion_errors(
    s: Set, avatar: Avatar, moved: Retargeted, index: int, kind: str, crop: tuple[float, float],
    T_true_motion: torch.Tensor, found: dict[str, list[float]],
) -> None:  # fmt: skip
    """Occlusion of somebody at a spot of the true room, by one of the places' depth."""
    view = (s.true if kind == "true" else s.noisy).fitted(CLIP_HW, crop)
    T_world_motion = torch.linalg.inv(view.camera.T_cam_world) @ s.camera.T_cam_world @ T_true_motion
    scene = StagedClip.of(view, T_world_motion)
    drawn = scene.draw(one_frame(avatar, moved, index), StageClock()).people[0]
    iou, hidden = occlusion_iou(s, avatar, moved, index, scene, T_true_motion, drawn)
    found[f"iou_all_{kind}"].append(iou)
    if hidden > 0.01:
        found[f"iou_{kind}"].append(iou)
        found[f"hidden_{kind}"].append(hidden)


def occlusion_iou(
    s: Set, avatar: Avatar, moved: Retargeted, index: int, scene: StagedClip, T_true_motion: torch.Tensor, drawn: Drawn
) -> tuple[float, float]:
    """Of the person's visible pixels with those that a hard test at four times the size finds in the true room; and
    the share that is hidden in truth."""
    height, width = CLIP_HW
    fine = replace(s.camera, K=scene.camera.K, size_hw=CLIP_HW).resized((4 * height, 4 * width))
    hit = s.rays.cast(fine, 0.5, 0.5)
    floor = np.abs(hit.points[:, 1]) < 1e-3
    room_m = torch.from_numpy(np.where(floor, np.inf, hit.depth)).float().reshape(fine.size_hw)
    g = one_frame(avatar, moved, index)
    camera = replace(fine, T_cam_world=s.camera.T_cam_world @ T_true_motion)
    render = rasterize(g, camera)
    pool = torch.nn.functional.avg_pool2d
    share = pool(render.alpha * (render.depth_m < room_m), 4)[0, 0] / pool(render.alpha, 4)[0, 0].clamp_min(1e-3)
    # the silhouette is the same on both sides: the rasterizer's own blur of a pixel is not what is asked for here
    whole = full(drawn.whole, drawn)
    truth = (whole * share >= 0.5).numpy()
    ours = (full(drawn.alpha, drawn) >= 0.5).numpy()
    hidden = 1 - truth.sum() / max(int((whole >= 0.5).sum()), 1)
    return float((truth & ours).sum() / max(int((truth | ours).sum()), 1)), float(hidden)


def full(values: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    """A window's values in the whole frame."""
    whole = torch.zeros(CLIP_HW)
    whole[drawn.top : drawn.top + values.shape[0], drawn.left : drawn.left + values.shape[1]] = values
    return whole


def label_errors(
    avatar: Avatar, moved: Retargeted, placement: Placement, view: Background, index: int, found: dict[str, list[float]]
) -> None:
    """Joints against dots that are drawn where they are; the mask against the pixels of a white person on black."""
    film = CameraEffects(grain=1.0, distortion=(-0.08, 0.0), jpeg=90)
    scene = StagedClip.of(view, placement.T_world_motion, film=film)
    black = replace(scene, rgb=torch.zeros_like(scene.rgb), still=np.zeros_like(scene.still))
    labels = ClipLabels.of(moved, avatar.body, placement.T_world_motion, view.camera, film.distortion)
    shot = black.draw(one_frame(avatar, moved, index), StageClock())
    masks = MaskTrack(CLIP_HW, labels)
    masks.add(shot.people[0])
    mask = decode_rle(masks.counts[0], CLIP_HW)
    bright = shot.frame.max(-1) >= 128
    found["mask_iou"].append(float((mask & bright).sum() / max(int((mask | bright).sum()), 1)))
    bare = replace(black, depth_m=None)
    T_motion_world = torch.linalg.inv(placement.T_world_motion)
    joints = labels.joints_m[index] @ T_motion_world[:3, :3].T + T_motion_world[:3, 3]
    for j in range(0, 22, 3):
        dot = Gaussians(
            joints[j : j + 1], torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.02), torch.ones(1), torch.ones(1, 3)
        )
        drawn = bare.draw(dot, StageClock()).people[0]
        rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in drawn.alpha.shape), indexing="ij")
        total = drawn.alpha.sum()
        at = torch.stack(
            [(columns * drawn.alpha).sum() / total + drawn.left, (rows * drawn.alpha).sum() / total + drawn.top]
        )
        found["joint_px"].append(float((at - labels.pixels(labels.joints_m)[index, j]).norm()))


def edge_error(body: Body) -> float:
    """Largest deviation from alpha * person + (1 - alpha) * place, white on black and black on white, in [0, 1]."""
    moved_avatar = plain_avatar(body, torch.zeros(body.n_betas), 20_000)
    g = moved_avatar.canonical()
    worst = 0.0
    for person, place_ in ((1.0, 0.0), (0.0, 1.0)):
        camera = Camera.level(focal_px=300.0, size_hw=CLIP_HW, distance_m=3.0)
        rgb = torch.full((3, *CLIP_HW), place_)
        background = Background(rgb, torch.full((1, *CLIP_HW), torch.inf), camera)
        colored = replace(g, colors=torch.full_like(g.colors, person))
        shot = StagedClip.of(background, torch.eye(4)).draw(colored, StageClock())
        drawn = shot.people[0]
        alpha = np.zeros(CLIP_HW)
        height, width = drawn.alpha.shape
        alpha[drawn.top : drawn.top + height, drawn.left : drawn.left + width] = drawn.alpha.numpy()
        exact = alpha * person + (1 - alpha) * place_
        worst = max(worst, float(np.abs(shot.frame / 255.0 - exact[..., None]).max()))
    return worst


def cost(body: Body, frames: int = 40) -> dict[str, float]:
    """Milliseconds a frame and stage of composing at 512 x 512 with occlusion, shadow, relighting and grain; the
    rasterizer's own time is in `benchmark_rasterizer.py`."""
    torch.set_num_threads(2)
    avatar = plain_avatar(body, torch.zeros(body.n_betas), 100_000, gray=0.5)
    g = avatar.canonical()
    g = replace(g, means=g.means - torch.tensor([0.0, float(g.means[:, 1].min()), 0.0]))
    size_hw = (512, 512)
    camera = camera_over_ground(size_hw=size_hw, focal_px=700.0, camera_height_m=1.5, pitch=0.12)
    depth_m = torch.full((1, *size_hw), torch.inf)
    depth_m[:, 300:380, 180:260] = 2.0
    background = Background(torch.rand(3, *size_hw), depth_m, camera)
    T = torch.eye(4)
    T[2, 3] = -3.2
    normals = normals_in_gaussians(avatar.quats, avatar.rig.normals)
    scene = StagedClip.of(background, T, gain=torch.full((3,), 0.9), shadow=ShadowLight(), light=preset_light("day"),
                     film=CameraEffects(grain=1.0), local_normals=normals)  # fmt: skip
    for i in range(5):
        scene.draw(g, StageClock(), i)
    runs = []
    for _ in range(5):
        clock = StageClock()
        for i in range(frames // 5):
            scene.draw(g, clock, i)
        runs.append({k: 1000 * v / (frames // 5) for k, v in clock.seconds.items() if k != "rasterize"})
    best = min(runs, key=lambda run: sum(run.values()))
    return {key: round(value, 3) for key, value in best.items()}


def summary(found: dict[str, list[float]]) -> dict[str, float]:
    """The published numbers, and beside them how many and what else."""

    def mean(key: str) -> float:
        return float(np.mean(found[key])) if found[key] else float("nan")

    return {
        "foot_ground_cm_p95": float(np.quantile(found["foot_true"], 0.95)),
        "furniture_penetration_cm_max": max(found["penetration_true"]),
        "occlusion_iou_true_depth": mean("iou_true"),
        "occlusion_iou_noisy_depth": mean("iou_noisy"),
        "height_error_metric_pct": float(np.quantile(found["height_true"], 0.95)),
        "height_error_ground_pct": float(np.quantile(found["height_ground"], 0.95)),
        "joint_reprojection_px": max(found["joint_px"]),
        "mask_iou": min(found["mask_iou"]),
        "edge_error_max": max(found["edge_error_max"]),
        "placements": len(found["iou_all_true"]),
        "unplaced": len(found["unplaced_true"]),
        "unplaced_noisy": len(found["unplaced_noisy"]),
        "with_something_hidden": len(found["iou_true"]),
        "with_something_hidden_noisy": len(found["iou_noisy"]),
        "hidden_share_mean": mean("hidden_true"),
        "occlusion_iou_true_min": min(found["iou_true"], default=float("nan")),
        "occlusion_iou_noisy_min": min(found["iou_noisy"], default=float("nan")),
        "occlusion_iou_all_true": mean("iou_all_true"),
        "occlusion_iou_all_noisy": mean("iou_all_noisy"),
        "noisy_foot_ground_cm_p95": float(np.quantile(found["foot_noisy"], 0.95)),
        "noisy_furniture_penetration_cm_max": max(found["penetration_noisy"]),
        "noisy_height_error_pct": float(np.quantile(found["height_noisy"], 0.95)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
