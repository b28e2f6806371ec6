"""Work on the side: in order, never in the way, and its failures told."""

from __future__ import annotations

import threading

import pytest

from background import AHEAD, Background


def test_work_is_done_in_order_while_the_caller_goes_on():
    gate, done = threading.Event(), []
    with Background() as background:
        background.submit(gate.wait)
        background.submit(lambda: done.append(1))
        assert done == []  # the caller is here, the work behind the gate
        gate.set()
        background.submit(lambda: done.append(2))
        background.finish()
        assert done == [1, 2]


def test_only_so_much_work_may_wait():
    gate, reached = threading.Event(), threading.Event()

    def fill(background):
        for _ in range(AHEAD + 1):
            background.submit(gate.wait)
        reached.set()

    with Background() as background:
        caller = threading.Thread(target=fill, args=(background,))
        caller.start()
        assert not reached.wait(0.1)
        gate.set()
        assert reached.wait(10)
        caller.join()


def fail(message):
    raise ValueError(message)


def test_a_failure_comes_out_once_and_later_work_is_still_done():
    done = []
    with Background() as background:
        background.submit(lambda: fail("first"))
        background.submit(lambda: fail("second"))
        background.submit(lambda: done.append(1))
        with pytest.raises(ValueError, match="first"):
            background.finish()
        assert done == [1]
        background.check()


def test_leaving_waits_and_raises_what_failed():
    with pytest.raises(ValueError, match="full"), Background() as background:
        background.submit(lambda: fail("full"))


def test_a_failure_does_not_hide_what_stopped_the_run(caplog):
    def run():
        with Background() as background:
            background.submit(lambda: fail("full"))
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert "full" in caplog.text
