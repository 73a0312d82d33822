"""Avatars and bodies from strangers: drawn, or refused in one sentence; never a crash and never another exception."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes.hostile_files import Avatars
from fakes.same_code import same_code

from avatars.avatar import Avatar
from avatars.avatar.model import fresh_folder
from avatars.errors import InputError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def avatars(tmp_path_factory: pytest.TempPathFactory) -> Avatars:
    return Avatars(tmp_path_factory.mktemp("avatars"))


def load_with(avatars: Avatars, folder: Path, **changed: torch.Tensor) -> Avatar:
    """The good avatar with some tensors (`binding__corners` for `binding.corners`) changed."""
    from safetensors.torch import save_file

    with fresh_folder(folder / "changed", what="an avatar") as aside:
        tensors = {name.replace("__", "."): tensor for name, tensor in changed.items()}
        save_file(avatars.tensors | tensors, aside / "gaussians.safetensors")
        (aside / "avatar.json").write_text(json.dumps(avatars.card))
    return Avatar.load(folder / "changed")


N = 240
NAN = torch.full((N, 3), float("nan"))
BAD_TENSORS = {
    "longer than the others": ("quats", torch.ones(N + 1, 4), r"has shape \(241, 4\), expected \(240, 4\)"),
    "empty": ("albedo", torch.zeros(0, 3), r"has shape \(0, 3\)"),
    "an empty light": ("light", torch.zeros(0, 3), r"expected \(8, 3\)"),
    "NaN": ("offsets", NAN, "holds values from nan"),
    "infinite": ("log_scales", torch.full((N, 3), float("inf")), "holds values from inf"),
    "of another dtype": ("opacity_logits", torch.zeros(N, dtype=torch.float64), "is float64, expected float32"),
    "a vertex that is not there": ("binding__corners", torch.full((N, 3), 10**6), "holds values from 1e"),
    "a vertex below zero": ("binding__corners", torch.full((N, 3), -1), "holds values from -1"),
    "a point that is not there": ("loose__index", torch.full((35,), N), "holds values from 240"),
    "codes that disagree": ("correctives__spread", torch.ones(3), r"has shape \(3,\), expected \(2,\)"),
    "more betas than the body has": ("betas", torch.zeros(999), "the body takes"),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_a_bad_tensor_is_refused_by_file_and_name(what: str, avatars: Avatars, tmp_path: Path) -> None:
    name, tensor, words = BAD_TENSORS[what]
    with pytest.raises(InputError, match=words) as refused:
        load_with(avatars, tmp_path, **{name: tensor})
    said = str(refused.value)
    assert "gaussians.safetensors" in said and f"`{name.replace('__', '.')}`" in said and "\n" not in said


def test_the_good_one_is_taken(avatars: Avatars, tmp_path: Path) -> None:
    loaded = load_with(avatars, tmp_path)
    assert len(loaded) == N
    assert loaded.correctives is not None and loaded.loose is not None and loaded.skirt is not None


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ([], "no mapping but a list"),
        ({"schema": 1}, "`body` must hold"),
        ({"schema": 1, "body": ["a"]}, "`body` must hold"),
        ({"schema": 1, "body": {"name": "a", "sha256": "b"}, "fit": []}, "must be mappings"),
    ],
)
def test_a_card_of_other_types_is_refused(card: object, words: str, tmp_path: Path) -> None:
    (tmp_path / "avatar.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=words):
        Avatar.load(tmp_path)


def test_a_card_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "avatar.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        Avatar.load(tmp_path)


def altered(folder: Path, what: str, first: int, count: int) -> dict[str, int]:
    """How many altered files of those seeds were drawn and refused, in a process of its own."""
    program = [sys.executable, str(ROOT / "tests" / "fakes" / "hostile_files.py")]
    found = {"drawn": 0, "refused": 0}
    done = subprocess.run(
        [*program, str(folder), what, str(first), str(count)], capture_output=True, text=True, timeout=300 + 5 * count,
        env=same_code(ROOT / "tests"),
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode} at seed and error: {done.stderr[-3000:]}"
    found |= json.loads(done.stdout.splitlines()[-1])
    assert found["drawn"] + found["refused"] == count
    return found


@pytest.mark.slow
def test_some_hundred_altered_avatars_are_drawn_or_refused(tmp_path: Path) -> None:
    found = altered(tmp_path, "avatar", 0, 300)
    assert found["drawn"] > 20 and found["refused"] > 100


@pytest.mark.slow
def test_a_few_altered_bodies_are_posed_or_refused(tmp_path: Path) -> None:
    assert altered(tmp_path, "body", 0, 12)["refused"] > 3


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(10))
def test_altered_avatars_are_drawn_or_refused(part: int, tmp_path: Path) -> None:
    """AVATARS_FUZZ says how many, 20,000 without; one in forty of as many bodies."""
    each = int(os.environ.get("AVATARS_FUZZ", "20000")) // 10
    altered(tmp_path, "avatar", 1000 + part * each, each)
    altered(tmp_path, "body", 1000 + part * each, max(each // 40, 1))
