"""Finding pictures, and reading each kind: the same scene must come out of every one of them."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pictures import Skips, find_images, find_pictures, is_prediction, read_picture, read_pictures
from tests.tiny_model import save_picture
from utils import UserError

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)


@pytest.fixture
def corners() -> Image.Image:
    """40x20 (width x height): red, green above blue, grey."""
    pixels = np.array([[RED, GREEN], [BLUE, GREY]], dtype=np.uint8)
    return Image.fromarray(pixels.repeat(10, 0).repeat(20, 1))


def read(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = read_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


# ---- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_every_colour_mode_shows_the_same(tmp_path: Path, corners: Image.Image, mode: str):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    corners.convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    assert np.abs(read(path) - np.asarray(corners)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str):
    levels = Image.fromarray(np.array([[0, 255, 0], [255, 255, 0]], dtype=np.uint8))
    levels.convert(mode).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png") == np.asarray(levels)[..., None]).all()


def test_16_bit_grey_is_scaled_by_its_full_range(tmp_path: Path):
    levels = np.array([[0, 128, 129, 257], [32767, 32896, 65407, 65535]], dtype=np.uint16)
    expected = [[0, 0, 1, 1], [127, 128, 255, 255]]
    Image.fromarray(levels).save(tmp_path / "a.png")
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    (tmp_path / "a.pgm").write_bytes(b"P5 4 2 65535\n" + levels.astype(">u2").tobytes())
    for ending in ("png", "tiff", "pgm"):
        assert read(tmp_path / f"a.{ending}")[..., 1].tolist() == expected


def test_16_bit_colours_keep_their_channels(tmp_path: Path):
    pixels = np.array([[[65535, 0, 32896], [257 * 10, 257 * 20, 257 * 30]]], dtype=">u2")
    write_png(tmp_path / "a.png", pixels, colour_type=2)
    assert np.abs(read(tmp_path / "a.png") - [[[255, 0, 128], [10, 20, 30]]]).max() <= 1
    alpha = np.array([[[65535, 0], [257 * 77, 65535]]], dtype=">u2")
    write_png(tmp_path / "b.png", alpha, colour_type=4)
    assert np.abs(read(tmp_path / "b.png") - [[[255] * 3, [77] * 3]]).max() <= 1


def write_png(path: Path, pixels: np.ndarray, colour_type: int) -> None:
    """A 16-bit PNG by the letter of its specification; pixels: (H, W, channels), big-endian."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_transparency_is_dropped(tmp_path: Path, corners: Image.Image):
    see_through = corners.copy()
    see_through.putalpha(Image.linear_gradient("L").resize(corners.size))
    see_through.save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png") == np.asarray(corners)).all()
    palette = corners.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "b.png", transparency=bytes([0, 100, 200, 255]))
    assert np.abs(read(tmp_path / "b.png") - np.asarray(corners)).max() <= 4


# Where the first row and the first column of the stored picture belong (EXIF 2.3, tag 0x0112), as
# what np must do to the stored pixels.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("ending", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_turns_the_picture(tmp_path, corners, orientation: int, ending: str):
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"png": {"exif": exif}, "tiff": {"tiffinfo": {0x0112: orientation}}}
    how["jpg"] = how["png"] | {"quality": 100, "subsampling": 0}
    corners.save(path, **how[ending])
    expected = UPRIGHT[orientation](np.asarray(corners))
    assert np.abs(read(path) - expected).max() <= 4


def test_odd_exif_does_not_lose_a_picture(tmp_path, corners):
    """Of a text, one byte more than there is room for, which Pillow could not write again."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0131] = 6, "abc", "longer software"
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00", 0x9214: (1, 2, 3)}
    path = tmp_path / "a.jpg"
    corners.save(path, exif=exif, quality=100, subsampling=0)
    data = path.read_bytes()
    place = data.index(struct.pack(">H", 0x0131), 20) + 2
    path.write_bytes(data[:place] + struct.pack(">H", 11) + data[place + 2 :])
    with Image.open(path) as image, pytest.raises((AttributeError, TypeError)):
        ImageOps.exif_transpose(image)
    (((_, picture),), expected) = list(read_pictures([path], Skips(True))), UPRIGHT[6]
    assert np.abs(np.asarray(picture, int) - expected(np.asarray(corners, int))).max() < 40


def test_exif_turns_16_bits_too(tmp_path: Path):
    levels = (257 * np.arange(6)).astype(np.uint16).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels).save(tmp_path / "a.png", exif=exif)
    assert read(tmp_path / "a.png")[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for mode in ("I", "F"):
        Image.new(mode, (4, 4)).save(tmp_path / f"{mode}.tiff")
        with pytest.raises(UserError, match=rf"{mode}\.tiff holds 32-bit numbers"):
            read_picture(tmp_path / f"{mode}.tiff")
    with pytest.raises(UserError, match=r"cannot read the image .*none\.png: No such file"):
        read_picture(tmp_path / "none.png")
    whole = save_picture(tmp_path / "whole.png", 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"whole\.png.*pixels"):
        read_picture(whole)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff", "gif", "bmp", "ppm"])
def test_a_file_cut_off_anywhere_is_named(tmp_path: Path, ending: str):
    buffer = io.BytesIO()
    picture = Image.open(save_picture(tmp_path / "a.png", 3))
    picture.save(buffer, {"jpg": "JPEG"}.get(ending, ending))
    whole = buffer.getvalue()
    for length in range(0, len(whole) // 2, max(1, len(whole) // 40)):
        path = tmp_path / f"cut.{ending}"
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\."):
            read_picture(path)


def test_a_broken_picture_is_skipped_and_counted_or_stops(tmp_path: Path, capsys):
    paths = [save_picture(tmp_path / f"{i}.png", i) for i in range(3)]
    paths[1].write_bytes(b"no picture")
    skips = Skips(strict=False)
    assert [path for path, _ in read_pictures(paths, skips)] == [paths[0], paths[2]]
    assert skips.count == 1
    assert f"skipped: cannot read the image {paths[1]}" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"1\.png"):
        list(read_pictures(paths, Skips(strict=True)))


# ---- finding ---------------------------------------------------------------------------------


def test_find_images_in_natural_order(tmp_path: Path):
    for name in ("f10.png", "f2.png", "f2_disp.png", "f1.PNG", "notes.txt", "._f2.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    images, others = find_images(tmp_path, "png")
    assert [path.name for path in images] == ["f1.PNG", "f2.png", "f10.png"]
    assert {path.name for path in others} == {"f2_disp.png", "notes.txt"}
    assert find_images(tmp_path, ".png")[0] == find_images(tmp_path, "PNG")[0] == images


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path):
    with pytest.raises(UserError, match=r"no \.png image in .*, which holds no file at all"):
        find_images(tmp_path, "png")
    Path(tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match=r"which holds \.jpg: see --ext"):
        find_images(tmp_path, "png")
    with pytest.raises(UserError, match="cannot list the folder"):
        find_images(tmp_path / "missing", "png")


def test_a_pattern_and_a_name_that_looks_like_one(tmp_path: Path):
    for name in ("a2.jpg", "a10.jpg", "a10_depth_m.jpg", "b1.jpg", "[1].png", "deep/x/a1.jpg"):
        save_picture(tmp_path / name, 0)
    (tmp_path / "a3.jpg").mkdir()
    found = [path.name for path in find_pictures(str(tmp_path / "a*.jpg"), "png")]
    assert found == ["a2.jpg", "a10.jpg"]
    assert find_pictures(str(tmp_path / "**/a1.jpg"), "png") == [tmp_path / "deep/x/a1.jpg"]
    assert find_pictures(str(tmp_path / "[1].png"), "png") == [tmp_path / "[1].png"]
    for nothing in ("c*.jpg", "none.jpg", "x" * 300, "*_depth_m.jpg", "a\0b"):
        with pytest.raises(UserError, match="neither an image nor a folder, nor a pattern"):
            find_pictures(str(tmp_path / nothing), "png")


def test_what_is_a_result_of_ours():
    ours = ("a_disp.jpeg", "a_disp.npy", "a_depth_m.png", "a_depth_unscaled.json")
    assert all(is_prediction(Path(name)) for name in ours)
    theirs = ("disp.jpeg", "a_depth.png", "a_disp2.png")
    assert not any(is_prediction(Path(name)) for name in theirs)
