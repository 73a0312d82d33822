"""The README and the pages in docs/ say what is true: commands parse, links lead somewhere, examples are accepted."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import test_imports
import tyro
import yaml

from compose.places.light import preset_light

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
ASSIGNMENT = re.compile(r"^[A-Z_]+=")
WRAPPERS = {"chrt": 3, "nice": 1}
"""Programs that start another, and how many words they take before it."""
MODULES = ("actionrec.sources", "avatars.studio")
MOST_LINES, MOST_PICTURE_BYTES, MOST_EXAMPLE_LINES = 150, 400_000, 8


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a page, indented ones, too."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return ["\n".join(line.removeprefix(indent) for line in block.splitlines()) for indent, block in found]


def commands_in(block: str) -> Iterator[list[str]]:
    """The words of every command of a shell block, without environment variables and wrappers before it."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and (ASSIGNMENT.match(command[0]) or command[0] in WRAPPERS):
                command = command[WRAPPERS.get(command[0], 1) :]
            if command:
                yield command


def is_ours(words: list[str]) -> bool:
    """Whether a command runs a program of this repository."""
    if words[0] in ("avatars", "reenact"):
        return True
    return words[0].startswith("python") and (words[1].startswith("scripts/") or words[2:3] in [[m] for m in MODULES])


EVERY = [(page, words) for page in PAGES for block in blocks(page, "bash") for words in commands_in(block)]
OURS = [(page, words) for page, words in EVERY if is_ours(words)]


class Parsed(BaseException):
    """A program has its options; it ends here."""


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the program that a command names until it has parsed its options. SystemExit where they are wrong."""
    parse_by_tyro, parse_by_argparse = tyro.cli, argparse.ArgumentParser.parse_args

    def by_tyro(*args: Any, **options: Any) -> None:
        parse_by_tyro(*args, **options)
        raise Parsed

    def by_argparse(*args: Any, **options: Any) -> None:
        parse_by_argparse(*args, **options)
        raise Parsed

    monkeypatch.setattr(tyro, "cli", by_tyro)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", by_argparse)
    module = {"avatars": "avatars.commands.cli", "reenact": "reenact.cli"}.get(words[0])
    if words[1] == "-m":
        module, words = f"{words[2]}.__main__", words[2:]
    elif module is None:
        words = words[1:]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(Parsed):
        if module is None:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        else:
            importlib.import_module(module).main()


@pytest.mark.slow
@pytest.mark.parametrize(("page", "words"), OURS, ids=lambda v: v.name if isinstance(v, Path) else " ".join(v)[:70])
def test_every_command_line_is_one_that_its_program_takes(page, words, monkeypatch):
    parse(words, monkeypatch)


def test_a_command_line_with_an_option_that_is_gone_is_told(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parse(["avatars", "fit", "anna.mp4", "-o", "runs/anna", "--speed", "high"], monkeypatch)
    assert "--speed" in capsys.readouterr().err


def test_every_command_has_a_command_line_on_some_page(option_tables):
    shown = {" ".join(words[:n]) for _, words in OURS for n in (2, 3)}
    assert set(option_tables.commands()) <= shown


PLACE = {
    "schema": 1,
    "camera": {
        "focal_px": 500.0,
        "center_px": [256.0, 256.0],
        "size_hw": [512, 512],
        "T_cam_world": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    },
    "depth": {"noise": 0.1, "source": "none"},
    "light": asdict(preset_light("day")),
    "assumed": [],
}
"""The least that a prepared place's file says."""


@pytest.fixture(scope="module")
def option_tables() -> ModuleType:
    """The hook that writes the pages' option tables."""
    spec = importlib.util.spec_from_file_location("option_tables", DOCS / "hooks" / "option_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["option_tables"] = module
    spec.loader.exec_module(module)
    return module


def test_every_option_of_every_command_is_in_its_table(option_tables, capsys):
    for command, cls in option_tables.commands().items():
        options = option_tables.options_of(command)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
            parse([*command.split(), "--help"], patch)
        told = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
        listed = {flag for option in options for flag in option.flags if flag.startswith("--")}
        texts = " ".join([cls.__doc__ or "", *(option.meaning for option in options)])
        assert listed <= told, f"{command}: --help lacks what the table has"
        assert {flag for flag in told - listed if flag not in texts} == set(), f"{command}: the table lacks an option"


def test_a_table_has_the_texts_and_defaults_of_the_command(option_tables):
    table = option_tables.table("avatars track")
    assert "| `--iterations` | `INT, 20 to 100000` | `160` | Optimization steps of the longest stage. |" in table
    assert "| `-o`, `--output` | `PATH` |" in table
    assert table.index("`VIDEO`") < table.index("`--output`")


def test_every_command_has_its_option_table_on_a_page(option_tables):
    marks = re.findall(r"^<!-- options: (.+?) -->$", "\n".join(page.read_text("utf-8") for page in PAGES), re.M)
    without_options = {"avatars doctor"}
    assert sorted(marks) == sorted(set(option_tables.commands()) - without_options)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_in_running_text_exist(page, option_tables):
    known = option_tables.commands()
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for span in re.findall(r"`((?:avatars|reenact) [a-z][^`\n]*)`", prose):
        words = span.split()
        name = " ".join(words[:3]) if words[1] == "body" else " ".join(words[:2])
        assert name in known, f"`{span}`"
        flags = {flag for option in option_tables.options_of(name) for flag in option.flags}
        assert not {word for word in words if word.startswith("--")} - flags, f"`{span}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rows_of_tables_have_a_cell_for_every_column(page):
    rows: list[str] = []
    for line in [*page.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line)
            continue
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
        assert len(widths) <= 1 and all(row.endswith("|") for row in rows), rows[0]
        rows = []


def test_every_page_is_in_the_navigation_once():
    def pages(entries: Any) -> Iterator[str]:
        for entry in entries:
            (below,) = entry.values()
            yield from pages(below) if isinstance(below, list) else [below]

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages(config["nav"])) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_readme_is_one_page_with_one_small_picture():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size <= MOST_PICTURE_BYTES


def test_the_readme_has_the_test_line_as_continuous_integration_looks_for_it():
    lines = [
        line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.endswith("&& pytest")
    ]
    assert lines == ["python3 -m venv .venv && . .venv/bin/activate && pip install '.[test]' && pytest"]


def test_extras_named_on_pages_are_declared():
    declared = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M))
    named = {extra for page in PAGES for found in re.findall(r"'\.\[([\w,]+)\]'", page.read_text("utf-8"))
             for extra in found.split(",")}  # fmt: skip
    assert named and named <= declared


def test_paths_of_tests_and_scripts_on_pages_exist():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"\b(?:tests|scripts|docs|avatars|compose|reenact|actionrec)/[\w/]+\.(?:py|sh|md)\b", text))
    assert named and not [path for path in sorted(named) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_python_compile(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def test_the_readme_shows_python_in_eight_lines():
    (example,) = blocks(ROOT / "README.md", "python")
    assert len(example.splitlines()) <= MOST_EXAMPLE_LINES
    assert example in (DOCS / "reference.md").read_text(encoding="utf-8")


BATCHES = [(page, block) for page in PAGES for block in blocks(page, "yaml") if re.search("^avatars:", block, re.M)]


@pytest.mark.parametrize(("page", "block"), BATCHES, ids=lambda value: getattr(value, "name", ""))
def test_batches_on_pages_are_accepted(page, block, tmp_path):
    from reenact.planning.batch import load_batch

    document = yaml.safe_load(block)
    for kind in ("avatars", "motions", "backgrounds"):
        for entry in document[kind]:
            path = tmp_path / (entry if isinstance(entry, str) else entry["path"]).replace("*", "1")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix:
                path.touch()
            else:
                path.mkdir()
                (path / "place.yaml").write_text(json.dumps(PLACE), encoding="utf-8")  # JSON is YAML
    (tmp_path / "batch.yaml").write_text(block, encoding="utf-8")
    assert load_batch(tmp_path / "batch.yaml").out == tmp_path / document["out"]


def test_the_page_about_batches_names_every_key():
    from dataclasses import fields

    from reenact.planning.batch import AvatarEntry, BackgroundEntry, Batch, MotionEntry
    from reenact.planning.quotas import Quotas

    text = (DOCS / "batch.md").read_text(encoding="utf-8")
    names = {f.name for cls in (AvatarEntry, BackgroundEntry, Batch, MotionEntry, Quotas) for f in fields(cls)}
    names = names - {"size_hw", "shares"} | {"size"}
    assert not sorted(name for name in names if not re.search(rf"\b{name}\b", text))


def test_hints_about_a_place_on_its_page_are_accepted(tmp_path):
    from compose.preparation.hints import read_hints

    (block,) = [found for found in blocks(DOCS / "places.md", "yaml") if "occluders:" in found]
    (tmp_path / "table.png").touch()
    (tmp_path / "kitchen.yaml").write_text(block, encoding="utf-8")
    assert len(read_hints(tmp_path / "kitchen.yaml").occluders) == 2


def test_the_page_about_files_names_every_field_that_is_written(tmp_path):
    from dataclasses import fields

    import numpy as np
    import torch

    from actionrec.manifest import ManifestClip
    from avatars.avatar.loose_clothes import LooseClothes
    from avatars.avatar.pose_correctives import PoseCorrectives
    from avatars.avatar.skirt import Skirt
    from avatars.body.motion import Motion
    from avatars.perception.containers import Keypoints
    from avatars.perception.frame_quality import FrameQuality
    from avatars.tracking.config import TrackConfig
    from avatars.tracking.model_files import ModelFiles
    from avatars.tracking.spans import Span
    from avatars.tracking.track import SourceVideo
    from compose.places.light import preset_light
    from reenact.planning.plan import PlannedClip
    from reenact.planning.receipts import Failure
    from reenact.rendering import labels

    written = (ManifestClip, Keypoints, FrameQuality, TrackConfig, ModelFiles, Span, SourceVideo, PlannedClip, Failure)
    names = {field.name for cls in written for field in fields(cls)} | preset_light("day").as_json().keys()
    for part, cls in (("loose", LooseClothes), ("correctives", PoseCorrectives), ("skirt", Skirt)):
        names |= {f"{part}.{field.name}" for field in fields(cls)}
    frames, some = 2, torch.zeros(2)
    still = Motion(
        torch.zeros(frames, 55, 3), torch.zeros(frames, 3), torch.zeros(10), torch.zeros(frames, 10),
        torch.arange(frames).double(), some == 0, "", "", torch.zeros(frames, 55), torch.zeros(frames, 4) > 0,
    )  # fmt: skip
    with np.load(still.save(tmp_path / "still.npz")) as archive:
        names |= set(archive.files)
    names |= set(re.findall(r"`([a-z_]+)`(?:\s*\(|,|\s+and\s)", labels.__doc__ or ""))
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    assert not sorted(name for name in names if not re.search(rf"[`.]{re.escape(name)}\b", page))


@pytest.mark.slow
def test_stations_of_the_journeys_are_functions_that_exist():
    stations = re.findall(
        r"^\| `([\w/]+\.py)` \| ([^|]+) \|", (DOCS / "architecture.md").read_text(encoding="utf-8"), re.M
    )
    missing = []
    for path, names in stations:
        top = {getattr(node, "name", ""): node for node in ast.parse((ROOT / path).read_text("utf-8")).body}
        for name in re.findall(r"`([\w.]+)`", names):
            owner, _, method = name.partition(".")
            inside = {getattr(node, "name", "") for node in getattr(top.get(owner), "body", ())}
            if owner not in top or (method and method not in inside):
                missing.append(f"{path}: {name}")
    assert len(stations) > 40 and not missing


def test_floors_of_the_map_are_the_order_of_imports():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for package, order in test_imports.ORDER.items():
        folders = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file()}
        part = text.split(f"### {package}\n")[1].split("###")[0]
        floors: dict[int, set[str]] = {}
        for floor, names in re.findall(r"^\| (\d+) \| ([^|]+) \|", part, re.M):
            floors.setdefault(int(floor), set()).update(re.findall(r"`(\w+)`", names))
        drawn = [floors[floor] for floor in sorted(floors) if floors[floor]]
        assert drawn == [names & folders for names in order if names & folders]
