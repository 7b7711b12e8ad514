"""The main job by keyboard alone."""

import re

from conftest import fill, until
from sites import chosen, learning, own_runs, see_its_score

TABS = ("1 Data", "2 Train", "3 Results", "4 Test")


def focused(page, selector):
    return page.evaluate("selector => !!document.activeElement?.closest(selector)", selector)


def reach(page, selector, most=120, key="Tab"):
    """Press Tab until the focus is there, and can be seen to be there."""
    page.locator(selector).first.wait_for()
    for _ in range(most):
        if focused(page, selector):
            assert page.evaluate("() => document.activeElement.matches(':focus-visible')"), selector
            return
        page.keyboard.press(key)
    raise AssertionError(f"{selector} is not reached by {key}")


def open_tab(page, name, key="Shift+Tab"):
    """Back to the tabs, and on to this one with an arrow or by Tab."""
    reach(page, "#tabs [role=tab]", key=key)
    here = page.evaluate("() => document.activeElement.textContent.trim()")
    step = "Tab" if TABS.index(name) > TABS.index(here) else "Shift+Tab"
    for _ in range(abs(TABS.index(name) - TABS.index(here))):
        page.keyboard.press(step)
    page.keyboard.press("Enter")
    page.locator("#tabs [role=tab][aria-selected=true]", has_text=name).wait_for()


def test_the_main_job_is_done_by_keyboard_alone(site, tmp_path, home):
    folder = fill(tmp_path / "photos", {"reds": 10, "blues": 10})
    reach(site, "#path textarea, #path input")
    site.keyboard.type(str(folder))
    reach(site, "#read-path")
    site.keyboard.press("Enter")
    site.locator(".tl-class").first.wait_for()
    site.locator("#top-data", has_text="instant model:").wait_for()

    open_tab(site, "2 Train")
    site.locator("#train:not([disabled])").wait_for()
    reach(site, "#preset input[value='Feature extraction']")  # each of Gradio's radio buttons is a stop of its own
    site.keyboard.press("Space")
    until(lambda: chosen(site, "preset") == "Feature extraction", 30)
    reach(site, "#blocks input[name=top], #blocks label:nth-of-type(9) input")
    site.keyboard.press("Space")
    until(lambda: learning(site) == ["top"], 30)
    reach(site, "#more > button")
    site.keyboard.press("Enter")
    reach(site, "#set-epochs input")
    site.keyboard.press("ControlOrMeta+a")
    site.keyboard.type("2")
    site.locator("#train:not([disabled])").wait_for()
    reach(site, "#train")
    site.keyboard.press("Enter")
    run = until(lambda: own_runs(home), 60)[-1]
    see_its_score(site, run)
    assert run.plan.epochs == 2
    assert "top" not in run.plan.frozen

    open_tab(site, "3 Results")
    site.locator(".tl-confusion").wait_for()
    reach(site, ".tl-confusion td button")
    site.keyboard.press("Enter")
    site.locator("#cell .tl-card").first.wait_for()
    reach(site, "#cell .tl-card")
    site.keyboard.press("Enter")
    site.locator("#why dialog[open]").wait_for()
    assert focused(site, "#why dialog")
    site.keyboard.press("Escape")
    site.locator("#why dialog[open]").wait_for(state="hidden")
    assert focused(site, "#cell .tl-card")

    open_tab(site, "4 Test")
    site.locator("#try-test-photo:not([disabled])").wait_for()
    reach(site, "#try-test-photo")
    site.keyboard.press("Enter")
    assert re.search(r"run .* answers", site.locator(".tl-answer").inner_text())
