"""What a training run is scored on: its own test set, every root that is given, now and then."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_benchmarks import path_flags, write_cityscapes, write_make3d, write_nyuv2
from tests.tiny_kitti import arguments, read_metrics, run_as_script, run_train


@pytest.fixture(scope="module")
def root(root) -> Path:
    write_nyuv2(root / "nyuv2")
    write_make3d(root / "make3d")
    return root


def scored(row: dict[str, str]) -> set[str]:
    """The benchmarks that an epoch has numbers of."""
    filled = {name for name, value in row.items() if "/" in name and value}
    return {name.partition("/")[0] for name in filled if math.isfinite(float(row[name]))}


def test_a_run_is_scored_on_every_root_now_and_then(root):
    """Every second epoch, and after the last."""
    flags = [*path_flags(root, "nyuv2", "make3d"), "--eval_every", 2, "--num_epochs", 3]
    run = run_train(root, "several", *flags, "--batch_size", 6)
    rows = read_metrics(run)
    everything = {"kitti_eigen", "nyuv2", "make3d"}
    assert [scored(row) & everything for row in rows] == [set(), everything, everything]
    assert {"make3d/rmse_log10", "nyuv2/a1", "kitti_eigen/abs_rel"} <= rows[-1].keys()
    log = (run / "logger.log").read_text()
    assert "warning: NYUv2 is scored with a model whose depths end at 100 m" in log
    assert "Make3D (C1, 70 m)" in log


def test_what_is_missing_ends_the_run_before_it_begins(root, monkeypatch, capsys):
    command = arguments(root, "never", "--make3d_path", root / "nowhere")
    assert run_as_script(monkeypatch, command) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (root / "logs/never").exists()
    assert run_as_script(monkeypatch, arguments(root, "never", "--eval_split", "eigen_benchmark",
                                                root / "split")) == 2  # fmt: skip
    assert "export_gt_depth.py" in capsys.readouterr().err


def test_stereo_runs_are_scored_at_the_rigs_scale(root):
    run = run_train(root, "stereo", "--use_stereo", "--num_epochs", 1, "--batch_size", 6)
    assert "fixed scale 5.4" in (run / "logger.log").read_text()


def test_cityscapes_trains_on_triplets_and_is_tested_on_the_raw_root(root):
    write_cityscapes(root / "raw cityscapes")
    folder = root / "triplets/ulm"
    folder.mkdir(parents=True)
    names = [f"ulm_000001_{number:06d}" for number in (2, 4)]
    for grey, name in enumerate(names):
        Image.new("RGB", (128, 144), (90 + grey,) * 3).save(folder / f"{name}.png")
        (folder / f"{name}_cam.txt").write_text("1131.25,0.,543.75,0.,1130.5,256.125,0.,0.,1.")
    (root / "triplets/train_files.txt").write_text("\n".join(f"ulm {name}" for name in names))
    flags = ["--dataset", "cityscapes", "--data_path", root / "raw cityscapes"]
    flags += ["--data_path_pre", root / "triplets", "--split", root / "triplets"]
    run = run_train(root, "cityscapes", *flags, "--num_epochs", 1)
    (row,) = read_metrics(run)
    assert scored(row) - {"loss"} >= {"cityscapes"}
    assert "kitti_eigen" not in scored(row)
