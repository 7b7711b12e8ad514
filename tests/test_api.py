"""The page's endpoints as a program meets them: the documented examples, and what is refused, each in one sentence."""

import functools
import html
import json
import re
import shutil
import time
import zipfile
from pathlib import Path

import httpx
import pytest
import torch
from conftest import COLOURS, fill, photo, until
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from safetensors.torch import save_file
from test_library import examples

from tlapp import cli, dataset, jobs, journal, runs, ui
from tlapp.ui import api, pieces
from tlapp.ui.serve import uploads_folder

ENDPOINTS = {
    "/load_dataset", "/suggest_plan", "/start_training", "/run_status", "/stop", "/predict", "/export"
}  # fmt: skip
AUTH = "ana:correct horse"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One served page; each test has a workspace of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(tmp_path_factory.mktemp("page")))
        page = ui.launch(port=0, browser=False, wait=False)
        yield page
        page.close()


@pytest.fixture(scope="module")
def shared_client(served, tmp_path_factory):
    return Client(served.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def client(shared_client, home, small_pictures):
    """A client of the page, in a workspace of the test's own; whatever still trains at the end is stopped."""
    yield shared_client
    jobs.close()


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "photos", {"reds": 8, "blues": 8})


def ask(client, name, *given, **named):
    return client.predict(*given, **named, api_name=f"/{name}")


def refusal(client, name, *given, **named):
    """The sentence that an endpoint answers instead."""
    with pytest.raises(AppError) as caught:
        ask(client, name, *given, **named)
    said = str(caught.value)
    assert re.fullmatch(r"\S[^\n]{10,400}[.?)]", said), said
    assert not re.search(r"Traceback|show_error|fault of the program", said)
    return said


# --- what is there


def test_the_examples_of_the_docs_run_in_order_as_they_stand(
    served, client, folder, tmp_path, home, monkeypatch, capsys
):
    photo(tmp_path / "new-photo.jpg", COLOURS["blues"], 99)
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in examples("api.md", {"http://127.0.0.1:7860": served.url, "/home/me/photos": str(folder)}):
        exec(example, names)
    said = capsys.readouterr().out
    assert names["loaded"]["classes"] == {"blues": 8, "reds": 8}
    assert re.search(r"\d+% of 4 test photos are right, plausibly \d+% to \d+%", said)
    assert re.search(r"^new-photo.jpg (reds|blues) 0\.\d+ ", said, re.M)
    assert "There is no run `0000-nobody` here." in said
    assert all(name in said for name in ENDPOINTS)  # of `view_api`
    assert names["proof"]["max_difference"] < 1e-3
    assert sorted(Path(name).name for name in zipfile.ZipFile(names["bundle"]).namelist()) == names["proof"]["files"]
    assert [run.id for run in runs.all_runs(home)] == [names["run"], names["another"]]


def test_the_endpoints_and_nothing_else_are_offered_each_documented(client):
    offered = client.view_api(return_format="dict", print_info=False)
    assert set(offered["named_endpoints"]) == ENDPOINTS
    assert not offered["unnamed_endpoints"]
    page = (Path(__file__).resolve().parents[1] / "docs/api.md").read_text()
    for name, endpoint in offered["named_endpoints"].items():
        assert f"## {name}\n" in page
        assert 30 < len(endpoint["description"]) < 120, name
        for value in (*endpoint["parameters"], *endpoint["returns"]):
            assert value["label"], name
            assert value["python_type"]["type"] not in ("", "Any"), name
            assert len(value["python_type"]["description"]) > 10, name
    assert "-> (proof, bundle)" in client.view_api(return_format="str", print_info=False)


def test_an_uploaded_zip_and_the_folder_it_was_made_of_are_the_same_photos_and_the_upload_is_gone(
    client, folder, tmp_path
):
    (folder / "reds" / "notes.txt").write_text("no photo")
    zipped = shutil.make_archive(str(tmp_path / "my photos"), "zip", folder)
    by_path = ask(client, "load_dataset", str(folder))
    sent = ask(client, "load_dataset", handle_file(zipped))
    for loaded in (by_path, sent):
        assert (loaded["classes"], loaded["photos"], loaded["n_skipped"]) == ({"blues": 8, "reds": 8}, 16, 1)
        assert loaded["skipped"][0]["file"] == "reds/notes.txt"
    assert not list(uploads_folder().rglob("my photos.zip"))


def test_test_photos_may_come_from_another_folder(client, folder, tmp_path):
    more = fill(tmp_path / "more", {"reds": 2, "blues": 2}, seed=500)
    loaded = ask(client, "load_dataset", str(folder), test=str(more))
    found = dataset.load(Path(runs.workspace.home()) / "datasets" / loaded["dataset"])
    assert [p.side for p in found.photos].count("test") == 4


def test_a_plan_with_settings_is_the_one_of_the_command_line_and_comes_back_whole(client, folder, home):
    loaded = ask(client, "load_dataset", str(folder))
    settings = {"frozen": ["stem", "stage1"], "epochs": 3, "augmentation": "off", "seed": 5}
    plan = ask(client, "suggest_plan", loaded["dataset"], settings)
    assert (plan["solver"], plan["frozen"], plan["epochs"], plan["seed"]) == ("sgd", ["stem", "stage1"], 3, 5)
    plan |= {"frozen": ask(client, "suggest_plan", loaded["dataset"])["frozen"], "device": "cpu"}
    run = ask(client, "start_training", loaded["dataset"], plan)["run"]
    assert runs.find(run).plan.to_dict() == plan


def test_answers_have_the_fields_of_the_command_line(client, own_run, folder, capsys):
    one = folder / "reds" / "000.png"
    (answer,) = ask(client, "predict", own_run.id, handle_file(one))
    cli.main(["predict", own_run.id, str(one), "--json"])
    (said,) = json.loads(capsys.readouterr().out)
    assert answer == said | {"file": "000.png"}


def test_of_several_photos_one_that_cannot_be_read_is_named_and_the_others_are_answered(client, own_run, folder):
    broken = folder / "broken.jpg"
    broken.write_text("no photo")
    sent = [handle_file(path) for path in (broken, folder / "reds" / "000.png", folder / "blues" / "000.png")]
    first, *others = ask(client, "predict", own_run.id, sent)
    assert first["file"] == "broken.jpg"
    assert first["error"].startswith("broken.jpg is ")
    assert [answer["file"] for answer in others] == ["000.png", "000.png"]
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in others)


def test_a_live_run_tells_how_far_it_is_and_is_stopped_with_its_best_kept(client, folder):
    loaded = ask(client, "load_dataset", str(folder))
    settings = {"epochs": 9000, "patience": 0, "augmentation": "off", "device": "cpu"}
    plan = ask(client, "suggest_plan", loaded["dataset"], settings)
    run, waiting = (ask(client, "start_training", loaded["dataset"], plan)["run"] for _ in range(2))

    def status(name):
        return ask(client, "run_status", name)

    live = until(lambda: (now := status(run))["epoch"] > 1 and now)
    assert (live["state"], live["epochs"], live["accuracy"]) == ("running", 9000, None)
    assert live["seconds_left"] > 0
    assert set(live["validation"]) == {"accuracy", "n", "interval", "method"}
    assert status(waiting)["waits_for"] == 1
    assert ask(client, "stop", waiting)["run"] == waiting
    ask(client, "stop", run)
    ended = until(lambda: (now := status(run))["state"] != "running" and now)
    low, high = ended["interval"]
    assert ended["state"] == "stopped"
    assert 0 <= low <= ended["accuracy"] <= high <= 1
    assert (ended["n"], ended["error"], ended["doing"]) == (4, None, None)
    assert ask(client, "stop", run) == {"run": run, "state": "stopped"}


def test_a_run_that_failed_says_why(client, folder):
    loaded = ask(client, "load_dataset", str(folder))
    settings = {"head_rate": 10, "epochs": 3, "weight_decay": 10, "device": "cuda"}
    run = ask(client, "start_training", loaded["dataset"], ask(client, "suggest_plan", loaded["dataset"], settings))
    ended = until(lambda: (now := ask(client, "run_status", run["run"]))["state"] != "running" and now)
    assert ended["state"] == "failed"
    assert "cuda" in ended["error"]


def test_names_that_json_cannot_hold_are_shown_as_escapes(client, tmp_path):
    odd = "caf\udce9 <b>"
    source = fill(tmp_path / "odd", {odd: 3, "reds": 3})
    assert set(ask(client, "load_dataset", str(source))["classes"]) == {"caf\\udce9 <b>", "reds"}


def test_a_status_is_answered_while_a_dataset_is_being_read(client, own_run, folder, monkeypatch):
    reading = jobs.threading.Event()
    go_on = jobs.threading.Event()
    scan = api.datasets.scan

    def slow(*given, **named):
        reading.set()
        assert go_on.wait(30)
        return scan(*given, **named)

    monkeypatch.setattr(api.datasets, "scan", slow)
    job = client.submit(str(folder), api_name="/load_dataset")
    assert reading.wait(30)
    began = time.monotonic()
    assert ask(client, "run_status", own_run.id)["state"] == "finished"
    assert time.monotonic() - began < 5
    assert not job.done()
    go_on.set()
    assert job.result(30)["photos"] == 16


# --- what is refused


UNKNOWN = ["0123456789abcdef", "", "../../etc", 7, None, ["a"], {"path": "/etc/passwd"}, "x" * 9999]


@pytest.mark.parametrize("name", ["suggest_plan", "start_training"])
def test_an_unknown_dataset_is_refused(client, name):
    for given in UNKNOWN:
        assert refusal(client, name, given).startswith("There is no dataset `")


@pytest.mark.parametrize("name", ["run_status", "stop", "predict", "export"])
def test_an_unknown_run_is_refused(client, own_run, name):
    for given in [*UNKNOWN, "latest", str(own_run.path)]:
        more = [[]] if name == "predict" else []
        assert refusal(client, name, given, *more).startswith("There is no run `")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [("no/such/folder", "no/such/folder does not exist"), ("", "The path is empty"), ("  ", "The path is empty"),
     (7, "That is no file that was sent"), (None, "That is no file that was sent"), ([], "That is no file"),
     ("\0", "does not exist"), ("~nobody-here/photos", "There is no home folder")],
)  # fmt: skip
def test_a_source_that_cannot_be_read_is_refused(client, given, sentence):
    assert sentence in refusal(client, "load_dataset", given)


def test_a_source_without_classes_and_a_file_that_is_no_zip_are_refused(client, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(client, "load_dataset", str(tmp_path / "empty"))
    (tmp_path / "photos.zip").write_text("no zip")
    assert "photos.zip is a file, but not a zip" in refusal(
        client, "load_dataset", handle_file(tmp_path / "photos.zip")
    )
    assert "text" in refusal(client, "load_dataset", str(tmp_path / "empty"), test=["a"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"epoch": 3}, "Did you mean epochs?"), ({"epochs": "many"}, "it must be a whole number"),
     ({"epochs": 0}, "it must be from 1"), ({"epochs": {"a": 1}}, "neither a number nor a text"),
     ({"seed": True}, "neither a number nor a text"), ({"frozen": ["roof"]}, "no block `roof`"),
     ({"backbone": "vgg"}, "vgg"), ({"l2": 1, "epochs": 3}, "does not go with"), ("epochs=3", "not an object"),
     ({"weights": "/etc/passwd"}, "weights file is gone"), ({"dropout": "nan"}, "it must be from 0"),
     ({"seed": 10**400}, "seed is too large; it must be from 0")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(client, folder, settings, sentence):
    loaded = ask(client, "load_dataset", str(folder))
    assert sentence in refusal(client, "suggest_plan", loaded["dataset"], settings)


def test_a_broken_plan_is_refused_and_starts_nothing(client, folder, home):
    loaded = ask(client, "load_dataset", str(folder))
    plan = ask(client, "suggest_plan", loaded["dataset"])
    broken = [
        {}, {"backbone": "resnet18"}, plan | {"epochs": "3"}, plan | {"epochs": 10**400}, plan | {"frozen": 3},
        plan | {"augmentation": []}, plan | {"augmentation": {"crop": 5}}, plan | {"colour": "red"}, [plan], "plan",
        plan | {"schema": 99}, plan | {"weights": "../../etc/passwd"}, plan | {"backbone": ["resnet18"]},
        plan | {"test_fraction": None}, plan | {"backbone": "resnet18", "frozen": []},
    ]  # fmt: skip
    for one in broken:
        refusal(client, "start_training", loaded["dataset"], one)
    assert not runs.all_runs(home)


def test_a_run_without_a_model_is_refused_by_predict_and_export(client, folder, home):
    loaded = ask(client, "load_dataset", str(folder))
    found = dataset.load(home / "datasets" / loaded["dataset"])
    run, lock = runs.create(home, {"plan": {}, "dataset": found.id, "source": "x", "classes": ["blues", "reds"]})
    lock.release()
    one, before = handle_file(folder / "reds" / "000.png"), set(uploads_folder().glob("downloads/*"))
    assert "has no model yet" in refusal(client, "predict", run.id, one)
    assert "has no model yet" in refusal(client, "export", run.id)
    assert set(uploads_folder().glob("downloads/*")) == before


def test_photos_that_cannot_be_read_are_refused(client, own_run, tmp_path):
    (tmp_path / "broken.jpg").write_text("no photo")
    assert refusal(client, "predict", own_run.id, handle_file(tmp_path / "broken.jpg")).startswith("broken.jpg is ")
    assert "No photo was sent" in refusal(client, "predict", own_run.id, [])


def test_a_photo_of_the_machine_that_was_not_sent_is_refused(client, own_run, folder):
    secret = str(folder / "reds" / "000.png")
    inside = uploads_folder() / "link.png"
    inside.symlink_to(secret)
    meta = {"meta": {"_type": "gradio.FileData"}}
    for one in (secret, {"path": secret}, {"path": str(inside)}, {"path": str(uploads_folder())}, {"path": 7}, {}, 7,
                None, [[secret]]):  # fmt: skip
        assert "That is no file that was sent" in raw_refusal(client, "predict", [own_run.id, one])
    for one in ({"path": secret, **meta}, {"path": str(uploads_folder() / ".." / "x"), **meta},
                {"path": "\0", **meta}, {"path": secret, "size": "big", **meta}):  # fmt: skip
        assert raw_refusal(client, "predict", [own_run.id, one])
        assert raw_refusal(client, "load_dataset", [one, ""])
    assert raw_refusal(client, "predict", [own_run.id]) == api._STRANGE
    inside.unlink()


def raw_refusal(client, name, data):
    """The sentence for a request that `gradio_client` would not send: nothing is uploaded for it."""
    base = client.src.rstrip("/") + "/gradio_api"
    event = httpx.post(f"{base}/call/{name}", json={"data": data}).json()["event_id"]
    said = httpx.get(f"{base}/call/{name}/{event}", timeout=30).text
    assert said.startswith("event: error"), said
    found = json.loads(said.split("data: ", 1)[1])
    sentence = found["error"] if isinstance(found, dict) else found
    assert re.fullmatch(r"\S[^\n]{10,400}[.)]", sentence or ""), said
    assert "fault of the program" not in sentence
    return sentence


def test_nothing_is_fetched_from_an_address_that_is_named(client, own_run):
    address = "http://photos.example/cat.jpg"
    assert refusal(client, "predict", own_run.id, handle_file(address)) == api._ELSEWHERE
    assert refusal(client, "predict", own_run.id, [handle_file(address)]) == api._ELSEWHERE
    assert refusal(client, "load_dataset", handle_file(address)) == api._ELSEWHERE


@pytest.mark.parametrize("depth", [40, 400, 900])
def test_lists_in_lists_are_refused_however_deep(client, own_run, depth):
    nested = functools.reduce(lambda inside, _: [inside], range(depth), "x")
    for name, given in (("predict", [own_run.id, nested]), ("load_dataset", [nested, ""]), ("run_status", [nested]),
                        ("suggest_plan", ["0" * 16, {"seed": nested}])):  # fmt: skip
        raw_refusal(client, name, given)


def test_with_a_password_endpoints_answer_only_to_who_knows_it(folder, home):
    page = ui.launch(host="0.0.0.0", port=0, browser=False, wait=False, auth=AUTH)
    try:
        with pytest.raises(ValueError, match="credentials were not provided"):
            Client(page.url, verbose=False)
        with pytest.raises(ValueError, match="Could not login"):
            Client(page.url, verbose=False, auth=("ana", "wrong horse"))
        for path in ("call/run_status", "queue/join", "run/run_status"):
            body = {"data": ["x"], "fn_index": 0, "session_hash": "s"}
            answer = httpx.post(f"{page.url}gradio_api/{path}", json=body)
            assert answer.status_code == 401, path
        known = Client(page.url, verbose=False, auth=tuple(AUTH.split(":")))
        assert ask(known, "load_dataset", handle_file(zipped(folder, folder.with_suffix(".zip"))))["photos"] == 16
        assert "There is no run" in refusal(known, "run_status", "nobody")
    finally:
        page.close()


@pytest.fixture
def open_page(home, small_pictures):
    """A page that other machines reach, and a browser that signed in."""
    page = ui.launch(host="0.0.0.0", port=0, browser=False, wait=False, auth=AUTH)
    with httpx.Client(base_url=page.url, timeout=60) as browser:
        name, _, password = AUTH.partition(":")
        assert browser.post("login", data={"username": name, "password": password}).status_code == 200
        yield page, browser
    page.close()
    jobs.close()


def test_open_to_other_machines_no_path_is_taken_whoever_sends_it(open_page, folder, home):
    page, browser = open_page
    config = browser.get("config").json()
    boxes = {one["props"].get("elem_id"): one for one in config["components"]}
    assert not any(boxes[name]["props"]["visible"] for name in ("path", "test-path", "read-path"))
    known = Client(page.url, verbose=False, auth=tuple(AUTH.split(":")))
    sent = handle_file(zipped(folder, folder.with_suffix(".zip")))
    for given in ((str(folder),), ("",), (sent, str(folder)), ("/nowhere", "")):
        assert refusal(known, "load_dataset", *given) == pieces.NO_PATHS
    takes_path = [one for one in config["dependencies"] if boxes["path"]["id"] in one["inputs"]]
    assert len(takes_path) == 3  # the button and Enter in either box
    for one in takes_path:
        body = {"data": [str(folder), "", "", "replace the photos"], "fn_index": one["id"], "session_hash": "s"}
        assert browser.post("gradio_api/queue/join", json=body).status_code == 200
        with browser.stream("GET", "gradio_api/queue/data?session_hash=s") as told:
            said = html.unescape("".join(told.iter_text()))
        assert pieces.NO_PATHS in said
    assert not list((home / "datasets").glob("*"))


def strings(found, wanted):
    """A value of every component that a handler reads: `wanted` where it may be any text, else what the page has."""
    return [wanted if one["type"] in TEXTS else one["props"].get("value") for one in found]


TEXTS = {"textbox", "browserstate", "html", "uploadbutton", "image", "downloadbutton"}


def test_no_handler_of_the_page_reads_or_removes_a_file_that_is_named(served, own_run, home, small_pictures, tmp_path):
    kept = weightfile_with_secret(tmp_path / "secret.safetensors")
    meta = {"meta": {"_type": "gradio.FileData"}}
    browser = httpx.Client(base_url=served.url, timeout=60)
    config = browser.get("config").json()
    parts = {one["id"]: one for one in config["components"]}
    handlers = [one for one in config["dependencies"] if not one["queue"] and one["backend_fn"]]
    assert len(handlers) > 40
    evil = ["../" * 20 + str(kept)[1:], {"path": str(kept), **meta},
            {"files": [{"rel": "a/b.png", "path": str(kept)}], "skipped": []}]  # fmt: skip
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    for handler in handlers:
        read = [parts[number] for number in handler["inputs"]]
        if not any(one["type"] in TEXTS for one in read):
            continue
        for wanted in evil:
            body = {"data": strings(read, wanted), "fn_index": handler["id"], "session_hash": "s"}
            answer = browser.post(f"gradio_api/run/{handler['api_name']}", json=body)
            assert "TOP-SECRET" not in answer.text
            assert "fault of the program" not in answer.text, (handler["api_name"], wanted, answer.text)
    browser.close()
    assert b"TOP-SECRET" in kept.read_bytes()
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    before.pop(journal.path(home))  # which tells of it
    assert before == {path: content for path, content in after.items() if path in before}


def weightfile_with_secret(path):
    save_file({"x": torch.zeros(1)}, path, metadata={"run": "TOP-SECRET", "tlapp": "1"})
    return path


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for one in folder.rglob("*.png"):
            archive.write(one, one.relative_to(folder))
    return path
