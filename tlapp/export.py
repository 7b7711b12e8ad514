"""A finished run → a bundle: a folder or zip that needs nothing of this machine, proven before it is handed out.

The proof runs the bundle's own `predict.py` in a process of its own on validation photos, and compares its answers with
the app's. Knows the bundle's files; the graph is `graph`'s, the words of the card are `card`'s, and the page for
browsers is `webpage`'s.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlapp import (
    agreement,
    card,
    dataset,
    events,
    figures,
    graph,
    history,
    images,
    journal,
    lineage,
    predict,
    quantize,
    schema,
    webpage,
    workspace,
)
from tlapp.agreement import Agreement
from tlapp.dataset import Dataset
from tlapp.errors import DataError, RunError, printable
from tlapp.predict import Predictor
from tlapp.runs import Run

TOLERANCE = 1e-3
"""The largest difference between two probabilities of a photo with which a bundle is handed out."""
MOST_COMPARED = 64
CALIBRATION = 100
"""Training photos that the ranges of INT8 are taken from, shared among the classes, at least one of each."""
INT8 = "model.int8.onnx"
_PROOF_SECONDS = 600
_NEEDS = ("onnxruntime", "pillow", "numpy")
_PICTURE_ERROR = '''class PictureError(Exception):
    """One picture that cannot be used; the message completes the sentence "<file> ..."."""
'''

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A bundle that was written and proven.

    Attributes:
        path: the folder or the zip.
        files: names of the files in it.
        max_difference: the largest between a probability of its own and the app's, over all classes and photos.
        photos_compared: validation photos that this was found on.
        same_class: on how many of them both name the same class.
        int8: how the INT8 model does on the test photos; None if it was not asked for.
    """

    path: Path
    files: tuple[str, ...]
    max_difference: float
    photos_compared: int
    same_class: int
    int8: Agreement | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "path": str(self.path), "files": list(self.files), "max_difference": self.max_difference,
            "photos_compared": self.photos_compared, "same_class": self.same_class,
            **({"int8": {"path": INT8, **self.int8.to_dict()}} if self.int8 else {}),
        }  # fmt: skip


def export(
    run: Run, to: str | Path, tell: Tell = lambda step: None, *, web: bool = False, int8: bool = False
) -> Exported:
    """Write the run's bundle to `to`: a folder, which must not exist or be empty, or a new file named `….zip`.

    `tell` is told each step. `web`: with a page that answers in a browser, `index.html`. `int8`: with the model in INT8
    too, judged on the test photos.

    Raises:
        RunError: the run has no model, its photos are gone, or what the bundle answers is not what the app answers.
        DataError: there is something at `to` already, or it cannot be written.
    """
    path = workspace.expand(to).absolute()
    _refuse_what_is_there(path)
    run.report()  # says in a sentence if there is no model
    predictor, photos = predict.load(run), _photos_of(run)
    with workspace.own_folder(workspace.home() / "exports", "bundle-") as folder:
        tell("writing the model")
        _write_model(run, predictor, lineage.of(run), folder)
        tell("comparing its answers with the app's")
        proof = _prove(folder, predictor, _to_compare(run, photos))
        judged = _add_int8(run, predictor, photos, folder, tell) if int8 else None
        tell("writing the card")
        figures.confusion(np.array(run.report()["confusion"]), run.classes, folder / "confusion.png")
        facts = proof.max_difference, proof.compared, proof.same_class, graph.OPSET
        text = card.of(run, *facts, web=web, int8=judged)
        (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        if web:
            tell("writing the page for browsers")
            (folder / "index.html").write_bytes(webpage.page((folder / "model.onnx").read_bytes(), _about(run, folder)))
        files = tuple(sorted(file.name for file in folder.iterdir()))
        try:
            _move(folder, path, files)
        except OSError as error:
            raise DataError(
                f"{printable(str(path))} cannot be written ({error.strerror}). Choose another place."
            ) from None
    journal.note("run_exported", run.path.parent.parent, run=run.id, web=web, int8=int8, files=len(files))
    return Exported(path, files, proof.max_difference, proof.compared, proof.same_class, judged)


def _refuse_what_is_there(path: Path) -> None:
    shown = printable(str(path))
    if path.suffix.lower() == ".zip" and path.exists():
        raise DataError(f"{shown} exists already. Name another zip, or remove it first.")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise DataError(f"{shown} exists already and is not an empty folder. Name another folder, or a new .zip.")


def _photos_of(run: Run) -> Dataset:
    try:
        return dataset.load(run.dataset_folder)
    except DataError as error:
        raise RunError(
            f"The photos of run {run.id} are gone from the workspace, so that the bundle cannot be checked on them. "
            "Train again."
        ) from error


def _write_model(run: Run, predictor: Predictor, learned_from: list[str], folder: Path) -> None:
    """All files but the card and its picture."""
    header, report, view = run.header(), run.report(), predictor.views
    preprocess = {
        "side": view.backbone.crop, "resize": view.backbone.resize, "interpolation": view.backbone.interpolation,
        "framing": view.framing, "mean": list(view.backbone.mean), "std": list(view.backbone.std),
        "normalised_by": "the model itself, from uint8 RGB pixels", "layout": "batch, height, width, channel",
    }  # fmt: skip
    temperature = report.get("calibration", {}).get("temperature", 1.0)
    noted = {
        "schema": str(schema.BUNDLE), "run": run.id, "classes": list(run.classes), "preprocess": preprocess,
        "temperature": str(temperature), "temperature_is": "applied already", "keep": str(run.keep()),
    }  # fmt: skip
    (folder / "model.onnx").write_bytes(graph.to_onnx(predictor, noted))
    (folder / "model.safetensors").write_bytes(run.model())
    if learned := run.learned():
        (folder / "learned.safetensors").write_bytes(learned)
    where = {**header, "source": Path(str(header["source"])).name}  # nobody else's business where they lay
    where["plan"] = {**header["plan"], "weights": Path(str(header["plan"].get("weights", ""))).name}
    own = {"schema": schema.BUNDLE, "run": run.id, "keep": run.keep(), "name": history.about(run).name}
    own["learned_from"] = learned_from
    (folder / "run.json").write_text(json.dumps(where | own, indent=1))
    told = [event for event in run.events()[0] if isinstance(event, events.SHOWN)]
    (folder / "events.jsonl").write_text("".join(f"{events.to_json(event)}\n" for event in told))
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    (folder / "preprocess.json").write_text(json.dumps(preprocess, indent=1))
    (folder / "labels.txt").write_text("".join(f"{printable(name)}\n" for name in run.classes), encoding="utf-8")
    needs = "".join(f"{name}>={metadata.version(name)}\n" for name in _NEEDS)
    (folder / "requirements.txt").write_text(needs)
    ours = resources.files("tlapp")
    (folder / "predict.py").write_text((ours / "bundle" / "predict.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "pictures.py").write_text(_pictures(), encoding="utf-8")


def _about(run: Run, folder: Path) -> webpage.About:
    """What the page for browsers says of the run."""
    made = str(run.header().get("created", ""))[:10]
    return webpage.About(
        history.about(run).name, run.classes, json.loads((folder / "preprocess.json").read_text()), run.keep(),
        card.worth(run.report()), f"{card.how(run)}. With tlapp on {made}: run {run.id}.", card.limits(run),
    )  # fmt: skip


def _pictures() -> str:
    """The app's own module for pictures, standing alone."""
    source = Path(images.__file__).read_text(encoding="utf-8")
    ours = "from tlapp.errors import PictureError\n"
    assert ours in source
    return source.replace(ours, f"\n{_PICTURE_ERROR}\n", 1)


def _to_compare(run: Run, photos: Dataset) -> list[np.ndarray]:
    """Validation photos, spread over all of them."""
    members = run.plan.split(photos).validation
    some = members[np.unique(np.linspace(0, len(members) - 1, min(len(members), MOST_COMPARED)).round().astype(int))]
    return [photos.pixels(int(i)) for i in some]


@dataclass(frozen=True)
class Proof:
    """What comparing gave."""

    max_difference: float
    compared: int
    same_class: int


def _prove(folder: Path, predictor: Predictor, photos: list[np.ndarray]) -> Proof:
    """Run the bundle on the photos in another process. Raises RunError if it answers otherwise than the app."""
    ours = [predictor.answer("", row) for row in predictor.probabilities(photos)]
    theirs = _answers_to(folder, photos)
    differences = [
        abs(answer["probabilities"][name] - share)
        for own, answer in zip(ours, theirs, strict=True)
        for name, share in own.probabilities.items()
    ]
    found = Proof(
        max(differences), len(photos),
        sum(own.label == answer["label"] for own, answer in zip(ours, theirs, strict=True)),
    )  # fmt: skip
    if not found.max_difference <= TOLERANCE:
        raise RunError(
            f"The bundle was not written: on the same photos its probabilities differ from the app's by up to "
            f"{found.max_difference:.2g}; more than {TOLERANCE:g} is not handed out."
        )
    return found


def _add_int8(run: Run, predictor: Predictor, photos: Dataset, folder: Path, tell: Tell) -> Agreement:
    """Write the model in INT8 beside the other, its ranges taken from training photos, and judge it on test photos."""
    tell("writing the model in INT8")
    split = run.plan.split(photos)
    some = quantize.spread(split.train, photos.labels[split.train], CALIBRATION)
    pixels = np.stack([predictor.views.plain(photos.pixels(int(i))).permute(1, 2, 0).numpy() for i in some])
    model = (folder / "model.onnx").read_bytes()
    rounded = quantize.to_int8(model, pixels)
    (folder / INT8).write_bytes(rounded)
    tell("judging it on the test photos")
    ours: list[agreement.Answer] = []
    theirs: list[agreement.Answer] = []
    for first in range(0, len(split.test), MOST_COMPARED):
        shown = [photos.pixels(int(i)) for i in split.test[first : first + MOST_COMPARED]]
        ours += [(own.label, own.unknown) for own in predictor.predict_all([("", photo) for photo in shown])]
        theirs += [(answer["label"], answer["unknown"]) for answer in _answers_to(folder, shown, "--int8")]
    return agreement.count(
        [run.classes[label] for label in photos.labels[split.test]], ours, theirs,
        size=len(rounded), float_size=len(model), n_calibration=len(some),
        time_ratio=quantize.time_ratio(model, rounded, pixels),
    )  # fmt: skip


def _answers_to(folder: Path, photos: list[np.ndarray], *flags: str) -> list[dict[str, Any]]:
    """What the bundle's own program prints for these photos, which lie in a folder for so long."""
    with workspace.own_folder(folder.parent, "photos-") as place:
        files = [place / f"{number}.png" for number in range(len(photos))]
        for file, photo in zip(files, photos, strict=True):
            Image.fromarray(photo).save(file, compress_level=1)
        return _answers_of(folder, files, flags)


def _answers_of(folder: Path, files: list[Path], flags: Sequence[str]) -> list[dict[str, Any]]:
    """What the bundle's own program prints for these files."""
    command = [sys.executable, "-B", str(folder / "predict.py"), "--json", *flags, *map(str, files)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(
            command, cwd=folder, env=clean, capture_output=True, timeout=_PROOF_SECONDS, check=True, text=True
        )
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        if len(answers) != len(files) or any("error" in answer for answer in answers):
            raise ValueError("not every photo was answered")
        return answers
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise RunError(
            f"The bundle was not written: its own predict.py fails here ({printable(' '.join(last))})."
        ) from None


def _move(folder: Path, path: Path, files: Sequence[str]) -> None:
    """Put the finished files at `path`, whole or not at all. Raises OSError."""
    workspace.make_folder(path.parent)
    if path.suffix.lower() == ".zip":

        def pack(part: Path) -> None:
            # A machine without a clock of its own starts in 1970, which a zip cannot say.
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
                for name in files:
                    archive.write(folder / name, f"{path.stem}/{name}")

        workspace.write_atomic(path, pack)
        return
    with workspace.whole_folder(path) as beside:
        for name in files:
            shutil.copyfile(folder / name, beside / name)
