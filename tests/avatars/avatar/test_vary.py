"""Variations are other people, the same for the same seed, and say what they were made from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avatars.avatar import Avatar
from avatars.avatar.binding import FACE, HAND, HEAD, TORSO_AND_LIMBS, spread_over
from avatars.avatar.rig import Rig
from avatars.avatar.variation import (
    BETAS_LIMIT,
    BETAS_VARIED,
    HEIGHT_M,
    SKIN_LIGHTNESS,
    find_parts,
    height_m,
    reshaped,
    vary,
)
from avatars.body import load_body
from avatars.commands.vary import VaryCommand
from avatars.errors import InputError
from avatars.fitting.parameters import on_the_surface
from avatars.geometry.color import oklab_from_srgb, srgb_from_oklab
from avatars.io.files import sha256_of
from avatars.viewing.rendering import rest_motion

SKIN, SHIRT, TROUSERS, HAIR = (0.72, 0.52, 0.42), (0.2, 0.35, 0.7), (0.25, 0.25, 0.27), (0.1, 0.07, 0.05)


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    """Skin at face, hands, neck and lower arms, a blue shirt, gray trousers, dark hair; a little noise on all."""
    body, betas = load_body(), torch.zeros(20)
    binding = spread_over(body, body.shaped(betas)[0], 4000)
    rig = Rig.build(body, binding, betas)
    start = on_the_surface(rig, rig.neighbors())
    x, y, region = rig.surface[:, 0].abs(), rig.surface[:, 1], binding.region
    color = torch.tensor(SHIRT).repeat(len(binding), 1)
    color[y < -0.3] = torch.tensor(TROUSERS)
    color[(region == FACE) | (region == HAND) | (x > 0.4)] = torch.tensor(SKIN)
    color[region == HEAD] = torch.tensor(HAIR)
    noise = 0.02 * torch.randn(len(binding), 1, generator=torch.Generator().manual_seed(0))
    start.albedo = (color + noise).clamp(0, 1)
    start.offsets = 0.01 * rig.normals
    card = {"source": {"video": "a.mp4", "sha256": "ab"}, "consent": "research only", "scores": {"psnr_box_db": 27.0}}
    return Avatar(body, betas, binding, **start.leaves(), card=card)


def test_oklab_has_white_at_one_and_comes_back() -> None:
    rgb = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(oklab_from_srgb(torch.ones(1, 3)), torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-4)
    red = oklab_from_srgb(torch.tensor([[1.0, 0.0, 0.0]]))[0]
    assert red.tolist() == pytest.approx([0.62796, 0.22486, 0.12585], abs=2e-4)
    assert float((srgb_from_oklab(oklab_from_srgb(rgb)) - rgb).abs().max()) < 2e-3


def test_colors_that_srgb_lacks_keep_lightness_and_hue() -> None:
    wild = torch.tensor([[0.6, 0.3, 0.3], [0.5, -0.4, 0.1]])
    back = oklab_from_srgb(srgb_from_oklab(wild))
    assert torch.allclose(back[:, 0], wild[:, 0], atol=0.01)
    assert torch.allclose(torch.atan2(back[:, 2], back[:, 1]), torch.atan2(wild[:, 2], wild[:, 1]), atol=0.03)


def test_parts_are_found(avatar: Avatar) -> None:
    parts, region = find_parts(avatar), avatar.binding.region
    lower_arm = (avatar.rig.surface[:, 0].abs() > 0.45) & (region == TORSO_AND_LIMBS)
    chest = (avatar.rig.surface[:, 0].abs() < 0.1) & (avatar.rig.surface[:, 1].abs() < 0.1)
    assert float(parts.skin[lower_arm].min()) > 0.9
    assert float(parts.skin[chest].max()) < 0.1
    assert float(parts.hair[region == HEAD].min()) > 0.9
    assert parts.clothes.shape[1] == 2  # shirt and trousers
    assert float(parts.clothes[chest].sum(-1).min()) > 0.9


@pytest.mark.parametrize(("share", "low", "high"), [(0.8, 0.9, 1.0), (0.4, 0.2, 0.4), (0.2, 0.0, 0.1)])
def test_a_color_between_skin_and_cloth_belongs_to_both(avatar: Avatar, share: float, low: float, high: float) -> None:
    wrist = (avatar.rig.surface[:, 0].abs() > 0.55) & (avatar.binding.region == TORSO_AND_LIMBS)
    wrist &= wrist.cumsum(0) % 8 == 0  # a few, no sleeve
    lab = oklab_from_srgb(avatar.albedo)
    skin, shirt = oklab_from_srgb(torch.tensor([SKIN, SHIRT]))
    lab[wrist] = shirt + share * (skin - shirt)
    lab[avatar.rig.surface[:, 1] < -0.3] = oklab_from_srgb(torch.tensor([[0.1, 0.4, 0.15]]))  # not gray, a mix, too
    parts = find_parts(replace(avatar, albedo=srgb_from_oklab(lab)))
    assert low <= float(parts.skin[wrist].min()) and float(parts.skin[wrist].max()) <= high
    assert torch.allclose(parts.skin[wrist] + parts.clothes[wrist].sum(1), torch.ones(int(wrist.sum())), atol=1e-4)


def test_hair_of_a_color_between_skin_and_cloth_is_hair(avatar: Avatar) -> None:
    head = avatar.binding.region == HEAD
    lab = oklab_from_srgb(avatar.albedo)
    lab[head] = oklab_from_srgb(torch.tensor([SKIN, SHIRT])).mean(0)
    assert float(find_parts(replace(avatar, albedo=srgb_from_oklab(lab))).hair[head].min()) > 0.9


def test_what_lies_between_two_cloths_or_is_a_shade_of_one_is_no_other_cloth(avatar: Avatar) -> None:
    waist = ((avatar.rig.surface[:, 1] + 0.3).abs() < 0.06) & (avatar.binding.region == TORSO_AND_LIMBS)
    back = (
        (avatar.rig.normals[:, 2] < -0.5) & (avatar.rig.surface[:, 1] > -0.2) & (avatar.rig.surface[:, 0].abs() < 0.2)
    )
    back &= avatar.binding.region == TORSO_AND_LIMBS
    lab = oklab_from_srgb(avatar.albedo)
    lab[waist] = oklab_from_srgb(torch.tensor([SHIRT, TROUSERS])).mean(0)
    lab[back] += torch.tensor([-0.1, 0.02, 0.02])
    assert find_parts(replace(avatar, albedo=srgb_from_oklab(lab))).clothes.shape[1] == 2
    lab[waist] = oklab_from_srgb(torch.tensor([[0.8, 0.1, 0.1]]))
    assert find_parts(replace(avatar, albedo=srgb_from_oklab(lab))).clothes.shape[1] == 3


def test_the_same_seed_gives_the_same_person_and_another_seed_another(avatar: Avatar) -> None:
    (a, said), (b, said_again), (c, _) = vary(avatar, 5), vary(avatar, 5), vary(avatar, 6)
    assert said == said_again
    for name in ("betas", "offsets", "log_scales", "albedo"):
        assert torch.equal(getattr(a, name), getattr(b, name))
        assert not torch.equal(getattr(a, name), getattr(c, name))


@pytest.mark.slow
def test_shapes_and_skins_stay_plausible_and_heights_differ(avatar: Avatar) -> None:
    people = [vary(avatar, seed)[0] for seed in range(12)]
    heights = [height_m(avatar.body, p.betas) for p in people]
    assert all(HEIGHT_M[0] <= h <= HEIGHT_M[1] for h in heights)
    assert max(heights) - min(heights) > 0.1
    for person in people:
        assert float(person.betas[:BETAS_VARIED].abs().max()) <= BETAS_LIMIT
        assert torch.equal(person.betas[BETAS_VARIED:], avatar.betas[BETAS_VARIED:])
        assert float(person.albedo.min()) >= 0 and float(person.albedo.max()) <= 1
        hand = oklab_from_srgb(person.albedo[avatar.binding.region == HAND])[:, 0].mean()
        assert SKIN_LIGHTNESS[0] - 0.05 < float(hand) < SKIN_LIGHTNESS[1] + 0.05


def test_the_posed_gaussians_follow_the_new_shape(avatar: Avatar) -> None:
    taller = reshaped(avatar, torch.tensor([1.5] + [0.0] * 19))
    before, after = (float(p.posed(rest_motion(p)).means[0, :, 1].max()) for p in (avatar, taller))
    grown = height_m(avatar.body, taller.betas) - height_m(avatar.body, avatar.betas)
    assert grown > 0.1
    assert after - before == pytest.approx(grown, abs=0.01)
    assert float(taller.log_scales.mean()) > float(avatar.log_scales.mean())


def test_folds_and_prints_stay(avatar: Avatar) -> None:
    varied, _ = vary(avatar, 3, keep=("shape",))
    chest = (avatar.rig.surface[:, 0].abs() < 0.1) & (avatar.rig.surface[:, 1].abs() < 0.1)
    before, after = (oklab_from_srgb(a.albedo[chest])[:, 0] for a in (avatar, varied))
    assert float((after - before).abs().mean()) > 0.02 or not torch.allclose(avatar.albedo[chest], varied.albedo[chest])
    assert float(torch.corrcoef(torch.stack([before, after]))[0, 1]) > 0.95
    assert float(after.std() / before.std()) == pytest.approx(1, abs=0.2)


def test_what_is_kept_stays(avatar: Avatar) -> None:
    kept, changes = vary(avatar, 1, keep=("skin", "hair", "clothes"))
    assert torch.equal(kept.albedo, avatar.albedo) and set(changes) == {"seed", "betas", "height_m"}
    kept, _ = vary(avatar, 1, keep=("shape",))
    assert torch.equal(kept.betas, avatar.betas) and torch.equal(kept.offsets, avatar.offsets)


def test_variations_are_marked_and_the_original_is_untouched(avatar: Avatar, tmp_path: Path) -> None:
    folder = avatar.save(tmp_path / "anna")
    before = {p.name: sha256_of(p) for p in folder.iterdir()}
    VaryCommand(folder, tmp_path / "more", count=2, seed=4).run()
    VaryCommand(folder, tmp_path / "fewer", count=1, seed=4).run()
    assert {p.name: sha256_of(p) for p in folder.iterdir()} == before
    card = json.loads((tmp_path / "more" / "anna_001" / "avatar.json").read_text())
    assert card["derived_from"]["sha256"] == before["gaussians.safetensors"]
    assert card["consent"] == "research only" and card["source"]["sha256"] == "ab"
    assert "scores" not in card and card["derived_from"]["scores"] == {"psnr_box_db": 27.0}
    assert {"betas", "height_m", "skin_tone", "hair", "clothes"} <= set(card["changes"])
    loaded = Avatar.load(tmp_path / "more" / "anna_001")
    assert [round(float(b), 4) for b in loaded.betas] == card["changes"]["betas"]
    first, again = (sha256_of(tmp_path / d / "anna_000" / "gaussians.safetensors") for d in ("more", "fewer"))
    assert first == again
    assert (tmp_path / "more" / "variations.png").stat().st_size > 1000
    with pytest.raises(InputError, match="itself a variation"):
        VaryCommand(tmp_path / "more" / "anna_000", tmp_path / "third").run()
    with pytest.raises(InputError, match="not empty"):
        VaryCommand(folder, tmp_path / "more").run()


def test_a_bald_head_gets_no_hair(avatar: Avatar) -> None:
    albedo = avatar.albedo.clone()
    albedo[avatar.binding.region == HEAD] = torch.tensor(SKIN)
    _, changes = vary(replace(avatar, albedo=albedo), 2)
    assert "hair" not in changes and "skin_tone" in changes
