"""Published numbers, to be set beside ours only where data set and recognizer are the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """A top-1 accuracy in percent, from a single run."""

    dataset: str
    recognizer: str
    arm: str
    top1: float


PAPER = "Knapp & Bohacek 2025 (arXiv 2506.09411), single runs"
CLASSES, TRAIN_PER_CLASS, TEST_PER_CLASS = 16, 225, 50
"""Of both data sets; as many synthetic clips as real ones for training."""
NUMBERS = (
    Published("smarthome", "resnet50", "real", 20.46),
    Published("smarthome", "resnet50", "real+synthetic", 51.15),
    Published("smarthome", "slowfast", "real", 38.35),
    Published("smarthome", "slowfast", "real+synthetic", 55.64),
    Published("ntu", "resnet50", "real", 8.66),
    Published("ntu", "resnet50", "real+synthetic", 42.98),
    Published("ntu", "slowfast", "real", 26.75),
    Published("ntu", "slowfast", "real+synthetic", 36.29),
)


def published(dataset: str, recognizer: str, arm: str) -> float | None:
    """The published accuracy in percent of the same data set, recognizer and arm; None when there is none."""
    for number in NUMBERS:
        if (number.dataset, number.recognizer, number.arm) == (dataset, recognizer, arm):
            return number.top1
    return None
