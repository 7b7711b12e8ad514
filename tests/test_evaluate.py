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
    assert {k: v for k, v in values["per_class"]["b"].items() if not k.endswith("interval")} == {
        "precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2,
    }  # fmt: skip
    assert values["interval"] == list(evaluate.interval(values["accuracy"], 6))
    assert values["method"] == evaluate.METHOD
    assert type(values["per_class"]["b"]["n"]) is int


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_every_share_of_a_class_lies_within_its_interval(name):
    of_class = evaluate.score(LABELS, PROBABILITIES).to_dict(("a", "b", "c"))["per_class"][name]
    for key in ("precision", "recall", "f1"):
        low, high = of_class[f"{key}_interval"]
        assert 0 <= low <= of_class[key] <= high <= 1
        assert high - low > 0.3, "a few photos say little"


def test_the_interval_of_f1_is_that_of_the_photos_it_counts():
    """Of 8 photos that are of the class or called so, 6 are called right: F1 is 12 of 14."""
    labels = np.array([0] * 7 + [1] * 3)
    said = np.array([0] * 6 + [1] + [0] + [1] * 2)
    of_class = evaluate.score(labels, np.eye(2)[said]).to_dict(("a", "b"))["per_class"]["a"]
    assert of_class["f1"] == pytest.approx(12 / 14)
    low, high = evaluate.interval(6 / 8, 8)
    assert of_class["f1_interval"] == pytest.approx([2 * low / (1 + low), 2 * high / (1 + high)])


def test_an_accuracy_on_all_photos_joins_cross_validation_and_test_photos():
    found = evaluate.cross_validated(0.9, 80, 16, 20)
    assert found["accuracy"] == pytest.approx((72 + 16) / 100)
    assert found["n"] == 100
    assert found["interval"] == pytest.approx(evaluate.interval(0.88, 70))


@pytest.mark.parametrize(
    ("accuracy", "n", "words"),
    [(0.93, 60, "plausibly 84–97 %"), (1.0, 1_000_000, "plausibly 100 %"), (1.0, 5, "plausibly 57–100 %")],
)
def test_an_interval_is_said_in_words(accuracy, n, words):
    assert evaluate.plausibly(evaluate.interval(accuracy, n)) == words


def test_an_accuracy_is_said_in_full_and_in_brief():
    assert evaluate.in_words(56 / 60, 60) == "93 %, 56 of 60 photos right, plausibly 84–97 %"
    assert (
        evaluate.in_words(1.0, 1200, "test photos", " to ")
        == "100 %, 1,200 of 1,200 test photos right, plausibly 100 %"
    )
    assert evaluate.brief(56 / 60, 60) == "93 % of 60 (84–97 %)"
    assert evaluate.brief(0.9, 1200, (0.8, 0.96), " to ") == "90 % of 1,200 (80 to 96 %)"
    assert evaluate.brief(0.9, 0) == "90 %", "a record of an earlier version does not say of how many"
    assert evaluate.counted(56, 60) == "56 (84 to 97 %)"
    assert evaluate.percent(0.9999) == "99 %"


def test_no_photos_is_refused():
    with pytest.raises(ValueError, match="no photos"):
        evaluate.score(np.array([], dtype=np.int64), np.zeros((0, 2)))


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    generator = np.random.default_rng(0)
    labels, probabilities = generator.integers(0, 4, 60), generator.random((60, 5))  # the last class is never there
    scores = evaluate.score(labels, probabilities)
    said, indices = probabilities.argmax(1), range(5)
    assert scores.accuracy == accuracy_score(labels, said)
    assert np.array_equal(scores.confusion, confusion_matrix(labels, said, labels=indices))
    wanted = precision_recall_fscore_support(labels, said, labels=indices, zero_division=0)
    for found, known in zip((scores.precision, scores.recall, scores.f1, scores.n), wanted, strict=True):
        np.testing.assert_allclose(found, known)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_the_interval_is_that_of_wilson(right, n, low, high):
    assert evaluate.interval(right / n, n) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_is_that_of_scipy_and_narrows_with_more_photos():
    from scipy.stats import binomtest

    widths = []
    for n in (1, 10, 100, 1000):
        for right in (0, n // 2, n):
            wanted = binomtest(right, n).proportion_ci(method="wilson")
            assert evaluate.interval(right / n, n) == pytest.approx((wanted.low, wanted.high), abs=1e-4)
        low, high = evaluate.interval(0.5, n)
        assert 0 <= low <= 0.5 <= high <= 1
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


ASKED = "10 photos, each asked of a model that had not learned from it"


@pytest.mark.parametrize(
    ("run", "instant", "words"),
    [
        (
            9,
            5,
            f"This run does better than the instant model on {ASKED}: 9 (60 to 98 %) right against 5 (24 to 76 %).",
        ),
        (
            7,
            7,
            f"This run does as well as the instant model on {ASKED}: each is right about 7 (40 to 89 %).",
        ),
        (3, 7, f"The instant model does better on {ASKED}: 7 (40 to 89 %) right against 3 (11 to 60 %)."),
        (
            6,
            7,
            f"On {ASKED}: the instant model is right about 7 (40 to 89 %), this run about 6 (31 to 83 %), a difference "
            "that may be chance.",
        ),
    ],
)
def test_a_run_and_the_instant_model_are_compared_in_a_sentence(run, instant, words):
    compared = {"n": 10, "run": run, "instant": instant}
    assert evaluate.beside_instant(compared) == words
    alike = words.replace("instant model", "instant model with grey bars")
    assert evaluate.beside_instant(compared, "letterbox") == alike, "not that of the Data tab, which crops"


@pytest.mark.parametrize(("differ", "better"), [(20, True), (25, True), (27, False), (100, False)])
def test_a_model_is_called_better_only_where_chance_hardly_makes_such_a_difference(differ, better):
    """A difference of 10 is 1.96 standard errors where the two differ on 26 photos."""
    for run, instant in ((900, 890), (890, 900)):
        said = evaluate.beside_instant({"n": 1000, "run": run, "instant": instant, "differ": differ})
        assert ("does better" in said) == better
        assert ("may be chance" in said) != better
