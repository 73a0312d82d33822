"""The guided filter is the one that was published: linear in the guide's colors, window by window."""

from __future__ import annotations

import numpy as np

from avatars.perception.mask_edges import guided_filter

RADIUS, EPS = 2, 25.5**2


def test_it_is_a_damped_linear_regression_in_every_window() -> None:
    rng = np.random.default_rng(0)
    guide = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    values = rng.random((24, 20), dtype=np.float32)
    found = guided_filter(guide, values, RADIUS, EPS)
    size = 2 * RADIUS + 1
    models = np.zeros((24, 20, 4))
    for y in range(RADIUS, 24 - RADIUS):
        for x in range(RADIUS, 20 - RADIUS):
            window = slice(y - RADIUS, y + RADIUS + 1), slice(x - RADIUS, x + RADIUS + 1)
            colors, wanted = guide[window].reshape(-1, 3).astype(float), values[window].ravel()
            centered = colors - colors.mean(0)
            slopes = np.linalg.solve(
                centered.T @ centered / size**2 + EPS * np.eye(3), centered.T @ (wanted - wanted.mean()) / size**2
            )
            models[y, x] = *slopes, wanted.mean() - slopes @ colors.mean(0)
    y, x = 12, 10
    around = models[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1].reshape(-1, 4).mean(0)
    assert abs(found[y, x] - (around[:3] @ guide[y, x] + around[3])) < 1e-4


def test_values_without_edges_in_the_guide_are_smoothed_and_those_along_its_edges_kept() -> None:
    step = np.zeros((40, 40), np.float32)
    step[:, 20:] = 1.0
    edge = np.repeat((255 * step).astype(np.uint8)[..., None], 3, -1)
    kept = guided_filter(edge, step, 4, EPS)
    blurred = guided_filter(np.zeros_like(edge), step, 4, EPS)
    assert np.abs(kept - step)[:, 18:22].max() < 0.02
    assert np.abs(blurred - step)[:, 18:22].max() > 0.3
