"""PNG files of 8-bit RGB decoded in less time than Pillow takes, to the same pixels; no torch.

Two thirds of decoding is inflating, and ISA-L inflates in a third of zlib's time; FFmpeg undoes the
row filters in the processor's vector instructions. So the pixels are inflated here and handed to
FFmpeg as a PNG file whose contents are stored, not compressed.
"""

from __future__ import annotations

import struct

import numpy as np

HEADER = 33  # bytes of the signature and of the first chunk: size, type of pixels
END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk, whole
PLAIN = b"\x08\x02\0\0\0"  # 8 bits, red green blue, the only compression and filters, rows in order
LONGEST = 65535  # bytes of a stored block


def load_decoders() -> None:
    """Import what decoding takes, in the process that loader workers are forked from: each would
    import it anew, and wait for ever where another thread of ours was importing at that moment."""
    import av  # noqa: F401
    from isal import isal_zlib  # noqa: F401


def decode_plain_png(content: bytes) -> np.ndarray | None:
    """The pixels of a PNG file, uint8 (height, width, 3); None: leave it to another decoder.

    None of what is not plain 8-bit RGB, has a transparent colour, or is damaged in any way.
    """
    import av

    stored = _stored(content)
    if stored is None:
        return None
    # A context of its own each time: of a second file, one context gave wrong pixels.
    decoder = av.CodecContext.create("png", "r")
    decoder.thread_count = 1
    try:
        (frame,) = decoder.decode(av.Packet(stored))
    except (av.FFmpegError, ValueError):
        return None
    if frame.format.name != "rgb24":
        return None
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : 3 * frame.width].reshape(frame.height, frame.width, 3)


def _stored(content: bytes) -> bytes | None:
    """The file with its pixels stored, not compressed; None where it is not plain or is damaged."""
    from isal import isal_zlib

    if content[24:29] != PLAIN or not content.endswith(END):
        return None
    width, height = struct.unpack_from(">II", content, 16)
    size = height * (3 * width + 1)
    view, parts, place = memoryview(content), [], HEADER
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IDAT":
            parts.append(view[place + 8 : place + 8 + length])
        elif kind == b"tRNS":
            return None
        place += length + 12
    try:
        rows = isal_zlib.decompress(b"".join(parts), bufsize=size)  # checks their sum
    except isal_zlib.error:
        return None
    if place != len(content) or len(rows) != size:
        return None
    return b"".join((view[:HEADER], *_chunk(rows, bytes(parts[-1][-4:])), END))


def _chunk(rows: bytes, checksum: bytes) -> list[bytes | memoryview]:
    """The chunk of stored pixels, in pieces. checksum: of the rows, zlib's."""
    view, blocks = memoryview(rows), [b"IDAT", b"\x78\x01"]
    for start in range(0, len(rows), LONGEST):
        length = min(LONGEST, len(rows) - start)
        last = start + length == len(rows)
        blocks += [struct.pack("<BHH", last, length, length ^ LONGEST), view[start:][:length]]
    blocks.append(checksum)
    size = sum(map(len, blocks)) - 4
    return [struct.pack(">I", size), *blocks, b"\0\0\0\0"]
