"""The audit finds what was planted in real photos, and raises no alarm where nothing was."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SHARED, fill
from PIL import Image, ImageFilter, ImageOps

from tlapp import audit, dataset, decisions, forecast, shortcuts
from tlapp.cli import main
from tlapp.features import Stopped

BEES = SHARED / "ants-bees"
real = pytest.mark.skipif(not BEES.is_dir(), reason="the real photos are not here")
N_WRONG = 12


def drain(work):
    """What a generator returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def copied(source, target, n, first=0):
    """So many photos of each class, from the `first` one on."""
    for name in ("ants", "bees"):
        (target / name).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / name).iterdir())[first : first + n]:
            shutil.copy(path, target / name)
    return target


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """All training photos of ants and bees, in which labels were swapped and copies strewn."""
    root = tmp_path_factory.mktemp("planted")
    folder = copied(BEES / "train", root / "photos", 200)
    names = {name: sorted(path.name for path in (folder / name).iterdir()) for name in ("ants", "bees")}
    chosen = np.random.default_rng(0)
    wrong = []
    for name, other in (("ants", "bees"), ("bees", "ants")):
        for file in chosen.choice(names[name][20:], N_WRONG // 2, replace=False):
            shutil.move(folder / name / file, folder / other / f"wrong-{file}")
            wrong.append(f"{other}/wrong-{file}")
    small = Image.open(folder / "ants" / names["ants"][0])
    small.resize((small.width // 2, small.height // 2)).save(folder / "ants" / "half.jpg", quality=60)
    ImageOps.mirror(Image.open(folder / "bees" / names["bees"][1])).save(folder / "bees" / "mirrored.jpg", quality=90)
    Image.open(folder / "bees" / names["bees"][2]).rotate(4, expand=False).crop((20, 20, 300, 300)).save(
        folder / "ants" / "other-class.jpg"
    )
    Image.open(folder / "ants" / names["ants"][3]).filter(ImageFilter.GaussianBlur(6)).save(folder / "ants/blurred.jpg")
    Image.open(folder / "ants" / names["ants"][4]).point(lambda value: value // 16).save(folder / "ants/dark.jpg")
    Image.effect_mandelbrot((300, 300), (-2, -1.5, 1, 1.5), 100).convert("RGB").save(folder / "bees/fractal.png")
    shutil.copy(folder / "ants" / names["ants"][5], folder / "ants" / "same-bytes.jpg")
    (folder / "ants" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    data = dataset.scan(folder, home=root / "home")
    report = drain(audit.audit(data))
    return data, report, audit.to_dict(data, report, data.split()), wrong, names


@real
def test_most_wrong_labels_stand_in_the_first_tenth_of_the_queue(planted):
    data, _, found, wrong, _ = planted
    queue = [suspect["file"] for suspect in found["suspect_labels"]]
    assert sorted(queue) == sorted(photo.name for photo in data.photos)
    assert len(set(queue[: len(queue) // 10]) & set(wrong)) >= 0.8 * N_WRONG
    scores = [suspect["score"] for suspect in found["suspect_labels"]]
    assert scores == sorted(scores)


@real
def test_copies_are_found_whether_shrunk_mirrored_or_byte_identical_and_nothing_else_is(planted):
    *_, found, _, names = planted
    groups = {frozenset(group) for group in found["duplicates"]}
    assert frozenset({"ants/half.jpg", f"ants/{names['ants'][0]}"}) in groups
    assert frozenset({"bees/mirrored.jpg", f"bees/{names['bees'][1]}"}) in groups
    assert frozenset({"ants/same-bytes.jpg", f"ants/{names['ants'][5]}"}) in groups
    made = {"half.jpg", "mirrored.jpg", "other-class.jpg", "same-bytes.jpg", "blurred.jpg", "dark.jpg"}
    assert all(any(name.split("/")[1] in made for name in group) for group in groups)


@real
def test_flaws_and_strangers_are_named(planted):
    *_, found, _, _ = planted
    assert "ants/blurred.jpg" in found["blurred"]
    assert "ants/dark.jpg" in found["dark"]
    assert "bees/fractal.png" in found["outliers"]
    assert [entry["file"] for entry in found["unreadable"]] == ["ants/broken.jpg"]
    assert len(found["outliers"]) < 10


@real
def test_photos_of_ants_and_bees_hold_no_shortcut(planted):
    assert planted[2]["shortcuts"] == []


@real
def test_the_report_names_every_key_and_survives_json(planted):
    *_, found, _, _ = planted
    wanted = {"classes", "unreadable", "duplicates", "leaks", "suspect_labels", "outliers", "shortcuts"}
    assert wanted | {"learning_curve"} <= set(json.loads(json.dumps(found)))
    assert found["classes"] == planted[0].class_counts()
    sizes = [point["per_class"] for point in found["learning_curve"]]
    assert sizes == sorted(set(sizes))
    assert all(p["low"] <= p["accuracy"] <= p["high"] for p in found["learning_curve"])
    assert found["learning_curve"][-1]["accuracy"] > found["learning_curve"][0]["accuracy"]
    smallest = min(found["classes"].values())
    assert (found["now"]["per_class"], found["forecast"]["per_class"]) == (smallest, smallest + forecast.MORE)
    assert found["now"]["accuracy"] <= found["forecast"]["accuracy"]


@real
def test_copies_across_the_test_line_of_the_folders_are_leaks(tmp_path):
    folder = tmp_path / "photos"
    copied(BEES / "train", folder / "train", 12)
    copied(BEES / "val", folder / "val", 6)
    first, second = sorted((folder / "val" / "ants").iterdir())[:2]
    Image.open(first).save(folder / "train" / "ants" / "again.jpg", quality=40)
    shutil.copy(second, folder / "train" / "ants" / "bytes.jpg")
    data = dataset.scan(folder)
    report = drain(audit.audit(data))
    leaks = {frozenset(group) for group in audit.to_dict(data, report, data.split())["leaks"]}
    assert leaks == {
        frozenset({f"val/ants/{first.name}", "train/ants/again.jpg"}),
        frozenset({f"val/ants/{second.name}", "train/ants/bytes.jpg"}),
    }


@real
def test_what_the_audit_finds_together_can_be_kept_together(tmp_path):
    """Features find copies that no hash finds; to keep them together is one decision each, and the leak is gone."""
    folder = copied(BEES / "train", tmp_path / "photos", 12)
    for path in sorted((folder / "bees").iterdir())[:6]:
        picture = Image.open(path)
        cut = (picture.width // 14, picture.height // 14)
        ImageOps.mirror(picture).crop((*cut, picture.width - cut[0], picture.height - cut[1])).save(
            path.with_name(f"cut-{path.name}")
        )
    data = dataset.scan(folder)
    report = drain(audit.audit(data))
    assert len(set(data.groups.tolist())) > len(data.photos) - 6
    seed, torn = next(
        (seed, torn) for seed in range(20) if (torn := audit.leaks(data, report, data.split(0.4, seed=seed)))
    )
    chosen = [decisions.about(data.photos[i], decisions.TOGETHER, str(n)) for n, g in enumerate(torn) for i in g]
    held = decisions.decide(data, chosen)
    assert not audit.leaks(held, report, held.split(0.4, seed=seed)), "all photos stand where they stood"


@real
def test_of_a_class_that_is_one_burst_no_label_is_contradicted_and_no_curve_is_drawn(tmp_path):
    folder = copied(BEES / "train", tmp_path / "photos", 20)
    for name in ("ants", "bees"):
        for path in list((folder / name).iterdir())[8:]:
            path.unlink()
    copied(BEES / "val", folder, 12)
    data = dataset.scan(folder)
    bees = [p for p in data.photos if data.classes[p.label] == "bees"]
    held = decisions.decide(data, [decisions.about(p, decisions.TOGETHER, "burst") for p in bees])
    report = drain(audit.audit(held))
    assert [s for s in report.contradicted() if held.classes[s.label] == "bees"] == []
    assert len(report.suspects) == len(held.photos)
    assert len(report.contradicted()) <= 3
    assert report.curve == forecast.Curve()


def test_photos_too_few_to_split_are_audited_all_the_same(make_folder, capsys):
    folder = make_folder({"reds": 2, "blues": 6})
    assert main(["audit", str(folder)]) == 0
    assert "Too few photos to train on in `reds`" in capsys.readouterr().out
    assert main(["audit", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["leaks"] == []


def test_what_was_left_out_by_decision_is_not_called_unreadable(make_folder, tmp_path, capsys):
    folder, csv = make_folder({"reds": 6, "blues": 6}), tmp_path / "decided.csv"
    (folder / "reds" / "broken.png").write_bytes(b"nothing")
    csv.write_text("file,decision\nreds/000.png,exclude\nelsewhere.png,exclude\n")
    assert main(["audit", str(folder), "--json", "--decisions", str(csv)]) == 0
    out, err = capsys.readouterr()
    assert [entry["file"] for entry in json.loads(out)["unreadable"]] == ["reds/broken.png"]
    assert "1 of 2 decisions are about none of these photos." in err


def test_a_stopped_audit_ends(tmp_path):
    data = dataset.scan(copied(BEES / "train", tmp_path / "photos", 5))
    with pytest.raises(Stopped):
        drain(audit.audit(data, should_stop=lambda: True))


def test_after_a_decision_no_photo_is_looked_at_again(tmp_path, small_pictures, monkeypatch):
    data = dataset.scan(fill(tmp_path / "photos", {"reds": 8, "blues": 8}))
    before = drain(audit.audit(data))
    left = decisions.decide(data, [decisions.about(data.photos[0], decisions.EXCLUDE)])
    monkeypatch.setattr("tlapp.pool.run_over", None)
    after = drain(audit.audit(left))
    assert len(before.suspects) == 16
    assert len(after.suspects) == 15


def shaped(tmp_path, size_of):
    """Thirty grey noise pictures of each class; `size_of(name, generator)` gives width and height."""
    generator = np.random.default_rng(0)
    for name in ("ants", "bees", "wasps"):
        (tmp_path / "shaped" / name).mkdir(parents=True)
        for i in range(30):
            width, height = size_of(name, generator)
            noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((width, height)).save(tmp_path / "shaped" / name / f"{i}.png")
    return dataset.scan(tmp_path / "shaped")


def found_in(data):
    return shortcuts.find(shortcuts.measure(data), data.labels, data.classes, data.groups)


def test_a_class_told_by_its_size_alone_raises_the_alarm(tmp_path):
    data = shaped(tmp_path, lambda name, g: (40 + int(g.integers(0, 9)) + 12 * (name == "bees"), 50))
    features = {(s.feature, s.class_name) for s in found_in(data)}
    assert {("image size", "bees"), ("aspect ratio", "bees"), ("file size", "bees")} <= features
    assert not {name for feature, name in features if feature in ("brightness", "mean colour", "camera")}
    assert next(s for s in found_in(data) if s.feature == "image size").accuracy > 0.9


def test_the_camera_that_took_one_class_raises_the_alarm_and_noise_does_not(tmp_path):
    data = shaped(tmp_path, lambda name, g: (40 + int(g.integers(0, 20)), 50))
    assert found_in(data) == []
    photos = tuple(replace(photo, camera="Phone X" if photo.label == 1 else "") for photo in data.photos)
    (alarm,) = found_in(replace(data, photos=photos))
    assert (alarm.feature, alarm.class_name, alarm.accuracy) == ("camera", "bees", 1.0)
    assert alarm.low < 1


def test_a_class_of_a_few_photos_raises_no_alarm(make_folder):
    data = dataset.scan(make_folder({"reds": 6, "blues": 30}))
    assert found_in(data) == []


def test_the_curve_rises_where_classes_are_hard_to_tell_and_foresees_what_more_photos_bring():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 90)
    middles = generator.normal(size=(3, 40))
    rows = torch.from_numpy(middles[labels] * 0.45 + generator.normal(size=(270, 40))).float()
    few = np.concatenate([np.flatnonzero(labels == c)[:45] for c in range(3)])
    half = forecast.curve(rows[few], labels[few], np.arange(len(few)), 3, 1.0)
    whole = forecast.curve(rows, labels, np.arange(270), 3, 1.0)
    accuracies = [point.accuracy for point in half.points]
    assert accuracies[-1] > accuracies[0] + 0.1
    real_ahead = next(p for p in whole.points if p.per_class >= half.ahead.per_class - 15)
    assert half.ahead.low <= real_ahead.accuracy <= half.ahead.high
    assert half.ahead.accuracy >= half.points[-1].accuracy


def test_a_class_of_two_photos_has_no_curve():
    rows = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    labels = np.repeat([0, 1], [2, 10])
    assert forecast.curve(rows, labels, np.arange(12), 2, 1.0) == forecast.Curve()


def test_on_the_command_line_decisions_are_offered_and_used(tmp_path, capsys):
    folder = fill(tmp_path / "photos", {"reds": 8, "blues": 8})
    data = dataset.scan(folder)
    decisions.decide(data, [decisions.about(data.photos[0], decisions.EXCLUDE)])
    assert main(["audit", str(folder)]) == 0
    told = capsys.readouterr()
    path = decisions.path_of(data)
    assert "Not used: one decision about these photos. To use what was done on the page: --as-on-page" in told.err
    assert "blues 8, reds 8" in told.out
    for used in (["--as-on-page"], ["--decisions", str(path)]):
        assert main(["audit", str(folder), "--json", *used]) == 0
        assert json.loads(capsys.readouterr().out)["classes"] == {"blues": 7, "reds": 8}
    assert main(["audit", str(folder), "--decisions", str(tmp_path / "none.csv")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_the_lines_for_the_terminal_are_made_of_plain_letters(tmp_path, capsys):
    folder = fill(tmp_path / "photos", {"reds": 8, "blues": 8})
    (folder / "reds" / "a\x1b[31m.jpg").write_bytes(b"")
    assert main(["audit", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "Unreadable: 1" in out
    assert "\x1b" not in out
