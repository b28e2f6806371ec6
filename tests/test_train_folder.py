"""Runs of train.py on folders of frames: as on KITTI, several at once, resumed, scored, drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import render_demo
import train
from evaluate_depth import main as evaluate_depth
from evaluation import FOLDER
from report import main as report
from tests import tiny_kitti
from tests.processes import launch
from tests.test_train_ddp import TORCHRUN
from tests.tiny_folder import (
    CAMERA,
    arguments,
    run_train,
    write_camera,
    write_depth,
    write_folder,
    write_list,
)
from tests.tiny_kitti import differences, load, read_metrics, refused

DRIVE = "2026_01_01/2026_01_01_drive_0001_sync"
FRAMES, NATIVE = 6, (312, 96)  # (width, height)


def rendered(root: Path) -> tuple[Path, Path]:
    """A rendered street in KITTI's layout, and the same PNG files and camera as a folder."""
    kitti, folder = root / "kitti", root / "folder"
    render_demo.main(["--out", str(kitti), "--streets", "2", "--frames", str(FRAMES), "--width",
                      str(NATIVE[0]), "--height", str(NATIVE[1])])  # fmt: skip
    lists = kitti / "lists"
    lists.mkdir()
    tiny_kitti_lines = [f"{DRIVE} {frame} l\n" for frame in range(1, FRAMES - 1)]
    (lists / "train_files.txt").write_text("".join(tiny_kitti_lines))
    (lists / "val_files.txt").write_text("".join(tiny_kitti_lines[:2]))
    pictures = kitti / DRIVE / "image_02/data"
    shutil.copytree(pictures, folder / "street 1")
    width, height = NATIVE
    camera = [0.58 * width, 1.92 * height, 0.5 * width, 0.5 * height]
    write_camera(folder / "intrinsics.txt", camera, NATIVE)
    write_list(folder / "train_files.txt", ["street 1"], range(1, FRAMES - 1))
    write_list(folder / "val_files.txt", ["street 1"], [1, 2])
    depths = kitti / DRIVE / "depth_02/data"
    shutil.copytree(depths, folder / "depth/street 1")
    return kitti, folder


def test_a_folder_trains_to_the_same_bits_as_the_kitti_layout(tmp_path):
    """Same pictures, camera, seed and order: weights and every number of the list are equal."""
    kitti, folder = rendered(tmp_path)
    logs = tmp_path / "logs"
    common = ("--num_epochs", 2, "--batch_size", 2)
    flags = ("--dataset", "kitti", "--split", kitti / "lists", "--val_split", kitti / "lists")
    as_kitti = run_train([kitti], logs, "kitti", *flags, "--no_eval", *common)
    as_folder = run_train([folder], logs, "folder", *common)
    rows = [read_metrics(run) for run in (as_kitti, as_folder)]
    assert "val/photometric" in rows[0][0]
    for kitti_row, folder_row in zip(*rows, strict=True):
        assert {name: folder_row[name] for name in kitti_row} == kitti_row
    for name in ("models/model1.pth", "models/best.pth"):
        assert differences(as_kitti / name, as_folder / name) == []
    scores = [float(rows[1][1][f"folder/{name}"]) for name in FOLDER.metrics]
    assert np.isfinite(scores).all()


def test_scores_of_the_run_are_those_of_the_script(tmp_path, capsys):
    root = write_folder(tmp_path / "my clip", val=(2, 5))
    write_depth(root, "clip", (2, 5))
    run = run_train([root], tmp_path, "run")
    (row,) = read_metrics(run)
    capsys.readouterr()
    given = ["--pretrained_path", run / "ckpt.pth", "--folder_path", root, "--no_cuda",
             "--num_workers", 0]  # fmt: skip
    evaluate_depth(list(map(str, given)))
    printed = capsys.readouterr().out
    assert f"{FOLDER.title} on {root}/val_files.txt" in printed
    assert "images: 2" in printed
    assert f"{float(row['folder/abs_rel']):.3f}" in printed


def test_two_folders_resumed_and_their_course(tmp_path, monkeypatch, capsys):
    roots = [write_folder(tmp_path / "A"), write_folder(tmp_path / "B", ["x y"], val=(3,))]
    write_camera(roots[1] / "intrinsics.txt", (100.0, 90.0, 60.0, 30.0))
    flags = ("--accumulate", 2, "--batch_size", 1)
    whole = run_train(roots, tmp_path, "whole", "--num_epochs", 2, *flags)
    run_train(roots, tmp_path, "parts", "--num_epochs", 1, *flags)
    parts = run_train(roots, tmp_path, "parts", "--num_epochs", 2, "--resume", *flags)
    assert differences(whole / "ckpt.pth", parts / "ckpt.pth") == []
    assert read_metrics(whole) == read_metrics(parts)
    again = arguments(roots, tmp_path, "parts", "--num_epochs", 3, "--resume", *flags)
    write_camera(roots[1] / "x y/intrinsics.txt", (101.0, 90.0, 60.0, 30.0))
    assert "another cameras (digest)" in refused(monkeypatch, capsys, again)
    (roots[1] / "x y/intrinsics.txt").unlink()
    write_list(roots[0] / "train_files.txt", ["clip"], [6, 5, 4, 3, 2, 1])
    assert "another training list (digest)" in refused(monkeypatch, capsys, again)
    fewer = arguments(roots[:1], tmp_path, "parts", "--num_epochs", 3, "--resume", *flags)
    assert "was written with another" in refused(monkeypatch, capsys, fewer)


@pytest.mark.slow
def test_the_options_of_a_run_are_a_file_that_repeats_it(tmp_path):
    roots = [write_folder(tmp_path / "A"), write_folder(tmp_path / "B")]
    first = run_train(roots, tmp_path, "first")
    train.main(["--config", str(first / "options.yaml"), "--exp_name", "again"])
    assert differences(first / "ckpt.pth", tmp_path / "again/ckpt.pth") == []


def test_what_a_run_without_true_depth_ends_its_epochs_with(tmp_path):
    root = write_folder(tmp_path / "root", val=(2, 3, 4, 5, 6))
    run = run_train([root], tmp_path, "run", "--num_epochs", 2)
    rows = read_metrics(run)
    for name in ("val/photometric", "val/automask", "val/holes"):
        assert all(0 <= float(row[name]) <= 1 for row in rows)
    assert not any(name.startswith("folder/") for name in rows[0])
    assert (run / "models/best.pth").is_file()
    log = (run / "logger.log").read_text()
    assert "of their pixels are auto-masked" in log
    for epoch in range(2):
        assert Image.open(run / f"pictures/val{epoch}.png").size == (3 * 64, 4 * 32)
    report(["--exp", str(run)])
    page = (run / "report/report.html").read_text()
    assert "Sample 3 of the validation list" in page


def test_no_eval_leaves_the_validation_list_alone(tmp_path):
    root = write_folder(tmp_path / "root", val=(2,))
    run = run_train([root], tmp_path, "run", "--no_eval")
    assert not any(name.startswith("val/") for name in read_metrics(run)[0])
    assert not (run / "pictures").exists()
    assert "neither a validation list" not in (run / "logger.log").read_text()
    asked = run_train([root], tmp_path, "asked", "--no_eval", "--val_split", root)
    assert "val/photometric" in read_metrics(asked)[0]


def test_a_run_that_can_show_nothing_says_so(tmp_path):
    root = write_folder(tmp_path / "root")
    log = (run_train([root], tmp_path, "run") / "logger.log").read_text()
    assert f"warning: there is neither a validation list nor true depth in {root}" in log


def test_other_data_sets_keep_one_root(tmp_path, monkeypatch, capsys):
    root = tiny_kitti.write_kitti(tmp_path / "kitti")
    flags = ("--data_path", root / "raw", tmp_path)
    message = refused(monkeypatch, capsys, tiny_kitti.arguments(root, "run", *flags))
    assert "--data_path takes one folder with --dataset kitti, got 2" in message
    assert not (root / "logs").exists()


def test_bad_folders_are_refused_before_a_run_begins(tmp_path, monkeypatch, capsys):
    root = write_folder(tmp_path / "root")
    (root / "intrinsics.txt").unlink()
    message = refused(monkeypatch, capsys, arguments([root], tmp_path / "logs", "run"))
    assert f"no camera is known of {root}/clip" in message
    write_camera(root / "intrinsics.txt", CAMERA)
    (root / "train_files.txt").unlink()
    message = refused(monkeypatch, capsys, arguments([root], tmp_path / "logs", "run"))
    assert "python prepare_video.py" in message
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_two_processes_train_on_two_folders_and_show_their_list_once(tmp_path):
    roots = [write_folder(tmp_path / "A"), write_folder(tmp_path / "B", val=(3, 4, 5))]
    command = arguments(roots, tmp_path, "ddp", "--batch_size", 1, "--num_workers", 1)
    done = launch(TORCHRUN, ["train.py", *command])
    assert done.returncode == 0, done.stderr
    state = load(tmp_path / "ddp/ckpt.pth")
    assert (state["epoch"], state["step_in_total"]) == (1, 6)
    (row,) = read_metrics(tmp_path / "ddp")
    assert 0 <= float(row["val/holes"]) <= 1
    assert Image.open(tmp_path / "ddp/pictures/val0.png").size == (3 * 64, 3 * 32)
