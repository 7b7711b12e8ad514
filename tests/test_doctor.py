"""`tlapp doctor`: what is well is called well, what is not is named with what to do, and nothing is changed."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import model_file

from tlapp import catalog, doctor, journal, runs, workspace
from tlapp.doctor import examine


@pytest.fixture
def torch_loads(monkeypatch):
    """Torch is not tried: that takes seconds, and some of the tests ask about other things."""
    monkeypatch.setattr(doctor, "_PROBE", "print('{\"threads\": 2}')")


@pytest.fixture
def well(own_run, torch_loads, home):
    """A workspace of one finished run in which all is well."""
    assert examine().needs == ()
    return own_run


def snapshot(folder):
    """Names, sizes, times and contents of all that is in it."""
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


def said(found):
    """All needs in one text."""
    return "\n".join(f"{need.what} {need.do}" for need in found.needs)


# --- the verdict


def test_where_all_is_well_it_says_so_and_ends_with_zero(tlapp, well, home):
    code, out, err = tlapp("doctor")
    assert (code, err) == (0, "")
    assert "\nAll is well, as far as can be seen; --deep also hashes the models.\n" in out
    assert f"attach {home / 'tlapp.log'}" in out
    assert "Runs: 1 finished" in out
    assert "Datasets: 1 whole" in out
    code, out, _ = tlapp("doctor", "--json")
    assert code == 0
    assert json.loads(out)["healthy"] is True
    assert out.count("\n") == 1


def test_what_needs_the_person_is_numbered_with_what_to_do_and_ends_with_one(tlapp, well):
    (well.path / "report.json").write_text("{")
    code, out, err = tlapp("doctor")
    assert (code, err) == (1, "")
    assert "1 thing needs you:\n  1. " in out
    assert f"tlapp runs remove {well.id}" in out
    assert "All is well" not in out


# --- nothing is changed


def test_it_changes_nothing(tlapp, well, home):
    (well.path / ".tmp-x").write_bytes(b"half")
    (home / "runs/0004-abcdef").mkdir()
    (home / "runs/0004-abcdef/lock").touch()
    journal.fault(ValueError("x"))
    before = snapshot(home)
    with well.lock():
        held = snapshot(home)
        tlapp("doctor", "--deep")
        assert snapshot(home) == held
    assert set(before) == set(held)


def test_a_workspace_that_is_missing_is_not_made(tlapp, home, torch_loads):
    code, out, _ = tlapp("doctor")
    shutil.rmtree(home)
    code, out, _ = tlapp("doctor")
    assert code == 0
    assert "not made yet" in out
    assert not home.exists()


# --- what may be broken


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("plan.json", b"{}", "plan.json of run"),
        ("plan.json", b'{"schema": 99}', "Update tlapp"),
        ("events.jsonl", b"no json\n", "record of run"),
        ("report.json", b"[" * 100_000, "report.json of run"),
        ("report.json", b"\xff\xfe", "report.json of run"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_with_the_reason(well, name, content, words):
    (well.path / name).write_bytes(content)
    found = examine()
    assert words in said(found)
    assert [(one.id, one.state) for one in found.runs] == [(well.id, "damaged")]


def test_a_model_that_is_gone_is_named(well):
    model_file(well).unlink()
    assert "model or report is gone" in said(examine())


def test_one_flipped_bit_of_a_model_is_found_when_looking_deep(well):
    data = bytearray(model_file(well).read_bytes())
    data[-1] ^= 1
    model_file(well).write_bytes(data)
    assert examine().needs == ()
    assert f"model of run {well.id} is damaged" in said(examine(deep=True))


@pytest.mark.parametrize("harm", ["list", "pixels"])
def test_photos_that_cannot_be_read_are_named(well, harm):
    folder = well.dataset_folder
    if harm == "list":
        (folder / "dataset.json").write_text("{}")
    else:
        os.truncate(folder / "photos.bin", 1000)
    found = examine()
    assert str(folder) in said(found)
    assert "Load them again" in said(found)
    assert found.datasets[0].state == "damaged"


def test_photos_of_no_run_and_leftovers_are_told_and_need_nobody(well, home):
    unused = shutil.copytree(well.dataset_folder, home / "datasets/unused")
    (home / "uploads/page-dead").mkdir(parents=True)
    (home / "runs/0004-abcdef").mkdir()
    (well.path / ".tmp-x").touch()
    found = examine()
    assert found.unused_datasets == (unused.name,)
    assert set(found.leftovers) == {"uploads/page-dead", "runs/0004-abcdef", f"runs/{well.id}/.tmp-x"}
    assert found.needs == ()


def test_photos_that_a_removed_run_learned_from_count_as_used(tlapp, well):
    assert tlapp("runs", "remove", well.id)[0] == 0
    found = examine()
    assert (found.runs, found.unused_datasets) == ((), ())
    assert {part.kind: part.count for part in found.parts}["trash"] == 1


def test_who_holds_a_lock_is_named(well):
    code = (
        "import sys; from tlapp import journal, runs\n"
        "from pathlib import Path\n"
        "with runs.Run(Path(sys.argv[1])).lock():\n"
        "    journal.note('command_started', command='resume')\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(well.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        found = examine()
        process.stdin.close()
    (lock,) = found.locks
    assert lock.lock == f"runs/{well.id}/lock"
    assert lock.command == "resume" or lock.process is None  # not every system tells
    if sys.platform == "linux":
        assert lock.process == process.pid
    assert [one.state for one in found.runs] == ["running"]
    assert examine().locks == ()


@pytest.mark.parametrize("how", ["a file", "no such place", "no home"])
def test_a_workspace_that_cannot_be_is_named(monkeypatch, tmp_path, torch_loads, how):
    (tmp_path / "file").touch()
    place = {
        "a file": tmp_path / "file",
        "no such place": tmp_path / "file/within",
        "no home": "~nobody-of-that-name/x",
    }
    monkeypatch.setenv("TLAPP_HOME", str(place[how]))
    found = examine()
    assert "set TLAPP_HOME" in said(found) or "Set TLAPP_HOME" in said(found)


def test_a_read_only_workspace_is_looked_at_and_named(well, home, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    found = examine()
    assert not found.writable
    assert f"{home} cannot be written to" in said(found)
    assert [one.state for one in found.runs] == ["finished"]


@pytest.mark.parametrize("may_write", [True, False])
def test_a_place_that_tells_of_no_space_is_no_full_disk_and_no_need_where_the_workspace_is(
    well, home, tmp_path, monkeypatch, may_write
):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(total=0, used=0, free=0))
    found = examine()
    assert (found.needs, found.free_megabytes) == ((), None)
    monkeypatch.setattr(os, "access", lambda path, mode: may_write)
    monkeypatch.setenv("TLAPP_HOME", str(tmp_path / "elsewhere"))
    found = examine()
    assert found.writable == may_write
    (need,) = found.needs
    assert need.what.endswith(f"elsewhere is not there, and {tmp_path} tells of no space.")


def test_a_run_whose_photos_are_gone_is_listed_and_needs_nobody(tlapp, well):
    assert examine().without_photos == ()
    shutil.rmtree(well.dataset_folder)
    found = examine()
    assert (found.without_photos, found.needs) == ((well.id,), ())
    assert f"Runs whose photos are not here, which cannot be resumed or explained: {well.id}" in tlapp("doctor")[1]


def test_a_full_disk_is_named(well, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1e18)
    assert re.search(r"Only [\d,]+ MB are free", said(examine()))


def test_a_torch_that_cannot_be_loaded_is_said_in_a_line(tlapp, own_run, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/torch.py").write_text('raise ImportError("libcudart.so.12: cannot open shared object file")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    code, out, err = tlapp("doctor")
    assert (code, err) == (1, "")
    assert "cannot be loaded: ImportError: libcudart.so.12: cannot open shared object file. Install tlapp again" in out
    assert "Traceback" not in out


def test_a_package_that_is_missing_is_named(well, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    found = examine()
    assert found.machine.packages["no-such-package"] is None
    assert "The package no-such-package is missing" in said(found)


def test_weights_that_are_damaged_are_named_with_what_fetches_them(well):
    path = catalog.weights_path(catalog.BACKBONES["resnet18"])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut short")
    found = examine()
    assert found.weights["resnet18"] == "damaged"
    assert "tlapp weights get resnet18" in said(found)


def test_a_clock_that_stands_wrong_is_named(well):
    later = time.time() + 9 * 24 * 3600
    os.utime(well.path / "plan.json", (later, later))
    assert "This machine's clock says" in said(examine())


def test_a_fault_of_the_last_day_is_named_and_an_older_one_only_listed(tlapp, well, home):
    journal.fault(ZeroDivisionError("division by zero"))
    found = examine()
    assert "failed once in the last day: ZeroDivisionError: division by zero." in said(found)
    log = home / journal.NAME
    log.write_text(re.sub(r'"time": "\d{4}', '"time": "2020', log.read_text()))
    found = examine()
    assert found.needs == ()
    assert [fault["said"] for fault in found.faults] == ["ZeroDivisionError: division by zero"]
    assert "2020-" in tlapp("doctor")[1]


def test_a_log_of_garbage_hinders_nothing(well, home):
    (home / journal.NAME).write_bytes(b'\xff\n[1]\n{"event": 3}\n{"event": "fault"}\n' + b"[" * 100_000)
    assert len(examine().faults) == 1


def test_a_log_that_cannot_be_written_is_named(well, home):
    (home / journal.NAME).unlink()
    (home / journal.NAME).mkdir()
    assert "faults leave no details" in said(examine())


def test_no_value_of_the_environment_is_shown(tlapp, well, monkeypatch):
    monkeypatch.setenv("TLAPP_WEIGHTS_MIRROR", "https://ana:password1@mirror.example")
    monkeypatch.setenv("https_proxy", "http://bob:password2@proxy.example")
    for options in ((), ("--json",)):
        out = tlapp("doctor", *options)[1]
        assert "TLAPP_WEIGHTS_MIRROR" in out
        assert "https_proxy" in out
        assert not re.search(r"password\d|mirror\.example|proxy\.example", out)


def test_hostile_names_stay_on_their_line(tlapp, well, home):
    (home / "evil\n\x1b[31m\u202e").mkdir()
    code, out, _ = tlapp("doctor")
    assert code == 0
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", out)
    assert "\u202e" not in json.dumps(json.loads(tlapp("doctor", "--json")[1]), ensure_ascii=False)


def test_what_lies_in_the_workspace_is_counted_once(well, home):
    twin = home / "datasets/twin"
    twin.mkdir()
    os.link(well.dataset_folder / "photos.bin", twin / "photos.bin")
    shutil.copy(well.dataset_folder / "dataset.json", twin)
    parts = {part.kind: part for part in examine().parts}
    assert (parts["datasets"].count, parts["runs"].count) == (2, 1)
    every = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    twice = (twin / "photos.bin").stat().st_size
    assert sum(part.megabytes for part in parts.values()) == pytest.approx((every - twice) / 1e6)


def test_many_runs_are_looked_at_in_a_moment(well, home):
    for number in range(100, 200):
        other = home / f"runs/{number:04d}-aaaaaa"
        other.mkdir()
        for name in ("plan.json", "events.jsonl", "report.json", model_file(well).name):
            os.link(well.path / name, other / name)
    began = time.monotonic()
    found = examine()
    assert time.monotonic() - began < 3
    assert len(found.runs) == len(runs.all_runs(home)) == 101
    assert found.needs == ()
    assert not workspace.is_locked(well.path / "lock")
