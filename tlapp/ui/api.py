"""What a program may ask of the page: seven endpoints for `gradio_client`, shown by example in docs/api.md.

JSON goes in and comes out. Datasets and runs are named by ids, as on the page; an endpoint does no more than the page
lets the same person do, and whatever it refuses it refuses in one sentence. Knows the library, Gradio's payloads and
what `shelf` keeps; no widgets.
"""
# Gradio reads the endpoints' types as they stand, so annotations are not postponed here.

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import gradio as gr
from gradio import FileData
from gradio.utils import get_function_description
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like

from tlapp import dataset as datasets
from tlapp import evaluate, jobs, workspace
from tlapp import plan as plans
from tlapp.dataset import Dataset
from tlapp.errors import DataError, PictureError, PlanError, RunError, printable
from tlapp.events import RunFailed
from tlapp.plan import Plan
from tlapp.runs import Run
from tlapp.ui import form, pieces, shelf
from tlapp.ui.drop import gather, uploaded
from tlapp.ui.serve import download_folder, uploads_folder
from tlapp.ui.sheets import MOST_AT_ONCE
from tlapp.ui.shelf import Record

MOST_SKIPPED = 500
_STRANGE = (
    "What was sent is not what this page takes. Reload the page; a program is told by `client.view_api()` what each "
    "endpoint takes."
)
_ELSEWHERE = "This page fetches nothing from other addresses. Save the file and send it: handle_file(PATH)."


class Page(gr.Blocks):
    """Blocks that answer a request that does not fit with a sentence, and that fetch nothing that a request names.

    Of itself, Gradio downloads a file that is sent as a web address before any handler sees it.
    """

    async def process_api(self, *more: Any, **named: Any) -> Any:
        """As in `gr.Blocks`. Raises gr.Error, which is shown, for what Gradio would show nothing of."""
        try:
            return await super().process_api(*more, **named)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(pieces.text(pieces.sentence(error)), print_exception=False) from None

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> Any:
        """As in `gr.Blocks`. Raises gr.Error."""
        if _names_an_address(inputs):
            raise gr.Error(_ELSEWHERE, print_exception=False)
        try:
            return await super().preprocess_data(block_fn, inputs, *more, **named)
        except (gr.Error, ValueError, RecursionError) as error:
            # Too few values, a path outside the uploads, a file that is none, a choice that is not offered.
            raise gr.Error(_STRANGE, print_exception=False) from error


def _names_an_address(value: Any) -> bool:
    """Whether any file in it, however deep, is one of the web."""
    left = [value]
    while left:
        one = left.pop()
        if is_file_obj_with_meta(one) and is_http_url_like(one["path"]):
            return True
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
    return False


def add(page: gr.Blocks, takes_paths: bool = True) -> None:
    """Add the endpoints to the page that is being laid out, documented by their docstrings.

    `takes_paths`: whether who asks sits at this machine, and so may name a path of it.
    """
    load = load_dataset if takes_paths else _without_paths(load_dataset)
    for endpoint in (load, suggest_plan, start_training, run_status, stop, predict, export):
        one_at_a_time = endpoint is export  # each needs as much memory as a run
        gr.api(_told(endpoint), api_name=endpoint.__name__, concurrency_limit=1 if one_at_a_time else "default")
        added = page.fns[max(page.fns)]
        _, parameters, returned = get_function_description(endpoint)
        for given, words in zip(added.inputs, parameters.values(), strict=True):
            given.api_info()["additional_description"] = words  # type: ignore[union-attr]
        answers = returned if len(added.outputs) > 1 else [" ".join(returned)]
        for answer, words in zip(added.outputs, answers, strict=True):
            answer.label, _, answer.api_info()["description"] = words.partition(": ")  # type: ignore[union-attr]


def _without_paths(load: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint where other machines reach the page: it reads what is sent and nothing else."""

    @functools.wraps(load)
    def sent_alone(path: Any, test: Any = "") -> Any:
        if isinstance(path, str) or test:
            raise DataError(pieces.NO_PATHS)
        return load(path)

    return sent_alone


def _told(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, each exception as a sentence, and each answer as JSON can have it."""

    @functools.wraps(endpoint)  # Gradio looks at the parameters and their types
    def safe(*arguments: Any, **named: Any) -> Any:
        try:
            return _plain(endpoint(*arguments, **named))
        except Exception as error:
            raise gr.Error(printable(pieces.sentence(error)), print_exception=False) from None

    return safe


def _plain(value: Any) -> Any:
    """The value with all text as `printable` has it: names of files may hold what JSON cannot."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


# --- photos and plans


def load_dataset(path: str | FileData, test: str = "") -> dict[str, Any]:
    """Read labelled photos: a folder with one sub-folder per class, a zip of it, or a CSV of labels.

    Args:
        path: where it lies on the machine of the page, unless that is open to other machines; or a zip that is sent,
            handle_file("photos.zip")
        test: path of another one there, whose photos are for testing

    Returns:
        loaded: `dataset` (the id that other endpoints take), `classes` with their photos counted, `photos`,
        `n_skipped`, `skipped` (file and reason, 500 at most), `notes` (sentences)
    """
    if not isinstance(test, str):
        raise DataError("The path of the test photos is not a text. Give one, or leave it out.")
    tested = workspace.expand(test.strip()) if test.strip() else None
    found = _scan_path(path, tested) if isinstance(path, str) else _scan_sent(path, tested)
    skipped = [{"file": one.name, "reason": one.reason} for one in found.skipped[:MOST_SKIPPED]]
    return {
        "dataset": found.id, "classes": found.class_counts(), "photos": len(found.photos),
        "n_skipped": len(found.skipped), "skipped": skipped, "notes": list(found.notes),
    }  # fmt: skip


def _scan_path(typed: str, test: Path | None) -> Dataset:
    if not typed.strip():
        raise DataError("The path is empty. Give that of a folder with one sub-folder of photos per class.")
    return datasets.scan(workspace.expand(typed.strip()), test)


def _scan_sent(value: Any, test: Path | None) -> Dataset:
    """Read a zip that was sent; the uploaded file is gone afterwards."""
    name, path = _sent(value, 'Give the path of a folder, or send a zip of it: handle_file("photos.zip").')
    with workspace.own_folder(workspace.home() / "incoming", "upload-") as folder:
        given = {"files": [{"rel": "sent.zip", "path": str(path)}], "skipped": []}
        source, refused = gather(given, folder, uploads_folder())
        return datasets.scan(source, test, refused=refused, shown_as=name)


def suggest_plan(dataset: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """The plan that suits a dataset, which may be changed before it is given to /start_training.

    Args:
        dataset: id of /load_dataset
        settings: what to change, as `tlapp train --set`: {"frozen": "all", "augmentation": "off", "seed": 1}

    Returns:
        plan: every setting of the run by its name
    """
    found = _dataset(dataset)
    given = _as_text(settings)
    suggested = plans.suggest(found, given.pop("backbone", "auto")).with_settings(given)
    _with_weights(suggested)
    suggested.split(found)
    return suggested.to_dict()


def start_training(dataset: str, plan: dict[str, Any] | None = None) -> dict[str, Any]:
    """Begin a run in the background, or queue it behind those that train.

    Args:
        dataset: id of /load_dataset
        plan: as /suggest_plan gives it; without one, what suits the photos

    Returns:
        started: `run` (the id that other endpoints take)
    """
    found = _dataset(dataset)
    if plan is not None and not isinstance(plan, dict):
        raise PlanError("The plan is not an object. Give what /suggest_plan gave, changed as you like, or none.")
    chosen = plans.suggest(found) if plan is None else _with_weights(Plan.from_dict(plan))
    return {"run": jobs.start(found, chosen).id}


def _with_weights(plan: Plan) -> Plan:
    """The plan with the path of its weights file; here as on the page it names one that was given there."""
    return replace(plan, weights=form.weights_file(plan.weights))


def _as_text(settings: Any) -> dict[str, str]:
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise PlanError('The settings are not an object. Give names and values: {"epochs": 20, "seed": 1}.')
    given = {}
    for name, value in settings.items():
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            value = ",".join(value) or "none"  # of blocks to freeze
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise PlanError(f"The setting `{printable(name)}` is neither a number nor a text. Give one of them.")
        given[name] = str(value)
    return given


# --- runs


def run_status(run: str) -> dict[str, Any]:
    """How a run is doing, while it waits or trains and afterwards; what is not known yet is null.

    Args:
        run: id of /start_training

    Returns:
        progress: `run`, `state` (running, finished, stopped, failed, interrupted), `epoch` of `epochs` at most,
        `waits_for` (runs before it), `doing` (stage, done, total), `seconds_left`, `validation` (accuracy, n, interval,
        method); once it has ended with a model `accuracy` on `n` test photos, `interval`, `method`; `error` if it
        failed
    """
    found = _run(run)
    state = found.state()  # first, so that a run said to be over has all it left
    record = shelf.record(found)
    end = record.end
    report = found.report() if state != "running" and found.has_model() else {}
    return {
        "run": found.id, "state": state,
        "epoch": record.epochs[-1].epoch if record.epochs else 0,
        "epochs": record.n_epochs if record.started else None,
        "waits_for": record.place if state == "running" else 0,
        "doing": _doing(record) if state == "running" else None,
        "seconds_left": _seconds_left(record) if state == "running" else None,
        "validation": report.get("validation") or _validation(record),
        **{name: report.get(name) for name in ("accuracy", "n", "interval", "method")},
        "error": end.message if isinstance(end, RunFailed) else None,
    }  # fmt: skip


def _doing(record: Record) -> dict[str, Any] | None:
    step = record.progress
    return {"stage": step.stage, "done": step.done, "total": step.total} if step else None


def _seconds_left(record: Record) -> float | None:
    """Of the step in hand, where one is told of; else of all epochs, if none ends early."""
    if record.progress:
        return record.seconds_of_step_left()
    return record.epochs[-1].seconds_left if record.epochs else None


def _validation(record: Record) -> dict[str, Any] | None:
    """The best epoch's accuracy so far."""
    best = record.best if record.epochs else None
    return evaluate.stated(best.validation_accuracy, best.n_validation) if best and best.n_validation else None


def stop(run: str) -> dict[str, Any]:
    """Ask a run to stop within a batch and to keep its best so far; harmless if it has ended.

    Args:
        run: id of /start_training

    Returns:
        progress: `run`, `state` (running until it has stopped)
    """
    found = _run(run)
    jobs.stop(found)
    return {"run": found.id, "state": found.state()}


def predict(run: str, photos: FileData | list[FileData]) -> list[dict[str, Any]]:
    """Classify photos that are sent by the model of a run.

    Args:
        run: id of /start_training
        photos: handle_file("photo.jpg"), or a list of up to 2,000 such

    Returns:
        answers: for each photo `file`, `label`, `probability`, `probabilities` by class, `unknown` (whether it is none
        of the classes), `strangeness`; or `file` and `error` where others can be read and this one cannot
    """
    found = _run(run)
    given = photos if isinstance(photos, list) else [photos]
    if not given:
        raise DataError('No photo was sent. Send one: handle_file("photo.jpg").')
    if len(given) > MOST_AT_ONCE:
        raise DataError(f"These are {len(given):,} photos; {MOST_AT_ONCE:,} are taken at once. Send fewer.")
    sent = [_sent(one, 'Send each photo as a file: handle_file("photo.jpg").') for one in given]
    answers = shelf.predictor(found).predict_files([path for _, path in sent])
    told = [replace(answer, file=name) for (name, _), answer in zip(sent, answers, strict=True)]
    if all(hasattr(answer, "reason") for answer in told):
        raise DataError(str(told[0]))
    return [answer.to_dict() for answer in told]


def export(run: str) -> tuple[dict[str, Any], FileData]:
    """A run's model as a zip that answers without tlapp, compared with the app on validation photos first.

    Args:
        run: id of /start_training

    Returns:
        proof: `run`, `files`, `max_difference` of probabilities, `photos_compared`, `same_class` (on how many)
        bundle: the zip, which the client downloads
    """
    found = _run(run)
    from tlapp import export as exporting

    with download_folder() as folder:
        made = exporting.export(found, folder / f"tlapp-{found.id}.zip")
    said = {name: value for name, value in made.to_dict().items() if name != "path"}
    return {"run": found.id, **said}, FileData(path=str(made.path), orig_name=made.path.name)


# --- what is named and sent


def _dataset(name: Any) -> Dataset:
    found = shelf.dataset(name)
    if found is None:
        raise DataError(f"There is no dataset {_shown(name)} here. /load_dataset gives the id of one.")
    return found


def _run(name: Any) -> Run:
    found = shelf.run(name)
    if found is None:
        raise RunError(f"There is no run {_shown(name)} here. /start_training gives the id of one.")
    return found


def _shown(name: Any) -> str:
    """What was given for an id, in short."""
    text = str(name)
    return f"`{printable(text[:40])}{'…' if len(text) > 40 else ''}`"


def _sent(value: Any, remedy: str) -> tuple[str, Path]:
    """Name and place of a file that was sent. Raises PictureError where it is none, or not among the uploads."""
    text = value.get("path") if isinstance(value, dict) else None
    path = uploaded(text, uploads_folder()) if isinstance(text, str) else None
    if path is None:
        raise PictureError(f"That is no file that was sent to this page. {remedy}")
    given = value.get("orig_name")
    name = PureWindowsPath(PurePosixPath(given).name).name if isinstance(given, str) else ""
    return name[:255] or path.name, path
