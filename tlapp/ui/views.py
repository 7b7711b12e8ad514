"""A photo's augmented views, drawn as training draws them, and which of them a model takes for another class.

Marks are asked for after the views, so that these follow a slider at once; each answer names the views that it is
about, and shows beside no others. Torch is imported when views are first drawn.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlapp import plan
from tlapp.catalog import Backbone
from tlapp.dataset import Dataset
from tlapp.errors import DataError
from tlapp.plan import Augmentation, Plan
from tlapp.ui import pieces, shelf

if TYPE_CHECKING:
    import torch

N_VIEWS = 8


@dataclass(frozen=True)
class Shown:
    """What the preview shows of a dataset: one photo, by its number there, and how it is drawn."""

    dataset: str
    index: int
    draw: int
    augmentation: Augmentation
    backbone: Backbone
    framing: str = "crop"

    @property
    def key(self) -> str:
        """Names these views and no others."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def offered(found: Dataset, chosen: Plan) -> list[int]:
    """The photos to choose from: all that the plan does not hold back as test photos."""
    try:
        held_back = set(chosen.split(found).test.tolist())
    except DataError:  # which is said beside the Train button
        held_back = {i for i, photo in enumerate(found.photos) if photo.side == "test"}
    return [i for i in range(len(found.photos)) if i not in held_back]


def grid(found: Dataset | None, shown: Shown, place: str = "") -> str:
    """HTML of a 4 × 2 grid: the photo as the network sees it plainly, then random views, as in training.

    `place`: which of the photos that are offered it is, in words.
    """
    if found is None:
        empty = '<div class="tl-photo tl-blank"></div>' * N_VIEWS
        return f'<div class="tl-views">{empty}</div><p class="tl-hint">Views of your photos appear here.</p>'
    entry = found.photos[shown.index]
    name = found.classes[entry.label]
    figures = [
        pieces.picture(
            shelf.data_uri(tensor.permute(1, 2, 0).contiguous().numpy()),
            f"{name}, {f'view {n}' if n else 'original'}",
            "original" if n == 0 else "",
        )
        for n, tensor in enumerate(_drawn(shown))
    ]
    hint = " · ".join(pieces.text(part) for part in (entry.name, name, place) if part)
    return f'<div class="tl-views" data-of="{shown.key}">{"".join(figures)}</div><p class="tl-hint">{hint}</p>'


def marks(found: Dataset | None, shown: Shown) -> str:
    """HTML to lie over `grid`: the views that the instant model of these photos calls otherwise than the original."""
    run = shelf.instant(found, plan.instant(found)) if found else None
    if run is None or not run.has_model():
        later = "Once the instant model is there, views that it no longer knows are marked." if found else ""
        return f'<p class="tl-hint">{later}</p>'
    called = shelf.predictor(run).name_views(_drawn(shown))
    turned = [n for n, name in enumerate(called) if name != called[0]]
    figures = [
        f'<div class="tl-turned"><span><i>view {n} is </i>now {pieces.text(name)}</span></div>'
        if n in turned
        else "<div></div>"
        for n, name in enumerate(called)
    ]
    key = shown.key
    return (
        f'<style>#preview:has(.tl-views[data-of="{key}"]) .tl-marks[data-of="{key}"] {{ visibility: visible }}</style>'
        f'<div class="tl-marks" data-of="{key}"><div class="tl-over">{"".join(figures)}</div>'
        f'<p class="tl-hint">{_sentence(called, turned)}</p></div>'
    )


def _sentence(called: Sequence[str], turned: Sequence[int]) -> str:
    """What the marks say, and what to do about it."""
    original, views = pieces.text(called[0]), len(called) - 1
    if not turned:
        return f"The instant model calls all {views} views what it calls the original: {original}."
    return (
        f"The instant model calls the original {original}, and {len(turned)} of {views} views something else. "
        "If you would not know them either, augment less."
    )


@functools.lru_cache(maxsize=4)
def _drawn(shown: Shown) -> list[torch.Tensor]:
    """The views, uint8 (3, crop, crop) each, the plain one first."""
    from tlapp.augment import Views, view_seed

    found = shelf.dataset(shown.dataset)
    assert found is not None
    pixels, sha256 = found.pixels(shown.index), found.photos[shown.index].sha256
    made = Views(shown.augmentation, shown.backbone, shown.framing)
    random = [made.draw(pixels, view_seed(shown.draw, sha256, n)) for n in range(N_VIEWS - 1)]
    return [made.plain(pixels), *random]
