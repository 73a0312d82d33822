"""A page in the browser with sliders, served by viser; the avatar is drawn here and sent as the page's background."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avatars.avatar import Avatar
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.errors import BackendMissing
from avatars.viewing.door import Door, guarding
from avatars.viewing.live_view import LiveView, camera_of
from avatars.viewing.rendering import rest_motion

if TYPE_CHECKING:
    import viser

SHAPES, EXPRESSIONS = 6, 6
STANDING = "standing"
DRAFT_PX, SHARP_PX = 320, 640
"""Height of the picture while something moves, and when all is still."""


def require_viser() -> None:
    """Raise BackendMissing when viser is not installed."""
    try:
        import viser  # noqa: F401
    except ImportError:
        raise BackendMissing("`avatars view` needs viser: pip install 'splat-avatars[view]'") from None


class Viewer:
    """The page of one avatar."""

    def __init__(
        self,
        avatar: Avatar,
        motions: Mapping[str, Motion],
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        comparisons: Sequence[tuple[str, np.ndarray]] = (),
    ) -> None:
        """`comparisons`: pictures with captions, chosen with a slider (held-out frames beside renders)."""
        require_viser()
        import viser

        self.motions = {STANDING: rest_motion(avatar), **motions}
        self.view = LiveView(avatar, self.motions[STANDING])
        self._drawing, self._changes, self._stopped = threading.Lock(), {}, threading.Event()
        self._changed_s = 0.0
        self.door = Door()
        with (
            guarding(self.door),
            contextlib.redirect_stdout(io.StringIO()),
        ):  # viser prints an address without the secret
            self.server: viser.ViserServer = viser.ViserServer(
                host=host, port=port, label="splat-avatars", verbose=False
            )
        if not self.door.guarded:
            self.server.stop()
            raise BackendMissing("This viser serves its page unguarded: pip install 'viser>=1.0,<2'")
        self._host = host
        self.server.scene.set_up_direction("+y")
        self._add_motion()
        self._add_pose(avatar)
        self._add_light()
        if comparisons:
            self._add_comparisons(comparisons)
        self.server.on_client_connect(self._welcome)
        self.server.on_client_disconnect(lambda client: self._changes.pop(client.client_id, None))
        self._threads: list[threading.Thread] = []
        self._start(self._play)

    @property
    def port(self) -> int:
        """Where the server listens: the port asked for, or the next that was free."""
        return int(self.server.get_port())

    @property
    def address(self) -> str:
        """What to open in a browser; whoever has not got it sees nothing."""
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self.door.token}/"

    def stop(self) -> None:
        """Close the page, and wait for the picture that is being drawn: a thread that comes out of C++ after Python has
        ended takes the process down."""
        self._stopped.set()
        self.redraw()
        for thread in self._threads:
            thread.join(timeout=20)
        self.server.stop()

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=run, args=arguments, daemon=True))
        self._threads[-1].start()

    def redraw(self) -> None:
        """Every client gets a new picture."""
        self._changed_s = time.monotonic()
        for changed in list(self._changes.values()):
            changed.set()

    def picture(self, camera: Any, height_px: int) -> np.ndarray:
        """What a client's camera (anything with wxyz, position, fov, aspect) sees."""
        with self._drawing:
            return self.view.draw(camera_of(camera.wxyz, camera.position, camera.fov, camera.aspect, height_px))

    # Clients

    def _welcome(self, client: viser.ClientHandle) -> None:
        changed = self._changes[client.client_id] = threading.Event()
        client.camera.position, client.camera.look_at = (0.0, 1.1, 2.6), (0.0, 0.9, 0.0)
        client.camera.on_update(lambda _: self._moved(changed))
        changed.set()
        self._start(self._serve, client, changed)

    def _moved(self, changed: threading.Event) -> None:
        self._changed_s = time.monotonic()
        changed.set()

    def _serve(self, client: viser.ClientHandle, changed: threading.Event) -> None:
        """Small pictures while something changes, one large picture once it rests."""
        sharp = True
        while client.client_id in self._changes and not self._stopped.is_set():
            if changed.wait(timeout=0.2):
                changed.clear()
                self._send(client, DRAFT_PX)
                sharp = False
            elif not sharp and time.monotonic() - self._changed_s > 0.3:
                self._send(client, SHARP_PX)
                sharp = True

    def _send(self, client: viser.ClientHandle, height_px: int) -> None:
        picture = self.picture(client.camera, height_px)
        if client.client_id in self._changes:  # it may have left meanwhile
            client.scene.set_background_image(picture, format="jpeg", jpeg_quality=85)

    # Controls

    def _slider(
        self, label: str, low: float, high: float, value: float, act: Callable[[float], None], step: float = 0.01
    ) -> Any:
        handle = self.server.gui.add_slider(label, min=low, max=high, step=step, initial_value=value)

        def update(_: Any) -> None:
            act(handle.value)
            self.redraw()

        handle.on_update(update)
        return handle

    def _add_motion(self) -> None:
        gui, settings = self.server.gui, self.view.settings
        with gui.add_folder("Motion"):
            chosen = gui.add_dropdown("motion", options=list(self.motions), initial_value=STANDING)
            self._frame = gui.add_slider("time", min=0.0, max=1.0, step=0.001, initial_value=0.0)
            self._playing = gui.add_checkbox("play", initial_value=True)

        @chosen.on_update
        def _(_: Any) -> None:
            motion = self.motions[chosen.value]
            settings.frame, settings.motion = 0, motion[motion.valid]
            self.redraw()

        @self._frame.on_update
        def _(_: Any) -> None:
            if not self._playing.value or len(settings.motion) == 1:
                settings.frame = round(self._frame.value * (len(settings.motion) - 1))
                self.redraw()

    def _play(self) -> None:
        """Advance by the motion's own times while `play` is set."""
        start_s, motion = time.monotonic(), self.view.settings.motion
        while not self._stopped.wait(1 / 30):
            settings = self.view.settings
            if motion is not settings.motion or not self._playing.value:
                motion = settings.motion
                start_s = time.monotonic() - float(motion.times_s[min(settings.frame, len(motion) - 1)])
                start_s += float(motion.times_s[0])
                continue
            if len(motion) < 2 or not self._changes:
                continue
            length_s = float(motion.times_s[-1] - motion.times_s[0]) + 1e-6
            now = float(motion.times_s[0]) + (time.monotonic() - start_s) % length_s
            frame = int(torch.searchsorted(motion.times_s, torch.tensor(now, dtype=motion.times_s.dtype)))
            if frame != settings.frame:
                settings.frame = min(frame, len(motion) - 1)
                self._frame.value = settings.frame / (len(motion) - 1)
                self.redraw()

    def _add_pose(self, avatar: Avatar) -> None:
        gui, settings = self.server.gui, self.view.settings
        with gui.add_folder("Pose", expand_by_default=False):
            joint = gui.add_dropdown("joint", options=list(JOINT_NAMES), initial_value="left_elbow")
            axes = [gui.add_slider(axis, min=-180, max=180, step=1, initial_value=0) for axis in "xyz"]
            reset = gui.add_button("reset pose")

        @joint.on_update
        def _(_: Any) -> None:
            for axis, value in zip(axes, settings.turns_deg.get(joint.value, (0.0, 0.0, 0.0)), strict=True):
                axis.value = int(value)

        def turn(_: Any) -> None:
            settings.turns_deg[joint.value] = tuple(float(axis.value) for axis in axes)  # type: ignore[assignment]
            self.redraw()

        for axis in axes:
            axis.on_update(turn)

        @reset.on_click
        def _(_: Any) -> None:
            settings.turns_deg.clear()
            for axis in axes:
                axis.value = 0
            self.redraw()

        with gui.add_folder("Expression", expand_by_default=False):
            for k in range(min(EXPRESSIONS, avatar.body.n_expression)):
                self._slider(f"expression {k}", -2.0, 2.0, 0.0, lambda v, k=k: settings.expression.update({k: v}))
        with gui.add_folder("Shape", expand_by_default=False):
            for k in range(min(SHAPES, len(avatar.betas))):
                own = min(max(round(float(avatar.betas[k]), 2), -3.0), 3.0)
                self._slider(f"beta {k}", -3.0, 3.0, own, lambda v, k=k: self._reshape(k, v))

    def _reshape(self, k: int, value: float) -> None:
        betas = self.view.settings.betas.clone()
        betas[k] = value
        self.view.settings.betas = betas

    def _add_light(self) -> None:
        def light(name: str) -> Callable[[float], None]:
            def act(value: float) -> None:
                self.view.settings.light = replace(self.view.settings.light, **{name: value})

            return act

        with self.server.gui.add_folder("Light", expand_by_default=False):
            self._slider("lamp", 0.0, 1.0, 0.0, light("strength"))
            self._slider("around", -180, 180, 30, light("azimuth_deg"), step=1)
            self._slider("height", -90, 90, 40, light("elevation_deg"), step=1)
            capture = self.server.gui.add_checkbox("light of the capture", initial_value=False)

            def gray(value: float) -> None:
                self.view.settings.background = (value, value, value)

            self._slider("background", 0.0, 1.0, 1.0, gray)

        @capture.on_update
        def _(_: Any) -> None:
            self.view.settings.light = replace(self.view.settings.light, capture=capture.value)
            self.redraw()

    def _add_comparisons(self, comparisons: Sequence[tuple[str, np.ndarray]]) -> None:
        gui = self.server.gui
        with gui.add_folder("Held-out frames beside renders"):
            which = gui.add_slider("frame", min=0, max=max(len(comparisons) - 1, 1), step=1, initial_value=0)
            image = gui.add_image(comparisons[0][1], label=comparisons[0][0], format="jpeg")

        @which.on_update
        def _(_: Any) -> None:
            caption, picture = comparisons[min(int(which.value), len(comparisons) - 1)]
            image.image, image.label = picture, caption
