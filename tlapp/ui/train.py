"""Tab 2, upper part: augmentation with its preview, which blocks learn, settings, and the button that trains.

Reads widgets into a plan and hands it to `jobs`. What a run shows while it lives is `live`'s.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from tlapp import catalog, plan, settings
from tlapp.dataset import Dataset
from tlapp.errors import DataError, PlanError
from tlapp.plan import AUGMENTATIONS, Plan
from tlapp.ui import audit, form, once, pieces, preview, recall, shelf, tries, views, weights
from tlapp.ui.frame import QUIET, SILENT, Mine, Recall, Step, Tab

FIRST = catalog.get(catalog.INCLUDED)


class Parts(NamedTuple):
    """The tab's components."""

    strength: gr.Radio
    sliders: dict[str, gr.Slider]
    recalled: gr.HTML
    views: gr.HTML
    marks: gr.HTML
    back: gr.Button
    another: gr.Button
    redraw: gr.Button
    backbone: gr.Radio
    weights: weights.Panel
    preset: gr.Radio
    tries: tries.Panel
    blocks: gr.CheckboxGroup
    words: gr.HTML
    numbers: dict[str, Any]
    go: gr.Button
    why_not: gr.HTML
    costs: gr.HTML
    photo: gr.State
    draw: gr.State

    @property
    def told(self) -> list[Any]:
        """What says how the plan stands."""
        return [self.words, self.go, self.why_not, self.costs]

    @property
    def suggested(self) -> list[Any]:
        """What a suggested plan fills, in the order of `_suggest`."""
        slides, numbers = self.sliders.values(), self.numbers.values()
        return [self.backbone, self.blocks, self.strength, *self.weights.shown, *slides, *numbers]


def build(mine: Mine, data: Tab) -> Tab:
    """Lay the tab out; the data tab holds settings too, and offers one of this tab's."""
    p = _lay_out()
    fields = {**data.fields, **p.sliders, **p.numbers}
    fields |= {"backbone": p.backbone, "frozen": p.blocks, "weights": p.weights.name}
    inputs = {mine.dataset, p.photo, p.draw, *fields.values()}
    suited = gr.State(None)  # the photos that the settings suit

    def shown(values: dict[Any, Any]) -> tuple[Dataset | None, views.Shown, str]:
        """The photos, what the preview shows of them, and which of those that are offered this is, in words."""
        found, index, place = shelf.dataset(values[mine.dataset]), 0, ""
        if found:
            try:
                chosen = form.read_plan(values, fields)
            except PlanError:  # which is said beside the Train button
                chosen = plan.suggest(found)
            some = views.offered(found, chosen)
            n = values[p.photo] % len(some)
            index, place = some[n], f"photo {n + 1:,} of {len(some):,}"
        augmentation, entry = form.read_augmentation(values, p.sliders), catalog.get(values[p.backbone])
        look = views.Shown(
            values[mine.dataset], index, values[p.draw], augmentation, entry, values[p.numbers["framing"]]
        )
        return found, look, place

    @pieces.guarded
    def show(values: dict[Any, Any]) -> str:
        return views.grid(*shown(values))

    @pieces.guarded
    def mark(values: dict[Any, Any]) -> str:
        found, look, _ = shown(values)
        return views.marks(found, look)

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
        return [show(values), form.augmentation_name(chosen), _preset(p, values), *tell(values)]

    @pieces.guarded
    def start(values: dict[Any, Any], request: gr.Request) -> str:
        found = shelf.dataset(values[mine.dataset])
        if found is None:
            raise DataError("There are no photos yet. Load them in the Data tab.")
        return once.start(str(request.session_hash), found, form.read_plan(values, fields)).id

    @pieces.guarded
    def start_at_once(values: dict[Any, Any], request: gr.Request) -> str:
        """As `start`; with the suggested settings while those of photos just loaded are not in the widgets yet."""
        found, before = shelf.dataset(values[mine.dataset]), shelf.dataset(values[suited])
        is_set = found and before and (found.original or found.id) == (before.original or before.id)
        if is_set or found is None:
            return start(values, request)
        return once.start(str(request.session_hash), found, plan.suggest(found)).id

    shows, tells = Step(show, inputs, p.views), Step(tell, inputs, p.told)
    marks = Step(mark, inputs, p.marks)
    p.views.change(mark, inputs, p.marks, **QUIET)
    for slider in p.sliders.values():
        slider.input(follow_slider, inputs, [p.views, p.strength, p.preset, *p.told], **QUIET)
    strengths = list(p.sliders.values())

    def take_strength(values: dict[Any, Any]) -> dict[Any, Any]:
        if values[p.strength] == form.CUSTOM:
            return {p.preset: gr.skip()}
        changed = dict(zip(strengths, form.slider_values(AUGMENTATIONS[values[p.strength]]), strict=True))
        return {**changed, p.preset: _preset(p, values | changed), **show_and_tell(values | changed)}

    @pieces.guarded
    def show_and_tell(values: dict[Any, Any]) -> dict[Any, Any]:
        return {p.views: show(values), **dict(zip(p.told, tell(values), strict=True))}

    both = Step(show_and_tell, inputs, [p.views, *p.told])
    p.strength.input(take_strength, inputs | {p.strength}, [*strengths, p.preset, *both.outputs], **QUIET)
    for button, number, by in ((p.back, p.photo, -1), (p.another, p.photo, 1), (p.redraw, p.draw, 1)):
        # counted first, as a click while a picture is drawn would count for nothing
        shows.after(button.click(lambda n, by=by: n + by, number, number, **QUIET))
    for event in _wire_blocks(p, mine):
        both.after(event)
    for name, component in p.numbers.items():
        outputs = [p.numbers["solver"], p.blocks, p.preset]
        event = component.input(partial(_follow_setting, p, name), inputs, outputs, **QUIET)
        (both if name == "framing" else tells).after(event)
    for component in data.fields.values():
        component.input(tell, inputs, p.told, **QUIET)
    if data.show_whole:
        both.after(_wire_framing(p.numbers["framing"], data.show_whole))
    for event in weights.wire(p.weights, p.backbone):
        tells.after(event)
    fills = {"blocks": p.blocks, **{name: p.numbers[name] for name in ("solver", "fine_tune_rate")}}

    def read(values: dict[Any, Any]) -> tuple[Dataset | None, Plan]:
        return shelf.dataset(values[mine.dataset]), form.read_plan(values, fields)

    names_preset = Step(lambda values: _preset(p, values), inputs, p.preset)
    tells.after(names_preset.after(tries.wire(p.tries, inputs, read, fills)))
    started = [p.go.click(start, inputs, mine.run, queue=False, **SILENT)]
    if data.start:
        started.append(data.start.click(start_at_once, inputs | {suited}, mine.run, queue=False, **SILENT))

    until_told = gr.Timer(0.5, active=False)
    filled = [p.preset, p.photo, *p.suggested, p.recalled, p.tries.said, *p.told, suited, until_told]
    weights_classes = p.numbers["class_weighting"]

    def refresh(dataset: str, known: str | None, weighting: str) -> list[Any] | dict[Any, Any]:
        if dataset == known:  # the page's opening may be slower than photos: what is set by now stays
            return [gr.skip()] * len(filled)
        now, before = shelf.dataset(dataset), shelf.dataset(known)
        wait = pieces.notice("info", "Working out how long it takes.")  # the first time takes a moment
        if now and before and (now.original or now.id) == (before.original or before.id):  # a decision about photos
            changed = {p.go: gr.Button("Train", interactive=False), p.why_not: wait, suited: dataset}
            changed[until_told] = gr.Timer(active=True)
            if weighting == plan.suggest(before).class_weighting:  # as it was suggested, and never touched
                changed[weights_classes] = plan.suggest(now).class_weighting
            return changed
        return [
            form.AUTO,
            0,
            *_suggest(p, dataset),
            "",
            "",
            "",
            gr.Button("Train", interactive=False),
            wait,
            gr.skip(),
            dataset,
            gr.Timer(active=True),
        ]

    refreshes = Step(pieces.guarded(refresh), [mine.dataset, suited, weights_classes], filled)

    def tell_last(values: dict[Any, Any]) -> tuple[Any, ...]:
        """Nothing yet, and so no Train button, while newer photos are on their way or nothing can be timed."""
        is_old = values[suited] != values[mine.dataset]
        if is_old or not shelf.may_be_timed(values[p.backbone], values[p.numbers["device"]]):
            return (gr.skip(),) * (len(p.told) + 1)
        return (*tell(values), gr.Timer(active=False))

    until_told.tick(tell_last, inputs | {suited}, [*p.told, until_told], **QUIET)
    recalls = _wire_recall(p, mine, fields, suited)
    Step(lambda: gr.Timer(active=True), None, until_told).after(shows.on(recalls.taken.change))
    return Tab([refreshes, shows], started, recall=recalls, once_ended=[marks])


def _wire_recall(p: Parts, mine: Mine, fields: dict[str, Any], suited: gr.State) -> Recall:
    """A run's settings, put back into all widgets once these suit the photos that are loaded."""
    wanted, taken = gr.State(""), gr.Number(0, visible=False)

    @pieces.guarded
    def take(values: dict[Any, Any]) -> dict[Any, Any]:
        dataset = values[mine.dataset]
        plan_of_run, words = recall.wanted_plan(values[wanted])
        if plan_of_run is None or values[suited] != dataset:
            return {wanted: gr.skip()}
        filled = recall.fill(plan_of_run, fields, p.strength, p.preset, p.weights, shelf.dataset(dataset))
        return {
            **filled,
            p.recalled: pieces.notice("info", words),
            p.tries.said: "",
            wanted: "",
            taken: values[taken] + 1,
        }

    told = [p.recalled, p.tries.said, p.weights.said]
    outputs = {*fields.values(), p.strength, p.preset, *p.weights.shown, *told, wanted, taken}
    return Recall(wanted, Step(take, {mine.dataset, suited, wanted, taken}, list(outputs)), taken)


def _wire_framing(framing: gr.Radio, button: gr.Button) -> Any:
    """The button of the data tab sets how photos fill the square, and says what it would do next."""

    def says(now: str) -> str:
        return audit.UNDO if now == "letterbox" else audit.SHOW_WHOLE

    framing.change(says, framing, button, **QUIET)
    return button.click(lambda now: "crop" if now == "letterbox" else "letterbox", framing, framing, **QUIET)


def _preset(p: Parts, values: dict[Any, Any]) -> str | None:
    """The preset that the widgets amount to."""
    entry, solver = catalog.get(values[p.backbone]), values[p.numbers["solver"]]
    strength = form.augmentation_name(form.read_augmentation(values, p.sliders))
    return form.preset_of(values[p.blocks], solver, strength, entry)


def _follow_setting(p: Parts, name: str, values: dict[Any, Any]) -> dict[Any, Any]:
    """Solver, ticks and preset, kept in step with the setting that was changed."""
    solver, changed = p.numbers["solver"], dict[Any, Any]()
    if name == "solver" and values[solver] != "sgd":
        changed[p.blocks] = list(catalog.get(values[p.backbone]).block_names)
    elif name in settings.SGD_ONLY and values[solver] != "sgd":
        changed[solver] = "sgd"
    elif name != "solver":
        return {p.preset: gr.skip()}
    return {**changed, p.preset: _preset(p, values | changed)}


def _lay_out() -> Parts:
    recalled = gr.HTML(elem_id="recalled")
    with gr.Row(elem_id="augment"):
        with gr.Column(scale=5, min_width=300):
            gr.HTML("<h2>Augment</h2><p>A little different each time, so that the network cannot learn by heart.</p>")
            strength = gr.Radio([*AUGMENTATIONS, form.CUSTOM], value="light", label="Strength", elem_id="aug-strength")
            with gr.Column(elem_id="sliders"):
                sliders = form.augmentation_sliders()
        with gr.Column(scale=6, min_width=300):
            with gr.Column(elem_id="preview"):
                grid = gr.HTML(views.grid(None, views.Shown("", 0, 0, AUGMENTATIONS["light"], FIRST)))
                marks = gr.HTML(elem_id="marks")
            with gr.Row(elem_id="preview-buttons"):
                back = gr.Button("◀ Back", size="sm", min_width=80, elem_id="photo-back")
                another = gr.Button("Another photo ▶", size="sm", min_width=120, elem_id="photo-next")
                redraw = gr.Button("Draw anew", size="sm", min_width=100, elem_id="redraw")
            numbers: dict[str, Any] = {"framing": form.field_of(form.FRAMING)}
    gr.HTML(
        "<h2>Which parts learn</h2><p>The backbone, a network that has seen a million photos, looks at yours block by "
        "block; its head, which says the class, always learns.</p>"
    )
    backbone = gr.Radio(form.backbone_choices(), value=FIRST.name, label="Backbone", elem_id="backbone")
    panel = weights.build()
    preset = gr.Radio(list(form.PRESETS), value=form.AUTO, label="Start from", elem_id="preset")
    panel_of_tries = tries.build()
    blocks = gr.CheckboxGroup(
        form.block_choices(FIRST), value=list(FIRST.block_names), elem_id="blocks",
        label="Frozen blocks, from the pixels to the classes: ticked stays as it is, unticked learns",
    )  # fmt: skip
    words, costs = gr.HTML(elem_id="what-learns"), gr.HTML(elem_id="costs")
    with gr.Accordion("More", open=False, elem_id="more"):
        for group in form.GROUPS:
            gr.HTML(f"<h3>{group}</h3>")
            with gr.Row(elem_classes="tl-settings"):
                numbers |= form.fields_of(group)
    go = gr.Button("Train", variant="primary", interactive=False, elem_id="train")
    why_not = gr.HTML(elem_id="why-not")
    photo, draw = gr.State(0), gr.State(0)
    return Parts(
        strength, sliders, recalled, grid, marks, back, another, redraw, backbone, panel, preset, panel_of_tries,
        blocks, words, numbers, go, why_not, costs, photo, draw,
    )  # fmt: skip


def _wire_blocks(p: Parts, mine: Mine) -> list[Any]:
    """Backbone, preset and ticks follow each other."""

    def take_backbone(name: str, chosen: str | None) -> list[Any]:
        entry = catalog.get(name)
        kept = chosen if chosen in form.PRESETS[1:] else form.AUTO
        frozen = list(entry.block_names) if kept == form.AUTO else form.take_preset(kept, entry)[0]
        solver = form.AUTO_SOLVER if kept == form.AUTO else form.solver_for(frozen, entry)
        ticks = gr.CheckboxGroup(form.block_choices(entry), value=frozen)
        return [ticks, kept, solver, "", "", *weights.state(name)]

    def take_preset(chosen: str, dataset: str, name: str, strength: str) -> dict[Any, Any]:
        if chosen == form.AUTO:
            return _recipe(p, dataset, name)
        frozen, solver, wanted = form.take_preset(chosen, catalog.get(name))
        wanted = strength if "off" not in (strength, wanted) else wanted
        changed: dict[Any, Any] = {p.blocks: frozen, p.numbers["solver"]: solver, p.strength: wanted}
        if wanted != form.CUSTOM:
            changed |= zip(p.sliders.values(), form.slider_values(AUGMENTATIONS[wanted]), strict=True)
        return changed

    def take_ticks(frozen: list[str], name: str, strength: str) -> list[Any]:
        entry = catalog.get(name)
        solver = form.solver_for(frozen, entry)
        return [solver, form.preset_of(frozen, solver, strength, entry)]

    solver = p.numbers["solver"]
    filled = [p.blocks, p.preset, solver, p.tries.said, p.weights.said, *p.weights.shown]
    given = [p.preset, mine.dataset, p.backbone, p.strength]
    return [
        p.backbone.input(pieces.guarded(take_backbone), [p.backbone, p.preset], filled, **QUIET),
        p.preset.input(pieces.guarded(take_preset), given, p.suggested, **QUIET),
        p.blocks.input(take_ticks, [p.blocks, p.backbone, p.strength], [solver, p.preset], **QUIET),
    ]


def _recipe(p: Parts, dataset: str, backbone: str) -> dict[Any, Any]:
    """What the recipe decides, as it suits the dataset; all else stays as the person set it."""
    found = shelf.dataset(dataset)
    entry = catalog.get(backbone)
    chosen = plan.suggest(found, backbone) if found else Plan(backbone, entry.block_names, solver="auto")
    names = ("solver", "head", "depth", "mirror", "l2", "views", "class_weighting")
    return {
        p.blocks: list(chosen.frozen),
        p.strength: form.augmentation_name(chosen.augmentation),
        **dict(zip(p.sliders.values(), form.slider_values(chosen.augmentation), strict=True)),
        **{p.numbers[name]: getattr(chosen, name) for name in names},
    }


def _suggest(p: Parts, dataset: str, backbone: str = "auto") -> list[Any]:
    """Every widget as the plan has it that suits the dataset."""
    found = shelf.dataset(dataset)
    chosen = plan.suggest(found, backbone) if found else Plan(FIRST.name, FIRST.block_names, solver="auto")
    choices = form.block_choices(catalog.get(chosen.backbone))
    return [
        gr.Radio(form.backbone_choices(), value=chosen.backbone),
        gr.CheckboxGroup(choices, value=list(chosen.frozen)),
        form.augmentation_name(chosen.augmentation),
        *weights.state(chosen.backbone),
        *form.slider_values(chosen.augmentation),
        *form.number_values(chosen, p.numbers),
    ]
