"""`prepare_video.py` from clips of known motion to folders that training reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

import prepare_video
from clip_camera import FOCAL_35MM, Treatment
from clip_preparation import uneven_steps
from datasets import build_dataset
from datasets.camera_file import read_camera_file
from datasets.folder_lists import folder_lines
from prepared_folder import (
    OWN,
    ClipRecord,
    alone,
    plot_motion,
    read_records,
    split_clip,
    split_targets,
    write_record,
)
from tests.sliding_clips import SIZE, film, save_frames, slide
from tests.test_clip_camera import photograph
from tests.test_floors import ROOT
from tests.test_video import film as film_levels
from tests.test_video import turn
from utils import UserError
from video import frame_steps

STEPS = [4] * 29  # 30 frames, all kept: 8 pixels of 640


def run(*arguments: object) -> None:
    prepare_video.main([str(each) for each in arguments])


def frames_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jpg"))


def numbered(count: int) -> list[str]:
    return [f"{number:010d}.jpg" for number in range(count)]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file: its bytes, and when it was written."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


# ---- what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["drive", "Straße zum Meer 2", "走る 車"])
@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_clip_becomes_a_data_set_that_training_reads(tmp_path: Path, name: str, kind: str):
    pictures = slide(STEPS)
    if kind == "video":
        source = film(tmp_path / "in" / f"{name}.mp4", pictures)
    else:
        source = save_frames(tmp_path / "in" / name, pictures)
    out = tmp_path / "my out"
    run(source, "--out", out, "--intrinsics", "300,310,165,75")
    assert frames_of(out / name) == numbered(30)
    for number in (0, 9, 29):  # natural order: frame10.png comes after frame9.png
        stored = np.asarray(Image.open(out / name / f"{number:010d}.jpg").convert("RGB"))
        assert np.abs(stored.astype(int) - np.asarray(pictures[number])).mean() < 6
    train, val = (folder_lines([str(out)], [part]) for part in ("train", "val"))
    assert (train, val) == ([f"{name} {i}" for i in range(1, 24)],
                            [f"{name} {i}" for i in range(26, 29)])  # fmt: skip
    data = build_dataset("folder", str(out), train + val, 32, 64)
    K = data[5]["K"].numpy()
    expected = [300 / 320 * 64, 310 / 160 * 32, 165 / 320 * 64, 75 / 160 * 32]
    np.testing.assert_allclose((K[0, 0], K[1, 1], K[0, 2], K[1, 2]), expected, rtol=1e-6)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (report["train"], report["val"]) == (23, 3)
    (clip,) = report["clips"]
    assert [clip[key] for key in ("name", "frames", "kept", "still", "lost", "cuts")] == [
        name, 30, 30, 0, 0, 0
    ]  # fmt: skip
    assert clip["motion"]["50%"] == pytest.approx(8, abs=0.2)
    with Image.open(out / "motion.png") as plot:
        plot.verify()
    assert not list((out / ".prepare").glob("*.partial"))


def test_still_frames_are_left_out_and_numbers_stay_without_gaps(tmp_path: Path, capsys):
    pictures = slide([4] * 5 + [0] * 10 + [4] * 5)
    source = save_frames(tmp_path / "a", pictures)
    run(source, "--out", tmp_path / "out", "--hfov", 60)
    assert frames_of(tmp_path / "out/a") == numbered(11)
    seventh = np.asarray(Image.open(tmp_path / "out/a/0000000006.jpg")).astype(int)
    assert np.abs(seventh - np.asarray(pictures[16])).mean() < 3
    assert "a: 21 frames, 11 kept, 10 still, 0 not followed, 0 cuts" in capsys.readouterr().out


def test_a_cut_begins_another_folder_and_short_shots_are_left_out(tmp_path: Path, capsys):
    shots = [slide([4] * 19, seed) for seed in (0, 1)]
    blink = slide([4, 4], 2)  # its first frame tells the cut, two are left: no target
    film(tmp_path / "a.mp4", shots[0] + blink + shots[1])
    run(tmp_path / "a.mp4", "--out", tmp_path / "out", "--hfov", 60)
    assert frames_of(tmp_path / "out/a") == numbered(20)
    assert frames_of(tmp_path / "out/a_shot02") == numbered(19)
    assert not (tmp_path / "out/a_shot03").exists()
    out = capsys.readouterr().out
    assert "43 frames, 39 kept, 0 still, 2 not followed, 2 cuts, 2 in shots too short" in out
    val = (tmp_path / "out/val_files.txt").read_text().splitlines()
    assert val == ["a 17", "a 18", "a_shot02 16", "a_shot02 17"]


@pytest.mark.parametrize("count", [3, 11, 12, 50, 1000])
@pytest.mark.parametrize("share", [0, 0.1, 0.5])
def test_no_frame_is_in_samples_of_both_lists(count: int, share: float):
    train, val = split_targets(count, share)
    seen = [{frame + near for frame in part for near in (-1, 0, 1)} for part in (train, val)]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] <= set(range(count))
    assert len(val) == (round(share * (count - 2)) if count >= 12 else 0)
    assert train[0] == 1
    assert (val[-1] if val else train[-1]) == count - 2


def test_pictures_are_of_the_stated_quality(tmp_path: Path):
    source = save_frames(tmp_path / "a", slide([4] * 4))
    for quality in (92, 60):
        run(source, "--out", tmp_path / str(quality), "--quality", quality, "--hfov", 60)
        Image.new("RGB", (32, 32)).save(tmp_path / "like.jpg", quality=quality)
        with Image.open(tmp_path / "like.jpg") as like:
            expected = like.quantization
        with Image.open(tmp_path / str(quality) / "a/0000000001.jpg") as picture:
            assert picture.quantization == expected
            assert JpegImagePlugin.get_sampling(picture) == 2  # 4:2:0


def test_a_turned_video_is_stored_upright_with_its_camera(tmp_path: Path):
    pictures = slide([4] * 6)
    turn(film(tmp_path / "a.mp4", pictures), "clockwise")
    run(tmp_path / "a.mp4", "--out", tmp_path / "out", "--hfov", 90, "--crop_bottom", 20)
    stored = np.asarray(Image.open(tmp_path / "out/a/0000000000.jpg")).astype(int)
    upright = np.asarray(pictures[0]).transpose(1, 0, 2)[:, ::-1]
    assert stored.shape == (300, 160, 3)
    assert np.abs(stored - upright[:300]).mean() < 6
    assert read_camera_file(tmp_path / "out/intrinsics.txt") == ((80, 80, 80, 160), (160, 300))


def test_photographs_tell_their_camera(tmp_path: Path, capsys):
    exif = Image.open(photograph(tmp_path / "like.jpg", {0xA405: 26})).getexif()
    source = save_frames(tmp_path / "a", slide([4] * 4), ending=".JPG", exif=exif)
    run(source, "--out", tmp_path / "out")
    focal = 26 * np.hypot(*SIZE) / np.hypot(36, 24)
    camera, size = read_camera_file(tmp_path / "out/intrinsics.txt")
    np.testing.assert_allclose(camera, (focal, focal, 160, 80), atol=1e-5)
    assert size == SIZE
    assert "camera (EXIF: as 26 mm on 35 mm film)" in capsys.readouterr().out


def test_clips_of_several_cameras_and_of_none(tmp_path: Path, capsys):
    sources = [save_frames(tmp_path / name, slide([4] * 4)) for name in ("a", "b", "c")]
    out = tmp_path / "out"
    run(*sources, "--out", out, "--intrinsics", "a=300,300,160,80", "b=400,400,160,80")
    for name, focal in (("a", 300), ("b", 400)):
        assert read_camera_file(out / name / "intrinsics.txt")[0][0] == focal
    assert not (out / "c/intrinsics.txt").exists()
    assert not (out / "intrinsics.txt").exists()
    assert "no camera is known of c: give --intrinsics or --hfov" in capsys.readouterr().err


def test_pixels_that_are_not_square_are_stored_square(tmp_path: Path, capsys):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for picture in slide(STEPS[:5]):
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    run(path, "--out", tmp_path / "out", "--hfov", 90)
    assert "stored as 427x160" in capsys.readouterr().out  # 320 * 4 / 3
    camera, size = read_camera_file(tmp_path / "out/intrinsics.txt")
    assert size == (427, 160)
    np.testing.assert_allclose(camera, (213.5, 213.5, 213.5, 80))


def test_each_frame_says_where_it_comes_from(tmp_path: Path):
    steps = [4, 4, 0, 4, 4]  # frame 3 stands where frame 2 did
    pictures = save_frames(tmp_path / "pictures", slide(steps))
    (pictures / "frame2.png").write_bytes(b"no picture")
    run(pictures, film(tmp_path / "video.mp4", slide(steps)), "--out", tmp_path / "out")
    assert (tmp_path / "out/pictures/frames.txt").read_text().splitlines() == [
        "0000000000.jpg 0 frame1.png", "0000000001.jpg 2 frame3.png",
        "0000000002.jpg 4 frame5.png", "0000000003.jpg 5 frame6.png",
    ]  # fmt: skip
    assert (tmp_path / "out/video/frames.txt").read_text().splitlines() == [
        f"{stored:010d}.jpg {number}" for stored, number in enumerate((0, 1, 2, 4, 5))
    ]


def test_a_clip_of_short_shots_leaves_its_last_for_validation():
    # 5, 6, 7 and 4 targets: a tenth of 22 is 2, which the last shot has.
    splits = split_clip([7, 8, 9, 6], 0.1)
    assert [len(train) for train, _ in splits] == [5, 6, 7, 0]
    assert splits[-1] == (range(0), range(1, 5))
    # A third is 7: the last two.
    assert [len(val) for _, val in split_clip([7, 8, 9, 6], 0.33)] == [0, 0, 7, 4]
    # Shots that are long enough are cut; clips that are too short are not.
    assert [len(val) for _, val in split_clip([22, 8], 0.1)] == [2, 0]
    assert not any(val for _, val in split_clip([5, 5, 5], 0.1))


def test_a_tiny_threshold_draws_no_more_bars(tmp_path: Path):
    record = ClipRecord("a", {}, kept_motion=[0.5, 3.0, 8.0])
    plot_motion(tmp_path / "motion.png", [record], 1e-9)
    assert Image.open(tmp_path / "motion.png").width > 100


def test_a_camera_file_that_others_wrote_stays(tmp_path: Path, capsys):
    sources = [save_frames(tmp_path / name, slide([4] * 4)) for name in ("a", "b")]
    out = tmp_path / "out"
    run(sources[0], "--out", out)
    assert "no camera is known of a" in capsys.readouterr().err
    own = "277 277 160 80\n"
    (out / "intrinsics.txt").write_text(own)
    run(*sources, "--out", out)
    assert (out / "intrinsics.txt").read_text() == own
    assert "no camera is known" not in capsys.readouterr().err
    run(*sources, "--out", out, "--hfov", 60, "--overwrite")
    assert (out / "intrinsics.txt").read_text() == own
    assert f"{out / 'intrinsics.txt'} was not written here and stays" in capsys.readouterr().err
    # What was written here follows the clips.
    (out / "intrinsics.txt").unlink()
    run(*sources, "--out", out, "--hfov", 60)
    assert (out / "intrinsics.txt").is_file()
    run(sources[0], "--out", out, "--hfov", 70, "--overwrite")
    assert not (out / "intrinsics.txt").exists()
    assert (out / "a/intrinsics.txt").read_text() != (out / "b/intrinsics.txt").read_text()


# ---- again -------------------------------------------------------------------------------------


def test_started_again_it_makes_what_is_missing(tmp_path: Path):
    first = save_frames(tmp_path / "a", slide(STEPS))
    second = film(tmp_path / "b.mp4", slide(STEPS, 1))
    out = tmp_path / "out"
    run(first, "--out", out, "--hfov", 60)
    before = contents(out / "a")
    run(first, second, "--out", out, "--hfov", 60)
    assert contents(out / "a") == before
    assert frames_of(out / "b") == numbered(30)
    assert len((out / "train_files.txt").read_text().splitlines()) == 46
    run(second, "--out", out, "--hfov", 60)  # a clip that is not named stays in the lists
    assert len((out / "train_files.txt").read_text().splitlines()) == 46


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--hfov", 70), "the clip a in .* --hfov was 60.0 and is 70.0"),
        (("--min_motion", 3), "--min_motion was 2.0 and is 3.0"),
        (("--width", 100), "--width was not given and is 100"),
        (("--crop_bottom", 0.5), "--crop_bottom was 0.0 and is 0.5"),
    ],
)
def test_changed_settings_are_refused_by_name_or_overwrite(tmp_path: Path, flags, message):
    source = save_frames(tmp_path / "a", slide(STEPS))
    out = tmp_path / "out"
    run(source, "--out", out, "--hfov", 60)
    before = contents(out)
    with pytest.raises(UserError, match=message):
        run(source, "--out", out, "--hfov", 60, *flags)
    other = save_frames(tmp_path / "b", slide([4] * 4))
    if flags[0] != "--hfov":  # a clip of another camera may be added
        with pytest.raises(UserError, match=message):
            run(other, "--out", out, "--hfov", 60, *flags)
    assert contents(out) == before
    run(source, "--out", out, "--hfov", 60, *flags, "--overwrite")
    assert contents(out) != before


def test_a_source_that_changed_is_refused_until_overwrite(tmp_path: Path):
    source = film(tmp_path / "a.mp4", slide(STEPS[:6]))
    out = tmp_path / "out"
    run(source, "--out", out)
    film(source, slide(STEPS[:4]))
    with pytest.raises(UserError, match=r"a in .* its file or folder has changed; --overwrite"):
        run(source, "--out", out)
    run(source, "--out", out, "--overwrite")
    assert frames_of(out / "a") == numbered(5)


def test_what_was_cut_short_leaves_no_half_clip_and_goes_on(tmp_path: Path, monkeypatch):
    sources = [save_frames(tmp_path / name, slide(STEPS)) for name in ("a", "b")]
    out = tmp_path / "out"
    treat, calls = Treatment.__call__, []

    def interrupted(treatment: Treatment, picture: Image.Image) -> Image.Image:
        calls.append(picture)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return treat(treatment, picture)

    monkeypatch.setattr(Treatment, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(*sources, "--out", out, "--num_workers", 1)
    assert frames_of(out / "a") == numbered(30)
    assert not (out / "b").exists()
    assert not list((out / ".prepare").glob("*.partial"))
    before = contents(out / "a")
    run(*sources, "--out", out)
    assert contents(out / "a") == before
    assert frames_of(out / "b") == numbered(30)


def test_a_clip_killed_while_its_folders_were_moved_is_made_anew(tmp_path: Path):
    source = save_frames(tmp_path / "a", slide([4] * 4))
    out = tmp_path / "out"
    run(source, "--out", out)
    record = read_records(out)["a"]
    record.whole = False  # as a kill leaves it
    write_record(out, record)
    (out / "a/0000000003.jpg").unlink()
    (out / ".prepare/a.partial/0").mkdir(parents=True)
    run(source, "--out", out)
    assert frames_of(out / "a") == numbered(5)
    assert not (out / ".prepare/a.partial").exists()


def names_in_lists(out: Path) -> set[str]:
    """Clips that any list names."""
    lines = [line for path in out.glob("*_files.txt") for line in path.read_text().splitlines()]
    return {line.rpartition(" ")[0] for line in lines}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_clip_lost_while_it_is_made_anew_is_in_no_list(tmp_path: Path, monkeypatch, error):
    sources = [save_frames(tmp_path / name, slide([4] * 4)) for name in ("a", "b")]
    out = tmp_path / "out"
    run(*sources, "--out", out)

    move = os.replace

    def fails(path: Path, to: Path) -> None:
        if f"{OWN}/a.partial" in str(path):
            raise error
        move(path, to)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fails)
        with pytest.raises((KeyboardInterrupt, UserError)):
            run(sources[0], "--out", out, "--overwrite")
    assert names_in_lists(out) <= {"b"}
    run(sources[1], "--out", out)
    assert names_in_lists(out) == {"b"}
    assert not (out / "a").exists()
    run(*sources, "--out", out)
    assert names_in_lists(out) == {"a", "b"}
    assert frames_of(out / "a") == numbered(5)


def test_a_clip_that_lacks_frames_is_made_anew_or_refused(tmp_path: Path):
    sources = [save_frames(tmp_path / name, slide([4] * 4)) for name in ("a", "b")]
    out = tmp_path / "out"
    run(*sources, "--out", out)
    (out / "a/0000000002.jpg").unlink()
    with pytest.raises(UserError, match=r"the clip a in .* lacks frames that it had: with .*/a "):
        run(sources[1], "--out", out)
    run(*sources, "--out", out)
    assert frames_of(out / "a") == numbered(5)


def test_what_a_kill_left_is_no_record_and_goes(tmp_path: Path):
    source = save_frames(tmp_path / "a", slide([4] * 4))
    out = tmp_path / "out"
    run(source, "--out", out)
    left = [out / OWN / ".a.xyz.partial.json", out / ".train_files.xyz.partial.txt"]
    for path in left:
        path.touch()
    half = ClipRecord("b", {"min_motion": 9, "source": "b"}, shots=[("b", 3)])
    write_record(out, half)  # begun with other settings, never whole
    (out / "b").mkdir()
    run(source, "--out", out)
    assert not any(path.exists() for path in (*left, out / "b"))
    assert read_records(out).keys() == {"a"}


def test_two_runs_do_not_write_one_folder(tmp_path: Path):
    source = save_frames(tmp_path / "a", slide([4] * 4))
    out = tmp_path / "out"
    (out / OWN).mkdir(parents=True)
    with alone(out), pytest.raises(UserError, match=r"another prepare_video\.py writes"):
        run(source, "--out", out)
    run(source, "--out", out)


# ---- bad input ---------------------------------------------------------------------------------


class Bad(NamedTuple):
    """What is wrong with a clip, and what is said of it."""

    make: object  # a function from a folder to the clip
    message: str
    flags: tuple[object, ...] = ()


def two_sizes(folder: Path) -> Path:
    save_frames(folder / "a", slide([4] * 3))
    Image.new("RGB", (200, 100)).save(folder / "a/frame9.png")
    return folder / "a"


def unknown_codec(folder: Path) -> Path:
    path = film_levels(folder / "a.avi")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    return path


def no_frames(folder: Path) -> Path:
    """A video whose only frame is destroyed."""
    path = film_levels(folder / "a.avi", count=1)
    with av.open(str(path)) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.size)
        start, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path


def text(folder: Path) -> Path:
    (folder / "a.mp4").write_text("no video")
    return folder / "a.mp4"


def two_kinds(folder: Path) -> Path:
    save_frames(folder / "a", slide([4]))
    return save_frames(folder / "a", slide([4]), ending=".jpg")


def empty(folder: Path) -> Path:
    (folder / "a").mkdir()
    return folder / "a"


def frames(steps: list[int], name: str = "a"):
    return lambda folder: save_frames(folder / name, slide(steps))


BAD = {
    "missing": Bad(lambda folder: folder / "a.mp4", "a.mp4 does not exist: expected a video file"),
    "no video": Bad(text, "cannot read the video .*a.mp4: Invalid data"),
    "codec": Bad(unknown_codec, "a.avi is of a codec that this FFmpeg cannot decode"),
    "no frames": Bad(no_frames, "a.avi holds no frame that can be read"),
    "empty folder": Bad(empty, "a holds none: expected pictures of one kind"),
    "two kinds": Bad(two_kinds, r"a holds pictures of several kinds, \.jpg, \.png: .* --ext"),
    "one frame": Bad(frames([]), "a has 1 frames that can be read: at least 3 are needed"),
    "all still": Bad(frames([0] * 5), "of 6, 1 are kept, 5 hardly move .*largest motion is 0.00"),
    "two sizes": Bad(two_sizes, "frame9.png is 200x100 and what comes before it 320x160"),
    "true depth": Bad(frames([4] * 3, "depth"), "cannot be called 'depth' in --out"),
    "camera": Bad(frames([4] * 3), "has fx 31.25 times the picture's width, expected 0.2 to 5",
                  ("--intrinsics", "1e4,1e4,160,80")),
    "distortion alone": Bad(frames([4] * 3), "--distortion needs the camera .* --intrinsics of a",
                            ("--distortion", "-0.3,0.1,0,0,0", "--hfov", 60)),
    "ext of none": Bad(lambda folder: film(folder / "a.mp4", slide([4] * 3)),
                       "--ext png is for folders of pictures", ("--ext", "png")),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path: Path, what: str):
    bad = BAD[what]
    source = bad.make(tmp_path)
    with pytest.raises(UserError, match=bad.message):
        run(source, "--out", tmp_path / "out", *bad.flags)
    assert not (tmp_path / "out").exists()


def test_a_camera_for_another_size_is_refused(tmp_path: Path):
    (tmp_path / "camera.txt").write_text("# size: 640x320\n600 600 320 160\n")
    source = save_frames(tmp_path / "a", slide([4] * 3))
    with pytest.raises(UserError, match=r"camera\.txt is the camera of pictures of 640x320, and "
                       "this clip is 320x160"):  # fmt: skip
        run(source, "--out", tmp_path / "out", "--intrinsics", tmp_path / "camera.txt")
    assert not (tmp_path / "out").exists()


def test_a_bad_clip_does_not_stop_the_others(tmp_path: Path):
    good, bad = save_frames(tmp_path / "good", slide([4] * 4)), text(tmp_path)
    with pytest.raises(UserError, match="cannot read the video"):
        run(bad, good, "--out", tmp_path / "out")
    assert frames_of(tmp_path / "out/good") == numbered(5)
    assert (tmp_path / "out/train_files.txt").read_text().splitlines() == [
        "good 1", "good 2", "good 3"
    ]  # fmt: skip
    assert not (tmp_path / "out/a").exists()


def test_every_bad_clip_is_named(tmp_path: Path):
    for number in range(5):
        (tmp_path / f"bad{number}.mp4").write_text("no video")
    done = subprocess.run(
        [sys.executable, ROOT / "prepare_video.py", *sorted(tmp_path.glob("*.mp4")), "--out",
         tmp_path / "new/folder/out"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [f"bad{number}.mp4" in line for number, line in enumerate(errors)] == [True] * 5
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["intrinsics.txt", "report.json", "depth", "train_files.txt"])
def test_names_that_mean_something_else_are_refused(tmp_path: Path, name: str):
    source = film(tmp_path / f"{name}.mp4", slide([4] * 4))
    with pytest.raises(UserError, match=f"cannot be called '{name}' in --out"):
        run(source, "--out", tmp_path / "out")


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch):
    film(tmp_path / "a.mp4", slide([4] * 4)).rename(tmp_path / "holiday: day 1.mp4")
    monkeypatch.chdir(tmp_path)
    run("holiday: day 1.mp4", "--out", "out")
    assert frames_of(tmp_path / "out/holiday: day 1") == numbered(5)


def test_photographs_of_two_focal_lengths_are_refused(tmp_path: Path):
    for number, focal in enumerate((26, 26, 26, 70)):
        photograph(tmp_path / f"a/{number}.jpg", {FOCAL_35MM: focal})
    with pytest.raises(UserError, match=r"3\.jpg was taken with another focal length .*as 70"):
        run(tmp_path / "a", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_others_are_left_alone(tmp_path: Path):
    source = save_frames(tmp_path / "a", slide([4] * 4))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(UserError, match=r"full holds files that prepare_video\.py did not write"):
        run(source, "--out", tmp_path / "full")
    with pytest.raises(UserError, match=r"lies in .*, which is read"):
        run(source, "--out", source / "out")
    out = tmp_path / "out"
    run(save_frames(tmp_path / "b", slide([4] * 4)), "--out", out)
    (out / "a").mkdir()
    (out / "a/mine.txt").touch()
    with pytest.raises(UserError, match="a is there already and is not of the clip a"):
        run(source, "--out", out)
    assert [path.name for path in (out / "a").iterdir()] == ["mine.txt"]


def test_two_clips_of_one_name_are_refused(tmp_path: Path):
    sources = [save_frames(tmp_path / where / "a", slide([4] * 4)) for where in ("x", "y")]
    with pytest.raises(UserError, match="would both be called a in --out: rename one"):
        run(*sources, "--out", tmp_path / "out")


def test_a_damaged_frame_is_named_and_left_out(tmp_path: Path, capsys):
    source = save_frames(tmp_path / "a", slide(STEPS[:9]))
    (source / "frame5.png").write_bytes(b"no picture")
    run(source, "--out", tmp_path / "out")
    assert frames_of(tmp_path / "out/a") == numbered(9)
    captured = capsys.readouterr()
    assert "skipped: cannot read the image" in captured.err
    assert "1 damaged" in captured.out


def test_a_frame_rate_that_varies_is_told(tmp_path: Path, capsys):
    path = tmp_path / "a.mkv"
    times = [0, 40, 80, 120, 300, 340, 380, 420]  # milliseconds
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, picture in zip(times, slide(STEPS[:7]), strict=True):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    steps = frame_steps(path)
    np.testing.assert_allclose(steps, np.diff(times) / 1000, atol=1e-6)
    run(path, "--out", tmp_path / "out")
    out = capsys.readouterr().out
    assert "the frame rate varies: 14% of frames come at another pace than every 40 ms" in out
    assert frames_of(tmp_path / "out/a") == numbered(8)
    assert uneven_steps(np.full(100, 0.04)) == []
    assert uneven_steps(np.array([])) == []


# ---- the command line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hfov", "5"], "--hfov: expected degrees from 10 to 140"),
        (["--hfov", "60", "--intrinsics", "1,2,3,4"], "--hfov and --intrinsics both tell"),
        (["--distortion", "-0.3,x"], "expected numbers k1,k2,p1,p2,k3, got '-0.3,x'"),
        (["--crop_bottom", "20.5"], "--crop_bottom 20.5: from 1 on it counts whole pixels"),
        (["--quality", "20"], "a quality of JPEG from 50 to 100"),
        (["--val_share", "0.9"], "--val_share 0.9: at most 0.5"),
        (["--width", "320", "--height", "100"], "not allowed with argument"),
        (["--min_motion", "-1"], "a number of at least 0"),
    ],
)
def test_a_bad_value_is_one_sentence(tmp_path: Path, flags: list[str], message: str, capsys):
    with pytest.raises(SystemExit) as end:
        run("a.mp4", "--out", tmp_path / "out", *flags)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_ends_with_2_and_without_a_traceback(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, ROOT / "prepare_video.py", "missing.mp4", "--out", tmp_path / "out"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: missing.mp4 does not exist")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
