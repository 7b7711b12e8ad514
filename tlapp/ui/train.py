"""Tab 2, upper part: augmentation with its preview, which blocks learn, settings, and the button that trains.

Reads widgets into a plan and hands it to `jobs`. What a run shows while it lives is `live`'s.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from tlapp import catalog, jobs, plan
from tlapp.errors import DataError, PlanError
from tlapp.plan import AUGMENTATIONS, Plan
from tlapp.ui import form, pieces, preview, shelf, weights
from tlapp.ui.frame import QUIET, Mine, Tab


def build(mine: Mine, elsewhere: dict[str, Any]) -> Tab:
    """Lay the tab out; `elsewhere` are components that hold settings in other tabs."""
    with gr.Row(elem_id="augment"):
        with gr.Column(scale=5, min_width=300):
            gr.HTML("<h3>Augment</h3><p>A little different each time, so that the network cannot learn by heart.</p>")
            strength = gr.Radio(list(AUGMENTATIONS), value="light", label="Strength", elem_id="aug-strength")
            with gr.Column(elem_id="sliders"):
                sliders = form.augmentation_sliders()
        with gr.Column(scale=6, min_width=300):
            views = gr.HTML(
                preview.views(None, 0, 0, AUGMENTATIONS["light"], catalog.get(catalog.INCLUDED)), elem_id="preview"
            )
            with gr.Row(elem_id="preview-buttons"):
                back = gr.Button("◀", size="sm", min_width=48, elem_id="photo-back")
                another = gr.Button("Another photo ▶", size="sm", min_width=120, elem_id="photo-next")
                redraw = gr.Button("Draw anew", size="sm", min_width=100, elem_id="redraw")
    photo, draw = gr.State(0), gr.State(0)

    gr.HTML("<h3>Which parts learn</h3>")
    entry = catalog.get(catalog.INCLUDED)
    backbone = gr.Radio(form.backbone_choices(), value=entry.name, label="Backbone", elem_id="backbone")
    panel = weights.build()
    preset = gr.Radio(list(form.PRESETS), value=form.AUTO, label="Start from", elem_id="preset")
    blocks = gr.CheckboxGroup(
        form.block_choices(entry), value=list(entry.block_names), elem_id="blocks",
        label="Frozen blocks, from the pixels to the classes: ticked stays as it is, unticked learns",
    )  # fmt: skip
    words = gr.HTML(elem_id="what-learns")
    with gr.Accordion("More", open=False, elem_id="more"), gr.Row(elem_id="more-row"):
        numbers = form.number_fields()
    go = gr.Button("Train", variant="primary", interactive=False, elem_id="train")
    why_not = gr.HTML(elem_id="why-not")

    fields = {**elsewhere, **sliders, **numbers, "backbone": backbone, "frozen": blocks, "weights": panel.path}
    slides = list(sliders.values())
    told = [words, go, why_not]
    inputs = {mine, photo, draw, *fields.values()}

    @pieces.guarded
    def show(values: dict[Any, Any]) -> str:
        chosen = form.read_augmentation(values, sliders)
        return preview.views(
            shelf.dataset(values[mine]), values[photo], values[draw], chosen, catalog.get(values[backbone])
        )

    @pieces.guarded
    def tell(values: dict[Any, Any]) -> tuple[Any, ...]:
        try:
            chosen: Plan | PlanError = form.read_plan(values, fields)
        except PlanError as error:
            chosen = error
        return preview.summary(shelf.dataset(values[mine]), chosen)

    def name_strength(*values: float) -> str | None:
        return form.augmentation_name(form.read_augmentation(dict(zip(slides, values, strict=True)), sliders))

    for slider in slides:
        slider.input(show, inputs, views, **QUIET)
        slider.release(name_strength, slides, strength, **QUIET).then(tell, inputs, told, **QUIET)
    strength.input(lambda name: form.slider_values(AUGMENTATIONS[name]), strength, slides, **QUIET).then(
        show, inputs, views, **QUIET
    ).then(tell, inputs, told, **QUIET)
    for button, step in ((back, -1), (another, 1)):
        button.click(lambda n, by=step: n + by, photo, photo, **QUIET).then(show, inputs, views, **QUIET)
    redraw.click(lambda n: n + 1, draw, draw, **QUIET).then(show, inputs, views, **QUIET)

    def take_backbone(name: str, chosen: str | None) -> list[Any]:
        entry = catalog.get(name)
        frozen = form.preset_blocks(chosen or form.EXTRACT, entry)
        left = form.EXTRACT if chosen in (None, form.AUTO) else chosen
        return [gr.CheckboxGroup(form.block_choices(entry), value=frozen), left, "", *weights.state(name)]

    backbone.input(take_backbone, [backbone, preset], [blocks, preset, panel.said, *panel.shown], **QUIET).then(
        tell, inputs, told, **QUIET
    ).then(show, inputs, views, **QUIET)
    blocks.input(lambda on, name: form.preset_of(on, catalog.get(name)), [blocks, backbone], preset, **QUIET)
    blocks.input(tell, inputs, told, **QUIET)
    suggested = [backbone, blocks, strength, *panel.shown, *slides, *numbers.values()]

    def suggest(state: Any) -> list[Any]:
        """Every widget as the suggested plan has it."""
        found = shelf.dataset(state)
        chosen = plan.suggest(found) if found else Plan(entry.name, entry.block_names)
        choices = form.block_choices(catalog.get(chosen.backbone))
        return [
            gr.Radio(form.backbone_choices(), value=chosen.backbone),
            gr.CheckboxGroup(choices, value=list(chosen.frozen)),
            form.augmentation_name(chosen.augmentation),
            *weights.state(chosen.backbone),
            *form.slider_values(chosen.augmentation),
            *form.number_values(chosen, numbers),
        ]

    def take_preset(chosen: str, state: Any, name: str) -> list[Any]:
        if chosen == form.AUTO:
            return suggest(state)
        keep = [gr.skip()] * (len(suggested) - 2)
        return [gr.skip(), form.preset_blocks(chosen, catalog.get(name)), *keep]

    preset.input(take_preset, [preset, mine, backbone], suggested, **QUIET).then(tell, inputs, told, **QUIET).then(
        show, inputs, views, **QUIET
    )
    for component in [*numbers.values(), *elsewhere.values()]:
        component.change(tell, inputs, told, **QUIET)
    for event in weights.wire(panel, backbone):
        event.then(tell, inputs, told, **QUIET)

    def refresh(state: Any) -> list[Any]:
        return [form.AUTO, 0, *suggest(state)]

    @pieces.guarded
    def start(values: dict[Any, Any]) -> dict[str, Any]:
        found = shelf.dataset(values[mine])
        if found is None:
            raise DataError("There are no photos yet. Load them in the Data tab.")
        run = jobs.start(found, form.read_plan(values, fields))
        return {**values[mine], "run": run.id}

    started = go.click(start, inputs, mine, trigger_mode="once", show_progress="hidden")
    after = [(tell, inputs, told), (show, inputs, views)]
    return Tab(refresh, [preset, photo, *suggested], [started], after=after)
