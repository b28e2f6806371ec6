"""NYUv2: the lens taken out, nine frames a line, labelled images, and the list from raw scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

import datasets.splits
from augmentations import Augmentation
from datasets import build_dataset, nyuv2_dataset
from datasets.keys import FrameKey
from datasets.nyuv2_list import main
from utils import UserError

SIZE = (32, 64)
LINE = " ".join(f"room/{frame}.ppm" for frame in (0, -4, -3, -2, -1, 1, 2, 3, 4))


def ramp(top: int, bottom: int) -> Image.Image:
    """Red rises with the column, green with the row, by a fifth of a grey level; blue is told."""
    y, x = np.mgrid[:480, :640]
    blue = np.broadcast_to(np.where(y < 240, top, bottom), y.shape)
    return Image.fromarray(np.stack([x / 3, y / 3, blue], -1).round().astype(np.uint8))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """A scene of nine frames whose blue tells the frame: 100 + 10 n."""
    root = tmp_path_factory.mktemp("nyu")
    (root / "room").mkdir()
    for frame in range(-4, 5):
        ramp(100 + 10 * frame, 100 + 10 * frame).save(root / f"room/{frame}.ppm")
    return root


@pytest.fixture
def labelled(tmp_path) -> Path:
    """A labelled image: the ramp, and a depth that tells the pixel."""
    (tmp_path / "nyu_test").mkdir()
    y, x = np.mgrid[:480, :640]
    with h5py.File(tmp_path / "nyu_test/00001.h5", "w") as file:
        file["rgb"] = np.asarray(ramp(0, 255)).transpose(2, 0, 1)
        file["depth"] = (y + x / 1000).astype(np.float32)
    return tmp_path


def training_set(root: Path, **options):
    return build_dataset("nyuv2", root, [LINE], *SIZE, is_train=True, **options)


def test_set(root: Path, **options):
    options = {"frame_ids": (0,), **options}
    return build_dataset("nyuv2", root, ["nyu_test/00001.h5"], *SIZE, **options)


test_set.__test__ = False  # a test data set, no test


# ---- training --------------------------------------------------------------------------------


def distorted(x: float, y: float) -> tuple[float, float]:
    """Brown's model: where the lens puts the point that an ideal camera sees at (x, y)."""
    fx, fy, cx, cy = nyuv2_dataset.CAMERA
    k1, k2, p1, p2, k3 = nyuv2_dataset.DISTORTION
    u, v = (x - cx) / fx, (y - cy) / fy
    r2 = u * u + v * v
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    u, v = (u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u),
            v * radial + p1 * (r2 + 2 * v * v) + 2 * p2 * u * v)  # fmt: skip
    return fx * u + cx, fy * v + cy


def test_the_lens_is_taken_out_and_the_border_cut(raw):
    dataset = training_set(raw)
    picture = np.asarray(dataset.load_image(dataset.image_path(dataset.refs[0], 0))).astype(float)
    assert picture.shape == (448, 608, 3)
    for x, y in ((20, 20), (600, 30), (40, 450), (620, 460), (320, 240), (500, 130)):
        expected = np.array(distorted(x, y)) / 3
        np.testing.assert_allclose(picture[y - 16, x - 16, :2], expected, atol=0.75)
    shift = np.hypot(*np.subtract(distorted(20, 20), (20, 20)))
    assert shift > 3  # so that the above is no test of nothing


def test_every_frame_id_is_its_place_in_the_line(raw):
    frames = (0, -4, -3, -2, -1, 1, 2, 3, 4)
    dataset = training_set(raw, frame_ids=frames)
    dataset.draw = lambda _: Augmentation()
    sample = dataset[0]
    for frame in frames:
        blue = sample[FrameKey("color", frame, 0)][2]
        assert (blue == 100 + 10 * frame).all()


def test_the_lens_is_computed_once(raw, monkeypatch):
    calls = []
    compute = cv2.initUndistortRectifyMap
    monkeypatch.setattr(cv2, "initUndistortRectifyMap",
                        lambda *args: calls.append(args) or compute(*args))  # fmt: skip
    nyuv2_dataset.undistortion_maps.cache_clear()
    dataset = training_set(raw)
    for epoch in range(3):
        dataset[epoch * 0]
    assert len(calls) == 1


@pytest.mark.parametrize("flip", [False, True])
def test_intrinsics_are_of_the_cut_picture(raw, flip):
    dataset = training_set(raw)
    dataset.draw = lambda _: Augmentation(flip=flip)
    fx, fy, cx, cy = nyuv2_dataset.CAMERA
    cx = (cx - 16) / 608
    expected = [[fx / 608, 0, 1 - cx if flip else cx], [0, fy / 448, (cy - 16) / 448]]
    K = dataset[0]["K"][:2, :3].numpy()
    np.testing.assert_allclose(K, np.multiply(expected, [[64], [32]]), rtol=1e-6)


def test_a_flip_mirrors_picture_and_camera_alike(raw):
    """The column at the principal point shows the same scene, mirrored or not."""
    columns = []
    for flip in (False, True):
        dataset = training_set(raw)
        dataset.draw = lambda _, flip=flip: Augmentation(flip=flip)
        sample = dataset[0]
        red = sample[FrameKey("color", 0, 0)][0].float().mean(0).numpy()
        columns.append(np.interp(sample["K"][0, 2].item() - 0.5, range(SIZE[1]), red))
    np.testing.assert_allclose(columns[0], columns[1], atol=0.5)


def test_frames_and_partners_that_no_line_has(raw):
    with pytest.raises(UserError, match="has no frame 5, 6: its frames are -4, -3,"):
        training_set(raw, frame_ids=(0, 5, 6))
    with pytest.raises(UserError, match="no stereo partner"):
        training_set(raw, frame_ids=(0, "s"))


def test_a_line_must_name_nine_files(raw):
    with pytest.raises(UserError, match="nine files: frame 0, then -4"):
        build_dataset("nyuv2", raw, [LINE.rpartition(" ")[0]], *SIZE, is_train=True)


def test_frames_of_another_size_have_another_lens(raw, tmp_path):
    (tmp_path / "room").mkdir()
    for path in raw.glob("room/*.ppm"):
        Image.open(path).resize((320, 240)).save(tmp_path / "room" / path.name)
    with pytest.raises(UserError, match=r"0.ppm measures 320x240: .* 640x480"):
        training_set(tmp_path)[0]


def test_a_frame_cut_short_is_named(raw, tmp_path):
    (tmp_path / "room").mkdir()
    for path in raw.glob("room/*.ppm"):
        (tmp_path / "room" / path.name).write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot read the image .*room/0.ppm"):
        training_set(tmp_path)[0]


# ---- test ------------------------------------------------------------------------------------


def test_picture_depth_and_camera_are_cut_alike(labelled):
    dataset = test_set(labelled)
    (depth,) = dataset.ground_truth()
    assert (depth.dtype, depth.shape) == (np.float32, (427, 561))
    np.testing.assert_allclose(depth[[0, -1], [0, -1]], [44.040, 470.600])
    picture = dataset.load_frames(dataset.refs[0])[0]
    assert picture.size == (561, 427)
    assert picture.getpixel((0, 0)) == (13, 15, 0)
    assert picture.getpixel((560, 426)) == (200, 157, 255)
    sample = dataset[0]
    assert sample.keys() == {FrameKey("color", 0, 0), "K", "inv_K", "index"}
    fx, fy, cx, cy = nyuv2_dataset.CAMERA
    expected = [[fx / 561, 0, (cx - 40) / 561], [0, fy / 427, (cy - 44) / 427]]
    K = sample["K"][:2, :3].numpy()
    np.testing.assert_allclose(K, np.multiply(expected, [[64], [32]]), rtol=1e-6)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def change(name: str, value: np.ndarray | None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[name]
            if value is not None:
                file[name] = value

    return write


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "cannot read the labelled image {path}: "),
        (lambda path: path.write_text("no HDF5"), "cannot read the labelled image {path}: "),
        (change("rgb", None), "{path} needs 'rgb' of shape (3, 480, 640), uint8"),
        (change("rgb", np.zeros((480, 640, 3), np.uint8)), "needs 'rgb' of shape (3, 480, 640)"),
        (change("rgb", np.zeros((3, 480, 640))), "needs 'rgb' of shape (3, 480, 640), uint8"),
    ],
)
def test_a_damaged_picture_is_named(labelled, damage, said):
    path = labelled / "nyu_test/00001.h5"
    damage(path)
    with pytest.raises(UserError) as raised:
        test_set(labelled)[0]
    assert said.format(path=path) in str(raised.value)


@pytest.mark.parametrize("value", [None, np.zeros((240, 320)), np.zeros((480, 640), "S1")])
def test_a_damaged_depth_is_named(labelled, value):
    depths = test_set(labelled).ground_truth()
    change("depth", value)(labelled / "nyu_test/00001.h5")
    with pytest.raises(UserError, match=r"00001.h5 needs 'depth' of shape \(480, 640\), float32"):
        depths[0]


def test_missing_images_are_named(labelled):
    lines = [f"nyu_test/{number:05d}.h5" for number in (1, 2, 3, 4, 5, 6)]
    with pytest.raises(UserError) as raised:
        build_dataset("nyuv2", labelled, lines, *SIZE, frame_ids=(0,))
    folder = f"{labelled}/nyu_test"
    others = [f"{folder}/{number:05d}.h5" for number in (3, 4, 5)]
    assert str(raised.value) == (
        f"frame 0 of the split line 'nyu_test/00002.h5' is missing: {folder}/00002.h5 does not "
        f"exist; also missing: {', '.join(others)} and 1 more"
    )


# ---- the list --------------------------------------------------------------------------------


def scene(root: Path, name: str, count: int, empty: tuple[int, ...] = ()) -> list[str]:
    """Raw files as the camera named them: in no order on disk, depth among them."""
    folder = root / name
    folder.mkdir(parents=True)
    # Microseconds, and a counter that wraps around.
    names = [f"r-{1294886360 + n}.{(n * 37) % 100:06d}-{(99 - n) % 100}.ppm" for n in range(count)]
    for n in reversed(range(count)):
        (folder / names[n]).write_bytes(b"" if n in empty else b"P6")
        (folder / f"d{names[n][1:-3]}pgm").write_bytes(b"P5")
    return [f"{name}/{frame}" for frame in names]


def test_the_list_is_derived_from_the_scenes(tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    kitchen = scene(raw, "part1/kitchen_0001", 105)
    office = scene(raw, "office_0002", 91, empty=(5, 90))
    scene(raw, "short_0003", 80)
    main(["--data_path", str(raw), "--output", str(out)])
    offsets = (0, -40, -30, -20, -10, 10, 20, 30, 40)
    expected = [(office, 40), (kitchen, 40), (kitchen, 50), (kitchen, 60)]
    lines = [" ".join(frames[t + o] for o in offsets) for frames, t in expected]
    assert (out / "train_files.txt").read_text().splitlines() == lines
    assert capsys.readouterr().out == (
        "276 frames: 4 lines kept; dropped: 24 targets near the ends of their scenes, among them "
        "all of 1 short scenes (short_0003); 1 with an empty file among the nine; written: "
        f"{out}/train_files.txt\n"
    )


@pytest.mark.parametrize("name", ["my kitchen", "kitchen\n", "\udcff"])
def test_a_name_that_a_list_cannot_hold_is_refused(tmp_path, name):
    scene(tmp_path / "raw", name, 81)
    with pytest.raises(UserError, match=r"the name '.*' cannot stand in a list"):
        main(["--data_path", str(tmp_path / "raw"), "--output", str(tmp_path)])
    assert not (tmp_path / "train_files.txt").exists()


def test_numbers_of_other_scripts_are_text(tmp_path, capsys):
    scene(tmp_path / "raw", "kitchen", 81)
    (tmp_path / "raw/kitchen/r-1²3.ppm").write_bytes(b"P6")
    main(["--data_path", str(tmp_path / "raw"), "--output", str(tmp_path)])
    assert "82 frames: 1 lines kept" in capsys.readouterr().out


def test_training_finds_the_list(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.splits.split_lines, "__defaults__", (tmp_path,))
    (tmp_path / "nyuv2.txt").write_text("[test]\n1\n")
    with pytest.raises(UserError, match=r"make it with `python -m datasets.nyuv2_list"):
        datasets.splits.split_lines("nyuv2", "", "train")
    scene(tmp_path / "raw", "kitchen", 81)
    main(["--data_path", str(tmp_path / "raw"), "--output", str(tmp_path / "nyuv2")])
    assert len(datasets.splits.split_lines("nyuv2", "", "train")) == 1
    assert datasets.splits.published_lists(tmp_path) == ["nyuv2 test"]


def test_a_folder_without_scenes_makes_no_list(tmp_path):
    (tmp_path / "raw").mkdir()
    scene(tmp_path / "raw", "short", 12)
    with pytest.raises(UserError, match=r"more than 80 .ppm frames each, found 12"):
        main(["--data_path", str(tmp_path / "raw"), "--output", str(tmp_path)])
    with pytest.raises(UserError, match="nowhere does not exist"):
        main(["--data_path", str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="--data_path"):
        main([])
