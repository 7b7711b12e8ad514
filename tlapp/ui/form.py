"""The settings of a run as widgets, and back: one component per setting of the plan, read by `read_plan`.

Knows the plan and the catalogue; knows nothing of torch, photos or runs.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tlapp import catalog, plan, workspace
from tlapp.catalog import Backbone
from tlapp.errors import PlanError
from tlapp.plan import AUGMENTATIONS, Augmentation, Plan

AUTO, EXTRACT, LAST, ALL = "Auto", "Feature extraction", "Fine-tune the last block", "Fine-tune everything"
PRESETS = (AUTO, EXTRACT, LAST, ALL)
CUSTOM = "custom"


class Slide(NamedTuple):
    """A slider of the augmentation: shown in a unit of its own, `scale` of which is 1 in the plan."""

    name: str
    label: str
    most: float
    step: float
    scale: float = 100


SLIDES = (
    Slide("crop", "Crop away, %", 95, 5),
    Slide("horizontal_flip", "Mirror left–right, %", 100, 10),
    Slide("vertical_flip", "Mirror top–bottom, %", 100, 10),
    Slide("rotation", "Rotate, ± degrees", 180, 5, 1),
    Slide("zoom", "Zoom, ± %", 90, 5),
    Slide("shift", "Shift, ± %", 90, 5),
    Slide("brightness", "Brightness, ± %", 100, 5),
    Slide("contrast", "Contrast, ± %", 100, 5),
    Slide("saturation", "Colour, ± %", 100, 5),
    Slide("blur", "Blur, pixels", 10, 0.5, 1),
    Slide("erasing", "Cover a part, %", 100, 5),
)


class Number(NamedTuple):
    """A number under "More": its label and one line of why."""

    name: str
    label: str
    why: str


NUMBERS = (
    Number("epochs", "Epochs, at most", "Passes over the training photos; early stopping usually ends sooner."),
    Number("patience", "Patience", "Epochs without a lower validation loss before it stops; 0: never early."),
    Number("head_epochs", "Head-first epochs", "The head learns alone first, in half of the epochs at most."),
    Number("head_rate", "Learning rate of the head", "Larger learns faster, too large diverges."),
    Number("fine_tune_rate", "Learning rate of unfrozen blocks", "Low, since these blocks already know a lot."),
    Number("rate_decay", "Rate decay per block", "Each block nearer the pixels learns at this part of the rate."),
    Number("batch_size", "Batch size", "Photos a step; lower it if memory runs out."),
    Number("dropout", "Dropout", "Part of the features the head ignores at random; against overfitting."),
    Number("weight_decay", "Weight decay", "Pulls weights towards zero; against overfitting."),
    Number("label_smoothing", "Label smoothing", "Part of the target spread over all classes; for noisy labels."),
    Number("views", "Views per photo", "Augmented views drawn beforehand where the frozen part is cached."),
    Number("validation_fraction", "Validation part", "Part of the training photos that choices are made on."),
    Number("cache_mb", "Cache, MB", "Memory for what the frozen part puts out."),
    Number("seed", "Seed", "Of everything random; the same seed gives the same result on a CPU."),
)  # fmt: skip


def augmentation_sliders() -> dict[str, Any]:
    """Sliders by setting name, at the plan's defaults."""
    values = slider_values(Augmentation())
    return {
        f"augmentation.{s.name}": gr.Slider(
            0, s.most, value, step=s.step, label=s.label, buttons=[], elem_id=f"aug-{s.name}"
        )
        for s, value in zip(SLIDES, values, strict=True)
    }


def slider_values(augmentation: Augmentation) -> list[float]:
    """The positions of the sliders for an augmentation, in the order of `SLIDES`."""
    return [round(getattr(augmentation, s.name) * s.scale, 6) for s in SLIDES]


def number_fields() -> dict[str, Any]:
    """The numbers and choices under "More" by setting name, at the plan's defaults."""
    types = {f.name: str(f.type) for f in dataclasses.fields(Plan)}
    fields: dict[str, Any] = {}
    for number in NUMBERS:
        low, high = plan.RANGES[number.name]
        fields[number.name] = gr.Number(
            getattr(Plan, number.name),
            label=number.label,
            info=f"{number.why} Default {getattr(Plan, number.name):g}, from {low:,} to {high:,}.",
            precision=0 if types[number.name] == "int" else None,
            elem_id=f"set-{number.name}",
        )
    fields["class_weighting"] = gr.Radio(
        ["none", "balanced"], value=Plan.class_weighting, label="Class weighting", elem_id="set-class_weighting",
        info="Balanced: rare classes count as much as common ones. Default none.",
    )  # fmt: skip
    fields["device"] = gr.Radio(
        ["auto", "cpu", "cuda", "mps"], value=Plan.device, label="Device", elem_id="set-device",
        info="Auto: the graphics card if there is one, else the processor.",
    )  # fmt: skip
    return fields


def read_plan(values: dict[Any, Any], fields: dict[str, Any]) -> Plan:
    """The plan that the widgets show. `values` by component, `fields` components by setting. Raises PlanError."""
    given = {name: values[component] for name, component in fields.items()}
    labels = {number.name: number.label for number in NUMBERS}
    empty = next((name for name, value in given.items() if value is None), None)
    if empty:
        raise PlanError(f"{labels.get(empty, empty)} is empty. Type a number.")
    settings = {name: value for name, value in given.items() if not name.startswith("augmentation.")}
    settings["augmentation"] = dataclasses.asdict(read_augmentation(values, fields))
    settings["test_fraction"] = given["test_fraction"] / 100
    settings["weights"] = weights_file(given["weights"])
    return Plan.from_dict(settings)


def weights_folder() -> Path:
    """Where weights files that were given on the page are kept."""
    return workspace.home() / "weights"


def weights_file(name: str) -> str:
    """The path of a kept weights file; a page names no other. Raises PlanError."""
    if not name:
        return ""
    path = weights_folder() / name
    if not re.fullmatch(r"[a-z0-9_]+-[0-9a-f]{12}\.\w+", name) or not path.is_file():
        raise PlanError("That weights file is gone. Give it again.")
    return str(path)


def read_augmentation(values: dict[Any, Any], sliders: dict[str, Any]) -> Augmentation:
    """The augmentation that the sliders show."""
    return Augmentation(**{s.name: float(values[sliders[f"augmentation.{s.name}"]] or 0) / s.scale for s in SLIDES})


def number_values(chosen: Plan, fields: dict[str, Any]) -> list[Any]:
    """The values of `number_fields` for a plan, in their order."""
    return [getattr(chosen, name) for name in fields]


def augmentation_name(augmentation: Augmentation) -> str:
    """Which named strength the sliders stand at, or "custom"."""
    return next((name for name, known in AUGMENTATIONS.items() if known == augmentation), CUSTOM)


def block_choices(backbone: Backbone) -> list[tuple[str, str]]:
    """What the checkboxes show for each block, and its name."""
    return [(f"{block.name}\n{short(block.parameters)}", block.name) for block in backbone.blocks]


def preset_blocks(preset: str, backbone: Backbone) -> list[str]:
    """The blocks that a preset other than auto freezes."""
    names = list(backbone.block_names)
    return {EXTRACT: names, LAST: names[:-1], ALL: []}[preset]


def preset_of(frozen: list[str], backbone: Backbone) -> str | None:
    """The preset that these ticks amount to, if any; auto is chosen, never amounted to."""
    return next((p for p in PRESETS[1:] if set(preset_blocks(p, backbone)) == set(frozen)), None)


def backbone_choices() -> list[tuple[str, str]]:
    """The backbones with what of their weights is here, in the order of the catalogue."""
    rows = []
    for entry in catalog.BACKBONES.values():
        here = "included" if entry.included else "weights here" if catalog.weights_path(entry).is_file() else "to fetch"
        rows.append((f"{entry.title} · {here}", entry.name))
    return rows


def short(n: int) -> str:
    """A count of parameters: "9.5 k", "2.1 M"."""
    return f"{n / 1e6:.1f} M" if n >= 999_500 else f"{n / 1e3:.1f} k" if n < 99_950 else f"{n / 1e3:.0f} k"
