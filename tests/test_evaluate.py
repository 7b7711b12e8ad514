"""Scores against numbers worked out by hand."""

import numpy as np
import pytest

from tlapp import evaluate

# Six photos of three classes; called a, a, b | b, c | c.
LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.5, 0.3, 0.2],
        [0.3, 0.4, 0.3],
        [0.1, 0.9, 0.0],
        [0.1, 0.3, 0.6],
        [0.2, 0.2, 0.6],
    ]
)


def test_confusion_has_true_classes_in_rows_and_answers_in_columns():
    scores = evaluate.score(LABELS, PROBABILITIES)
    assert scores.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert scores.accuracy == pytest.approx(4 / 6)


def test_precision_recall_and_f1_are_those_worked_out_by_hand():
    scores = evaluate.score(LABELS, PROBABILITIES)
    assert scores.precision == pytest.approx([1, 1 / 2, 1 / 2])
    assert scores.recall == pytest.approx([2 / 3, 1 / 2, 1])
    assert scores.f1 == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert scores.n.tolist() == [3, 2, 1]


def test_a_class_that_is_never_called_or_never_there_scores_zero_without_a_warning(recwarn):
    scores = evaluate.score(np.array([0, 1]), np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]]))
    assert scores.confusion.shape == (3, 3)
    assert scores.precision == pytest.approx([1 / 2, 0, 0])
    assert scores.recall == pytest.approx([1, 0, 0])
    assert scores.n.tolist() == [1, 1, 0]
    assert not recwarn.list


def test_the_dictionary_is_plain_and_named_by_class():
    values = evaluate.score(LABELS, PROBABILITIES).to_dict(("a", "b", "c"))
    assert values["n"] == 6
    assert values["classes"] == ["a", "b", "c"]
    assert values["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert values["per_class"]["b"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2}
    assert type(values["per_class"]["b"]["n"]) is int


def test_no_photos_is_refused():
    with pytest.raises(ValueError, match="no photos"):
        evaluate.score(np.array([], dtype=np.int64), np.zeros((0, 2)))


def test_the_margin_is_half_of_an_interval_of_95_percent():
    assert evaluate.margin(0.5, 96) == pytest.approx(0.1)
    assert evaluate.margin(1.0, 16) == pytest.approx(2 * (0.9 * 0.1 / 20) ** 0.5)
    assert evaluate.margin(0.9, 1000) < evaluate.margin(0.9, 100)
