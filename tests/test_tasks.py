"""Tasks: progress seen from outside, Cancel heard at the next report, errors handed to who waits."""

import threading

import pytest

from tlapp.tasks import Cancelled, Task


def test_the_answer_and_the_last_progress_are_seen():
    def work(report):
        report(1, 4)
        report(4, 4)
        return "done"

    task = Task(work)
    assert task.result() == "done"
    assert (task.done, task.total) == (4, 4)


def test_cancel_ends_the_work_at_its_next_report():
    begun, go_on, after = threading.Event(), threading.Event(), []

    def work(report):
        report(0, 2)
        begun.set()
        assert go_on.wait(10)
        report(1, 2)
        after.append("never")

    task = Task(work)
    assert begun.wait(10)
    assert not task.wait(0)
    task.cancel()
    go_on.set()
    with pytest.raises(Cancelled):
        task.result()
    assert not after


def test_an_error_reaches_who_asks_for_the_answer():
    def work(report):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Task(work).result()
