"""The page as a whole: header, four tabs in the order of work, and the strip of the run that lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from tlapp import catalog, jobs
from tlapp.ui import data, live, pieces, results, shelf, test, train
from tlapp.ui.frame import QUIET, Tab, Top, top

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
        mine = gr.BrowserState({"dataset": "", "run": ""}, storage_key="tlapp", secret="tlapp")
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>tlapp</h1><p>Teach a pretrained network your own photos, on your own machine.</p>")
            device = gr.HTML('<p class="tl-device">&nbsp;</p>', elem_id="device")
            theme = gr.Button("Light / dark", size="sm", scale=0, min_width=100, elem_id="theme")
        below = live.strip()
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("1 Data", id="data"):
                tops = [top("data")]
                data_tab = data.build(mine)
            with gr.Tab("2 Train", id="train"):
                tops.append(top("train"))
                train_tab = train.build(mine, data_tab.fields)
                live_tab = live.build(mine, below)
            with gr.Tab("3 Results", id="results"):
                tops.append(top("results"))
                results_tab = results.build(mine)
            with gr.Tab("4 Test", id="test"):
                tops.append(top("test"))
                test_tab = test.build(mine)

        def then(event: Any, *shown: Tab) -> Any:
            event = event.then(_tops, mine, [part for one in tops for part in one], **QUIET)
            for tab in shown:
                event = event.then(tab.refresh, mine, tab.outputs, **QUIET)
                for function, inputs, outputs in tab.after:
                    event = event.then(function, inputs, outputs, **QUIET)
            return event

        then(page.load(lambda state: state, mine, mine, **QUIET), data_tab, live_tab, results_tab, test_tab, train_tab)
        page.load(_device, None, device, **QUIET)
        page.load(None, js=KEEP_THEME)
        theme.click(None, js=SWITCH_THEME)
        for event in data_tab.changed:
            then(event, data_tab, train_tab)
        for event in train_tab.changed:
            then(event, live_tab)
        resumed, ended = live_tab.changed
        then(resumed, live_tab)
        then(ended(lambda: None, None, None, **QUIET), results_tab, test_tab)
        for button, name in _ways(data_tab, live_tab, tops):
            button.click(lambda name=name: gr.Tabs(selected=name), None, tabs, **QUIET)
    return page


def _ways(data_tab: Tab, live_tab: Tab, tops: list[Top]) -> list[tuple[Any, str]]:
    """Buttons and the tabs they lead to."""
    ways = [(data_tab.next, "train"), (live_tab.next, "test")]
    return [*ways, (tops[1].way, "data"), (tops[2].way, "train"), (tops[3].way, "train")]


def _tops(state: Any) -> list[Any]:
    """What each tab says first: what is done, or what is missing and where to find it."""
    found, models = shelf.dataset(state), shelf.models()
    own = next((run for run in models if run.id == state.get("run")), models[0] if models else None)
    photos = ""
    if found:
        parts = [pieces.count(len(found.photos), "photo"), pieces.count(len(found.classes), "class")]
        photos = ", ".join([*parts, f"{len(found.skipped)} skipped"])
    trained = ""
    if own:
        report = own.report()
        trained = f"Run {own.id}: {pieces.score(report['accuracy'], report['n_test'])} on test photos"
    return [
        *_top(photos, "", ""),
        *_top(trained, "" if found else "There are no photos yet.", "Go to 1 Data"),
        *_top(trained, "" if own else "There is no finished run yet.", "Go to 2 Train"),
        *_top(trained, "" if own else "There is no model to test yet.", "Go to 2 Train"),
    ]


def _top(done: str, missing: str, way: str) -> list[Any]:
    words = pieces.notice("info", missing) if missing else f'<p class="tl-done">{pieces.text(done)}</p>' if done else ""
    return [gr.HTML(words), gr.Button(way, visible=bool(missing))]


def _device() -> str:
    choice = catalog.choose()
    backbone = f"{choice.backbone.title}, {'included' if choice.backbone.included else 'weights here'}"
    return f'<p class="tl-device">{pieces.text(backbone)} · {pieces.text(jobs.device_words())}</p>'
