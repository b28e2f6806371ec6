"""Archives of true depth maps: ours, read map by map, and the published pickle, read safely."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import isal_zlib

from utils import UserError, reason

# What a file that is no archive or no array makes NumPy raise; its headers are read as Python.
UNREADABLE = (
    OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, pickle.PickleError,
    RuntimeError, SyntaxError, tokenize.TokenError, OverflowError, MemoryError,
    isal_zlib.error, struct.error,
)  # fmt: skip

NAME_LENGTH = 26  # where it stands in the header of an archive's entry, before that of the extras


def load_gt_depths(path: str | Path) -> Sequence[np.ndarray]:
    """The depth maps (h, w), in metres, 0 where unknown, of a ground-truth archive.

    Ours (entries `depth_00000`, ...) is read one map at a time. The published form, one pickled
    object array `data`, is read whole (1.3 GB for the 697 Eigen images) by an unpickler that knows
    NumPy arrays and nothing else. Raises UserError if the file is neither.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:  # asked here: it takes a file that cannot be read for none
            if not zipfile.is_zipfile(file):
                raise UserError(f"{path} is not an .npz archive of depth maps, or not all of one")
        archive = np.load(path)
        if archive.files != ["data"]:
            return DepthArchive(path, archive)
        with archive:
            depths = _read_published(archive)
    except UNREADABLE as error:
        raise UserError(f"cannot read the ground truth {path}: {reason(error)}") from error
    return [_depth_map(depth, index, path) for index, depth in enumerate(depths)]


class DepthArchive(Sequence[np.ndarray]):
    """Depth maps `depth_00000`, `depth_00001`, ... of an .npz, read from disk when asked for."""

    def __init__(self, path: Path, archive: np.lib.npyio.NpzFile) -> None:
        self.path, self.archive = path, archive
        if set(archive.files) != {f"depth_{i:05d}" for i in range(len(archive.files))}:
            raise UserError(f"{path} holds neither `depth_00000`, `depth_00001`, ... nor `data`")

    def __len__(self) -> int:
        return len(self.archive.files)

    def __getitem__(self, index: int) -> np.ndarray:
        """Depth map (h, w) of image `index`. Raises UserError if the entry is damaged."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            depth = self._read(f"depth_{index:05d}.npy")
        except UNREADABLE as error:
            message = f"cannot read depth map {index} of {self.path}: {reason(error)}"
            raise UserError(message) from error
        return _depth_map(depth, index, self.path)


    def _read(self, name: str) -> np.ndarray:
        """An entry; what is deflated is inflated by ISA-L, in half of the time that zipfile takes.
        """
        info, file = self.archive.zip.getinfo(name), self.archive.zip.fp
        if info.compress_type != zipfile.ZIP_DEFLATED:
            return self.archive[name]
        file.seek(info.header_offset + NAME_LENGTH)
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)  # the name, what is extra
        content = isal_zlib.decompress(file.read(info.compress_size), -isal_zlib.MAX_WBITS,
                                       info.file_size)  # fmt: skip
        if isal_zlib.crc32(content) != info.CRC:
            raise zipfile.BadZipFile(f"bad checksum of {name!r}")
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _depth_map(depth: Any, index: int, path: Path) -> np.ndarray:
    """`depth` if it is a 2-D array of real numbers, else UserError."""
    if not (isinstance(depth, np.ndarray) and depth.ndim == 2 and depth.dtype.kind in "fiu"):
        raise UserError(f"entry {index} of {path} is not a depth map (h, w) of numbers")
    return depth


def _read_published(archive: np.lib.npyio.NpzFile) -> np.ndarray:
    """The array `data`: objects through the restricted unpickler, numbers through NumPy.

    (Depth maps of one size were saved as one plain (images, h, w) array, without a pickle.)
    """
    with archive.zip.open("data.npy") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):  # the version NumPy writes object arrays in
            _, _, dtype = np.lib.format.read_array_header_1_0(file)
            if dtype.hasobject:
                return _unpickle_arrays(file)
    return np.atleast_1d(archive["data"])


def _unpickle_arrays(file: BinaryIO) -> np.ndarray:
    """The object array of a pickle that may hold NumPy arrays and nothing else."""
    try:
        # latin1: archives pickled under Python 2 hold the arrays' bytes as text.
        depths = np.atleast_1d(_ArrayUnpickler(file, encoding="latin1").load())
        return depths.astype(np.float32) if depths.ndim == 3 else depths
    except (AttributeError, ImportError, LookupError, TypeError) as error:  # a damaged pickle
        raise pickle.UnpicklingError(f"its pickle is damaged ({reason(error)})") from error


def _latin1(text: str, encoding: str) -> bytes:
    """What protocol 2 pickles call for every byte string."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"its pickle holds bytes in the encoding {encoding!r}")
    return text.encode("latin1")


# Private to NumPy, and moved by NumPy 2: taken from an array, and known under both of its names.
_reconstruct = np.empty(0).__reduce__()[0]


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays; any other global in the stream, which could run code, is refused."""

    known = {  # noqa: RUF012 (never changed)
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The allowed callable for a global of the stream. Raises UnpicklingError for any other."""
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(
                f"its pickle asks for {module}.{name}, and only NumPy arrays are accepted"
            )
        return self.known[module, name]
