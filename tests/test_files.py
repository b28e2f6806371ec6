"""Pictures are decoded to the pixels that Pillow has, whatever decodes them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from datasets.files import load_rgb
from utils import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 41, 3), dtype=np.uint8)


def png(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def with_chunks() -> PngImagePlugin.PngInfo:
    """What other programs change colours by, and what cameras add."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    chunks.add(b"sBIT", bytes([5, 6, 5]))
    chunks.add_text("Comment", "none")
    return chunks


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


RGB = Image.fromarray(PIXELS)
PICTURES = {
    "rgb": png(RGB),
    "stored": png(RGB, compress_level=0),
    "chunks": png(RGB, pnginfo=with_chunks()),
    "turned": png(RGB, exif=exif(6)),
    "transparent colour": png(RGB, transparency=tuple(map(int, PIXELS[0, 0]))),
    "alpha": png(RGB.convert("RGBA")),
    "palette": png(RGB.quantize(17)),
    "grey": png(RGB.convert("L")),
    "1 bit": png(RGB.convert("1")),
}


@pytest.mark.parametrize("name", PICTURES)
def test_png_files_have_pillows_pixels(name: str, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(PICTURES[name])
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    found = load_rgb(tmp_path / "a.png")
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("noise", [0, 1, 40])
def test_large_png_files_have_pillows_pixels(level: int, noise: int, tmp_path: Path):
    ramp = np.linspace(0, 200, 211)[:, None, None] + np.linspace(0, 40, 307)[:, None]
    ramp = ramp + np.random.default_rng(1).uniform(0, noise + 1, (211, 307, 3))
    picture = Image.fromarray(ramp.clip(0, 255).astype(np.uint8))
    picture.save(tmp_path / "a.png", compress_level=level)
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.png")), picture)


def test_the_end_of_a_name_does_not_say_what_a_file_is(tmp_path: Path):
    RGB.save(tmp_path / "a.png", "JPEG")
    (tmp_path / "a.jpg").write_bytes(PICTURES["rgb"])
    expected = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.png")), expected)
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.jpg")), PIXELS)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_refused_or_read_as_pillow_reads_it(seed: int, tmp_path: Path):
    rng, content = np.random.default_rng(seed), bytearray(PICTURES["rgb"])
    if seed % 2:
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    else:
        del content[rng.integers(len(content)) :]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    try:
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"))
    except Exception:
        with pytest.raises(UserError, match=r"cannot read the image .*a\.png"):
            load_rgb(path)
    else:
        np.testing.assert_array_equal(np.asarray(load_rgb(path)), expected)
