"""From files to samples: what a sample holds, what it depends on, and what bad input says."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from augmentations import IDENTITY_JITTER, Augmentation, CropBox, Cut
from datasets import build_dataset
from datasets.keys import FrameKey, SampleIndex
from datasets.kitti_dataset import KITTIRawDataset
from datasets.mono_dataset import MonoDataset, load_rgb, resize
from datasets.resizing import view
from datasets.samplers import EpochSampler
from utils import UserError

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
HEIGHT, WIDTH = 32, 64
NATIVE = (47, 155)  # as wide as KITTI, an eighth of its size


def smooth_picture(seed: int, height: int = NATIVE[0], width: int = NATIVE[1]) -> Image.Image:
    """A random picture without edges so hard that resizing leaves the range of values."""
    coarse = np.random.default_rng(seed).integers(40, 216, (9, 13, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Eight frames of both cameras."""
    root = tmp_path_factory.mktemp("kitti")
    for camera, frame in itertools.product((2, 3), range(8)):
        path = root / DRIVE / f"image_{camera:02d}/data/{frame:010d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth_picture(100 * camera + frame).save(path)
    return root


def lines(*frames: int, side: str = "l") -> list[str]:
    return [f"{DRIVE} {frame} {side}" for frame in frames]


def training_set(root: Path, kind: type[MonoDataset] = KITTIRawDataset, **options) -> MonoDataset:
    defaults = {"is_train": True, "seed": 7, "local_crop": True, "patch_reshuffle": True}
    options = {"lines": lines(*range(1, 7)), **defaults, **options}
    return kind(root, options.pop("lines"), HEIGHT, WIDTH, **options)


def with_draw(dataset: MonoDataset, **drawn) -> MonoDataset:
    """The data set with one augmentation for every sample."""
    dataset.draw = lambda _: Augmentation(**drawn)
    return dataset


def assert_same_samples(actual: dict, expected: dict) -> None:
    assert set(actual) == set(expected)
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


def differs(first: dict, second: dict) -> bool:
    return any(not torch.equal(first[key], second[key]) for key in ("jitter", "crop", "cut"))


# ---- what a sample holds -------------------------------------------------------------------


def test_a_training_sample_holds_what_the_step_needs(root):
    sample = training_set(root, num_scales=3)[0]
    expected = {
        "K": (torch.float32, (4, 4)), "inv_K": (torch.float32, (4, 4)),
        "crop": (torch.float64, (5,)), "cut": (torch.int64, (2,)),
        "jitter": (torch.float32, (8,)), "index": (torch.int64, ()),
    }  # fmt: skip
    for kind, frame, scale in itertools.product(("color", "color_local"), (0, -1, 1), range(3)):
        if frame == 0 or scale == 0:
            size = (3, HEIGHT >> scale, WIDTH >> scale)
            expected[FrameKey(kind, frame, scale)] = (torch.uint8, size)
    assert {key: (value.dtype, value.shape) for key, value in sample.items()} == expected


def test_the_sources_have_a_pyramid_only_if_asked(root):
    sample = training_set(root, num_scales=2, pyramid_of_sources=True)[0]
    for kind, frame in itertools.product(("color", "color_local"), (0, -1, 1)):
        assert sample[FrameKey(kind, frame, 1)].shape == (3, HEIGHT // 2, WIDTH // 2)


def test_an_evaluation_sample_is_not_augmented(root):
    dataset = KITTIRawDataset(
        root, lines(3), HEIGHT, WIDTH, (0, 1), 4, local_crop=True, patch_reshuffle=True
    )
    sample = dataset[SampleIndex(epoch=5, index=0)]
    names = {FrameKey("color", 0, 0), FrameKey("color", 1, 0), "K", "inv_K", "index"}
    assert set(sample) == names
    picture = load_rgb(dataset.image_path(dataset.refs[0], 1))
    expected = np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    actual = sample[FrameKey("color", 1, 0)].numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(actual, expected)


def test_without_options_there_is_no_crop_and_no_cut(root):
    sample = training_set(root, local_crop=False, patch_reshuffle=False)[0]
    assert {"crop", "cut"}.isdisjoint(sample)
    assert not any(key[0] == "color_local" for key in sample if isinstance(key, FrameKey))


def test_samples_are_collated_by_default(root):
    batch = next(iter(DataLoader(training_set(root), batch_size=3)))
    assert batch["color", 0, 0].shape == (3, 3, HEIGHT, WIDTH)
    assert batch["index"].tolist() == [0, 1, 2]
    assert batch["crop"].shape == (3, 5)


def test_every_file_is_decoded_once(root):
    class Counting(KITTIRawDataset):
        read: list[str] = []  # noqa: RUF012

        def load_image(self, path):
            self.read.append(path)
            return super().load_image(path)

    training_set(root, Counting, num_scales=4, frame_ids=(0, -1, 1, "s"))[0]
    assert len(Counting.read) == len(set(Counting.read)) == 4


def test_the_index_is_the_place_in_the_list_and_drawn_values_travel(root):
    drawn = {
        "jitter": (0.9, 1.1, 1.0, 0.05, 3.0, 1.0, 0.0, 2.0),
        "crop": CropBox(1.5, 48, 96, 3, 20),
        "cut": Cut(10, 21),
    }
    sample = with_draw(training_set(root), **drawn)[4]
    assert sample["index"] == 4
    assert sample["crop"].tolist() == [1.5, 48, 96, 3, 20]
    assert sample["cut"].tolist() == [10, 21]
    torch.testing.assert_close(sample["jitter"], torch.tensor(drawn["jitter"]))


def test_half_of_the_samples_change_colour_and_half_are_mirrored(root):
    dataset = training_set(root)
    draws = [dataset.draw(SampleIndex(epoch, 2)) for epoch in range(400)]
    assert 150 < sum(draw.flip for draw in draws) < 250
    assert 150 < sum(draw.jitter == IDENTITY_JITTER for draw in draws) < 250


# ---- the crop ------------------------------------------------------------------------------


SIZES = [NATIVE, (96, 310), (90, 100), (48, 40)]  # in the last, Pillow 13 resizes columns first


def noisy_picture(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(-40, 40, (height, width, 3))
    coarse = np.asarray(smooth_picture(1, height, width)).astype(int)
    return Image.fromarray((coarse + noise).clip(0, 255).astype(np.uint8))


def rows_first(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Along one axis each, as Pillow did in one call before its version 13."""
    wide = picture.resize((width, picture.height), Image.Resampling.LANCZOS)
    return wide.resize((width, height), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_resized_along_its_rows_before_its_columns(size):
    picture = noisy_picture(*size)
    expected = np.asarray(rows_first(picture, HEIGHT, WIDTH))
    np.testing.assert_array_equal(np.asarray(resize(picture, HEIGHT, WIDTH)), expected)
    np.testing.assert_array_equal(np.asarray(resize(np.asarray(picture), HEIGHT, WIDTH)), expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_crop_is_a_box_of_the_resized_picture(size):
    picture = noisy_picture(*size)
    for ratio, y, x in itertools.product((1.2, 1.37, 1.99), (0, 0.4, 1), (0, 0.7, 1)):
        height, width = int(HEIGHT * ratio), int(WIDTH * ratio)
        y0, x0 = int((height - HEIGHT) * y), int((width - WIDTH) * x)
        crop = CropBox(ratio, height, width, y0, x0)
        whole = rows_first(picture, height, width)
        expected = np.asarray(whole.crop((x0, y0, x0 + WIDTH, y0 + HEIGHT))).astype(int)
        actual = np.asarray(resize(picture, HEIGHT, WIDTH, crop))
        assert np.abs(actual - expected).max() <= 1


@pytest.mark.parametrize("size", [*SIZES, (375, 1242), (480, 640)])
@pytest.mark.parametrize("crop", [None, CropBox(1.6, 51, 102, 12, 30)])
def test_the_mirrored_view_is_the_mirrored_pictures(size, crop):
    """To the last bit where it is whole; a mirrored box is where it was but for rounding."""
    picture = noisy_picture(*size)
    actual = view(picture, (HEIGHT, WIDTH), crop, True, False).numpy().transpose(1, 2, 0)
    expected = np.asarray(resize(ImageOps.mirror(picture), HEIGHT, WIDTH, crop)).astype(int)
    assert np.abs(actual - expected).max() <= (0 if crop is None else 1)


@pytest.mark.parametrize("crop", [None, CropBox(1.6, 51, 102, 12, 30)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_fast_view_is_the_exact_one_within_a_grey_level(size, crop, flip):
    picture = np.asarray(noisy_picture(*size))
    exact, fast = (view(picture, (HEIGHT, WIDTH), crop, flip, way).int() for way in (False, True))
    assert (fast - exact).abs().max() <= 1
    assert (fast != exact).float().mean() < 0.02


# ---- mirroring and cameras -----------------------------------------------------------------


class OffCentre(KITTIRawDataset):
    """A camera whose principal point is not in the middle."""

    def intrinsics(self, ref):  # noqa: ARG002
        return 0.7, 1.4, 0.42, 0.55


@pytest.mark.parametrize("flip", [False, True])
def test_a_mirrored_picture_has_a_mirrored_principal_point(root, flip):
    sample = with_draw(training_set(root, OffCentre), flip=flip)[0]
    cx = (0.58 if flip else 0.42) * WIDTH
    expected = [[0.7 * WIDTH, 0, cx, 0], [0, 1.4 * HEIGHT, 0.55 * HEIGHT, 0],
                [0, 0, 1, 0], [0, 0, 0, 1]]  # fmt: skip
    torch.testing.assert_close(sample["K"], torch.tensor(expected))
    product = sample["K"].double() @ sample["inv_K"].double()
    torch.testing.assert_close(product, torch.eye(4).double(), rtol=0, atol=5e-6)


def test_mirroring_mirrors_every_picture_before_it_is_cropped(root):
    box = CropBox(1.5, 48, 96, 3, 20)
    mirrored_box = box._replace(x0=96 - WIDTH - 20)
    options = {"frame_ids": (0, -1, 1, "s"), "num_scales": 2}
    mirrored = with_draw(training_set(root, **options), flip=True, crop=box)[0]
    plain = with_draw(training_set(root, **options), crop=mirrored_box)[0]
    keys = [key for key in mirrored if isinstance(key, FrameKey)]
    assert len(keys) == 2 * 5
    for key in keys:
        difference = mirrored[key].int() - plain[key].flip(-1).int()
        assert difference.abs().max() <= 1, key


@pytest.mark.parametrize(("side", "flip"), [*itertools.product("lr", (False, True))])
def test_the_stereo_partner_is_the_other_camera(root, side, flip):
    dataset = training_set(root, lines=lines(2, side=side), frame_ids=(0, "s"))
    sample = with_draw(dataset, flip=flip)[0]
    expected = torch.eye(4)
    expected[0, 3] = 0.1 if (side == "r") != flip else -0.1
    torch.testing.assert_close(sample["stereo_T"], expected)
    partner = 3 if side == "l" else 2
    picture = resize(smooth_picture(100 * partner + 2), HEIGHT, WIDTH)
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    expected = expected.flip(-1) if flip else expected
    assert (sample[FrameKey("color", "s", 0)].int() - expected.int()).abs().max() <= 1


def test_lines_without_a_side_are_the_left_camera(root):
    dataset = KITTIRawDataset(root, [f"{DRIVE} 0000000002"], HEIGHT, WIDTH, (0,))
    left = KITTIRawDataset(root, lines(2), HEIGHT, WIDTH, (0,))
    assert_same_samples(dataset[0], left[0])


# ---- what a sample depends on --------------------------------------------------------------


def test_the_augmentation_depends_on_seed_epoch_and_index(root):
    dataset = training_set(root)
    sample = dataset[SampleIndex(3, 2)]
    assert_same_samples(training_set(root)[SampleIndex(3, 2)], sample)
    assert_same_samples(dataset[2], dataset[SampleIndex(0, 2)])
    assert differs(dataset[SampleIndex(4, 2)], sample)
    assert differs(dataset[SampleIndex(3, 1)], sample)
    assert differs(training_set(root, seed=8)[SampleIndex(3, 2)], sample)


def epochs(dataset: MonoDataset, count: int, **loader_options) -> list[list[dict]]:
    """Every batch of the first epochs, by one loader."""
    sampler = EpochSampler(len(dataset), seed=3)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, **loader_options)
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(loader))
    return found


def test_workers_change_nothing_and_epochs_do(root):
    dataset = training_set(root)
    alone = epochs(dataset, 2)
    shared = epochs(dataset, 2, num_workers=2, persistent_workers=True)
    for expected, actual in zip(itertools.chain(*alone), itertools.chain(*shared), strict=True):
        assert_same_samples(actual, expected)
    by_index = [
        {int(index): jitter for batch in epoch for index, jitter in
         zip(batch["index"], torch.cat([batch["jitter"], batch["crop"]], 1), strict=True)}
        for epoch in alone
    ]  # fmt: skip
    assert set(by_index[0]) == set(by_index[1]) == set(range(6))
    assert all(not torch.equal(by_index[0][index], by_index[1][index]) for index in range(6))


def test_a_resume_from_the_middle_goes_on_with_the_same_samples(root):
    whole = epochs(training_set(root), 2)[1]
    dataset = training_set(root)
    sampler = EpochSampler(len(dataset), seed=3)
    sampler.set_epoch(1, start=4)
    rest = list(DataLoader(dataset, batch_size=2, sampler=sampler))
    assert len(rest) == 1
    assert_same_samples(rest[0], whole[2])


# ---- files ---------------------------------------------------------------------------------


def test_jpg_is_read_on_request_at_full_size(tmp_path):
    path = tmp_path / DRIVE / "image_02/data/0000000001.jpg"
    path.parent.mkdir(parents=True)
    picture = smooth_picture(1, 240, 800)
    picture.save(path, quality=98)
    sample = KITTIRawDataset(tmp_path, lines(1), HEIGHT, WIDTH, (0,), jpg=True)[0]
    decoded = resize(Image.open(path).convert("RGB"), HEIGHT, WIDTH)
    actual = sample[FrameKey("color", 0, 0)].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(actual, np.asarray(decoded))
    with pytest.raises(UserError, match="which --jpg reads"):
        KITTIRawDataset(tmp_path, lines(1), HEIGHT, WIDTH, (0,))


def test_a_grey_picture_is_read_as_rgb(tmp_path):
    smooth_picture(2).convert("L").save(tmp_path / "grey.png")
    picture = np.asarray(load_rgb(tmp_path / "grey.png"))
    assert picture.shape == (*NATIVE, 3)
    assert (picture == picture[..., :1]).all()


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        KITTIRawDataset(tmp_path / "nowhere", lines(1), HEIGHT, WIDTH)


def test_missing_frames_are_found_before_training_and_counted(root):
    with pytest.raises(UserError) as raised:
        training_set(root, lines=lines(3, 6, 7, 9))
    sentence = str(raised.value)
    assert f"frame 1 of the split line '{DRIVE} 7 l' is missing" in sentence
    frames = [f"{root}/{DRIVE}/image_02/data/{frame:010d}.png" for frame in (8, 9, 10)]
    missing, *others = frames
    assert sentence.endswith(f"{missing} does not exist; also missing: {', '.join(others)}")


def test_a_missing_stereo_partner_is_found_before_training(root, tmp_path):
    (tmp_path / DRIVE).mkdir(parents=True)
    (tmp_path / DRIVE / "image_02").symlink_to(root / DRIVE / "image_02")
    with pytest.raises(UserError, match=r"frame s of the split line .*image_03"):
        training_set(tmp_path, lines=lines(2), frame_ids=(0, "s"))


@pytest.mark.parametrize("share", [0, 0.5])
def test_an_unreadable_picture_is_named(root, tmp_path, share):
    source = root / DRIVE / "image_02/data/0000000001.png"
    path = tmp_path / DRIVE / "image_02/data/0000000001.png"
    path.parent.mkdir(parents=True)
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    dataset = KITTIRawDataset(tmp_path, lines(1), HEIGHT, WIDTH, (0,))
    with pytest.raises(UserError, match=f"cannot read the image {path}"):
        dataset[0]


@pytest.mark.parametrize("line", ["", DRIVE, f"{DRIVE} one l", f"{DRIVE} 1 x", f"{DRIVE} 1 l l"])
def test_a_malformed_line_is_shown_with_what_was_expected(root, line):
    with pytest.raises(UserError, match=r"expected for example '2011_09_26/.* 5 l'"):
        KITTIRawDataset(root, [line], HEIGHT, WIDTH)


def test_a_data_set_without_a_partner_refuses_stereo(root):
    class Monocular(KITTIRawDataset):
        stereo_offset = MonoDataset.stereo_offset

    with pytest.raises(UserError, match="Monocular has no stereo partner"):
        Monocular(root, lines(1), HEIGHT, WIDTH, (0, "s"))


def test_data_sets_are_built_by_name(root):
    dataset = build_dataset("kitti", root, lines(1), HEIGHT, WIDTH, frame_ids=(0, 1))
    assert isinstance(dataset, KITTIRawDataset)
    with pytest.raises(UserError, match="unknown data set 'kiti': choose kitti"):
        build_dataset("kiti", root, lines(1), HEIGHT, WIDTH)


def test_a_key_equals_the_plain_tuple():
    assert {FrameKey("color", "s", 0): 1}["color", "s", 0] == 1
