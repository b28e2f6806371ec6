"""The lists: published ones against their digests, users' own, and what bad input says."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from datasets.splits import SPLITS, main, published_lists, split_lines
from utils import UserError, read_lines

WITHOUT_DIGEST = {
    "kitti odom test_09": [f"9 {frame} l" for frame in range(1590)],
    "kitti odom test_10": [f"10 {frame} l" for frame in range(1200)],
    "kitti benchmark test": [f"image {number}" for number in range(500)],
}


def digests() -> dict[str, tuple[int, str, str]]:
    """Number of lines, digest of the sorted lines, digest in order, by the list's words."""
    rows = [line.split() for line in read_lines(SPLITS / "digests.txt") if line[0] != "#"]
    return {
        name.replace("/", " "): (int(count), in_any_order, in_order)
        for (name, count), (in_any_order,), (in_order,) in zip(*[iter(rows)] * 3, strict=True)
    }


def lines_of(words: str) -> list[str]:
    dataset, *name, part = words.split()
    return split_lines(dataset, *(name or [""]), part)


def sha256(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("words", digests())
def test_a_published_list_has_its_digest(words):
    count, in_any_order, in_order = digests()[words]
    lines = lines_of(words)
    assert len(lines) == count
    assert sha256(sorted(lines)) == in_any_order
    if in_order != "-":
        assert sha256(lines) == in_order


@pytest.mark.parametrize("words", WITHOUT_DIGEST)
def test_the_other_published_lists(words):
    assert lines_of(words) == WITHOUT_DIGEST[words]


def test_every_published_list_is_tested():
    assert sorted(published_lists()) == sorted([*digests(), *WITHOUT_DIGEST])


def test_test_orders_are_fixed():
    for words, (_, _, in_order) in digests().items():
        assert (in_order != "-") == words.endswith("test")


def test_training_and_validation_do_not_overlap():
    train, val = (set(split_lines("kitti", "eigen_zhou", part)) for part in ("train", "val"))
    assert train.isdisjoint(val)
    assert "2011_09_26/2011_09_26_drive_0001_sync 1 l" in train | val


# ---- users' own lists ----------------------------------------------------------------------

LINE = "2011_09_26/2011_09_26_drive_9091_sync 5 l"


def test_a_folder_is_a_split(tmp_path):
    (tmp_path / "train_files.txt").write_text(f"\n{LINE}\n  {LINE}  \n\n")
    assert split_lines("kitti", str(tmp_path), "train") == [LINE, LINE]


def test_a_list_from_a_windows_editor(tmp_path):
    path = tmp_path / "train_files.txt"
    path.write_bytes(f"{LINE}\r\n{LINE}\r\n".encode("utf-8-sig"))
    assert split_lines("kitti", str(tmp_path), "train") == [LINE, LINE]
    path.write_bytes(f"{LINE}\r\nhello\r\n".encode("utf-8-sig"))
    with pytest.raises(UserError, match=r"train_files\.txt:2: 'hello'"):
        split_lines("kitti", str(tmp_path), "train")


@pytest.mark.parametrize(
    ("dataset", "line"),
    [
        ("kitti", "drive \u0663 l"),
        ("kitti_odom", "\u0669 0 l"),
        ("cityscapes", "ulm ulm_00000\u0662_000025"),
    ],
)
def test_numbers_are_written_in_ascii_digits(tmp_path, dataset, line):
    (tmp_path / "train_files.txt").write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match="is no line of this data set"):
        split_lines(dataset, str(tmp_path), "train")


def test_a_users_list_wins_over_the_published_one(tmp_path, monkeypatch):
    root = tmp_path / "splits"
    (root / "kitti/eigen").mkdir(parents=True)
    (root / "kitti/eigen.txt").write_bytes((SPLITS / "kitti/eigen.txt").read_bytes())
    assert len(split_lines("kitti", "eigen", "test", root)) == 697
    (root / "kitti/eigen/test_files.txt").write_text(LINE)
    assert split_lines("kitti", "eigen", "test", root) == [LINE]
    (root / "cityscapes").mkdir()
    (root / "cityscapes/train_files.txt").write_text("ulm ulm_000002_000025")
    assert split_lines("cityscapes", "", "train", root) == ["ulm ulm_000002_000025"]
    # A folder of that name where the user stands is nearer still.
    (tmp_path / "eigen").mkdir()
    (tmp_path / "eigen/test_files.txt").write_text(LINE.replace(" 5 ", " 6 "))
    monkeypatch.chdir(tmp_path)
    assert split_lines("kitti", "eigen", "test", root) == [LINE.replace(" 5 ", " 6 ")]


def test_a_malformed_line_is_named_with_its_number(tmp_path):
    (tmp_path / "train_files.txt").write_text(f"{LINE}\n\n{LINE}eft\n{LINE}\n")
    with pytest.raises(UserError) as raised:
        split_lines("kitti", str(tmp_path), "train")
    assert str(raised.value) == (
        f"{tmp_path}/train_files.txt:3: '{LINE}eft' is no line of this data set, expected for "
        "example '2011_09_26/2011_09_26_drive_0001_sync 5 l'"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kiti", "eigen", "test"], "unknown data set 'kiti': lists exist for kitti, citysc"),
        (["kitti", "eign", "test"], "no split 'eign': choose benchmark, eigen, eigen_benchmark, "),
        (["kitti", "eigen", "train"], "kitti eigen has no 'train' list: it has test"),
        (["kitti", "odom", "test"], "it has train, val, test_09, test_10"),
        (["kitti", "train"], "kitti has no split '': choose benchmark"),
        (["kitti", "nope", "val"], "choose benchmark, eigen_full, eigen_zhou, odom, or a folder"),
        (["kitti", "nope", "test_09"], "choose odom, or a folder"),
        (["kitti", "a" * 300, "train"], "kitti has no split 'aaa"),
        (["cityscapes", "fine", "train"], "choose its only one by leaving the name out"),
        (["cityscapes", "trian"], "cityscapes has no 'trian' list: it has train, val, test"),
        (["kitti"], "the published lists are: .*kitti eigen_zhou train; "),
    ],
)
def test_unknown_names_say_what_exists(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        main(arguments)


def test_a_folder_without_the_list_is_an_error(tmp_path):
    with pytest.raises(UserError, match=f"the folder {tmp_path} holds no val_files.txt"):
        split_lines("kitti", str(tmp_path), "val")
    (tmp_path / "val_files.txt").write_text("\n")
    with pytest.raises(UserError, match=r"val_files\.txt is empty"):
        split_lines("kitti", str(tmp_path), "val")


# ---- the command ---------------------------------------------------------------------------


def test_the_command_prints_a_list(capsys):
    main(["kitti", "eigen_zhou", "train"])
    assert capsys.readouterr().out.splitlines() == split_lines("kitti", "eigen_zhou", "train")
    main(["make3d", "test"])
    assert len(capsys.readouterr().out.splitlines()) == 134


def test_the_command_needs_no_torch_and_survives_head():
    code = "import sys, datasets.splits; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=SPLITS.parent, capture_output=True)
    assert done.stdout.split() == [b"False"]
    command = [sys.executable, "-m", "datasets.splits", "kitti", "eigen_zhou", "train"]
    with subprocess.Popen(
        command, cwd=SPLITS.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().split()[1:] == [b"1", b"l"]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_bad_name_exits_with_two():
    command = [sys.executable, "-m", "datasets.splits", "kitti", "nowhere", "train"]
    done = subprocess.run(command, cwd=SPLITS.parent, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: kitti has no split 'nowhere'")
    assert len(done.stderr.splitlines()) == 1
