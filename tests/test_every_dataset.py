"""Every data set trained on and evaluated, every benchmark scored, on rendered copies of all.

The scripts run as users run them, in a copy of the code whose `splits/` hold the rendered lists.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat

from evaluation import PROTOCOLS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 10
TESTED = range(0, FRAMES, 3)
DRIVE = "2026_01_01/2026_01_01_drive_0002_sync"
TINY = [
    "--no_cuda", "--num_workers", "0", "--backbone", "resnet", "--weights_init", "scratch",
    "--height", "32", "--width", "64", "--batch_size", "2", "--use_local_crop",
    "--use_patch_reshuffle",
]  # fmt: skip
# What true depth is off by, scored as a prediction; why: tests/test_render_layouts.py.
FLOORS = {"kitti_eigen": 0.02, "kitti_eigen_benchmark": 5e-4, "cityscapes": 1e-6, "nyuv2": 1e-6,
          "make3d": 1e-6}


class Place:
    """A copy of the code, rendered copies of all data sets, and a folder for runs."""

    def __init__(self, folder: Path) -> None:
        self.code, self.data, self.runs = folder / "code", folder / "data", folder / "runs"
        left_out = shutil.ignore_patterns(".*", "tests", "__pycache__", "demo_output")
        shutil.copytree(ROOT, self.code, ignore=left_out)
        self.run("render_demo.py", "--out", self.data, "--layout", "all", "--streets", 2,
                 "--frames", FRAMES, "--height", 96, "--width", 312)
        for split in ("eigen", "eigen_benchmark"):
            lists = self.code / "splits/kitti" / split
            lists.mkdir(exist_ok=True)
            shutil.copy(self.data / "kitti_depth/split/test_files.txt", lists)
            self.run("export_gt_depth.py", "--data_path", self.data / "kitti_depth", "--split",
                     split)
        self.run("prepare_cityscapes.py", "--dataset_dir", self.data / "cityscapes", "--dump_root",
                 self.data / "prepared", "--img_width", 1024, "--img_height", 512)

    def run(self, script: str, *arguments: object) -> str:
        """Run a script; what it printed."""
        done = subprocess.run([sys.executable, script, *map(str, arguments)], cwd=self.code,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def train(self, name: str, *arguments: object) -> list[dict[str, str]]:
        """Train; the rows of metrics.csv, all finite but what takes a path of 100 m."""
        self.run("train.py", "--log_dir", self.runs, "--exp_name", name, *TINY, *arguments)
        with (self.runs / name / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert all(math.isfinite(float(value)) for row in rows for name, value in row.items()
                   if not name.endswith(("/t_err", "/r_err")))
        return rows

    def benchmarks(self) -> list[object]:
        """The flags of all five."""
        return ["--kitti_path", self.data / "kitti_depth", "--eval_split", "eigen",
                "eigen_benchmark", "--nyuv2_path", self.data / "nyuv2", "--make3d_path",
                self.data / "make3d", "--cityscapes_path", self.data / "cityscapes"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("every_dataset")
    yield Place(folder)
    shutil.rmtree(folder)


def protocols(row: dict[str, str]) -> set[str]:
    """What a row of metrics.csv scores."""
    return {name.partition("/")[0] for name in row if name.endswith("/abs_rel")}


@pytest.mark.parametrize(("dataset", "folder", "scored"), [
    ("kitti", "kitti_depth", {"kitti_eigen"}),
    ("kitti_depth", "kitti_depth", {"kitti_eigen"}),
    ("cityscapes", "cityscapes", {"cityscapes"}),
    ("nyuv2", "nyuv2", {"nyuv2"}),
])
def test_an_epoch_on_each_data_set_and_its_evaluation(place, dataset, folder, scored):
    data = place.data / folder
    lists = data / "split" if folder.startswith("kitti") else data
    flags = {"kitti": ["--use_stereo"], "kitti_depth": [], "nyuv2": ["--max_depth", 10],
             "cityscapes": ["--data_path_pre", place.data / "prepared"]}[dataset]
    (row,) = place.train(dataset, "--dataset", dataset, "--data_path", data, "--split", lists,
                         "--num_epochs", 1, *flags)
    assert protocols(row) == scored


def test_an_epoch_on_kitti_odometry_and_its_evaluation(place):
    data, output = place.data / "kitti_odom", place.runs / "paths"
    (row,) = place.train("kitti_odom", "--dataset", "kitti_odom", "--data_path", data, "--split",
                         data, "--num_epochs", 1, "--eval_split", "09")
    assert float(row["kitti_odom_09/snippet_ate"]) > 0
    place.run("evaluate_pose.py", "--pretrained_path", place.runs / "kitti_odom/ckpt.pth",
              "--data_path", data, "--eval_split", "09", "--output", output, "--no_cuda",
              "--num_workers", 0)
    assert np.loadtxt(output / "09.txt").shape == (FRAMES, 12)
    assert (output / "09.png").is_file()


def test_a_kitti_run_scores_all_five_benchmarks_after_each_epoch(place):
    data = place.data / "kitti_depth"
    rows = place.train("five", "--data_path", data, "--split", data / "split", "--num_epochs", 2,
                       *place.benchmarks())
    assert [protocols(row) for row in rows] == [set(PROTOCOLS)] * 2
    report = place.runs / "five.json"
    printed = place.run("evaluate_depth.py", "--pretrained_path", place.runs / "five/ckpt.pth",
                        "--no_cuda", "--num_workers", 0, "--post_process", "--save_json", report,
                        *place.benchmarks())
    assert "summary" in printed
    assert set(json.loads(report.read_text())["benchmarks"]) == set(PROTOCOLS)
    # Without post-processing it is the training's own evaluation.
    place.run("evaluate_depth.py", "--pretrained_path", place.runs / "five/ckpt.pth", "--no_cuda",
              "--num_workers", 0, "--save_json", report, *place.benchmarks())
    for name, found in json.loads(report.read_text())["benchmarks"].items():
        assert found["images"] == len(TESTED)
        for metric, value in found["metrics"].items():
            assert value == pytest.approx(float(rows[1][f"{name}/{metric}"]), rel=1e-4)


def true_depths(data: Path) -> dict[str, list[np.ndarray]]:
    """As large as what is scored, by the name of the saved disparities."""
    kitti = [np.load(data / f"kitti_depth/{DRIVE}/depth_02/data/{frame:010d}.npy")
             for frame in TESTED]
    found = {"eigen": kitti, "eigen_benchmark": kitti, "nyuv2": [], "make3d": []}
    for index in range(len(TESTED)):
        with h5py.File(data / f"nyuv2/nyu_test/{index + 1:05d}.h5") as file:
            found["nyuv2"].append(file["depth"][44:471, 40:601])
    for name in (data / "make3d/test_files.txt").read_text().split():
        grid = loadmat(data / f"make3d/Gridlaserdata/depth_sph_corr-{name}.mat")
        found["make3d"].append(grid["Position3DGrid"][17:38, :, 3])
    found["cityscapes"] = [np.load(data / f"cityscapes/gt_depths/{index:03d}_depth.npy")[:768]
                           for index in range(len(TESTED))]
    return found


def test_true_depth_through_the_script_is_at_the_rounding_floors(place):
    folder, report = place.runs / "truth", place.runs / "truth.json"
    folder.mkdir(parents=True)
    for name, depths in true_depths(place.data).items():
        depth = np.stack(depths).astype(np.float32)
        disps = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
        np.save(folder / f"disps_{name}_split.npy", disps)
    place.run("evaluate_depth.py", "--ext_disp_to_eval", folder, "--save_json", report,
              *place.benchmarks())
    benchmarks = json.loads(report.read_text())["benchmarks"]
    assert set(benchmarks) == set(PROTOCOLS)
    for name, found in benchmarks.items():
        assert found["metrics"]["abs_rel"] < FLOORS[name], name
        assert found["ratio_median"] == pytest.approx(1, abs=5e-3)
