"""One training step: time, what of it is not convolution, memory, operators.

Each side steps in a process of its own, the processes in turns. Time is the clock's here, on two
threads: run it on a quiet machine.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torchvision.transforms.functional import to_tensor

from assembly import build_training_step, place
from augmentations import draw_jitter, reshuffle
from benchmarks.material import picture
from benchmarks.measure import Effort, Result, Spread, Target
from benchmarks.textbook_step import TextbookStep
from benchmarks.turns import Answers, ask, in_turns, side_processes
from datasets.keys import FrameKey
from datasets.kitti_dataset import NOMINAL_INTRINSICS
from distributed import World
from networks.depth_decoder import Lateral, UpConv
from optimisation import build_optimizer
from options import train_options
from runtime import Runtime, compile_networks
from training_step import Inputs, TrainingStep, prepare
from utils import UserError

BATCH, THREADS = 2, 2
JUDGED = (192, 640)
FRAMES = (0, -1, 1)
REST = Target(0.5, at_most=True, bound=0.9, reason=(
    "in HRNet most of it is timm's backbone: 958 batch norms, of which ours take the largest in "
    "half the time, and the ReLUs and sums between them, forward and back; in ResNet it is 0.45 to "
    "0.58 from run to run of a shared machine"
))
TOLERANCE = 1e-4  # between the losses of both sides, relative
# Operators that move no data: a GPU is not asked for them.
VIEWS = frozenset((
    "_unsafe_view", "alias", "as_strided", "detach", "expand", "permute", "select", "slice",
    "split", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view",
))  # fmt: skip


def measure_step(place: Path, effort: Effort) -> list[Result]:  # noqa: ARG001
    """Both augmentations, one scale, from pictures that are there to weights that have moved.

    On the CPU channels are last by default: that is the best of the settings, and has its target.
    """
    results = operator_rows()
    for backbone in effort.backbones:
        for size in effort.sizes:
            if size > JUDGED:
                continue  # three processes of HRNet would not fit into 24 GB
            judged = size == JUDGED
            results += step_rows(backbone, size, effort.repeats if judged else 2, judged)
    return results + (compiled_rows(effort.repeats) if effort.compiles else [])


def step_rows(backbone: str, size: Sequence[int], repeats: int, judged: bool) -> list[Result]:
    """Time and memory, of the defaults and with --checkpoint_activations."""
    sides = {"ours": (), "saving": ("--checkpoint_activations",), "textbook": None}
    said = asked(sides, backbone, size, repeats)
    name = f"{backbone} {size[1]}x{size[0]}"

    def row(
        what: str, key: str, unit: str, side: str = "ours", target: Target | None = None
    ) -> Result:
        return Result(f"step: {what}", name, unit, said[side][key], said["textbook"][key],
                      target if judged else None)  # fmt: skip

    return [
        row("whole", "step", "s", target=Target(0.75, at_most=True)),
        row("what is no convolution", "rest", "s", target=REST),
        row("convolutions", "convolution", "s"),
        row("peak memory", "peak", "MB", target=Target(0.75, at_most=True)),
        row("peak memory, --checkpoint_activations", "peak", "MB", "saving",
            Target(0.6, at_most=True)),
        row("whole, --checkpoint_activations", "step", "s", "saving"),
    ]


def compiled_rows(repeats: int) -> list[Result]:
    """Time of a compiled step: reported, the CPU has nothing of it."""
    sides = {"ours": ("--compile",), "textbook": None}
    said = asked(sides, "resnet", JUDGED, repeats, parts=False)
    return [Result("step: whole, --compile", f"resnet {JUDGED[1]}x{JUDGED[0]}", "s",
                   said["ours"]["step"], said["textbook"]["step"])]  # fmt: skip


# ---- sides -----------------------------------------------------------------------------------


class Side:
    """Networks, optimiser and inputs of one side; equal for both but for how they are used.

    flags: of train.py, for ours; None: the textbook's. Only ours sets the process up.
    """

    def __init__(self, backbone: str, size: Sequence[int], flags: Sequence[str] | None) -> None:
        options = ["--data_path", "", "--backbone", backbone, "--no_cuda",
                   "--height", str(size[0]), "--width", str(size[1])]  # fmt: skip
        opt = train_options([*options, *(flags or ())])
        runtime = Runtime.choose(opt, torch.device("cpu"))
        torch.manual_seed(opt.seed)
        step = build_training_step(opt, pretrained=False)
        self.inputs = made_up_inputs(*size)
        if flags is None:
            self.step: nn.Module = textbook_of(step)
            self.optimizer = torch.optim.AdamW(self.step.parameters(), opt.learning_rate)
        else:
            runtime.apply()
            self.step = place(step, World(), runtime.channels_last)
            if opt.compile:
                compile_networks(self.step.parts(), runtime.device)
            self.optimizer = build_optimizer("adamw", self.step.parameters(), opt.learning_rate,
                                             opt.weight_decay)  # fmt: skip
        self.step.train()

    def loss(self) -> Tensor:
        """Of the inputs, as the weights are now."""
        return loss_of(self.step, self.inputs)

    def run(self) -> float:
        """One step; returns the loss before it."""
        torch.manual_seed(0)  # the noise of the auto-mask
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def loss_of(step: nn.Module, inputs: Inputs) -> Tensor:
    """The loss of either side's step."""
    if isinstance(step, TextbookStep):
        return step(inputs)
    return step.objective.total(step.score(inputs)[0])


def textbook_of(step: TrainingStep) -> TextbookStep:
    """A textbook's step with the same weights; its decoder's blocks are modules one by one."""
    depth, pose = copy.deepcopy(step.depth_network), copy.deepcopy(step.pose_network)
    for place_, block in enumerate(depth.depth.decoder):
        if isinstance(block, (Lateral, UpConv)):
            depth.depth.decoder[place_] = nn.Sequential(*block)
    return TextbookStep(depth, pose, FRAMES)


def made_up_inputs(height: int, width: int) -> Inputs:
    """Prepared inputs of BATCH samples: three views of a drive, and the draws of its views."""

    def pictures(first: int) -> Tensor:
        made = [picture(first + b, height, width) for b in range(BATCH)]
        return torch.stack([to_tensor(each) for each in made])

    full = {(frame, 0): pictures(10 * i) for i, frame in enumerate(FRAMES)}
    local = {(frame, 0): pictures(10 * i + 5) for i, frame in enumerate(FRAMES)}
    fx, fy, cx, cy = NOMINAL_INTRINSICS
    K = torch.tensor([[fx * width, 0, cx * width, 0], [0, fy * height, cy * height, 0],
                      [0, 0, 1, 0], [0, 0, 0, 1]])  # fmt: skip
    crops = [[r, int(height * r), int(width * r), height // 10, width // 10] for r in (1.5, 1.25)]
    cut = torch.tensor([[height // 3, width // 3], [height // 2, width // 4]])
    return Inputs(
        full,
        {frame: full[frame, 0] for frame in FRAMES},
        K.repeat(BATCH, 1, 1),
        torch.linalg.inv(K).repeat(BATCH, 1, 1),
        local,
        local[0, 0],
        reshuffle(full[0, 0], cut),
        torch.tensor(crops, dtype=torch.float64),
        cut,
    )


# ---- processes in turns ----------------------------------------------------------------------


def asked(
    sides: Mapping[str, Sequence[str] | None],
    backbone: str,
    size: Sequence[int],
    repeats: int,
    parts: bool = True,
) -> dict[str, dict[str, Spread]]:
    """What each side's steps took, see `answers`; sides: flags of train.py, None for the textbook.

    parts: also of what a step consists, and its memory. Raises UserError if losses differ.
    """
    builds = {name: partial(answers, backbone, size, flags) for name, flags in sides.items()}
    with side_processes(builds) as pipes:
        check_losses({name: ask(pipe, "warm up")["loss"] for name, pipe in pipes.items()})
        return in_turns(pipes, ("time", *(("parts", "memory") if parts else ())), repeats)


def check_losses(losses: Mapping[str, float]) -> None:
    """Raise UserError unless all sides compute the same."""
    values = list(losses.values())
    if not all(abs(value - values[0]) <= TOLERANCE * abs(values[0]) for value in values):
        raise UserError(f"the sides' losses differ by more than {TOLERANCE:g} of them: {losses}")


def answers(backbone: str, size: Sequence[int], flags: Sequence[str] | None) -> Answers:
    """A side's, in its process."""
    torch.set_num_threads(THREADS)
    side = Side(backbone, size, flags)
    return {
        "warm up": lambda: warm_up(side),
        "time": lambda: seconds(side),
        "parts": lambda: time_parts(side),
        "memory": lambda: peak_memory(side),
    }


def warm_up(side: Side) -> dict[str, float]:
    """Two steps, of which the first one's loss is told."""
    loss = side.run()
    side.run()
    return {"loss": loss}


def seconds(side: Side) -> dict[str, float]:
    """Of one step."""
    start = time.perf_counter()
    side.run()
    return {"step": time.perf_counter() - start}


def time_parts(side: Side) -> dict[str, float]:
    """Seconds within convolutions and within all other operators."""
    with Operators() as operators:
        side.run()
    convolution = sum(spent for name, spent in operators.seconds.items() if "conv" in name)
    return {"convolution": convolution,
            "rest": sum(operators.seconds.values()) - convolution}  # fmt: skip


def peak_memory(side: Side) -> dict[str, float]:
    """Megabytes of tensors that a step holds at most, beyond those that were there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        side.run()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return {"peak": peak / 2**20}


# ---- operators -------------------------------------------------------------------------------


class Operators(TorchDispatchMode):
    """Counts the operators that are dispatched and their seconds, by name, unless `paused`."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.is_paused = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        start = time.perf_counter()
        result = function(*args, **(kwargs or {}))
        if not self.is_paused:
            name = function.overloadpacket.__name__
            self.count[name] += 1
            self.seconds[name] += time.perf_counter() - start
        return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it nothing is counted."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    @property
    def work(self) -> int:
        """Operators that compute something: a view is none."""
        return sum(count for name, count in self.count.items() if name not in VIEWS)


class Apart(nn.Module):
    """A network that is not counted, and through which nothing goes back."""

    def __init__(self, network: nn.Module, operators: Operators) -> None:
        super().__init__()
        self.network, self.operators = network, operators

    def forward(self, *inputs: Any) -> Any:
        with self.operators.paused(), torch.no_grad():
            said = self.network(*inputs)
        return tree_map(lambda each: each.requires_grad_(), said)


def operators_outside(step: nn.Module, inputs: Inputs) -> int:
    """Operators that compute, forward and back, but for the networks'. Changes the step."""
    operators = Operators()
    depth = step.depth_network
    depth.encoder, depth.depth = Apart(depth.encoder, operators), Apart(depth.depth, operators)
    step.pose_network = Apart(step.pose_network, operators)
    with operators:
        loss_of(step, inputs).backward()
    return operators.work


def preparing_operators(height: int, width: int) -> int:
    """Operators that compute of `prepare`: what the textbook's workers do, on our device."""
    uniform = np.random.default_rng(0).random
    kinds = ("color", "color_local")
    batch: dict[Any, Tensor] = {
        FrameKey(kind, frame, 0): torch.zeros(BATCH, 3, height, width, dtype=torch.uint8)
        for kind in kinds for frame in FRAMES
    }  # fmt: skip
    batch["jitter"] = torch.tensor([draw_jitter(uniform) for _ in range(BATCH)])
    batch["cut"] = torch.tensor([[height // 3, width // 3]] * BATCH)
    with Operators() as operators:
        prepare(batch)
    return operators.work


def operator_rows() -> list[Result]:
    """Operators outside the networks, and those of the optimiser; a small input has as many."""
    size = (64, 128)
    ours, textbook = Side("resnet", size, ()), Side("resnet", size, None)
    rows = []
    for side in (ours, textbook):
        side.run()  # the optimiser makes its state
        side.loss().backward()
        with Operators() as operators:
            side.optimizer.step()
        rows.append([operators_outside(side.step, side.inputs), operators.work])
    extra = preparing_operators(*size)
    counts = [[Spread.of([float(count)]) for count in row] for row in rows]
    return [
        Result("step: operators outside networks", "", "operators", counts[0][0], counts[1][0],
               Target(0.5, at_most=True)),
        Result("step: the same, and our batch on its way to floats", "", "operators",
               Spread.of([counts[0][0].median + extra]), counts[1][0]),
        Result("step: operators of the optimiser", "resnet", "operators", counts[0][1],
               counts[1][1]),
    ]  # fmt: skip
