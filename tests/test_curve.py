"""The live curve says what the events say, in every state of a run, at one height and few bytes."""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tlapp.events import EpochFinished
from tlapp.ui.curve import curve
from tlapp.ui.overlay import overlay


def told(n, total=30, head=None, best=None):
    """The first `n` epochs of `total`: falling losses, rising accuracies."""
    return [
        EpochFinished(
            epoch=e,
            epochs=total,
            phase="head" if head is None or e <= head else "fine-tune",
            train_loss=math.exp(-3 * e / total),
            train_accuracy=1 - math.exp(-3 * e / total) / 2,
            validation_loss=0.1 + math.exp(-2 * e / total),
            validation_accuracy=0.96 - math.exp(-2 * e / total) / 2,
            is_best=best in (None, e),
            best_epoch=min(e, best or e),
            seconds=1.0,
            photos_per_second=100.0,
            seconds_left=float(total - e),
            n_train=195,
            n_validation=48,
        )
        for e in range(1, n + 1)
    ]


def plots(html):
    """The drawings of loss and accuracy, parsed: whatever is not well-formed fails here."""
    found = [svg for svg in ET.fromstring(f"<div>{html}</div>").iter("svg") if svg.get("role") == "img"]
    assert len(found) in (0, 2)
    return found


def points(svg):
    """The training and the validation line as lists of (x, y) in percent."""
    lines = [line.get("points").split() for line in svg.iter("polyline")]
    return [[tuple(map(float, point.split(","))) for point in line] for line in lines]


def texts(svg):
    return [text.text for text in svg.iter("text")]


def test_before_the_first_epoch_it_says_what_will_come():
    html = curve([], 30)
    assert "The curves appear here while it trains." in "".join(ET.fromstring(html).itertext())
    assert not plots(html)


@pytest.mark.parametrize(("n", "total"), [(1, 30), (1, 1), (2, 2), (3, 3), (7, 30), (30, 30), (1000, 1000), (5, 2)])
def test_every_state_is_well_formed_and_every_number_finite(n, total):
    html = curve(told(n, total), total)
    assert not re.search(r"\b(nan|inf|None)\b|\de[+-]\d", html)
    for svg in plots(html):
        for line in points(svg):
            assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in line)


def test_the_epoch_that_is_delivered_is_marked_where_it_is_not_the_best_of_the_last_phase():
    for svg in plots(curve(told(12, best=9), 12, 1)):
        assert "best: epoch 1" in texts(svg)
        assert "best: epoch 9" not in texts(svg)


@pytest.mark.parametrize("n", [0, 1, 12, 30])
def test_the_height_never_changes(n):
    html = curve(told(n), 30)
    assert html.count('class="tl-plot"') == 2
    assert re.findall(r"\.tl-plot \{[^}]*?height: (\d+)px", html) == ["272"]


def test_one_epoch_is_seen_as_a_dot_for_each_line():
    for svg in plots(curve(told(1), 30)):
        assert len(list(svg.iter("circle"))) == 2


def test_epochs_stay_where_they_were_drawn():
    early, late = plots(curve(told(5), 30))[0], plots(curve(told(20), 30))[0]
    assert [x for x, _ in points(early)[0]] == [x for x, _ in points(late)[0][:5]]
    assert points(plots(curve(told(30), 30))[0])[0][-1][0] == 100
    for svg in (early, late):
        assert {"epoch 1", "epoch 15", "epoch 30"} <= set(texts(svg))


def test_a_lower_loss_and_a_higher_accuracy_are_drawn_where_one_expects_them():
    loss, accuracy = plots(curve(told(30), 30))
    assert points(loss)[0][0][1] < points(loss)[0][-1][1]
    assert points(accuracy)[0][0][1] > points(accuracy)[0][-1][1]


def test_the_latest_values_are_named_with_their_lines():
    html = curve(told(12), 30)
    last = told(12)[-1]
    legends = ["".join(span.itertext()) for span in ET.fromstring(html).iter("span")]
    assert legends == [
        f"training {last.train_loss:.3f}",
        f"validation {last.validation_loss:.3f}",
        f"training {last.train_accuracy * 100:.0f} %",
        f"validation {last.validation_accuracy * 100:.0f} %",
    ]


def test_a_screen_reader_hears_the_latest_values():
    old = [replace(e, n_train=0, n_validation=0) for e in told(12, best=9)]
    loss, accuracy = (svg.get("aria-label") for svg in plots(curve(old, 30)))
    assert re.fullmatch(r"Loss after epoch 12: training 0\.\d{3}, validation 0\.\d{3}; best: epoch 9", loss)
    assert re.fullmatch(r"Accuracy after epoch 12: training \d\d\s%, validation \d\d\s%; best: epoch 9", accuracy)


def test_the_best_epoch_is_marked_where_it_is():
    for svg in plots(curve(told(30, best=9), 30)):
        assert "best: epoch 9" in texts(svg)
        x = points(svg)[1][8][0]
        assert [line.get("x1") for line in svg.iter("line") if line.get("class") == "mark"] == [f"{x}%"]
        assert f"{x}%" in [circle.get("cx") for circle in svg.iter("circle")]


def test_accuracies_say_of_how_many_photos_they_are_and_what_chance_allows():
    epochs = [replace(e, validation_accuracy=45 / 48, train_accuracy=180 / 195) for e in told(12)]
    html = curve(epochs, 30)
    assert "<small>Validation accuracy after epoch 12: 94 % of 48 (83–98 %)</small>" in html
    accuracy = plots(html)[1]
    whole = "training 92 % of 195 (88–95 %), validation 94 % of 48 (83–98 %)"
    assert accuracy.get("aria-label") == f"Accuracy after epoch 12: {whole}; best: epoch 12"
    assert f"Epoch 7: {whole}" in [rect.find("title").text for rect in accuracy.iter("rect")]


def test_where_the_head_learned_first_the_best_is_that_of_fine_tuning():
    for svg in plots(curve(told(12, head=5, best=9), 30)):
        assert "best of fine-tuning: epoch 9" in texts(svg)
    for svg in plots(curve(told(12, head=5, best=9), 30, 1)):
        assert "best: epoch 1" in texts(svg)


def test_the_start_of_fine_tuning_is_marked():
    for svg in plots(curve(told(12, head=5), 30)):
        assert "fine-tune from epoch 6" in texts(svg)
    assert "fine-tune" not in curve(told(5, head=5), 30)


def test_hovering_an_epoch_tells_its_values():
    epochs = told(12)
    for svg in plots(curve(epochs, 30)):
        rects = list(svg.iter("rect"))
        assert len(rects) == 12
        assert rects[6].find("title").text.startswith("Epoch 7: training ")
    assert f"Epoch 7: training {epochs[6].train_loss:.3f}, " in curve(epochs, 30)


def test_the_lines_differ_by_dash_as_well_as_by_colour():
    html = curve(told(12), 30)
    colours = [line.get("stroke") for line in plots(html)[0].iter("polyline")]
    assert len(set(colours)) == 2
    assert ".tl-plot svg ~ svg {stroke-dasharray" in html


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_line_is_not_magnified(value):
    flat = [replace(e, train_accuracy=value, validation_accuracy=value, validation_loss=0.0) for e in told(6)]
    accuracy = plots(curve(flat, 30))[1]
    ticks = [int(text.split("\u00a0")[0]) for text in texts(accuracy) if text.endswith("%")]
    assert max(ticks) - min(ticks) >= 10
    assert min(ticks) >= 0
    assert max(ticks) <= 100


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e4, 1e9])
def test_any_loss_finds_an_axis_of_a_few_round_numbers(scale):
    epochs = [replace(e, train_loss=e.train_loss * scale, validation_loss=scale) for e in told(20)]
    loss = plots(curve(epochs, 30))[0]
    ticks = [float(text) for text in texts(loss) if re.fullmatch(r"[\d.]+", text)]
    assert 3 <= len(set(ticks)) == len(ticks) <= 6
    assert min(ticks) <= min(e.train_loss for e in epochs)
    assert max(ticks) >= scale


def test_a_long_run_stays_small_and_keeps_its_best_and_latest_epoch():
    html = curve(told(1000, 1000, best=333), 1000)
    assert len(html) < 60_000
    for svg in plots(html):
        assert len(points(svg)[0]) <= 202
        said = [rect.find("title").text for rect in svg.iter("rect")]
        assert [epoch for epoch in (1, 333, 1000) if any(t.startswith(f"Epoch {epoch}:") for t in said)] == [
            1,
            333,
            1000,
        ]


def test_an_epoch_told_twice_by_a_resumed_run_counts_once():
    epochs = told(8)
    assert curve([*epochs[:5], epochs[4], *epochs[5:]], 30) == curve(epochs, 30)


def test_text_is_escaped_and_nothing_is_fetched_or_run():
    epochs = [*told(2), *(replace(e, phase="<script>&'\"") for e in told(5)[2:])]
    html = curve(epochs, 30)
    assert any(text.startswith("<script>&'\" from epoch 3") for text in texts(plots(html)[0]))
    assert "<script" not in html
    assert not re.search(r"https?:|url\(|@import|\bon\w+=|href", html)


def test_two_runs_of_different_lengths_share_one_scale_and_names_are_literal():
    loss, accuracy = plots(overlay(told(10, 10), told(30), ("<b>short", "long")))
    for svg in (loss, accuracy):
        short, long = points(svg)
        assert (len(short), len(long)) == (10, 30)
        assert (short[0][0], long[0][0], long[-1][0]) == (0, 0, 100)
        assert short[-1][0] == pytest.approx(100 * 9 / 29, abs=0.01)
        assert all(0 <= y <= 100 for line in (short, long) for _, y in line)
    assert "<b>short" in loss.get("aria-label")


def test_the_ends_of_two_runs_say_of_how_many_photos_they_are():
    ends = [replace(e, validation_accuracy=45 / 48) for e in told(3)], [replace(e, n_validation=500) for e in told(4)]
    html = overlay(*ends, ("<b>one", "other"))
    words = "&lt;b&gt;one: epoch 3, 94 % of 48 (83–98 %); other: epoch 4, 58 % of 500 (53–62 %)"
    assert f'<p class="tl-hint">Validation accuracy of what is kept: {words}</p>' in html


def test_of_a_run_whose_fine_tuning_was_dropped_the_accuracy_before_it_is_told():
    epochs = told(12, head=5, best=9)
    words = f"epoch 5, {epochs[4].validation()}, before fine-tuning, which is dropped"
    assert f"of what is kept: a: {words}; b: epoch 3," in overlay(epochs, told(3), ("a", "b"), (5, 3), (True, False))
    html = curve(epochs, 12, 5, dropped=True)
    said = f"Validation accuracy after epoch 5, which is kept: {epochs[4].validation()}. Fine-tuning, which came after"
    assert f"<small>{said} it, is dropped.</small>" in html
    assert "fine-tune from epoch 6, dropped" in html
    assert "best: epoch 5" in html
    assert f"validation {epochs[4].validation_loss:.3f}</span>" in html
    alive = curve(epochs, 12, dropped=True)
    assert "Validation accuracy after epoch 12: " in alive, "nothing is delivered yet"


def test_a_run_of_thousands_of_epochs_is_thinned_and_one_without_epochs_has_no_curve():
    assert len(overlay(told(9000, 9000), told(1), ("a", "b"))) < 20_000
    for line in points(plots(overlay(told(9000, 9000), told(1), ("a", "b")))[0]):
        assert len(line) in (1, 200, 201)
    assert overlay([], told(3), ("a", "b")) == overlay(told(3), [], ("a", "b")) == ""


def test_two_heads_fitted_in_one_step_have_no_curves_to_lay_over():
    assert overlay(told(1), told(1), ("a", "b")) == ""
