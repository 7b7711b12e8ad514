"""Every accuracy, whoever is told of it, comes with its photos, its interval, and how that was made."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from conftest import SIDES, fill, quick, watch

from tlapp import (
    audit,
    dataset,
    estimate,
    evaluate,
    events,
    forecast,
    jobs,
    pool,
    runs,
    shortcuts,
    speed,
    terminal,
    tune,
)
from tlapp.audit import Flaws, Report
from tlapp.cli import main
from tlapp.events import EpochFinished, Judged, RunFinished, RunStopped
from tlapp.forecast import Curve, Point
from tlapp.shortcuts import Shortcut
from tlapp.ui import live, sure, tries
from tlapp.ui.shelf import Record

pytestmark = pytest.mark.usefixtures("small_pictures")


def accuracies(value, inside=""):
    """Every accuracy in a JSON value: where it stands, and what is wrong with how it is stated."""
    if isinstance(value, list):
        return [found for one in value for found in accuracies(one, inside)]
    if not isinstance(value, dict):
        return []
    found = [f for key, one in value.items() for f in accuracies(one, f"{inside}/{key}")]
    return found + [(f"{inside}/{key}", fault(value, key, share)) for key, share in shares(value)]


def shares(value):
    """What in a JSON object is an accuracy, under whatever name, as a share of 1."""
    numbers = {key: one for key, one in value.items() if isinstance(one, int | float)}
    yield from ((key, one) for key, one in numbers.items() if key.endswith("accuracy"))
    if n := value.get("n"):
        yield from ((key, numbers[key] / n) for key in ("run", "instant") if key in numbers)
        yield from ((key, numbers[key]) for key in ("before", "after") if key in numbers)


def fault(value, key, share):
    """`accuracy` has `n`, `interval` and `method` beside it; `x_accuracy` an object `x` of these, or `x_interval`."""
    name = key.removesuffix("accuracy").rstrip("_")
    if isinstance(value.get(name), dict):
        value, name = value[name], ""
        if value["accuracy"] != share:
            return "it is another one than in full"
    n = value.get(f"n_{name}") or value.get("n") or value.get("n_test")
    interval = value.get(f"{name}_interval" if name else "interval")
    if not n or not interval or "95 %" not in value.get("method", ""):
        return f"only {sorted(value)} beside it"
    return "" if interval[0] - 1e-3 <= share <= interval[1] + 1e-3 else f"{share} is not in {interval}"


def test_the_rule_finds_what_breaks_it():
    whole = evaluate.stated(0.5, 10)
    assert accuracies({"a": [whole]}) == [("/a/accuracy", "")]
    for name in ("n", "interval", "method"):
        ((_, wrong),) = accuracies({key: value for key, value in whole.items() if key != name})
        assert wrong
    assert [wrong for _, wrong in accuracies({"validation_accuracy": 0.4, "validation": whole}) if wrong]
    assert accuracies({"n": 4, "run": 2, "instant": 3})[0][1]


@pytest.fixture
def say(capsys):
    """say("runs") → its JSON."""

    def call(*words):
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def honest(value, least):
    """At least so many accuracies, all of them whole."""
    found = accuracies(value)
    assert len(found) >= least, found
    assert [(place, wrong) for place, wrong in found if wrong] == []


def test_every_accuracy_that_the_command_line_prints_and_a_run_records_is_whole(say, tmp_path, home, monkeypatch):
    slow = speed.Speed((1e6,) * 8 + (1e-6,), (1e-6,) * 9, 1e-6)
    monkeypatch.setattr(estimate, "probe", lambda plan: slow)
    monkeypatch.setattr(tune, "EPOCHS", 1)
    monkeypatch.setattr(tune, "RATES", (1e-3,))
    folder = fill(tmp_path / "photos", SIDES)
    honest(say("train", folder, "--instant"), 5)
    honest(say("train", folder, "--epochs", 2, "--freeze", "none", "--set", "augmentation=off"), 5)
    honest(say("tune", folder, "--budget", 100), 3)
    honest(say("evaluate", "latest"), 1)
    honest(say("evaluate", "latest", folder / "test"), 1)
    honest(say("runs"), 2)
    honest(say("runs", "compare", "1", "2"), 2)
    honest(say("predict", "latest", folder / "test"), 0)
    for run in runs.all_runs(home):
        honest(run.report(), 6)
        honest([json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()], 4)
    say("runs", "remove", "1")
    honest(say("runs", "removed"), 1)


def test_every_accuracy_of_an_audit_is_whole(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", {"reds": 6, "blues": 6}))
    last = Point(4, 0.8, 0.6, 0.9, 12)
    curve = Curve((last,), last, Point(26, 0.9, 0.7, 1.0, 12, forecast.FORESEEN))
    told = (Shortcut("brightness", "reds", 0.9, 0.8, 1.0, 12),)
    report = Report((), (), (), Flaws((), (), (), (), ()), told, curve)
    found = audit.to_dict(data, report, None)
    honest(found, 4)
    assert [found[name]["method"] for name in ("now", "forecast")] == [forecast.MEASURED, forecast.FORESEEN]
    assert found["shortcuts"][0]["method"] == shortcuts.METHOD


EVENTS = [
    EpochFinished(3, 9, "head", 0.1, 0.9, 0.2, 0.75, True, 3, 1.0, 9.0, 2.0, 40, 8),
    Judged(False, 0.5, 0.75, 8),
    Judged(False, 1.0, None, 8),
    RunFinished(3, 9, 0.75, 0.9, 1.0, 8, 10),
    RunStopped(3, 9, 0.75, 0.9, 1.0, 8, 10),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_written_with_its_intervals_and_read_as_it_was(event):
    line = events.to_json(event)
    honest(json.loads(line), 1)
    assert events.from_json(line) == event


def test_records_of_an_earlier_version_are_read_and_claim_no_interval():
    known = {"event": "RunStopped", "best_epoch": 1, "epochs": 2, "validation_accuracy": 0.5, "accuracy": 0.5}
    event = events.from_json(json.dumps(known))
    assert "interval" not in events.to_json(event)
    assert {field.name: getattr(event, field.name) for field in fields(event)}["n_test"] == 0


def test_the_events_of_a_run_name_the_photos_that_their_accuracies_rest_on(tmp_path):
    data = dataset.scan(fill(tmp_path / "photos", SIDES))
    run = jobs.start(data, quick(data))
    found = watch(run)
    assert {(e.n_train, e.n_validation) for e in found if isinstance(e, EpochFinished)} == {(8, 4)}
    assert (found[-1].n_held_out, found[-1].n_test) == (4, 8)


def test_a_run_by_gradient_descent_says_on_how_many_photos_the_instant_model_differs(tmp_path, monkeypatch):
    data = dataset.scan(fill(tmp_path / "photos", SIDES))
    monkeypatch.setattr(pool, "instant_right", lambda pool, *_: np.arange(len(pool.indices)) % 2 == 0)
    run = jobs.start(data, quick(data, head_rate=1e-7))
    watch(run)
    report = run.report()
    found, asked = report["compared"], pool.Pool(data, run.plan.split(data), None, run.plan)
    assert found["run"] == round(4 * report["validation_accuracy"])
    instant = int((np.flatnonzero(asked.is_validation) % 2 == 0).sum())
    assert found["instant"] == instant
    assert abs(found["run"] - instant) <= found["differ"] <= found["run"] + instant


EPOCH = EpochFinished(3, 9, "head", 0.1, 0.9, 0.2, 0.75, True, 3, 1.0, 9.0, 2.0, 40, 8)


def test_the_terminal_says_with_each_epoch_of_how_many_photos_its_accuracy_is():
    with terminal.bar() as bar:
        terminal.show(EPOCH, bar, {})
        assert bar.tasks[0].description == "head: loss 0.100, validation 0.200, 75 % of 8 (41 to 93 %) *"


def test_the_strip_of_a_running_training_has_three_parts_whatever_it_says(own_run):
    record = Record(own_run, live=True)
    begun, trained = (live._strip(replace(record, epochs=epochs)) for epochs in ([], [EPOCH]))
    assert begun.count("<span>") == trained.count("<span>") == 3
    assert f"<span>Run {own_run.id} · epoch 3 of 9</span><span>validation 75 % of 8 (41–93 %)</span>" in trained
    assert "75 % of 8 (41–93 %) validation, epoch 3" in live._facts(replace(record, epochs=[EPOCH]))


def test_the_sweeps_chart_and_the_reliability_diagram_name_photos_and_interval():
    best = tune.Trial((), 0.0, 0.9, 60, 0.3, 0.2, 0.0)
    chart = tries.chart(tune.Tuned((best,), best, None))
    assert "<td>90 % of 60 (80–95 %)</td>" in chart
    assert "the accuracy on the 60 validation photos" in chart
    bins = [{"low": 0.5, "high": 1.0, "confidence": 0.8, "accuracy": 0.9, "n": n} for n in (20, 60)]
    diagram = sure._diagram(bins)
    assert "says 80 %, right 90 % of 60 (80–95 %)" in diagram
    assert diagram.count("tl-interval") == 2
    assert "(20 to 60)" in diagram


def test_the_audits_lines_on_a_terminal_name_photos_and_interval():
    point = {"per_class": 4, "accuracy": 0.8, "n": 12, "interval": [0.6, 0.9], "method": ""}
    told = {"class": "reds", "feature": "brightness", "chance": 0.5, **point}
    empty = ("unreadable", "duplicates", "leaks", "suspect_labels", "outliers", "cropped", "notes", *terminal._FLAWS)
    found = {"classes": {}, **{key: [] for key in empty}, "shortcuts": [told], "learning_curve": [point]}
    lines = terminal.findings(found | {"now": point, "forecast": point | {"per_class": 24}})
    assert "  reds: told apart by brightness alone, 80 % of 12 (60 to 90 %), where guessing gives 50 %" in lines
    assert "    4: 80 % of 12 (60 to 90 %)" in lines
    assert lines[-1].endswith(
        "would bring about 80 % (plausibly 60 to 90 %), from about 80 % (plausibly 60 to 90 %): foreseen from 12 "
        "photos, each asked of a model that had not learned from it."
    )


def test_the_scores_of_a_class_have_their_intervals_on_a_terminal():
    scores = evaluate.score(np.array([0] * 10 + [1] * 10), np.eye(2)[[0] * 9 + [1] * 11]).to_dict(("ants", "bees"))
    words = "precision 100 % (70 to 100 %), recall 90 % (60 to 98 %), F1 0.95 (0.75 to 0.99), 10 photos"
    assert terminal.of_class(scores["per_class"]["ants"]) == words
