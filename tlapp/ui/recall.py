"""A run's whole plan put back into the widgets that plans are read from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gradio as gr

from tlapp import catalog, lineage
from tlapp.dataset import Dataset
from tlapp.errors import PlanError, RunError
from tlapp.plan import Plan
from tlapp.ui import form, pieces, shelf, weights

CONTINUE = "from "
"""Before the id of a run that is not to be repeated but continued."""


def ask(name: str, dataset: str) -> tuple[Any, str, Any]:
    """For the run of that id: the photos to load, if none are there; the id, now wanted; and the way to 2 Train.

    Raises RunError where there is nothing to put the settings to use on.
    """
    run = shelf.run(name)
    if run is None:
        raise RunError("That run is gone. Choose another one.")
    _ = run.plan  # a damaged one is said now
    photos: Any = gr.skip()
    if shelf.dataset(dataset) is None:
        own = shelf.dataset_of(run)
        if own is None:
            raise RunError(
                "The photos of this run are gone from the workspace. Load photos in 1 Data, then load these settings."
            )
        photos = own.id
    return photos, run.id, gr.Tabs(selected="train")


def continuing(name: str, dataset: str) -> tuple[Any, str, Any]:
    """As `ask`, for a new run that starts from the network of that run. Raises RunError."""
    photos, wanted, way = ask(name, dataset)
    run = shelf.run(wanted)
    if run is not None and not lineage.is_published(run):
        lineage.weights_of(run)  # what hinders it is said now
    return photos, f"{CONTINUE}{wanted}", way


def wanted_plan(wanted: str) -> tuple[Plan | None, str]:
    """The plan that is asked for, if its run is there, and what to say of it. Raises RunError."""
    run = shelf.run(wanted.removeprefix(CONTINUE))
    if run is None:
        return None, ""
    if not wanted.startswith(CONTINUE):
        said = f"The settings of run {run.id} were loaded; all that is below stands as it had it."
        if run.plan.draw != Plan.draw:
            said += " It was made by an earlier version, which drew other test photos."
        return run.plan, said
    if lineage.is_published(run):
        return run.plan, f"The settings of run {run.id} were loaded. {lineage.PLAIN.format(run.id)}"
    said = f"A run with these settings, those of run {run.id}, starts from the network that it learned."
    return dataclasses.replace(run.plan, weights=str(lineage.weights_of(run))), said


def fill(
    chosen: Plan,
    fields: dict[str, Any],
    strength: gr.Radio,
    preset: gr.Radio,
    panel: weights.Panel,
    found: Dataset | None,
) -> dict[Any, Any]:
    """New values of all widgets, by widget; `fields` are those that `form.read_plan` reads."""
    entry = catalog.get(chosen.backbone)
    name = form.augmentation_name(chosen.augmentation)
    by = chosen.split_by if found and any(found.subfolders) else "photo"  # else it could not be changed back
    values: dict[str, Any] = {setting: getattr(chosen, setting) for setting in form.SETTINGS}
    sliders = zip(form.SLIDES, form.slider_values(chosen.augmentation), strict=True)
    values |= {f"augmentation.{slide.name}": value for slide, value in sliders}
    values |= {
        "backbone": gr.Radio(form.backbone_choices(), value=chosen.backbone),
        "frozen": gr.CheckboxGroup(form.block_choices(entry), value=list(chosen.frozen)),
        "test_fraction": round(100 * chosen.test_fraction, 6),
        "split_seed": chosen.seed if chosen.split_seed is None else chosen.split_seed,
        "split_by": by,
    }
    filled = {fields[setting]: value for setting, value in values.items()}
    file, words = _weights(chosen)
    filled |= dict(zip(panel.shown, weights.state(chosen.backbone, file), strict=True))
    if words:
        filled |= {panel.box: gr.Column(visible=True), panel.said: pieces.notice("warn", words)}
    else:
        filled[panel.said] = ""
    return {**filled, strength: name, preset: form.preset_of(list(chosen.frozen), chosen.solver, name, entry)}


def _weights(chosen: Plan) -> tuple[str, str]:
    """The kept weights file of the plan, or "" and a sentence where it had one that the page does not keep."""
    if not chosen.weights:
        return "", ""
    name = Path(chosen.weights).name
    try:
        if form.weights_file(name) == chosen.weights:
            return name, ""
    except PlanError:
        pass
    return "", f"The run took its weights from the file {name}, which the page does not keep. Give it again."
