"""Whatever happens on a run's thread is on the page within seconds, in a sentence; what was learned stays, and the app
goes on serving.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
import torch
from conftest import SIDES, fill, quick, until, watch
from sites import load, set_numbers

from tlapp import dataset, figures, jobs, memory, predict, recipe, train
from tlapp.events import EpochFinished, RunFailed, RunFinished
from tlapp.plan import instant
from tlapp.runs import Run
from tlapp.speed import Frozen
from tlapp.tasks import Task
from tlapp.ui import live, serve, shelf
from tlapp.ui.frame import Waiting

SECONDS = 5.0
"""From a fault to its sentence on the page."""


@pytest.fixture
def data(tmp_path, small_pictures):
    return dataset.scan(fill(tmp_path / "photos", SIDES))


class Tab:
    """What a page's timer asks for each second."""

    def __init__(self, url):
        self.http, self.drawn = httpx.Client(base_url=url, timeout=30), live.OLD
        config = self.http.get("config").json()
        (self.tick,) = [
            one["id"] for one in config["dependencies"]
            if any(event == "tick" for _, event in one["targets"]) and len(one["inputs"]) == 2
        ]  # fmt: skip

    def says(self, run):
        given = {"data": [run.id, self.drawn], "fn_index": self.tick, "session_hash": "visible"}
        answer = self.http.post("gradio_api/run/predict", json=given)
        assert answer.status_code == 200, answer.text
        _, self.drawn, said, *_ = answer.json()["data"]
        return said

    def waits_for(self, run, words):
        """Look once a second, as the page does, until it says so; what it says."""
        deadline = time.monotonic() + 2 * SECONDS
        while words not in (said := self.says(run)):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        return said


@pytest.fixture
def tab(served):
    made = Tab(served.url)
    yield made
    made.http.close()
    jobs.close()


@pytest.fixture
def breaks(monkeypatch):
    """breaks(error): after two epochs the training raises it; the list has the moment at which it did."""

    def arrange(error, name="train", module=train):
        real, raised = getattr(module, name), []

        def faulty(*given):
            for event in real(*given):
                yield event
                if isinstance(event, EpochFinished) and event.epoch == 2 and not raised:
                    raised.append(time.monotonic())
                    raise error

        monkeypatch.setattr(module, name, faulty)
        return raised

    return arrange


FAULTS = {
    "bug": (RuntimeError("shapes do not fit"), "fault of the program (RuntimeError)"),
    "exit": (SystemExit(1), "fault of the program (SystemExit)"),
    "interrupt": (KeyboardInterrupt(), "fault of the program (KeyboardInterrupt)"),
    "GPU memory": (
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        "The GPU&#x27;s memory did not suffice while the run was learning",
    ),
    "torch memory": (torch.OutOfMemoryError("XPU out of memory."), "memory did not suffice"),
    "Python memory": (MemoryError(), "This machine&#x27;s memory did not suffice while the run was learning"),
    "CPU memory": (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: not enough memory: you tried "
        ),
        "This machine&#x27;s memory did not suffice while the run was learning",
    ),
    "lost GPU": (RuntimeError("CUDA error: device-side assert triggered"), "Close tlapp and start it again"),
}


@pytest.mark.parametrize(("error", "words"), FAULTS.values(), ids=FAULTS)
def test_any_fault_is_on_the_page_within_seconds_and_the_best_is_kept(tab, data, breaks, error, words):
    raised = breaks(error)
    run = jobs.start(data, quick(data, epochs=4))
    said = tab.waits_for(run, words)
    assert time.monotonic() - raised[0] < SECONDS
    assert 'role="alert"' in said
    assert "The best weights, of epoch" in said
    assert "Traceback" not in said
    end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert end.best_epoch == run.report()["best_epoch"] in (1, 2)
    assert predict.load(run).classes == data.classes
    assert isinstance(watch(jobs.resume(run))[-1], RunFinished)  # and the same process goes on
    assert "tl-score" in tab.says(run)


def test_the_advice_names_settings_of_this_run_with_values_that_it_takes(data, breaks):
    breaks(torch.cuda.OutOfMemoryError("CUDA out of memory."))
    run = jobs.start(data, quick(data, epochs=4, batch_size=8, frozen=()))
    said = watch(run)[-1].message
    assert "batch_size to 2 (it is 8)" in said
    assert "frozen to more blocks" in said
    assert "precision to bfloat16" in said
    caching = memory.advice(MemoryError(), run.plan, "caching training views")
    assert caching.index("cache_mb to 16 (it is 64)") < caching.index("batch_size")
    assert "at this: caching training views" in caching
    exact = memory.advice(MemoryError(), instant(data), "")
    assert "batch_size" not in exact


def test_a_fault_of_the_instant_model_is_on_the_page(tab, data, monkeypatch):
    raised = []

    def faulty(*_):
        raised.append(time.monotonic())
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(recipe, "train", faulty)
    run = jobs.start(data, instant(data))
    tab.waits_for(run, "fault of the program (ZeroDivisionError)")
    assert time.monotonic() - raised[0] < SECONDS


def test_a_fault_while_the_model_is_saved_is_on_the_page_and_resume_mends_it(tab, data, monkeypatch):
    deliver, raised = Run.deliver, []

    def faulty(*_):
        raised.append(time.monotonic())
        raise RuntimeError("cannot be written")

    monkeypatch.setattr(Run, "deliver", faulty)
    run = jobs.start(data, quick(data))
    tab.waits_for(run, "fault of the program (RuntimeError)")
    assert time.monotonic() - raised[0] < SECONDS
    monkeypatch.setattr(Run, "deliver", deliver)
    assert isinstance(watch(jobs.resume(run))[-1], RunFinished)


def test_a_thread_that_cannot_even_write_its_end_is_told_of(tab, data, breaks, monkeypatch):
    append, raised = Run.append, breaks(OSError(28, "No space left on device"))

    def full(run, event):
        if isinstance(event, RunFailed):
            raise OSError(28, "No space left on device")
        append(run, event)

    monkeypatch.setattr(Run, "append", full)
    run = jobs.start(data, quick(data, epochs=4))
    tab.waits_for(run, "The disk is full")
    assert time.monotonic() - raised[0] < SECONDS
    monkeypatch.setattr(Run, "append", append)
    assert isinstance(watch(jobs.resume(run))[-1], RunFinished)


def test_an_open_page_shows_a_fault_within_seconds_of_itself(site, folder, breaks):
    raised = breaks(SystemExit(3))
    load(site, folder)
    set_numbers(site, epochs="9000", patience="0")
    site.locator("#train").click()
    site.locator("#status [role=alert]", has_text="fault of the program (SystemExit)").wait_for()
    assert time.monotonic() - raised[0] < SECONDS


def test_what_ends_a_task_of_itself_reaches_who_waits_in_a_sentence():
    def work(_):
        raise SystemExit(1)

    with pytest.raises(RuntimeError, match="SystemExit"):
        Task(work).result()
    told = list(Waiting("").follow(SimpleNamespace(session_hash="one"), work, lambda task: ""))
    assert "A fault of the program" in told[-1].words
    assert told[-1].over


# --- many tabs, a long life


def test_tabs_that_ask_at_the_same_moment_cost_one_look(home):
    looks = []
    shared = live.Shared(lambda *given: looks.append(given) or len(looks))
    with ThreadPoolExecutor(8) as tabs:
        said = set(tabs.map(lambda _: shared("run", ""), range(50)))
    assert said == {1}
    assert shared("another", "") == 2
    time.sleep(live.SECONDS / 2 + 0.05)
    assert shared("run", "") == 3


def test_what_is_kept_of_runs_has_a_bound(own_run, home, monkeypatch):
    monkeypatch.setattr(shelf, "RECORDS", 3)
    for number in range(2, 8):
        other = own_run.path.with_name(f"{number:04d}-aaaaaa")
        shutil.copytree(own_run.path, other)
        assert shelf.record(Run(other)).end is not None
    assert len(shelf._records) == 3
    assert shelf.record(own_run).epochs


def test_threads_that_have_ended_are_not_kept(data):
    for _ in range(3):
        watch(jobs.start(data, quick(data, epochs=1)))
    until(lambda: sum(thread.is_alive() for thread in jobs._own.values()) == 0)
    last = jobs.start(data, quick(data, epochs=1))
    assert set(jobs._own) == {last}
    watch(last)


def test_pages_that_were_opened_are_not_kept_for_ever(home, monkeypatch):
    monkeypatch.setattr(serve, "SESSIONS", 3)
    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML("a page")
    served = serve.launch(lambda: page, port=0, browser=False, wait=False)
    for number in range(6):
        assert page.state_holder[f"session-{number}"]
    assert list(page.state_holder.session_data) == ["session-3", "session-4", "session-5"]
    served.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux tells them")
def test_figures_drawn_on_threads_that_end_leave_no_file_open(tmp_path):
    def draw(number):
        matrix = np.array([[3, number], [1, 4]])
        thread = threading.Thread(target=figures.confusion, args=(matrix, ["reds", "blues"], tmp_path / "a.png"))
        thread.start()
        thread.join()

    draw(0)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(4):
        draw(number)
    assert len(os.listdir("/proc/self/fd")) <= before


# --- numbers that are none


def test_a_validation_loss_that_is_no_number_stops_with_a_lower_rate_and_keeps_the_best(data, monkeypatch):
    judge, epochs = train.judge, []

    def judged(model, source, *more):
        epochs.append(1)
        if len(epochs) == 3:  # weights that have become infinite, as a rate that is too high makes them
            with torch.no_grad():
                model.head.linear.weight.fill_(float("inf"))
        return judge(model, source, *more)

    monkeypatch.setattr(train, "judge", judged)
    run = jobs.start(data, quick(data, epochs=4))
    end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert "diverged" in end.message
    assert re.search(r"[Ll]ower the learning rate", end.message)
    assert end.best_epoch == run.report()["best_epoch"] in (1, 2)
    assert predict.load(run)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["exact", "sgd"])
def test_features_that_are_no_numbers_end_the_run_before_anything_is_fitted(data, monkeypatch, kind, number):
    run_it = Frozen.__call__

    def broken(frozen, x):
        out = run_it(frozen, x)
        out.view(-1)[0] = number
        return out

    monkeypatch.setattr(Frozen, "__call__", broken)
    run = jobs.start(data, instant(data) if kind == "exact" else quick(data))
    end = watch(run)[-1]
    assert isinstance(end, RunFailed)
    assert "not a finite number" in end.message
    assert "precision to float32" in end.message
    assert not run.has_model()


# --- memory that really does not suffice

CHILD = """
import json, resource, sys
from pathlib import Path
from conftest import dataset, jobs, quick, watch
from test_visibility import Tab
from tlapp import runs, ui

def used():
    words = next(line for line in open("/proc/self/status") if line.startswith("VmData"))
    return int(words.split()[1]) * 1024

folder, room = sys.argv[1], int(sys.argv[2])
data = dataset.scan(folder)
watch(jobs.start(data, quick(data, epochs=1)))  # all that is imported or timed once
site = ui.launch(port=0, browser=False, wait=False)
tab = Tab(site.url)
tab.says(runs.all_runs(Path(runs.workspace.home()))[0])
free = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (used() + room, free[1]))
large = jobs.start(data, quick(data, epochs=1, frozen=(), batch_size=64))
end = watch(large)[-1]
said = tab.says(large)
small = jobs.start(data, quick(data, epochs=1))
after = watch(small)[-1]
print(json.dumps([type(end).__name__, end.message if hasattr(end, "message") else "", said, type(after).__name__]))
site.close()
"""


def test_a_batch_that_really_does_not_fit_ends_in_advice_and_the_same_process_goes_on(tmp_path, home):
    folder = fill(tmp_path / "photos", {"train/reds": 14, "train/blues": 14, "test/reds": 2, "test/blues": 2})
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(400 * 2**20)], cwd=here, capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, "PYTHONPATH": str(here.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    end, message, said, after = json.loads(done.stdout.splitlines()[-1])
    assert end == "RunFailed"
    assert "memory did not suffice while the run was learning" in message, message
    assert "batch_size to 16 (it is 64)" in message
    assert "memory did not suffice" in said
    assert after == "RunFinished"
