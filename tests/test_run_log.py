"""The folder of a run: options, code version, curves, metrics.csv; and who writes it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from run_log import RunLog, snapshot_code
from utils import UserError


def rows(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_an_epoch_with_columns_in_order(tmp_path):
    log = RunLog(tmp_path, is_main=True)
    for epoch in range(2):
        log.metrics({"epoch": epoch, "step": 5 * epoch + 5, "loss": 0.1 + 0.2, "lr": 1e-4})
    log.close()
    assert (tmp_path / "metrics.csv").read_bytes() == (
        b"epoch,step,loss,lr\n0,5,0.30000000000000004,0.0001\n1,10,0.30000000000000004,0.0001\n"
    )


def test_a_resumed_run_replaces_the_rows_it_passes_again(tmp_path):
    log = RunLog(tmp_path, is_main=True)
    for epoch in range(4):
        log.metrics({"epoch": epoch, "loss": epoch})
    log.metrics({"epoch": 2, "loss": 20})
    log.close()
    assert [row["loss"] for row in rows(tmp_path)] == ["0", "1", "20"]


def test_a_column_that_comes_later_is_empty_before(tmp_path):
    log = RunLog(tmp_path, is_main=True)
    log.metrics({"epoch": 0, "loss": 1})
    log.metrics({"epoch": 1, "loss": 2, "kitti_eigen/abs_rel": 0.5})
    log.close()
    assert [row["kitti_eigen/abs_rel"] for row in rows(tmp_path)] == ["", "0.5"]


def test_options_are_written_as_json(tmp_path):
    options = {"height": 64, "frame_ids": [0, -1, 1], "pretrained_path": None, "beta1": 0.9}
    log = RunLog(tmp_path, is_main=True)
    log.record(options)
    log.close()
    assert json.loads((tmp_path / "opt.json").read_text()) == options
    assert (tmp_path / "options.yaml").read_text() == (
        "height: 64\nframe_ids: [0, -1, 1]\nbeta1: 0.9\n"
    )
    assert (tmp_path / "code" / "commit.txt").read_text()
    assert (tmp_path / "logger.log").is_file()


def test_what_it_ran_on_is_written_as_json(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    log = RunLog(tmp_path, is_main=True)
    log.record({"no_cuda": False})
    log.close()
    found = json.loads((tmp_path / "environment.json").read_text())
    assert (found["torch"], found["device"]) == (torch.__version__, "NVIDIA H100")
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (found["processes"], found["packages"]["numpy"]) == (1, np.__version__)
    log.record({"no_cuda": True})
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["device"].startswith("CPU (")


def test_curves_and_pictures_are_in_tensorboard(tmp_path):
    log = RunLog(tmp_path, is_main=True)
    log.scalars({"loss/full": 0.25, "lr": 1e-4}, 3)
    log.images({"disp/0": torch.rand(3, 8, 8)}, 3)
    log.histogram("disp_0", torch.tensor([[0.25, 0.5], [0.5, 1.0]], requires_grad=True), 3)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss/full", "lr"}
    assert events.Tags()["images"] == ["disp/0"]
    point = events.Scalars("loss/full")[0]
    assert (point.step, point.value) == (3, 0.25)
    assert events.Tags()["histograms"] == ["disp_0"]
    spread = events.Histograms("disp_0")[0].histogram_value
    assert (spread.min, spread.max, spread.num, spread.sum) == (0.25, 1.0, 4, 2.25)


def test_a_histogram_leaves_out_what_is_no_number(tmp_path):
    log = RunLog(tmp_path, is_main=True)
    log.histogram("none", torch.tensor([torch.nan]), 0)
    values = torch.tensor([0.5, torch.nan, torch.inf, 1.5], dtype=torch.bfloat16)
    log.histogram("half", values, 0)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train")).Reload()
    assert events.Tags()["histograms"] == ["half"]
    spread = events.Histograms("half")[0].histogram_value
    assert (spread.min, spread.max, spread.num, spread.sum) == (0.5, 1.5, 2, 2.0)


def test_other_ranks_write_nothing(tmp_path):
    folder = tmp_path / "run"
    log = RunLog(folder, is_main=False)
    log.record({"height": 64})
    log.scalars({"loss": 1.0}, 0)
    log.images({"disp": torch.rand(3, 8, 8)}, 0)
    log.histogram("disp_0", torch.rand(2, 2), 0)
    log.metrics({"epoch": 0})
    log.close()
    assert not folder.exists()


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the run's folder .*run: "):
        RunLog(tmp_path / "file" / "run", is_main=True)


def git(folder, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_code_is_known_by_commit_and_changes(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "code"
    source.mkdir()
    (source / "a.py").write_text("one = 1\n")
    git(source, "init", "-q")
    git(source, "add", "a.py")
    git(source, "commit", "-q", "-m", "first")
    (source / "a.py").write_text("one = 2\n")
    (source / "b.py").write_text("")
    snapshot_code(source, folder)
    commit = (folder / "commit.txt").read_text().splitlines()
    assert commit == [f"commit {git(source, 'rev-parse', 'HEAD').strip()}", " M a.py", "?? b.py"]
    changes = (folder / "changes.diff").read_text().splitlines()
    assert "-one = 1" in changes
    assert "+one = 2" in changes


def test_code_outside_a_checkout_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "source").mkdir()
    snapshot_code(tmp_path / "source", tmp_path / "code")
    assert (tmp_path / "code" / "commit.txt").read_text() == "not a git checkout\n"
    assert (tmp_path / "code" / "changes.diff").read_text() == ""
