"""Looking for files, reading pictures and true depth from them; no torch."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from utils import UserError, reason

SHOWN = 3  # names in a message
# What Pillow raises at a broken file, or at one of more pixels than it takes for harmless.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
              Image.DecompressionBombError)

# By EXIF's orientation, of 1 (as it is) to 8.
UPRIGHT = dict(enumerate((
    Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
), start=2))  # fmt: skip


class FileIndex:
    """Which files exist (`path in index`): a folder is listed once, however many it holds."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def __contains__(self, path: str | Path) -> bool:
        folder, name = os.path.split(path)
        return name in self.names(folder)

    def names(self, folder: str) -> set[str]:
        """What a folder holds; nothing where there is none."""
        if folder not in self._names:
            self._names[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return self._names[folder]


def some_of(names: Iterable[object]) -> str:
    """`a`, `a, b, c` or `a, b, c and 1,234 more`."""
    names = [str(name) for name in names]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def require_folder(path: str | Path) -> None:
    """Raise UserError unless the root of the data set is there."""
    if not os.path.isdir(path):
        raise UserError(f"the data folder {path} does not exist")


def load_rgb(path: str | Path) -> Image.Image:
    """Decode an image file, at full size and quality, as RGB. Raises UserError naming the file."""
    pixels = load_pixels(path)
    return pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)


def load_pixels(path: str | Path) -> np.ndarray | Image.Image:
    """As `load_rgb`, but uint8 (height, width, 3) where Pillow did not decode it."""
    with opened_image(path) as image:
        if image.format == "PNG" and image.mode == "RGB":
            pixels = _decode_plain_png(Path(path).read_bytes())
            if pixels is not None:
                return pixels
        return as_rgb(image, path)


def as_rgb(image: Image.Image, path: str | Path, upright: bool = False) -> Image.Image:
    """An opened image of any kind as RGB with 8 bits; upright: turned as its EXIF says.

    Of more than 8 bits, the full range is scaled: 65535 becomes 255. Transparency is dropped: the
    colours under it are read. Raises UserError naming the file.
    """
    bits_16 = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")  # Pillow has 16 bits as 32
    )
    if upright and image.format != "TIFF":  # Pillow turns it while loading; 10.0 would do so twice
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
        # Not ImageOps.exif_transpose: it writes the EXIF anew too, which fails where that is odd.
        image = image if turn is None else image.transpose(turn)
    if bits_16:
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UserError(
            f"the image {path} holds 32-bit numbers, of which it is not known what is white: 8 or "
            "16 bits are expected"
        )
    if image.mode in ("P", "PA", "RGBa", "La"):  # else Pillow asks for this step, or refuses
        image = image.convert("RGBA")
    return image.convert("RGB")


def _decode_plain_png(content: bytes) -> np.ndarray | None:
    """8-bit RGB (height, width, 3), as Pillow has it, in less time; None: leave it to Pillow.

    content: a PNG file of red, green and blue. None of 16 bits or rows out of order, and none that
    is damaged: Pillow says what is wrong with it.
    """
    from datasets.png import decode_plain_png

    return decode_plain_png(content)


@contextlib.contextmanager
def opened_image(path: str | Path) -> Iterator[Image.Image]:
    """An image file, to be decoded in the block. Raises UserError naming one that is broken."""
    try:
        with Image.open(path) as image:
            yield image
    except UNREADABLE as error:
        raise UserError(f"cannot read the image {path}: {reason(error)}") from error


class DepthMaps(Sequence[np.ndarray]):
    """True depth of a test list, in its order: (h, w) float32, metres, 0 where unknown.

    Each map is read from its file when it is asked for, so that the list may be of any length.
    """

    def __init__(
        self, paths: Iterable[str | Path], read: Callable[[str | Path], np.ndarray], hint: str = ""
    ) -> None:
        """paths: one a line of the list; read: from a path to a map; hint: where to get them.

        Raises UserError naming the first files that are missing.
        """
        self.paths, self.read = list(paths), read
        index = FileIndex()
        missing = [path for path in self.paths if path not in index]
        if missing:
            raise UserError(f"ground truth is missing for {len(missing):,} of {len(self.paths):,} "
                            f"test images: {some_of(missing)}{hint and f'; {hint}'}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Depth map of image `index`. Raises UserError if its file is no such map."""
        return self.read(self.paths[index])
