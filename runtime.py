"""How fast against how exact: every setting of that kind, chosen for speed, in one place.

`--deterministic` trades it back: equal runs on one machine then have equal bits, on CUDA as far as
torch has such kernels (it warns of the others). On the CPU they are equal either way.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from freed_memory import keep_freed_memory
from stopping import outlive_signals
from utils import UserError

if TYPE_CHECKING:
    from argparse import Namespace

AMP_TYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """Settings of the backends and of the loader; the defaults are the fast ones.

    benchmark: let cuDNN time its algorithms, once a size. tf32: 10 bits of mantissa in float32
    convolutions on the GPUs that have it; never in products, of which geometry is made.
    channels_last: channels innermost in the networks' memory, as the CPU's kernels want it. The
    rest is in `loader` and `Trainer`: copies to the device do not block, and come from pinned
    memory.
    """

    device: torch.device
    deterministic: bool = False
    tf32: bool = True
    amp: str = "off"
    channels_last: bool = False
    prefetch: int = 2  # batches that each worker prepares ahead

    @classmethod
    def choose(cls, opt: Namespace, device: torch.device) -> Runtime:
        """From the options of train.py. Raises UserError for what the device cannot do."""
        if opt.amp == "fp16" and device.type != "cuda":
            raise UserError("--amp fp16 is for CUDA GPUs: on the CPU, bf16 is there")
        channels_last = opt.channels_last or device.type == "cpu"
        return cls(device, opt.deterministic, not opt.no_tf32, opt.amp, channels_last)

    def apply(self) -> None:
        """Set torch's switches for this process."""
        torch.backends.cudnn.benchmark = not self.deterministic
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cuda.matmul.allow_tf32 = False  # geometry would be off by half a pixel
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        if self.device.type == "cpu":
            keep_freed_memory()

    def loader(self, num_workers: int) -> dict[str, Any]:
        """Keyword arguments of a DataLoader."""
        settings: dict[str, Any] = {
            "num_workers": num_workers,
            "pin_memory": self.device.type == "cuda",
        }
        if num_workers:
            settings |= {
                "persistent_workers": True,
                "prefetch_factor": self.prefetch,
                "worker_init_fn": outlive_signals,
            }
        return settings

    @property
    def amp_type(self) -> torch.dtype | None:
        """What networks compute in, None: float32."""
        return AMP_TYPES[self.amp]

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients of fp16 above 0; does nothing in the other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")

    @property
    def patience(self) -> int:
        """Steps in a row whose gradients may overflow: the scaler's way down from a large scale."""
        return 20 if self.amp == "fp16" else 0

    def describe(self) -> str:
        """The settings in words, for the log."""
        told = [f"amp {self.amp}"]
        if self.device.type == "cuda":
            told += [
                f"TF32 {'on' if self.tf32 else 'off'}",
                f"cudnn.benchmark {'off' if self.deterministic else 'on'}",
            ]
        return ", ".join([*told, *(["deterministic"] if self.deterministic else [])])


def compile_networks(networks: dict[str, nn.Module], device: torch.device) -> None:
    """Let torch.compile make each network's forward, in place: names of tensors stay.

    Raises UserError where the CPU's compiler is missing, which torch would find at the first step.
    """
    compilers = [os.environ.get("CXX", "g++"), "g++", "clang++", "cl"]
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise UserError("--compile needs a C++ compiler on the CPU, such as g++: there is none")
    for network in networks.values():
        network.compile()
