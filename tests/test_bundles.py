"""What left the app comes back: bundles and runs of another machine or an earlier version, and hostile ones refused."""

import json
import os
import pickle
import shutil
import time
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from safetensors.numpy import load, save

from tlapp import board, bundles, card, claims, cli, compare, dataset, export, graph, history, predict, runs
from tlapp.errors import RunError
from tlapp.events import RunStarted
from tlapp.runs import Run
from tlapp.ui import history as listed
from tlapp.ui import live, matrix, results, shelf, sure, versus, why


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    """A bundle but for its graph, which coming back does not need; none may change it."""
    path = tmp_path_factory.mktemp("bundle") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(trained.home))
        patch.setattr(graph, "to_onnx", lambda *_: b"a graph")
        patch.setattr(export, "_prove", lambda *_: export.Proof(0.0, 1, 1))
        export.export(trained.run, path)
    return path


@pytest.fixture
def own_bundle(bundle, tmp_path):
    """A copy to be harmed at will. Its programs leave a mark where they are executed."""
    path = shutil.copytree(bundle, tmp_path / "model")
    for name in ("predict.py", "pictures.py"):
        (path / name).write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    return path


def said_of(run, folder):
    """What it answers for three photos."""
    files = [photo(folder / f"{n}.png", (60 * n, 40, 200 - 60 * n), n) for n in range(3)]
    return list(predict.load(run).predict_files(files))


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("form", ["folder", "zip", "run folder", "zip of a run folder"])
def test_a_model_that_comes_back_answers_as_it_did_with_its_score_curves_name_and_line(
    form, trained, bundle, home, tmp_path
):
    path, old = bundle, trained.run
    if "run" in form:
        old = Run(shutil.copytree(old.path, tmp_path / old.id))
        old.set_keep(0.9)
        history.describe(old, name="of the lab")
        path = old.path
    if "zip" in form:
        path = shutil.make_archive(str(tmp_path / "packed"), "zip", path.parent, path.name)
    run = bundles.import_run(path)
    assert run.path.parent == home / "runs"
    assert run.state() == "finished"
    assert said_of(run, tmp_path) == said_of(old, tmp_path)
    before, after = old.report(), run.report()
    assert {key: after[key] for key in before} == before
    shown = [event for event in old.events()[0] if type(event).__name__ == "EpochFinished"]
    assert [event for event in run.events()[0] if type(event).__name__ == "EpochFinished"] == shown
    assert (run.keep(), history.about(run).name) == ((0.9, "of the lab") if "run" in form else (0.95, ""))
    assert run.plan == old.plan
    assert bundles.import_run(path) == run, "the same model is not taken twice"
    assert runs.all_runs(home) == [run]


def test_the_command_opens_a_bundle_and_says_what_it_is(bundle, home, capsys):
    assert cli.main(["import", str(bundle), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    (run,) = runs.all_runs(home)
    assert printed == {
        "run": run.id, "path": str(run.path), "classes": ["blues", "reds"],
        **{key: run.report()[key] for key in ("accuracy", "interval", "method", "n_test")},
    }  # fmt: skip
    assert cli.main(["import", str(bundle)]) == 0
    assert run.id in capsys.readouterr().out
    assert cli.main(["import", str(home / "nothing")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_a_report_of_an_earlier_version_gets_the_intervals_that_follow_from_it(own_run, tmp_path):
    new, old = own_run.report(), own_run.report()
    old = {key: value for key, value in old.items() if key not in ("n", "interval", "method", "validation")}
    for one in (*old["per_class"].values(), *old["photos"]):
        for key in ("precision_interval", "recall_interval", "f1_interval", "strangeness"):
            one.pop(key, None)
    (own_run.path / "report.json").write_text(json.dumps(old | {"schema": 1}))
    read = own_run.report()
    assert {key: read[key] for key in ("schema", "n", "interval", "method", "validation", "per_class")} == {
        key: new[key] for key in ("schema", "n", "interval", "method", "validation", "per_class")
    }
    assert {one["strangeness"] for one in read["photos"]} == {None}
    elsewhere = shutil.copytree(own_run.path, tmp_path / "elsewhere" / own_run.id)
    shutil.rmtree(own_run.path)
    assert bundles.import_run(elsewhere).report()["interval"] == new["interval"]


def test_a_run_that_came_from_elsewhere_is_listed_and_its_missing_photos_are_said(bundle, home, capsys):
    run = bundles.import_run(bundle)
    assert cli.main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run"], row["state"]) == (run.id, "finished")
    assert cli.main(["evaluate", run.id]) == 1
    assert "came from elsewhere without its photos. Name a folder" in capsys.readouterr().err


# --- hostile files


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def changed(name, change):
    """Harm one JSON file: `change` takes its values, and changes them or gives others."""

    def harm(bundle):
        values = json.loads((bundle / name).read_text())
        given = change(values)
        (bundle / name).write_text(json.dumps(values if given is None else given))

    return harm


def text(name, content):
    return lambda bundle: (bundle / name).write_bytes(content(bundle) if callable(content) else content)


def gone(name):
    return lambda bundle: (bundle / name).unlink()


def put(what, data):
    """Another file of tensors, its hash told in the report as if it were right."""

    def harm(bundle):
        name = bundle / f"{what}.safetensors"
        given = data(name.read_bytes(), bundle) if callable(data) else data
        name.write_bytes(given)
        changed("report.json", lambda r: r.update({f"{what}_sha256": sha256(given).hexdigest()}))(bundle)

    return harm


def tensors(what, change):
    """Tensors changed, what is recorded with them kept."""

    def remade(data, _):
        recorded = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__")
        values = {name: value.copy() for name, value in load(data).items()}
        given = change(values)
        return save(values if given is None else given, metadata=recorded)

    return put(what, remade)


def flip(name):
    def harm(bundle):
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(data)

    return harm


def head(values):
    return next(name for name in values if name.endswith("linear.weight"))


def swapped_metadata(data, _):
    recorded = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return save(load(data), metadata=recorded | {"classes": json.dumps(["reds", "blues"])})


def first_photo(**values):
    return lambda r: r["photos"][0].update(values)


def epoch(**values):
    """A record whose first epoch is another one."""

    def harm(bundle):
        lines = (bundle / "events.jsonl").read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if '"EpochFinished"' in line)
        lines[at] = json.dumps(json.loads(lines[at]) | values)
        (bundle / "events.jsonl").write_text("\n".join(lines) + "\n")

    return harm


def line(**values):
    """A record with one line more."""
    return text("events.jsonl", lambda b: (b / "events.jsonl").read_bytes() + json.dumps(values).encode() + b"\n")


def costs(report):
    return report["unknown"]["costs"]


HEAD = {
    "head": "ridge", "depth": "last", "mirror": False, "fine_tuned": False, "l2": 1.0, "held_out_loss": 0.1,
    "compared": {"n": 4, "run": 3, "instant": 4, "differ": 1, "run_interval": [0.3, 0.95],
                 "instant_interval": [0.5, 1.0], "method": "95 %, Wilson"},
}  # fmt: skip
"""What the report of an exact head has."""


def without(values, *names):
    return {name: value for name, value in values.items() if name not in names}


def link(bundle):
    shutil.move(bundle / "run.json", bundle.parent / "outside.json")
    (bundle / "run.json").symlink_to(bundle.parent / "outside.json")


def fifo(bundle):
    (bundle / "report.json").unlink()
    os.mkfifo(bundle / "report.json")


def second_one(bundle):
    shutil.copytree(bundle, bundle / "again")


HOSTILE = {
    "no run.json": gone("run.json"),
    "run.json is empty": text("run.json", b""),
    "run.json is no JSON": text("run.json", b"{'a': 1}"),
    "run.json is a list": text("run.json", b"[]"),
    "run.json is nested a million deep": text("run.json", b"[" * 10**6),
    "run.json is no text": text("run.json", bytes(range(256))),
    "schema of a newer version": changed("run.json", lambda v: v.update(schema=99)),
    "schema in words": changed("run.json", lambda v: v.update(schema="one")),
    "schema is true": changed("run.json", lambda v: v.update(schema=True)),
    "schema 0": changed("run.json", lambda v: v.update(schema=0)),
    "no classes": changed("run.json", lambda v: v.pop("classes") and None),
    "one class": changed("run.json", lambda v: v.update(classes=["reds"])),
    "a class twice": changed("run.json", lambda v: v.update(classes=["reds", "reds"])),
    "classes are numbers": changed("run.json", lambda v: v.update(classes=[1, 2])),
    "a hundred thousand classes": changed("run.json", lambda v: v.update(classes=[str(i) for i in range(10**5)])),
    "classes the other way round": changed("run.json", lambda v: v.update(classes=v["classes"][::-1])),
    "a class renamed": changed("run.json", lambda v: v.update(classes=["blues", "greens"])),
    "photos of a path": changed("run.json", lambda v: v.update(dataset="../../../etc")),
    "photos of a path with a line end": changed("run.json", lambda v: v.update(dataset="0" * 16 + "\n")),
    "no plan": changed("run.json", lambda v: v.pop("plan") and None),
    "a plan of a newer version": changed("run.json", lambda v: v["plan"].update(schema=99)),
    "an unknown setting": changed("run.json", lambda v: v["plan"].update(shell="rm -rf /")),
    "a setting out of range": changed("run.json", lambda v: v["plan"].update(epochs=10**9)),
    "a setting of another type": changed("run.json", lambda v: v["plan"].update(epochs="many")),
    "an unknown backbone": changed("run.json", lambda v: v["plan"].update(backbone="../../x")),
    "the backbone of another model": changed(
        "run.json", lambda v: v["plan"].update(backbone="resnet18", frozen=["stem"])
    ),
    "the line is no number": changed("run.json", lambda v: v.update(keep=float("nan"))),
    "the line is out of range": changed("run.json", lambda v: v.update(keep=7.0)),
    "the source is a list": changed("run.json", lambda v: v.update(source=["a"])),
    "no report": gone("report.json"),
    "report cut short": text("report.json", lambda b: (b / "report.json").read_bytes()[:300]),
    "report of a newer version": changed("report.json", lambda r: r.update(schema=99)),
    "report of an earlier version that lacks all": text("report.json", b'{"schema": 1}'),
    "accuracy above 1": changed("report.json", lambda r: r.update(accuracy=2.0)),
    "accuracy in words": changed("report.json", lambda r: r.update(accuracy="<script>alert(1)</script>")),
    "accuracy is no number": changed("report.json", lambda r: r.update(accuracy=float("nan"))),
    "a better accuracy than its photos'": changed("report.json", lambda r: r.update(accuracy=0.123)),
    "confusion of unequal rows": changed("report.json", lambda r: r.update(confusion=[[1], [1, 2]])),
    "confusion below zero": changed("report.json", lambda r: r.update(confusion=[[-1, 0], [0, 1]])),
    "confusion of other photos": changed("report.json", lambda r: r.update(confusion=[[9, 0], [0, 9]])),
    "no photos": changed("report.json", lambda r: r.update(photos=[])),
    "a photo of an unknown class": changed("report.json", first_photo(**{"class": "greens"})),
    "a photo called an unknown class": changed("report.json", first_photo(label="greens")),
    "a photo of endless probability": changed("report.json", first_photo(probability=float("inf"))),
    "a photo of strangeness 7": changed("report.json", first_photo(strangeness=7)),
    "a photo without a name": changed("report.json", first_photo(file=None)),
    "more test photos than there are": changed("report.json", lambda r: r.update(n_test=10**6)),
    "report of other classes": changed("report.json", lambda r: r.update(classes=["cats", "dogs"])),
    "no hash": changed("report.json", lambda r: r.pop("model_sha256") and None),
    "a hash that is a path": changed("report.json", lambda r: r.update(model_sha256="../" * 21 + "x")),
    "seconds below zero": changed("report.json", lambda r: r.update(seconds=-1)),
    "an interval of three": changed("report.json", lambda r: r["validation"].update(interval=[0, 0.5, 1])),
    "calibration in words": changed("report.json", lambda r: r.update(calibration={"bins": "none"})),
    "costs of few lines": changed("report.json", lambda r: r["unknown"].update(costs=[])),
    "costs of one line twenty times": changed("report.json", lambda r: [c.update(keep=80) for c in costs(r)] and None),
    "costs of more photos than were asked": changed("report.json", lambda r: costs(r)[0].update(kept=10**6)),
    "no bins": changed("report.json", lambda r: r["calibration"].update(bins=[])),
    "a bin of endless photos": changed("report.json", lambda r: r["calibration"]["bins"][0].update(n=10**400)),
    "no strangeness": changed("report.json", lambda r: [p.pop("strangeness") for p in r["photos"]] and None),
    "a head of another kind": changed("report.json", lambda r: r.update(HEAD, head="<b>ridge</b>")),
    "a head without fine_tuned": changed("report.json", lambda r: without(r | HEAD, "fine_tuned")),
    "a head without depth": changed("report.json", lambda r: without(r | HEAD, "depth")),
    "a head without mirror": changed("report.json", lambda r: without(r | HEAD, "mirror")),
    "a head beside nothing": changed("report.json", lambda r: r.update(HEAD, compared=None)),
    "a head that is right more often than asked": changed(
        "report.json", lambda r: r.update(HEAD, compared=HEAD["compared"] | {"run": 10**6})
    ),
    "no model": gone("model.safetensors"),
    "an empty model": text("model.safetensors", b""),
    "a model cut short": text("model.safetensors", lambda b: (b / "model.safetensors").read_bytes()[:-1]),
    "a bit of the model flipped": flip("model.safetensors"),
    "a pickle for a model": put("model", lambda _, b: pickle.dumps(Bomb(b.parent / "executed"))),
    "a model whose head has no end": put("model", (2**63).to_bytes(8, "little") + b"{}"),
    "a model whose parts overlap": put(
        "model",
        lambda *_: (
            (n := b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,9]}}') and len(n).to_bytes(8, "little") + n
        ),
    ),
    "a model that says nothing of itself": put("model", lambda data, _: save(load(data))),
    "a model of classes the other way round": put("model", swapped_metadata),
    "a model without its head": tensors("model", lambda v: {k: t for k, t in v.items() if k != head(v)}),
    "a model with one tensor more": tensors("model", lambda v: v | {"more": np.zeros(3)}),
    "a head of three classes": tensors("model", lambda v: v.update({head(v): np.zeros((3, 1280), np.float32)})),
    "a model that is not finite": tensors("model", lambda v: v[head(v)].fill(np.nan)),
    "no features": gone("learned.safetensors"),
    "a bit of the features flipped": flip("learned.safetensors"),
    "a pickle for features": put("learned", lambda _, b: pickle.dumps(Bomb(b.parent / "executed"))),
    "features of another width": tensors("learned", lambda v: v.update(features=np.ones((8, 3), np.float16))),
    "features that are not finite": tensors("learned", lambda v: v["features"].fill(np.nan)),
    "features of no photo": tensors("learned", lambda v: v.update(features=np.ones((0, 1280), np.float16))),
    "features of a photo below zero": tensors("learned", lambda v: v["indices"].fill(-1)),
    "nothing usual": tensors("learned", lambda v: v.update(distances=np.zeros(0), energies=np.zeros(0))),
    "a record of garbage": text("events.jsonl", bytes(range(256))),
    "a record of a list": text("events.jsonl", b"[1, 2]\n"),
    "an epoch in words": epoch(epoch="<b>one</b>"),
    "an epoch out of range": epoch(epoch=10**9, epochs=10**9),
    "a loss that is no number": epoch(train_loss=float("nan")),
    "a huge loss": epoch(train_loss=1e308),
    "a loss below zero": epoch(validation_loss=-1.0),
    "an accuracy of 1e300": epoch(validation_accuracy=1e300),
    "an accuracy below zero": epoch(train_accuracy=-1.0),
    "huge seconds": epoch(seconds=1e308),
    "huge seconds left": epoch(seconds_left=1e308),
    "photos below zero": epoch(n_validation=-5),
    "photos of 400 digits": epoch(n_validation=10**400),
    "fine-tuning judged on no photo": line(event="Judged", kept=True, before=0.5, after=0.6, n=0),
    "fine-tuning right about twice all photos": line(event="Judged", kept=True, before=2.0, after=0.6, n=9),
    "a trial of endless seconds": line(event="Trying", blocks="stage7", seconds=1e308),
    "a start of no epochs": line(
        event="RunStarted", device="cpu", epochs=0, n_train=1, n_validation=1, n_test=1, caching=""
    ),
    "a link": link,
    "a pipe": fifo,
    "two in one": second_one,
}


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("harm", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_bundle_is_refused_in_a_sentence_and_leaves_nothing(harm, own_bundle, home, tmp_path):
    harm(own_bundle)
    refused(own_bundle, home, tmp_path)


def refused(path, home, tmp_path):
    with pytest.raises(RunError) as caught:
        bundles.import_run(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert said.endswith(".")
    assert len(said) < 600
    assert said.isprintable()
    assert not runs.all_runs(home)
    assert not list((home / "runs").glob("0*"))
    assert not (tmp_path / "executed").exists()


def packed(path, names):
    """A zip of (name, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in names:
            archive.writestr(name, data)
    return path


ZIPS = {
    "no zip": lambda path, _: path.write_bytes(b"hello"),
    "an empty file": lambda path, _: path.write_bytes(b""),
    "an empty zip": lambda path, _: packed(path, []),
    "a zip cut short": lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    "a zip with a bit flipped": lambda path, whole: path.write_bytes(
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 255]) + whole[len(whole) // 2 + 1 :]
    ),
    "names that climb out": lambda path, _: packed(path, [("../../run.json", "{}"), ("/etc/report.json", "{}")]),
    "a bomb": lambda path, _: packed(path, [("run.json", b" " * 10**9)]),
    "photos": lambda path, _: packed(path, [("cats/1.jpg", b"x"), ("dogs/1.jpg", b"x")]),
    "a file twice": lambda path, _: packed(path, [("a/run.json", b"{}"), ("b/run.json", b"{}")]),
}


@pytest.mark.parametrize("make", ZIPS.values(), ids=ZIPS)
def test_a_hostile_zip_is_refused_in_a_sentence_and_leaves_nothing(make, bundle, home, tmp_path):
    whole = Path(shutil.make_archive(str(tmp_path / "whole"), "zip", bundle.parent, bundle.name)).read_bytes()
    path = tmp_path / "hostile.zip"
    make(path, whole)
    refused(path, home, tmp_path)


# --- hostile sizes

REPORT = claims.MOST_BYTES["report"]
TOO_MUCH = {
    "a report of empty lists": ("report.json", b'{"schema":2,"x":[' + b"[]," * claims.MOST_OBJECTS + b"[]]}"),
    "a report of empty objects": ("report.json", b'{"schema":2,"x":[' + b"{}," * claims.MOST_OBJECTS + b"{}]}"),
    "a report of numbers": ("report.json", b'{"schema":2,"x":[' + b"1," * claims.MOST_VALUES + b"1]}"),
    "a large report": ("report.json", b'{"schema":2,"x":"' + b" " * REPORT + b'"}'),
    "a large header": ("run.json", b'{"schema":1,"x":"' + b" " * claims.MOST_BYTES["header"] + b'"}'),
    "a long record": ("events.jsonl", b"{}\n" * (claims.MOST_LINES + 1)),
    "a long line": ("events.jsonl", b'{"event":"' + b" " * claims.MOST_OF_LINE + b'"}\n'),
}


@pytest.mark.parametrize(("name", "content"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_is_too_much_is_refused_before_it_is_parsed(name, content, own_bundle, home, tmp_path, monkeypatch):
    (own_bundle / name).write_bytes(content)
    parsed, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda data, **kw: parsed.append(len(data)) or loads(data, **kw))
    refused(own_bundle, home, tmp_path)
    assert len(content) not in parsed
    assert name != "events.jsonl" or max(parsed) < claims.MOST_OF_LINE


def test_a_record_of_too_many_epochs_is_refused_and_one_of_many_read_quickly(bundle):
    report = json.loads((bundle / "report.json").read_text())
    lines = [line for line in (bundle / "events.jsonl").read_bytes().splitlines() if b"EpochFinished" in line]
    with pytest.raises(ValueError, match="too long"):
        claims.record((lines[0] + b"\n") * (claims.MOST_EVENTS + 1), report)
    began = time.process_time()
    assert len(claims.record((lines[0] + b"\n") * 5_000, report)) == 5_002
    assert time.process_time() - began < 2.5, "a checker is made for every line"


def test_a_report_of_the_most_photos_is_read():
    photos = [{"file": f"[{i}], {{a}}.png", "class": "a", "label": "a", "probability": 1.0} for i in range(50_000)]
    values = {"photos": [{**one, "side": "test", "strangeness": 0.5} for one in photos]}
    assert claims.read(json.dumps(values, indent=1).encode(), "report") == values


def test_a_chain_of_models_may_have_learned_from_a_million_photos(bundle):
    known = [f"{i:012x}" for i in range(claims.MOST_LEARNED)]
    values = json.loads((bundle / "run.json").read_text()) | {"learned_from": known}
    found = claims.read(json.dumps(values, indent=1).encode(), "header")
    assert claims.header(found, "bundle")["learned_from"] == known
    with pytest.raises(ValueError, match="learned_from"):
        claims.header(values | {"learned_from": [*known, "f" * 12]}, "bundle")


@pytest.mark.parametrize("name", ["run.json", "report.json", "events.jsonl"])
def test_a_file_that_cannot_be_taken_is_named_with_the_reason(name, own_bundle, tmp_path):
    shutil.move(own_bundle / name, tmp_path / name)
    (own_bundle / name).symlink_to(tmp_path / name)
    with pytest.raises(RunError, match=f"{name} is a link"):
        bundles.import_run(own_bundle)


def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_called_that(bundle, tmp_path):
    names = [(f.name, b" " * 10**8 if f.name == "report.json" else f.read_bytes()) for f in bundle.iterdir()]
    with pytest.raises(RunError, match=r"report\.json would unpack to more than 1,000 times"):
        bundles.import_run(packed(tmp_path / "bomb.zip", names))


@pytest.mark.usefixtures("small_pictures")
def test_a_line_out_of_range_and_a_name_too_long_of_a_run_folder_are_left_out_or_cut(trained, home, tmp_path):
    path = shutil.copytree(trained.run.path, tmp_path / "elsewhere" / trained.run.id)
    (path / "keep.json").write_text('{"keep": 7.0}')
    (path / "about.json").write_text(json.dumps({"name": "\x00" * 200, "note": ""}))
    run = bundles.import_run(path)
    assert run.keep() == runs.KEEP
    assert 0 < len(history.about(run).name) <= history.MOST_NAME


# --- what is accepted can be shown


def panels(run, folder):
    """Everything that shows a finished run, called as the page and the terminal do."""
    report, record = run.report(), shelf.record(run)
    percent = round(100 * run.keep())
    shown = [
        results._score(run), matrix.confusion(report), matrix.of_cell(run, "0,0"), matrix.wrong(run),
        results._per_class(report, list(run.classes)), results._rest(run), sure._certainty(report),
        listed._table(run), live._strip(record), *map(str, live._view(record, "", "")),
        versus.versus(compare.compare(run, run)), *listed.models()[0], card.limits(run),
        card.of(run, 0.0, 1, 1, 20),
    ]  # fmt: skip
    if "unknown" in report:
        shown += [sure._cost(report, keep) for keep in range(80, 100)] + [sure._tested(report, percent)]
    for make in (results._confusion, results._predictions, results._report):
        assert make(run).stat().st_size
    if record.epochs:
        assert results._curves(run).stat().st_size
    else:
        with pytest.raises(RunError, match="no curves"):
            results._curves(run)
    assert cli.main(["runs", "--json"]) == 0
    assert cli.main(["runs", "compare", run.id, run.id]) == 0
    assert board.write(run, folder / "board")["epochs"] == len({e.epoch for e in record.epochs})
    return shown


def null(*names):
    return changed("report.json", lambda r: r.update(dict.fromkeys(names)))


def lacking(*names):
    return changed("report.json", lambda r: without(r, *names))


def first_schema(report):
    photos = [without(one, "strangeness") for one in report["photos"]]
    return without(report, "validation", "unknown", "calibration", "compared") | {"schema": 1, "photos": photos}


def record_without(kind):
    def kept(bundle):
        lines = (bundle / "events.jsonl").read_bytes().splitlines(keepends=True)
        return b"".join(line for line in lines if kind not in line)

    return text("events.jsonl", kept)


ACCEPTED = {
    "as it is": lambda bundle: None,
    "nothing of strangers": lacking("unknown"),
    "null of strangers": null("unknown"),
    "no features": lacking("learned_sha256"),
    "no calibration": lacking("calibration"),
    "null calibration": null("calibration"),
    "nothing of the instant model": lacking("compared"),
    "null of the instant model": null("compared"),
    "null of all that may be missing": null("unknown", "calibration", "compared", "cross_validated", "head", "depth"),
    "an exact head": changed("report.json", lambda r: r.update(HEAD)),
    "an exact head, fine-tuned": changed("report.json", lambda r: r.update(HEAD, fine_tuned=True)),
    "the first schema": changed("report.json", first_schema),
    "no side of photos": changed("report.json", lambda r: [p.pop("side") for p in r["photos"]] and None),
    "no time at all": changed("report.json", lambda r: r.update(seconds=0.0)),
    "no photo learned from": changed("report.json", lambda r: r.update(n_train=0, n_validation=0)),
    "the billionth epoch": changed("report.json", lambda r: r.update(best_epoch=10**9, epochs=10**9)),
    "no record": gone("events.jsonl"),
    "an empty record": text("events.jsonl", b""),
    "a record without a start": record_without(b'"RunStarted"'),
    "a record without epochs": record_without(b'"EpochFinished"'),
    "a start of no test photos": line(event="RunStarted", device="cpu", epochs=3, n_train=0, n_validation=0, n_test=0,
                                      caching=""),
    "the same epoch twice": epoch(epoch=2),
    "a best epoch that is not there": epoch(best_epoch=99),
    "photos of nowhere": changed("run.json", lambda v: v.update(dataset="")),
    "a source of dots": changed("run.json", lambda v: v.update(source="..", created="never")),
    "no source": changed("run.json", lambda v: v.update(source="")),
}  # fmt: skip


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_whatever_is_accepted_can_be_shown_everywhere(change, own_bundle, home, tmp_path, capsys):
    change(own_bundle)
    run = bundles.import_run(own_bundle)
    assert all(isinstance(part, str | tuple) for part in panels(run, tmp_path))
    started = [event for event in run.events()[0] if isinstance(event, RunStarted)]
    assert started
    assert {event.n_test for event in started} == {run.report()["n_test"]}


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("why_not", ["other classes", "fewer photos", None])
def test_photos_of_here_that_cannot_be_its_own_are_not_taken_for_them(
    why_not, trained, own_bundle, home, make_folder, tmp_path, capsys
):
    if why_not == "other classes":
        data = dataset.scan(make_folder({"greens": 8, "reds": 8, "blues": 8}), home=home)
        changed("run.json", lambda v: v.update(dataset=data.id))(own_bundle)
    else:
        data = trained.data
        shutil.copytree(trained.home / "datasets" / data.id, home / "datasets" / data.id)
    if why_not == "fewer photos":
        tensors("learned", lambda v: v.update(indices=v["indices"] + len(data.photos)))(own_bundle)
    run = bundles.import_run(own_bundle)
    assert run.header()["dataset"] == ("" if why_not else data.id)
    panels(run, tmp_path)
    assert (shelf.dataset_of(run) is None) == bool(why_not)
    assert "Distance" in why.dialog(run, data.pixels(0), "x.png") or why_not


@pytest.mark.usefixtures("small_pictures")
def test_a_photo_whose_name_is_not_of_utf8_comes_back(own_bundle, home, tmp_path, capsys):
    name = os.fsdecode(b"\xe4ant0.png")
    changed("report.json", first_photo(file=name))(own_bundle)
    changed("run.json", lambda v: v.update(source=os.fsdecode(b"\xe4nts")))(own_bundle)
    run = bundles.import_run(own_bundle)
    assert run.report()["photos"][0]["file"] == name
    assert run.header()["source"] == os.fsdecode(b"\xe4nts")
    panels(run, tmp_path)
    shutil.move(run.path, tmp_path / run.id)
    assert bundles.import_run(tmp_path / run.id).report()["photos"][0]["file"] == name, "and again"


@pytest.mark.usefixtures("small_pictures")
def test_that_it_is_from_elsewhere_is_said_where_its_score_is_read(trained, own_bundle, home, capsys):
    run, own = bundles.import_run(own_bundle), Run(home / "runs" / trained.run.id)
    shutil.copytree(trained.run.path, own.path)
    assert "photos, from elsewhere<" in listed._row(run, False)
    assert "elsewhere" not in listed._row(own, False)
    assert "opened from elsewhere" in results._score(run)
    assert "elsewhere" not in results._score(own)
    capsys.readouterr()
    cli.main(["runs", "--json"])
    assert {row["run"]: row["origin"] for row in json.loads(capsys.readouterr().out)} == {run.id: True, own.id: False}
    cli.main(["runs"])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0]: ", from elsewhere" in line for line in lines} == {run.id: True, own.id: False}
