"""The decoded cache: samples are those without it, whatever happens to its files."""

from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.cache import SUFFIX, PictureCache
from datasets.keys import SampleIndex
from datasets.kitti_dataset import KITTIRawDataset
from options import train_options
from tests.tiny_kitti import DRIVE
from utils import LOGGER_NAME, UserError

HEIGHT, WIDTH = 32, 64
LINES = [f"{DRIVE} {frame} l" for frame in (1, 2)]
ROOM = 0.001  # GB, for far more than the drive's pictures
FILE = 40 + 300  # bytes of a picture of 10x10 pixels


def dataset(root: Path, cache: PictureCache | None = None, **options) -> KITTIRawDataset:
    options = {"local_crop": True, "fast_resize": True} | options
    return KITTIRawDataset(root / "raw", LINES * 4, HEIGHT, WIDTH, is_train=True, cache=cache,
                           **options)  # fmt: skip


def assert_same(samples, expected) -> None:
    for one, other in zip(samples, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def everything(data: KITTIRawDataset) -> list[dict]:
    return [data[index] for index in range(len(data))]


def stored(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in stored(folder))


@pytest.fixture(autouse=True)
def _log(monkeypatch):
    monkeypatch.setattr(logging.getLogger(LOGGER_NAME), "propagate", True)


@pytest.mark.parametrize(("local_crop", "kept"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("fast_resize", [False, True])
def test_no_more_is_kept_than_is_read(root, tmp_path, local_crop, kept, fast_resize):
    """Of each picture its small one, for mirrored samples too, and for crops the whole."""
    data = dataset(root, PictureCache(tmp_path, ROOM), local_crop=local_crop,
                   fast_resize=fast_resize)  # fmt: skip
    flips = [data.draw(SampleIndex(0, index)).flip for index in range(len(data))]
    assert {flips[0], flips[2], flips[4], flips[6]} == {True, False}  # of one line
    everything(data)
    assert len(stored(tmp_path)) == kept * len(set(_pictures(data)))


def _pictures(data: KITTIRawDataset) -> list[str]:
    return [data.image_path(ref, frame) for ref in data.refs for frame in data.frame_ids]


@pytest.mark.parametrize("options", [{}, {"fast_resize": False}, {"local_crop": False},
                                     {"num_scales": 3, "pyramid_of_sources": True}])  # fmt: skip
def test_samples_are_the_same_cold_and_warm(options, root, tmp_path):
    expected = everything(dataset(root, **options))
    data = dataset(root, PictureCache(tmp_path, ROOM), **options)
    assert_same(everything(data), expected)
    data.load_image = None  # nothing is decoded any more
    assert_same(everything(data), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_share_it(workers, root, tmp_path):
    data = dataset(root, PictureCache(tmp_path, ROOM))
    expected = everything(dataset(root))
    for _ in range(2):
        assert_same(DataLoader(data, batch_size=None, num_workers=workers), expected)
    assert len(stored(tmp_path)) == 2 * 4  # native and at network size, of frames 0 to 3


@pytest.mark.parametrize("damage", [
    lambda content: content[:-1], lambda _: b"", lambda content: content + b"x",
    lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    lambda content: b"p" * len(content),
])  # fmt: skip
def test_a_damaged_file_is_made_again_and_said_once(damage, root, tmp_path, caplog):
    expected = everything(dataset(root))
    data = dataset(root, PictureCache(tmp_path, ROOM))
    everything(data)
    whole = {path: path.read_bytes() for path in stored(tmp_path)}
    for path, content in whole.items():
        path.write_bytes(damage(content))
    assert_same(everything(data), expected)
    assert {path: path.read_bytes() for path in stored(tmp_path)} == whole
    assert sum("is damaged" in record.message for record in caplog.records) == 1


def test_a_changed_source_is_read_anew(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"1")
    cache = PictureCache(tmp_path / "cache", ROOM)
    first, second = (np.full((2, 3, 3), value, np.uint8) for value in (1, 2))
    assert cache.get("a", str(source), lambda: first)[0, 0, 0] == 1
    os.utime(source, ns=(1, 1))
    assert cache.get("a", str(source), lambda: second)[0, 0, 0] == 2
    assert cache.get("a", str(source), lambda: first)[0, 0, 0] == 2
    assert len(stored(tmp_path)) == 1


@pytest.mark.parametrize("limit", [1e-9, 20_000e-9, 40_000e-9])
def test_it_keeps_to_its_size_and_says_so_once(limit, root, tmp_path, caplog):
    expected = everything(dataset(root))
    for _ in range(2):  # another run finds the same room
        cache = PictureCache(tmp_path, limit)
        assert_same(everything(dataset(root, cache)), expected)
        assert bytes_of(tmp_path) <= limit * 1e9
    assert sum("is full" in record.message for record in caplog.records) == 2


def fill(folder: Path, source: Path, limit: float, start: int) -> None:
    cache = PictureCache(folder, limit)
    for number in range(40):
        pixels = np.full((10, 10, 3), number, np.uint8)
        found = cache.get(str((start + number) % 40), str(source), lambda pixels=pixels: pixels)
        assert found.shape == (10, 10, 3)


def test_processes_that_fill_it_at_once_keep_to_its_size(tmp_path):
    source = tmp_path / "source"
    source.touch()
    folder, limit = tmp_path / "cache", 10.5 * FILE * 1e-9
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=fill, args=(folder, source, limit, start)) for start in (0, 13, 26)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert bytes_of(folder) == 10 * FILE


def test_what_a_killed_process_left_is_counted_then_removed(tmp_path):
    folder, source = tmp_path / "cache", tmp_path / "source"
    source.touch()
    (folder / "ab").mkdir(parents=True)
    left = folder / "ab" / f".x.partial{SUFFIX}"
    left.write_bytes(bytes(400))
    fill(folder, source, 900e-9, 0)
    assert len(stored(folder)) == 1 + 1  # room for one beside it
    os.utime(left, (0, 0))
    fill(folder, source, 900e-9, 0)
    assert not left.exists()
    assert len(stored(folder)) == 2


def test_a_full_disk_is_said_once_and_training_goes_on(root, tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("utils.os.replace", full)
    data = dataset(root, PictureCache(tmp_path, ROOM))
    assert_same(everything(data), everything(dataset(root)))
    assert [record.message.split(": ")[-1] for record in caplog.records] == [
        "No space left on device"
    ]
    assert not stored(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        PictureCache(tmp_path / "file" / "cache", 1)


@pytest.mark.parametrize(("flags", "message"), [
    ("--cache_size 5", "which is not given"),
    ("--cache_dir out --cache_size 0", "--cache_size"),
    ("--cache_dir data/cache", "lies in the data, data"),
    ("--cache_dir data/../data", "lies in the data, data"),
])  # fmt: skip
def test_flags_that_do_nothing_or_harm_are_refused(flags, message, capsys):
    with pytest.raises((SystemExit, UserError)) as raised:
        train_options(["--data_path", "data", *flags.split()])
    assert message in str(raised.value) + capsys.readouterr().err
