"""What a script loads once its options are parsed: what it uses, and nothing heavy besides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"av", "cv2", "h5py", "joblib", "matplotlib", "onnxruntime", "pandas", "scipy", "skimage",
         "tensorboard", "thop", "timm", "torch", "torchvision"}  # fmt: skip
# What each script needs: its modules loaded, a network built; and what of HEAVY comes with them.
RESNET = "from networks import build_depth_network as build; build('resnet', 18); "
LOADED = {
    "train": (RESNET + "import distributed, trainer", {"tensorboard", "torch", "torchvision"}),
    "evaluate_depth": (
        RESNET + "import distributed, evaluation_sets, inference, published_results, saved_disps",
        {"torch", "torchvision"},
    ),
    "export_gt_depth": ("import datasets.splits, kitti_utils", set()),
    "prepare_cityscapes": ("import datasets.files, datasets.cityscapes_raw", set()),
}


@pytest.mark.parametrize("script", LOADED)
def test_nothing_heavy_comes_unused(script: str):
    code, expected = LOADED[script]
    code = f"import {script}; {code}; import sys; print(*sorted({HEAVY} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, text=True,
                         stdout=subprocess.PIPE, timeout=300)  # fmt: skip
    assert set(run.stdout.split()) == expected
