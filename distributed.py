"""Where this process stands among others, as a value; and the few things it does with them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """One process among `size`: its rank (over all machines), and the device it computes on."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    restarts: int = 0  # how often torchrun has started these processes anew (--max-restarts)
    launch: str = ""  # tells the torchrun that started them from another

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0


def init_world(
    no_cuda: bool = False, local_rank: int = 0, rank: int = 0, size: int = 1
) -> World:
    """Join the processes that a launcher started, or stand alone where none did.

    torchrun and torch.distributed.launch say in the environment which process this is; the
    arguments, which older launchers pass as flags, count where the environment has none.
    NCCL on CUDA, gloo on the CPU.
    """
    rank = int(os.environ.get("RANK", rank))
    size = int(os.environ.get("WORLD_SIZE", size))
    local_rank = int(os.environ.get("LOCAL_RANK", local_rank))
    device = pick_device(no_cuda, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    launch = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if launch:  # often "none": the process of the agent, which outlives restarts, tells two apart
        launch += f" {os.getppid()}"
    if size > 1 and not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        store = _store_of_this_life(rank, size, restarts)
        dist.init_process_group(backend, rank=rank, world_size=size, store=store)
        told = [(restarts, launch)] * size
        dist.all_gather_object(told, (restarts, launch))
        restarts = max(count for count, _ in told)  # an agent counts its own machine's deaths alone
        launch = ", ".join(sorted({agent for _, agent in told}))
    return World(rank, size, local_rank, device, restarts, launch)


def _store_of_this_life(rank: int, size: int, restarts: int) -> dist.Store | None:
    """Where processes that torchrun has started anew meet, apart from what the dead have left in
    the same store; None for the usual place.

    Several agents count differently: there, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives torchrun a
    new store at each restart.
    """
    if not restarts or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return None
    store, _, _ = next(dist.rendezvous("env://", rank, size))
    return dist.PrefixStore(f"life {restarts}", store)


def leave_world(world: World) -> None:
    """Close the process group, if there is one."""
    if world.size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def pick_device(no_cuda: bool = False, local_rank: int = 0) -> torch.device:
    """CUDA where there is a GPU, unless `no_cuda`; else the CPU."""
    if no_cuda or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def run_on_main(world: World, action: Callable[[], T]) -> T | None:
    """Let the main process do something, while the others wait; its exception is raised on all.

    Returns what `action` returned on the main process, None on the others.
    """
    result, error = None, None
    if world.is_main:
        try:
            result = action()
        except Exception as raised:  # every process must hear of it: they wait in the next line
            error = raised
    gather_outcomes(world, error)
    return result


def gather_outcomes(world: World, outcome: T | Exception) -> list[T]:
    """Every process's outcome, in the order of ranks; or the first exception among them, raised
    on every process, so that none waits for one that failed."""
    if world.size > 1 and isinstance(outcome, Exception):
        outcome = _portable(outcome)
    outcomes = gather_objects(world, outcome)
    for each in outcomes:
        if isinstance(each, Exception):
            raise each
    return outcomes


def _portable(error: Exception) -> Exception:
    """The error, or its text where other processes could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when it is pickled
        return RuntimeError(repr(error))
    return error


def gather_objects(world: World, value: T) -> list[T]:
    """Every process's value, in the order of ranks, on every process. Values are pickled."""
    if world.size == 1:
        return [value]
    values: list[T] = [value] * world.size
    dist.all_gather_object(values, value)
    return values


def mean_over_ranks(world: World, values: Mapping[str, Tensor]) -> dict[str, float]:
    """Each named scalar's mean over all processes, as numbers: one device wait for all of them."""
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if world.size > 1:
        dist.all_reduce(stacked)
    return dict(zip(values, (stacked / world.size).tolist(), strict=True))
