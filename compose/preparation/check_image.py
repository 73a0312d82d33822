"""PreparedPlace -> one picture that shows everything that was found: floor, horizon, people to scale, depth, light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from avatars.geometry.color import srgb_from_linear
from compose.places.ground import ground_point

if TYPE_CHECKING:
    from PIL.Image import Image

    from compose.places.place_folder import PreparedPlace

_GREEN, _YELLOW, _RED, _WHITE = (60, 220, 90), (255, 220, 40), (240, 60, 50), (255, 255, 255)
_BLUE, _ORANGE = (40, 110, 255), (255, 140, 20)
PERSON_M = 1.7


def draw_check(place: PreparedPlace, *, width_px: int = 960) -> Image:
    """Free floor in green with a grid of meters, in blue where something stands before it, where that stands (orange),
    the horizon, sticks of 1.7 m, the depth, and the light on a ball."""
    from PIL import Image, ImageDraw

    scale = width_px / place.rgb.shape[1]
    size_hw = (max(round(place.rgb.shape[0] * scale), 120), width_px)
    camera = place.camera.resized(size_hw)
    picture = np.asarray(Image.fromarray(place.rgb).resize((size_hw[1], size_hw[0]))).astype(np.float32)
    visible = _nearest(place.floor_pixels, size_hw)
    floor = place.floor.per_pixel(camera) & visible
    picture[floor] = 0.65 * picture[floor] + 0.35 * np.array(_GREEN)
    if place.behind is not None:
        hidden = place.floor.per_pixel(camera) & _nearest(place.behind, size_hw)
        picture[hidden] = 0.65 * picture[hidden] + 0.35 * np.array(_BLUE)
    canvas = Image.fromarray(picture.astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    _grid(draw, camera)
    _horizon(draw, camera)
    _occupied(draw, camera, place)
    _people(draw, camera, place, floor)
    strip = Image.new("RGB", (width_px, 150), (25, 25, 25))
    strip.paste(_depth_picture(place.depth_m).resize((200, 140)), (5, 5))
    strip.paste(_ball(place.light), (215, 5))
    ImageDraw.Draw(strip).multiline_text((370, 8), _text(place), fill=_WHITE, spacing=3)
    sheet = Image.new("RGB", (width_px, size_hw[0] + 150))
    sheet.paste(canvas, (0, 0))
    sheet.paste(strip, (0, size_hw[0]))
    return sheet


def _nearest(mask: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    from compose.preparation.depth import nearest_resized

    return nearest_resized(mask, size_hw)


def _grid(draw, camera) -> None:
    """Lines of one meter on the ground."""
    reach = np.linspace(0.3, 12.0, 120)
    lines = [np.stack([np.full(120, x), np.zeros(120), -reach], -1) for x in range(-5, 6)]
    lines += [np.stack([np.linspace(-6, 6, 120), np.zeros(120), np.full(120, -z)], -1) for z in range(1, 12)]
    for line in lines:
        points = torch.from_numpy(line.astype(np.float32))
        front = camera.to_camera(points)[:, 2] > 0.2
        pixels = camera.project(points[front]).numpy()
        if len(pixels) > 1:
            draw.line([tuple(p) for p in pixels], fill=(120, 200, 140), width=1)


def _horizon(draw, camera) -> None:
    far = torch.tensor([[-4e4, 0.0, -1e4], [4e4, 0.0, -1e4]])
    far[:, 1] = float(-(camera.T_cam_world[:3, :3].T @ camera.T_cam_world[:3, 3])[1])
    draw.line([tuple(p) for p in camera.project(far).numpy()], fill=_YELLOW, width=2)


def _occupied(draw, camera, place: PreparedPlace) -> None:
    """The floor on which occluders stand."""
    for found in place.occupied:
        x, ahead = (found.left_m, found.right_m), (max(found.near_m, 0.3), found.far_m)
        corners = [[x[i], 0.0, -ahead[j]] for i, j in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
        draw.line([tuple(p) for p in camera.project(torch.tensor(corners)).numpy()], fill=_ORANGE, width=2)


def _people(draw, camera, place: PreparedPlace, floor: np.ndarray) -> None:
    """Sticks as tall as a person where there is free floor, near and far."""
    rows, columns = np.nonzero(floor)
    if not len(rows):
        return
    order = np.random.default_rng(0).permutation(len(rows))[:400]
    spots = ground_point(camera, torch.tensor(np.stack([columns[order], rows[order]], -1) + 0.5, dtype=torch.float32))
    drawn: list[torch.Tensor] = []
    for spot in spots:
        if any(float((spot - other).norm()) < 1.2 for other in drawn) or len(drawn) >= 8:
            continue
        drawn.append(spot)
        ends = torch.stack([spot, spot + torch.tensor([0.0, PERSON_M, 0.0])])
        (x0, y0), (x1, y1) = camera.project(ends).numpy()
        draw.line([(x0, y0), (x1, y1)], fill=_RED, width=3)
        draw.ellipse([x1 - 5, y1 - 5, x1 + 5, y1 + 5], fill=_RED)
        draw.text((x0 + 5, y0 - 12), f"{-float(spot[2]):.1f} m", fill=_YELLOW)


def _depth_picture(depth_m: np.ndarray) -> Image:
    from PIL import Image

    near = np.where(np.isfinite(depth_m), 1.0 / np.maximum(depth_m, 0.3), 0.0)
    top = np.quantile(near, 0.99) + 1e-9
    return Image.fromarray((np.clip(near / top, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def _ball(light) -> Image:
    """A white ball under the light."""
    from PIL import Image

    y, x = np.mgrid[-70:70, -70:70] / 68.0
    inside = x * x + y * y < 1
    normals = np.stack([x, -y, np.sqrt(np.maximum(1 - x * x - y * y, 0))], -1).reshape(-1, 3)
    shaded = srgb_from_linear(0.5 * light.irradiance(torch.from_numpy(normals.astype(np.float32)))).numpy()
    picture = np.where(inside.reshape(-1, 1), np.clip(shaded, 0, 1) * 255, 25).reshape(140, 140, 3)
    return Image.fromarray(picture.astype(np.uint8))


def _text(place: PreparedPlace) -> str:
    from compose.places.place_folder import camera_angles

    height_m, pitch, roll = camera_angles(place.camera)
    lines = [
        f"{place.name}: {place.rgb.shape[1]} x {place.rgb.shape[0]}, focal {float(place.camera.K[0, 0]):.0f} px",
        f"camera {height_m:.2f} m high, {pitch:.1f} deg down, roll {roll:.1f} deg",
        f"depth: {place.depth_kind}, noise {100 * place.depth_noise:.1f}%",
        f"free floor {place.floor.area_m2:.1f} m2",
        "assumed: " + (", ".join(place.assumed) or "nothing"),
        *[f"{key}: {value}" for key, value in place.measured.items()][:4],
    ]
    return "\n".join(line[:95] for line in lines)
