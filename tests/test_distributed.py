"""Where a process stands, and exchange between two of them."""

from __future__ import annotations

import os
import socket
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from distributed import (
    World,
    gather_objects,
    init_world,
    leave_world,
    mean_over_ranks,
    pick_device,
    run_on_main,
)
from utils import UserError

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_a_process_stands_alone():
    world = init_world(no_cuda=True)
    assert world == World(0, 1, 0, torch.device("cpu"))
    assert world.is_main
    assert run_on_main(world, lambda: 5) == 5
    assert gather_objects(world, "a") == ["a"]
    values = {"x": torch.tensor(1.5), "y": torch.tensor(2, dtype=torch.int64)}
    assert mean_over_ranks(world, values) == {"x": 1.5, "y": 2.0}
    leave_world(world)


def test_only_rank_0_is_main():
    assert not World(1, 2).is_main


def test_the_environment_wins_over_the_flags_of_old_launchers(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert init_world(no_cuda=True, local_rank=1).local_rank == 3
    monkeypatch.delenv("LOCAL_RANK")
    assert init_world(no_cuda=True, local_rank=1).local_rank == 1


@pytest.mark.parametrize("available", [True, False])
def test_devices(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device(no_cuda=True, local_rank=1) == torch.device("cpu")
    expected = torch.device("cuda", 1) if available else torch.device("cpu")
    assert pick_device(local_rank=1) == expected


def full_disk() -> None:
    raise UserError("the disk is full")


def one_of_two(rank: int, port: int, results) -> None:
    """What each of two processes does; what it saw goes into `results`."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world = init_world(no_cuda=True)
    try:
        run_on_main(world, full_disk)
    except UserError as error:  # raised by the main process, heard of by both
        heard = str(error)
    seen = gather_objects(world, {"rank": rank, "shard": list(range(rank + 1))})
    means = mean_over_ranks(world, {"a": torch.tensor(rank * 4.0), "b": torch.tensor(1.0)})
    results[rank] = (world.rank, world.size, seen, means, heard)
    leave_world(world)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def flagged(rank: int, port: int, results) -> None:
    """One of two processes that are told by flags which they are, not by the environment."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    warnings.simplefilter("error", FutureWarning)
    world = init_world(no_cuda=True, local_rank=rank, rank=rank, size=2)
    results[rank] = (dist.get_rank(), dist.get_world_size(), gather_objects(world, world.rank))
    leave_world(world)


def test_flags_alone_join_the_processes():
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(flagged, (free_port(), results), nprocs=2)
        assert dict(results) == {rank: (rank, 2, [0, 1]) for rank in range(2)}


def test_two_processes_share_values_of_any_size():
    port = free_port()
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(one_of_two, (port, results), nprocs=2)
        results = dict(results)
    shards = [{"rank": 0, "shard": [0]}, {"rank": 1, "shard": [0, 1]}]
    for rank in range(2):
        assert results[rank] == (rank, 2, shards, {"a": 2.0, "b": 1.0}, "the disk is full")
