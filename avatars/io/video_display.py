"""A decoded frame -> the picture that players show: upright, mirrored as stated, square pixels, SDR in sRGB."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

log = logging.getLogger(__name__)

Transfer = Literal["sdr", "hlg", "pq"]
PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273: SMPTE ST 2084, and ARIB STD-B67."""
REFERENCE_WHITE_NITS = 203.0
"""Diffuse white in PQ (ITU-R BT.2408)."""
REFERENCE_WHITE_HLG = 0.75
"""Diffuse white as an HLG signal (ITU-R BT.2408)."""
KNEE = 0.8
"""Linear light, of diffuse white 1, from which highlights are compressed."""
ASPECTS = 1 / 8, 8.0
"""Pixel aspect ratios beyond these are a writer's mistake."""
BT709_OF_BT2020 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
"""Linear RGB of BT.709's primaries from that of BT.2020's (ITU-R BT.2087)."""


@dataclass(frozen=True, slots=True)
class Display:
    """What lies between a decoded frame and what a player shows; applied in this order."""

    coded_hw: tuple[int, int]
    """Height and width (pixels) of decoded frames."""
    square_hw: tuple[int, int]
    """The same with square pixels: the shorter-looking axis is stretched, none is shrunk."""
    mirrored: bool = False
    """Left and right are exchanged before the turn."""
    quarter_turns: int = 0
    """Counterclockwise."""
    transfer: Transfer = "sdr"

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the picture shown."""
        height, width = self.square_hw
        return (width, height) if self.quarter_turns % 2 else (height, width)

    @property
    def as_decoded(self) -> bool:
        """Whether decoded frames are shown as they are."""
        return self == Display(self.coded_hw, self.coded_hw)

    @staticmethod
    def of(frame: Any, pixel_aspect: float) -> Display:
        """How a decoded `av.VideoFrame` is shown, with the width of a pixel over its height."""
        mirrored, turns = _orientation(frame)
        trc = int(getattr(frame, "color_trc", 0) or 0)
        transfer: Transfer = "pq" if trc == PQ else "hlg" if trc == HLG else "sdr"
        coded_hw = frame.height, frame.width
        return Display(coded_hw, _square(coded_hw, pixel_aspect), mirrored, turns, transfer)

    def picture(self, frame: Any) -> np.ndarray:
        """The frame as shown, (height, width, 3) uint8 sRGB."""
        height, width = self.square_hw
        stretch = {} if self.square_hw == self.coded_hw else {"width": width, "height": height}
        if self.transfer == "sdr":
            rgb = frame.to_ndarray(format="rgb24", **stretch)
        else:
            rgb = tone_mapped(frame.to_ndarray(format="rgb48le", **stretch), self.transfer)
        if self.mirrored:
            rgb = rgb[:, ::-1]
        return np.ascontiguousarray(np.rot90(rgb, self.quarter_turns))


def _square(coded_hw: tuple[int, int], pixel_aspect: float) -> tuple[int, int]:
    height, width = coded_hw
    if not ASPECTS[0] <= pixel_aspect <= ASPECTS[1]:
        log.warning("pixels %g times as wide as high cannot be meant; taken as square", pixel_aspect)
        return coded_hw
    if abs(pixel_aspect - 1.0) < 0.005:  # rounding of a writer; a resize by a few pixels would only blur
        return coded_hw
    return (height, round(width * pixel_aspect)) if pixel_aspect > 1 else (round(height / pixel_aspect), width)


def _orientation(frame: Any) -> tuple[bool, int]:
    """(mirrored, counterclockwise quarter turns) of the display matrix: ISO/IEC 14496-12, x' = a x + c y, y down."""
    from av.sidedata.sidedata import Type

    matrix = next((data for data in frame.side_data if data.type == Type.DISPLAYMATRIX), None)
    if matrix is None:
        return False, 0
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    clockwise = np.degrees(np.arctan2(b - c, a + d))  # of the rotation nearest to the matrix
    return bool(mirrored), int(-round(clockwise / 90)) % 4


def tone_mapped(signal: np.ndarray, transfer: Transfer) -> np.ndarray:
    """HLG or PQ in BT.2020's primaries (height, width, 3), uint16, to uint8 sRGB.

    Diffuse white (ITU-R BT.2408) becomes white, colors up to KNEE of it keep their light, and highlights above are
    compressed at constant hue. HLG is taken as scene light, so that it looks as the same camera's SDR would.
    """
    rgb = _linear_light(transfer)[signal] @ BT709_OF_BT2020.T
    peak = rgb.max(-1, keepdims=True)
    above = np.maximum(peak - KNEE, 0.0) / (1.0 - KNEE)
    compressed = KNEE + (1.0 - KNEE) * above / (1.0 + above)
    rgb *= np.where(peak > KNEE, compressed / np.maximum(peak, KNEE), 1.0)
    return _srgb_bytes()[np.clip(rgb * 4095.0 + 0.5, 0, 4095).astype(np.uint16)]


@functools.cache
def _linear_light(transfer: Transfer) -> np.ndarray:
    """Light of each 16-bit signal, 1 at diffuse white, float32."""
    signal = np.linspace(0.0, 1.0, 65536)
    if transfer == "hlg":
        return (_hlg_light(signal) / _hlg_light(np.array(REFERENCE_WHITE_HLG))).astype(np.float32)
    power = signal ** (1 / 78.84375)
    light = np.maximum(power - 0.8359375, 0.0) / (18.8515625 - 18.6875 * power)
    return (10_000.0 * light ** (1 / 0.1593017578125) / REFERENCE_WHITE_NITS).astype(np.float32)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    """Scene light of an HLG signal, both in [0, 1] (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3.0, (np.exp((signal - c) / a) + b) / 12.0)


@functools.cache
def _srgb_bytes() -> np.ndarray:
    """sRGB bytes of linear light in 4096 steps (IEC 61966-2-1)."""
    light = np.linspace(0.0, 1.0, 4096)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255.0 * encoded + 0.5).astype(np.uint8)
