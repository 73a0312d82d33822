"""The names that the packages offer are there, and type checkers are told the same ones."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.tiny_batch import make_motion

ROOT = Path(__file__).parents[1]
PACKAGES = ("avatars", "compose", "reenact", "actionrec")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_there(name):
    package = importlib.import_module(name)
    assert [public for public in package.__all__ if getattr(package, public, None) is None] == []
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_see_the_same_names(name):
    package = importlib.import_module(name)
    stub = (ROOT / name / "__init__.pyi").read_text(encoding="utf-8")
    told = set(re.findall(r"^from \S+ import (\w+) as \1$", stub, re.M)) | set(re.findall(r"^(\w+): ", stub, re.M))
    assert told == set(package.__all__)
    assert (ROOT / name / "py.typed").is_file()


@pytest.mark.parametrize("name", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match="has no attribute 'nothing_like_it'"):
        importlib.import_module(name).nothing_like_it  # noqa: B018


def test_importing_the_packages_loads_no_torch():
    program = f"import sys, {', '.join(PACKAGES)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_example_of_the_readme_makes_an_avatar_and_a_video(tmp_path, monkeypatch):
    import avatars
    from avatars.io.video import probe
    from avatars.studio.capture import sample_capture

    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    body = avatars.load_body()
    sample_capture(tmp_path / "studio", seed=0, action="turn", frames=24, size_hw=(192, 192))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studio" / "capture.mp4").rename("anna.mp4")
    avatars.save_motion(make_motion(body), "walk.bvh", body)
    exec(example, {})
    assert len(avatars.Avatar.load("runs/anna")) > 1000
    assert probe("walk.mp4").n_frames == len(avatars.load_motion("walk.bvh"))
