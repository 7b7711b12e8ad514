"""Certainty is worth what it says: temperature on held-out scores, error and bins on others."""

import numpy as np
import pytest

from tlapp import calibration


def scored(n, scale, seed=0, n_classes=3):
    """Labels drawn from known probabilities, and the scores of a model that says `scale` times their log-odds."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 1.5, (n, n_classes))
    shares = np.exp(calibration.log_odds(scores))
    labels = np.array([generator.choice(n_classes, p=row) for row in shares])
    return labels, scores * scale


def log_loss(scores, labels):
    return -calibration.log_odds(scores)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_temperature_undoes_false_certainty_and_lowers_the_loss_on_other_photos(scale):
    labels, scores = scored(400, scale)
    temperature, _ = calibration.fit(scores, labels)
    assert temperature == pytest.approx(scale, rel=0.3)
    labels, scores = scored(400, scale, seed=1)
    assert log_loss(scores / temperature, labels) <= log_loss(scores, labels) + 0.01
    assert np.array_equal((scores / temperature).argmax(1), scores.argmax(1))


def test_photos_that_are_all_told_apart_do_not_make_it_endlessly_sure():
    labels = np.arange(20) % 2
    scores = np.eye(2)[labels]
    temperature, _ = calibration.fit(scores, labels)
    assert 0.9 < np.exp(calibration.log_odds(scores, temperature)).max() < 0.995


def test_weights_count():
    labels = np.array([0, 0, 1])
    scores = np.array([[2.0, 0], [2, 0], [2, 0]])
    sure = calibration.fit(scores, labels, np.array([1.0, 1, 0.01]))[0]
    assert sure < calibration.fit(scores, labels, np.array([1.0, 1, 10]))[0]


def test_the_error_is_the_mean_gap_between_certainty_and_accuracy():
    probabilities = np.tile([0.9, 0.1], (400, 1))
    labels = (np.arange(400) % 4 == 0).astype(int)  # right three times in four
    found = calibration.bins(labels, probabilities)
    (only,) = found
    assert (only.n, only.confidence, only.accuracy) == (400, pytest.approx(0.9), 0.75)
    assert (only.low, only.high) == pytest.approx((13 / 15, 14 / 15))
    assert calibration.error(found) == pytest.approx(0.15)


@pytest.mark.parametrize("n", [1, 14, 40, 299, 300, 1000])
def test_every_photo_is_in_one_bin_and_few_photos_make_few_bins(n):
    labels, scores = scored(n, 1.0)
    found = calibration.bins(labels, np.exp(calibration.log_odds(scores)))
    assert sum(b.n for b in found) == n
    assert len(found) <= max(1, min(15, n // 10))
    assert all(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 and 0 <= b.accuracy <= 1 for b in found)


def test_the_report_says_what_it_was_before_the_temperature():
    labels, scores = scored(2000, 4.0)
    found = calibration.measure(labels, np.exp(calibration.log_odds(scores, 4.0)), 4.0)
    raw = calibration.error(calibration.bins(labels, np.exp(calibration.log_odds(scores))))
    assert found["ece_before"] == pytest.approx(raw)
    assert found["ece"] < 0.05 < found["ece_before"]
    assert set(found) == {"temperature", "ece", "ece_before", "bins"}
