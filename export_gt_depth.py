"""Write a KITTI test list's ground truth depth into one archive, which evaluation reads.

    python export_gt_depth.py --data_path KITTI --split eigen

`eigen`, and a folder that holds a test_files.txt: laser scans, projected into the picture.
`eigen_benchmark`: the improved ground truth, accumulated over scans.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tool_options import export_gt_options
from utils import UserError, atomic_path, run_script

if TYPE_CHECKING:
    import numpy as np

LEVEL = 1  # of ISA-L's compression, which takes a fifth of zlib's time and a tenth less space


class Source(NamedTuple):
    """Where the ground truth of one frame comes from: a laser scan, or a depth map's PNG."""

    path: Path
    calib_dir: Path
    camera: int  # 2 left, 3 right


def sources(data_path: Path, lines: Iterable[str], improved: bool) -> list[Source]:
    """The file of each line of a list; improved: the depth maps' PNGs instead of the scans.

    Raises UserError for a malformed line, a missing folder, and missing files.
    """
    from datasets.splits import LINE_FORMATS

    if not os.path.isdir(data_path):  # False too for a name that is too long: is_dir raises
        raise UserError(f"the data folder {data_path} does not exist")
    found = []
    for line in lines:
        parts = LINE_FORMATS["kitti"].match(line, "in the split")
        drive, number = data_path / parts["folder"], f"{int(parts['frame']):010d}"
        camera = 3 if parts["side"] == "r" else 2
        if improved:
            path = drive / f"proj_depth/groundtruth/image_{camera:02d}/{number}.png"
        else:
            path = drive / f"velodyne_points/data/{number}.bin"
        found.append(Source(path, drive.parent, camera))
    missing = [source.path for source in found if not os.path.isfile(source.path)]
    if missing:
        more = f" (and {len(missing) - 1:,} more are missing)" if len(missing) > 1 else ""
        raise UserError(f"the ground truth {missing[0]} does not exist{more}")
    return found


def read_depth(source: Source) -> np.ndarray:
    """One frame's ground truth: float32 (height, width), metres, 0 unknown."""
    from kitti_utils import generate_depth_map, read_depth_png

    if source.path.suffix == ".png":
        return read_depth_png(source.path)
    # Eigen's protocol takes the distance forward of the scanner for the depth.
    depth = generate_depth_map(source.calib_dir, source.path, source.camera, vel_depth=True)
    return depth.astype("float32")


class Entry(NamedTuple):
    """A file inside an archive, compressed."""

    data: bytes  # deflated
    size: int  # bytes before
    checksum: int  # CRC-32 of what was there before


def pack(depth: np.ndarray) -> Entry:
    """A depth map as the file that an npz holds of it."""
    from isal import isal_zlib
    from numpy.lib.format import write_array

    content = io.BytesIO()
    write_array(content, depth, allow_pickle=False)
    plain = content.getbuffer()
    # As in archives: without a header.
    compressor = isal_zlib.compressobj(LEVEL, wbits=-isal_zlib.MAX_WBITS)
    data = compressor.compress(plain) + compressor.flush()
    return Entry(data, len(plain), isal_zlib.crc32(plain))


def packed(source: Source) -> Entry:
    """One frame's ground truth, read and compressed."""
    return pack(read_depth(source))


def write_archive(path: Path, entries: Iterable[Entry]) -> None:
    """An npz file of `depth_00000`, `depth_00001`, ...: pictures of any sizes, nothing pickled.

    Written one at a time, so that memory does not grow with the list, and whole or not at all.
    """
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as file:
        for index, entry in enumerate(entries):
            info = zipfile.ZipInfo(f"depth_{index:05d}.npy")
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
            info.CRC, info.compress_size = entry.checksum, len(entry.data)
            info.file_size, info.header_offset = entry.size, file.start_dir
            # As ZipFile.write does, which can only compress by itself, one after the other.
            file.fp.write(info.FileHeader(zip64=False) + entry.data)
            file.start_dir = file.fp.tell()
            file.filelist.append(info)
            file.NameToInfo[info.filename] = info


def main(argv: Sequence[str] | None = None) -> None:
    """See the top of this file. Raises UserError for bad input, before any long work."""
    opt = export_gt_options(argv)
    from tqdm import tqdm

    from datasets.splits import SPLITS, split_lines
    from freed_memory import keep_freed_memory
    from worker_processes import in_processes

    lines = split_lines("kitti", opt.split, "test")
    has_own_list = os.path.isfile(Path(opt.split) / "test_files.txt")
    folder = Path(opt.split) if has_own_list else SPLITS / "kitti" / opt.split
    output = Path(opt.output or folder / "gt_depths.npz")
    tasks = sources(Path(opt.data_path), lines, improved=opt.split == "eigen_benchmark")
    keep_freed_memory()
    entries = in_processes(packed, tasks, opt.num_workers)
    write_archive(output, tqdm(entries, total=len(tasks), unit="map"))
    print(f"{len(tasks)} ground truth depth maps: {output}")


if __name__ == "__main__":
    run_script(main)
