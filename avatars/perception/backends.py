"""Which detectors can be named, where each lives, and what they all offer."""

from __future__ import annotations

import importlib

from avatars.errors import InputError
from avatars.perception.backend_table import BackendOptions, backends_of, open_backend
from avatars.perception.detector import WholeBodyDetector

WHOLE_BODY_BACKENDS: dict[str, tuple[str, str]] = {
    "mediapipe": ("avatars.perception.mediapipe_holistic:MediaPipeHolistic", "splat-avatars"),
}
"""name: (module:Class, what pip installs)."""


def whole_body_detector(
    name: str, options: BackendOptions | None = None, mask_options: BackendOptions | None = None
) -> WholeBodyDetector:
    """The named detector: `mediapipe`, or `mmpose` or `rtmlib` inside the boxes that MediaPipe finds.

    `+segment-anything` behind any of them takes the masks from there (`rtmlib+segment-anything`).

    Raises InputError for an unknown name, BackendMissing where its packages or weights are not there.
    """
    keypoints, _, masks = name.partition("+")
    better = backends_of("keypoints")
    if keypoints not in (*WHOLE_BODY_BACKENDS, *better):
        known = ", ".join(sorted([*WHOLE_BODY_BACKENDS, *better]))
        raise InputError(f"No keypoint detector {keypoints!r}; known: {known}.")
    if masks and masks not in backends_of("masks"):
        raise InputError(f"No mask model {masks!r}; known: {', '.join(backends_of('masks'))}.")
    module, attribute = WHOLE_BODY_BACKENDS[keypoints if keypoints in WHOLE_BODY_BACKENDS else "mediapipe"][0].split(
        ":"
    )
    detector = getattr(importlib.import_module(module), attribute)()
    if keypoints in better:
        from avatars.perception.top_down import TopDownWholeBody

        detector = TopDownWholeBody(open_backend(keypoints, options), detector)
    if masks:
        from avatars.perception.prompted_masks import MaskedWholeBody

        detector = MaskedWholeBody(open_backend(masks, mask_options), detector)
    return detector
