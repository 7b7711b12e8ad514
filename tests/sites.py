"""The served page in one browser window, and what a person does on it."""

import re
import time

import pytest
from conftest import fill, is_local, until

from tlapp import catalog, jobs, runs, tune, ui
from tlapp.events import EpochFinished
from tlapp.settings import SGD_ONLY
from tlapp.tune import Trial, Tuned

LONG = {"epochs": "9000", "patience": "0"}
BLOCKS = catalog.get(catalog.INCLUDED).block_names


@pytest.fixture(scope="module")
def served(tmp_path_factory, browser):
    """One served page; each test has a workspace of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(tmp_path_factory.mktemp("page")))
        page = ui.launch(port=0, browser=False, wait=False)
        yield page
        page.close()


@pytest.fixture(scope="module")
def window(served, browser):
    """One browser profile and what it did that it must not; a page that stays keeps the scripts read for the next."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, service_workers="block")
    context.set_default_timeout(60_000)
    wrong = []
    context.on("request", lambda request: is_local(request.url) or wrong.append(request.url))
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("console", lambda said: "Content Security Policy" in said.text and wrong.append(said.text))
    context.new_page().goto(served.url + "config")
    yield context, wrong
    context.close()


@pytest.fixture
def visit(window, served):
    """A page without a past. By its end no request has left this machine, no script has failed, none was stopped."""
    context, wrong = window
    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 800})
    origin = {"origin": served.url.rstrip("/"), "storageTypes": "local_storage,cookies,indexeddb"}
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", origin)
    yield page
    for one in context.pages[1:]:
        one.close()
    context.clear_permissions()
    said = wrong.copy()
    wrong.clear()
    assert not said


@pytest.fixture
def site(served, visit, home, small_pictures, request):
    """The page, opened, with small pictures; whatever still trains at the end is stopped."""
    visit.goto(served.url + getattr(request, "param", ""))
    visit.locator("#drop .tl-drop[data-state=ready]").wait_for()
    yield visit
    visit.close()
    jobs.close()


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def load_path(page, folder):
    page.locator("#path input, #path textarea").fill(str(folder))
    page.locator("#read-path").click()


def load(page, folder):
    load_path(page, folder)
    page.locator(".tl-class").first.wait_for()
    tab(page, "2 Train")
    page.locator("#train:not([disabled])").wait_for()


def set_numbers(page, **values):
    """Type settings under "More"."""
    page.locator("#more > button").click()
    for name, value in values.items():
        box = page.locator(f"#set-{name} input")
        box.fill(value)
        box.press("Tab")
    if SGD_ONLY & set(values):
        until(lambda: choice(page, "set-solver", "sgd").is_checked(), 30)
    page.locator("#train:not([disabled])").wait_for()


def choice(page, group, value):
    """One of the radio buttons of a group."""
    return page.locator(f"#{group} input[value='{value}']")


def chosen(page, *groups):
    """What stands chosen in each of these groups of radio buttons, if anything; of one group, that alone."""
    look = "groups => groups.map(g => document.querySelector(`#${g} input:checked`)?.value ?? null)"
    values = page.evaluate(look, groups)
    return values if len(groups) > 1 else values[0]


def picked(page, group):
    """What a list to choose from shows."""
    return page.locator(f"#{group} input").input_value()


def learning(page):
    """The blocks without a tick."""
    ticks = page.locator("#blocks input").evaluate_all("boxes => boxes.map(box => box.checked)")
    return [name for name, is_frozen in zip(BLOCKS, ticks, strict=True) if not is_frozen]


@pytest.fixture
def calm(monkeypatch):
    """Epochs take a moment each, so that a long run leaves the processor to the page."""
    append = runs.Run.append

    def slowly(run, event):
        append(run, event)
        if isinstance(event, EpochFinished):
            time.sleep(0.05)

    monkeypatch.setattr(runs.Run, "append", slowly)


def start_long(page, folder):
    """A run of thousands of epochs, so that there is always something to stop."""
    load(page, folder)
    set_numbers(page, **LONG)
    page.locator("#train").click()
    page.locator("#status dd", has_text=re.compile(r"^([2-9]|\d\d+) of 9000")).wait_for()


def own_runs(home):
    """The runs that a person started, not those that make the instant model."""
    return [run for run in runs.all_runs(home) if not run.plan.is_instant]


def the_run(home):
    return until(lambda: own_runs(home), 30)[-1]


def the_instant(home):
    (run,) = [run for run in runs.all_runs(home) if run.plan.is_instant]
    return run


def train_to_the_end(page, home):
    """Press Train and wait until the score of that very run is shown; the run."""
    n = len(own_runs(home))
    page.locator("#train").click()
    run = until(lambda: own_runs(home)[n:], 30)[0]
    see_its_score(page, run)
    return run


def see_its_score(page, run):
    """Wait until the score of that run is shown, not of one that it waits behind."""
    page.locator("#status").filter(has=page.locator(".tl-file", has_text=run.id)).locator(".tl-score").wait_for()


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "photos", {"reds": 8, "blues": 8})


def answer(page):
    """The answer to one of the test photos, in words."""
    page.locator("#try-test-photo:not([disabled])").click()
    page.locator(".tl-answer .tl-label").wait_for()
    return page.locator(".tl-answer").inner_text()


def choose(page, button, file):
    with page.expect_file_chooser() as chooser:
        page.locator(button).click()
    chooser.value.set_files(file)


TRIALS = (
    Trial((), 0.0, 0.9, 60, 0.3, 0.2, 0.0),
    Trial(("top",), 1e-3, 0.95, 60, 0.2, 12.5, 130.0),
    Trial(("stage6", "stage7", "top"), 1e-3, 0.85, 60, 0.4, 100.0, 2000.0, True),
)


@pytest.fixture
def known_trials(monkeypatch):
    """The sweep ends at once, with `TRIALS`, of which the second is the best."""

    def sweep(data, plan, *_):
        yield from TRIALS
        yield Tuned(TRIALS, TRIALS[1], tune.planned(plan, TRIALS[1]))

    monkeypatch.setattr(tune, "sweep", sweep)
