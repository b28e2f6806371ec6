"""Cityscapes' triplets: what is made, once; what is missing, said; what was cut short, made again.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets.files
from datasets import build_dataset
from datasets.keys import FrameKey
from prepare_cityscapes import main
from utils import UserError

RAW = (64, 128)  # (height, width)
SIZE = ["--img_height", "32", "--img_width", "64"]
# City, sequence, frames; hamburg's one sequence is long, with a camera for each snippet.
SEQUENCES = [
    ("aachen", "000003", range(7)),
    ("hamburg", "000000", [*range(20, 26), *range(50, 55)]),
]
CAMERAS = [("aachen", "000003", 3, 100.0), ("hamburg", "000000", 22, 110.0),
           ("hamburg", "000000", 52, 120.0)]  # fmt: skip
TARGETS = {
    *(f"aachen/aachen_000003_{n:06d}" for n in (2, 3, 4)),
    *(f"hamburg/hamburg_000000_{n:06d}" for n in (22, 23, 52)),
}


def frame_path(root: Path, city: str, sequence: str, number: int) -> Path:
    folder = root / "leftImg8bit_sequence/train" / city
    return folder / f"{city}_{sequence}_{number:06d}_leftImg8bit.png"


def camera_path(root: Path, city: str, sequence: str, number: int) -> Path:
    return root / f"camera/train/{city}/{city}_{sequence}_{number:06d}_camera.json"


@pytest.fixture
def raw(tmp_path) -> Path:
    """Two cities of noise; the cameras' focal lengths tell them apart."""
    root = tmp_path / "raw"
    rng = np.random.default_rng(0)
    for city, sequence, numbers in SEQUENCES:
        for number in numbers:
            path = frame_path(root, city, sequence, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*RAW, 3), dtype=np.uint8)).save(path)
    for city, sequence, number, focal in CAMERAS:
        path = camera_path(root, city, sequence, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        intrinsic = {"fx": focal, "fy": focal + 1, "u0": 70.0, "v0": 30.0}
        path.write_text(json.dumps({"intrinsic": intrinsic}))
    return root


def arguments(raw: Path, out: Path, workers: int = 1) -> list[str]:
    folders = ["--dataset_dir", str(raw), "--dump_root", str(out)]
    return [*folders, "--num_threads", str(workers), *SIZE]


def contents(out: Path) -> dict[str, bytes]:
    """Every finished file by its name."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("[!.]*") if path.is_file()
    }  # fmt: skip


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """How often each raw frame was decoded."""
    counts: Counter[str] = Counter()
    read = datasets.files.load_rgb

    def counting(path):
        counts[Path(path).name] += 1
        return read(path)

    monkeypatch.setattr(datasets.files, "load_rgb", counting)
    return counts


def test_triplets_and_cameras(raw, tmp_path, capsys):
    out = tmp_path / "out"
    main(arguments(raw, out))
    files = contents(out)
    assert files.keys() == {f"{t}{ending}" for t in TARGETS for ending in (".png", "_cam.txt")}
    triplet = np.asarray(Image.open(out / "hamburg/hamburg_000000_000023.png"))
    for place, number in enumerate((21, 23, 25)):
        frame = Image.open(frame_path(raw, "hamburg", "000000", number))
        small = np.asarray(frame.resize((64, 32), Image.Resampling.LANCZOS))[:24]
        np.testing.assert_array_equal(triplet[24 * place : 24 * (place + 1)], small)
    text = b"55.000000,0.,35.000000,0.,55.500000,15.000000,0.,0.,1."
    assert files["hamburg/hamburg_000000_000023_cam.txt"] == text
    assert files["hamburg/hamburg_000000_000052_cam.txt"].startswith(b"60.000000,")  # the nearest
    said = capsys.readouterr().out
    assert said.startswith("6 triplets made, 0 were there\n12 frames at the ends of their snippets")
    assert "--img_width 1024 --img_height 512, these are of 64 x 32" in said
    assert "missing" not in said


def test_fast_files_hold_the_same_pictures_and_plain_ones_are_pillows(raw, tmp_path):
    main(arguments(raw, tmp_path / "plain"))
    main([*arguments(raw, tmp_path / "fast"), "--fast_png"])
    plain, fast = contents(tmp_path / "plain"), contents(tmp_path / "fast")
    assert plain.keys() == fast.keys()
    for name, content in plain.items():
        if name.endswith(".txt"):
            assert fast[name] == content
            continue
        picture = Image.open(tmp_path / "fast" / name)
        saved = io.BytesIO()
        Image.fromarray(np.asarray(picture)).save(saved, "png")
        assert content == saved.getvalue()
        assert fast[name] != content


def test_each_frame_is_decoded_once(raw, tmp_path, decoded):
    main(arguments(raw, tmp_path / "out"))
    used = {n for _, _, numbers in SEQUENCES for n in numbers}
    assert len(decoded) == len(used) - 2  # 51 and 53 are in no triplet
    assert set(decoded.values()) == {1}


def test_workers_change_nothing(raw, tmp_path):
    main(arguments(raw, tmp_path / "one"))
    command = [sys.executable, "prepare_cityscapes.py", *arguments(raw, tmp_path / "many", 2)]
    root = Path(__file__).parents[1]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("6 triplets made")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_only_what_is_missing_is_made(raw, tmp_path, decoded, capsys):
    out = tmp_path / "out"
    main(arguments(raw, out))
    files, times = contents(out), {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    decoded.clear()
    main(arguments(raw, out))
    assert not decoded
    lost = out / "aachen/aachen_000003_000003.png"
    uncertain = out / "hamburg/hamburg_000000_000022_cam.txt"
    lost.unlink()
    uncertain.unlink()
    main(arguments(raw, out))
    assert sorted(name.split("_")[2] for name in decoded) == [
        "000001", "000003", "000005", "000020", "000022", "000024",
    ]  # fmt: skip
    assert "2 triplets made, 4 were there" in capsys.readouterr().out
    assert contents(out) == files
    remade = {lost, uncertain, lost.with_name("aachen_000003_000003_cam.txt"),
              uncertain.with_name("hamburg_000000_000022.png")}  # fmt: skip
    assert {p for p, time in times.items() if p.stat().st_mtime_ns != time} == remade


def test_triplets_of_another_size_are_made_again(raw, tmp_path):
    main([*arguments(raw, tmp_path / "out"), "--img_width", "32"])
    main(arguments(raw, tmp_path / "out"))
    main(arguments(raw, tmp_path / "at_once"))
    assert contents(tmp_path / "out") == contents(tmp_path / "at_once")


# Dies halfway through writing its third picture.
KILLED = """
import os, sys
from PIL import Image
from prepare_cityscapes import main
save, left = Image.Image.save, [2]
def dying(image, path):
    save(image, path)
    if not left[0]:
        with open(path, "r+b") as file:
            file.truncate(100)
        os.kill(os.getpid(), 9)
    left[0] -= 1
Image.Image.save = dying
main(sys.argv[1:])
"""


def test_a_killed_run_is_finished_by_the_next(raw, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, *arguments(raw, out)]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, timeout=120)
    assert run.returncode == -signal.SIGKILL
    half = contents(out)
    assert len(half) == 4  # two triplets; the third never got its name
    main(arguments(raw, out))
    main(arguments(raw, tmp_path / "at_once"))
    whole = contents(tmp_path / "at_once")
    assert contents(out) == whole
    assert all(whole[name] == content for name, content in half.items())


def test_missing_neighbours_and_cameras_are_counted(raw, tmp_path, capsys):
    frame_path(raw, "aachen", "000003", 5).unlink()
    for number in (22, 52):
        camera_path(raw, "hamburg", "000000", number).unlink()
    main(arguments(raw, tmp_path / "out"))
    assert contents(tmp_path / "out").keys() == {
        f"aachen/aachen_000003_{n:06d}{ending}" for n in (2, 4) for ending in (".png", "_cam.txt")
    }
    said = capsys.readouterr().out
    assert ("1 frames without a triplet, as a neighbour is missing: "
            "aachen_000003_000003_leftImg8bit.png\n") in said
    assert "2 snippets without triplets, as camera files are missing: hamburg_000000_*" in said


def test_a_damaged_frame_costs_its_triplets_only(raw, tmp_path):
    damaged = frame_path(raw, "hamburg", "000000", 24)
    damaged.write_bytes(damaged.read_bytes()[:900])
    camera_path(raw, "aachen", "000003", 3).write_text('{"intrinsic": {"fx": 1}}')
    with pytest.raises(UserError) as raised:
        main(arguments(raw, tmp_path / "out"))
    assert re.match(r"2 files are damaged, start again when they are mended: the camera .*"
                    rf"000003_camera.json needs fx, fy, .*: 'fy', cannot read the image {damaged}:",
                    str(raised.value))  # fmt: skip
    assert contents(tmp_path / "out").keys() == {
        f"hamburg/hamburg_000000_{n:06d}{ending}" for n in (23, 52)
        for ending in (".png", "_cam.txt")
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["", "leftImg8bit_sequence/train"])
def test_a_wrong_root_is_named(tmp_path, folder):
    (tmp_path / "raw" / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=r"does not exist|holds no frame"):
        main(arguments(tmp_path / "raw", tmp_path / "out"))


def test_without_any_camera_there_is_nothing_to_make(raw, tmp_path):
    shutil.rmtree(raw / "camera")
    with pytest.raises(UserError, match="no triplet could be made"):
        main(arguments(raw, tmp_path / "out"))


def test_only_triplets_are_made(raw, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([*arguments(raw, tmp_path / "out"), "--seq_length", "5"])
    assert end.value.code == 2
    assert "--seq_length must be 3" in capsys.readouterr().err


def test_triplets_of_the_training_size_are_trained_on(raw, tmp_path):
    """A raw frame's camera, through preparation and loading, in fractions of the kept picture."""
    main([*arguments(raw, tmp_path / "out"), "--img_width", "1024", "--img_height", "512"])
    lines = ["hamburg hamburg_000000_000052"]
    sample = build_dataset("cityscapes", tmp_path / "out", lines, 32, 64, is_train=True)[0]
    expected = [[120 / 128, 0, 70 / 128], [0, 121 / 48, 30 / 48]]
    np.testing.assert_allclose(sample["K"][:2, :3], np.multiply(expected, [[64], [32]]), rtol=1e-6)
    assert sample[FrameKey("color", -1, 0)].shape == (3, 32, 64)
