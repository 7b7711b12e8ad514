"""Event files for TensorBoard, read back by TensorBoard's own reader and held against the run's record."""

import errno
import io
import json
import shutil
import sys

import numpy as np
import pytest
from conftest import SIDES, fill
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tlapp import board, runs
from tlapp.board import Board
from tlapp.errors import DataError, UserError
from tlapp.events import EpochFinished, Progress, Queued, Resumed, RunFailed, RunFinished, RunStopped

EPOCH = {
    "loss/training": "train_loss", "loss/validation": "validation_loss", "accuracy/training": "train_accuracy",
    "accuracy/validation": "validation_accuracy", "progress/best epoch": "best_epoch",
    "speed/photos per second": "photos_per_second",
}  # fmt: skip


def read(path):
    """All that TensorBoard finds in a run's folder."""
    found = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 0, "tensors": 0, "histograms": 0})
    found.Reload()
    return found


def scalars(found, tag):
    """Step → value; every step once, in order."""
    points = [(point.step, point.value) for point in found.Scalars(tag)]
    assert [step for step, _ in points] == sorted({step for step, _ in points}), tag
    return dict(points)


def texts(found, tag):
    """What stands under a tag of text."""
    return [point.tensor_proto.string_val[0].decode() for point in found.Tensors(f"{tag}/text_summary")]


def check_epochs(found, events):
    """Every figure of every epoch is there as the record has it, and no other."""
    epochs = {event.epoch: event for event in events if isinstance(event, EpochFinished)}
    for tag, field in EPOCH.items():
        wanted = {number: getattr(event, field) for number, event in epochs.items()}
        assert scalars(found, tag) == pytest.approx(wanted, rel=1e-6), tag


def test_every_figure_of_the_record_is_in_the_files(trained, tmp_path):
    made = board.write(trained.run, tmp_path / "board")
    found = read(tmp_path / "board" / trained.run.id)
    check_epochs(found, trained.events)
    end = trained.events[-1]
    assert isinstance(end, RunFinished)
    assert scalars(found, "accuracy/test") == pytest.approx({3: end.accuracy})
    assert scalars(found, "accuracy/held out") == pytest.approx({3: end.validation_accuracy})
    for event in trained.events:
        if isinstance(event, Progress):
            assert scalars(found, f"progress/{event.stage}")[event.done] == pytest.approx(event.done / event.total)
    assert made == {
        "run": trained.run.id, "path": str(tmp_path / "board" / trained.run.id), "epochs": 3, "files": made["files"],
    }  # fmt: skip
    assert len(made["files"]) == 1


def test_settings_are_there_as_text_and_as_what_runs_are_compared_by(trained, tmp_path):
    board.write(trained.run, tmp_path)
    found = read(tmp_path / trained.run.id)
    plan = trained.run.plan
    assert f"head_rate = {plan.head_rate}" in texts(found, "settings")[0]
    assert texts(found, "classes") == ["    blues\n    reds"]
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    given = HParamsPluginData.FromString(content).session_start_info.hparams
    assert given["head_rate"].number_value == plan.head_rate
    assert given["augmentation.crop"].number_value == plan.augmentation.crop
    assert given["solver"].string_value == plan.solver
    assert given["split_seed"].string_value == "none"


def test_the_pictures_are_those_of_the_run(trained, tmp_path):
    board.write(trained.run, tmp_path)
    found = read(tmp_path / trained.run.id)
    for tag in ("confusion", "curves"):
        (picture,) = found.Images(tag)
        pixels = np.array(Image.open(io.BytesIO(picture.encoded_image_string)).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_times_follow_the_record(trained, tmp_path):
    board.write(trained.run, tmp_path)
    points = read(tmp_path / trained.run.id).Scalars("loss/training")
    seconds = [event.seconds for event in trained.events if isinstance(event, EpochFinished)]
    gaps = np.diff([point.wall_time for point in points])
    assert gaps == pytest.approx(seconds[1:], abs=1e-3)


def test_a_run_written_again_stands_there_once(trained, tmp_path):
    path = tmp_path / trained.run.id
    path.mkdir()
    (path / "events.out.tfevents.1.of-another-program").write_bytes(b"")
    for _ in range(2):
        board.write(trained.run, tmp_path)
    check_epochs(read(path), trained.events)
    assert len(list(path.iterdir())) == 2, "what another program wrote stays"


def test_what_a_resumed_run_tells_twice_is_written_once(trained, tmp_path):
    made = Board(trained.run, tmp_path)
    stopped = RunStopped(1, 2, 0.5, 0.5, 1.0, 2, 4)
    epochs = [event for event in trained.events if isinstance(event, EpochFinished)]
    told = [*trained.events[:-1], stopped, Resumed(2), *epochs[1:], trained.events[-1]]
    for event in told * 2:
        made.add(event)
    made.close()
    found = read(made.path)
    check_epochs(found, trained.events)
    assert len(texts(found, "photos")) == 1
    assert [point.step for point in found.Scalars("accuracy/test")] == [3]


def test_a_run_stopped_and_resumed_has_each_epoch_once(tlapp, tmp_path, home, stop_at):
    photos = fill(tmp_path / "photos", SIDES)
    stop_at(5)
    logs = tmp_path / "board"
    options = ["--set", "solver=sgd", "--set", "augmentation=off", "--epochs", 4, "--tensorboard", logs, "--json"]
    code, out, err = tlapp("train", photos, *options)
    assert code == 0, err
    said = json.loads(out)
    assert said["state"] == "stopped"
    path = logs / said["run"]
    assert said["tensorboard"] == str(path)
    (run,) = runs.all_runs(home)
    check_epochs(read(path), run.events()[0])
    assert len(scalars(read(path), "loss/training")) < 4
    code, out, err = tlapp("resume", said["run"], "--tensorboard", logs, "--json")
    assert code == 0, err
    events = run.events()[0]
    assert any(isinstance(event, Resumed) for event in events)
    check_epochs(read(path), events)
    assert sorted(scalars(read(path), "loss/training")) == [1, 2, 3, 4]
    assert scalars(read(path), "accuracy/test")[4] == pytest.approx(json.loads(out)["accuracy"])


def test_an_exact_head_is_written_too(tlapp, tmp_path, home):
    photos = fill(tmp_path / "photos", SIDES)
    code, _, err = tlapp("train", photos, "--set", "augmentation=off", "--tensorboard", tmp_path / "board", "--json")
    assert code == 0, err
    (run,) = runs.all_runs(home)
    check_epochs(read(tmp_path / "board" / run.id), run.events()[0])


HOSTILE = ("<script>alert(1)</script>", "a\u202eb\n# x | y $z$", "\udcff", "=1+1", "🐜" * 60)


def test_hostile_names_and_values_do_no_harm(own_run, tmp_path):
    for name, change in {
        "plan.json": lambda values: values | {"classes": list(HOSTILE[:2]), "source": HOSTILE[2], "created": "?"},
        "about.json": lambda values: {"name": HOSTILE[0], "note": HOSTILE[1]},
    }.items():
        path = own_run.path / name
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(change(values)))
    made = Board(own_run, tmp_path)
    nan = EpochFinished(1, 1, "head", float("nan"), 0.0, float("inf"), 0.0, False, 0, 1.0, float("nan"), None)
    told = [Queued(1), nan, Progress("x", 0, 0), RunFailed(HOSTILE[1]), RunStopped(0, 0)]
    for event in told:
        made.add(event)
    made.close()
    found = read(made.path)
    assert np.isnan(found.Scalars("loss/training")[0].value)
    assert np.isinf(found.Scalars("loss/validation")[0].value)
    for tag in ("classes", "source", "failed"):
        lines = texts(found, tag)[0].splitlines()
        assert all(line.startswith("    ") and "\u202e" not in line for line in lines)
    assert "accuracy/test" not in found.Tags()["scalars"]


def test_a_run_without_a_model_or_any_event_is_written(own_run, tmp_path):
    (own_run.path / "events.jsonl").unlink()
    (own_run.path / "report.json").unlink()
    assert board.write(own_run, tmp_path)["epochs"] == 0
    assert read(tmp_path / own_run.id).Tags()["images"] == []


def test_the_command_says_where_and_how_to_look(tlapp, own_run, tmp_path):
    code, out, _ = tlapp("runs", "tensorboard", own_run.id, "--to", tmp_path / "my board")
    assert code == 0
    assert out.endswith(f"Look at it: tensorboard --logdir '{tmp_path / 'my board'}'\n")
    code, out, _ = tlapp("runs", "tensorboard", "latest", "--to", tmp_path / "my board", "--json")
    assert json.loads(out)["path"] == str(tmp_path / "my board" / own_run.id)


@pytest.mark.parametrize("command", ["train", "runs"])
def test_without_tensorboard_one_sentence_says_what_to_install(tlapp, own_run, tmp_path, monkeypatch, command):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    to = tmp_path / "board"
    given = {
        "train": ["train", fill(tmp_path / "photos", SIDES), "--tensorboard", to],
        "runs": ["runs", "tensorboard", own_run.id, "--to", to],
    }
    code, out, err = tlapp(*given[command])
    assert (code, out) == (1, "")
    assert err == 'tlapp: TensorBoard is not installed. Get it with: pip install "tlapp[tensorboard]".\n'
    assert not to.exists()


def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(tlapp, tmp_path, home):
    (tmp_path / "file").write_text("")
    code, out, err = tlapp("train", tmp_path / "photos", "--tensorboard", tmp_path / "file" / "board")
    assert (code, out) == (1, "")
    assert str(tmp_path / "file") in err
    assert runs.all_runs(home) == []
    with pytest.raises(UserError, match="file"):
        board.check(tmp_path / "file")


def test_a_disk_that_fills_up_does_not_end_the_run(tlapp, tmp_path, monkeypatch):
    def full(self, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Board, "add", full)
    photos = fill(tmp_path / "photos", SIDES)
    code, out, err = tlapp("train", photos, "--instant", "--tensorboard", tmp_path / "board", "--json")
    assert code == 0
    assert json.loads(out)["tensorboard"] is None
    assert err.count("Nothing more is written for TensorBoard; the run goes on. The disk is full") == 1


def test_a_full_disk_is_one_sentence_where_a_run_is_written_afterwards(own_run, tmp_path, monkeypatch):
    def full(self, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Board, "add", full)
    with pytest.raises(DataError, match="The disk is full"):
        board.write(own_run, tmp_path)


def test_a_record_that_is_damaged_is_one_sentence(tlapp, own_run, tmp_path):
    with open(own_run.path / "events.jsonl", "ab") as file:
        file.write(b"{}}\n")
    code, _, err = tlapp("runs", "tensorboard", own_run.id, "--to", tmp_path / "board")
    assert code == 1
    assert "is damaged" in err
    assert "Traceback" not in err


def test_two_runs_have_folders_of_their_own(own_run, tmp_path):
    other = runs.Run(own_run.path.with_name("0099-abcdef"))
    shutil.copytree(own_run.path, other.path)
    for run in (own_run, other):
        board.write(run, tmp_path / "board")
    assert {p.name for p in (tmp_path / "board").iterdir()} == {own_run.id, other.id}
