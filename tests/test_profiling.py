"""The trace of some steps: what is written, when, and what is said where nothing is."""

from __future__ import annotations

import json
import logging

import pytest
import torch

import train
from profiling import FOLDER, SKIPPED, TABLE, TRACE, StepProfile
from tests.tiny_kitti import arguments, write_kitti

CPU = torch.device("cpu")


def some_steps(profile: StepProfile, count: int) -> None:
    with profile:
        for number in range(count):
            torch.zeros(number + 1).cumsum(0)
            profile.step()


def test_the_steps_after_the_first_are_traced(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        some_steps(StepProfile(2, tmp_path, CPU, logging.getLogger("test")), SKIPPED + 4)
    events = json.loads((tmp_path / FOLDER / TRACE).read_text())["traceEvents"]
    sizes = [event["args"]["Input Dims"] if "Input Dims" in event.get("args", {}) else None
             for event in events if event.get("name") == "aten::cumsum"]  # fmt: skip
    assert len(sizes) == 2
    table = (tmp_path / FOLDER / TABLE).read_text()
    assert "aten::cumsum" in table
    assert "ProfilerStep" not in table  # which is no operator
    assert "aten::cumsum" in caplog.text
    assert str(tmp_path / FOLDER / TRACE) in caplog.text


def test_a_run_that_ends_before_says_so(tmp_path, caplog):
    some_steps(StepProfile(2, tmp_path, CPU, logging.getLogger("test")), 1)
    assert "nothing is traced" in caplog.text
    assert not (tmp_path / FOLDER).exists()


def test_no_profile_writes_nothing(tmp_path, caplog):
    some_steps(StepProfile(0, tmp_path, CPU, logging.getLogger("test")), 5)
    assert not caplog.text
    assert not (tmp_path / FOLDER).exists()


def test_a_run_is_traced(tmp_path):
    root = write_kitti(tmp_path)
    train.main([*arguments(root, "run", "--no_eval", "--num_epochs", 3), "--profile", "1"])
    (table,) = tmp_path.rglob(TABLE)
    assert "aten::convolution_backward" in table.read_text()
    assert json.loads((table.parent / TRACE).read_text())["traceEvents"]


def test_steps_are_a_whole_number(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--data_path", "x", "--profile", "-1"])
    assert stop.value.code == 2
    assert "--profile" in capsys.readouterr().err
