"""The settings of a run as widgets, and back: one component per setting of the plan, read by `read_plan`.

Knows the plan and the catalogue; knows nothing of torch, photos or runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tlapp import catalog, lineage, settings, workspace
from tlapp.catalog import Backbone
from tlapp.errors import PlanError
from tlapp.plan import AUGMENTATIONS, Augmentation, Plan

AUTO, EXTRACT, LAST, ALL = "Auto", "Feature extraction", "Fine-tune the last block", "Fine-tune everything"
AUGMENTED = " + augmentation"
PRESETS = (AUTO, *(preset + more for preset in (EXTRACT, LAST, ALL) for more in ("", AUGMENTED)))
CUSTOM = "custom"
AUTO_SOLVER = "auto"


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


class Setting(NamedTuple):
    """A number or choice under "More": its label and one line of why."""

    name: str
    label: str
    why: str


GROUPS = {
    "What is fitted, and to what": (
        Setting("solver", "Solver", "Auto: an exact head, then the last stage fine-tuned if that helps. Exact: the "
                "head alone. Sgd: gradient descent, any blocks."),
        Setting("head", "Kind of exact head", "Ridge or logistic regression; auto: as cross-validation prefers. "
                "Not for sgd."),
        Setting("depth", "Features it sees", "Of the last block, or of several; auto: as cross-validation prefers. "
                "Not for sgd."),
        Setting("mirror", "Ask twice, mirrored too", "Doubles the time of an answer; auto: where cross-validation "
                "prefers it."),
        Setting("class_weighting", "Class weighting", "Balanced: rare classes count as much as common ones."),
        Setting("l2", "L2 of an exact head", "Penalty on large weights; 0: chosen by cross-validation."),
        Setting("views", "Views per photo", "Augmented views drawn beforehand where the frozen part is cached."),
        Setting("validation_fraction", "Validation part", "Part of the training photos that choices are made on."),
        Setting("seed", "Seed", "Of everything random; the same seed gives the same result on a CPU."),
    ),
    "Gradient descent: heeded by the solver sgd alone": (
        Setting("epochs", "Epochs, at most", "Passes over the training photos; early stopping usually ends sooner."),
        Setting("patience", "Patience", "Epochs without a lower validation loss before it stops; 0: never early."),
        Setting("head_epochs", "Head-first epochs", "The head learns alone first, in half of the epochs at most."),
        Setting("head_rate", "Learning rate of the head", "Larger learns faster, too large diverges."),
        Setting("fine_tune_rate", "Learning rate of unfrozen blocks", "Low, since these blocks already know a lot."),
        Setting("rate_decay", "Rate decay per block", "Each block nearer the pixels learns at this part of the rate."),
        Setting("warm_up", "Warm-up epochs", "In these the rates rise from zero."),
        Setting("batch_size", "Batch size", "Photos a step; lower it if memory runs out."),
        Setting("dropout", "Dropout", "Part of the features the head ignores at random; against overfitting."),
        Setting("weight_decay", "Weight decay", "Pulls weights towards zero; against overfitting."),
        Setting("label_smoothing", "Label smoothing", "Part of the target spread over all classes; for noisy labels."),
        Setting("schedule", "Schedule of the rates", "Cosine: they fall to zero over the epochs."),
        Setting("sampling", "Sampling", "Balanced: each class comes as often in an epoch."),
        Setting("batchnorm", "BatchNorm of unfrozen blocks", "Fixed: its statistics stay; best for few photos."),
    ),
    "Memory and device": (
        Setting("precision", "Precision of the frozen part", "Auto: the quickest here. Answers are always float32."),
        Setting("device", "Device", "Auto: the graphics card if there is one, else the processor."),
        Setting("cache_mb", "Cache in memory, MB", "For what the frozen part puts out."),
        Setting("disk_mb", "Cache on disk, MB", "For what does not fit the memory."),
    ),
}  # fmt: skip
FRAMING = Setting("framing", "How a photo fills the square", "The network looks at squares. Show all of it if what "
                  "matters lies near the ends of long photos; things then look smaller.")  # fmt: skip
"""Stands beside the preview, which shows it."""

SETTINGS = {setting.name: setting for group in [*GROUPS.values(), [FRAMING]] for setting in group}
WORDS = {"crop": "cut off the ends", "letterbox": "show all of it, with grey bars"}
"""Choices that are said in plain words."""


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


def fields_of(group: str) -> dict[str, Any]:
    """The numbers and choices of one group under "More" by setting name, at the defaults."""
    return {setting.name: field_of(setting) for setting in GROUPS[group]}


def field_of(setting: Setting) -> Any:
    """A number or choice at its default."""
    name = setting.name
    default: Any = AUTO_SOLVER if name == "solver" else getattr(Plan, name)
    if name in settings.CHOICES:
        standard = f"“{WORDS[default]}”" if default in WORDS else default
        why = f"{setting.why} Default {standard}."
        choices = [(WORDS.get(choice, choice), choice) for choice in settings.CHOICES[name]]
        return gr.Radio(choices, value=default, label=setting.label, info=why, elem_id=f"set-{name}")
    low, high = settings.RANGES[name]
    return gr.Number(
        default,
        label=setting.label,
        info=f"{setting.why} Default {default:g}, from {low:,} to {high:,}.",
        precision=0 if isinstance(default, int) else None,
        elem_id=f"set-{name}",
    )


def take_preset(preset: str, backbone: Backbone) -> tuple[list[str], str, str]:
    """Of a preset other than auto: the blocks it freezes, its solver, and its strength of augmentation."""
    kind = preset.removesuffix(AUGMENTED)
    names = list(backbone.block_names)
    frozen = {EXTRACT: names, LAST: names[:-1], ALL: []}[kind]
    return frozen, solver_for(frozen, backbone), "light" if preset.endswith(AUGMENTED) else "off"


def preset_of(frozen: list[str], solver: str, strength: str, backbone: Backbone) -> str | None:
    """The preset that these settings amount to, if any."""
    if solver == AUTO_SOLVER:
        return AUTO
    return next((p for p in PRESETS[1:] if _amounts_to(p, frozen, strength, backbone)), None)


def _amounts_to(preset: str, frozen: list[str], strength: str, backbone: Backbone) -> bool:
    blocks, _, its_strength = take_preset(preset, backbone)
    return set(blocks) == set(frozen) and (strength == "off") == (its_strength == "off")


def solver_for(frozen: list[str], backbone: Backbone) -> str:
    """The solver that suits what is frozen: exact for the head alone."""
    return "exact" if set(frozen) == set(backbone.block_names) else "sgd"


def read_plan(values: dict[Any, Any], fields: dict[str, Any]) -> Plan:
    """The plan that the widgets show. `values` by component, `fields` components by setting. Raises PlanError."""
    given = {name: values[component] for name, component in fields.items()}
    empty = next((name for name, value in given.items() if value is None), None)
    if empty:
        raise PlanError(f"{SETTINGS[empty].label if empty in SETTINGS else empty} is empty. Type a number.")
    chosen = {name: value for name, value in given.items() if not name.startswith("augmentation.")}
    chosen["augmentation"] = dataclasses.asdict(read_augmentation(values, fields))
    chosen["test_fraction"] = given["test_fraction"] / 100
    chosen["weights"] = weights_file(given["weights"])
    return lineage.continued(Plan.from_dict(chosen))


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
    with contextlib.suppress(OSError):
        os.utime(path)  # it is wanted: `cleanup` leaves it for a day
    return str(path)


def read_augmentation(values: dict[Any, Any], sliders: dict[str, Any]) -> Augmentation:
    """The augmentation that the sliders show."""
    return Augmentation(**{s.name: float(values[sliders[f"augmentation.{s.name}"]] or 0) / s.scale for s in SLIDES})


def number_values(chosen: Plan, fields: dict[str, Any]) -> list[Any]:
    """The values of these fields for a plan, in their order."""
    return [getattr(chosen, name) for name in fields]


def augmentation_name(augmentation: Augmentation) -> str:
    """Which named strength the sliders stand at, or "custom"."""
    return next((name for name, known in AUGMENTATIONS.items() if known == augmentation), CUSTOM)


def block_choices(backbone: Backbone) -> list[tuple[str, str]]:
    """What the checkboxes show for each block, and its name."""
    return [(f"{block.name}\n{short(block.parameters)}", block.name) for block in backbone.blocks]


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
