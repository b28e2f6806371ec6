"""A folder of decoded pictures, shared by any number of processes, of a bounded size; no torch.

A file holds one picture and says of which state of which source it is. It is written beside its
place and moved there, so that it is whole or absent, and it carries a checksum: what is damaged
is made again. Files stay: when the folder is full, what is not in it is decoded each time (every
epoch takes all pictures in another order, so putting out old ones for new ones would gain nothing).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import multiprocessing
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from isal import isal_zlib

from utils import LOGGER_NAME, UserError, atomic_path, check_writable, reason

# Format, shape (3), the source's time of change (ns) and bytes, checksum of the pixels.
HEADER = struct.Struct("<8s3IqqI")
FORMAT = b"pixels 1"
SUFFIX = ".pixels"
ABANDONED = 3600  # seconds after which a file being written has no writer any more
GB = 10**9
# What is said once by all processes of a run.
DAMAGED, FULL, STOPPED = range(3)


class PictureCache:
    """Pictures by name, each made from a source file and valid while that does not change."""

    def __init__(self, folder: str | Path, gigabytes: float) -> None:
        """Raises UserError if the folder cannot be written to."""
        self.folder, self.limit = Path(folder), int(gigabytes * GB)
        check_writable(self.folder)
        self._said = multiprocessing.get_context("fork").Array("b", 3, lock=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._total() as total:
                total.set(self._measure())
        except OSError as error:
            message = f"cannot write the folder {self.folder}: {reason(error)}"
            raise UserError(message) from error

    def get(self, name: str, source: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The uint8 picture of three axes of that name, read if it is there, else made and kept.

        Not to be written to. A cache that cannot be written to is only read; make's errors pass.
        """
        try:
            status = os.stat(source)
        except OSError:
            return make()  # which says what is wrong with it
        state = status.st_mtime_ns, status.st_size
        path = self._path(name)
        pixels = self._read(path, state)
        if pixels is None:
            pixels = make()
            self._keep(path, pixels, state)
        return pixels

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.folder / digest[:2] / (digest[2:] + SUFFIX)

    def _read(self, path: Path, state: tuple[int, int]) -> np.ndarray | None:
        """The picture of a file; None: it is not there, or of an older source, or damaged."""
        try:
            with open(path, "rb", buffering=0) as file:
                content = np.fromfile(file, np.uint8)
        except OSError:
            return None
        head, pixels = content[: HEADER.size], content[HEADER.size :]
        if len(head) == HEADER.size:
            form, *shape, changed, size, checksum = HEADER.unpack(head)
            if form == FORMAT and np.prod(shape, dtype=np.int64) == len(pixels):
                if (changed, size) != state:
                    return None
                if isal_zlib.crc32(pixels) == checksum:
                    return pixels.reshape(shape)
        self._say(DAMAGED, f"the cache file {path} is damaged: it is made again, as others will be")
        return None

    def _keep(self, path: Path, pixels: np.ndarray, state: tuple[int, int]) -> None:
        """Write a picture if there is room for it."""
        if self._said[STOPPED]:
            return
        pixels = np.ascontiguousarray(pixels)
        head = HEADER.pack(FORMAT, *pixels.shape, *state, isal_zlib.crc32(pixels))
        size = len(head) + pixels.nbytes
        try:
            # All of it under the lock: two that fill the last place at once would pass the limit.
            with self._total() as total:
                before = path.stat().st_size if path.is_file() else 0
                # While it is written, the old file is there as well.
                if total.value + size > self.limit:
                    self._say(FULL, f"the cache {self.folder} is full at {self.limit / GB:g} GB "
                              "(--cache_size): what is not in it is decoded in every epoch")
                    return
                total.set(total.value + size)  # first: who is killed leaves it too large
                with atomic_path(path) as partial, open(partial, "wb") as file:
                    file.write(head)
                    file.write(pixels.data)
                total.set(total.value - before)
        except (OSError, UserError) as error:
            self._say(STOPPED, f"the cache takes no more pictures: {error}")

    @contextlib.contextmanager
    def _total(self) -> Iterator[Total]:
        """The bytes in use, for this process alone until the block ends."""
        # Opened each time: processes that fork share the lock of a file that is open.
        handle = os.open(self.folder / "bytes", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield Total(handle)
        finally:
            os.close(handle)

    def _measure(self) -> int:
        """The bytes in the folder, without what killed processes left half-written."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if not name.endswith(SUFFIX):
                    continue
                path = Path(folder, name)
                status = path.stat()
                if ".partial" in name and time.time() - status.st_mtime > ABANDONED:
                    path.unlink()
                else:
                    total += status.st_size
        return total

    def _say(self, what: int, text: str) -> None:
        """Warn, once in a run's processes."""
        if not self._said[what]:
            self._said[what] = 1
            logging.getLogger(LOGGER_NAME).warning(text)


class Total:
    """A number at the start of an open file."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.value = int(os.pread(handle, 32, 0) or b"0")

    def set(self, value: int) -> None:
        """Replace it."""
        self.value = value
        # One write of one length, which a kill does not cut.
        os.pwrite(self._handle, b"%020d" % value, 0)
