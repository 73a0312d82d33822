"""BVH text into a skeleton with its channels, and back.

The format (Biovision Hierarchical Data; Lander 1998, "Working with motion capture file formats") gives each joint an
offset from its parent and a list of channels. Rotation channels apply in the order in which they are listed, each about
the axis that the ones before it have turned: `Zrotation Xrotation Yrotation` is R = Rz Rx Ry on column vectors.
Position channels replace the joint's offset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from avatars.errors import InputError
from avatars.io.files import atomic_path

END_SUFFIX = "_end"
_SLOWEST_HZ, _FASTEST_HZ = 2, 2000
_RATES = tuple(map(Fraction, (10, 12, 15, 20, 24, 25, 30, 50, 60, 72, 90, 100, 120, 144, 150, 200, 240, 250, 300)))
"""What a coarsely printed time, or one in another unit than seconds, is taken for."""
_CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ")
_GLUED = re.compile(r"(?<=[0-9.])(?=-)")
"""Between two numbers that a writer of columns of fixed width has left no space between: `0.0000-0.5`."""
_CANONICAL_CHANNEL = {name.lower(): name for name in _CHANNELS}


@dataclass(frozen=True, slots=True, eq=False)
class Bvh:
    """One skeleton and its motion, in the file's own axes and length unit."""

    names: tuple[str, ...]
    """Joints, each after its parent; an end site is named after its parent with `_end`."""
    parents: tuple[int, ...]
    """-1 for the root."""
    offsets: Float[np.ndarray, "joints 3"]
    channels: tuple[tuple[str, ...], ...]
    """Per joint, as the file lists them; empty for end sites."""
    values: Float[np.ndarray, "frames channels"]
    """Positions in the file's unit, rotations in degrees."""
    fps: Fraction

    def __len__(self) -> int:
        return self.values.shape[0]

    def local_pose(self) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
        """Each joint's rotation and position relative to its parent."""
        frames, joints = len(self), len(self.names)
        rotations = np.broadcast_to(np.eye(3), (frames, joints, 3, 3)).copy()
        positions = np.broadcast_to(self.offsets, (frames, joints, 3)).copy()
        column = 0
        for joint, channels in enumerate(self.channels):
            for channel in channels:
                axis = "XYZ".index(channel[0])
                if channel.endswith("position"):
                    positions[:, joint, axis] = self.values[:, column]
                else:
                    rotations[:, joint] = rotations[:, joint] @ axis_rotation(axis, self.values[:, column])
                column += 1
        return rotations, positions

    def global_pose(self) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
        """Each joint's rotation and position in the file's world."""
        rotations, positions = self.local_pose()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                positions[:, joint] = positions[:, parent] + _turn(rotations[:, parent], positions[:, joint])
                rotations[:, joint] = rotations[:, parent] @ rotations[:, joint]
        return rotations, positions

    def rest_positions(self) -> Float[np.ndarray, "joints 3"]:
        """Joints with all rotations zero and the root at the origin."""
        rest = np.zeros_like(self.offsets)
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                rest[joint] = rest[parent] + self.offsets[joint]
        return rest


def axis_rotation(axis: int, degrees: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "frames 3 3"]:
    """Rotation about a coordinate axis (0, 1, 2 for x, y, z)."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1.0
    matrix[..., i, i] = matrix[..., j, j] = cos
    matrix[..., j, i] = sin
    matrix[..., i, j] = -sin
    return matrix


def euler_zxy(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Degrees (z, x, y) with R = Rz Rx Ry; at x = +-90 degrees, where z and y are one motion, y is 0."""
    x = np.arcsin(np.clip(matrix[..., 2, 1], -1.0, 1.0))
    locked = np.abs(matrix[..., 2, 1]) > 1.0 - 1e-12
    z = np.arctan2(-matrix[..., 0, 1], matrix[..., 1, 1])
    y = np.arctan2(-matrix[..., 2, 0], matrix[..., 2, 2])
    z = np.where(locked, np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0]), z)
    return np.rad2deg(np.stack([z, x, np.where(locked, 0.0, y)], -1))


def read_bvh(path: str | Path) -> Bvh:
    """Parse a BVH file.

    Raises InputError, naming the file and what is wrong, for all that is not one whole skeleton with finite motion.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise InputError(f"No motion file at {path}.") from None
    head, found, tail = text.partition("MOTION")
    if not head.lstrip("\ufeff \t\r\n").upper().startswith("HIERARCHY"):
        raise InputError(f"{path} is not a BVH file: it does not begin with HIERARCHY.")
    if not found:
        raise InputError(f"{path} has no MOTION section: the file is cut off, or holds a skeleton alone.")
    names, parents, offsets, channels = _parse_hierarchy(head, path)
    values, fps = _parse_motion(tail, sum(map(len, channels)), path)
    return Bvh(names, parents, offsets, channels, values, fps)


_Hierarchy = tuple[tuple[str, ...], tuple[int, ...], np.ndarray, tuple[tuple[str, ...], ...]]


def _parse_hierarchy(text: str, path: Path) -> _Hierarchy:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[tuple[str, ...]] = []
    open_joints: list[int] = []

    def fail(what: str) -> InputError:
        return InputError(f"{path} is not a valid BVH: {what}.")

    for line in re.sub(r"([{}])", r"\n\1\n", text).splitlines()[1:]:
        key, _, rest = line.strip().partition(" ") if "\t" not in line.strip() else line.strip().partition("\t")
        key, rest = key.upper(), rest.strip()
        if key in ("", "{"):
            continue
        if key in ("ROOT", "JOINT", "END"):
            if key == "ROOT" and names:
                raise fail(f"a second ROOT, {rest!r}; one file must hold one person")
            if key != "ROOT" and not open_joints:
                raise fail(f"{line.strip()!r} stands outside any joint")
            parent = open_joints[-1] if open_joints else -1
            names.append(names[parent] + END_SUFFIX if key == "END" else rest)
            parents.append(parent)
            offsets.append([])
            channels.append(())
            open_joints.append(len(names) - 1)
        elif key == "}":
            if not open_joints:
                raise fail("more closing than opening braces")
            joint = open_joints.pop()
            if not offsets[joint]:
                raise fail(f"joint {names[joint]!r} has no OFFSET")
        elif key == "OFFSET" and open_joints:
            offsets[open_joints[-1]] = _numbers(rest.split(), 3, f"OFFSET of {names[open_joints[-1]]!r}", path)
        elif key == "CHANNELS" and open_joints:
            channels[open_joints[-1]] = _parse_channels(rest.split(), names[open_joints[-1]], path)
        else:
            raise fail(f"unexpected line {line.strip()[:60]!r} in the hierarchy")
    if open_joints:
        raise fail(f"joint {names[open_joints[-1]]!r} is never closed (the file is cut off?)")
    if not names:
        raise fail("it has no ROOT")
    return tuple(names), tuple(parents), np.array(offsets, np.float64), tuple(channels)


def _parse_channels(tokens: list[str], joint: str, path: Path) -> tuple[str, ...]:
    found = tuple(_CANONICAL_CHANNEL.get(token.lower(), "") for token in tokens[1:])
    if not tokens or tokens[0] != str(len(found)) or "" in found or len(set(found)) != len(found):
        raise InputError(
            f"{path} is not a valid BVH: CHANNELS of {joint!r} are {' '.join(tokens)!r}; expected their number and "
            f"then names out of {', '.join(_CHANNELS)}."
        )
    return found


def _numbers(tokens: list[str], count: int, what: str, path: Path) -> list[float]:
    try:
        values = [float(token) for token in tokens]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f"{path} is not a valid BVH: {what} is {' '.join(tokens)[:60]!r}, expected {count} numbers.")
    return values


def _parse_motion(text: str, n_channels: int, path: Path) -> tuple[np.ndarray, Fraction]:
    header = re.match(r"\s*Frames\s*:\s*(\d+)\s*Frame\s+Time\s*:\s*(\S+)[^\n]*\n?", text, re.IGNORECASE)
    if not header:
        raise InputError(f"{path} is not a valid BVH: after MOTION come 'Frames: N' and 'Frame Time: seconds'.")
    frames = int(header[1])
    fps = frame_rate(header[2], path)
    rows = text[header.end() :].split()
    if len(rows) != frames * n_channels:
        apart = _GLUED.sub(" ", text[header.end() :]).split()
        rows = apart if len(apart) == frames * n_channels else rows
    if frames == 0 or n_channels == 0:
        raise InputError(f"{path} holds no motion ({frames} frames of {n_channels} channels).")
    if len(rows) != frames * n_channels:
        lines = [line for line in text[header.end() :].splitlines() if line.strip()]
        odd = next((i for i, line in enumerate(lines) if len(line.split()) != n_channels), None)
        where = "" if odd is None else f"; frame {odd} has {len(lines[odd].split())} numbers"
        raise InputError(
            f"{path} says {frames} frames of {n_channels} channels but holds {len(rows)} numbers in {len(lines)} lines"
            f"{where}. The file is cut off or its skeleton was changed; export it again."
        )
    try:
        values = np.array(rows, np.float64).reshape(frames, n_channels)
    except ValueError as error:
        raise InputError(f"{path}: the motion holds something that is no number ({error}).") from None
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values).all(1)))
        raise InputError(f"{path}: frame {bad} holds numbers that are not finite.")
    return values, fps


def frame_rate(frame_time: str, path: Path) -> Fraction:
    """The frame rate (Hz) that a printed frame time means.

    Seconds: a usual rate, a whole number, or one over 1.001 (29.97, 119.88), where the rounding of the printed digits
    allows it, else the reciprocal as printed. A number of 1 and more is no time between frames of a movement: it is a
    usual rate itself, or that rate's time in milliseconds or microseconds.

    Raises InputError for what can mean no rate, or two.
    """
    try:
        printed = Fraction(frame_time)
    except (ValueError, ZeroDivisionError):
        printed = Fraction(0)
    slack = _last_digit(frame_time)
    if 0 < printed < 1:
        rate = _rate_of(printed, slack)
        if _SLOWEST_HZ <= rate <= _FASTEST_HZ:
            return rate
    meant = _rates_in_other_units(printed, slack) if printed >= 1 else set()
    if len(meant) != 1:
        reads = f": that may mean {' or '.join(f'{float(rate):g}' for rate in sorted(meant))} fps" if meant else ""
        raise InputError(
            f"{path}: Frame Time is {frame_time!r}, expected seconds per frame, above 0{reads}. Write, for example, "
            "0.0333333 for 30 fps."
        )
    return meant.pop()


def _last_digit(number: str) -> Fraction:
    """One unit of the last printed digit after the point; 0 where there is none. Some writers cut digits off instead of
    rounding."""
    mantissa, _, exponent = number.lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    shift = int(exponent) if re.fullmatch(r"[+-]?\d{1,3}", exponent) else 0
    return Fraction(10) ** (shift - digits) if digits else Fraction(0)


def _rates_in_other_units(printed: Fraction, slack: Fraction) -> set[Fraction]:
    """Usual rates that a number is itself, or whose time it is in milliseconds or microseconds."""
    found: set[Fraction] = set()
    for rate in _RATES:
        for film in (rate, rate * Fraction(1000, 1001)):
            times = (unit / film - printed for unit in (1000, 1_000_000))
            # 33 for 33.3 ms: rounded to a whole number, or what follows the point was cut off.
            is_time = any(abs(off) <= slack if slack else Fraction(-1, 2) <= off < 1 for off in times)
            if (is_time or abs(film - printed) <= slack) and rate not in found:
                found.add(film)
    return found


def _rate_of(seconds: Fraction, slack: Fraction) -> Fraction:
    """The rate whose time prints like `seconds`: of several the usual one, as 0.017 is 60 fps and not 59."""
    exact = 1 / seconds
    if slack * exact > Fraction(1, 200) and exact not in _RATES:
        usual = [rate for rate in _RATES if abs(1 / rate - seconds) <= slack]
        if usual:
            return min(usual, key=lambda rate: abs(1 / rate - seconds))
    whole = round(exact)
    for rate in (Fraction(whole), Fraction(whole * 1000, 1001), Fraction(round(1001 * exact / 1000) * 1000, 1001)):
        if rate > 0 and abs(1 / rate - seconds) <= slack:
            return rate
    return exact


def write_bvh(bvh: Bvh, path: str | Path) -> Path:
    """Write the skeleton and its motion, whole or not at all; six decimals, so 1e-6 of the unit and of a degree."""
    path = Path(path)
    children: dict[int, list[int]] = {}
    for joint, parent in enumerate(bvh.parents):
        children.setdefault(parent, []).append(joint)
    lines = ["HIERARCHY"]

    def write_joint(joint: int, depth: int) -> None:
        indent = "\t" * depth
        is_end = bvh.names[joint].endswith(END_SUFFIX) and joint not in children
        title = "End Site" if is_end else f"{'ROOT' if depth == 0 else 'JOINT'} {bvh.names[joint]}"
        offset = " ".join(f"{value:.6f}" for value in bvh.offsets[joint])
        lines.extend([f"{indent}{title}", f"{indent}{{", f"{indent}\tOFFSET {offset}"])
        if not is_end:
            lines.append(f"{indent}\tCHANNELS {len(bvh.channels[joint])} {' '.join(bvh.channels[joint])}")
        for child in children.get(joint, []):
            write_joint(child, depth + 1)
        lines.append(f"{indent}}}")

    write_joint(0, 0)
    lines.extend(["MOTION", f"Frames: {len(bvh)}", f"Frame Time: {float(1 / bvh.fps):.10f}"])
    with atomic_path(path) as aside, open(aside, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, bvh.values, fmt="%.6f")
    return path


def _turn(rotations: Float[np.ndarray, "*batch 3 3"], vectors: Float[np.ndarray, "*batch 3"]) -> np.ndarray:
    return np.einsum("...ij,...j->...i", rotations, vectors)
