"""Tab 2, upper part: augmentation with its preview, which blocks learn, settings, and the button that trains.

Reads widgets into a plan and hands it to `jobs`. What a run shows while it lives is `live`'s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from tlapp import catalog, jobs, plan
from tlapp.errors import DataError, PlanError
from tlapp.plan import AUGMENTATIONS, Plan
from tlapp.ui import form, pieces, preview, shelf, weights
from tlapp.ui.frame import QUIET, Mine, Step, Tab

FIRST = catalog.get(catalog.INCLUDED)


class Parts(NamedTuple):
    """The tab's components."""

    strength: gr.Radio
    sliders: dict[str, gr.Slider]
    views: gr.HTML
    back: gr.Button
    another: gr.Button
    redraw: gr.Button
    backbone: gr.Radio
    weights: weights.Panel
    preset: gr.Radio
    blocks: gr.CheckboxGroup
    words: gr.HTML
    numbers: dict[str, Any]
    go: gr.Button
    why_not: gr.HTML
    photo: gr.State
    draw: gr.State

    @property
    def told(self) -> list[Any]:
        """What says how the plan stands."""
        return [self.words, self.go, self.why_not]

    @property
    def suggested(self) -> list[Any]:
        """What a suggested plan fills, in the order of `_suggest`."""
        slides, numbers = self.sliders.values(), self.numbers.values()
        return [self.backbone, self.blocks, self.strength, *self.weights.shown, *slides, *numbers]


def build(mine: Mine, elsewhere: dict[str, Any]) -> Tab:
    """Lay the tab out; `elsewhere` are components that hold settings in other tabs."""
    p = _lay_out()
    fields = {**elsewhere, **p.sliders, **p.numbers}
    fields |= {"backbone": p.backbone, "frozen": p.blocks, "weights": p.weights.name}
    inputs = {mine.dataset, p.photo, p.draw, *fields.values()}

    @pieces.guarded
    def show(values: dict[Any, Any]) -> str:
        chosen, entry = form.read_augmentation(values, p.sliders), catalog.get(values[p.backbone])
        return preview.views(shelf.dataset(values[mine.dataset]), values[p.photo], values[p.draw], chosen, entry)

    @pieces.guarded
    def tell(values: dict[Any, Any]) -> tuple[Any, ...]:
        try:
            chosen: Plan | PlanError = form.read_plan(values, fields)
        except PlanError as error:
            chosen = error
        return preview.summary(shelf.dataset(values[mine.dataset]), chosen)

    @pieces.guarded
    def follow_slider(values: dict[Any, Any]) -> list[Any]:
        chosen = form.read_augmentation(values, p.sliders)
        return [show(values), form.augmentation_name(chosen), *tell(values)]

    @pieces.guarded
    def start(values: dict[Any, Any]) -> str:
        found = shelf.dataset(values[mine.dataset])
        if found is None:
            raise DataError("There are no photos yet. Load them in the Data tab.")
        return jobs.start(found, form.read_plan(values, fields)).id

    shows, tells = Step(show, inputs, p.views), Step(tell, inputs, p.told)
    for slider in p.sliders.values():
        slider.input(follow_slider, inputs, [p.views, p.strength, *p.told], queue=False, **QUIET)
    strengths = list(p.sliders.values())

    def take_strength(name: str) -> Any:
        return gr.skip() if name == form.CUSTOM else form.slider_values(AUGMENTATIONS[name])

    chosen = p.strength.input(take_strength, p.strength, strengths, **QUIET)
    tells.after(shows.after(chosen))
    for event in _wire_views(p):
        shows.after(event)
    for event in _wire_blocks(p, mine):
        shows.after(tells.after(event))
    p.blocks.input(tell, inputs, p.told, **QUIET)
    for component in [*p.numbers.values(), *elsewhere.values()]:
        component.input(tell, inputs, p.told, **QUIET)
    for event in weights.wire(p.weights, p.backbone):
        tells.after(event)
    started = p.go.click(start, inputs, mine.run, trigger_mode="once", show_progress="hidden")

    def refresh(dataset: str) -> list[Any]:
        wait = pieces.notice("info", "Working out how long it takes.")  # the first time takes a moment
        return [form.AUTO, 0, *_suggest(p, dataset), "", gr.Button("Train", interactive=False), wait]

    refreshes = Step(pieces.guarded(refresh), mine.dataset, [p.preset, p.photo, *p.suggested, *p.told])
    return Tab([refreshes, shows, tells], [started])


def _lay_out() -> Parts:
    with gr.Row(elem_id="augment"):
        with gr.Column(scale=5, min_width=300):
            gr.HTML("<h2>Augment</h2><p>A little different each time, so that the network cannot learn by heart.</p>")
            strength = gr.Radio([*AUGMENTATIONS, form.CUSTOM], value="light", label="Strength", elem_id="aug-strength")
            with gr.Column(elem_id="sliders"):
                sliders = form.augmentation_sliders()
        with gr.Column(scale=6, min_width=300):
            views = gr.HTML(preview.views(None, 0, 0, AUGMENTATIONS["light"], FIRST), elem_id="preview")
            with gr.Row(elem_id="preview-buttons"):
                back = gr.Button("◀ Back", size="sm", min_width=80, elem_id="photo-back")
                another = gr.Button("Another photo ▶", size="sm", min_width=120, elem_id="photo-next")
                redraw = gr.Button("Draw anew", size="sm", min_width=100, elem_id="redraw")
    gr.HTML("<h2>Which parts learn</h2>")
    backbone = gr.Radio(form.backbone_choices(), value=FIRST.name, label="Backbone", elem_id="backbone")
    panel = weights.build()
    preset = gr.Radio(list(form.PRESETS), value=form.AUTO, label="Start from", elem_id="preset")
    blocks = gr.CheckboxGroup(
        form.block_choices(FIRST), value=list(FIRST.block_names), elem_id="blocks",
        label="Frozen blocks, from the pixels to the classes: ticked stays as it is, unticked learns",
    )  # fmt: skip
    words = gr.HTML(elem_id="what-learns")
    with gr.Accordion("More", open=False, elem_id="more"), gr.Row(elem_id="more-row"):
        numbers = form.number_fields()
    go = gr.Button("Train", variant="primary", interactive=False, elem_id="train")
    why_not = gr.HTML(elem_id="why-not")
    photo, draw = gr.State(0), gr.State(0)
    return Parts(
        strength, sliders, views, back, another, redraw, backbone, panel, preset, blocks, words, numbers, go, why_not,
        photo, draw,
    )  # fmt: skip


def _wire_views(p: Parts) -> list[Any]:
    """Another photo, other draws."""
    steps = [(p.back, p.photo, -1), (p.another, p.photo, 1), (p.redraw, p.draw, 1)]
    return [button.click(lambda n, by=by: n + by, number, number, **QUIET) for button, number, by in steps]


def _wire_blocks(p: Parts, mine: Mine) -> list[Any]:
    """Backbone, preset and ticks follow each other."""

    def take_backbone(name: str, chosen: str | None) -> list[Any]:
        entry = catalog.get(name)
        left = form.EXTRACT if chosen in (None, form.AUTO) else chosen
        ticks = gr.CheckboxGroup(form.block_choices(entry), value=form.preset_blocks(left, entry))
        return [ticks, left, "", *weights.state(name)]

    def take_preset(chosen: str, dataset: str, name: str) -> list[Any]:
        if chosen == form.AUTO:
            return _suggest(p, dataset)
        keep = [gr.skip()] * (len(p.suggested) - 2)
        return [gr.skip(), form.preset_blocks(chosen, catalog.get(name)), *keep]

    def name_preset(frozen: list[str], name: str) -> str | None:
        return form.preset_of(frozen, catalog.get(name))

    p.blocks.input(name_preset, [p.blocks, p.backbone], p.preset, **QUIET)
    filled = [p.blocks, p.preset, p.weights.said, *p.weights.shown]
    return [
        p.backbone.input(pieces.guarded(take_backbone), [p.backbone, p.preset], filled, **QUIET),
        p.preset.input(pieces.guarded(take_preset), [p.preset, mine.dataset, p.backbone], p.suggested, **QUIET),
    ]


def _suggest(p: Parts, dataset: str) -> list[Any]:
    """Every widget as the plan has it that suits the dataset."""
    found = shelf.dataset(dataset)
    chosen = plan.suggest(found) if found else Plan(FIRST.name, FIRST.block_names)
    choices = form.block_choices(catalog.get(chosen.backbone))
    return [
        gr.Radio(form.backbone_choices(), value=chosen.backbone),
        gr.CheckboxGroup(choices, value=list(chosen.frozen)),
        form.augmentation_name(chosen.augmentation),
        *weights.state(chosen.backbone),
        *form.slider_values(chosen.augmentation),
        *form.number_values(chosen, p.numbers),
    ]
