"""Every file of a data set, damaged at random many times: it is read, or refused in one line; nothing else is raised,
and no memory is taken that the file does not account for."""

from __future__ import annotations

import copy
import io
import json
import random
import resource
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.written_data_set import FRAMES, SIZE, label_arrays, write_data_set
from PIL import Image

from actionrec.errors import DataError
from actionrec.manifest import read_manifest, write_manifest
from avatars.errors import InputError
from avatars.io.files import write_json
from compose.places.photo import open_photo
from compose.places.place_folder import load_place, place_shares, place_tags
from compose.preparation.hints import PlaceHints, hints_beside
from compose.preparation.prepare import prepare_place
from reenact.data_set.export import DataSet, require_permission, write_card
from reenact.data_set.label_file import LABEL_RULES, read_labels
from reenact.data_set.quality import measure
from reenact.data_set.report import write_data_report
from reenact.planning.plan import read_clips, read_plan
from reenact.planning.receipts import status, verify
from reenact.rendering.labels import decode_rle

pytestmark = pytest.mark.slow

MEMORY = 3 * 2**30
"""More than any of these small files needs, on top of what the process has."""
ROUNDS = [pytest.param(60, id="quick"), pytest.param(10_000, id="long", marks=pytest.mark.exhaustive)]


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Allocating far more than a file holds raises MemoryError, which no reader may."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A data set with a gate's record, a run's and a failure's."""
    out = write_data_set(tmp_path_factory.mktemp("written"))
    clips = read_manifest(out / "manifest.jsonl")
    write_manifest(out / "accepted.jsonl", clips[:1])
    write_manifest(out / "rejected.jsonl", clips[1:])
    gate = {
        "rules": {}, "detector": "none", "funnel": [{"stage": "lit", "came": 2, "rejected": 1}],
        "rejected": [{"id": clips[1].id, "stage": "lit", "reason": "dark", "measures": {"light": 3.0}}],
    }  # fmt: skip
    write_json(out / "gate.json", gate)
    run = {"ended": "2026-01-01", "made": 2, "failed": 0, "frames": 8, "seconds": 1.5, "cpu_s": {"draw": 1.0}}
    (out / "runs.jsonl").write_text(json.dumps(run) + "\n")
    failure = {"id": "f" * 16, "label": "wave", "stage": "draw", "reason": "full", "transient": False}
    (out / "failures.jsonl").write_text(json.dumps(failure) + "\n")
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A prepared place."""
    folder = tmp_path_factory.mktemp("place")
    noise = np.random.default_rng(0).integers(60, 120, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    return prepare_place(folder / "a.png", PlaceHints(tags=("kitchen",))).save(folder / "place")


# Damage of files

STRANGE: tuple[Any, ...] = (
    None, [], {}, [[]], "", "..", "../../x", "/etc/passwd", "a\u2028b", "\ud800", "\0", "x" * 5000, "=1", -1, 0, 1,
    2**31, 2**63, 10**400, -(10**30), 1e308, -1e308, float("nan"), float("inf"), True, False, 0.5, [0, 1], ["a"],
    {"a": 1},
)  # fmt: skip


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every item of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *places_in(item, (*path, key))]]


def damaged_document(document: Any, rng: random.Random) -> Any:
    """A copy in which up to three items are something else, gone, or there twice."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        found = places_in(document)
        if not found:
            return rng.choice(STRANGE)
        *way, last = rng.choice(found)
        parent = document
        for key in way:
            parent = parent[key]
        how = rng.random()
        if how < 0.15:
            del parent[last]
        elif how < 0.25 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        elif how < 0.3 and isinstance(parent, dict):
            parent["unknown"] = rng.choice(STRANGE)
        else:
            parent[last] = copy.deepcopy(rng.choice(STRANGE))
    return document


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, taken out or put in, or the end cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        how = rng.random()
        if how < 0.5 and at < len(data):
            data[at] = rng.choice([0, 0xFF, 0x7F, rng.randrange(256)])
        elif how < 0.65:
            del data[at : at + rng.randint(1, 40)]
        elif how < 0.8:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
        elif how < 0.9:
            data[at : at + 4] = b"\xff\xff\xff\x7f"
        else:
            del data[at:]
    return bytes(data)


def damaged_text(content: bytes, rng: random.Random) -> bytes:
    """A JSON file, or one of lines of JSON, with an item or some bytes changed, or nested without end."""
    if rng.random() < 0.3:
        return damaged_bytes(content, rng)
    if rng.random() < 0.02:
        return b"[" * 100_000
    lines = [line for line in content.decode().split("\n") if line]
    try:
        values = [json.loads(line) for line in lines]
    except json.JSONDecodeError:
        return json.dumps(damaged_document(json.loads(content), rng)).encode()
    number = rng.randrange(len(values))
    values[number] = damaged_document(values[number], rng)
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def damaged_yaml(content: bytes, rng: random.Random) -> bytes:
    """The same of a YAML file."""
    import yaml

    if rng.random() < 0.4:
        return damaged_bytes(content, rng)
    document = damaged_document(yaml.safe_load(content), rng)
    return rng.choice([json.dumps(document), yaml.safe_dump(document)]).encode("utf-8", "replace")


def lying_array(shape: str, kind: str) -> bytes:
    """An npy that says it is of this shape and holds a few bytes."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + b"\0" * 64


TYPES = ("<f4", "|b1", "|S400", "|O", "<M8[s]", ">f8", "<U9")
LIES = ("(4, 165)", "(1000000000,)", "(1000000, 1000000, 1000)", "(-1, 165)", "()", "(0, 10**18)", "(True,)", "(4.0,)")


def other_type(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """The same in another type, or text as floats."""
    with np.errstate(all="ignore"):
        if array.dtype.kind in "USO":
            return np.zeros(array.shape, np.float32)
        return array.astype(rng.choice([np.float64, np.float16, np.int8, np.complex64, bool, "U", "S"]))


def other_values(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """NaN, infinity or something huge instead of floats; other dimensions of the rest."""
    if array.dtype.kind == "f":
        return np.full_like(array, rng.choice([np.nan, np.inf, -np.inf, np.finfo(array.dtype).max, 0.0]))
    return array[..., None] if array.ndim == 0 or rng.random() < 0.5 else array[:0]


def damaged_npz(content: bytes, rng: random.Random) -> bytes:
    """An npz with bytes changed, or an array of another shape or type, with NaN, of objects, that lies, or gone."""
    if rng.random() < 0.35:
        return damaged_bytes(content, rng)
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    members = {}
    for name in rng.sample(sorted(arrays), k=rng.randint(1, min(3, len(arrays)))):
        array = arrays.pop(name)
        how = rng.choice(["gone", "lies", "other type", "other values", "objects", "longer"])
        if how == "lies":
            members[name] = lying_array(rng.choice(LIES), rng.choice(TYPES))
        elif how == "objects":
            arrays[name] = np.array([{"a": 1}, None], dtype=object)
        elif how == "longer":
            arrays[name] = np.concatenate([np.atleast_1d(array)] * rng.randint(2, 4))
        elif how != "gone":
            arrays[name] = other_values(array, rng) if how == "other values" else other_type(array, rng)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return file.getvalue()


# Files and readers


def read_plan_file(out: Path) -> None:
    status(out)
    read_clips(out)
    read_plan(out, check_inputs=False)


def read_receipt_file(out: Path) -> None:
    verify(out)
    export(out)


def export(out: Path) -> None:
    data = DataSet.load(out)
    require_permission(data, "research")
    write_card(data, out, "reenact export", "research")


def read_report(out: Path) -> None:
    write_data_report(out, out / "report.html")


def read_label_file(out: Path) -> None:
    clip = read_manifest(out / "manifest.jsonl")[0]
    measure(out, clip, None)
    read_labels(out / "labels" / f"{clip.id}.npz", tuple(LABEL_RULES), clip)


def first_receipt(out: Path) -> Path:
    return out / "receipts" / f"{read_manifest(out / 'manifest.jsonl')[0].id}.json"


def first_labels(out: Path) -> Path:
    return out / "labels" / f"{read_manifest(out / 'manifest.jsonl')[0].id}.npz"


def named(name: str) -> Callable[[Path], Path]:
    return lambda out: out / name


FILES: dict[str, tuple[Callable[[Path], Path], Callable[[bytes, random.Random], bytes], Callable[[Path], None]]] = {
    "plan.jsonl": (named("plan.jsonl"), damaged_text, read_plan_file),
    "batch.json": (named("batch.json"), damaged_text, read_plan_file),
    "receipt": (first_receipt, damaged_text, read_receipt_file),
    "manifest.jsonl": (named("manifest.jsonl"), damaged_text, read_receipt_file),
    "accepted.jsonl": (named("accepted.jsonl"), damaged_text, export),
    "gate.json": (named("gate.json"), damaged_text, read_report),
    "runs.jsonl": (named("runs.jsonl"), damaged_text, read_report),
    "failures.jsonl": (named("failures.jsonl"), damaged_text, status),
    "labels": (first_labels, damaged_npz, read_label_file),
}


def read_or_refused(read: Callable[[Path], None], folder: Path, what: str) -> bool:
    """Whether a file was read; False when it was refused in a line. Whatever else is raised fails the test."""
    try:
        read(folder)
    except (InputError, DataError) as error:
        assert str(error) and "Traceback" not in str(error)
        assert len(str(error)) < 4000, what
        return False
    return True


def fuzz(folder: Path, name: Path, damage: Any, read: Callable[[Path], None], rounds: int, seed: int) -> int:
    """How many of the damaged files were refused."""
    whole = name.read_bytes()
    refused = 0
    for number in range(rounds):
        content = damage(whole, random.Random(f"{seed} {name.name[-6:]} {number}"))
        name.write_bytes(content)
        refused += not read_or_refused(read, folder, f"round {number}")
    name.write_bytes(whole)
    assert read_or_refused(read, folder, "the whole file")
    return refused


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("file", sorted(FILES))
def test_a_damaged_file_of_a_data_set_is_read_or_refused_in_a_line(written, tmp_path, file, rounds):
    out = Path(shutil.copytree(written, tmp_path / "out"))
    where, damage, read = FILES[file]
    refused = fuzz(out, where(out), damage, read, rounds, seed=1)
    assert refused > rounds / 4


def read_place(folder: Path) -> None:
    load_place(folder)
    place_tags(folder)
    place_shares(folder)


PLACE_FILES = {"place.yaml": damaged_yaml, "depth.npz": damaged_npz, "photo.png": damaged_bytes}


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("file", sorted(PLACE_FILES))
def test_a_damaged_file_of_a_place_is_read_or_refused_in_a_line(place, tmp_path, file, rounds):
    folder = Path(shutil.copytree(place, tmp_path / "place"))
    assert fuzz(folder, folder / file, PLACE_FILES[file], read_place, rounds, seed=2) > rounds / 8


def photo_with_metadata(folder: Path) -> Path:
    """A JPEG with EXIF and a color profile."""
    from PIL import ImageCms

    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = folder / "p.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(path, exif=exif, icc_profile=profile)
    return path


@pytest.mark.parametrize("rounds", ROUNDS)
def test_damaged_metadata_of_a_photo_is_read_or_refused_in_a_line(tmp_path, rounds):
    path = photo_with_metadata(tmp_path)
    whole = path.read_bytes()
    end = whole.index(b"\xff\xdb")  # where the picture begins

    def damage(content: bytes, rng: random.Random) -> bytes:
        return damaged_bytes(content[:end], rng) + content[end:]

    fuzz(tmp_path, path, damage, lambda folder: open_photo(path) and None, rounds, seed=3)


HINTS = {
    "camera_height_m": 1.5, "focal_px": 900, "floor_px": [[0, 50], [127, 50], [127, 95], [0, 95]], "light": "day",
    "occluders": [{"outline_px": [[10, 10], [20, 10], [20, 40]], "foot_px": [15, 40], "reach_m": 0.4}],
    "tags": ["office"],
}  # fmt: skip


@pytest.mark.parametrize("rounds", ROUNDS)
def test_damaged_hints_beside_a_photo_are_read_or_refused_in_a_line(tmp_path, rounds):
    path = tmp_path / "p.yaml"
    path.write_text(json.dumps(HINTS))
    fuzz(tmp_path, path, damaged_yaml, lambda folder: hints_beside(folder / "p.jpg") and None, rounds, seed=4)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_damaged_run_lengths_are_decoded_or_refused(rounds):
    mask = label_arrays(np.eye(SIZE, dtype=bool))["mask_rle"][0]
    for number in range(rounds):
        content = damaged_bytes(bytes(mask), random.Random(number))
        read_or_refused(lambda _, content=content: decode_rle(content, (SIZE, SIZE)) is not None, Path(), str(number))


# Single lies


def test_a_picture_bomb_is_refused_by_its_header(place, tmp_path):
    """60,000 x 60,000 pixels in some kilobytes."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb += chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + chunk(b"IEND", b"")
    folder = Path(shutil.copytree(place, tmp_path / "place"))
    (folder / "photo.png").write_bytes(bomb)
    with pytest.raises(InputError):
        load_place(folder)
    with pytest.raises(InputError, match="megapixels"):
        open_photo(folder / "photo.png")


@pytest.mark.parametrize("shape", ["(100000, 1000000)", "(1000000000,)"])
def test_a_depth_file_that_says_it_is_huge_is_refused_by_its_header(tmp_path, shape):
    from compose.preparation.depth import read_depth

    (tmp_path / "a_depth.npy").write_bytes(lying_array(shape, "<f8"))
    with pytest.raises(InputError, match="said to be larger than it is"):
        read_depth(tmp_path / "a_depth.npy", (96, 128))


def test_labels_that_say_they_are_huge_are_refused_before_memory_is_taken(written, tmp_path):
    path = tmp_path / "labels.npz"
    clip = read_manifest(written / "manifest.jsonl")[0]
    arrays = label_arrays(np.eye(SIZE, dtype=bool))
    del arrays["mask_rle"]
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mask_rle.npy", lying_array(f"({FRAMES},)", "|S2000000000"))
    with pytest.raises(InputError, match="said to be larger than it is"):
        read_labels(path, ("mask_rle",), clip)


@pytest.mark.parametrize("key", ["poses", "joints_px", "K", "times_s"])
def test_labels_with_nan_are_refused(written, tmp_path, key):
    clip = read_manifest(written / "manifest.jsonl")[0]
    arrays = label_arrays(np.eye(SIZE, dtype=bool))
    arrays[key] = np.full_like(arrays[key], np.nan)
    np.savez(tmp_path / "labels.npz", **arrays)
    with pytest.raises(InputError, match=f"`{key}` holds .* values that are no numbers"):
        read_labels(tmp_path / "labels.npz", (key,), clip)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_a_label_may_hold_what_other_programs_take_for_the_end_of_a_line(tmp_path, separator):
    from dataclasses import replace

    from reenact.planning.batch import load_batch
    from reenact.planning.plan import make_plan, open_output

    out = write_data_set(tmp_path)
    batch = load_batch(tmp_path / "batch.yaml")
    motions = tuple(replace(m, label=f"wave{separator}hand") for m in batch.motions)
    plan = make_plan(replace(batch, motions=motions, out=tmp_path / "other"))
    again = open_output(plan)
    assert {clip.label for clip in read_clips(again)} == {f"wave{separator}hand"}
    assert open_output(plan) == again  # found there and equal
    clips = [replace(clip, label=f"a{separator}b") for clip in read_manifest(out / "manifest.jsonl")]
    assert read_manifest(write_manifest(tmp_path / "m.jsonl", clips)) == clips
