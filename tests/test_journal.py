"""The log: bounded, whole, harmless, free of secrets, and never in the way."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from conftest import SIDES, fill, quick, watch

from tlapp import cli, dataset, history, jobs, journal, runs, workspace
from tlapp.ui import guard, pieces, serve

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_floods(monkeypatch, home):
    home.mkdir(exist_ok=True)
    monkeypatch.setattr(journal, "_floods", journal._Floods())
    monkeypatch.setattr(journal, "_secrets", set())


def lines(home, event=""):
    """What stands in the log, each line strict JSON in ASCII."""
    text = (home / journal.NAME).read_bytes().decode("ascii")
    assert text.endswith("\n")
    found = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    return [line for line in found if event in ("", line["event"])]


def raised(error):
    """The error, with a traceback."""
    with contextlib.suppress(type(error)):
        raise error
    return error


# --- one file, whole lines, a bounded size


def test_a_line_says_when_what_by_which_process_and_version(home):
    assert journal.note("run_removed", run="0001-abcdef")
    (line,) = lines(home)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("version")
    assert line == {"level": "info", "event": "run_removed", "process": os.getpid(), "run": "0001-abcdef"}


def test_the_log_and_its_older_files_stay_within_four_times_the_bound(home, monkeypatch):
    monkeypatch.setattr(journal, "MOST_BYTES", 2000)
    for i in range(200):
        assert journal.note("cleaned_up", what=f"{i:03d}")
    files = sorted(path.name for path in home.glob("tlapp.log*") if path.suffix != ".lock")
    assert files == ["tlapp.log", "tlapp.log.1", "tlapp.log.2", "tlapp.log.3"]
    assert all(1000 < (home / name).stat().st_size <= 2000 for name in files[1:])
    newest = [json.loads(line)["what"] for name in reversed(files) for line in (home / name).read_text().splitlines()]
    assert newest == [f"{i:03d}" for i in range(200)][-len(newest) :]


def test_two_processes_that_write_at_once_lose_and_tear_no_line(home):
    code = (
        "import sys; from tlapp import journal; journal.MOST_BYTES, journal.OLDER = 1200, 100\n"
        "print(flush=True); sys.stdin.readline()\n"
        "assert all([journal.note('cleaned_up', what=f'{sys.argv[1]}-{i}') for i in range(300)])"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", code, name], **pipes) for name in "ab"]
    assert [writer.stdout.readline() for writer in writers] == ["\n", "\n"]  # both are ready
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    files = [path for path in home.glob("tlapp.log*") if path.suffix != ".lock"]
    assert len(files) > 20
    found = [json.loads(line)["what"] for path in files for line in path.read_text().splitlines()]
    assert sorted(found) == sorted(f"{name}-{i}" for name in "ab" for i in range(300))


def test_threads_that_write_at_once_lose_no_line(home):
    threads = [
        threading.Thread(target=lambda: [journal.note("cleaned_up", what=str(i)) for i in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(home)) == 200


# --- what may stand in it


HOSTILE = ["a\nb", "\x1b[31mred", "\u202egnp.exe", "\u2028", "\ud800", "\x00", '"}\n{"event": "fault"}', "é" * 10_000]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_on_one_line_and_is_harmless(home, name):
    journal.note("cleaned_up", what=name)
    journal.fault(raised(ValueError(name)))
    cleaned, failed = lines(home)
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", str(cleaned) + str(failed)
    )
    assert len(cleaned["what"]) <= journal.MOST_TEXT
    assert len(failed["traceback"]) <= journal.MOST_TRACEBACK


def test_a_long_traceback_keeps_its_beginning_and_its_end(home):
    journal.fault(raised(ValueError("x\n" * 50_000 + "the end")))
    (line,) = lines(home)
    assert line["traceback"].startswith("Traceback (most recent call last)")
    assert line["traceback"].endswith("the end\n")


def test_no_secret_is_ever_written(home, monkeypatch):
    monkeypatch.setenv("TLAPP_WEIGHTS_MIRROR", "https://ana:pass/word1@mirror.example/w")
    monkeypatch.setenv("HTTPS_PROXY", "http://bob:proxy-secret@proxy.example:3128")
    guard.Doorman("ana:correct horse")
    secrets = ["pass/word1", "proxy-secret", "correct horse", "c2VjcmV0", "chocolate", "other-secret"]
    said = (
        "no https://ana:pass/word1@mirror.example/w via proxy-secret: correct horse from ftp://u:other-secret@x.example\n"
        "{'authorization': 'Basic c2VjcmV0'}\nCookie: session=chocolate\n(b'cookie', b'chocolate')\nthe rest"
    )
    journal.note("warning", message=said)
    journal.fault(raised(RuntimeError(said)))
    logging.getLogger("strange").addHandler(journal._bridge)
    logging.getLogger("strange").warning("sent %s", said)
    logging.getLogger("strange").removeHandler(journal._bridge)
    text = (home / journal.NAME).read_text()
    assert len(lines(home)) == 3
    assert text.count("the rest") == 3
    assert text.count("ftp://") == 3
    assert not [secret for secret in secrets if secret in text]


def test_what_page_and_commands_do_leaves_no_password_source_or_photo(home, tlapp, tmp_path):
    photos = fill(tmp_path / "my secret holiday", SIDES)
    assert tlapp("train", photos, "--instant")[0] == 0
    assert tlapp("serve", "--host", "nowhere.invalid", "--auth", "ana:correct horse")[0] == 1
    text = (home / journal.NAME).read_text()
    assert not [word for word in ("holiday", "correct horse", "000.png", "reds") if word in text]
    events = [line["event"] for line in lines(home)]
    assert {"dataset_read", "run_created", "run_started", "run_finished", "command_ended"} <= set(events)
    read, made = lines(home, "dataset_read")[0], lines(home, "run_created")[0]
    assert (read["photos"], read["classes"], read["dataset"]) == (20, 2, made["dataset"])
    assert [line["error"] for line in lines(home, "command_ended") if "error" in line] == ["UserError"]
    assert max(map(len, text.splitlines())) < 1000


# --- never in the way


def spoilt(home, how):
    """Something that keeps the log from being written."""
    if how == "full disk":
        (home / journal.NAME).symlink_to("/dev/full")
    elif how == "no file":
        (home / journal.NAME).mkdir()
    elif how == "no lock":
        (home / f"{journal.NAME}.lock").mkdir()
    else:
        home.rmdir()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("how", ["full disk", "no file", "no lock", "no workspace"])
def test_where_the_log_cannot_be_written_the_app_works_and_says_nothing(home, tmp_path, capfd, how):
    spoilt(home, how)
    assert not journal.note("cleaned_up", what="x")
    if how == "no workspace":
        assert not home.exists()
        return
    assert journal.fault(raised(ValueError("x"))) == "Its details could not be saved."
    assert journal.fault(raised(ValueError("x"))) == "Its details could not be saved."
    assert "could not be saved" in pieces.sentence(raised(ZeroDivisionError()))
    assert cli.main(["runs", "--json"]) == 0
    assert capfd.readouterr() == ("[]\n", "")


def test_a_line_that_a_full_disk_cuts_is_taken_back(home, monkeypatch):
    resource = pytest.importorskip("resource")
    journal.note("cleaned_up", what="x")
    size = (home / journal.NAME).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        assert not journal.note("cleaned_up", what="y")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.note("cleaned_up", what="z")
    assert [line["what"] for line in lines(home)] == ["x", "z"]


def test_a_process_that_keeps_the_lock_holds_nobody_up_for_long(home):
    with workspace.lock(home / f"{journal.NAME}.lock"):
        began = time.monotonic()
        assert not journal.note("cleaned_up", what="x")
        assert time.monotonic() - began < 3


def test_the_log_can_be_switched_off(home, monkeypatch):
    monkeypatch.setenv("TLAPP_LOG", "off")
    journal.note("cleaned_up", what="x")
    assert "as TLAPP_LOG is off" in journal.fault(raised(ValueError("x")))
    assert not (home / journal.NAME).exists()


def test_a_flood_of_refusals_is_counted_not_written(home, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: clock[0])
    for _ in range(1000):
        journal.often("request_refused", "foreign", status=421, host="evil.example")
        clock[0] += 0.015
    journal.settle()
    times = [line["times"] for line in lines(home)]
    assert len(times) == 3
    assert sum(times) == 1000


# --- what others would print


def test_faults_on_threads_and_warnings_go_into_the_log_not_onto_the_terminal(home, capfd):
    def work():
        def faulty():
            raise ZeroDivisionError("on a thread")

        thread = threading.Thread(target=faulty, name="somebody's")
        thread.start()
        thread.join()
        logging.getLogger("asyncio").error("never retrieved", exc_info=raised(KeyError("in a task")))
        logging.getLogger("third.party").warning("beware of %s", "it")
        journal._bridge.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",), "levelno": logging.ERROR}))
        logging.getLogger("third.party").info("by the way")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return 3

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert journal.command("test", work) == 3
    assert capfd.readouterr() == ("", "")
    faults = lines(home, "fault")
    assert [(line["error"], line["where"]) for line in faults] == [
        ("ZeroDivisionError", "somebody's"),
        ("KeyError", "asyncio"),
    ]
    assert "faulty" in faults[0]["traceback"]
    assert [
        lines(home, "warning")[0]["message"],
        "DeprecationWarning: old" in lines(home, "warning")[1]["message"],
    ] == ["beware of it", True]
    assert [line["code"] for line in lines(home, "command_ended")] == [3]
    assert journal._bridge not in logging.getLogger().handlers


def test_a_handler_that_fails_unforeseen_says_so_and_leaves_nothing_on_the_terminal(home, capfd):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    from tlapp.ui.api import Page

    def build():
        import gradio as gr

        def faulty(text: str) -> str:
            raise ZeroDivisionError(text)

        with Page() as demo:
            gr.api(faulty, api_name="faulty")
        return demo

    served = serve.launch(build, port=0, browser=False, wait=False)
    try:
        client = Client(served.url, verbose=False)
        with pytest.raises(
            AppError, match=r"A fault of the program \(ZeroDivisionError\)\. Details are in .*tlapp\.log"
        ):
            client.predict("deep within", api_name="/faulty")
        client.close()
        logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=raised(KeyError("asgi")))
        from gradio import queueing

        with contextlib.suppress(IndexError):
            try:
                raise IndexError("gradio's own")
            except IndexError:
                queueing.traceback.print_exc()
                raise
    finally:
        served.close()
    assert "Traceback" not in capfd.readouterr().err
    assert [line["error"] for line in lines(home, "fault")] == ["ZeroDivisionError", "KeyError", "IndexError"]
    assert [lines(home, f"page_{when}")[0]["level"] for when in ("started", "ended")] == ["info", "info"]


def test_the_door_of_the_page_is_told_of_without_what_was_typed(home):
    import asyncio

    doorman = guard.Doorman("ana:correct horse", sleep=lambda _: asyncio.sleep(0))
    app = guard.Guard(None, "127.0.0.1", False)
    scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"host", b"evil\r\n.example" + b"x" * 900),
             (b"cookie", b"chocolate"), (b"authorization", b"Basic c2VjcmV0")]}  # fmt: skip

    async def go():
        async def send(_):
            pass

        assert not await doorman.admits("my-other-password", "wrong horse")
        assert not await doorman.admits("ana", "my-bank-password")
        assert await doorman.admits("ana", "correct horse")
        for _ in range(50):
            await app(scope, None, send)

    worker = threading.Thread(target=lambda: asyncio.run(go()))
    worker.start()
    worker.join()
    journal.settle()
    assert [line["reason"] for line in lines(home, "sign_in_failed")] == ["wrong name", "wrong password"]
    assert len(lines(home, "signed_in")) == 1
    refused = lines(home, "request_refused")
    assert [line["times"] for line in refused] == [1, 49]
    assert refused[0]["status"] == 421
    assert len(refused[0]["host"]) <= journal.MOST_TEXT
    text = (home / journal.NAME).read_text()
    assert not [word for word in ("password@", "my-", "horse", "chocolate", "c2VjcmV0") if word in text]


# --- what is told, and where it is described


def test_a_run_is_followed_from_its_start_to_its_removal(home, make_folder, small_pictures):
    data = dataset.scan(make_folder({"reds": 6, "blues": 6}), home=home)
    run = jobs.start(data, quick(data, epochs=2), home)
    watch(run)
    history.remove(run)
    history.restore(home, run.id)
    told = [line["event"] for line in lines(home) if line.get("run") == run.id]
    assert told == ["run_created", "run_started", "run_finished", "run_removed", "run_restored"]
    assert lines(home, "run_finished")[0]["seconds"] > 0
    assert lines(home, "run_created")[0]["backbone"] == run.plan.backbone


def test_half_a_run_that_is_swept_is_told_of(home):
    (home / "runs/0004-abcdef").mkdir(parents=True)
    runs.sweep(home)
    assert [(line["what"], line["run"]) for line in lines(home, "cleaned_up")] == [("half a run", "0004-abcdef")]


def test_every_event_and_field_that_is_written_is_described():
    part = (ROOT / "docs/formats.md").read_text(encoding="utf-8").partition("## `tlapp.log`")[2].partition("\n## ")[0]
    table, _, words = part.rpartition("|")
    fields = set(re.findall(r"^\| `([a-z0-9_]+)`", table, re.M))
    assert set(re.findall("`([a-z_]+)`", words)) == set(journal.EVENTS)
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tlapp").rglob("*.py"))
    called = set(re.findall(r'journal\.(?:note|often)\(\s*"(\w+)"', written))
    called |= {name for name, _ in journal._OF_RUNS.values()}
    called |= {"command_started", "command_ended", "fault", "warning"}  # by the log itself
    assert called == set(journal.EVENTS)
    assert {field for _, names in journal._OF_RUNS.values() for field in names} <= fields
    for call in re.findall(r"journal\.(?:note|often)\((.*?)\)\n", written):
        assert set(re.findall(r"(?:^|[ (])(\w+)=", call)) <= fields, call
