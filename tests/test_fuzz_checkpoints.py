"""Any file where a checkpoint is expected: it is loaded, or refused in one sentence."""

from __future__ import annotations

import math
import pickle
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

import inference
import pose_inference
from checkpoint import NETWORKS, load_checkpoint, load_parts
from networks import build_depth_network, build_pose_network
from tests.fuzzing import TREE, bytes_of, damaged, fuzz, outcome


class Tiny(nn.Module):
    """As small a network as can have everything that a state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)


TINY = {"encoder": Tiny(), "depth": Tiny()}
TINY_STATE = {name: part.state_dict() for name, part in TINY.items()} | {"height": 64, "width": 96}


def use_checkpoint(path: Path) -> None:
    """All that a foreign file goes through: the trainer's way, and the two predictors'."""
    state = outcome(load_checkpoint, path)
    if state is not None:
        outcome(load_parts, TINY, state, path)
        for part in TINY.values():
            part.__init__()
        outcome(inference.DepthPredictor.from_checkpoint, path)
        outcome(pose_inference.PosePredictor.from_checkpoint, path)


@pytest.fixture
def _built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "build_depth_network", cache(build_depth_network))
    monkeypatch.setattr(pose_inference, "build_pose_network", cache(build_pose_network))


@pytest.mark.usefixtures("_built_once")
@pytest.mark.parametrize("zipped", [True, False])
@fuzz(100)
@given(data=st.data())
def test_a_damaged_checkpoint_is_read_or_refused(tmp_path: Path, zipped: bool, data: st.DataObject):
    content = bytes_of(
        lambda file: torch.save(TINY_STATE, file, _use_new_zipfile_serialization=zipped)
    )
    path = tmp_path / "ckpt.pth"
    path.write_bytes(data.draw(damaged(content)))
    use_checkpoint(path)


DTYPES = (torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64, torch.bfloat16)
TENSOR = st.builds(
    torch.zeros, st.lists(st.integers(0, 3), max_size=4), dtype=st.sampled_from(DTYPES)
)
SETTINGS = ("height", "width", "min_depth", "max_depth", "backbone", "num_layers", "use_stereo")
TENSOR_NAMES = (
    *Tiny().state_dict(), "encoder.layer3.0.conv1.weight", "encoder.layer3.1.conv1.weight",
    "encoder.layer3", "encoder.layer3.", "encoder.conv1.weight", "total_ops", "", ".",
    "encoder.stage4.0.branches.0.0.conv1.weight",
)  # fmt: skip
SURPRISE = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), TENSOR,
        st.sampled_from([18, "resnet", "hrnet", 192, math.nan, -32, 2**70]),
    ),
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(TENSOR_NAMES), st.integers()), part, max_size=3),
    ),
)  # fmt: skip
NETWORK = st.one_of(
    SURPRISE, st.dictionaries(st.sampled_from(TENSOR_NAMES), TENSOR, min_size=1, max_size=4)
)
STATE = st.one_of(
    SURPRISE,
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(NETWORKS, NETWORK) | dict.fromkeys(SETTINGS, SURPRISE),
    ),
)


@pytest.mark.usefixtures("_built_once")
@fuzz(150)
@given(STATE)
@example({"encoder": {"encoder.stage4.0.branches.0.0.conv1.weight": torch.tensor(0.0)}})
def test_a_surprising_checkpoint_is_read_or_refused(tmp_path: Path, state: object):
    path = tmp_path / "ckpt.pth"
    torch.save(state, path)
    use_checkpoint(path)


@pytest.mark.usefixtures("_built_once")
@fuzz(10)
@given(
    values=st.dictionaries(st.sampled_from(SETTINGS), SURPRISE, max_size=3),
    part=st.sampled_from(["encoder", "depth"]),
    place=st.integers(0, 200),
    tensor=TENSOR,
)
def test_a_network_with_one_odd_tensor_is_read_or_refused(
    tmp_path: Path, values: dict, part: str, place: int, tensor: torch.Tensor
):
    """Loaded without values, on torch's device for that: a whole file takes 60 MB."""
    with torch.device("meta"):
        parts = build_depth_network("resnet", 18).parts()
    state = {name: module.state_dict() for name, module in parts.items()}
    name = list(state[part])[place % len(state[part])]
    state[part][name] = tensor
    path = tmp_path / "ckpt.pth"
    torch.save(state | values, path)
    use_checkpoint(path)


@fuzz(30)
@given(TREE)
def test_a_pickle_is_refused(tmp_path: Path, tree: object):
    path = tmp_path / "ckpt.pth"
    path.write_bytes(pickle.dumps(tree))
    outcome(load_checkpoint, path)
