"""What a script loads once its options are parsed: what it uses, and nothing heavy besides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_kitti import arguments, write_kitti

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


# Tells every module that is first imported by another thread than the main one.
LISTEN = """
import importlib.abc, sys, threading

class Listener(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if threading.current_thread() is not threading.main_thread():
            print("imported aside:", name)

sys.meta_path.insert(0, Listener())
import train
train.main(sys.argv[1:])
print("trained")
"""


def test_the_writing_thread_imports_nothing(tmp_path):
    """A loader worker forked at that moment would wait for the module for ever."""
    root = write_kitti(tmp_path)
    command = [*arguments(root, "run", "--num_epochs", 2), "--num_workers", "1"]
    run = subprocess.run([sys.executable, "-c", LISTEN, *command], cwd=ROOT, check=True, text=True,
                         stdout=subprocess.PIPE, timeout=300)  # fmt: skip
    said = run.stdout.splitlines()
    assert "trained" in said
    assert [line for line in said if line.startswith("imported aside")] == []
