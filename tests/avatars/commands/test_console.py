"""Commands end in one line and an exit code; the doctor says what works and what to do."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.commands import console, doctor
from avatars.errors import BackendMissing, BodyFileMissing, InputError
from avatars.io.files import atomic_path, read_json, require_fresh_folder, require_space, write_json
from avatars.viewing.contact_sheet import contact_sheet


@dataclass(frozen=True)
class Raising:
    error: BaseException

    def run(self) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("No person in a.mp4."), 2, "No person in a.mp4."),
        (BodyFileMissing("No body at b.npz."), 2, "No body at b.npz."),
        (BackendMissing("mediapipe is not installed."), 2, "mediapipe is not installed."),
        (OSError(errno.ENOSPC, "No space left on device", "/out/clip.mp4"), 2, "No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), 2, "No permission"),
        (RuntimeError("two\nlines"), 1, "RuntimeError: two lines"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run(Raising(error)) == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert said in printed
    assert printed.count("\n") == 1


def test_the_traceback_is_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLAT_AVATARS_DEBUG", "1")
    console.run(Raising(RuntimeError("broken")))
    assert "Traceback" in capsys.readouterr().err


def test_doctor_finds_the_default_path_working() -> None:
    broken = [f for f in doctor.examine() if f.state == "broken"]
    assert broken == []


def test_doctor_says_what_to_do_about_a_numpy_that_mediapipe_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "2.1.0" if name == "numpy" else real(name))
    finding = next(f for f in doctor.examine() if f.what == "numpy")
    assert finding.state == "broken"
    assert "numpy<2" in finding.advice


def test_doctor_reports_a_body_path_that_names_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMPLX_BODY", str(tmp_path / "SMPLX_NEUTRAL.npz"))
    finding = next(f for f in doctor.examine() if f.what == "body model")
    assert finding.state == "broken"


def test_doctor_survives_a_check_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> doctor.Check:
        raise OSError("no such library")

    monkeypatch.setattr(doctor, "_video", fails)
    findings = {f.what: f for f in doctor.examine()}
    assert findings["video"].state == "broken"
    assert "no such library" in findings["video"].found
    assert "disk" in findings


def test_a_folder_with_something_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    kept = tmp_path / "avatar.json"
    kept.write_text("{}")
    with pytest.raises(InputError, match="already exists"):
        require_fresh_folder(tmp_path, what="fit")
    with pytest.raises(InputError, match="is a file"):
        require_fresh_folder(kept, what="fit")
    assert kept.read_text() == "{}"


def test_too_little_space_is_said_before_work(tmp_path: Path) -> None:
    require_space(tmp_path / "new" / "deeper", 1.0)
    with pytest.raises(InputError, match="Not enough disk space"):
        require_space(tmp_path / "new", 1e12)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "scores.json", {"psnr_db": 30.0})
    with pytest.raises(RuntimeError), atomic_path(path) as aside:
        aside.write_text("half")
        raise RuntimeError("killed")
    assert read_json(path) == {"psnr_db": 30.0}
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_broken_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    path.write_text("{")
    with pytest.raises(InputError, match=r"camera\.json"):
        read_json(path)


def test_contact_sheet_shows_every_picture_in_order(tmp_path: Path) -> None:
    red, blue = np.zeros((20, 10, 3), np.uint8), np.zeros((20, 10, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = np.asarray(Image.open(contact_sheet(tmp_path / "s.png", [("one", [red, blue])], cell_height_px=40)))
    row = sheet[22 + 6 + 20]
    assert row[6 + 10].tolist() == [255, 0, 0]
    assert row[6 + 20 + 6 + 10].tolist() == [0, 0, 255]


def test_doctor_prints_the_extras_of_packages(capsys: pytest.CaptureFixture[str]) -> None:
    doctor._print([doctor.Check("sam", "optional", "missing", "pip install 'splat-avatars[sam]'")])
    assert "'splat-avatars[sam]'" in capsys.readouterr().out
