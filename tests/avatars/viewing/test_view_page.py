"""A browser opens `avatars view` and shows the avatar, its sliders and held-out frames (Chromium without a window)."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.avatar.rig import Rig
from avatars.body import load_body
from avatars.fitting.parameters import on_the_surface

pytestmark = pytest.mark.browser
pytest.importorskip("viser", reason="pip install 'splat-avatars[view]'")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright; playwright install chromium")

GREEN = (0.1, 0.7, 0.2)


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    body, betas = load_body(), torch.zeros(20)
    binding = spread_over(body, body.shaped(betas)[0], 4000)
    rig = Rig.build(body, binding, betas)
    start = on_the_surface(rig, rig.neighbors())
    start.albedo = torch.tensor(GREEN).repeat(len(binding), 1)
    return Avatar(body, betas, binding, **start.leaves())


@pytest.fixture
def page(avatar: Avatar) -> Iterator:
    """The avatar's page in a browser of 900 x 600 pixels."""
    from avatars.viewing.viewer import Viewer

    with playwright.sync_playwright() as tools:
        installed = shutil.which("chromium") or shutil.which("google-chrome")
        if installed is None and not Path(tools.chromium.executable_path).is_file():
            pytest.skip("no Chromium: playwright install chromium")
        browser = tools.chromium.launch(executable_path=installed, args=["--no-sandbox", "--use-gl=angle",
                                        "--use-angle=swiftshader", "--enable-unsafe-swiftshader"])  # fmt: skip
        viewer = Viewer(
            avatar, {}, port=18120, comparisons=[("frame 4: 30.00 dB", np.full((40, 60, 3), 200, np.uint8))]
        )
        try:
            opened = browser.new_page(viewport={"width": 900, "height": 600})
            opened.goto(viewer.address)
            yield opened
        finally:
            browser.close()
            viewer.stop()


def green_of(screenshot: bytes) -> np.ndarray:
    """Where the page between its notes (left) and its controls (right) has the avatar's hue."""
    rgb = np.array(Image.open(io.BytesIO(screenshot)).convert("RGB"))[:, 320:560].astype(int)
    return (rgb[..., 1] > rgb[..., 0] + 40) & (rgb[..., 1] > rgb[..., 2] + 40)


def test_the_browser_shows_the_whole_person_and_the_sliders(page, tmp_path: Path) -> None:
    green, deadline = np.zeros((600, 240), bool), time.monotonic() + 90
    while green.mean() < 0.03 and time.monotonic() < deadline:
        page.wait_for_timeout(500)
        green = green_of(page.screenshot(path=tmp_path / "view.png"))
    rows, columns = np.nonzero(green)
    assert len(rows) and 250 < rows.max() - rows.min() < 560  # head to feet, most of the page's height
    assert rows.min() > 0 and rows.max() < 599
    assert columns.min() > 0 and columns.max() < 239
    shown = page.inner_text("body")
    for word in ("Motion", "Shape", "Light", "Expression", "Held-out frames", "frame 4: 30.00 dB"):
        assert word in shown
