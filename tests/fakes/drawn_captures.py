"""Drawn captures of somebody who turns before walls of many kinds, by a camera that stands still or moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

MARGIN = 0.2
"""The drawn wall goes on by this share of the frame's longer side beyond each of the frame's borders."""
FRAMES = 24

Canvas = np.ndarray
"""(height, width, 3) float32 in [0, 255]."""


@dataclass(frozen=True)
class DrawnCapture:
    """One clip: what it is made of, and its frames."""

    name: str
    wall: str
    camera: str
    """Name of a function of `CAMERAS`."""
    size_hw: tuple[int, int] = (512, 512)
    extra: str = ""
    """What moves beside the person: a key of `EXTRAS`, or nothing."""
    noise: float = 2.0
    seed: int = 0
    travel: float = 0.03
    """How far the camera moves, as a share of the longer side, where it does."""

    def frames(self, count: int = FRAMES) -> np.ndarray:
        """(frames, height, width, 3) uint8."""
        rng = np.random.default_rng(self.seed)
        height, width = self.size_hw
        pad = round(MARGIN * max(height, width))
        wall = WALLS[self.wall](height, width, pad, rng)
        out = []
        for i in range(count):
            u = i / (count - 1)
            canvas = wall.copy()
            if self.extra:
                EXTRAS[self.extra](canvas, height, width, pad, u, rng)
            _person(canvas, height, width, pad, u)
            matrix = CAMERAS[self.camera](u, self.travel * max(height, width), (height, width), pad)
            seen = cv2.warpAffine(canvas, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            seen = seen + rng.normal(0.0, self.noise, seen.shape)
            out.append(np.clip(seen, 0, 255).astype(np.uint8))
        return np.stack(out)


def _plain(height: int, width: int, pad: int, rng: np.random.Generator, level: float = 205.0) -> Canvas:
    """A wall, lit a little from one side."""
    across = np.linspace(-12, 12, width + 2 * pad)[None, :, None]
    down = np.linspace(6, -6, height + 2 * pad)[:, None, None]
    return (level + across + down + np.zeros(3)).astype(np.float32)


def _rect(canvas: Canvas, pad: int, box: tuple[float, float, float, float], color) -> None:
    """Fill left, top, right, bottom, given as shares of the frame."""
    height, width = canvas.shape[0] - 2 * pad, canvas.shape[1] - 2 * pad
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(box, (width, height, width, height), strict=True))
    cv2.rectangle(canvas, (pad + x0, pad + y0), (pad + x1, pad + y1), color, -1, cv2.LINE_AA)


def _skirting(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    canvas = _plain(height, width, pad, rng)
    _rect(canvas, pad, (-1, 0.85, 2, 0.89), (235, 235, 238))
    _rect(canvas, pad, (-1, 0.89, 2, 2), (150, 120, 95))
    return canvas


def _bright(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    return _plain(height, width, pad, rng, level=238.0)


def _leaning(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    """A skirting board that runs at a slant."""
    canvas = _plain(height, width, pad, rng)
    cv2.line(canvas, (0, pad + round(0.80 * height)), (width + 2 * pad, pad + round(0.92 * height)), (120, 112, 105), 9)
    return canvas


def _corner(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    """Two walls that meet in one upright edge."""
    canvas = _plain(height, width, pad, rng)
    canvas[:, : pad + round(0.14 * width)] -= 45
    return canvas


def _paper(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    """A paper roll that hangs down to a wooden floor with upright-looking seams."""
    canvas = _plain(height, width, pad, rng)
    for i in range(-10, 30):
        _rect(canvas, pad, (i * 0.06, -1, i * 0.06 + 0.03, 2), tuple((canvas[pad, pad] - 25).tolist()))
    return canvas


def _picture(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    """A skirting board and one picture."""
    canvas = _skirting(height, width, pad, rng)
    left = 0.04
    _rect(canvas, pad, (left, 0.2, left + 0.17, 0.42), (70, 50, 40))
    _rect(canvas, pad, (left + 0.02, 0.22, left + 0.15, 0.40), (225, 215, 190))
    _rect(canvas, pad, (left + 0.05, 0.25, left + 0.11, 0.34), (60, 110, 90))
    return canvas


def _door(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    """A skirting board, a door and a light switch beside it."""
    canvas = _skirting(height, width, pad, rng)
    _rect(canvas, pad, (0.80, 0.12, 0.97, 0.89), (165, 140, 115))
    _rect(canvas, pad, (0.83, 0.17, 0.94, 0.45), (150, 125, 100))
    _rect(canvas, pad, (0.83, 0.52, 0.94, 0.82), (150, 125, 100))
    _rect(canvas, pad, (0.73, 0.46, 0.765, 0.50), (120, 120, 125))
    return canvas


def _tiles(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    canvas = _plain(height, width, pad, rng)
    for i in range(-12, 40):
        _rect(canvas, pad, (i * 0.07, -1, i * 0.07 + 0.004, 2), (120, 120, 120))
        _rect(canvas, pad, (-1, i * 0.07, 2, i * 0.07 + 0.004), (120, 120, 120))
    return canvas + cv2.resize(rng.normal(0, 6, (60, 60, 1)).astype(np.float32), canvas.shape[1::-1])[..., None]


def _room(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    """Shelves and things of many colors."""
    canvas = _skirting(height, width, pad, rng)
    for _ in range(60):
        x, y = rng.uniform(-0.15, 1.15), rng.uniform(-0.1, 0.9)
        w, h = rng.uniform(0.02, 0.12, 2)
        _rect(canvas, pad, (x, y, x + w, y + h), tuple(rng.uniform(30, 230, 3).tolist()))
    return canvas


def _pegs(height: int, width: int, pad: int, rng: np.random.Generator) -> Canvas:
    """A bare wall with a few small dark things on both sides: a socket, a hook, a thermostat, a vent."""
    canvas = _skirting(height, width, pad, rng)
    for x, y, w, h in (
        (0.06, 0.74, 0.05, 0.05),
        (0.1, 0.2, 0.04, 0.06),
        (0.85, 0.3, 0.06, 0.04),
        (0.9, 0.7, 0.05, 0.05),
    ):
        _rect(canvas, pad, (x, y, x + w, y + h), (95, 95, 100))
        _rect(canvas, pad, (x + w / 4, y + h / 4, x + w / 2, y + h / 2), (190, 185, 180))
    return canvas


WALLS: dict[str, Callable[[int, int, int, np.random.Generator], Canvas]] = {
    "bare": _plain, "bright": _bright, "skirting": _skirting, "leaning": _leaning, "corner": _corner, "stripes": _paper,
    "picture": _picture, "door": _door, "tiles": _tiles, "room": _room, "pegs": _pegs,
}  # fmt: skip


def _person(canvas: Canvas, height: int, width: int, pad: int, u: float) -> None:
    """A body of ellipses whose shirt's pattern wanders across it as it turns; arms held a little out; a soft shadow."""
    turn = 2 * np.pi * u
    x, foot, tall = pad + 0.5 * width + 0.01 * width * np.sin(turn), pad + 0.93 * height, 0.82 * height
    shade = np.zeros(canvas.shape[:2], np.float32)
    cv2.ellipse(
        shade, (round(x + 0.03 * width), round(foot)), (round(0.16 * tall), round(0.03 * tall)), 0, 0, 360, 0.35, -1
    )
    canvas *= (1 - cv2.GaussianBlur(shade, (0, 0), 5))[..., None]
    wide = 0.10 + 0.03 * abs(np.cos(turn))
    for side in (-1, 1):
        arm = x + side * (wide + 0.02 + 0.05 * abs(np.cos(turn))) * tall
        ends = (round(x + side * wide * 0.8 * tall), round(foot - 0.78 * tall)), (round(arm), round(foot - 0.42 * tall))
        cv2.line(canvas, *ends, (205, 160, 130), round(0.05 * tall), cv2.LINE_AA)
        leg = (round(x + side * 0.05 * tall), round(foot - 0.45 * tall)), (round(x + side * 0.06 * tall), round(foot))
        cv2.line(canvas, *leg, (50, 55, 90), round(0.085 * tall), cv2.LINE_AA)
        cv2.ellipse(
            canvas, (leg[1][0], round(foot)), (round(0.05 * tall), round(0.025 * tall)), 0, 0, 360, (240, 240, 240), -1
        )
    cv2.ellipse(
        canvas,
        (round(x), round(foot - 0.64 * tall)),
        (round(wide * tall), round(0.2 * tall)),
        0,
        0,
        360,
        (170, 60, 50),
        -1,
    )
    for k in range(6):
        at = turn + k * np.pi / 3
        if np.cos(at) > 0.1:
            dot = (round(x + 0.85 * wide * tall * np.sin(at)), round(foot - (0.55 + 0.04 * k) * tall))
            cv2.circle(canvas, dot, round(0.018 * tall), (235, 220, 120), -1, cv2.LINE_AA)
    cv2.ellipse(
        canvas,
        (round(x), round(foot - 0.91 * tall)),
        (round(0.055 * tall), round(0.075 * tall)),
        0,
        0,
        360,
        (190, 145, 120),
        -1,
    )


def _darken(canvas: Canvas, shade: np.ndarray) -> None:
    canvas *= (1 - shade)[..., None]


def _soft_shadow(canvas: Canvas, height: int, width: int, pad: int, u: float, rng) -> None:
    _shadow(canvas, height, width, pad, u, softness=0.02, depth=0.3)


def _hard_shadow(canvas: Canvas, height: int, width: int, pad: int, u: float, rng) -> None:
    _shadow(canvas, height, width, pad, u, softness=0.002, depth=0.45)


def _shadow(canvas: Canvas, height: int, width: int, pad: int, u: float, softness: float, depth: float) -> None:
    """The person's shadow on the wall beside them, which changes as they turn and sway."""
    turn, tall = 2 * np.pi * u, 0.75 * height
    x, foot = pad + (0.84 + 0.05 * np.sin(turn)) * width, pad + 0.9 * height
    shade = np.zeros(canvas.shape[:2], np.float32)
    wide = (0.08 + 0.05 * abs(np.cos(turn))) * tall
    cv2.ellipse(shade, (round(x), round(foot - 0.62 * tall)), (round(wide), round(0.22 * tall)), 0, 0, 360, depth, -1)
    cv2.ellipse(
        shade, (round(x), round(foot - 0.92 * tall)), (round(0.06 * tall), round(0.08 * tall)), 0, 0, 360, depth, -1
    )
    for side in (-1, 1):
        cv2.line(
            shade,
            (round(x), round(foot - 0.45 * tall)),
            (round(x + side * 0.4 * wide), round(foot)),
            depth,
            round(0.06 * tall),
        )
        arm = round(x + side * (wide + 0.05 * tall)), round(foot - 0.4 * tall)
        cv2.line(shade, (round(x + side * 0.7 * wide), round(foot - 0.7 * tall)), arm, depth, round(0.04 * tall))
    _darken(canvas, cv2.GaussianBlur(shade, (0, 0), max(softness * height, 0.6)))


def _sun_patch(canvas: Canvas, height: int, width: int, pad: int, u: float, rng) -> None:
    """Leaves before a window: a patch of light and dark that sways on one side of the wall."""
    shade = np.zeros(canvas.shape[:2], np.float32)
    leaf = np.random.default_rng(3)
    for _ in range(14):
        x, y = leaf.uniform(0.02, 0.22), leaf.uniform(0.1, 0.6)
        sway = 0.03 * np.sin(2 * np.pi * (2 * u + leaf.uniform()))
        center = (round(pad + (x + sway) * width), round(pad + (y + 0.3 * sway) * height))
        cv2.ellipse(shade, center, (round(0.02 * width), round(0.012 * height)), 360 * leaf.uniform(), 0, 360, 0.3, -1)
    _darken(canvas, cv2.GaussianBlur(shade, (0, 0), 0.006 * height))


def _fan(canvas: Canvas, height: int, width: int, pad: int, u: float, rng) -> None:
    """Three blades that turn on a post."""
    x, y, reach = round(pad + 0.13 * width), round(pad + 0.45 * height), round(0.1 * width)
    cv2.line(canvas, (x, y), (x, round(pad + 0.92 * height)), (70, 70, 75), 5)
    for k in range(3):
        at = 40.0 * u + k * 2 * np.pi / 3 + rng.uniform(0, 0.4)
        tip = (round(x + reach * np.cos(at)), round(y + reach * np.sin(at)))
        cv2.line(canvas, (x, y), tip, (110, 130, 160), round(0.05 * width), cv2.LINE_AA)
    cv2.circle(canvas, (x, y), reach + 6, (60, 60, 65), 2, cv2.LINE_AA)


def _screen(canvas: Canvas, height: int, width: int, pad: int, u: float, rng) -> None:
    """A television in whose picture the camera pans."""
    _rect(canvas, pad, (0.78, 0.2, 0.99, 0.42), (25, 25, 28))
    scene = np.random.default_rng(5).integers(20, 235, (12, 60, 3)).astype(np.float32)
    scene = cv2.resize(scene, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    x0, y0 = round(pad + 0.795 * width), round(pad + 0.22 * height)
    x1, y1 = round(pad + 0.975 * width), round(pad + 0.40 * height)
    start = u * (scene.shape[1] - (x1 - x0) - 1)
    shift = np.array([[1, 0, start], [0, 1, 0]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    canvas[y0:y1, x0:x1] = cv2.warpAffine(scene, shift, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_WRAP)


def _curtain(canvas: Canvas, height: int, width: int, pad: int, u: float, rng) -> None:
    """A patterned curtain that sways most at its hem, hung at one side."""
    top, bottom = round(pad + 0.05 * height), round(pad + 0.75 * height)
    cloth = np.random.default_rng(6).integers(90, 230, (20, 6, 3)).astype(np.float32)
    cloth = cv2.resize(cloth, (round(0.18 * width), bottom - top), interpolation=cv2.INTER_CUBIC)
    for y in range(top, bottom):
        x = round(pad + 0.03 * width + 0.05 * width * (y - top) / (bottom - top) * np.sin(2 * np.pi * 1.5 * u))
        canvas[y, x : x + cloth.shape[1]] = cloth[y - top]


def _lamps(canvas: Canvas, height: int, width: int, pad: int, u: float, rng) -> None:
    """Automatic exposure: everything grows darker, then brighter."""
    canvas *= 0.9 + 0.1 * np.cos(2 * np.pi * u)


EXTRAS: dict[str, Callable[..., None]] = {
    "soft shadow": _soft_shadow, "hard shadow": _hard_shadow, "leaves' shadow": _sun_patch, "fan": _fan,
    "television": _screen, "curtain": _curtain, "exposure": _lamps,
}  # fmt: skip


def _matrix(pad: int, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return np.array([[1, 0, pad + x], [0, 1, pad + y]], np.float64)


def _about_middle(size_hw: tuple[int, int], pad: int, degrees: float = 0.0, scale: float = 1.0) -> np.ndarray:
    height, width = size_hw
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    A = np.array([[c, -s], [s, c]])
    middle = np.array([width / 2, height / 2])
    return np.concatenate([A, (middle + pad - A @ middle)[:, None]], 1)


def _roll(u: float, px: float, size_hw: tuple[int, int], pad: int) -> np.ndarray:
    """Turns about the optical axis so far that the sides move by `px`."""
    return _about_middle(size_hw, pad, degrees=float(np.degrees(px / (0.4 * max(size_hw)))) * (u - 0.5))


def _wobble(u: float, px: float, size_hw: tuple[int, int], pad: int) -> np.ndarray:
    x, y = np.sin(2 * np.pi * 1.7 * u), np.sin(2 * np.pi * 2.9 * u + 1.0)
    return _matrix(pad, 0.5 * px * x, 0.5 * px * y)


def _walk(u: float, px: float, size_hw: tuple[int, int], pad: int) -> np.ndarray:
    return _about_middle(size_hw, pad, scale=1.0 - px / (0.4 * max(size_hw)) * (u - 0.5))


CAMERAS: dict[str, Callable[[float, float, tuple[int, int], int], np.ndarray]] = {
    "still": lambda u, px, size_hw, pad: _matrix(pad),
    "pan": lambda u, px, size_hw, pad: _matrix(pad, px * (u - 0.5)),
    "tilt": lambda u, px, size_hw, pad: _matrix(pad, 0.0, px * (u - 0.5)),
    "knocked": lambda u, px, size_hw, pad: _matrix(pad, px * (u > 0.6), 0.4 * px * (u > 0.6)),
    "handheld": _wobble,
    "roll": _roll,
    "walking in": _walk,
}  # fmt: skip

_SIZES = ((512, 512), (480, 640), (640, 360), (360, 640))


def still_captures() -> list[DrawnCapture]:
    """40 captures by a camera that stands still."""
    walls = ("bare", "skirting", "corner", "leaning", "bright", "picture", "door", "pegs", "stripes", "room")
    extras = ("", "soft shadow", "hard shadow", "leaves' shadow", "fan", "television", "curtain", "exposure")
    made = [DrawnCapture(f"{wall}, nothing else", wall, "still", seed=i) for i, wall in enumerate(walls)]
    for i, extra in enumerate(extras[1:]):
        for j, wall in enumerate(("bare", "skirting", "corner", "picture")):
            size = _SIZES[(i + j) % 4]
            made.append(DrawnCapture(f"{wall}, {extra}", wall, "still", size, extra, 1.0 + j, 100 + 4 * i + j))
    made += [
        DrawnCapture("skirting, much noise", "skirting", "still", noise=8.0, seed=200),
        DrawnCapture("room, much noise", "room", "still", (360, 640), noise=8.0, seed=201),
    ]
    return made


def moved_captures() -> list[DrawnCapture]:
    """40 captures by a camera that moves by 2 % of the frame and more, before walls that tell."""
    made = []
    for i, camera in enumerate(("pan", "tilt", "knocked", "handheld", "roll", "walking in")):
        for j, wall in enumerate(("room", "door", "pegs", "picture", "tiles", "room")):
            travel, size = (0.02, 0.025, 0.04, 0.06, 0.03, 0.1)[j], _SIZES[(i + j) % 4]
            if wall == "picture":
                travel = 0.06
            made.append(DrawnCapture(f"{camera}, {wall}", wall, camera, size, "", 1.0 + j % 3, 300 + 6 * i + j, travel))
    made += [
        DrawnCapture("pan, room, television", "room", "pan", extra="television", travel=0.03, seed=401),
        DrawnCapture("handheld, door, soft shadow", "door", "handheld", extra="soft shadow", travel=0.05, seed=402),
        DrawnCapture("pan, pegs, fan", "pegs", "pan", extra="fan", travel=0.05, seed=403),
        DrawnCapture("tilt, door, exposure", "door", "tilt", extra="exposure", travel=0.03, seed=404),
    ]
    return made
