"""How the photos divide into train, validation and test: as a bar, photo by photo, and as a CSV to keep.

Knows the dataset's split and its controls; nothing of how photos come in or what is trained on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from tlapp import tables
from tlapp.dataset import Dataset, Split, has_test
from tlapp.errors import DataError
from tlapp.plan import Plan
from tlapp.ui import pieces, shelf
from tlapp.ui.frame import QUIET
from tlapp.ui.serve import download_of

MOST_SHOWN = 60
DEFAULT_SHARE = round(100 * Plan.test_fraction)
BY = [("photo by photo", "photo"), ("whole sub-folders", "folder")]
CSV_NAMES = {"train": "train", "validation": "val", "test": "test"}


class Controls(NamedTuple):
    """What decides the split, by the names of the plan's settings."""

    test_fraction: gr.Slider
    split_seed: gr.Number
    split_by: gr.Radio


class Panel(NamedTuple):
    """ "Which photo is where": the accordion, whether it is open, and what is in it."""

    where: gr.Accordion
    is_open: gr.State
    shown: gr.HTML
    download: gr.DownloadButton


def fraction_slider() -> gr.Slider:
    """The part of each class that is set apart as test photos."""
    return gr.Slider(
        5, 50, DEFAULT_SHARE, step=5, label="Test photos, % of each class", elem_id="test-fraction", visible=False,
        buttons=[],
    )  # fmt: skip


def seed_and_by() -> tuple[gr.Number, gr.Radio]:
    """The seed of the split, and whether sub-folders are drawn whole."""
    seed = gr.Number(
        0, precision=0, minimum=0, label="Seed of the split", elem_id="split-seed",
        info="Another seed draws other photos for validation, and for test where the folder has no test photos.",
    )  # fmt: skip
    by = gr.Radio(
        BY, value="photo", label="Split by", elem_id="split-by", visible=False,
        info="Near copies and bursts stay on one side either way. Whole sub-folders: all photos of a day or of a "
        "patient are on one side, so that the test asks about days or patients that the model has not seen.",
    )  # fmt: skip
    return seed, by


def build() -> Panel:
    """Lay out "Which photo is where"."""
    with gr.Accordion("Which photo is where", open=False, visible=False, elem_id="where") as where:
        download = gr.DownloadButton(
            "Download the list (CSV)", size="sm", visible=False, scale=0, min_width=200, elem_id="where-csv"
        )
        shown = gr.HTML(elem_id="where-photos")
    return Panel(where, gr.State(False), shown, download)


def wire(panel: Panel, dataset: Any, controls: Controls, bar: gr.HTML) -> None:
    """Bar and photos follow the controls; the photos are drawn only while the accordion is open."""

    @pieces.guarded
    def follow(name: str, share: float, seed: float | None, by: str, is_open: bool) -> list[Any]:
        return show(shelf.dataset(name), share, seed, by, is_open)

    @pieces.guarded
    def open_up(name: str, share: float, seed: float | None, by: str) -> list[Any]:
        return [True, *follow(name, share, seed, by, True)]

    given, outputs = [dataset, *controls], [bar, panel.shown, panel.download]
    for control in controls:
        control.input(follow, [*given, panel.is_open], outputs, **QUIET)
    panel.where.expand(open_up, given, [panel.is_open, *outputs], **QUIET)
    panel.where.collapse(lambda: (False, ""), None, [panel.is_open, panel.shown], **QUIET)


def show(found: Dataset | None, share: float, seed: float | None, by: str, is_open: bool) -> list[Any]:
    """The bar, and where it is open the photos with their list: values of the bar, the HTML and the button."""
    hidden = ["", gr.DownloadButton(visible=False)]
    if found is None:
        return ["", *hidden]
    try:
        split = found.split(share / 100, Plan.validation_fraction, int(seed or 0), by)
    except DataError as error:
        return [pieces.notice("error", str(error)), *hidden]
    is_first = (has_test(found.photos) or share == DEFAULT_SHARE) and not seed and by == "photo"
    later = (
        "" if is_first else "The instant model is scored on the split that came first; runs that you start take this."
    )
    bar = _bar(split) + pieces.notice("info", later)
    if not is_open:
        return [bar, *hidden]
    return [bar, photos(found, split, by), gr.DownloadButton(value=str(_file(found, split)), visible=True)]


def start(
    found: Dataset | None, is_open: bool, stands: tuple[float, float | None, str] | None = None
) -> tuple[list[Any], list[Any]]:
    """What photos begin with: values of the controls; of the bar, the panel's HTML, button and accordion.

    `stands`: where the controls stand and are to stay.
    """
    own_test = found is not None and has_test(found.photos)
    has_folders = found is not None and any(found.subfolders)
    slider = gr.Slider(value=DEFAULT_SHARE, visible=found is not None and not own_test)
    values = [gr.skip()] * 3 if stands else [slider, 0, gr.Radio(value="photo", visible=has_folders)]
    share, seed, by = stands or (DEFAULT_SHARE, 0, "photo")
    shown = show(found, share, seed, by, is_open)
    return values, [*shown, gr.Accordion(visible=found is not None)]


def parts(split: Split) -> dict[str, np.ndarray]:
    """The three parts by name."""
    return {"train": split.train, "validation": split.validation, "test": split.test}


def _bar(split: Split) -> str:
    """How many photos learn, choose and score, as HTML."""
    sizes = {name: len(part) for name, part in parts(split).items()}
    bars = "".join(f'<div class="tl-{name}" style="flex:{n}"></div>' for name, n in sizes.items())
    words = "".join(f'<span class="tl-key tl-{name}">{n} {name}</span>' for name, n in sizes.items())
    why = "Learns from train, chooses on validation, and is scored on test photos, which take part in no choice."
    return f'<div class="tl-split">{bars}</div><div class="tl-keys">{words}<span>{why}</span></div>'


def photos(found: Dataset, split: Split, by: str) -> str:
    """The photos of each part with their names and what holds them together, as HTML."""
    names, ties = file_names(found), marks(found, split, by)
    body = ""
    for part, members in parts(split).items():
        chosen = _some(members, found)
        cards = "".join(_card(found, i, names[i], ties.get(i, [])) for i in chosen)
        rest = len(members) - len(chosen)
        more = f'<p class="tl-hint">and {rest:,} more; the list has them all</p>' if rest else ""
        title = f"{part.capitalize()}: {pieces.count(len(members), 'photo')}"
        body += f'<section data-part="{part}"><h3 class="tl-key tl-{part}">{title}</h3>'
        body += f'<div class="tl-where" tabindex="0" role="group" aria-label="{title}">{cards}</div>{more}</section>'
    words = "Photos with the same mark belong together. " if ties else ""
    if not any(photo.side == "validation" for photo in found.photos):
        share = pieces.percent(Plan.validation_fraction)
        words += f"Validation takes {share} of what is not for testing, unless 2 Train says otherwise under More. "
    if " + " not in found.source:  # of photos that were read one after the other no folder has all
        words += (
            "The list can be kept: put it at the top of this folder or zip, the only CSV of labels there, and these "
            "photos are split so whenever they are read."
        )
    return f'<p class="tl-hint">{words}</p>{body}'


def marks(found: Dataset, split: Split, by: str) -> dict[int, list[str]]:
    """For photos that belong together: why, which group, and whether it lies on more than one side, in words."""
    side = np.zeros(len(found.photos), dtype=int)
    for number, members in enumerate(parts(split).values()):
        side[members] = number
    whys: dict[int, list[str]] = {}
    for why, pairs in found.ties.items():
        for name in {int(found.groups[one]) for one, _ in pairs}:
            whys.setdefault(name, []).append(why)
    numbers = {name: number for number, name in enumerate(sorted(whys), 1)}
    said = [f"{' and '.join(whys[n])} {numbers[n]}" if n in numbers else "" for n in found.groups.tolist()]
    folders = [f"sub-folder {name}" if name and by == "folder" else "" for name in found.subfolders]
    result: dict[int, list[str]] = {}
    for words in (said, folders):
        sides: dict[str, set[int]] = {}
        for word, number in zip(words, side.tolist(), strict=True):
            sides.setdefault(word, set()).add(number)
        for i, word in enumerate(words):
            if word:
                result.setdefault(i, []).append(word + (", on several sides" if len(sides[word]) > 1 else ""))
    return result


def _some(members: np.ndarray, found: Dataset) -> list[int]:
    """At most `MOST_SHOWN` of a part, from all classes; photos of a group beside each other."""
    seen: Counter[int] = Counter()
    ranks = []
    for index in members.tolist():
        label = found.photos[index].label
        ranks.append((seen[label], index))
        seen[label] += 1
    chosen = [index for _, index in sorted(ranks)[:MOST_SHOWN]]
    return sorted(chosen, key=lambda i: (found.photos[i].label, int(found.groups[i]), i))


def _card(found: Dataset, index: int, name: str, ties: list[str]) -> str:
    caption = f'<span class="tl-file">{pieces.text(name)}</span>'
    caption += "".join(f'<span class="tl-mark">{pieces.text(tie)}</span>' for tie in ties)
    class_name = found.classes[found.photos[index].label]
    return pieces.picture(shelf.thumbnail(found, index, 72), f"{name}, {class_name}", caption)


def file_names(found: Dataset) -> list[str]:
    """The photos' names relative to what was read; of a folder that was dropped, without its own name."""
    names, wrapper = [photo.name for photo in found.photos], f"{found.source}/"
    return [n.removeprefix(wrapper) for n in names] if all(n.startswith(wrapper) for n in names) else names


def to_csv(found: Dataset, split: Split) -> str:
    """All photos as `labels` reads them: file, label, split."""
    side = {i: CSV_NAMES[part] for part, members in parts(split).items() for i in members.tolist()}
    rows: Sequence[list[str]] = [
        [name, found.classes[photo.label], side[i]]
        for i, (name, photo) in enumerate(zip(file_names(found), found.photos, strict=True))
    ]
    return tables.to_csv([["file", "label", "split"], *rows])


def _file(found: Dataset, split: Split) -> Path:
    """The list as a file that the page may hand out."""
    return download_of("split.csv", to_csv(found, split).encode("utf-8", "replace"))
