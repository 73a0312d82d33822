"""The optional backends: what each needs, whether it is there, and what to do about it; no vendor is imported here."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from avatars.errors import BackendMissing, InputError

Task = Literal["keypoints", "masks", "depth", "face", "body"]


@dataclass(frozen=True)
class BackendOptions:
    """Where a backend's pieces lie. What is not given is read from the environment: MMPOSE_WEIGHTS, SAM_WEIGHTS, ..."""

    python: Path | None = None
    """Interpreter, or folder, of the environment that holds the backend; this one when not given."""
    weights: Path | None = None
    """Local file (or folder) of weights."""
    model: str = ""
    """Config file or packaged config name (MMPose)."""
    repository: Path | None = None
    """Clone of the backend's repository (Hand4Whole)."""
    device: str = ""
    """cpu or cuda; the CPU when not given."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a user has to bring."""

    option: Literal["weights", "model", "repository"]
    what: str
    source: str
    """Where it comes from: names, not addresses that change."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of the table."""

    task: Task
    target: str
    """module:Class of the vendor's model."""
    prefix: str
    """Of its environment variables: PREFIX_PYTHON, PREFIX_WEIGHTS, ..."""
    packages: tuple[str, ...]
    """Import names that its Python must have."""
    install: str
    """The command that installs them."""
    needs: tuple[Need, ...]
    license: str
    """Of the code; of the weights."""
    child_always: bool = False
    """Started as a child even under this Python, because its modules bear names such as `utils` and `config`."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether one backend could be used now."""

    name: str
    task: Task
    missing: tuple[str, ...]
    """What is not there; empty when the backend can be used."""
    fix: str

    @property
    def usable(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


_ONNX = (
    "end2end.onnx in rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.zip (OpenMMLab, onnx_sdk), or "
    "dw-ll_ucoco_384.onnx (DWPose)"
)
_PTH = "rtmw-dw-x-l_simcc-cocktail14_270e-384x288-20231122.pth (OpenMMLab), or dw-ll_ucoco_384.pth (DWPose)"

BACKENDS: dict[str, Backend] = {
    "mmpose": Backend(
        task="keypoints",
        target="avatars.perception.mmpose_wholebody:MMPoseModel",
        prefix="MMPOSE",
        packages=("torch", "mmengine", "mmcv", "mmpose"),
        install="bash scripts/install_mmpose.sh ENV, then MMPOSE_PYTHON=ENV",
        needs=(
            Need("weights", "a whole-body checkpoint", _PTH),
            Need(
                "model",
                "its config",
                "the name of one packaged with MMPose: rtmw-l_8xb320-270e_cocktail14-384x288 for that RTMW, "
                "rtmpose-l_8xb32-270e_coco-ubody-wholebody-384x288 for that DWPose",
            ),
        ),
        license="Apache-2.0; weights Apache-2.0, trained on data sets with their own terms",
    ),
    "rtmlib": Backend(
        task="keypoints",
        target="avatars.perception.rtmlib_wholebody:RtmlibModel",
        prefix="RTMLIB",
        packages=("rtmlib", "onnxruntime"),
        install="python -m venv ENV && ENV/bin/pip install rtmlib onnxruntime, then RTMLIB_PYTHON=ENV",
        needs=(Need("weights", "a whole-body ONNX file", _ONNX),),
        license="Apache-2.0; weights as MMPose's",
    ),
    "segment-anything": Backend(
        task="masks",
        target="avatars.perception.segment_anything_masks:SegmentAnythingModel",
        prefix="SAM",
        packages=("torch", "torchvision", "segment_anything"),
        install="pip install 'splat-avatars[sam]'",
        needs=(
            Need(
                "weights", "a checkpoint", "sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth (Meta)"
            ),
        ),
        license="Apache-2.0; weights Apache-2.0",
    ),
    "depth-anything": Backend(
        task="depth",
        target="avatars.perception.depth_anything:DepthAnythingModel",
        prefix="DEPTH_ANYTHING",
        packages=("torch", "transformers"),
        install="pip install 'splat-avatars[depth]'",
        needs=(
            Need(
                "weights",
                "the folder of a checkpoint",
                "Depth-Anything-V2-Small-hf (relative) or Depth-Anything-V2-Metric-Indoor-Small-hf, -Outdoor-Small-hf",
            ),
        ),
        license="Apache-2.0; weights Small Apache-2.0, Base and Large CC-BY-NC-4.0, metric ones as their card says",
    ),
    "deca": Backend(
        task="face",
        target="avatars.perception.deca_face:DecaModel",
        prefix="DECA",
        packages=("torch",),
        install="pip install torch",
        needs=(
            Need("weights", "its checkpoint", "deca_model.tar of github.com/yfeng95/DECA (fetch_data.sh fetches it)"),
        ),
        license="ours; weights non-commercial research",
    ),
    "hand4whole": Backend(
        task="body",
        target="avatars.perception.hand4whole_body:Hand4WholeModel",
        prefix="HAND4WHOLE",
        packages=("torch", "torchvision", "cv2"),
        install="pip install torch torchvision opencv-python chumpy in an environment of its own, "
        "then HAND4WHOLE_PYTHON=ENV",
        needs=(
            Need(
                "repository",
                "a clone of Hand4Whole",
                "github.com/mks0601/Hand4Whole_RELEASE, its common/utils/human_model_files filled (registration)",
            ),
            Need("weights", "its snapshot", "snapshot_6.pth.tar, named in the repository's README"),
        ),
        license="MIT; weights name no terms, SMPL-X, SMPL, MANO and FLAME licensed separately",
        child_always=True,
    ),
}
"""name: what is needed to use it."""


def backends_of(task: Task) -> list[str]:
    """Names of the optional backends of one task."""
    return [name for name, backend in BACKENDS.items() if backend.task == task]


def availability() -> list[Availability]:
    """For every optional backend, what the environment variables and the installed packages leave missing.

    No vendor is imported; another Python that is named is asked which packages it has.
    """
    return [_availability(name, resolved(name)) for name in BACKENDS]


def resolved(name: str, options: BackendOptions | None = None) -> BackendOptions:
    """The options, with what they leave open taken from the environment, then from the table."""
    backend, options = _backend(name), options or BackendOptions()
    found = {}
    for field in fields(options):
        given = getattr(options, field.name)
        text = os.environ.get(f"{backend.prefix}_{field.name.upper()}", "")
        if given != field.default or not text:
            continue
        found[field.name] = Path(text).expanduser() if field.name in ("python", "weights", "repository") else text
    return replace(options, **{"device": options.device or "cpu", **found})


def options_by_name(settings: Sequence[str]) -> dict[str, BackendOptions]:
    """`NAME.OPTION=VALUE` texts (`rtmlib.weights=FILE`, `deca.python=ENV`) as options of each backend named.

    Raises InputError for a text that is none, and for an unknown name or option.
    """
    known = [field.name for field in fields(BackendOptions)]
    found: dict[str, BackendOptions] = {}
    for text in settings:
        target, _, value = text.partition("=")
        name, _, option = target.partition(".")
        if not value or option not in known:
            raise InputError(f"--backend {text}: expected NAME.OPTION=VALUE, with OPTION one of {', '.join(known)}.")
        _backend(name)
        given = Path(value).expanduser() if option in ("python", "weights", "repository") else value
        found[name] = replace(found.get(name, BackendOptions()), **{option: given})
    return found


def require(name: str, options: BackendOptions) -> None:
    """Raise BackendMissing that says all that is missing, and how to mend it."""
    state = _availability(name, options)
    if not state.usable:
        raise BackendMissing(f"{name} cannot be used: {'; '.join(state.missing)}. {state.fix}")


def open_backend(name: str, options: BackendOptions | None = None) -> Any:
    """The backend's model with its weights loaded: keyword arrays in, a dict of arrays out, `close()` at the end.

    Raises InputError for an unknown name and BackendMissing where a piece is not there, before any work.
    """
    from avatars.perception.child_process import interpreter, open_model

    backend, options = _backend(name), resolved(name, options)
    require(name, options)
    module = importlib.import_module(backend.target.split(":")[0])
    python = None if options.python is None else interpreter(options.python)
    if python is None and backend.child_always:
        python = Path(sys.executable)
    arguments = {need.option: _argument(getattr(options, need.option)) for need in backend.needs}
    model_class = getattr(module, backend.target.split(":")[1])
    return open_model(model_class, module.__file__, python, {**arguments, "device": options.device}, what=name)


def _backend(name: str) -> Backend:
    if name not in BACKENDS:
        raise InputError(f"No backend {name!r}; known: {', '.join(BACKENDS)}.")
    return BACKENDS[name]


def _availability(name: str, options: BackendOptions) -> Availability:
    backend = BACKENDS[name]
    missing, fixes = [], []
    trouble = _packages_missing(backend, options.python)
    if trouble:
        missing.append(trouble)
        fixes.append(f"Packages: {backend.install}.")
    for need in backend.needs:
        given = getattr(options, need.option)
        variable = f"{backend.prefix}_{need.option.upper()}"
        if not given:
            missing.append(f"{need.what} ({need.option})")
        elif isinstance(given, Path) and not given.exists():
            missing.append(f"{need.what}: nothing at {given}")
        else:
            continue
        fixes.append(f"{need.option.capitalize()}: {need.source}; then {variable}=... or the option {need.option}.")
    return Availability(name, backend.task, tuple(missing), " ".join(fixes))


def _packages_missing(backend: Backend, python: Path | None) -> str:
    """What to say of the packages that are not there; "" when all are."""
    from avatars.perception.child_process import absent_packages, interpreter

    where = ""
    if python is None:
        absent = [package for package in backend.packages if importlib.util.find_spec(package) is None]
    else:
        try:
            absent = absent_packages(interpreter(python), ("numpy", *backend.packages))
        except InputError as error:
            return str(error).rstrip(".")
        where = f" in {python}"
    return f"the package{'s' * (len(absent) > 1)} {', '.join(absent)}{where}" if absent else ""


def _argument(value: Path | str) -> str:
    return str(value.expanduser().absolute()) if isinstance(value, Path) else value
