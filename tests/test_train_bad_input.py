"""One thing wrong at a time with a call of train.py: one sentence that names it, and code 2."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_kitti import (
    arguments,
    picture_path,
    refused,
    run_as_script,
    snapshot,
    write_kitti,
    write_list,
)


def bad_data_root(root):
    return ["--data_path", root / "nowhere"], ("nowhere",)


def bad_size(_):
    return ["--height", 50], ("--height", "multiple of 32", "50")


def bad_split(_):
    return ["--split", "eigen_zhuo"], ("eigen_zhuo", "eigen_zhou")


def bad_eval_split(_):
    return ["--eval_split", "eigne"], ("eigne",)


def bad_line(root):
    (root / "other" / "train_files.txt").write_text("one\n\ntwo words 3\n")
    return ["--split", root / "other"], ("train_files.txt:1", "'one'", "expected")


def bad_frame(root):
    write_list(root / "other" / "train_files.txt", [1, 2, 7])
    return ["--split", root / "other"], ("0000000008.png", "does not exist")


def bad_frame_number(root):
    write_list(root / "other" / "train_files.txt", [1, 0])
    return ["--split", root / "other"], ("frame -1", "does not exist")


def missing_partner(root):
    picture_path(root, 4, camera=3).unlink()
    return ["--use_stereo"], ("image_03", "0000000004.png")


def too_few(root):
    write_list(root / "other" / "train_files.txt", [1])
    return ["--split", root / "other"], ("1 samples", "--batch_size")


def no_truth(root):
    (root / "split" / "gt_depths.npz").unlink()
    return [], ("gt_depths.npz", "export_gt_depth.py")


def other_truth(root):
    write_list(root / "split" / "test_files.txt", [1, 2])
    return [], ("gt_depths.npz", "3 depth maps for 2")


def truncated_checkpoint(root):
    path = root / "old.pth"
    torch.save({"encoder": {"a": torch.rand(100)}}, path)
    path.write_bytes(path.read_bytes()[:-200])
    return ["--pretrained_path", path], ("old.pth", "damaged or truncated")


def foreign_checkpoint(root):
    torch.save([1, 2], root / "old.pth")
    return ["--pretrained_path", root / "old.pth"], ("old.pth", "not a checkpoint")


def truncated_run(root):
    path = root / "logs/run/ckpt.pth"
    path.parent.mkdir(parents=True)
    torch.save({"encoder": {"a": torch.rand(100)}}, path)
    path.write_bytes(path.read_bytes()[:-200])
    return ["--resume"], ("ckpt.pth", "damaged or truncated")


def missing_checkpoint(root):
    return ["--pretrained_path", root / "old.pth"], ("old.pth", "there is no checkpoint")


KNOWN_BEFORE = (
    bad_data_root,
    bad_size,
    bad_split,
    bad_eval_split,
    bad_line,
    bad_frame,
    bad_frame_number,
    missing_partner,
    too_few,
    no_truth,
    other_truth,
    truncated_checkpoint,
    foreign_checkpoint,
    truncated_run,
    missing_checkpoint,
)


@pytest.mark.parametrize("spoil", KNOWN_BEFORE)
def test_bad_input_is_refused_before_a_folder_is_made(tmp_path, monkeypatch, capsys, spoil):
    root = write_kitti(tmp_path / "kitti")
    (root / "other").mkdir()
    flags, words = spoil(root)
    before = snapshot(root)
    message = refused(monkeypatch, capsys, arguments(root, "run", *flags))
    assert all(word in message for word in words), message
    assert snapshot(root) == before
    assert (root / "logs").exists() == (spoil is truncated_run)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named(tmp_path, monkeypatch, capsys, workers):
    """In a worker too. What was trained before it was met stays."""
    root = write_kitti(tmp_path / "kitti")
    path = picture_path(root, 4)
    path.write_bytes(path.read_bytes()[:200])
    message = refused(monkeypatch, capsys, arguments(root, "run", "--num_workers", workers))
    assert f"cannot read the image {path}" in message


def test_a_log_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch, capsys):
    root = write_kitti(tmp_path / "kitti")
    (root / "file").write_text("")
    flags = ("--log_dir", root / "file", "--no_eval")
    message = refused(monkeypatch, capsys, arguments(root, "run", *flags))
    assert f"{root / 'file' / 'run'}" in message


def test_help_is_no_training(monkeypatch, capsys):
    assert run_as_script(monkeypatch, ["--help"]) == 0
    assert "--use_local_crop" in capsys.readouterr().out
