"""TensorBoard's files as we read them: what TensorBoard reads there, and what it does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from event_files import CHECKED, Curve, read_events


def write(folder: Path, steps: range, purge_step: int | None = None, suffix: str = "") -> Path:
    """A file of a curve (a tenth of the step) and of pictures larger than is checked."""
    before = set(folder.glob("*"))
    with SummaryWriter(str(folder), purge_step=purge_step, filename_suffix=suffix) as writer:
        for step in steps:
            writer.add_scalar("loss", step / 10, step)
            for name in ("a", "b"):
                writer.add_image(name, torch.rand(3, 48, 48), step)
            writer.add_histogram("disp", torch.rand(9), step)
    (path,) = set(folder.glob("*")) - before
    assert path.stat().st_size > CHECKED
    return path


def test_what_tensorboard_reads_is_read(tmp_path):
    write(tmp_path, range(4))
    with SummaryWriter(str(tmp_path), filename_suffix=".later") as writer:
        writer.add_scalar("loss", float("nan"), 4)
    theirs = EventAccumulator(str(tmp_path), {"scalars": 0, "images": 0}).Reload()
    ours = read_events(tmp_path)
    points = theirs.Scalars("loss")[:-1]  # the last is no number
    assert ours.curves == {"loss": Curve([p.step for p in points], [p.value for p in points])}
    assert {tag: (each.png, each.step) for tag, each in ours.pictures.items()} == {
        tag: (theirs.Images(tag)[-1].encoded_image_string, 3) for tag in ("a", "b")
    }
    assert ours.damaged == []


def test_a_run_that_goes_on_hides_what_an_interrupted_one_drew_beyond(tmp_path):
    write(tmp_path, range(7), suffix=".0")
    write(tmp_path, range(4, 6), purge_step=4, suffix=".1")
    found = read_events(tmp_path)
    assert found.curves["loss"].steps == [0, 1, 2, 3, 4, 5]
    assert {picture.step for picture in found.pictures.values()} == {5}


def test_damage_ends_its_file_but_not_the_next_one(tmp_path):
    first = write(tmp_path, range(4), suffix=".0")
    write(tmp_path, range(4, 6), suffix=".1")
    data = bytearray(first.read_bytes())
    data[data.rindex(b"loss") + 5] ^= 1  # a bit of the last value
    first.write_bytes(data)
    found = read_events(tmp_path)
    assert found.curves["loss"].steps == [0, 1, 2, 4, 5]
    assert found.damaged == [first.name]


@pytest.mark.parametrize("cut", [1, 5, 13, 400, 2000])
def test_a_file_that_ends_early(tmp_path, cut):
    path = write(tmp_path, range(3))
    path.write_bytes(path.read_bytes()[:-cut])
    found = read_events(tmp_path)
    assert found.damaged == [path.name]
    assert found.curves["loss"].steps == [0, 1, 2]


@pytest.mark.parametrize("data", [b"events", b"\xff" * 100, bytes(100)])
def test_a_file_that_is_none(tmp_path, data):
    (tmp_path / "events.1").write_bytes(data)
    found = read_events(tmp_path)
    assert (found.curves, found.damaged) == ({}, ["events.1"])


def test_a_file_without_events_is_whole(tmp_path):
    (tmp_path / "events.1").write_bytes(b"")
    assert read_events(tmp_path).damaged == []
