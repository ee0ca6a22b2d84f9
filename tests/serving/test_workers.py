"""The threads: made on demand, and waited for where the system has none to give."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from bridge.serving import workers as module
from bridge.serving.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0


class StarvedWorkers(Workers):
    """Workers of a system that has but some threads to give."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.threads = threads

    def _start(self, job: Callable[[], None]) -> None:
        if self.count > self.threads:
            raise RuntimeError("can't start new thread")
        super()._start(job)


def test_a_thread_that_is_idle_is_used_again():
    workers = Workers()
    for _ in range(5):
        done = threading.Event()
        workers.submit(done.set)
        assert done.wait(PATIENCE)
        while not workers._idle:
            threading.Event().wait(0.001)
    assert workers.count == 1


def test_a_job_waits_for_a_thread_when_the_system_has_no_other():
    workers = StarvedWorkers(1)
    release, first, second = threading.Event(), threading.Event(), threading.Event()
    workers.submit(lambda: (first.set(), release.wait(PATIENCE)))
    assert first.wait(PATIENCE)
    waiting = threading.Thread(target=workers.submit, args=(second.set,))
    waiting.start()
    assert not second.is_set()
    release.set()
    assert second.wait(PATIENCE)
    waiting.join(PATIENCE)
    assert workers.count == 1


def test_a_job_that_never_gets_a_thread_is_an_error_not_a_silence(monkeypatch):
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    workers = StarvedWorkers(0)
    with pytest.raises(RuntimeError):
        workers.submit(lambda: None)
    assert workers.count == 0
