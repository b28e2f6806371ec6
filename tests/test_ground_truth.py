"""Depth archives: ours, the published pickle, and files that are neither."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch

from ground_truth import load_gt_depths
from utils import UserError

SIZES = [(3, 5), (4, 5), (3, 6)]


@pytest.fixture
def depths():
    rng = np.random.default_rng(0)
    return [rng.uniform(0, 80, size).astype(np.float32) for size in SIZES]


def as_objects(arrays):
    packed = np.empty(len(arrays), dtype=object)
    packed[:] = arrays
    return packed


def write_pickled(path, value, protocol, name="data.npy"):
    """An .npz with one object array, pickled under a protocol of choice."""
    buffer = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (len(value),)}
    np.lib.format.write_array_header_1_0(buffer, header)
    pickle.dump(value, buffer, protocol=protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, buffer.getvalue())


def assert_read(path, depths):
    read = load_gt_depths(path)
    assert len(read) == len(depths)
    for i, depth in enumerate(depths):
        np.testing.assert_array_equal(read[i], depth)
        with warnings.catch_warnings():  # torch warns of arrays that it may not write to
            warnings.simplefilter("error")
            torch.as_tensor(read[i])
    return read


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_our_archive_is_read_map_by_map(tmp_path, depths, save):
    path = tmp_path / "gt_depths.npz"
    save(path, **{f"depth_{i:05d}": depth for i, depth in enumerate(depths)})
    read = assert_read(path, depths)
    assert not isinstance(read, list)
    with pytest.raises(IndexError):
        read[3]


def test_the_published_archive_as_numpy_writes_it(tmp_path, depths):
    path = tmp_path / "gt_depths.npz"
    np.savez_compressed(path, data=as_objects(depths))
    assert_read(path, depths)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("home", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_every_protocol_and_both_homes_of_numpy(tmp_path, depths, protocol, home):
    path = tmp_path / "gt_depths.npz"
    write_pickled(path, as_objects(depths), protocol)
    ours = np.empty(0).__reduce__()[0].__module__.encode()
    with zipfile.ZipFile(path) as archive:
        data = archive.read("data.npy")
    if protocol < 4:  # text lines; protocol 4 counts the bytes of a name
        data = data.replace(b"c" + ours + b"\n", b"c" + home + b"\n")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", data)
    assert_read(path, depths)


@pytest.mark.parametrize("dtype", [np.float32, object])
def test_depth_maps_of_one_size(tmp_path, dtype):
    """Saved as one (images, h, w) array: plain, or objects all the same."""
    path = tmp_path / "gt_depths.npz"
    stack = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.savez(path, data=stack.astype(dtype))
    assert_read(path, list(stack))


class Bomb:
    """Unpickled by pickle.load, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    path, trace = tmp_path / "gt_depths.npz", tmp_path / "ran"
    np.savez(path, data=as_objects([Bomb(str(trace))]))
    with pytest.raises(UserError, match=r"mkdir, and only NumPy arrays are accepted"):
        load_gt_depths(path)
    assert not trace.exists()


def truncated(path):
    np.savez(path, data=as_objects([np.ones((9, 9))]))
    path.write_bytes(path.read_bytes()[:300])


def half_a_pickle(path):
    write_pickled(path, as_objects([np.ones((9, 9))]), 3)
    with zipfile.ZipFile(path) as archive:
        data = archive.read("data.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", data[:-200])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "cannot read the ground truth .*: No such file"),  # noqa: ARG005
        (lambda path: path.write_text("text"), r"is not an \.npz archive of depth maps"),
        (lambda path: path.write_bytes(b""), r"is not an \.npz archive of depth maps"),
        (lambda path: path.write_bytes(pickle.dumps([1])), r"is not an \.npz archive"),
        (truncated, r"is not an \.npz archive of depth maps, or not all of one"),
        (half_a_pickle, "cannot read the ground truth"),
        (lambda path: np.savez(path, other=np.ones(3)), "holds neither"),
        (lambda path: np.savez(path, depth_00001=np.ones((3, 3))), "holds neither"),
        (lambda path: np.savez(path, data=np.ones(3)), "entry 0 of .* is not a depth map"),
        (lambda path: np.savez(path, data=as_objects([None])), "is not a depth map"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, write, message):
    path = tmp_path / "gt_depths.npz"
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        load_gt_depths(path)
    assert str(path) in str(caught.value)


def test_a_plain_npy_is_refused(tmp_path):
    np.save(tmp_path / "depth.npy", np.ones((3, 3)))
    with pytest.raises(UserError, match=r"is not an \.npz archive"):
        load_gt_depths(tmp_path / "depth.npy")


def test_a_damaged_entry_is_named_when_it_is_read(tmp_path):
    path = tmp_path / "gt_depths.npz"
    np.savez(path, depth_00000=np.zeros((50, 50)), depth_00001=np.ones((3, 3, 3)))
    data = bytearray(path.read_bytes())
    data[5000:5100] = b"x" * 100
    path.write_bytes(data)
    read = load_gt_depths(path)
    with pytest.raises(UserError, match="depth map 0 of"):
        read[0]
    with pytest.raises(UserError, match=r"entry 1 of .* is not a depth map"):
        read[1]
