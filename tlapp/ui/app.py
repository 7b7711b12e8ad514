"""The page as a whole: header, four tabs in the order of work, and the strip of the run that lives."""

from __future__ import annotations

import contextlib
import functools
import gc
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from tlapp import catalog, evaluate, history, jobs, plan, runs, workspace
from tlapp.dataset import Dataset
from tlapp.errors import RunError, UserError
from tlapp.runs import Run
from tlapp.tasks import Report, Task
from tlapp.ui import api, audit, data, live, pieces, recall, results, shelf, slider, test, train, why
from tlapp.ui.drop import ANYWHERE, drop_zone
from tlapp.ui.frame import QUIET, Mine, Step, Tab, Top, mine, together, top

SWITCH_THEME = "() => localStorage.setItem('tlapp-dark', document.body.classList.toggle('dark'))"
KEEP_THEME = """() => {
  const dark = localStorage.getItem('tlapp-dark');
  if (dark !== null && !location.search.includes('__theme')) document.body.classList.toggle('dark', dark === 'true');
}"""

KEEP_TAB = """() => {
  const all = () => [...document.querySelectorAll('#tabs [role=tab]')];
  const before = sessionStorage.getItem('tlapp-tab');
  all().find(tab => before && tab.textContent.trim() === before)?.click();
  addEventListener('pagehide', () => {
    const now = all().find(tab => tab.ariaSelected === 'true');
    if (now) sessionStorage.setItem('tlapp-tab', now.textContent.trim());
    else sessionStorage.removeItem('tlapp-tab');
  });
}"""
"""Reloaded, the page stays at its tab."""

SAY_ERRORS = """() => {
  const send = window.fetch, box = document.createElement('div');
  let hides;
  window.tlSay = (said) => {
    if (!said) return;
    box.textContent = new DOMParser().parseFromString(said, 'text/html').body.textContent;
    box.classList.add('tl-on');
    clearTimeout(hides);
    hides = setTimeout(() => box.classList.remove('tl-on'), 15000);
  };
  box.id = 'said';
  box.setAttribute('role', 'alert');
  document.body.append(box);
  box.addEventListener('click', () => box.classList.remove('tl-on'));
  window.fetch = async (...given) => {
    const answer = await send(...given), url = String(given[0].url ?? given[0]);
    if (!answer.ok && /[/](run|queue)[/]/.test(url)) {
      answer.clone().json().then(({error}) => tlSay(error)).catch(() => {});
    }
    return answer;
  };
}"""
"""Gradio shows the sentence of an error only where a handler was queued; see `frame.QUIET`. `tlSay` shows others."""


def look() -> dict[str, Any]:
    """Theme and style, for Gradio's launch; fonts are the system's, so nothing is fetched."""
    theme = gr.themes.Default(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    ).set(  # where the theme's own colours stand out too little to be read
        body_text_color_subdued="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_border_color="*primary_600",
        button_cancel_background_fill="#dc2626",
        button_cancel_background_fill_hover="#b91c1c",
        button_cancel_border_color="#dc2626",
    )
    return {"theme": theme, "css": Path(__file__).with_name("style.css").read_text(encoding="utf-8")}


SHARED = (
    "Everybody who signs in shares one workspace: all see the same runs and photos, and each can stop and delete them."
)


def build_app(takes_paths: bool = True, is_shared: bool = False) -> gr.Blocks:
    """Lay out the page and connect its tabs.

    `takes_paths`: whether who sees the page sits at this machine, and so may name a path of it.
    `is_shared`: whether several people sign in, which the page then says.
    """
    with api.Page(title="tlapp", analytics_enabled=False) as page:
        browser = mine()
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>tlapp</h1><p>Teach a pretrained network your own photos, on your own machine.</p>")
            device = gr.HTML('<p class="tl-device">&nbsp;</p>', elem_id="device")
            theme = gr.Button("Light / dark", size="sm", scale=0, min_width=100, elem_id="theme")
        if is_shared:
            gr.HTML(f'<p class="tl-hint">{SHARED}</p>', elem_id="shared")
        with gr.Column(elem_id="dock"):
            with gr.Row(visible=False, elem_id="try-anywhere") as trying:
                anywhere = drop_zone("anywhere", ANYWHERE)
            below = live.strip()
        dialog = why.build()
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("1 Data", id="data"):
                tops = [top("data")]
                data_tab = data.build(browser, takes_paths)
            with gr.Tab("2 Train", id="train") as train_title:
                tops.append(top("train"))
                train_tab = train.build(browser, data_tab)
                live_tab = live.build(browser, below)
            with gr.Tab("3 Results", id="results") as results_title:
                tops.append(top("results"))
                results_tab = results.build(browser, dialog, takes_paths)
            with gr.Tab("4 Test", id="test") as test_title:
                tops.append(top("test"))
                test_tab = test.build(browser, dialog, anywhere)

        fault = gr.Textbox("", visible=False)
        fault.change(None, fault, fault, js="(said) => (window.tlSay(said), '')")  # so that it may be said again
        at_once = partial(together, fault)
        tell_tops = Step(_tops, [browser.dataset, browser.run], [trying, *(part for one in tops for part in one)])
        recalls = _wire_recall(browser, tabs, data_tab, train_tab, results_tab)
        fills, *follows = train_tab.refresh
        divided, *checked = data_tab.refresh
        shown = (tell_tops, divided, fills)
        bare = gr.Textbox("", visible=False)  # whether the page opened without photos
        at_once(*live_tab.refresh, Step(lambda name: "" if name else "bare", browser.dataset, bare)).on(page.load)
        _then(at_once(*shown).on(bare.change), *checked)
        loaded = browser.dataset.change(
            pieces.guarded(_start_instant), [browser.dataset, browser.run], browser.run, **QUIET
        )
        list_results, show_own, offer_result, list_runs = results_tab.refresh
        list_models, choose_own, offer_model = test_tab.refresh
        undone = [_where_undone(offer) for offer in (offer_result, offer_model)]
        _then(loaded, at_once(*shown, *live_tab.refresh, *undone), *checked, *follows, *recalls, list_runs)
        for event in train_tab.changed:
            _then(event, *live_tab.refresh)
        for event in results_tab.changed:
            _then(event, tell_tops)
        ended, taken = live_tab.changed
        own = at_once(tell_tops, show_own, choose_own)
        _then(taken, own, list_runs)  # which follows what is shown
        pairs = ((show_own, offer_result), (choose_own, offer_model))
        after_end = [_once_ended(show, offer, ended) for show, offer in pairs]
        _then(at_once(tell_tops, *after_end).on(ended.change), list_runs, *train_tab.once_ended)
        for event in test_tab.changed:
            _then(event, own, list_runs)
        at_once(*live_tab.refresh).on(train_title.select)
        _then(at_once(tell_tops, list_results).on(results_title.select), list_runs)
        follow = [test_tab.follow] if test_tab.follow else []
        _then(results_tab.moved, *follow)
        at_once(tell_tops, list_models, *follow).on(test_title.select)
        anywhere.upload(lambda: gr.Tabs(selected="test"), None, tabs, **QUIET)
        for button, name in _ways(data_tab, live_tab, tops):
            button.click(lambda name=name: gr.Tabs(selected=name), None, tabs, **QUIET)
        page.load(_device, None, device, **QUIET).then(_measure, None, None, **QUIET)
        page.load(None, js=KEEP_THEME)
        page.load(None, js=KEEP_TAB)
        page.load(None, js=audit.KEYS)
        page.load(None, js=slider.TYPING)
        page.load(None, js=SAY_ERRORS)
        theme.click(None, js=SWITCH_THEME)
        for number, function in page.fns.items():
            function.api_visibility = "private"
            function.api_name = f"page_{number}"  # that of an endpoint is not taken by a handler of the same name
        api.add(page, takes_paths)
    return page


def _then(event: Any, *steps: Step) -> None:
    for step in steps:
        event = step.after(event)


def _wire_recall(browser: Mine, tabs: gr.Tabs, data_tab: Tab, train_tab: Tab, results_tab: Tab) -> list[Step]:
    """Connect the button that puts a run's settings back; returns what follows where that loads photos first."""
    if train_tab.recall is None or results_tab.asks is None:
        return []
    wanted, take, taken = train_tab.recall
    load, go_on, run = results_tab.asks
    for button, ask in ((load, recall.ask), (go_on, recall.continuing)):
        asked = button.click(pieces.guarded(ask), [run, browser.dataset], [browser.dataset, wanted, tabs], **QUIET)
        take.after(asked.then(None, js="() => window.scrollTo(0, 0)"))
    split, *rest = data_tab.refresh
    _then(split.on(taken.change), *rest)  # the split is shown as it is now
    return [take]


def _where_undone(offer: Step) -> Step:
    """Offer this browser's run where the one that is shown is an instant one of the photos as they stood otherwise."""

    def offered(own: str, shown: str | None, dataset: str, *rest: Any) -> Any:
        run, found, own_run = shelf.run(shown), shelf.dataset(dataset), shelf.run(own)
        if run is None or found is None or own_run is None or not own_run.has_model() or _suits(run, found):
            return gr.skip()
        return offer.function(own, shown, dataset, *rest)

    return Step(pieces.guarded(offered), offer.inputs, offer.outputs)


def _once_ended(show: Step, offer: Step, ended: gr.Textbox) -> Step:
    """Show this browser's run once it has ended; an instant model, which nobody started, is only offered."""

    def shown(end: str, own: str, pick: str | None, dataset: str, by_hand: str | None, *more: Any) -> Any:
        if not end:  # a run has just begun
            return gr.skip()
        run = shelf.run(own)
        if run and run.plan.is_instant:
            return offer.function(own, pick, dataset, by_hand, *more)
        return show.function(own, *more)

    return Step(pieces.guarded(shown), [ended, *offer.inputs], show.outputs)


def _ways(data_tab: Tab, live_tab: Tab, tops: list[Top]) -> list[tuple[Any, str]]:
    """Buttons and the tabs they lead to."""
    ways = [(data_tab.next, "train"), (data_tab.start, "train"), (live_tab.next, "test")]
    return [*ways, (tops[1].way, "data"), (tops[2].way, "train"), (tops[3].way, "train")]


def _start_instant(dataset: str, own: str) -> Any:
    """Make the instant model of photos that have none yet, in the background; this browser then looks at its run."""
    found = shelf.dataset(dataset)
    if found is None:
        return gr.skip()
    _stop_older(found)
    made = shelf.instant(found, plan.instant(found))
    if made is not None:
        looked_at = shelf.run(own)
        return gr.skip() if looked_at is not None and _suits(looked_at, found) else made.id
    try:
        return jobs.start(found, plan.instant(found)).id
    except UserError:  # what hinders it is said where the person trains
        return gr.skip()


def _suits(run: Run, found: Dataset) -> bool:
    """Whether a browser that shows these photos may go on looking at the run: one that somebody started on them,
    whatever was decided since, or an instant one of the photos as they stand.
    """
    if shelf.photos_of(run) != (found.original or found.id):
        return False
    return not run.plan.is_instant or run.dataset_folder == found.folder


def _stop_older(found: Dataset) -> None:
    """Stop instant runs on the same photos as they stood before the last decision: nobody waits for them any more.

    Those that were stopped so before and have no model are moved to the trash.
    """
    for run in runs.all_runs(workspace.home()):
        with contextlib.suppress(RunError):
            if not run.plan.is_instant or run.dataset_folder == found.folder:
                continue
            other = shelf.dataset_of(run)
            if other is None or (other.original or other.id) != (found.original or found.id):
                continue
            if run.is_live():
                jobs.stop(run)
            elif run.state() == "stopped" and not run.has_model():
                history.remove(run)


@pieces.guarded
def _tops(dataset: str, run: str) -> list[Any]:
    """What each tab says first: what is done, or what is missing and where to find it."""
    found, model = shelf.dataset(dataset), shelf.model(run)
    models = shelf.models()
    photos, trained, instant = "", "", _instant(found, models)
    if found:
        parts = [pieces.count(len(found.photos), "photo"), pieces.count(len(found.classes), "class")]
        photos = ", ".join([*parts, f"{len(found.skipped)} skipped"]) + instant
    if model:
        of = f"Run {model.run.id}, on {Path(model.source).name}"
        trained = f"{of}: {evaluate.in_words(model.accuracy, model.n_test, 'test photos')}"
    finished, every = len(models), len(runs.all_runs(workspace.home()))
    others = f" of {every}" if every > finished else ""
    results = f"{finished}{others} runs are finished; all are listed below" if every > 1 else "One run is finished"
    return [
        gr.Row(visible=found is not None),
        *_top(photos, "", ""),
        *_top(trained, "" if found else "There are no photos yet.", "Go to 1 Data"),
        *_top(results if model else "", "" if model else "There is no finished run yet.", "Go to 2 Train"),
        *_top(trained, "" if model else "There is no model to test yet.", "Go to 2 Train"),
    ]


def _instant(found: Dataset | None, models: list[shelf.Model]) -> str:
    """How far the instant model of these photos is."""
    run = shelf.instant(found, plan.instant(found)) if found else None
    made = next((model for model in models if model.run == run), None) if run else None
    if made:
        score = evaluate.in_words(made.accuracy, made.n_test, "test photos")
        return f" · instant model: {score}; drop a new photo to try it"
    if run is None or not run.is_live():
        return ""
    waits = shelf.record(run).place > 0
    return " · the instant model waits for another run" if waits else " · the instant model is being made"


def _top(done: str, missing: str, way: str) -> list[Any]:
    words = pieces.notice("info", missing) if missing else f'<p class="tl-done">{pieces.text(done)}</p>' if done else ""
    return [gr.HTML(words), gr.Button(way, visible=bool(missing))]


@pieces.guarded
def _device() -> str:
    choice = catalog.choose()
    backbone = f"{choice.backbone.title}, {'included' if choice.backbone.included else 'weights here'}"
    return f'<p class="tl-device">{pieces.text(backbone)} · {pieces.text(jobs.device_words())}</p>'


def _measure() -> None:
    """Time the backbone while the person looks for photos; what each choice costs is then said at once.

    What draws figures is imported too, which takes half a second.
    """

    def measure(_: Report) -> None:
        from matplotlib.backends import backend_agg  # noqa: F401

        from tlapp import speed

        speed.measure(catalog.choose().backbone)
        _settle()

    Task(measure)


@functools.cache
def _settle() -> None:
    """Have the garbage collector pass over what the libraries made, which stays: each look took 0.2 to 0.5 s."""
    gc.collect()
    gc.freeze()
