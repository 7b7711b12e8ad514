"""A model that leaves the app: what is in the bundle, that it answers as the app does, and when it is not written."""

import ast
import inspect
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import COLOURS, photo, seal, shrink_pictures
from PIL import Image

from tlapp import (
    agreement,
    backbones,
    card,
    catalog,
    cli,
    dataset,
    evaluate,
    export,
    graph,
    images,
    predict,
    quantize,
    runs,
)
from tlapp.augment import Views
from tlapp.errors import DataError, RunError
from tlapp.plan import AUGMENTATIONS
from tlapp.predict import Predictor
from tlapp.runs import Run

FILES = {
    "MODEL_CARD.md", "confusion.png", "events.jsonl", "labels.txt", "learned.safetensors", "model.onnx",
    "model.safetensors", "pictures.py", "predict.py", "preprocess.json", "report.json", "requirements.txt", "run.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """A bundle with both models that many tests read, and what was said of it; none may change it."""
    path = tmp_path_factory.mktemp("bundle") / "reds and blues"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(trained.home))
        shrink_pictures(patch)
        return export.export(trained.run, path, int8=True)


def ask(bundle, *files, flags=("--json",)):
    """Exit code, output and complaints of the bundle's own program, run far from tlapp."""
    command = [sys.executable, "-B", str(bundle / "predict.py"), *flags, *map(str, files)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=bundle.parent, env=clean, timeout=120)
    return done.returncode, done.stdout, done.stderr


def odd_photos(folder):
    """A wide photo that lies on its side, one with transparency, one in grey of 16 bits, and one that is none."""
    wide = photo(folder / "wide.png", COLOURS["blues"], 5, (90, 40))
    turned = Image.Exif()
    turned[0x0112] = 6
    with Image.open(wide) as picture:
        picture.save(folder / "turned.jpg", quality=95, exif=turned)
        picture.convert("RGBA").save(folder / "clear.webp", lossless=True)
    grey = np.random.default_rng(0).integers(0, 65535, (70, 64), dtype=np.uint16)
    Image.fromarray(grey).save(folder / "grey.png")
    (folder / "none.jpg").write_bytes(b"hello")
    return [folder / name for name in ("turned.jpg", "clear.webp", "grey.png", "none.jpg", "gone.jpg")]


def test_the_bundle_answers_as_the_app_does_in_the_same_fields(made, trained, small_pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    files = odd_photos(tmp_path)
    code, printed, complaints = ask(made.path, *files)
    ours = list(predict.load(trained.run).predict_files(files))
    theirs = json.loads(printed)
    assert code == 1
    assert "none.jpg" in complaints
    assert "Traceback" not in complaints
    for own, answer in zip(ours[:3], theirs[:3], strict=True):
        assert list(answer) == list(vars(own))
        assert answer["probabilities"] == pytest.approx(own.probabilities, abs=1e-5)
        assert answer["strangeness"] == pytest.approx(own.strangeness, abs=1e-5)
        assert (answer["file"], answer["label"], answer["unknown"]) == (own.file, own.label, own.unknown)
    assert theirs[3] == {"file": str(files[3]), "error": f"{files[3]} {ours[3].reason}."}
    assert set(theirs[4]) == {"file", "error"}


def test_what_the_command_prints_is_what_was_measured(made, trained, small_pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    monkeypatch.setattr(graph, "to_onnx", lambda *_: (made.path / "model.onnx").read_bytes())
    path = tmp_path / "new" / "model.zip"
    assert cli.main(["export", trained.run.id, "--to", str(path), "--web", "--json"]) == 0
    printed, files = json.loads(capsys.readouterr().out), {*FILES, "index.html"}
    assert printed == {
        "path": str(path), "files": sorted(files), "max_difference": made.max_difference, "photos_compared": 4,
        "same_class": 4,
    }  # fmt: skip
    assert 0 < printed["max_difference"] < 1e-4
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {f"model/{name}" for name in files}
        assert archive.read("model/labels.txt").decode() == "blues\nreds\n"


def test_the_bundle_is_whole_and_names_no_place_of_this_machine(made, trained):
    assert {file.name for file in made.path.iterdir()} == set(made.files) == FILES | {export.INT8}
    for file in made.path.iterdir():
        assert str(trained.folder.parent).encode() not in file.read_bytes(), file.name
    for name in ("predict.py", "pictures.py"):
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
            for node in ast.walk(ast.parse((made.path / name).read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert imported - set(sys.stdlib_module_names) <= {"numpy", "PIL", "onnxruntime", "pictures"}


def test_what_is_not_certain_is_never_said_to_be_100_per_cent(made):
    shares = [0.0, 0.004, 0.5, 0.994, 0.9996, 1.0]
    code = f"from predict import percent; print([percent(share) for share in {shares}])"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, cwd=made.path, check=True)
    assert ast.literal_eval(done.stdout) == [evaluate.percent(share) for share in shares]
    assert evaluate.percent(0.9996) == "99 %"


def test_the_onnx_model_says_of_itself_how_it_is_used(made, trained):
    model = onnx.load(made.path / "model.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", graph.OPSET)]
    session = onnxruntime.InferenceSession(made.path / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [56, 56, 3])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(trained.run.classes)
    assert json.loads(told["preprocess"]) == json.loads((made.path / "preprocess.json").read_text())
    assert float(told["keep"]) == trained.run.keep()
    assert float(told["temperature"]) == trained.run.report()["calibration"]["temperature"]
    for n in (1, 3):
        found = session.run(None, {"pixels": np.zeros((n, 56, 56, 3), np.uint8)})
        assert [one.shape for one in found] == [(n, 2), (n,)]


def test_a_mirrored_letterboxed_network_of_several_depths_answers_so_as_onnx(small_pictures):
    entry = catalog.get("resnet18")
    model = backbones.build(entry, 3, several=True)
    model.mirror = True
    predictor = Predictor(model, Views(AUGMENTATIONS["off"], entry, "letterbox"), ("a", "b", "c"))
    photos = [np.random.default_rng(n).integers(0, 256, (60, 40 + 30 * n, 3), dtype=np.uint8) for n in range(3)]
    session = onnxruntime.InferenceSession(graph.to_onnx(predictor, {"classes": ["a", "b", "c"]}))
    pixels = np.stack([images.letterboxed(one, entry.crop, entry.interpolation) for one in photos])
    (found,) = session.run(None, {"pixels": pixels})
    assert np.ptp(found, 0).max() > 1e-3  # the photos are told apart
    np.testing.assert_allclose(found, predictor.probabilities(photos), atol=1e-5)


@pytest.mark.parametrize("wrong", ["probabilities", "program"])
def test_a_bundle_that_answers_otherwise_is_not_written(
    wrong, made, trained, small_pictures, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    right = made.path / "model.onnx"

    def another(*_):
        if wrong == "program":
            return b"no model"
        model = onnx.load(right)
        bias = next(one for one in model.graph.initializer if one.name.endswith("linear.bias"))
        values = onnx.numpy_helper.to_array(bias) + np.float32([0.02, 0])
        bias.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), bias.name))
        return model.SerializeToString()

    monkeypatch.setattr(graph, "to_onnx", another)
    said = r"differ from the app's by up to 0\.00" if wrong == "probabilities" else "its own predict.py fails here"
    with pytest.raises(RunError, match=said):
        export.export(trained.run, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    assert not list((trained.home / "exports").glob("bundle-*[!k]"))


def test_what_lies_there_already_is_not_touched(trained, small_pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    full, file, archive = tmp_path / "full", tmp_path / "file", tmp_path / "old.zip"
    full.mkdir()
    for path in (full / "mine.txt", file, archive):
        path.write_text("mine")
    for path in (full, file, archive):
        with pytest.raises(DataError, match="exists already"):
            export.export(trained.run, path)
    assert [path.read_text() for path in (full / "mine.txt", file, archive)] == ["mine"] * 3


def test_files_of_a_machine_whose_clock_stands_before_1980_go_into_a_zip(tmp_path):
    (tmp_path / "labels.txt").write_text("ants")
    os.utime(tmp_path / "labels.txt", (0, 0))
    export._move(tmp_path, tmp_path / "ants.zip", ["labels.txt"])
    assert zipfile.ZipFile(tmp_path / "ants.zip").read("ants/labels.txt") == b"ants"


def test_a_run_whose_photos_are_gone_is_refused_in_a_sentence(own_run, small_pictures, tmp_path):
    for path in own_run.dataset_folder.iterdir():
        path.unlink()
    with pytest.raises(RunError, match="are gone from the workspace"):
        export.export(own_run, tmp_path / "bundle")


def test_the_card_gives_the_score_with_its_interval_and_shows_foreign_names_literally(made, trained, monkeypatch):
    text = (made.path / "MODEL_CARD.md").read_text()
    report = trained.run.report()
    assert f"of {report['n_test']} test photos right, plausibly" in text
    assert f"| 4 validation photos | 4 | {made.max_difference:.1e} |" in text
    assert "Apache-2.0" in text
    header = {**trained.run.header(), "source": "/home/ana/<script>alert(1)</script>|*x*"}
    monkeypatch.setattr(Run, "header", lambda run: header)
    text = card.of(trained.run, 0.0, 4, 4, 20)
    assert "script>" not in text
    assert r"script\>\|\*x\*: 8 photos to learn from" in text


def test_a_run_without_a_model_cannot_be_exported(home, tmp_path):
    run, lock = runs.create(home, {"plan": {}, "dataset": "", "source": "", "classes": []})
    lock.release()
    with pytest.raises(RunError, match="has no model yet"):
        export.export(run, tmp_path / "bundle")


def labels_of(bundle, model, run, data):
    """What a model of the bundle calls each test photo, and how strange it is, asked through onnxruntime alone."""
    session = onnxruntime.InferenceSession(bundle / model)
    view = json.loads((bundle / "preprocess.json").read_text())
    test = run.plan.split(data).test
    photos = [images.centre(data.pixels(int(i)), view["resize"], view["side"], view["interpolation"]) for i in test]
    shares, strange = session.run(None, {"pixels": np.stack(photos)})
    return shares.argmax(1), strange > run.keep(), data.labels[test]


def test_what_is_said_of_int8_is_found_again_on_the_test_photos(made, trained, small_pictures):
    whole, whole_unknown, truth = labels_of(made.path, "model.onnx", trained.run, trained.data)
    rounded, rounded_unknown, _ = labels_of(made.path, export.INT8, trained.run, trained.data)
    said = made.to_dict()["int8"]
    assert said["n"] == len(truth) == 8
    assert said["agreement"] == (rounded == whole).mean()
    assert said["agreement_interval"] == list(evaluate.interval((rounded == whole).mean(), 8))
    assert {key: said[key] for key in ("accuracy", "n", "interval", "method")} == evaluate.stated(
        (rounded == truth).mean(), 8
    )
    assert said["float"] == evaluate.stated((whole == truth).mean(), 8)
    assert said["float_accuracy"] == trained.run.report()["accuracy"]
    assert said["fixed"] == ((rounded == truth) & (whole != truth)).sum()
    assert said["broken"] == ((rounded != truth) & (whole == truth)).sum()
    assert said["unknown_changed"] == (rounded_unknown != whole_unknown).sum()
    sizes = [(made.path / name).stat().st_size for name in (said["path"], "model.onnx")]
    assert [said["size"], said["float_size"]] == sizes
    assert 0 < said["time_ratio"] < 100


def test_the_convolutions_are_in_int8_and_the_head_and_the_strangers_are_not(made):
    model = onnx.load(made.path / export.INT8)
    nodes, values = list(model.graph.node), {one.name: one for one in model.graph.initializer}
    maker = {name: node for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == sum(node.op_type == "Conv" for node in onnx.load(made.path / "model.onnx").graph.node)
    for node in convolutions:
        weight = maker[node.input[1]]
        assert weight.op_type == maker[node.input[0]].op_type == "DequantizeLinear"
        kept, scales = (values[name] for name in weight.input[:2])
        assert kept.data_type == onnx.TensorProto.INT8
        assert len(onnx.numpy_helper.to_array(scales)) == kept.dims[0]  # a scale for each channel
    assert (made.path / export.INT8).stat().st_size < 0.5 * (made.path / "model.onnx").stat().st_size
    for node in nodes:
        if node.op_type in ("Gemm", "MatMul", "Softmax", "TopK", "ReduceLogSumExp", "Sub", "Div"):
            assert "DequantizeLinear" not in {maker[name].op_type for name in node.input if name in maker}, node.name
    float_one = onnx.load(made.path / "model.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", graph.OPSET)]
    assert list(model.metadata_props) == list(float_one.metadata_props)


def test_the_ranges_of_int8_come_from_training_photos_of_every_class(
    made, trained, small_pictures, tmp_path, monkeypatch
):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    sealed = seal(trained.data, trained.run.plan)
    train = trained.run.plan.split(sealed).train
    shown = []

    class EnoughError(Exception):
        pass

    def watched(model, pixels):
        shown.append(pixels)
        raise EnoughError

    monkeypatch.setattr(graph, "to_onnx", lambda *_: (made.path / "model.onnx").read_bytes())
    monkeypatch.setattr(dataset, "load", lambda folder: sealed)
    monkeypatch.setattr(quantize, "to_int8", watched)
    with pytest.raises(EnoughError):
        export.export(trained.run, tmp_path / "bundle", int8=True)
    entry = catalog.get(trained.run.plan.backbone)
    views = {
        images.centre(sealed.pixels(int(i)), entry.resize, entry.crop, entry.interpolation).tobytes(): sealed.labels[i]
        for i in train
    }
    assert {views[photo.tobytes()] for photo in shown[0]} == set(range(len(trained.run.classes)))


def test_some_photos_are_spread_over_the_classes_and_within_each():
    labels = np.array([0] * 50 + [1] * 3 + [2] * 50)
    found = quantize.spread(np.arange(103) + 1000, labels, 30)
    assert found.tolist() == sorted(set(found.tolist()))
    assert np.bincount(labels[found - 1000]).tolist() == [10, 3, 10]
    assert {1000, 1049, 1053, 1102} <= set(found.tolist())
    assert len(quantize.spread(np.arange(103), labels, 2)) == 3


def test_the_bundles_program_answers_with_int8_when_asked(made, trained, tmp_path):
    file = photo(tmp_path / "one.png", COLOURS["reds"], 77)
    answers = [json.loads(ask(made.path, file, flags=flags)[1])[0] for flags in (("--json",), ("--json", "--int8"))]
    assert answers[0]["probabilities"] != answers[1]["probabilities"]
    assert answers[1]["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=0.2)
    (tmp_path / "bundle").mkdir()
    for name in FILES:
        (tmp_path / "bundle" / name).write_bytes((made.path / name).read_bytes())
    code, _, complaints = ask(tmp_path / "bundle", file, flags=("--int8",))
    assert code == 2
    assert "there is no model.int8.onnx in this folder" in complaints
    assert "Traceback" not in complaints


def test_the_command_and_the_card_say_what_int8_is_worth(made, trained, small_pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TLAPP_HOME", str(trained.home))
    monkeypatch.setattr(graph, "to_onnx", lambda *_: (made.path / "model.onnx").read_bytes())
    assert cli.main(["export", trained.run.id, "--to", str(tmp_path / "bundle"), "--int8"]) == 0
    printed = capsys.readouterr().out
    found = made.int8
    worth = evaluate.in_words(found.right / 8, 8, "test photos", " to ")
    whole = evaluate.in_words(found.float_right / 8, 8, "test photos", " to ")
    assert f"Accuracy of INT8 {worth}; of the float model {whole}." in printed
    assert f"INT8 gives {evaluate.counted(found.same, 8)} of 8 test photos the same class as the app." in printed
    assert found.verdict() in printed
    text = (made.path / "MODEL_CARD.md").read_text()
    assert f"| INT8 | {worth} | {found.size / 1e6:.1f} MB | {found.time_ratio:.2f} |" in text
    assert found.verdict() in text
    assert "INT8" not in card.of(trained.run, 0.0, 4, 4, 20)


def test_onnxruntime_is_told_to_report_nothing_before_it_is_imported(made, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    assert ask(made.path, photo(tmp_path / "a.png", COLOURS["reds"], 1))[0] == 0
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]  # its record of what it did
    told, imported = (inspect.getsource(quantize).index(words) for words in ("ORT_DISABLE_TEL", "import onnxruntime"))
    assert told < imported


@pytest.mark.parametrize(
    ("machine", "flags", "precise"),
    [
        ("x86_64", "fpu avx512_vnni", False),
        ("x86_64", "fpu avx2", True),
        ("AMD64", None, True),
        ("aarch64", "asimd", False),
    ],
)
def test_int8_is_summed_so_that_it_cannot_overflow_unless_the_processor_rules_that_out(
    machine, flags, precise, monkeypatch
):
    def cpuinfo(path, **_):
        if flags is None:
            raise FileNotFoundError(path)
        return flags

    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("pathlib.Path.read_text", cpuinfo)
    assert quantize.may_overflow() is precise


def test_the_bundles_program_knows_the_processor_as_the_app_does(made):
    program = (made.path / "predict.py").read_text()
    assert inspect.getsource(quantize.may_overflow) in program
    (said,) = [line for line in inspect.getsource(quantize).splitlines() if line.startswith("PRECISE = ")]
    assert f"\n{said}\n" in program


def judged(**changes):
    truth, whole = ["a"] * 100, [("a", False)] * 90 + [("b", False)] * 10
    rounded = [("b", False)] * changes["broken"] + whole[changes["broken"] :]
    rounded[100 - changes.get("fixed", 0) :] = [("a", True)] * changes.get("fixed", 0)
    return agreement.count(truth, whole, rounded, size=1, float_size=2, time_ratio=0.5, n_calibration=3)


@pytest.mark.parametrize(
    ("broken", "fixed", "verdict"),
    [
        (0, 0, "costs no accuracy on these photos: every one"),
        (2, 3, "INT8 costs no accuracy on these photos: it alone is right about 3, the float model alone about 2."),
        (4, 1, "which may be chance. Where accuracy counts, use the float model."),
        (9, 1, "INT8 costs accuracy: it alone is right about 1, the float model alone about 9, which is hardly"),
    ],
)  # fmt: skip
def test_it_is_said_plainly_when_int8_costs_accuracy(broken, fixed, verdict):
    found = judged(broken=broken, fixed=fixed)
    assert verdict in found.verdict()
    assert (found.right, found.float_right, found.same) == (90 - broken + fixed, 90, 100 - broken - fixed)
    assert found.unknown_changed == fixed


@pytest.mark.parametrize(
    ("changed", "broken", "ends"),
    [
        (0, 0, "every one gets the same class. None changes to or from \"none of these\"."),
        (3, 0, "(every one gets the same class), yet changes answers. Of them 3 change to or from \"none of these\"; "
               "where that counts, use the float model."),
        (None, 0, "every one gets the same class."),
        (3, 9, "which is hardly chance. Use the float model. Of them 3 change to or from \"none of these\"."),
    ],
)  # fmt: skip
def test_int8_that_changes_strangers_alone_is_not_said_to_change_nothing(changed, broken, ends):
    found = replace(judged(broken=broken), unknown_changed=changed)
    assert found.in_words()[2].endswith(ends)


def test_the_sign_test_is_mcnemars_exact_one():
    assert evaluate.sign_test(0, 0) == 1
    assert evaluate.sign_test(3, 3) == 1
    assert evaluate.sign_test(9, 1) == evaluate.sign_test(1, 9) == pytest.approx(0.021484375)
