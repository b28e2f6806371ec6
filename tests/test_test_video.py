"""test_video.py from its command line: frame order, size and timing of the GIF, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageSequence

import test_video
from inference import colourise
from tests.tiny_model import save_picture, save_tiny_checkpoint
from utils import UserError


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
    run(checkpoint, frames)
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
    assert "1 files" in printed[0]
    assert printed[-1] == f"3 frames: {path}"


def test_the_disparity_below_a_frame_is_that_frames(checkpoint, tmp_path):
    from datasets.mono_dataset import load_rgb
    from inference import DepthPredictor, resize_disp

    paths = [save_picture(tmp_path / f"{i}.png", i) for i in range(2)]
    predictor = DepthPredictor.from_checkpoint(checkpoint)
    for path, stacked in zip(paths, test_video.stacked_frames(predictor, paths), strict=True):
        frame = load_rgb(path)
        disp = resize_disp(predictor.scaled_disp(predictor.prepare(frame)), (48, 90))[0, 0]
        np.testing.assert_array_equal(np.asarray(stacked)[:48], np.asarray(frame))
        np.testing.assert_array_equal(np.asarray(stacked)[48:], colourise(disp.numpy()))


def test_a_frame_that_fails_leaves_no_gif(checkpoint, frames, tmp_path):
    output = tmp_path / "result" / "video.gif"
    (frames / "3.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"3\.png"):
        run(checkpoint, frames, "--output", output)
    save_picture(frames / "3.png", 0, 40, 90)
    with pytest.raises(UserError, match=r"3\.png is 90x40 .* first frame is 90x48"):
        run(checkpoint, frames, "--output", output)
    assert not list(output.parent.iterdir())
    (frames / "3.png").unlink()
    run(checkpoint, frames, "--output", output)
    assert [file.name for file in output.parent.iterdir()] == ["video.gif"]


def test_bad_input_is_named(checkpoint, tmp_path):
    with pytest.raises(UserError, match="is not a folder of frames"):
        run(checkpoint, tmp_path / "missing")
    with pytest.raises(UserError, match=r"no \.png image"):
        run(checkpoint, tmp_path)
    with pytest.raises(UserError, match=r"does not end in \.gif"):
        run(checkpoint, tmp_path, "--output", tmp_path / "video.mp4")
