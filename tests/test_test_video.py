"""test_video.py from its command line: order, size, speed and colours of frames, bad input."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import test_video
from inference import DepthPredictor, colourise, resize_disp
from pictures import Skips, read_picture
from tests.test_video import film
from tests.tiny_model import save_picture, save_tiny_checkpoint
from utils import UserError
from video import animation, open_frames


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "model.pth")


@pytest.fixture
def frames(tmp_path):
    """Grey frames whose level is ten times their number, named so that text order is wrong."""
    folder = tmp_path / "drive.9"
    folder.mkdir()
    for number in (1, 2, 10):
        Image.new("RGB", (90, 48), (10 * number,) * 3).save(folder / f"{number}.png")
    return folder


def run(checkpoint, image_path, *flags):
    flags = ("--pretrained_path", checkpoint, "--image_path", image_path, "--no_cuda", *flags)
    test_video.main([str(flag) for flag in flags])


def test_the_gif(checkpoint, frames, capsys):
    save_picture(frames / "2_disp.png", 0)
    run(checkpoint, frames, "--range", "frame")
    path = frames.parent / "drive.9.gif"
    assert {file.name for file in frames.parent.iterdir()} == {"drive.9", "drive.9.gif"}
    with Image.open(path) as gif:
        assert gif.size == (90, 96)
        assert gif.n_frames == 3
        assert gif.info["loop"] == 0
        levels = []
        for frame in ImageSequence.Iterator(gif):
            assert frame.info["duration"] == 150
            picture = np.asarray(frame.convert("RGB"), dtype=int)
            levels.append(picture[:48].mean())
            # Below: the disparity's colours, from magma's nearly black to its light yellow.
            assert picture[48:].min() < 20 < 200 < picture[48:].max()
    assert levels == pytest.approx([10, 20, 100], abs=3)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("taking 3 of the 4 files in")
    assert printed[-1] == f"3 frames: {path}"


def test_the_disparity_below_a_frame_is_that_frames(checkpoint, tmp_path):
    paths = [save_picture(tmp_path / "in" / f"{i}.png", i) for i in range(2)]
    predictor = DepthPredictor.from_checkpoint(checkpoint)
    run(checkpoint, tmp_path / "in", "--range", "frame", "--output", tmp_path / "a.mp4")
    for path, shown in zip(paths, frames_of(tmp_path / "a.mp4"), strict=True):
        frame = read_picture(path)
        disp = resize_disp(predictor.scaled_disp(predictor.prepare(frame)), (48, 90))[0, 0]
        expected = np.concatenate([np.asarray(frame), colourise(disp.numpy())]).astype(int)
        assert np.abs(shown - expected).mean() < 8  # the other frame: some 70


def frames_of(path):
    """The frames of an animation, as int (H, W, 3)."""
    pictures = open_frames(str(path), "png", Skips(True)).pictures
    return [np.asarray(picture).astype(int) for _, picture in pictures]


def test_side_by_side_in_another_map(checkpoint, frames, tmp_path):
    run(checkpoint, frames, "--side_by_side", "--cmap", "gray", "--output", tmp_path / "a.webm")
    shown = frames_of(tmp_path / "a.webm")
    assert [picture.shape for picture in shown] == [(48, 180, 3)] * 3
    assert all(np.ptp(picture, axis=-1).max() < 8 for picture in shown)  # grey frames, grey map
    assert shown[0][:, :90].std() < 2 < 20 < shown[0][:, 90:].std()


def test_a_video_is_followed_at_its_own_speed(checkpoint, frames, tmp_path, capsys):
    video = tmp_path / "drive.mp4"
    with animation(video, Fraction(10)) as append:
        for level in range(12):
            append(np.full((48, 90, 3), 20 * level, dtype=np.uint8))
    run(checkpoint, video, "--every", "2", "--max_frames", "4", "--output", tmp_path / "a.mp4")
    assert capsys.readouterr().out.splitlines()[-1] == f"4 frames: {tmp_path / 'a.mp4'}"
    levels = [round(frame[:48].mean() / 20) for frame in frames_of(tmp_path / "a.mp4")]
    assert levels == [0, 2, 4, 6]
    assert open_frames(str(tmp_path / "a.mp4"), "png", Skips(True)).rate == 5
    run(checkpoint, video, "--max_frames", "2")  # the published speed of a GIF, beside the video
    with Image.open(tmp_path / "drive.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (2, 150)
    run(checkpoint, video, "--max_frames", "2", "--fps", "10", "--overwrite")
    with Image.open(tmp_path / "drive.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (2, 100)
    run(checkpoint, str(frames / "1*.png"))  # a pattern: a GIF beside the folder
    with Image.open(frames.parent / "drive.9.gif") as gif:
        assert gif.n_frames == 2


@pytest.mark.parametrize(("mode", "steady"), [("frame", False), ("running", True), ("fixed", True)])
def test_colours_are_steady(checkpoint, tmp_path, monkeypatch, mode, steady):
    """The same disparity, with a bright speck in every second frame, keeps its colour or not."""
    flat = np.linspace(0.1, 0.2, 48 * 90, dtype=np.float32).reshape(48, 90)
    speckled = flat.copy()
    speckled[-6:] = 1.0
    disps = [speckled if i % 2 else flat for i in range(8)]
    given = [(Image.new("RGB", (90, 48)), disp) for disp in disps]
    monkeypatch.setattr(test_video, "disparities", lambda *_: iter(given))
    save_picture(tmp_path / "in" / "a.png", 0)
    run(checkpoint, tmp_path / "in", "--range", mode, "--output", tmp_path / "a.mp4")
    shown = [frame[48:84] for frame in frames_of(tmp_path / "a.mp4")]  # without the speck
    flicker = np.mean([np.abs(a - b).mean() for a, b in pairwise(shown)])
    assert (flicker < 15) == steady
    assert mode != "fixed" or flicker < 2


def test_a_broken_frame_is_skipped_or_stops(checkpoint, frames, tmp_path, capsys):
    output = tmp_path / "result" / "video.gif"
    (frames / "3.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"3\.png"):
        run(checkpoint, frames, "--output", output, "--strict")
    assert not list(output.parent.iterdir())
    run(checkpoint, frames, "--output", output)
    captured = capsys.readouterr()
    assert f"skipped: cannot read the image {frames / '3.png'}" in captured.err
    assert captured.out.splitlines()[-1] == f"3 frames (1 could not be read): {output}"
    with pytest.raises(UserError, match=r"video\.gif is there already: --overwrite"):
        run(checkpoint, frames, "--output", output)
    before = output.read_bytes()
    save_picture(frames / "3.png", 0, 40, 90)
    with pytest.raises(UserError, match=r"3\.png is 90x40 .* first frame is 90x48"):
        run(checkpoint, frames, "--output", output, "--overwrite")
    assert [file.name for file in output.parent.iterdir()] == ["video.gif"]
    assert output.read_bytes() == before
    for path in frames.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no frame of .*drive\.9 could be read"):
        run(checkpoint, frames, "--output", tmp_path / "none.gif")
    assert not (tmp_path / "none.gif").exists()


def test_frames_of_the_folder_above(checkpoint, frames, monkeypatch):
    (frames / "sub").mkdir()
    monkeypatch.chdir(frames / "sub")
    run(checkpoint, "..")
    assert (frames.parent / "drive.9.gif").is_file()
    assert not any((frames / "sub").iterdir())


def test_bad_input_is_named(checkpoint, tmp_path):
    with pytest.raises(UserError, match="neither a video nor a folder"):
        run(checkpoint, tmp_path / "missing")
    with pytest.raises(UserError, match=r"no \.png image"):
        run(checkpoint, tmp_path)
    with pytest.raises(UserError, match=r"does not end in \.gif, \.mp4, \.webm"):
        run(checkpoint, tmp_path, "--output", tmp_path / "video.avi")
    with pytest.raises(UserError, match="--fps 60: a GIF shows at most 50"):
        run(checkpoint, tmp_path, "--fps", "60")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UserError, match=r"cannot read the video .*empty\.mp4"):
        run(checkpoint, tmp_path / "empty.mp4")
    film(tmp_path / "empty.mp4", 0)
    with pytest.raises(UserError, match=r"empty\.mp4 holds no video"):
        run(checkpoint, tmp_path / "empty.mp4")
    save_picture(tmp_path / "a.gif", 0)
    with pytest.raises(UserError, match=r"a\.gif would replace .*a\.gif, which is read"):
        run(checkpoint, tmp_path / "a.gif", "--overwrite")
    with pytest.raises(UserError, match=r"cannot write the folder .*empty\.mp4/deep"):
        run(checkpoint, tmp_path / "a.gif", "--output", tmp_path / "empty.mp4" / "deep" / "b.gif")
    assert {file.name for file in tmp_path.iterdir()} == {"empty.mp4", "a.gif"}


def test_no_result_replaces_what_is_read(checkpoint, frames):
    flags = ("--intrinsics", "kitti", "--overwrite", "--every", 2, "--max_frames", 1)
    before = {file: file.read_bytes() for file in frames.iterdir()}
    for source in (frames, str(frames / "*.png")):
        with pytest.raises(UserError, match=r"2\.png would replace .*2\.png, which is read"):
            run(checkpoint, source, *flags, "--show3d", frames / f"../{frames.name}/2.png")
    assert {file: file.read_bytes() for file in frames.iterdir()} == before
    (frames.parent / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png cannot be written: a folder has that name"):
        run(checkpoint, frames, *flags, "--show3d", frames.parent / "a.png")


def test_the_gif_of_a_deep_pattern_lies_where_it_starts(checkpoint, tmp_path):
    save_picture(tmp_path / "fr" / "deep" / "a.png", 0)
    run(checkpoint, str(tmp_path / "fr/**/*.png"))
    assert {path.name for path in tmp_path.iterdir()} == {"fr", "fr.gif"}


def test_a_network_that_predicts_no_numbers_is_named(checkpoint, frames, monkeypatch):
    monkeypatch.setattr(DepthPredictor, "scaled_disp",
                        lambda self, _: torch.full((1, 1, self.height, self.width), torch.nan))
    with pytest.raises(UserError, match=r"model\.pth predicts numbers for .*1\.png .* not finite"):
        run(checkpoint, frames)
    assert [path.name for path in frames.parent.iterdir()] == [frames.name]
