"""The command line: what goes to standard output, what to standard error, and how it ends."""

import csv
import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SIDES, fill, model_file, photo, quick, until, watch
from safetensors.torch import load, save

from tlapp import additions, catalog, dataset, decisions, evaluate, jobs, pool, predict, runs
from tlapp.additions import Addition
from tlapp.cli import main
from tlapp.events import EpochFinished

TRAIN_KEYS = [
    "run", "path", "backbone", "solver", "classes", "frozen", "n_train", "n_validation", "n_test",
    "validation_accuracy", "accuracy", "best_epoch", "epochs", "seconds",
]  # fmt: skip
FAST = ["--epochs", "2", "--set", "augmentation=off"]
BLOCKS = catalog.get(catalog.INCLUDED).block_names


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path / "photos", SIDES)


def refused(result):
    """The one sentence of a command that could not be done."""
    code, out, err = result
    said = [line for line in err.splitlines() if line.startswith("tlapp: ")]
    assert code == 1
    assert out == ""
    assert len(said) == 1, err
    assert said[0].endswith((".", "?"))
    assert "Traceback" not in err
    return said[0]


# --- photos as on the page


def test_photos_that_were_added_on_the_page_are_told_of_and_used_when_asked(tlapp, photos, tmp_path):
    data = dataset.scan(photos)
    given = [Addition(f"{i}.png", photo(tmp_path / f"{i}.png", (200, 40, 40), 500 + i), "reds") for i in range(2)]
    grown = additions.add(data, given)
    decisions.decide(grown.dataset, [decisions.about(data.photos[0], decisions.EXCLUDE)])
    _, out, err = tlapp("audit", photos, "--json")
    assert (
        "Not used: 2 photos that you added and one decision about these photos. To use what was done on the page: "
        "--as-on-page\n"
    ) in err.replace("page:\n", "page: ")
    assert sum(json.loads(out)["classes"].values()) == 20
    _, out, err = tlapp("audit", photos, "--json", "--as-on-page")
    assert (
        "2 photos that you added are in it: learned from, never tested on. To leave them out: without --as-on-page"
        in err
    )
    assert sum(json.loads(out)["classes"].values()) == 20 + 2 - 1
    additions.take_back(decisions.decide(grown.dataset, []), grown.photos)
    _, _, err = tlapp("audit", photos, "--json")
    assert "that you added" not in err
    assert "3 decisions about these photos" in err


def test_as_on_page_knows_the_folder_by_any_path_and_by_its_photos_and_says_where_nothing_was_noted(
    tlapp, photos, tmp_path, monkeypatch
):
    def in_it(folder):
        _, out, err = tlapp("audit", folder, "--json", "--as-on-page")
        return sum(json.loads(out)["classes"].values()), "nor were any added: --as-on-page does nothing" in err

    assert in_it(photos) == (20, True)
    new = photo(tmp_path / "new.png", (200, 40, 40), 500)
    additions.add(dataset.scan(photos), [Addition("new.png", new, "reds")])
    monkeypatch.chdir(photos.parent)
    assert in_it(photos.name) == in_it(f"./{photos.name}/../{photos.name}") == (21, False)
    dropped = fill(tmp_path / "dropped" / "album", {"reds": 6, "blues": 6}, seed=2000)
    additions.add(dataset.scan(dropped, shown_as="album"), [Addition("new.png", new, "reds")])
    assert in_it(dropped) == (13, False)
    fill(tmp_path / "album", {"reds": 6, "blues": 6}, seed=4000)
    monkeypatch.chdir(tmp_path)
    assert in_it("album") == (12, True), "a name alone makes no two folders one"


def test_decisions_from_a_file_and_those_of_the_page_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        main(["train", "photos", "--as-on-page", "--decisions", "mine.csv"])
    assert "not allowed with" in capsys.readouterr().err


# --- train


def test_train_prints_one_clean_json_object_with_every_key(tlapp, photos, home):
    frozen = ",".join(BLOCKS[:-1])
    code, out, err = tlapp(
        "train", photos, *FAST, "--json", "--seed", 7, "--freeze", frozen, "--set", "dropout=0.1",
        "--set", "augmentation.rotation=5",
    )  # fmt: skip
    result = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert list(result)[: len(TRAIN_KEYS)] == TRAIN_KEYS
    run = runs.find(result["run"], home)
    report = run.report()
    assert result["path"] == str(run.path)
    assert (result["backbone"], result["solver"]) == ("efficientnet_lite0", "sgd")
    assert result["classes"] == ["blues", "reds"]
    assert result["frozen"] == list(BLOCKS[:-1])
    assert (result["n_train"], result["n_validation"], result["n_test"]) == (8, 4, 8)
    assert result["epochs"] == 2
    assert result["accuracy"] == report["accuracy"] == sum(r["class"] == r["label"] for r in report["photos"]) / 8
    assert result["validation_accuracy"] == report["validation_accuracy"]
    assert (result["seed"], result["state"], result["n_skipped"]) == (7, "finished", 0)
    assert (run.plan.dropout, run.plan.augmentation.rotation, run.plan.seed) == (0.1, 5.0, 7)
    assert "20 photos in 2 classes: blues 10, reds 10." in err
    assert "test folder are the test photos" in err


def test_train_says_in_words_what_came_out_and_what_was_skipped(tlapp, photos):
    (photos / "train" / "reds" / "empty.jpg").touch()
    code, out, err = tlapp("train", photos, *FAST)
    assert code == 0
    assert out.startswith("Accuracy ")
    assert "of 8 test photos right, plausibly " in out
    assert "tlapp predict 0001-" in out
    assert "Skipped train/reds/empty.jpg: it is empty (0 bytes)." in err
    assert "included; ResNet-18's weights are not on this machine" in err
    assert "8 training, 4 validation and 8 test photos on cpu" in err


def test_the_photos_given_with_test_are_the_test_photos(tlapp, tmp_path):
    folder = fill(tmp_path / "own", {"reds": 5, "blues": 5})
    other = fill(tmp_path / "other", {"reds": 2, "blues": 1}, seed=500)
    code, out, _ = tlapp("train", folder, "--test", other, *FAST, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["n_train"], result["n_validation"], result["n_test"]) == (8, 2, 3)


@pytest.mark.parametrize(("words", "frozen"), [("none", []), ("all", list(BLOCKS)), ("top,stem", ["stem", "top"])])
def test_freeze_takes_all_none_or_names(tlapp, photos, words, frozen):
    code, out, _ = tlapp("train", photos, "--epochs", 1, "--set", "augmentation=off", "--json", "--freeze", words)
    assert code == 0
    assert json.loads(out)["frozen"] == frozen


BAD_TRAINING = {
    "no such folder": (["train", "nowhere"], "nowhere does not exist"),
    "not a zip": (["train", "notes.txt"], "not a zip"),
    "empty folder": (["train", "void"], "void is empty"),
    "flat folder": (["train", "photos/train/reds"], "no sub-folders with photos"),
    "one class": (["train", "single"], "one class only, `reds`"),
    "no such backbone": (["train", "photos", "--backbone", "resnet19"], "no backbone `resnet19`"),
    "no such block": (["train", "photos", "--freeze", "layer9"], "no block `layer9`"),
    "misspelt setting": (["train", "photos", "--set", "dropuot=1"], "Did you mean dropout?"),
    "unknown setting": (["train", "photos", "--set", "xyz=1"], "The settings are frozen"),
    "setting out of range": (["train", "photos", "--set", "dropout=7"], "dropout is 7; it must be from 0 to 0.95"),
    "setting of another kind": (["train", "photos", "--set", "views=few"], "views is `few`; it must be a whole number"),
    "no epochs": (["train", "photos", "--epochs", "0"], "epochs is 0"),
    "negative seed": (["train", "photos", "--seed", "-1"], "seed is -1"),
    "two test parts": (["train", "photos", "--test", "photos"], "has its own test photos"),
    "weights of what": (["train", "photos", "--weights", "notes.txt"], "which backbone the weights file is of"),
    "no weights file": (
        ["train", "photos", "--backbone", "resnet18", "--weights", "nowhere.pth"],
        "nowhere.pth does not exist",
    ),
    "no weights inside": (
        ["train", "photos", "--backbone", "resnet18", "--weights", "notes.txt"],
        "notes.txt cannot be read",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_wrong_input_to_train_is_one_sentence(tlapp, photos, monkeypatch, arguments, words):
    monkeypatch.chdir(photos.parent)
    Path("notes.txt").write_text("hello")
    Path("void").mkdir()
    fill(Path("single"), {"reds": 4})
    assert words in refused(tlapp(*arguments, "--json"))


def test_a_diverged_training_is_one_sentence_that_names_what_was_kept(tlapp, photos):
    wild = ["head_rate=10", "weight_decay=10", "epochs=60", "patience=0", "augmentation=off"]
    result = tlapp("train", photos, "--json", *(word for text in wild for word in ("--set", text)))
    assert "diverged" in refused(result)
    assert "are kept in run 0001-" in refused(result)


def test_missing_weights_are_not_fetched_but_pointed_to_when_nobody_can_be_asked(tlapp, photos, tmp_path):
    sentence = refused(tlapp("train", photos, "--backbone", "resnet18", "--json"))
    assert "not on this machine" in sentence
    assert "tlapp weights get resnet18" in sentence
    assert f"--backbone {catalog.INCLUDED}" in sentence
    assert not (tmp_path / "torch").exists()


@pytest.mark.parametrize(
    "command", [["train", "photos", "--backbone", "resnet18", "--yes"], ["weights", "get", "resnet18"]]
)
def test_offline_touches_no_network_even_when_fetching_was_agreed(tlapp, photos, monkeypatch, command):
    monkeypatch.setenv("TLAPP_OFFLINE", "1")
    monkeypatch.chdir(photos.parent)
    sentence = refused(tlapp(*command))
    assert "TLAPP_OFFLINE is set" in sentence
    assert catalog.INCLUDED in sentence
    assert not catalog.weights_path(catalog.get("resnet18")).exists()


def test_a_workspace_that_cannot_be_made_is_one_sentence(tlapp, photos, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TLAPP_HOME", str(tmp_path / "file" / "home"))
    assert "Set TLAPP_HOME" in refused(tlapp("train", photos))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["train", "photos", "--epochs", "ten"],
        ["train", "photos", "--colour", "red"],
        ["predict", "latest"],
        ["evaluate"],
        ["resume"],
        ["weights", "put"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_its_usage(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith("usage: tlapp")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "photos", "--set", "dropout"], "--set dropout has no value"),
        (["weights", "get"], "Name the backbone"),
        (["trian", "photos"], "There is no command 'trian'. Did you mean 'train'?\n"),
        (["dance"], "There is no command 'dance'. There are train, tune, audit, "),
        (["runs", "--json", "comapre", "1", "2"], "tlapp runs has no action 'comapre'. Did you mean 'compare'?\n"),
    ],
    ids=["setting without value", "no backbone to fetch", "misspelt command", "no command", "no action"],
)
def test_a_command_line_that_is_not_complete_ends_with_2_and_a_sentence(tlapp, photos, arguments, words):
    code, out, err = tlapp(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"tlapp: {words}")


def test_ctrl_c_while_photos_are_read_does_not_speak_of_a_run(tlapp, photos, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "scan", interrupted)
    assert refused(tlapp("train", photos)) == "tlapp: Stopped."


def test_a_second_ctrl_c_leaves_at_once_and_says_how_to_go_on(tlapp, own_run, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt
        yield

    own_run.ask_to_stop()
    monkeypatch.setattr(jobs, "resume", lambda run: run)
    monkeypatch.setattr(jobs, "follow", interrupted)
    assert f"`tlapp resume {own_run.id}` goes on" in refused(tlapp("resume", own_run.id))


def test_a_home_folder_that_nobody_has_is_one_sentence(tlapp, photos, monkeypatch):
    for arguments in (["--test", "~nobody-here/x"], ["--backbone", "resnet18", "--weights", "~nobody-here/x"]):
        assert "no home folder for the beginning of ~nobody-here/x" in refused(tlapp("train", photos, *arguments))
    monkeypatch.setenv("TLAPP_HOME", "~nobody-here/x")
    assert "no home folder for the beginning of ~nobody-here/x" in refused(tlapp("runs"))


# --- the instant model, and how runs compare with it


def test_an_instant_run_has_its_head_and_what_it_is_compared_with(tlapp, photos):
    code, out, err = tlapp("train", photos, "--instant", "--json")
    result = json.loads(out)
    assert code == 0
    assert list(result)[: len(TRAIN_KEYS)] == TRAIN_KEYS
    assert (result["solver"], result["head"], result["mirror"], result["fine_tuned"]) == (
        "exact",
        "ridge",
        False,
        False,
    )
    assert result["depth"] in ("last", "several")
    compared = result["compared"]
    assert [compared[name] for name in ("n", "run", "instant", "differ")] == [4, 4, 4, 0]
    assert compared["run_interval"] == compared["instant_interval"] == pytest.approx([0.51, 1], abs=0.01)
    assert (result["epochs"], result["accuracy"], result["frozen"]) == (1, 1.0, list(BLOCKS))
    assert "computed once, exactly" in err
    _, text, _ = tlapp("train", photos, "--instant")
    assert f"Ridge head on all frozen blocks, 4 (51 to 100 %) of 4 photos right, {evaluate.UNSEEN}, " in text
    assert "instant model" not in text


def test_a_run_says_how_it_compares_with_the_instant_model_and_why_it_was_not_fine_tuned(tlapp, photos):
    _, text, _ = tlapp("train", photos)
    assert (
        f"This run does as well as the instant model on 4 photos, {evaluate.UNSEEN}: each is right about 4 (51 to "
        "100 %)." in text
    )
    assert "With 8 training photos stage7, top is not fine-tuned; from 100 on that is tried." in text


@pytest.mark.parametrize("extra", [["--epochs", 2], ["--freeze", "none"], ["--set", "augmentation=light"]], ids=str)
def test_an_instant_run_with_settings_that_it_does_not_have_is_refused(tlapp, photos, extra):
    code, out, err = tlapp("train", photos, "--instant", *extra)
    assert code in (1, 2)
    assert out == ""
    assert len([line for line in err.splitlines() if line.startswith("tlapp: ")]) == 1


def test_a_run_that_does_worse_than_the_instant_model_says_so_and_is_no_failure(tlapp, photos):
    hopeless = ["--epochs", 1, "--set", "head_rate=1e-7", "--set", "augmentation=off", "--seed", 1]
    hopeless += ["--set", "precision=float32"]  # "auto" is what is quickest at the moment
    code, out, _ = tlapp("train", photos, *hopeless)
    assert code == 0
    result = json.loads(tlapp("train", photos, *hopeless, "--json")[1])
    compared = result["compared"]
    assert compared["n"] == compared["instant"] == 4
    assert compared["run"] == round(4 * result["validation_accuracy"]) < 4
    assert evaluate.beside_instant(compared) in out
    assert "tlapp train FOLDER --instant" in out
    assert "head" not in result, "of an exact head alone"


def test_framing_reaches_the_run_its_instant_model_and_the_sentence_that_offers_it(tlapp, photos, home, monkeypatch):
    monkeypatch.setattr(pool, "instant_right", lambda pool, *_: np.ones(len(pool.indices), dtype=bool))
    _, out, _ = tlapp("train", photos, "--epochs", 1, "--set", "head_rate=1e-7", "--set", "framing=letterbox")
    assert f"The instant model with grey bars does better on 4 photos, {evaluate.UNSEEN}: 4 (51 to 100 %) right" in out
    assert "You get the instant model with tlapp train FOLDER --instant --set framing=letterbox" in out
    assert tlapp("train", photos, "--instant", "--set", "framing=letterbox")[0] == 0
    assert [run.plan.framing for run in runs.all_runs(home)] == ["letterbox"] * 2
    assert [run.plan.is_instant for run in runs.all_runs(home)] == [False, True]
    sentence = "framing is `squeeze`; it must be crop or letterbox."
    assert sentence in refused(tlapp("train", photos, "--set", "framing=squeeze"))


# --- tune


@pytest.fixture
def small_sweep(monkeypatch):
    """Two depths at two rates, for two epochs."""
    from tlapp import estimate, speed, tune

    slow = speed.Speed((1e6,) * 7 + (1e-6,) * 2, (1e-6,) * 9, 1e-6)
    monkeypatch.setattr(estimate, "probe", lambda plan: slow)
    monkeypatch.setattr(tune, "EPOCHS", 2)
    monkeypatch.setattr(tune, "RATES", (1e-3, 1e-4))


def test_tune_prints_every_trial_the_best_and_how_to_train_so(tlapp, photos, small_sweep):
    options = ["--seed", 3, "--set", "augmentation=off", "--budget", 500]
    code, out, _ = tlapp("tune", photos, *options, "--json")
    result = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert list(result) == ["best", "command", "trials"]
    assert [trial["learning"] for trial in result["trials"][:3]] == [[], ["top"], ["stage7", "top"]]
    assert len(result["trials"]) == 5
    assert result["best"] == result["trials"][0], "a tie is the head's"
    scored = {"accuracy", "n", "interval", "method"}
    assert set(result["best"]) == scored | {"learning", "rate", "loss", "seconds", "megabytes", "is_cut"}
    words = shlex.split(result["command"])
    assert words[:2] == ["tlapp", "train"]
    again = json.loads(tlapp(*words[1:], "--json")[1])
    assert (again["solver"], again["frozen"], again["seed"]) == ("exact", list(BLOCKS), 3)
    code, out, err = tlapp("tune", photos, *options)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("head alone")
    assert " exact " in lines[0]
    assert " 100 % of 4 (51 to 100 %) " in lines[0]
    assert lines[2].startswith("stage7, top, head")
    assert " rate 0.001 " in lines[2]
    assert lines[2].endswith(" MB")
    assert lines[5] == "Best on the 4 validation photos: head alone, exact. To train so:"
    assert lines[6] == result["command"]
    assert len(lines) == 7
    assert " MB" not in err.replace("MB are cached", ""), "each line once"


def test_the_command_of_a_sweep_trains_the_blocks_that_it_found_best(tlapp, small_sweep, monkeypatch, tmp_path):
    from tlapp import recipe, train

    folder = fill(tmp_path / "my photos", {"ones": 6, "twos": 6})
    judge, fit_plain = train.judge, recipe.fit_plain

    def all_wrong(*args):
        fitted = yield from fit_plain(*args)
        fitted.right[:] = False
        return fitted

    monkeypatch.setattr(recipe, "fit_plain", all_wrong)

    def all_right(*args):
        loss, right = judge(*args)
        return loss, torch.ones_like(right)

    monkeypatch.setattr(train, "judge", all_right)
    result = json.loads(
        tlapp("tune", folder, "--set", "augmentation=off", "--set", "dropout=0.1", "--budget", 500, "--json")[1]
    )
    assert result["best"]["learning"] == ["top"]
    again = json.loads(tlapp(*shlex.split(result["command"])[1:], "--epochs", 2, "--json")[1])
    assert (again["solver"], again["frozen"]) == ("sgd", list(BLOCKS[:-1]))
    run = runs.find(again["run"], Path(again["path"]).parent.parent)
    assert (run.plan.fine_tune_rate, run.plan.dropout) == (result["best"]["rate"], 0.1)
    assert run.plan.augmentation.is_off


def test_a_budget_too_short_for_anything_is_one_sentence(tlapp, photos, small_sweep):
    sentence = refused(tlapp("tune", photos, "--budget", "1e-6", "--json"))
    assert "nothing could be tried. Give it more: --budget 120." in sentence


@pytest.mark.parametrize("budget", ["0", "-3", "soon", "nan", "inf"])
def test_a_budget_that_is_no_time_ends_with_2(capsys, budget):
    with pytest.raises(SystemExit) as ended:
        main(["tune", "photos", f"--budget={budget}"])
    assert ended.value.code == 2
    assert "--budget" in capsys.readouterr().err


def test_no_sweep_begins_while_a_run_trains(tlapp, photos, small_sweep, home):
    run = jobs.start(data := dataset.scan(photos), quick(data, epochs=10_000, patience=0))
    until(lambda: any(isinstance(event, EpochFinished) for event in run.events()[0]))
    sentence = refused(tlapp("tune", photos))
    jobs.stop(run)
    watch(run)
    assert "A run trains at the moment" in sentence


# --- predict


@pytest.fixture
def here(trained, monkeypatch):
    """The workspace of the trained run, to read."""
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    monkeypatch.chdir(trained.folder)
    return trained


@pytest.mark.parametrize("how", ["latest", "id", "number", "folder"])
def test_predict_gives_every_class_its_probability(tlapp, here, how):
    name = {"latest": "latest", "id": here.run.id, "number": "1", "folder": here.run.path}[how]
    code, out, err = tlapp("predict", name, "test/reds/000.png", "test/blues/001.png", "--json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert [row["file"] for row in rows] == ["test/reds/000.png", "test/blues/001.png"]
    assert [row["label"] for row in rows] == ["reds", "blues"]
    for row in rows:
        assert list(row) == ["file", "label", "probability", "probabilities", "unknown", "strangeness"]
        assert row["unknown"] is (row["strangeness"] > 0.95)
        assert list(row["probabilities"]) == ["blues", "reds"]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probability"] == row["probabilities"][row["label"]] == max(row["probabilities"].values())


@pytest.mark.parametrize(("sure", "said"), [(0.9996, "99 %"), (1.0, "100 %")])
def test_predict_says_100_per_cent_only_where_it_is_all(tlapp, here, monkeypatch, sure, said):
    answer = predict.Prediction("mine.png", "reds", sure, {"blues": 1 - sure, "reds": sure})
    monkeypatch.setattr(predict.Predictor, "predict_files", lambda *_: [answer])
    _, out, _ = tlapp("predict", "latest", "test/reds/000.png")
    assert out.splitlines() == [f"reds  {said}  mine.png"]


def test_predict_goes_through_a_folder_and_past_junk(tlapp, here, tmp_path):
    folder = fill(tmp_path / "more", {"b/reds": 2, "a/blues": 1}, seed=900)
    (folder / "b" / ".DS_Store").write_text("junk")
    code, out, _ = tlapp("predict", "latest", folder)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["blues", "reds", "reds"]
    assert [line.split("  ")[-1] for line in out.splitlines()] == [
        str(folder / name) for name in ("a/blues/000.png", "b/reds/000.png", "b/reds/001.png")
    ]


def test_an_unreadable_photo_is_an_error_after_the_others_are_done(tlapp, here, tmp_path):
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.jpg"
    bad.write_text("hello")
    code, out, err = tlapp("predict", "latest", bad, "test/reds/000.png", missing, "test/blues/000.png", "--json")
    rows = json.loads(out)
    assert code == 1
    assert [set(row) == {"file", "error"} for row in rows] == [True, False, True, False]
    assert [row.get("label") for row in rows] == [None, "reds", None, "blues"]
    assert rows[0] == {"file": str(bad), "error": f"{bad} is a text file, not a photo."}
    assert "does not exist" in rows[2]["error"]
    assert [line.startswith("tlapp: ") for line in err.splitlines()] == [True, True]


FORMULAS = ("=", "+", "-", "@")


def test_a_csv_holds_no_cell_that_a_spreadsheet_would_run(tlapp, own_run, tmp_path, monkeypatch):
    header = json.loads((own_run.path / "plan.json").read_text())
    header["classes"] = ["=1+1", "@sum"]
    (own_run.path / "plan.json").write_text(json.dumps(header))
    own_run.deliver(save(load(own_run.model()), {"classes": json.dumps(header["classes"])}), own_run.report())
    monkeypatch.chdir(tmp_path)
    photo(Path("+plus.png"), (200, 40, 40), 1)
    photo(Path('a,b\n"c".png'), (40, 40, 200), 2)
    Path("=bad.png").write_text("hello")
    code, _, _ = tlapp("predict", own_run.id, "+plus.png", 'a,b\n"c".png', "=bad.png", "--csv", "out.csv")
    rows = list(csv.reader(io.StringIO(Path("out.csv").read_bytes().decode(), newline="")))
    assert code == 1
    assert rows[0] == ["file", "label", "probability", "unknown", "'=1+1", "'@sum", "error"]
    assert [row[0] for row in rows[1:]] == ["'+plus.png", r'a,b\n"c".png', "'=bad.png"]
    assert [row[1] for row in rows[1:]] == ["'@sum", "'=1+1", ""]
    assert [sum(map(float, row[4:6])) for row in rows[1:3]] == pytest.approx([1, 1])
    assert rows[3][2:] == ["", "", "", "", "'=bad.png is a text file, not a photo."]
    assert not [cell for row in rows for cell in row if cell.startswith(FORMULAS)]


BAD_READING = {
    "no such run": (["predict", "0099", "test"], "no run `0099`"),
    "no photos": (["predict", "latest", "void"], "no photos in void"),
    "no folder for the table": (["predict", "latest", "test", "--csv", "nowhere/out.csv"], "nowhere"),
    "no run to score": (["evaluate", "nowhere"], "no run `nowhere`"),
    "no folder to score": (["evaluate", "latest", "nowhere"], "nowhere does not exist"),
    "no known class": (["evaluate", "latest", "foreign"], "is named as a class of run"),
    "no run to resume": (["resume", "nowhere"], "no run `nowhere`"),
    "nothing to resume": (["resume", "latest"], "is finished; there is nothing to resume"),
    "no such weights": (["weights", "get", "vgg"], "no backbone `vgg`"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD_READING.values(), ids=BAD_READING)
def test_wrong_input_about_a_run_is_one_sentence(tlapp, own_run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    fill(Path("test"), {"reds": 1})
    fill(Path("foreign"), {"greens": 1})
    Path("void").mkdir()
    assert words in refused(tlapp(*arguments, "--json"))


def test_without_any_run_every_command_says_how_to_begin(tlapp, tmp_path):
    assert "no finished run yet" in refused(tlapp("predict", "latest", "a.png"))
    assert tlapp("runs")[1] == "No runs yet. Start one with `tlapp train FOLDER`.\n"
    assert tlapp("runs", "--json")[1] == "[]\n"


def test_a_damaged_model_is_one_sentence(tlapp, own_run, photos):
    path = model_file(own_run)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "its bytes changed since it was saved" in refused(tlapp("predict", "latest", photos))


# --- evaluate, runs, resume, weights


def test_evaluate_scores_the_own_test_photos_as_the_training_did(tlapp, here):
    code, out, err = tlapp("evaluate", "latest", "--json")
    result, report = json.loads(out), here.run.report()
    assert (code, err) == (0, "")
    assert {"accuracy", "n", "per_class", "confusion"} <= set(result)
    shares = {"precision", "recall", "f1"}
    assert [set(row) for row in result["per_class"].values()] == [
        shares | {f"{s}_interval" for s in shares} | {"n"}
    ] * 2
    for name in ("accuracy", "interval", "method", "n", "per_class", "confusion"):
        assert result[name] == report[name]


def test_evaluate_scores_a_folder_and_says_what_to_know(tlapp, here, tmp_path):
    folder = fill(tmp_path / "more", {"reds": 2, "blues": 2, "greens": 1}, seed=900)
    code, out, err = tlapp("evaluate", "latest", folder)
    assert code == 0
    assert "of 4 photos right, plausibly " in out
    assert "reds: precision " in out
    assert err == "Left out `greens`: the run knows no such class.\n"
    _, _, err = tlapp("evaluate", "latest", here.folder / "train", "--json")
    assert "8 of these 8 photos took part in the training" in err


def test_runs_lists_each_with_its_state_and_accuracy(tlapp, own_run, home, photos):
    data = dataset.scan(photos)
    run = jobs.start(data, quick(data, epochs=10_000, patience=0))
    rows = json.loads(tlapp("runs", "--json")[1])
    jobs.stop(run)
    watch(run)
    (home / "runs" / "0009-badbad").mkdir()
    (home / "runs" / "0009-badbad" / "plan.json").write_text("{}")
    assert [(row["run"], row["state"]) for row in rows] == [(own_run.id, "finished"), (run.id, "running")]
    assert rows[0]["accuracy"] == own_run.report()["accuracy"]
    assert rows[0]["path"] == str(own_run.path)
    assert (rows[1]["accuracy"], rows[1]["source"]) == (None, str(photos))
    rows = json.loads(tlapp("runs", "--json")[1])
    assert [row["state"] for row in rows] == ["finished", "stopped", "damaged"]
    code, out, err = tlapp("runs")
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()] == ["finished", "stopped", "damaged"]


def test_runs_are_named_annotated_removed_and_brought_back(tlapp, own_run, home):
    code, out, err = tlapp("runs", "name", "latest", "first", "try")
    assert (code, out, err) == (0, f"The name of run {own_run.id}: first try\n", "")
    assert json.loads(tlapp("runs", "note", "latest", "too dark", "--json")[1])["note"] == "too dark"
    line = tlapp("runs")[1]
    (row,) = json.loads(tlapp("runs", "--json")[1])
    assert (row["name"], row["note"], row["approach"]) == ("first try", "too dark", "head (sgd)")
    assert row["created"][:16] in line
    assert "head (sgd)" in line
    assert line.endswith("first try\n")
    assert tlapp("runs", "name", "latest")[1] == f"Run {own_run.id} has no name now.\n"
    assert f"tlapp runs restore {own_run.id}" in tlapp("runs", "remove", "latest")[1]
    assert tlapp("runs", "--json")[1] == "[]\n"
    (row,) = json.loads(tlapp("runs", "removed", "--json")[1])
    assert row["run"] == own_run.id
    assert tlapp("runs", "restore", own_run.id)[1] == f"Run {own_run.id} is back.\n"
    assert "no removed run" in refused(tlapp("runs", "restore", own_run.id))
    with own_run.lock():
        assert "Stop it first" in refused(tlapp("runs", "remove", own_run.id))
    elsewhere = own_run.path.rename(home.parent / "elsewhere")
    assert "outside the workspace" in refused(tlapp("runs", "remove", elsewhere))
    assert (elsewhere / "plan.json").exists()


def test_two_runs_are_compared(tlapp, own_run, home):
    other = home / "runs" / "0002-bbbbbb"
    shutil.copytree(own_run.path, other)
    for name, edit in {"plan.json": lambda v: v["plan"].update(epochs=7), "report.json": miss_the_first}.items():
        values = json.loads((other / name).read_bytes())
        edit(values)
        (other / name).write_text(json.dumps(values))
    code, out, err = tlapp("runs", "compare", "1", "2")
    assert (code, err) == (0, "")
    assert "  epochs: 3 -> 7\n" in out
    assert "0 fixed, 1 broken, 0 wrong in both, of 8 shared test photos." in out
    assert "  broken: " in out
    for order in (("runs", "--json", "compare", "1", "2"), ("runs", "compare", "1", "2", "--json")):
        assert len(json.loads(tlapp(*order)[1])["broken"]) == 1
    assert "There is no run" in refused(tlapp("runs", "compare", "1", "3"))


def miss_the_first(report):
    for i, one in enumerate(report["photos"]):
        one["label"] = one["class"] if i else next(c for c in report["classes"] if c != one["class"])


def test_resume_goes_on_from_the_epoch_where_the_run_stopped(tlapp, photos, stop_at):
    stop_at(11)
    data = dataset.scan(photos)
    run = jobs.start(data, quick(data, epochs=5, batch_size=4))
    stopped = watch(run)[-1]
    assert 0 < stopped.epochs < 5
    code, out, err = tlapp("resume", run.id, "--json")
    result = json.loads(out)
    assert code == 0
    assert list(result)[: len(TRAIN_KEYS)] == TRAIN_KEYS
    assert (result["run"], result["state"], result["epochs"]) == (run.id, "finished", 5)
    assert f"Resumed after epoch {stopped.epochs}." in err


def test_stop_ends_a_run_and_says_so(tlapp, photos):
    data = dataset.scan(photos)
    run = jobs.start(data, quick(data, epochs=10_000, patience=0))
    until(lambda: any(isinstance(event, EpochFinished) for event in run.events()[0]))
    code, out, err = tlapp("stop", run.id)
    assert (code, err) == (0, "")
    assert f"Run {run.id} was asked to stop." in out
    watch(run)
    assert run.state() == "stopped"
    assert f"Run {run.id} is not running (it is stopped)" in refused(tlapp("stop", run.id))


def test_weights_lists_what_is_here_and_get_of_what_is_here_fetches_nothing(tlapp):
    rows = json.loads(tlapp("weights", "--json")[1])
    assert [row["backbone"] for row in rows] == list(catalog.BACKBONES)
    assert {row["backbone"] for row in rows if row["here"]} == {catalog.INCLUDED}
    assert all(row["terms"] and row["blocks"] for row in rows)
    code, out, _ = tlapp("weights", "get", catalog.INCLUDED, "--json")
    assert code == 0
    assert Path(json.loads(out)["path"]).is_file()
    assert "resnet18" in tlapp("weights")[1]


def test_an_unforeseen_fault_is_one_sentence_with_its_details_in_a_file(tlapp, home, monkeypatch):
    def faulty(_):
        raise ZeroDivisionError

    monkeypatch.setattr(runs, "all_runs", faulty)
    assert "A fault of the program (ZeroDivisionError)" in refused(tlapp("runs"))
    assert '"error": "ZeroDivisionError"' in (home / "tlapp.log").read_text()


# --- as a process of its own


def test_ctrl_c_stops_a_real_training_and_keeps_the_best(home, tmp_path, timed):
    home.mkdir()
    shutil.copy(timed, home)
    photos = fill(tmp_path / "photos", {name: n // 2 for name, n in SIDES.items()})
    process = subprocess.Popen(
        [sys.executable, "-m", "tlapp", "train", photos, "--json", "--epochs", "10000", "--set", "patience=0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        until(lambda: any(isinstance(e, EpochFinished) for run in runs.all_runs(home) for e in run.events()[0]))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    result = json.loads(out)
    assert process.returncode == 0
    assert result["state"] == "stopped"
    assert 1 <= result["best_epoch"] <= result["epochs"] < 10_000
    assert "Stopping; the best so far is kept." in err
    assert "Traceback" not in err
    assert runs.find(result["run"], home).has_model()


def test_whole_sub_folders_are_split_on_the_command_line_too(tlapp, tmp_path):
    days = fill(tmp_path / "days", {f"{c}/day{d}": 2 for c in ("blues", "reds") for d in range(5)})
    code, out, _ = tlapp("train", days, "--instant", "--set", "split_by=folder", "--json")
    assert code == 0
    run = runs.Run(Path(json.loads(out)["path"]))
    assert run.plan.split_by == "folder"
    files = [photo["file"] for photo in run.report()["photos"]]
    tested = {file.split("/")[1] for file in files}
    assert len(files) == 4 * len(tested)
    few = fill(tmp_path / "few", {f"{c}/day{d}": 4 for c in ("blues", "reds") for d in range(2)}, seed=300)
    flat = fill(tmp_path / "flat", {"blues": 6, "reds": 6}, seed=600)
    for command in (["train"], ["tune", "--budget", 5]):
        folder = [*command, "--set", "split_by=folder"]
        assert "Too few sub-folders to split by in `blues`, `reds`" in refused(tlapp(*folder, few))
        assert "There are no sub-folders within the classes" in refused(tlapp(*folder, flat))
    assert "must be photo or folder" in refused(tlapp("train", flat, "--set", "split_by=day"))


def test_test_photos_that_are_the_training_photos_are_refused(tlapp, tmp_path):
    flat = fill(tmp_path / "flat", {"blues": 6, "reds": 6})
    assert "the very photos to train on" in refused(tlapp("train", flat, "--test", flat))
