"""What a training step asks of the device: few operators, and nothing that it would wait for."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import augmentations
from benchmarks.stepping import Side, operators_outside
from distributed import World
from options import train_options
from tests.tiny_kitti import arguments, write_kitti
from trainer import Trainer

# Operators whose result the CPU must know before it can go on: values of tensors, and shapes that
# follow from them; and numbers of Python's that become tensors, which a GPU is sent.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_dim", "equal",
           "index by mask", "lift_fresh")  # fmt: skip


class Operators(TorchDispatchMode):
    """Counts the operators that are dispatched, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("index", "index_put", "index_put_") and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        ):
            name = "index by mask"
        self.count[name] += 1
        return function(*args, **(kwargs or {}))


def waiting(operators: Operators) -> dict[str, int]:
    return {name: count for name, count in operators.count.items() if name in WAITING}


def test_waits_are_seen():
    with Operators() as operators:
        if torch.ones(3).sum() > 2:
            torch.ones(3)[torch.ones(3) > 0].tolist()
        torch.ones(3).new_tensor([1.0])
    assert waiting(operators) == {"_local_scalar_dense": 1, "index by mask": 1, "lift_fresh": 1}


@pytest.mark.parametrize(
    "flags",
    [
        ("--use_stereo", "--num_scales", 2),
        ("--optimizer", "sgd", "--clip_grad", 1, "--accumulate", 2, "--amp", "bf16"),
        ("--predictive_mask", "--disable_automasking", "--pose_model_input", "all"),
    ],
)
def test_a_step_waits_for_nothing(tmp_path, monkeypatch, flags):
    root = write_kitti(tmp_path)
    trainer = Trainer(train_options(arguments(root, "run", "--no_eval", *flags)), World())
    trainer.log.close()
    trainer.networks.train()
    batches = list(trainer.loader)[: trainer.opt.accumulate]
    trainer.train_step(batches)
    # What runs on the CPU do otherwise:
    monkeypatch.setattr(trainer, "_look_before", lambda *_: None)
    monkeypatch.setattr(augmentations, "_jitter_each", augmentations._jitter_batch)
    monkeypatch.setattr(augmentations, "_view_by_view", augmentations._views_at_once)
    read: Counter[str] = Counter()
    for name in ("tolist", "item", "cpu", "numpy"):  # not operators where tensors are on the CPU
        method = getattr(torch.Tensor, name)

        def counting(tensor, *rest, name=name, method=method):
            read[name] += 1
            return method(tensor, *rest)

        monkeypatch.setattr(torch.Tensor, name, counting)
    with Operators() as operators:
        trainer.train_step(batches)
    assert operators.count["convolution"] > 0
    assert waiting(operators) == {}
    assert read == {"tolist": len(batches)}  # the samples' numbers, which never leave the CPU


def test_half_a_textbook_s_operators_outside_the_networks():
    """A GPU is asked for each of them; as many at any size."""
    ours, textbook = Side("resnet", (64, 128), ()), Side("resnet", (64, 128), None)
    assert ours.run() == pytest.approx(textbook.run(), rel=1e-4)
    count = operators_outside(ours.step, ours.inputs)
    assert 100 < count <= operators_outside(textbook.step, textbook.inputs) / 2


def test_checkpointed_decoders_give_equal_gradients_and_keep_less(tmp_path):
    root = write_kitti(tmp_path)
    kept, gradients = [], []
    for name, flags in (("plain", ()), ("saving", ("--checkpoint_activations",))):
        trainer = Trainer(train_options(arguments(root, name, "--no_eval", *flags)), World())
        trainer.log.close()
        trainer.networks.train()
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor, sizes=sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(0)
        batch = next(iter(trainer.loader))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            terms, _ = trainer.networks(batch)
        terms["loss"].backward()
        kept.append(sum(sizes.values()))
        gradients.append([each.grad for each in trainer.networks.parameters()])
    assert kept[1] < 0.9 * kept[0]
    for plain, saving in zip(*gradients, strict=True):
        torch.testing.assert_close(saving, plain)
