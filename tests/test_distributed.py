"""Where a process stands, and exchange between two of them."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp

from distributed import (
    World,
    barrier,
    gather_objects,
    init_world,
    leave_world,
    mean_over_ranks,
    pick_device,
)

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_a_process_stands_alone():
    world = init_world(no_cuda=True)
    assert world == World(0, 1, 0, torch.device("cpu"))
    assert world.is_main
    barrier(world)
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


def one_of_two(rank: int, port: int, results) -> None:
    """What each of two processes does; what it saw goes into `results`."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world = init_world(no_cuda=True)
    barrier(world)
    seen = gather_objects(world, {"rank": rank, "shard": list(range(rank + 1))})
    means = mean_over_ranks(world, {"a": torch.tensor(rank * 4.0), "b": torch.tensor(1.0)})
    results[rank] = (world.rank, world.size, seen, means)
    leave_world(world)


def test_two_processes_share_values_of_any_size():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(one_of_two, (port, results), nprocs=2)
        results = dict(results)
    shards = [{"rank": 0, "shard": [0]}, {"rank": 1, "shard": [0, 1]}]
    for rank in range(2):
        assert results[rank] == (rank, 2, shards, {"a": 2.0, "b": 1.0})
