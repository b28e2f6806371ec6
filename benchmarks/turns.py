"""Sides of a comparison in processes of their own, which answer in turns.

What a side sets for its process (of the C library, say) does not count for the others.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from benchmarks.measure import Spread
from utils import UserError

# What a side answers to each question: measured values by name.
Answers = Mapping[str, Callable[[], Mapping[str, float]]]


@contextmanager
def side_processes(
    sides: Mapping[str, Callable[[], Answers]],
) -> Iterator[dict[str, Connection]]:
    """Pipes to `ask`, of each side; sides: what makes its answers, in its process; picklable."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    try:
        for name, build in sides.items():
            pipes[name], theirs = context.Pipe()
            workers.append(context.Process(target=serve, args=(theirs, build)))
            workers[-1].start()
            theirs.close()
        yield pipes
    finally:
        for pipe in pipes.values():
            pipe.close()  # which ends its process
        for worker in workers:
            worker.join()


def serve(pipe: Connection, build: Callable[[], Answers]) -> None:
    """A side's process: answers until its pipe is closed."""
    answers = build()
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        pipe.send(answers[question]())


def ask(pipe: Connection, question: str) -> Mapping[str, float]:
    """One question to a process. Raises UserError if it has ended."""
    try:
        pipe.send(question)
        return pipe.recv()
    except (EOFError, OSError) as error:
        message = f"a process of the benchmark ended while asked for {question}"
        raise UserError(message) from error


def in_turns(
    pipes: Mapping[str, Connection], questions: Sequence[str], repeats: int
) -> dict[str, dict[str, Spread]]:
    """Every side's answers to all questions, A B A B ..., by side and name of value."""
    said: dict[str, dict[str, list[float]]] = {name: {} for name in pipes}
    for _ in range(repeats):
        for question in questions:
            for name, pipe in pipes.items():
                for key, value in ask(pipe, question).items():
                    said[name].setdefault(key, []).append(value)
    return {name: {key: Spread.of(values) for key, values in each.items()}
            for name, each in said.items()}  # fmt: skip
