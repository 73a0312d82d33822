"""The page of `avatars view` opens to who has its address, from its own page alone: raw websockets and requests."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

viser = pytest.importorskip("viser", reason="pip install 'splat-avatars[view]'")

import avatars.viewing.viewer as viewer_module  # noqa: E402
from avatars.viewing.door import Door, guarding  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def open_door() -> Iterator[tuple[Door, int]]:
    """A bare viser server behind the door that the viewer uses."""
    door = Door()
    with guarding(door):
        server = viser.ViserServer(host="127.0.0.1", port=18210, verbose=False)
    yield door, server.get_port()
    server.stop()


def knock(address: str, origin: str | None = None, host: str | None = None) -> int:
    """The HTTP status with which a websocket is answered: 101 lets it in."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    headers = {} if host is None else {"Host": host}
    try:
        with connect(
            address, origin=origin, additional_headers=headers, subprotocols=[f"viser-v{viser.__version__}"],
            max_size=None, proxy=None,
        ) as socket:  # fmt: skip
            assert socket.recv(timeout=10)
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_the_right_token_from_the_own_page_is_let_in(open_door):
    door, port = open_door
    assert knock(f"ws://127.0.0.1:{port}/{door.token}", origin=f"http://127.0.0.1:{port}") == 101
    assert knock(f"ws://127.0.0.1:{port}/{door.token}") == 101  # no browser, so no page of another site


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1.evil.example", "null"]
)
def test_another_sites_page_is_refused_even_with_the_token(open_door, origin):
    door, port = open_door
    assert knock(f"ws://127.0.0.1:{port}/{door.token}", origin=origin) == 403


@pytest.mark.parametrize("path", ["", "/", "/wrong", "/?token={token}", "/x/{token}", "/{token}x"])
def test_without_the_token_nobody_is_let_in(open_door, path):
    door, port = open_door
    address = f"ws://127.0.0.1:{port}" + path.format(token=door.token)
    assert knock(address, origin=f"http://127.0.0.1:{port}") == 403


def test_the_page_itself_needs_the_token_and_does_not_hand_it_on(open_door):
    door, port = open_door
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{door.token}/", timeout=10) as answer:
        assert answer.status == 200 and b"<html" in answer.read()[:2000].lower()
        assert answer.headers["Referrer-Policy"] == "no-referrer" and answer.headers["X-Frame-Options"] == "DENY"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
    assert refused.value.code == 403


def test_every_viewer_has_its_own_token():
    assert Door().token != Door().token and len(Door().token) >= 20


def test_servers_of_others_are_left_alone():
    import websockets.asyncio.server as server

    plain = server.serve
    with pytest.raises(RuntimeError), guarding(Door()):
        assert server.serve is not plain
        raise RuntimeError
    assert server.serve is plain


def test_a_viser_that_cannot_be_guarded_is_not_used(monkeypatch):
    """Were viser to serve some other way, the page would stand open."""
    from types import SimpleNamespace

    stopped = []
    bare = SimpleNamespace(stop=lambda: stopped.append(True))
    monkeypatch.setattr(viser, "ViserServer", lambda **options: bare)
    monkeypatch.setattr(viewer_module, "LiveView", lambda *arguments: None)
    monkeypatch.setattr(viewer_module, "rest_motion", lambda avatar: None)
    with pytest.raises(viewer_module.BackendMissing, match="unguarded"):
        viewer_module.Viewer(None, {})
    assert stopped == [True]
