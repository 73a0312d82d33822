"""The CPU rasterizer's C++ under the address and undefined-behavior sanitizers (takes the better part of a minute)."""

from __future__ import annotations

import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[3] / "avatars" / "kernels" / "csrc"
DRIVER = Path(__file__).with_name("sanitizer_driver.cpp")
FLAGS = [
    "-std=c++17", "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp-simd", f"-I{CSRC}",
]  # fmt: skip
AVX2 = ["-mavx2", "-mfma", "-mbmi"]
SOURCES = {DRIVER: []} | {
    CSRC / f"{name}.cpp": [] for name in ("adam", "pose", "rasterizer", "thread_pool", "kernels_plain")
}
if platform.machine().lower() in ("x86_64", "amd64"):
    SOURCES[CSRC / "kernels_avx2.cpp"] = AVX2
    SOURCES[CSRC / "kernels_avx512.cpp"] = [
        "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512", *AVX2,
    ]  # fmt: skip


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def compiler(tmp_path_factory) -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "empty.cpp").write_text("int main() {}\n")
    if run(found, *FLAGS, folder / "empty.cpp", "-o", folder / "empty").returncode:
        pytest.skip(f"{found} has no sanitizers")
    return found


def build(compiler: str, folder: Path) -> Path:
    def compiled(source: Path) -> Path:
        done = run(compiler, *FLAGS, *SOURCES[source], "-c", source, "-o", folder / f"{source.stem}.o")
        assert done.returncode == 0, done.stderr
        return folder / f"{source.stem}.o"

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, SOURCES))
    linked = run(compiler, *FLAGS, *objects, "-lpthread", "-o", folder / "driver")
    assert linked.returncode == 0, linked.stderr
    return folder / "driver"


@pytest.mark.slow
def test_sanitizers_find_nothing_in_the_rasterizer(compiler, tmp_path):
    done = run(build(compiler, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failures" in done.stdout


def test_sanitizers_find_a_read_past_the_end(compiler, tmp_path):
    """So that a run that finds nothing means something."""
    (tmp_path / "past.cpp").write_text(
        '#include "buffer.h"\nint main(int n, char**) { splat::Buffer<char> b; return b.hold(64)[n * b.capacity()]; }\n'
    )
    assert run(compiler, *FLAGS, tmp_path / "past.cpp", "-o", tmp_path / "past").returncode == 0
    done = run(tmp_path / "past")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
