"""The benchmark's harness on little work, and the textbook's results beside ours; no timing."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from benchmarks import measure, run, scoring, stepping
from benchmarks.loading import sample_bytes, training_set
from benchmarks.material import DRIVE, write_cityscapes, write_drive, write_scans
from benchmarks.measure import Effort, Result, Spread, Target
from benchmarks.preparing import our_triplets
from benchmarks.scoring import Standin, write_test_set
from benchmarks.starting import seconds_until
from benchmarks.textbook import TextbookDataset, laser_depth, prepare_triplets
from datasets.keys import FrameKey
from kitti_utils import generate_depth_map
from training_step import prepare
from utils import UserError

TINY = Effort(2, 2, 1, (6,), ((32, 64),), (640,))
HEIGHT, WIDTH = 64, 128


def result(ours: float, textbook: float, target: Target | None) -> Result:
    return Result("made up", "", "s", Spread.of([ours]), Spread.of([textbook]), target)


def missed_without_reason(place: Path, effort: Effort) -> list[Result]:  # noqa: ARG001
    return [result(1, 3, Target(4)), result(1, 5, Target(4))]


def missed_with_reason(place: Path, effort: Effort) -> list[Result]:  # noqa: ARG001
    return [result(1, 3, Target(4, reason="a wall stands there", bound=3))]


def missed_by_more_than_the_reason(place: Path, effort: Effort) -> list[Result]:  # noqa: ARG001
    return [result(1, 2.9, Target(4, reason="a wall stands there", bound=3))]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The harness takes one thread."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def measured(monkeypatch, output: Path, *names: str) -> list[dict]:
    monkeypatch.setattr(measure, "QUICK", TINY)
    run.main(["--quick", "--output", str(output), "--only", *names])
    return json.loads((output / "results.json").read_text())["results"]


# ---- the harness -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [("loading", 11), ("export", 2), ("scoring", 6)])
def test_a_measurement_prints_and_writes_its_rows(name, rows, tmp_path, monkeypatch, capsys):
    results = measured(monkeypatch, tmp_path, name)
    assert len(results) == rows
    assert all(each["ours"]["median"] > 0 for each in results if "rest" not in each["name"])
    table = capsys.readouterr().out
    assert all(each["name"] in table for each in results)
    with Image.open(tmp_path / "results.png") as image:
        assert image.width > 100


@pytest.mark.parametrize("name", run.MEASUREMENTS)
def test_every_measurement_is_there(name):
    assert callable(run.find_measurement(name))


def test_a_missed_target_needs_a_reason(tmp_path, monkeypatch, capsys):
    for name in ("missed_without_reason", "missed_with_reason"):
        monkeypatch.setitem(run.MEASUREMENTS, name, (__name__, name))
    (row,) = measured(monkeypatch, tmp_path / "reason", "missed_with_reason")
    assert (row["met"], row["ratio"], row["reason"]) == (False, 3, "a wall stands there")
    assert "missed: made up: a wall stands there" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        measured(monkeypatch, tmp_path / "none", "missed_without_reason")
    assert end.value.code == 1
    rows = json.loads((tmp_path / "none/results.json").read_text())["results"]
    assert [row["met"] for row in rows] == [False, True]


def test_a_reason_goes_no_further_than_it_says(tmp_path, monkeypatch, capsys):
    name = "missed_by_more_than_the_reason"
    monkeypatch.setitem(run.MEASUREMENTS, name, (__name__, name))
    with pytest.raises(SystemExit) as end:
        measured(monkeypatch, tmp_path, name)
    assert end.value.code == 1
    assert "a wall" not in capsys.readouterr().out
    share = Target(0.5, at_most=True, reason="a wall", bound=0.6)
    assert [share.explains(value) for value in (0.55, 0.6, 0.65)] == [True, True, False]


def test_which_ratio_a_target_is_about():
    gain, share = result(2, 8, Target(4)), result(2, 8, Target(0.2, at_most=True))
    assert (gain.measured, gain.met) == (4, True)
    assert (share.measured, share.met) == (0.25, False)
    assert result(2, 8, None).met is None
    alone = Result("alone", "", "s", Spread.of([2.0]), target=Target(1, at_most=True))
    assert (alone.measured, alone.met) == (2, False)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3, 2, 4)


def test_sides_take_turns():
    turns = []
    sides = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}
    spent = measure.interleaved(sides, 3)
    assert turns == ["a", "b"] * 4  # the first turns go unmeasured
    assert spent.keys() == sides.keys()


def spend(pipe) -> None:
    """A child that spends 0.3 processor seconds each time it is asked to."""
    while pipe.recv():
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        pipe.send(True)


def test_what_child_processes_spend_counts_while_they_live_and_once_they_have_ended():
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=spend, args=(theirs,))
    child.start()

    def asked() -> None:
        ours.send(True)
        assert ours.recv()

    def ended() -> None:
        asked()
        ours.send(False)
        child.join()

    assert measure.processor_seconds(asked) >= 0.3
    assert 0.3 <= measure.processor_seconds(ended) < 0.59  # nor is what it spent before told again


# ---- the textbook ----------------------------------------------------------------------------


def test_samples_are_the_same(tmp_path):
    lines = write_drive(tmp_path, (97, 301), frames=8)
    ours = training_set(tmp_path, lines, HEIGHT, WIDTH)
    textbook = TextbookDataset(ours)
    changed = 0
    for index in range(len(ours)):
        sample, plain = ours[index], textbook[index]
        batch = {key: value[None] for key, value in sample.items()}
        inputs = prepare(batch)
        for frame in (0, -1, 1):
            for view in ("color", "color_local"):
                difference = sample[FrameKey(view, frame, 0)] / 255 - plain[view, frame]
                assert difference.abs().max() < 1.01 / 255
            # Pillow rounds between one change of colours and the next.
            difference = inputs.jittered[frame][0] - plain["color_jittered", frame]
            assert difference.abs().mean() < 2 / 255
        difference = inputs.reshuffled_jittered[0] - plain["reshuffled_jittered", 0]
        assert difference.abs().mean() < 2 / 255
        assert_close(sample["K"], plain["K"])
        assert_close(sample["inv_K"], plain["inv_K"])
        changed += not torch.equal(plain["color", 0], plain["color_jittered", 0])
    assert 0 < changed < len(ours)
    assert sample_bytes(textbook) > 8 * sample_bytes(ours)


@pytest.mark.parametrize("camera", [2, 3])
def test_depths_are_the_same_to_the_last_bit(camera, tmp_path):
    folder = tmp_path / "day"
    for path in write_scans(folder, 60_000, 2):
        ours = generate_depth_map(folder, path, camera, vel_depth=True)
        assert np.count_nonzero(ours) > 5000
        np.testing.assert_array_equal(ours, laser_depth(folder, path, camera))


def test_triplets_are_the_same(tmp_path):
    raw = write_cityscapes(tmp_path / "raw", 7, (64, 128))
    our_triplets(raw, tmp_path / "ours", (32, 16))
    prepare_triplets(raw, tmp_path / "plain", (32, 16))
    names = {path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*.*")}
    assert len(names) == 6
    assert names == {path.relative_to(tmp_path / "ours") for path in tmp_path.rglob("ours/*/*.*")}
    for name in names:
        ours, plain = tmp_path / "ours" / name, tmp_path / "plain" / name
        if name.suffix == ".txt":
            assert ours.read_text() == plain.read_text()
        else:
            np.testing.assert_array_equal(np.asarray(Image.open(ours)), Image.open(plain))


def test_scores_are_the_same(tmp_path):
    lines, standin = write_test_set(tmp_path, 5, (94, 311)), Standin()
    ours, plain = (side(tmp_path, lines, standin) for side in (scoring.ours, scoring.textbook))
    assert ours.shape == (5, 7)
    assert len({tuple(row) for row in ours.tolist()}) == 4  # as many maps of true depth
    np.testing.assert_allclose(ours, plain, rtol=1e-5)


def test_a_line_of_output_is_waited_for():
    talk = [sys.executable, "-c", "print('one'); print('two')"]
    assert seconds_until("two", talk) > 0
    with pytest.raises(ValueError, match="begins with 'three'"):
        seconds_until("three", talk)


def test_pictures_compress_as_a_cameras_do(tmp_path):
    write_drive(tmp_path, frames=1)
    size = (tmp_path / DRIVE / "image_02/data/0000000000.png").stat().st_size
    assert 500_000 < size < 1_000_000


# ---- a training step -------------------------------------------------------------------------


def test_a_step_holds_three_quarters_of_a_textbook_s_memory_at_most():
    """Of the tensors alone; no clock and no other program moves it."""
    sides = {"ours": (), "saving": ("--checkpoint_activations",), "textbook": None}
    peaks = {}
    for name, flags in sides.items():
        side = stepping.Side("resnet", (96, 320), flags)
        side.run()
        peaks[name] = stepping.peak_memory(side)["peak"]
    assert peaks["textbook"] > 300
    assert peaks["ours"] <= 0.75 * peaks["textbook"]
    assert peaks["saving"] <= 0.6 * peaks["textbook"]


def test_the_textbook_s_step_computes_our_gradients():
    ours, textbook = (stepping.Side("resnet", (64, 128), flags) for flags in ((), None))
    for side in (ours, textbook):
        side.inputs.cut[:, 0] = 20  # an odd share of the height
        side.run()
    for name, part in textbook.step.depth_network.named_parameters():
        mine = dict(ours.step.depth_network.named_parameters())[name].grad
        assert (mine - part.grad).norm() <= 1e-2 * part.grad.norm() + 1e-9, name


def test_sides_step_in_turns():
    sides = {"ours": (), "textbook": None}
    said = stepping.asked(sides, "resnet", (64, 128), 1)
    for each in said.values():
        assert each.keys() == {"step", "convolution", "rest", "peak"}
        assert all(spread.median > 0 for spread in each.values())


def test_sides_that_compute_other_losses_are_refused():
    stepping.check_losses({"ours": 0.3, "textbook": 0.3 + 2e-5})
    for other in (0.3001, float("nan")):
        with pytest.raises(UserError, match="losses differ"):
            stepping.check_losses({"ours": 0.3, "textbook": other})
