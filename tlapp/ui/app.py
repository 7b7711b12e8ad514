"""The page as a whole: header, four tabs in the order of work, and the strip of the run that lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from tlapp import catalog, jobs
from tlapp.ui import data, live, pieces, results, shelf, test, train
from tlapp.ui.frame import QUIET, Mine, Step, Tab, Top, mine, top

SWITCH_THEME = "() => localStorage.setItem('tlapp-dark', document.body.classList.toggle('dark'))"
KEEP_THEME = """() => {
  const dark = localStorage.getItem('tlapp-dark');
  if (dark !== null && !location.search.includes('__theme')) document.body.classList.toggle('dark', dark === 'true');
}"""


def look() -> dict[str, Any]:
    """Theme and style, for Gradio's launch; fonts are the system's, so nothing is fetched."""
    theme = gr.themes.Default(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    )
    return {"theme": theme, "css": Path(__file__).with_name("style.css").read_text(encoding="utf-8")}


def build_app() -> gr.Blocks:
    """Lay out the page and connect its tabs."""
    with gr.Blocks(title="tlapp", analytics_enabled=False) as page:
        browser = mine()
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>tlapp</h1><p>Teach a pretrained network your own photos, on your own machine.</p>")
            device = gr.HTML('<p class="tl-device">&nbsp;</p>', elem_id="device")
            theme = gr.Button("Light / dark", size="sm", scale=0, min_width=100, elem_id="theme")
        below = live.strip()
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("1 Data", id="data"):
                tops = [top("data")]
                data_tab = data.build(browser)
            with gr.Tab("2 Train", id="train") as train_title:
                tops.append(top("train"))
                train_tab = train.build(browser, data_tab.fields)
                live_tab = live.build(browser, below)
            with gr.Tab("3 Results", id="results") as results_title:
                tops.append(top("results"))
                results_tab = results.build(browser)
            with gr.Tab("4 Test", id="test") as test_title:
                tops.append(top("test"))
                test_tab = test.build(browser)

        tell_tops = Step(_tops, [browser.dataset, browser.run], [part for one in tops for part in one])
        data_and_train = [tell_tops, *data_tab.refresh, *train_tab.refresh]
        _then(page.load(lambda: None, None, None, **QUIET), *live_tab.refresh, *data_and_train)
        _then(browser.dataset.change(lambda: None, None, None, **QUIET), *data_and_train)
        for event in train_tab.changed:
            _then(event, *live_tab.refresh)
        list_results, show_own = results_tab.refresh
        list_models, choose_own = test_tab.refresh
        (ended,) = live_tab.changed
        after_end = [_once_ended(step, browser, ended) for step in (show_own, choose_own)]
        _then(ended.change(lambda: None, None, None, **QUIET), tell_tops, *after_end)
        _then(train_title.select(lambda: None, None, None, **QUIET), *live_tab.refresh)
        _then(results_title.select(lambda: None, None, None, **QUIET), tell_tops, list_results)
        _then(test_title.select(lambda: None, None, None, **QUIET), tell_tops, list_models)
        for button, name in _ways(data_tab, live_tab, tops):
            button.click(lambda name=name: gr.Tabs(selected=name), None, tabs, **QUIET)
        page.load(_device, None, device, **QUIET)
        page.load(None, js=KEEP_THEME)
        theme.click(None, js=SWITCH_THEME)
    for function in page.fns.values():
        function.api_visibility = "private"
    return page


def _then(event: Any, *steps: Step) -> None:
    for step in steps:
        event = step.after(event)


def _once_ended(step: Step, browser: Mine, ended: gr.Textbox) -> Step:
    """The step, left out when a run has just begun."""

    def shown(own: str, end: str) -> Any:
        return step.function(own) if end else gr.skip()

    return Step(shown, [browser.run, ended], step.outputs)


def _ways(data_tab: Tab, live_tab: Tab, tops: list[Top]) -> list[tuple[Any, str]]:
    """Buttons and the tabs they lead to."""
    ways = [(data_tab.next, "train"), (live_tab.next, "test")]
    return [*ways, (tops[1].way, "data"), (tops[2].way, "train"), (tops[3].way, "train")]


@pieces.guarded
def _tops(dataset: str, run: str) -> list[Any]:
    """What each tab says first: what is done, or what is missing and where to find it."""
    found, model = shelf.dataset(dataset), shelf.model(run)
    photos, trained = "", ""
    if found:
        parts = [pieces.count(len(found.photos), "photo"), pieces.count(len(found.classes), "class")]
        photos = ", ".join([*parts, f"{len(found.skipped)} skipped"])
    if model:
        of = f"Run {model.run.id}, on {Path(model.source).name}"
        trained = f"{of}: {pieces.score(model.accuracy, model.n_test)} test photos right"
    return [
        *_top(photos, "", ""),
        *_top(trained, "" if found else "There are no photos yet.", "Go to 1 Data"),
        *_top("", "" if model else "There is no finished run yet.", "Go to 2 Train"),
        *_top(trained, "" if model else "There is no model to test yet.", "Go to 2 Train"),
    ]


def _top(done: str, missing: str, way: str) -> list[Any]:
    words = pieces.notice("info", missing) if missing else f'<p class="tl-done">{pieces.text(done)}</p>' if done else ""
    return [gr.HTML(words), gr.Button(way, visible=bool(missing))]


@pieces.guarded
def _device() -> str:
    choice = catalog.choose()
    backbone = f"{choice.backbone.title}, {'included' if choice.backbone.included else 'weights here'}"
    return f'<p class="tl-device">{pieces.text(backbone)} · {pieces.text(jobs.device_words())}</p>'
