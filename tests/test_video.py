"""Frames in and animations out, judged by other readers and writers than ours."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence

import video
from pictures import Skips
from tests.tiny_model import save_picture
from utils import UserError
from video import ColourRange, animation, check_format, open_frames

COLOURS = np.array(
    [[220, 30, 30], [30, 200, 30], [30, 30, 220], [200, 120, 40], [128] * 3], dtype=np.uint8
)


def stripes(height: int = 48, width: int = 80) -> np.ndarray:
    """Vertical stripes of COLOURS, RGB (H, W, 3)."""
    return np.broadcast_to(COLOURS.repeat(width // 5, 0), (height, width, 3)).copy()


def levels(count: int, height: int = 32, width: int = 48) -> Iterator[np.ndarray]:
    """Grey pictures of the levels 0, 10, 20, ..."""
    return (np.full((height, width, 3), 10 * i, dtype=np.uint8) for i in range(count))


def film(path: Path, count: int = 12, codec: str = "mjpeg") -> Path:
    """A video of `levels`, ten a second; each frame stands for itself with this codec."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        container.start_encoding()
        for i, picture in enumerate(levels(count)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels_of(frames: video.Frames) -> list[int]:
    """Which of `levels` each frame is."""
    return [round(np.asarray(picture).mean() / 10) for _, picture in frames.pictures]


# ---- reading ---------------------------------------------------------------------------------


def test_a_video_of_another_writer(tmp_path: Path):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (80, 48))
    for _ in range(3):
        writer.write(np.ascontiguousarray(stripes()[..., ::-1]))  # OpenCV's pictures are BGR
    writer.release()
    frames = open_frames(str(path), "png", Skips(True))
    assert (frames.count, frames.rate) == (3, Fraction(25, 2))
    pictures = [np.asarray(picture) for _, picture in frames.pictures]
    assert [picture.shape for picture in pictures] == [(48, 80, 3)] * 3
    for column, colour in enumerate(COLOURS.astype(int)):
        assert np.abs(pictures[0][20, 16 * column + 8] - colour).max() < 12


@pytest.mark.parametrize(
    ("every", "max_frames", "expected"),
    [(1, None, range(12)), (5, None, [0, 5, 10]), (3, 2, [0, 3]), (1, 99, range(12))],
)
def test_every_and_max_frames(tmp_path: Path, every: int, max_frames: int | None, expected):
    path = film(tmp_path / "a.avi")
    frames = open_frames(str(path), "png", Skips(True), every, max_frames)
    assert (frames.count, frames.rate) == (len(expected), Fraction(10, every))
    assert levels_of(frames) == list(expected)
    for i, picture in enumerate(levels(12)):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    frames = open_frames(str(tmp_path), "png", Skips(True), every, max_frames)
    assert (frames.count, frames.rate) == (len(expected), None)
    assert levels_of(frames) == list(expected)


@pytest.mark.parametrize(("height", "space"), [(720, "ITU709"), (704, "ITU601")])
def test_colours_of_a_video_that_tells_nothing(tmp_path: Path, height: int, space: str):
    """HD is BT.709, and what is smaller is BT.601."""
    picture = stripes(height, 80)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=space)
        frame.colorspace = stream.codec_context.colorspace = video.UNSPECIFIED
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    ((_, read),) = open_frames(str(tmp_path / "a.mp4"), "png", Skips(True)).pictures
    for column, colour in enumerate(COLOURS.astype(int)):
        assert np.abs(np.asarray(read)[height // 2, 16 * column + 8] - colour).max() < 6


# The matrix of a track header, that a player shows the picture with (ISO 14496-12, 8.3.2): the
# camera was turned; and what is then at the top left.
ONE = 1 << 16
TURNED = {
    "upright": ((ONE, 0, 0, ONE), lambda picture: picture),
    "clockwise": ((0, ONE, -ONE, 0), lambda picture: picture.transpose(1, 0, 2)[:, ::-1]),
    "upside down": ((-ONE, 0, 0, -ONE), lambda picture: picture[::-1, ::-1]),
    "counterclockwise": ((0, -ONE, ONE, 0), lambda picture: picture.transpose(1, 0, 2)[::-1]),
}


def turn(path: Path, how: str) -> None:
    """Let the container of an upright .mp4 say that the camera was turned."""
    a, b, c, d = TURNED[how][0]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # of version 0: 40 bytes come before it
    assert int.from_bytes(data[matrix : matrix + 4], "big") == ONE
    numbers = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in numbers)
    path.write_bytes(data)


@pytest.mark.parametrize("how", TURNED)
def test_a_video_of_a_turned_camera_is_upright(tmp_path: Path, how: str):
    upright = TURNED[how][1]
    picture = stripes(64, 80)
    picture[:32] = 255 - picture[:32]
    with animation(tmp_path / "a.mp4", Fraction(10)) as append:
        append(picture)
    turn(tmp_path / "a.mp4", how)
    ((_, read),) = open_frames(str(tmp_path / "a.mp4"), "png", Skips(True)).pictures
    expected = upright(picture)
    assert read.size == expected.shape[1::-1]
    assert np.abs(np.asarray(read).astype(int) - expected).mean() < 5


def test_a_broken_frame_in_the_middle_is_skipped_by_name_or_stops(tmp_path: Path, capsys):
    path = film(tmp_path / "a.avi")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][5]
        start, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    skips = Skips(strict=False)
    assert levels_of(open_frames(str(path), "png", skips)) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert skips.count == 1
    assert f"skipped: the frame at 0.500 s of {path}" in capsys.readouterr().err
    assert levels_of(open_frames(str(path), "png", Skips(False), every=5)) == [0, 10]
    with pytest.raises(UserError, match=r"the frame at 0\.500 s of .*a\.avi"):
        levels_of(open_frames(str(path), "png", Skips(strict=True)))


@pytest.mark.parametrize(("damage", "words"), [
    (lambda old: old[: len(old) // 2] + bytes(each ^ 0x5A for each in old[len(old) // 2 :]),
     "is damaged"),
    (lambda old: bytes(len(old)), "cannot be decoded"),
])  # fmt: skip
def test_a_damaged_frame_of_predicted_ones_is_named(tmp_path: Path, damage, words: str, capsys):
    """H.264, where most frames say how they differ from the last."""
    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(0)
    with animation(path, Fraction(10)) as append:
        for _ in range(12):
            append(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][5]
        start, end = packet.pos, packet.pos + packet.size
        name = f"the frame at {float(packet.pts * packet.time_base):.3f} s of {path}"
    data = path.read_bytes()
    path.write_bytes(data[:start] + damage(data[start:end]) + data[end:])
    skips = Skips(strict=False)
    assert len(list(open_frames(str(path), "png", skips).pictures)) == 11
    assert f"skipped: {name} {words}" in capsys.readouterr().err
    with pytest.raises(UserError, match=f"{re.escape(name)} {words}"):
        list(open_frames(str(path), "png", Skips(strict=True)).pictures)


def test_a_file_that_is_cut_short_says_so(tmp_path: Path, capsys):
    path = tmp_path / "a.mp4"
    film(path)
    # As a file for the web has it: what it holds comes first.
    with (av.open(str(path)) as old,
          av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as new):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    path = tmp_path / "b.mp4"
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: packets[6].pos + packets[6].size])
    skips = Skips(strict=False)
    assert levels_of(open_frames(str(path), "png", skips)) == [0, 1, 2, 3, 4, 5, 6]
    assert f"{path} is cut short: it lacks 5 of its 12 frames" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"b\.mp4 is cut short"):
        open_frames(str(path), "png", Skips(strict=True))


def test_a_file_that_breaks_off_is_read_so_far(tmp_path: Path):
    class Container:
        def __init__(self, path: Path) -> None:
            self.real = av.open(str(path))
            self.streams = self.real.streams

        def demux(self, stream: av.VideoStream) -> Iterator[av.Packet]:
            yield from itertools.islice(self.real.demux(stream), 3)
            raise av.error.InvalidDataError(1094995529, "Invalid data", "a.avi")

    skips, path = Skips(strict=False), film(tmp_path / "a.avi")
    assert len(list(video._packets(Container(path), path, skips))) == 3
    assert skips.count == 1


@pytest.mark.parametrize("content", [b"", b"no video", b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the video .*a\.mp4: [A-Z][^\[\]]*$"):
        open_frames(str(tmp_path / "a.mp4"), "png", Skips(True))


def test_an_unknown_codec_is_named(tmp_path: Path):
    path = film(tmp_path / "a.avi")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    with pytest.raises(UserError, match=r"a\.avi is of a codec that this FFmpeg cannot decode"):
        open_frames(str(path), "png", Skips(True))


def test_sound_alone_is_no_video(tmp_path: Path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(UserError, match=r"a\.wav holds no video"):
        open_frames(str(tmp_path / "a.wav"), "png", Skips(True))


# ---- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_another_reader_sees_the_colours_the_speed_and_the_size(tmp_path: Path, ending: str):
    path = tmp_path / f"a{ending}"
    with animation(path, Fraction(25, 2)) as append:
        for _ in range(6):
            append(stripes(47, 85))  # odd sizes are filled up
    reader = cv2.VideoCapture(str(path))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    pictures = [picture for _, picture in iter(reader.read, (False, None))]
    assert [picture.shape for picture in pictures] == [(48, 86, 3)] * 6
    for column, colour in enumerate(COLOURS.astype(int)):
        assert np.abs(pictures[3][20, 17 * column + 8, ::-1] - colour).max() < 12
    with av.open(str(path)) as container:  # players without this take a guess by the size
        assert container.streams.video[0].codec_context.colorspace == video.BT709


@pytest.mark.parametrize(("rate", "milliseconds"), [(Fraction(20, 3), 150), (Fraction(50), 20)])
@pytest.mark.parametrize("count", [1, 4])
def test_a_gif(tmp_path: Path, rate: Fraction, milliseconds: int, count: int):
    with animation(tmp_path / "a.GIF", rate) as append:
        for picture in levels(count, 33, 47):
            picture[:5] = stripes(5, 47 // 5 * 5 + 5)[:, :47]
            append(picture)
    with Image.open(tmp_path / "a.GIF") as gif:
        assert (gif.size, gif.n_frames, gif.info["loop"]) == ((47, 33), count, 0)
        for i, frame in enumerate(ImageSequence.Iterator(gif)):
            pixels = np.asarray(frame.convert("RGB")).astype(int)
            assert np.abs(pixels[:5] - stripes(5, 50)[:, :47]).max() <= 8
            assert np.abs(pixels[5:] - 10 * i).max() <= 4
            assert count == 1 or frame.info["duration"] == milliseconds


def test_an_animation_is_whole_or_absent(tmp_path: Path):
    def write(path: Path, frames: int) -> None:
        with animation(path, Fraction(10)) as append:
            for _ in range(frames):
                append(stripes())
            raise KeyError

    for ending, frames in itertools.product(video.ENCODERS, (0, 2)):
        with pytest.raises(KeyError):
            write(tmp_path / f"a{ending}", frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is imitated with it")
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = av.open
    monkeypatch.setattr(video.av, "open", lambda _, *how, **more: opened("/dev/full", *how, **more))

    def write() -> None:
        with animation(tmp_path / "a.gif", Fraction(10)) as append:
            append(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))

    with pytest.raises(UserError, match=r"cannot write .*a\.gif: No space left on device"):
        write()
    assert not list(tmp_path.iterdir())


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def watch(frames: Iterable[object]) -> Iterator[object]:
    """The frames; fails if memory grows after the 40th by a fifth of what 160 would take."""
    used = []
    for frame in frames:
        yield frame
        used.append(resident_megabytes())
    assert len(used) == 200
    assert max(used) - max(used[:40]) < 5  # of 160 frames: 58 MB, 19 MB with palettes


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the memory in use")
def test_length_costs_no_memory(tmp_path: Path):
    four = np.random.default_rng(0).integers(0, 4, (15, 20, 3), dtype=np.uint8) * 85
    picture = four.repeat(20, 0).repeat(20, 1)  # 360 kB
    for ending in (".gif", ".mp4"):
        with animation(tmp_path / f"long{ending}", Fraction(25)) as append:
            for i in watch(range(200)):
                append(np.roll(picture, i, 1))
    for _ in watch(open_frames(str(tmp_path / "long.mp4"), "png", Skips(True)).pictures):
        pass


def test_formats_are_checked_before_the_work(monkeypatch: pytest.MonkeyPatch):
    check_format(Path("a.GIF"), 50)
    check_format(Path("a.mp4"), 60)
    check_format(Path("a.webm"), None)
    for name in ("a.avi", "a", ".gif"):
        with pytest.raises(UserError, match=r"does not end in \.gif, \.mp4, \.webm"):
            check_format(Path(name), None)
    with pytest.raises(UserError, match="--fps 60: a GIF shows at most 50"):
        check_format(Path("a.gif"), 60)
    monkeypatch.setitem(video.ENCODERS, ".mp4", ("libnone", "yuv420p", {}))
    with pytest.raises(UserError, match=r"a\.mp4: .* without the encoder libnone; a \.gif can"):
        check_format(Path("a.mp4"), None)


# ---- colours ---------------------------------------------------------------------------------


def test_colour_limits_over_time():
    given = [(0.0, 1.0), (1.0, 3.0), (1.0, 3.0)]
    by_mode = {
        mode: [colours.update(limits) for limits in given]
        for mode in ("frame", "running", "fixed")
        for colours in [ColourRange(mode)]
    }
    assert by_mode["frame"] == given
    assert by_mode["fixed"] == [given[0]] * 3
    assert by_mode["running"] == [(0, 1), pytest.approx((0.1, 1.2)), pytest.approx((0.19, 1.38))]


def test_folders_of_broken_and_whole_frames(tmp_path: Path, capsys):
    for i in range(3):
        save_picture(tmp_path / f"{i}.png", i)
    (tmp_path / "1.png").write_bytes(b"broken")
    skips = Skips(strict=False)
    names = [name for name, _ in open_frames(str(tmp_path), "png", skips).pictures]
    assert names == [str(tmp_path / "0.png"), str(tmp_path / "2.png")]
    assert (skips.count, "1.png" in capsys.readouterr().err) == (1, True)


def test_broken_frames_do_not_count(tmp_path: Path):
    for i in range(5):
        save_picture(tmp_path / f"{i}.png", i)
    (tmp_path / "1.png").write_bytes(b"broken")
    frames = open_frames(str(tmp_path), "png", Skips(strict=False), max_frames=2)
    assert [Path(name).name for name, _ in frames.pictures] == ["0.png", "2.png"]
    assert (frames.count, len(frames.files)) == (2, 5)
