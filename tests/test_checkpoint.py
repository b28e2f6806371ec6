"""Round trips, the published format, and every way a checkpoint can be wrong."""

from __future__ import annotations

import errno
import os
import pickle
import resource
from pathlib import Path
from re import escape

import pytest
import torch
from thop import profile
from torch import nn
from torch.testing import assert_close

from checkpoint import (
    describe_backbone,
    load_checkpoint,
    load_newest,
    load_parts,
    previous_path,
    remove_partial_files,
    save_checkpoint,
    snapshot,
)
from networks import BACKBONES, build_depth_network, build_pose_network
from utils import UserError

# Loading into networks without values ("meta" tensors) is what these tests are quick by.
pytestmark = pytest.mark.filterwarnings("ignore:.*which is a no-op")


class Thing:
    """Something that only an unsafe load would make."""


def small_state(**extra):
    return {"encoder": {"w": torch.ones(2)}, "depth": {"w": torch.zeros(3)}, "height": 64} | extra


def meta_states(backbone, num_layers, scales=(0,)):
    with torch.device("meta"):
        parts = build_depth_network(backbone, num_layers, scales).parts()
    return {name: module.state_dict() for name, module in parts.items()}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_depth_network("resnet", 18)


def refuse(path):
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_round_trip(tmp_path):
    path = tmp_path / "run" / "ckpt.pth"
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [15])
    state = small_state(
        use_stereo=False,
        backbone="hrnet",
        optimizer=optimizer.state_dict(),
        lr_scheduler={"milestones": dict(schedule.milestones)},
    )
    save_checkpoint(path, state)
    assert [entry.name for entry in path.parent.iterdir()] == ["ckpt.pth"]
    loaded = load_checkpoint(path)
    assert list(loaded) == list(state)
    assert loaded["use_stereo"] is False
    assert_close(loaded["encoder"], state["encoder"])
    assert_close(
        loaded["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )


def test_a_schedule_of_torch_loads_too(tmp_path):
    """The published `ckpt.pth` holds such a one, with a Counter inside."""
    optimizer = torch.optim.AdamW(nn.Linear(2, 1).parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [15])
    path = tmp_path / "ckpt.pth"
    save_checkpoint(path, small_state(lr_scheduler=schedule.state_dict()))
    assert load_checkpoint(path)["lr_scheduler"]["milestones"][15] == 1


def test_parts_come_back_equal(tmp_path, network):
    path = tmp_path / "model.pth"
    save_checkpoint(path, {name: part.state_dict() for name, part in network.parts().items()})
    other = build_depth_network("resnet", 18)
    load_parts(other.parts(), load_checkpoint(path), path)
    assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_published_file_with_profiler_counters_loads(tmp_path):
    """Saved the published way, by a model that thop has counted, with four scales, no extras."""
    counted = build_depth_network("resnet", 18, (0, 1, 2, 3)).eval()
    profile(counted, (torch.rand(1, 3, 32, 32),), verbose=False)
    state = {name: part.state_dict() for name, part in counted.parts().items()}
    assert {"total_ops", "total_params"} <= {key.split(".")[-1] for key in state["depth"]}
    path = tmp_path / "kitti_resnet18_640x192.pth"
    torch.save({**state, "height": 192, "width": 640, "use_stereo": False}, path)

    one_scale = build_depth_network("resnet", 18)
    load_parts(one_scale.parts(), load_checkpoint(path), path)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(one_scale.eval()(image)[0], counted(image)[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("backbone", "num_layers"), [(name, n) for name, depths in BACKBONES.items() for n in depths]
)
def test_backbones_are_recognised_by_their_tensors(backbone, num_layers):
    assert describe_backbone(meta_states(backbone, num_layers)) == (backbone, num_layers)


def test_unknown_encoders_are_not_guessed():
    assert describe_backbone({"encoder": {"stem.weight": torch.zeros(1)}}) is None
    assert describe_backbone({"encoder": {}}) is None
    assert describe_backbone({"depth": {}}) is None


@pytest.mark.parametrize(
    ("held", "wanted", "words"),
    [
        (("hrnet", 18), ("resnet", 18), "looks like hrnet 18, not resnet 18"),
        (("resnet", 50), ("resnet", 18), "looks like resnet 50, not resnet 18"),
        (("hrnet_small", 18), ("hrnet", 18), "looks like hrnet_small 18, not hrnet 18"),
    ],
)
def test_another_backbone_is_named_with_a_tensor(held, wanted, words):
    with torch.device("meta"):
        parts = build_depth_network(*wanted).parts()
    with pytest.raises(UserError) as caught:
        load_parts(parts, meta_states(*held), "some/model.pth")
    message = str(caught.value)
    assert message.startswith("some/model.pth holds another backbone: its `encoder` ")
    assert words in message
    assert "encoder." in message.split("(it ")[1]
    assert "\n" not in message


def test_first_odd_tensor_is_named_with_both_shapes():
    state = meta_states("resnet", 18)
    with torch.device("meta"):
        network = build_depth_network("resnet", 18)
        state["encoder"]["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    words = "has conv1.weight of shape (64, 3, 3, 3), not (64, 3, 7, 7)"
    with pytest.raises(UserError, match="m.pth does not fit: .* `encoder` " + escape(words)):
        load_parts(network.parts(), state, "m.pth")


def test_depth_decoders_of_another_backbone_are_refused():
    state = meta_states("resnet", 18)
    with torch.device("meta"):
        depth = build_depth_network("hrnet", 18).depth
    with pytest.raises(UserError, match=r"m.pth does not fit: its network `depth` has decoder\."):
        load_parts({"depth": depth}, state, "m.pth")


def test_pose_networks_of_other_inputs_are_refused():
    with torch.device("meta"):
        two, three = build_pose_network(18), build_pose_network(18, num_input_frames=3)
        state = {name: part.state_dict() for name, part in three.parts().items()}
    words = "`pose_encoder` has encoder.conv1.weight of shape (64, 9, 7, 7), not (64, 6, 7, 7)"
    with pytest.raises(UserError, match=escape(words)):
        load_parts(two.parts(), state, "m.pth")


def test_missing_network_is_named():
    with pytest.raises(UserError, match=r"m.pth holds no network `pose`, only encoder, depth"):
        load_parts({"pose": nn.Linear(1, 1)}, small_state(), "m.pth")


def test_missing_file_and_folder(tmp_path):
    assert refuse(tmp_path / "none.pth") == f"there is no checkpoint {tmp_path / 'none.pth'}"
    assert "is a folder: give the checkpoint file" in refuse(tmp_path)


def test_monodepth2_folder_is_refused_with_the_reason(tmp_path):
    for name in ("encoder.pth", "depth.pth", "pose.pth"):
        torch.save({"w": torch.zeros(1)}, tmp_path / name)
    assert "is a Monodepth2 model folder: its decoder is another network" in refuse(tmp_path)
    assert "not a checkpoint of this project" in refuse(tmp_path / "encoder.pth")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 0.999])
def test_truncated_file(tmp_path, share):
    path = tmp_path / "ckpt.pth"
    save_checkpoint(path, small_state(depth={"w": torch.rand(10_000)}))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged or truncated" in refuse(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"a": 1, "b": 2},
        {"encoder": 3, "depth": 4},
        {"encoder": {"w": 1}, "depth": {"w": 2}},
        {"encoder": {}},
        {"encoder": {0: torch.zeros(1)}},
        {"conv1.weight": torch.zeros(1)},
        torch.zeros(3),
    ],
    ids=["list", "ints", "named ints", "int dicts", "empty", "numbered", "one network", "tensor"],
)
def test_foreign_torch_files(tmp_path, content):
    path = tmp_path / "ckpt.pth"
    torch.save(content, path)
    assert "is not a checkpoint of this project" in refuse(path)


def test_files_with_objects_or_of_other_programs(tmp_path):
    path = tmp_path / "ckpt.pth"
    torch.save(small_state(thing=Thing()), path)
    assert "is not a checkpoint" in refuse(path)
    pickled = pickle.dumps(Thing(), protocol=2)
    for content in (pickled, b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello\n", b"\xff" * 9):
        path.write_bytes(content)
        assert "is not a checkpoint" in refuse(path)


def test_a_failed_save_leaves_the_previous_file(tmp_path):
    path = tmp_path / "ckpt.pth"
    save_checkpoint(path, small_state(epoch=1))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, small_state(epoch=2, bad=lambda: None))
    assert load_checkpoint(path)["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["ckpt.pth"]


def test_a_full_disk_is_one_sentence_and_leaves_the_previous_file(tmp_path):
    path = tmp_path / "ckpt.pth"
    save_checkpoint(path, small_state(epoch=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*ckpt\.pth: the disk is full, or "):
            save_checkpoint(path, small_state(epoch=2, big=torch.rand(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(path)["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["ckpt.pth"]


def test_a_name_too_long_is_one_sentence(tmp_path):
    assert "File name too long" in refuse(tmp_path / ("a" * 300))


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*ckpt\.pth"):
        save_checkpoint(tmp_path / "file" / "ckpt.pth", small_state())


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "ckpt.pth"
    save_checkpoint(path, small_state())

    def denied(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refuse(path) == f"cannot read the checkpoint {path}: Permission denied"


# ---- the file before ----------------------------------------------------------------------------


def damage(path: Path) -> None:
    """Turn one byte over, in the middle of a tensor's values."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 7.0).numpy().tobytes()) + 100] ^= 255
    path.write_bytes(content)


def numbered(number: int) -> dict:
    return small_state(step=number, values=torch.full((64,), 7.0))


def test_the_previous_file_is_kept(tmp_path):
    path = tmp_path / "ckpt.pth"
    for number in range(3):
        save_checkpoint(path, numbered(number), keep_previous=True)
    assert load_checkpoint(path)["step"] == 2
    assert load_checkpoint(previous_path(path))["step"] == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ckpt.pth", "ckpt_previous.pth"]


def test_without_hard_links_the_previous_file_is_kept_too(tmp_path, monkeypatch):
    def refuse_links(*_):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr("os.link", refuse_links)
    test_the_previous_file_is_kept(tmp_path)


def test_dying_between_the_names_leaves_two_names_of_one_file(tmp_path, monkeypatch):
    """The worst moment: the old file has its second name, the new one not yet its first."""
    path = tmp_path / "ckpt.pth"
    save_checkpoint(path, numbered(0), keep_previous=True)

    def die(*_):
        raise OSError(errno.EIO, "gone")

    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda a, b: die() if Path(b) == path else replace(a, b))
        with pytest.raises(UserError):
            save_checkpoint(path, numbered(1), keep_previous=True)
    assert load_checkpoint(path)["step"] == load_checkpoint(previous_path(path))["step"] == 0
    save_checkpoint(path, numbered(2), keep_previous=True)
    assert load_checkpoint(previous_path(path))["step"] == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_one_turned_byte_is_found(tmp_path):
    path = tmp_path / "ckpt.pth"
    save_checkpoint(path, numbered(0))
    damage(path)
    assert "values" in torch.load(path, weights_only=True)  # torch does not look
    assert "damaged" in refuse(path)


@pytest.mark.parametrize("how", ["turned", "truncated", "empty", "missing"])
def test_a_damaged_newest_file_falls_back(tmp_path, how):
    path = tmp_path / "ckpt.pth"
    for number in range(2):
        save_checkpoint(path, numbered(number), keep_previous=True)
    if how == "turned":
        damage(path)
    elif how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 500 if how == "truncated" else 0])
    state, warning = load_newest(path)
    assert state["step"] == 0
    assert str(path) in warning
    assert f"going on from {previous_path(path)}" in warning
    damage(previous_path(path))
    with pytest.raises(UserError, match="previous"):
        load_newest(path)


def test_a_whole_newest_file_gives_no_warning(tmp_path):
    save_checkpoint(tmp_path / "ckpt.pth", numbered(0))
    state, warning = load_newest(tmp_path / "ckpt.pth")
    assert (state["step"], warning) == (0, None)


def test_a_snapshot_shares_nothing():
    weight = torch.ones(3, requires_grad=True)
    state = {"a": {"w": weight}, "list": [weight, 2], "pair": (1, weight), "x": None}
    copy = snapshot(state)
    with torch.no_grad():
        weight.zero_()
    assert copy["x"] is None
    assert copy["list"][1] == 2
    for each in (copy["a"]["w"], copy["list"][0], copy["pair"][1]):
        assert_close(each, torch.ones(3))
        assert not each.requires_grad


def test_partial_files_of_killed_processes_go_and_others_stay(tmp_path):
    killed = (".ckpt.abc.partial.pth", ".model3.x_y.partial.pth", ".ckpt.previous.partial.pth")
    others = ("ckpt.pth", "my.partial.pth", ".hidden.pth")
    for name in (*killed, *others):
        (tmp_path / name).write_bytes(b"")
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
