"""What CLIP takes a place for, and what plans make of it; weights are random: nothing about the quality of any."""

from __future__ import annotations

import json
import string

import numpy as np
import pytest
import yaml
from PIL import Image

from avatars.errors import BackendMissing, InputError
from compose.places.place_folder import place_shares, place_tags
from compose.preparation.action_tags import likeliest, likelihood
from compose.preparation.clip_model_tags import PlaceClassifier
from reenact.commands.backgrounds import BackgroundsCommand
from reenact.planning.batch import BackgroundEntry, Batch
from reenact.planning.plan import _likely_first


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole CLIP of the true architecture, 32 wide, with a tokenizer of single letters."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: depth)")
    import torch

    folder = tmp_path_factory.mktemp("clip")
    ends = ["<|startoftext|>", "<|endoftext|>"]
    words = [*string.printable.strip(), *(c + "</w>" for c in string.printable.strip()), *ends]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    last = {"bos_token_id": words.index(ends[0]), "eos_token_id": words.index(ends[1])}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={**small, **last, "vocab_size": len(words), "max_position_embeddings": 77},
        vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def photo(tmp_path):
    """A level floor under a wall."""
    picture = np.full((120, 160, 3), 200, np.uint8)
    picture[60:] = (120, 90, 60)
    Image.fromarray(picture).save(tmp_path / "hall.png")
    return tmp_path / "hall.png"


def test_a_place_gets_probabilities_that_are_clips_own(folder, photo):
    import torch
    from transformers import CLIPModel, CLIPProcessor

    picture = np.array(Image.open(photo))
    shares = PlaceClassifier(folder)(picture)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    network, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    with torch.inference_mode():
        texts = ["a photo of a kitchen", "a photo of a living room"]
        logits = network(**processor(text=texts, images=[picture], return_tensors="pt", padding=True)).logits_per_image[
            0
        ]
    assert np.log(shares["kitchen"] / shares["living_room"]) == pytest.approx(float(logits[0] - logits[1]), abs=1e-4)


def test_preparing_with_clip_tags_the_place_unless_its_tags_are_given(folder, photo, tmp_path, bare_environment):
    command = BackgroundsCommand("prepare", (photo,), tmp_path / "found", depth="none", clip=folder)
    assert command.run() == 0
    shares = place_shares(tmp_path / "found" / "hall")
    assert place_tags(tmp_path / "found" / "hall") == likeliest(shares) != ()
    told = BackgroundsCommand("prepare", (photo,), tmp_path / "told", depth="none", clip=folder, tags=("street",))
    assert told.run() == 0
    assert place_tags(tmp_path / "told" / "hall") == ("street",)
    document = yaml.safe_load((tmp_path / "told" / "hall" / "place.yaml").read_text())
    assert document["clip_shares"] == dict(shares)
    (tmp_path / "told" / "hall" / "place.yaml").write_text(yaml.safe_dump({**document, "clip_shares": [1]}))
    with pytest.raises(InputError, match="clip_shares"):
        place_shares(tmp_path / "told" / "hall")


def test_an_action_is_as_likely_as_the_places_where_it_is_done():
    shares = (("kitchen", 0.6), ("office", 0.3), ("street", 0.1))
    assert likelihood("cook", shares) == pytest.approx(0.6)
    assert likelihood("make_coffee", shares) == pytest.approx(0.9)
    assert likelihood("an action nobody knows", shares) is None
    assert likelihood("cook", ()) is None
    assert likeliest(shares) == ("kitchen", "office")


def test_plans_prefer_the_likelier_places(tmp_path):
    shares = ((("kitchen", 0.9),), (("street", 0.7), ("kitchen", 0.1)), ())
    entries = tuple(BackgroundEntry(tmp_path, str(i), shares=s) for i, s in enumerate(shares))
    batch = Batch((), (), entries[:2], tmp_path)
    order = np.array([1, 0])
    first = [_likely_first(order, "cook", batch, np.random.default_rng(seed))[0] for seed in range(400)]
    assert np.mean(np.array(first) == 0) == pytest.approx(0.9, abs=0.05)
    unknown = Batch((), (), (entries[2], entries[2]), tmp_path)
    assert _likely_first(order, "cook", unknown, np.random.default_rng(0)) is order


def test_a_folder_without_clip_is_refused(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed (extra: depth)")
    with pytest.raises(BackendMissing, match="No CLIP model"):
        PlaceClassifier(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(BackendMissing, match="No CLIP model"):
        PlaceClassifier(tmp_path)
