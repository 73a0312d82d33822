#!/usr/bin/env bash
# Makes an environment that runs MMPose 1.3.2 on the CPU or a GPU without compiled operators:
#   bash scripts/install_mmpose.sh ENV [PYTHON]
# then: MMPOSE_PYTHON=ENV MMPOSE_MODEL=CONFIG MMPOSE_WEIGHTS=FILE.pth avatars track ... --detector mmpose
#
# TORCH chooses another torch, for example TORCH=torch==2.1.2. CPU-only torch: set
# PIP_INDEX_URL / PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels.
set -euo pipefail

env="${1:?usage: install_mmpose.sh ENV [PYTHON]}"
python="${2:-python3.11}"

# One set that was tried; later versions of numpy (2), setuptools (81: no pkg_resources) or mmcv (2.2) break it.
torch="${TORCH:-torch==2.13.0}"  # torchvision is not needed
openmmlab=(mmengine==0.10.7 mmcv-lite==2.1.0)
libraries=(
  numpy==1.26.4 pillow==11.3.0 opencv-python==4.11.0.86 scipy==1.13.1 matplotlib==3.9.4
  munkres==1.1.4 json_tricks==3.17.3 xtcocotools==1.14.3 six==1.17.0
)

"$python" -c 'import sys; v = sys.version_info; sys.exit(not (3, 9) <= v[:2] <= (3, 11))' || {
  echo "MMPose's set needs Python 3.9 to 3.11; $python is $("$python" --version). Give another: install_mmpose.sh ENV PYTHON" >&2
  exit 2
}
"$python" -m venv "$env"
env="$(cd "$env" && pwd)"
"$env/bin/pip" install --quiet "$torch" "setuptools<81" numpy==1.26.4
"$env/bin/pip" install --quiet "${openmmlab[@]}" "${libraries[@]}"
# without its dependencies: chumpy, which it lists and never imports, cannot be installed on Python 3.11
"$env/bin/pip" install --quiet --no-deps mmpose==1.3.2

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$here/avatars/perception"
"$env/bin/python" -c '
import mmpose_wholebody as vendor
vendor._stand_in_for_unused_imports()
import mmpose, torch
from mmpose.apis import init_model
print(f"mmpose {mmpose.__version__} with torch {torch.__version__} works.")' 2>/dev/null || {
  echo "MMPose was installed into $env but cannot be imported; run: $env/bin/python -c 'import mmpose'" >&2
  exit 1
}
