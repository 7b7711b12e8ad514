"""What the tabs share: several steps as one request."""

import gradio as gr
import pytest

from tlapp.errors import RunError
from tlapp.ui import app, pieces
from tlapp.ui.frame import Step, together


@pytest.fixture
def parts():
    """Four components of a page: what is said of a fault, and three more."""
    with gr.Blocks():
        return [gr.Textbox() for _ in range(4)]


def test_steps_together_each_see_the_page_as_it_was_and_fill_what_they_fill_alone(parts):
    fault, a, b, c = parts
    steps = [
        Step(lambda text: text + "!", a, b),
        Step(lambda first, second: [first + second, gr.skip()], [a, b], [a, c]),
        Step(lambda values: {c: values[b] * 2}, {b}, [b, c]),
        Step(lambda: gr.skip(), None, [a, b, c]),
    ]
    both = together(fault, *steps)
    assert both.inputs == {a, b}
    assert set(both.outputs) == {a, b, c, fault}
    assert both.function({a: "x", b: "y"}) == {fault: "", b: "x!", a: "xy", c: "yy"}


def test_what_a_later_step_passes_over_keeps_what_an_earlier_one_filled(parts):
    fault, a, b, _ = parts
    steps = [
        Step(lambda: "x", None, a),
        Step(lambda: [gr.skip(), "y"], None, [a, b]),
        Step(lambda: {a: gr.skip()}, None, [a]),
    ]
    assert together(fault, *steps).function({}) == {fault: "", a: "x", b: "y"}


def test_no_step_of_the_page_reads_what_another_in_its_request_fills(monkeypatch):
    groups = []

    def noted(fault, *steps):
        groups.append(steps)
        return together(fault, *steps)

    monkeypatch.setattr(app, "together", noted)
    app.build_app()
    stale = set()
    for steps in groups:
        filled = set()
        for step in steps:
            read = step.inputs if isinstance(step.inputs, set | list) else [step.inputs]
            stale |= {part.elem_id for part in read if part in filled}
            filled |= set(step.outputs if isinstance(step.outputs, list) else [step.outputs])
    assert len(groups) > 5
    assert not stale


def test_of_steps_together_one_that_fails_is_said_and_the_others_are_done(parts):
    fault, a, b, _ = parts

    @pieces.guarded
    def fail(text):
        raise RunError(f"Run {text} is damaged.")

    both = together(fault, Step(fail, a, a), Step(lambda text: text, a, b))
    assert both.function({a: "<7>"}) == {fault: "Run &lt;7&gt; is damaged.", b: "<7>"}
