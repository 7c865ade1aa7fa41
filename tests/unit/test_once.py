"""One object per process: created once, replaced when it no longer works, forgotten in a forked child."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from pytest_netns.kernel.system import forking, once


class Thing:
    """An object of which a process has one, and the calls on each."""

    made: ClassVar[list[Thing]] = []

    def __init__(self) -> None:
        self.works = True
        self.ended = ""
        self.made.append(self)

    def close(self) -> None:
        self.ended += "closed "

    def abandon(self) -> None:
        self.ended += "abandoned "

    def dismiss(self) -> None:
        self.ended += "dismissed "

    def is_alive(self) -> bool:
        return self.works


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Thing]:
    """The objects created in this test."""
    things: list[Thing] = []
    monkeypatch.setattr(Thing, "made", things)
    return things


def in_child(check: Callable[[], bool]) -> bool:
    """Whether something holds in a forked child."""
    pid = forking.fork()
    if not pid:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_made_on_first_use_and_kept(made: list[Thing]) -> None:
    """Nothing is created before the first use; then all users get the same."""
    thing = once.PerProcess(Thing, close=Thing.close)
    assert thing.current is None
    assert made == []
    first = thing.get()
    assert thing.get() is first is thing.current
    assert made == [first]
    thing.close()


def test_closed_once_and_made_again(made: list[Thing]) -> None:
    """Closing ends it once; closing one that was never created does nothing; the next use creates another."""
    thing = once.PerProcess(Thing, close=Thing.close)
    thing.close()
    first = thing.get()
    thing.close()
    thing.close()
    assert thing.current is None
    assert first.ended == "closed "
    assert thing.get() is not first
    thing.close()
    assert [each.ended for each in made] == ["closed ", "closed "]


def test_a_dead_one_is_replaced(made: list[Thing]) -> None:
    """One that no longer works is dismissed and replaced at its next use, not before."""
    thing = once.PerProcess(Thing, close=Thing.close, is_alive=Thing.is_alive, dismiss=Thing.dismiss)
    first = thing.get()
    assert thing.get() is first
    first.works = False
    assert thing.current is first
    second = thing.get()
    assert second is not first
    assert first.ended == "dismissed "
    assert second.ended == ""
    thing.close()


def test_a_dead_one_is_closed_if_there_is_no_other_way(made: list[Thing]) -> None:
    """Without its own way to end a dead one, it is closed."""
    thing = once.PerProcess(Thing, close=Thing.close, is_alive=Thing.is_alive)
    thing.get().works = False
    thing.get()
    thing.close()
    assert [each.ended for each in made] == ["closed ", "closed "]


def test_a_refusal_is_not_kept() -> None:
    """If it cannot be created, the error reaches the caller, and the next use tries again."""
    answers: Iterator[OSError | Thing] = iter([OSError("refused"), Thing()])

    def make() -> Thing:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    thing = once.PerProcess(make, close=Thing.close)
    with pytest.raises(OSError, match="refused"):
        thing.get()
    assert thing.current is None
    assert thing.get() is thing.current
    thing.close()


def test_one_that_does_not_end_is_kept() -> None:
    """If ending it fails, for example because a signal handler raises in it, it can be ended again."""

    def close(thing: Thing) -> None:
        if not thing.ended:
            thing.ended = "half closed "
            raise KeyboardInterrupt
        thing.close()

    thing = once.PerProcess(Thing, close=close)
    first = thing.get()
    with pytest.raises(KeyboardInterrupt):
        thing.close()
    assert thing.current is first
    thing.close()
    assert first.ended == "half closed closed "
    assert thing.current is None


def test_many_threads_get_the_same(made: list[Thing]) -> None:
    """Threads that first use it at the same time get the same one."""
    begin = threading.Barrier(8)
    slow = threading.Event()

    def make() -> Thing:
        slow.wait(0.02)
        return Thing()

    thing = once.PerProcess(make, close=Thing.close)
    got: list[Thing] = []

    def use() -> None:
        begin.wait(10)
        got.append(thing.get())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == [made[0]] * 8
    assert len(made) == 1
    thing.close()


def test_used_again_while_it_is_made(made: list[Thing]) -> None:
    """Creating it may use it, as a signal handler does: that does not deadlock."""
    inner: list[Thing] = []

    def make() -> Thing:
        if not inner:
            inner.append(Thing())
            inner.append(thing.get())
        return Thing()

    thing = once.PerProcess(make, close=Thing.close)
    assert thing.get() is made[-1]
    thing.close()


@pytest.mark.parametrize(("abandon", "ended"), [(Thing.abandon, "abandoned "), (None, "closed ")])
def test_a_forked_child_forgets_it(made: list[Thing], abandon: Callable[[Thing], None] | None, ended: str) -> None:
    """A forked child closes its copy of the parent's, and creates its own; the parent keeps its own."""
    thing = once.PerProcess(Thing, close=Thing.close, abandon=abandon)
    first = thing.get()
    assert in_child(lambda: thing.current is None and first.ended == ended and thing.get() is not first)
    assert thing.get() is first
    assert first.ended == ""
    thing.close()


def test_a_child_is_free_of_a_lock_that_a_thread_held(made: list[Thing]) -> None:
    """A child forked while another thread creates it does not wait for that thread, which it lacks."""
    making, go_on = threading.Event(), threading.Event()

    def make() -> Thing:
        if threading.current_thread() is thread:
            making.set()
            go_on.wait(10)
        return Thing()

    thing = once.PerProcess(make, close=Thing.close)
    thread = threading.Thread(target=thing.get)
    thread.start()
    assert making.wait(10)
    assert in_child(lambda: thing.get() is thing.current)
    go_on.set()
    thread.join(10)
    assert thing.current is made[0]
    thing.close()


def test_closed_when_the_process_exits() -> None:
    """At the end of the process those still open are closed, in reverse order of creation."""
    code = (
        "from pytest_netns.kernel.system.once import PerProcess\n"
        "class Thing:\n"
        "    def __init__(self, name): self.name = name\n"
        "    def close(self): print(self.name)\n"
        "def per_process(name): return PerProcess(lambda: Thing(name), close=Thing.close)\n"
        "first, second, third, unused = map(per_process, ('first', 'second', 'third', 'unused'))\n"
        "for each in (first, second, third): each.get()\n"
        "second.close()\n"
        "print('end')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == ["second", "end", "third", "first"]
