"""Frames of a folder or a video, one at a time; animations, frame by frame; steady colours."""

from __future__ import annotations

import array
import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from pictures import Skips, find_pictures, read_pictures
from utils import UserError, atomic_path, reason

# Encoders by the ending of the file: name, pixel format, options.
ENCODERS = {
    ".gif": ("gif", "pal8", {}),
    ".mp4": ("libx264", "yuv420p", {"crf": "18", "preset": "veryfast"}),
    ".webm": ("libvpx-vp9", "yuv420p", {"crf": "28", "b": "0", "cpu-used": "6"}),
}
BT709, UNSPECIFIED = 1, 2  # the numbers of these colours in H.273, and in FFmpeg
HD_ROWS = 720
LIMITED_RANGE = 1  # luma from 16 to 235: FFmpeg's AVCOL_RANGE_MPEG
WIDEST = 4  # of a pixel, as a share of its height; anamorphic video has up to 2
KEPT = 0.9  # share of the running colour limits that a frame leaves: they follow in some 10 frames


class Frames(NamedTuple):
    """A source of frames, RGB pictures of any size, read while they are asked for."""

    pictures: Iterator[tuple[str, Image.Image]]  # with what to call each in a message
    count: int | None  # how many there should be; None: the file does not tell
    rate: Fraction | None  # a second; None: pictures have none
    files: Sequence[Path]  # what they come from


def open_frames(
    source: str, ext: str, skips: Skips, every: int = 1, max_frames: int | None = None
) -> Frames:
    """Each `every`-th frame of a video file, or of a folder or pattern (`find_pictures`).

    At most max_frames, and none at all of a video without any. `skips` takes those that cannot be
    read, which do not count. Raises UserError if the source cannot be opened.
    """
    if os.path.isfile(source):
        return _open_video(Path(source), skips, every, max_frames)
    paths = find_pictures(source, ext, "a video")
    taken = paths[::every]
    pictures = ((str(path), picture) for path, picture in read_pictures(taken, skips))
    count = min(len(taken), max_frames or len(taken))
    return Frames(islice(pictures, max_frames), count, None, paths)


def frame_steps(path: str | Path) -> np.ndarray:
    """Seconds from each frame of a video to the next, in the order they are shown; none where the
    file tells no times. Nothing is decoded. Raises UserError if it cannot be opened."""
    times = array.array("q")
    try:
        with av.open(_location(path)) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.pts is not None:
                    times.append(packet.pts)
            unit = float(stream.time_base or 0)
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise UserError(f"cannot read the video {path}: {_reason(error)}") from error
    return np.diff(np.sort(np.array(times))) * unit


def _open_video(path: Path, skips: Skips, every: int, max_frames: int | None) -> Frames:
    try:
        container = av.open(_location(path))
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"cannot read the video {path}: {_reason(error)}") from error
    if not container.streams.video:
        raise UserError(f"{path} holds no video: a video file or a folder of frames is expected")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UserError(f"the video {path} is of a codec that this FFmpeg cannot decode")
    # Threads that share a frame do not tell that it is damaged; those with one each tell it of
    # another.
    stream.thread_type = "NONE"
    size = os.path.getsize(path)
    cut = sum(each.pos + each.size > size for each in stream.index_entries)
    if cut:
        skips.note(UserError(f"{path} is cut short: it lacks {cut} of its "
                             f"{len(stream.index_entries)} frames"))  # fmt: skip
    wide = stream.sample_aspect_ratio or Fraction(1)
    if not 1 / WIDEST <= wide <= WIDEST:
        raise UserError(f"the video {path} says that its pixels are {float(wide):g} times as wide "
                        f"as high: expected 1/{WIDEST} to {WIDEST}")
    count = math.ceil(stream.frames / every) if stream.frames else None
    if max_frames is not None and count is not None:
        count = min(count, max_frames)
    frames = islice(_decoded(container, path, wide, skips), 0, None, every)
    pictures = ((name, picture) for name, picture in frames if picture is not None)
    rate = stream.average_rate or stream.guessed_rate
    return Frames(islice(pictures, max_frames), count, rate and rate / every, [path])


def _decoded(
    container: av.container.InputContainer, path: Path, wide: Fraction, skips: Skips
) -> Iterator[tuple[str, Image.Image | None]]:
    """Every frame of a video with its name, by its time; None in place of one that is broken.

    wide: how many times as wide as high its pixels are.
    """
    with container:
        for packet in _packets(container, path, skips):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                name = f"the frame at {_seconds(packet)} of {path}"
                skips.note(UserError(f"{name} cannot be decoded: {_reason(error)}"))
                yield name, None
                continue
            for frame in frames:
                name = f"the frame at {_seconds(frame)} of {path}"
                if frame.is_corrupt:  # the decoder made up what was missing
                    skips.note(UserError(f"{name} is damaged"))
                yield name, None if frame.is_corrupt else _upright(frame, wide)


def _packets(
    container: av.container.InputContainer, path: Path, skips: Skips
) -> Iterator[av.Packet]:
    """The video's packets, as far as the file can be read."""
    try:
        yield from container.demux(container.streams.video[0])
    except av.FFmpegError as error:
        skips.note(UserError(f"the rest of {path} cannot be read: {_reason(error)}"))


def _seconds(timed: av.Packet | av.VideoFrame) -> str:
    if timed.pts is None or timed.time_base is None:
        return "an unknown time"
    return f"{float(timed.pts * timed.time_base):.3f} s"


def _reason(error: Exception) -> str:
    """What went wrong: of FFmpeg's errors, which are no OSErrors, without number and function."""
    return getattr(error, "strerror", None) or reason(error)


def _location(path: Path) -> str:
    """For FFmpeg, which takes what is before a colon for a protocol, unless the path is whole."""
    return os.path.abspath(path)


def _upright(frame: av.VideoFrame, wide: Fraction) -> Image.Image:
    """A frame as RGB with square pixels, turned as the file says: a camera held upright films a
    turned picture. Pixels `wide` times as wide as high are spread over more columns, or rows.

    Where the file does not tell its colours, HD has those of HD, as in every player.
    """
    untold = frame.colorspace == UNSPECIFIED and frame.height >= HD_ROWS
    colours = {"src_colorspace": "ITU709"} if untold else {}
    if wide != 1:
        columns = round(frame.width * max(wide, 1))
        colours |= {"width": columns, "height": round(frame.height / min(wide, 1)),
                    "interpolation": "BICUBIC"}  # fmt: skip
    pixels = frame.reformat(format="rgb24", **colours).to_ndarray()
    return Image.fromarray(np.rot90(pixels, round(frame.rotation / 90)))


class ColourRange:
    """Which disparities get the first and the last colour, from frame to frame."""

    def __init__(self, mode: str) -> None:
        """mode: "frame" (each its own limits), "running" (their running mean, which does not
        flicker) or "fixed" (those of the first frame)."""
        self.mode = mode
        self.limits: tuple[float, float] | None = None

    def update(self, limits: tuple[float, float]) -> tuple[float, float]:
        """The limits to colour a frame with, whose own are given."""
        if self.limits is None or self.mode == "frame":
            self.limits = limits
        elif self.mode == "running":
            low, high = (
                KEPT * old + (1 - KEPT) * new
                for old, new in zip(self.limits, limits, strict=True)
            )
            self.limits = low, high
        return self.limits


def check_format(path: Path, fps: float | None) -> None:
    """Raise UserError unless a file of this ending can be written, at this speed."""
    ending = path.suffix.lower()
    if ending not in ENCODERS:
        raise UserError(f"--output {path} does not end in {', '.join(ENCODERS)}, which are written")
    name = ENCODERS[ending][0]
    if name not in av.codecs_available:
        raise UserError(f"--output {path}: this PyAV comes without the encoder {name}; a .gif can "
                        "be written")  # fmt: skip
    if ending == ".gif" and fps is not None and fps > 50:
        raise UserError(f"--fps {fps:g}: a GIF shows at most 50 frames a second; .mp4 shows more")


@contextlib.contextmanager
def animation(path: Path, rate: Fraction) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends a frame, uint8 RGB (H, W, 3), to a GIF, MP4 or WebM.

    Frames are encoded as they come, so that the length costs no memory. A GIF loops, has a palette
    for each frame, and counts time in hundredths of a second. The others have even sizes: an odd
    one is filled up with its last row or column. The file is whole or absent. Raises UserError if
    it cannot be written, or not with frames of this size.
    """
    ending = path.suffix.lower()
    # How long the last frame stays, which otherwise is one tick.
    options = {"final_delay": str(round(100 / rate))} if ending == ".gif" else {}
    with atomic_path(path) as partial:
        try:
            with av.open(_location(partial), "w", format=ending[1:], options=options) as container:
                encoder = _Encoder(container, ending, rate)
                yield encoder.append
                encoder.finish()
        except av.FFmpegError as error:
            raise UserError(f"cannot write {path}: {_reason(error)}") from error


class _Encoder:
    """Frames to the packets of one file; opened by the first frame, whose size all have."""

    def __init__(
        self, container: av.container.OutputContainer, ending: str, rate: Fraction
    ) -> None:
        self.container, self.rate = container, rate
        self.name, self.pixels, self.options = ENCODERS[ending]
        self.time_base = Fraction(1, 100) if ending == ".gif" else 1 / rate
        self.stream: av.VideoStream | None = None
        self.palettes: av.filter.Graph | None = None
        self.number = 0

    def append(self, picture: np.ndarray) -> None:
        """picture: uint8 RGB (H, W, 3)."""
        if self.name != "gif":
            height, width = picture.shape[:2]
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        if self.stream is None:
            self._start(*picture.shape[:2])
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.time_base = self.time_base
        frame.pts = round(self.number / (self.rate * self.time_base))
        if self.palettes is not None:
            self.palettes.push(frame)
            frame = self.palettes.pull()
        else:
            frame = frame.reformat(format=self.pixels, dst_colorspace="ITU709")
        try:
            packets = self.stream.encode(frame)
        except av.FFmpegError as error:
            if self.number:
                raise
            height, width = picture.shape[:2]
            raise UserError(
                f"the encoder {self.name} refuses frames of {width}x{height} (width x height): "
                f"{_reason(error)}; a GIF takes any size"
            ) from error
        self.container.mux(packets)
        self.number += 1

    def finish(self) -> None:
        """Write what the encoder still holds back."""
        if self.stream is not None:
            self.container.mux(self.stream.encode())

    def _start(self, height: int, width: int) -> None:
        stream = self.container.add_stream(self.name, rate=1 / self.time_base)
        stream.height, stream.width, stream.pix_fmt = height, width, self.pixels
        stream.options = self.options
        stream.codec_context.time_base = self.time_base
        if self.name == "gif":
            self.palettes = _palettes(height, width, self.time_base)
        else:  # said in the file: players guess otherwise, by the size
            codec = stream.codec_context
            codec.colorspace = codec.color_primaries = codec.color_trc = BT709
            codec.color_range = LIMITED_RANGE
        self.stream = stream


def _palettes(height: int, width: int, time_base: Fraction) -> av.filter.Graph:
    """A filter that gives each RGB frame the 256 colours that suit it, with dithering."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=time_base)
    split, sink = graph.add("split"), graph.add("buffersink")
    colours = graph.add("palettegen", "stats_mode=single")
    applied = graph.add("paletteuse", "new=1")
    source.link_to(split)
    split.link_to(applied, 0, 0)
    split.link_to(colours, 1, 0)
    colours.link_to(applied, 0, 1)
    applied.link_to(sink)
    graph.configure()
    return graph
