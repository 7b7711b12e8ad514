"""A slice of the benchmark `fuzz`, and that it counts what it is there to find."""

import json
import subprocess
import sys
import zipfile

import pytest

from benchmarks import _fuzzer, _mutants, fuzz
from tlapp import dataset, images

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_pictures_are_read_or_refused_in_under_a_second(seed):
    for number in range(300):
        kind, outcome, seconds = _fuzzer.try_picture(seed, number)
        assert outcome in ("read", "refused"), (seed, number, kind)
        assert seconds < 1, (seed, number, kind)


@pytest.mark.parametrize("kind", _mutants.KINDS)
def test_hostile_zips_are_read_or_refused_and_nothing_is_left(kind, tmp_path):
    first = list(_mutants.KINDS).index(kind)
    for number in (first, first + len(_mutants.KINDS), first + 2 * len(_mutants.KINDS)):
        made, outcome, seconds = _fuzzer.try_zip(1, number, tmp_path)
        assert made == kind
        assert outcome in ("read", "refused"), number
        assert seconds < 2, number
    assert list(tmp_path.iterdir()) == []


def test_the_undamaged_originals_are_all_read(tmp_path):
    for data in _mutants.originals().values():
        assert images.load(data).shape in ((48, 64, 3), (64, 48, 3))
    (tmp_path / "good.zip").write_bytes(_mutants.write_zip(list(_mutants._good())))
    assert zipfile.ZipFile(tmp_path / "good.zip").testzip() is None
    assert len(dataset.scan(tmp_path / "good.zip").photos) == 6


def test_an_unforeseen_error_and_a_file_out_of_place_are_faults(tmp_path, monkeypatch):
    def fails(data):
        raise KeyError("oops")

    def writes(source, home):
        (tmp_path / "a/escaped.png").touch()

    monkeypatch.setattr(images, "load", fails)
    assert _fuzzer.try_picture(0, 0)[1] == "KeyError: 'oops'"
    monkeypatch.setattr(_fuzzer, "_written", [])
    monkeypatch.setattr(dataset, "scan", lambda source, home: _fuzzer._written.append("../x.png"))
    assert _fuzzer.try_zip(0, 0, tmp_path)[1] == "written elsewhere: ['../x.png']"
    _fuzzer._written.clear()
    monkeypatch.setattr(dataset, "scan", writes)
    assert _fuzzer.try_zip(0, 0, tmp_path)[1] == "left behind: ['a/escaped.png']"


def test_a_process_that_dies_is_a_fault_and_the_others_are_tried(monkeypatch):
    code = (
        "import json, os, sys; a = json.loads(sys.argv[1])\n"
        "for i in range(a['first'], a['last']):\n"
        "    print(i, flush=True)\n"
        "    if i == 5: os.abort()\n"
        "n = a['last'] - a['first']\n"
        "print(json.dumps({'kinds': {'x': {'tried': n, 'slowest': 0.1 * n}}, 'faults': [], 'peak_mb': n}))"
    )
    monkeypatch.setattr(fuzz, "COMMAND", [sys.executable, "-c", code])
    told = fuzz.in_processes("images", 0, 10, 0)
    assert told["kinds"] == {"x": {"tried": 9, "slowest": 0.5}}
    assert [fault[0] for fault in told["faults"]] == [5]
    assert "died or hung" in told["faults"][0][2]


def test_what_is_written_anywhere_is_noted(tmp_path):
    code = (
        "import os, sys; from benchmarks import _fuzzer; _fuzzer.watch_writing(); os.chdir(sys.argv[1])\n"
        "open('a', 'w').close(); os.close(os.open('b', os.O_CREAT)); os.mkdir('c'); os.symlink('a', 'd'); open('a')\n"
        "os.rename('a', 'e'); print(_fuzzer._written)"
    )
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, cwd=fuzz.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["a", "b", "c", "d", "e"])


def test_rows_become_tables(tmp_path):
    counts = {"tried": 2, "read": 1, "refused": 1, "slowest": 0.25, "slow": 0}
    row = {"n": 2, "seed": 0, "kinds": {"PNG": counts}, "n_faults": 0, "faults": [], "peak_mb": 9, "seconds": 1.0}
    machine = {"cpu": "x", "cores": 2, "torch": "2", "threads": 2}
    fuzz.render([{**row, "what": what, "machine": machine} for what in ("images", "zips")], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "| PNG | 2 | 1 | 1 | 250 |" in text
    assert "0 crashes" in text
    assert json.dumps(machine) not in text
