"""A bundle, or a run's folder, of another machine or an earlier version → a run of this workspace.

Nothing in it is executed, and of its files only those that a run is made of are read: plain JSON and safetensors,
checked by their hashes, by `claims`, and by making the network and asking it. Knows the files of bundles and runs.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from tlapp import claims, events, history, intake, journal, plan, predict, runs, schema, workspace
from tlapp import dataset as datasets
from tlapp.errors import DataError, PictureError, PlanError, RunError, WeightsError, printable
from tlapp.intake import Listing
from tlapp.runs import KEEP_RANGE, Run
from tlapp.unknown import Learned

Values = dict[str, Any]


def import_run(path: str | Path, home: Path | None = None, *, shown_as: str = "") -> Run:
    """Open a bundle (folder or zip, as `tlapp export` writes it) or the folder of a run, or a zip of it.

    It becomes a run of the workspace, with a number of its own, unless its very model is here already: then the run
    that has it is given. `shown_as`: what to call it in sentences, where its path means nothing to the person.

    Raises RunError, with what is wrong: it is none, of a newer version, damaged, or does not fit together.
    """
    home = home or workspace.home()
    source = workspace.expand(path).absolute()
    shown = shown_as or printable(str(source))
    try:
        try:
            with intake.open_source(_checked(source, shown), shown) as listing:
                content = _read(listing)
        except DataError as error:
            raise RunError(f"{shown} cannot be opened as a bundle or run. {error}") from None
        known = next((run for run in runs.all_runs(home) if _is_same(run, content)), None)
        return known or _take(content, home)
    except _Wrong as error:
        raise RunError(f"{shown} cannot be opened as a bundle or run: {error}. {error.advice}") from None


class _Wrong(Exception):  # noqa: N818 - it completes a sentence
    """What is wrong, to complete a sentence, and what to do."""

    def __init__(self, reason: str, advice: str = "Copy it again, or export it anew.") -> None:
        super().__init__(printable(reason))
        self.advice = advice


class _Content:
    """What was read: `header` and `report` as this version has them, and the bytes of the rest."""

    def __init__(
        self, header: Values, report: Values, model: bytes, learned: bytes, record: list[events.Event]
    ) -> None:
        self.header, self.report, self.model, self.learned, self.record = header, report, model, learned, record


def _checked(source: Path, shown: str) -> Path:
    if not source.exists():
        raise RunError(f"{shown} does not exist. Check the path.")
    if source.is_file() and not zipfile.is_zipfile(source) and _begins_as_zip(source):
        raise RunError(f"{shown} is a zip that is damaged or cut short. Copy it again, or export it anew.")
    if not source.is_dir() and not zipfile.is_zipfile(source):
        raise RunError(
            f"{shown} is neither a folder nor a zip. Give what `tlapp export` wrote, or the folder of a run."
        )
    return source


def _begins_as_zip(source: Path) -> bool:
    with open(source, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _read(listing: Listing) -> _Content:
    top, is_bundle = _top(listing)
    files = {file.name.removeprefix(top): file for file in listing.files if file.name.startswith(top)}

    def read(name: str, optional: bool = False) -> bytes:
        if name not in files:
            if reason := _refused(listing, top + name):
                raise _Wrong(f"{name} {reason}")
            if optional:
                return b""
            raise _Wrong(f"{name} is missing")
        try:
            return files[name].read()
        except PictureError as error:
            raise _Wrong(f"{name} {error}") from None

    try:
        said = claims.read(read("run.json" if is_bundle else "plan.json"), "header")
        header = claims.header(said, "bundle" if is_bundle else "run")
        report = claims.report(claims.read(read("report.json"), "report"), header["classes"])
        record = claims.record(read("events.jsonl", optional=True), report)
    except schema.NewerError as error:
        raise _Wrong(str(error), "It was written by a newer version of tlapp; update tlapp to open it.") from None
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"what it says of itself is damaged ({error})") from None
    names = _names(report) if not is_bundle else {"model": "model.safetensors", "learned": "learned.safetensors"}
    found = {}
    for what, name in names.items():
        digest = report.get(f"{what}_sha256")
        found[what] = read(name) if digest else b""
        if digest and hashlib.sha256(found[what]).hexdigest() != digest:
            raise _Wrong(f"{name} is not the file that its report names, byte by byte")
    if not is_bundle:
        header |= _own_words(read("about.json", optional=True), read("keep.json", optional=True))
    return _Content(header, report, found["model"], found["learned"], record)


def _refused(listing: Listing, name: str) -> str:
    """Why a file was not taken that is there, to complete a sentence; "" of one that is not there."""
    return next((reason.partition(", so ")[0] for found, reason in listing.refused if found == name), "")


def _top(listing: Listing) -> tuple[str, bool]:
    """The folder in there that is a bundle or run, with "/" at its end, and whether it is a bundle."""
    places = [PurePosixPath(file.name) for file in listing.files]
    found = [place for place in places if place.name in ("run.json", "plan.json") and len(place.parts) <= 2]
    if not found:
        for name, _ in listing.refused:
            place = PurePosixPath(name)
            if place.name in ("run.json", "plan.json") and len(place.parts) <= 2:
                raise _Wrong(f"{name} {_refused(listing, name)}")
        raise _Wrong(
            "there is no run.json or plan.json in it", "Give what `tlapp export` wrote, or the folder of a run."
        )
    if len(found) > 1:
        raise _Wrong("there is more than one in it", "Give one of them.")
    return "".join(f"{part}/" for part in found[0].parts[:-1]), found[0].name == "run.json"


def _names(report: Values) -> dict[str, str]:
    """Of the files in a run's folder."""
    digests = {what: str(report.get(f"{what}_sha256") or "") for what in ("model", "learned")}
    return {what: f"{what}-{digest[:12]}.safetensors" for what, digest in digests.items()}


def _own_words(about: bytes, keep: bytes) -> Values:
    """The name that the person gave a run, and the line they drew; what cannot be read is left out."""
    found: Values = {}
    for data, name in ((about, "name"), (keep, "keep")):
        try:
            found[name] = claims.read(data, "words")[name]
        except (ValueError, LookupError, RecursionError):
            continue
    line = found.get("keep")
    return {
        **({"name": found["name"]} if isinstance(found.get("name"), str) else {}),
        **({"keep": line} if isinstance(line, float) and KEEP_RANGE[0] <= line <= KEEP_RANGE[1] else {}),
    }


def _is_same(run: Run, content: _Content) -> bool:
    try:
        return run.has_model() and run.report().get("model_sha256") == content.report["model_sha256"]
    except RunError:
        return False


def _take(content: _Content, home: Path) -> Run:
    header = content.header
    settings = {**header["plan"], "weights": Path(str(header["plan"].get("weights", ""))).name}
    try:
        values = plan.Plan.from_dict(settings)
    except PlanError as error:
        raise _Wrong(f"its settings cannot be used ({str(error).rstrip('.')})") from None
    kept: Values = {
        "plan": values.to_dict(), "dataset": header["dataset"], "source": header["source"],
        "classes": header["classes"], "created": header.get("created", ""),
        **{name: header[name] for name in ("learned_from", "started_from") if name in header},
        "origin": {"run": header.get("run", ""), "opened": time.strftime("%Y-%m-%d %H:%M:%S")},
    }  # fmt: skip

    def fill(run: Run) -> None:
        run.deliver(content.model, content.report, content.learned)
        for event in content.record:
            run.append(event, is_news=False)

    with workspace.own_folder(home / "incoming", "run-") as folder:
        tried = Run(folder)
        fill(tried)
        workspace.write_atomic(folder / "plan.json", json.dumps({"schema": schema.RUN, **kept}).encode("ascii"))
        learned = _try_out(tried)
    if not _may_be_of(home, kept["dataset"], header["classes"], learned):
        kept["dataset"] = ""
    run, lock = runs.create(home, kept, fill)
    lock.release()
    if header.get("keep"):
        run.set_keep(header["keep"])
    if header.get("name"):
        history.describe(run, name=printable(header["name"])[: history.MOST_NAME])
    journal.note("run_imported", home, run=run.id, backbone=values.backbone)
    return run


def _may_be_of(home: Path, dataset: str, classes: list[str], learned: Learned | None) -> bool:
    """Whether the photos that the workspace has under this id, if it has any, can be those that it learned from."""
    try:
        found = datasets.load(home / "datasets" / dataset)
    except DataError:
        return True
    return list(found.classes) == classes and (learned is None or int(learned.indices.max()) < len(found.photos))


def _try_out(run: Run) -> Learned | None:
    """Make its network and ask it about a grey photo; what tells strangers to it."""
    try:
        predictor = predict.load(run)
        if not all(bool(torch.isfinite(value).all()) for value in predictor.model.state_dict().values()):
            raise _Wrong("its model holds numbers that are not finite")
        shares, strangeness = predictor.look([np.full((64, 64, 3), 127, np.uint8)])
    except (RunError, WeightsError) as error:
        said = str(error).replace(f"run {run.id}", "the run").removesuffix(" Train again.").rstrip(".")
        raise _Wrong(f"{said[0].lower()}{said[1:]}") from None
    if not (np.isfinite(shares).all() and (strangeness is None or np.isfinite(strangeness).all())):
        raise _Wrong("its model gives no answer that is a number")
    return predictor.learned
