"""Exact heads: at the optimum that scikit-learn finds, judged on photos truly held out, chosen for a reason."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from tlapp import crossval, heads, lbfgs
from tlapp.crossval import Options
from tlapp.heads import Choice, Features

N, VIEWS, CLASSES = 40, 3, 3


def features_of(rows):
    """Features that lie in memory: float32 (views, photos, d)."""
    return Features(tuple(rows.shape), lambda view, first, last: rows[view, first:last])


def made(width, n=N, views=VIEWS, spread=1.0, seed=0):
    """Views of photos around the middle of their class, and their labels; the first class has most."""
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.integers(0, CLASSES + 2, n), CLASSES + 1) % CLASSES
    middles = generator.normal(size=(CLASSES, width))
    photos = middles[labels] + spread * generator.normal(size=(n, width))
    rows = photos + 0.3 * spread * generator.normal(size=(views, n, width))
    return torch.from_numpy(rows).float(), labels.astype(np.int64)


def dealt(labels, seed=0):
    first = np.zeros(len(labels), dtype=bool)
    first[::5] = True
    return crossval.folds(labels, np.arange(len(labels)), first, True, seed)


def weights_of(labels, kind):
    return 1 / np.bincount(labels)[labels] if kind == "balanced" else np.ones(len(labels))


def choice(head="ridge", width=8, l2=0.3, temperature=1.0):
    return Choice(head, width, False, l2, temperature, loss=0.0, criterion=0.0, held_out=np.zeros((0, 0)))


def choose(rows, labels, kind="even", **options):
    options = {"heads": ["ridge"], "widths": [rows.shape[2]], "mirror": [False], **options}
    return crossval.choose(
        features_of(rows), labels, dealt(labels), weights_of(labels, kind), CLASSES, Options(**options)
    )


def trial(rows, labels, kind="even", mirror=False):
    weights = weights_of(labels, kind)
    return crossval._Trial(features_of(rows), labels, dealt(labels), weights, CLASSES, mirror, lambda: None)


def one_hot(labels):
    return np.eye(CLASSES)[labels]


# --- ridge


@pytest.mark.parametrize("kind", ["even", "balanced"])
@pytest.mark.parametrize("width", [8, 200], ids=["primal", "dual"])
@pytest.mark.parametrize("l2", [0.03, 3.0])
def test_ridge_is_the_solution_of_scikit_learn(width, l2, kind):
    rows, labels = made(width)
    weights = weights_of(labels, kind)
    weights /= weights.mean()
    (found,) = heads.fit(features_of(rows), labels, weights, CLASSES, choice(width=width, l2=l2))
    x, repeated = rows.reshape(-1, width).double().numpy(), np.tile(weights, VIEWS)
    wanted = Ridge(alpha=l2 * repeated.sum()).fit(x, one_hot(np.tile(labels, VIEWS)), sample_weight=repeated)
    np.testing.assert_allclose(found[0], wanted.coef_, atol=1e-4)
    np.testing.assert_allclose(found[1], wanted.intercept_, atol=1e-4)


@pytest.mark.parametrize("strength", [1e2, 1.0, 1e-3, 1e-6, 0.0])
def test_a_system_is_solved_however_weak_the_strength_and_its_matrix_is_left_alone(strength):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 40))).float()
    gram, target = x.T @ x, x.T @ torch.ones(60, 2)
    before = gram.clone()
    one, other = heads.solve(gram, [strength, 50.0], target)
    assert torch.equal(gram, before)
    for found, l2 in ((one, strength), (other, 50.0)):
        wanted = torch.linalg.solve(gram.double() + l2 * torch.eye(40), target.double()).float()
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_rounding_does_not_outweigh_a_weak_strength():
    """A matrix that float32 takes to be singular."""
    basis = torch.linalg.qr(torch.randn(400, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    gram = ((basis * torch.logspace(0, -9, 400, dtype=torch.float64)) @ basis.T).float()
    strength = 3e-7 * float(gram.trace())
    assert torch.linalg.cholesky_ex(gram + 1e-8 * torch.eye(400)).info > 0
    target = (basis @ torch.ones(400, 1, dtype=torch.float64)).float()
    wanted = torch.linalg.solve(gram.double() + strength * torch.eye(400), target.double()).float()
    torch.testing.assert_close(heads.solve(gram, [strength], target)[0], wanted, rtol=1e-5, atol=1e-5 * wanted.norm())


def test_copies_of_a_feature_do_no_harm_however_weak_the_strength():
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([x, x], 1)
    found = heads.solve(twice.T @ twice, [1e-9], twice.T @ x[:, :1])[0]
    torch.testing.assert_close(twice @ found, x[:, :1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["even", "balanced"])
def test_ridge_in_dual_and_in_primal_form_gives_the_same_scores(kind):
    rows, labels = made(60)
    one = trial(rows, labels, kind, mirror=True)
    dual, primal = one._dual(60, crossval.RIDGE_L2), one._primal(60, crossval.RIDGE_L2)
    assert dual.shape == (len(crossval.RIDGE_L2), 2, N, CLASSES)
    torch.testing.assert_close(dual, primal, rtol=1e-3, atol=1e-3)


def test_the_form_is_the_cheaper_one():
    rows, labels = made(VIEWS * N)
    one = trial(rows, labels)
    used = []
    one._dual, one._primal = lambda *_: used.append("dual"), lambda *_: used.append("primal")
    one._ridge(VIEWS * N, (1.0,))
    one._ridge(VIEWS * N - 1, (1.0,))
    assert used == ["dual", "primal"]


def test_only_the_last_features_are_seen_where_the_width_says_so():
    rows, labels = made(20)
    weights = np.ones(N)
    narrow = next(heads.fit(features_of(rows), labels, weights, CLASSES, choice(width=8)))
    alone = next(heads.fit(features_of(rows[..., -8:]), labels, weights, CLASSES, choice(width=8)))
    assert narrow[0].shape == (CLASSES, 8)
    for one, other in zip(narrow, alone, strict=True):
        torch.testing.assert_close(one, other)


# --- held-out photos


@pytest.mark.parametrize("kind", ["even", "balanced"])
@pytest.mark.parametrize(
    ("head", "width", "tolerance"),
    [("ridge", 8, 1e-4), ("ridge", 200, 1e-4), ("logistic", 8, 0.02)],
    ids=["primal", "dual", "logistic"],
)
def test_held_out_scores_are_those_of_a_fit_that_never_saw_the_fold(head, width, tolerance, kind):
    """But for the last steps, which choosing a logistic head saves."""
    rows, labels = made(width)
    weights, fold = weights_of(labels, kind), dealt(labels)
    one = trial(rows, labels, kind, mirror=True)
    scores = (one._ridge if head == "ridge" else one._logistic)(width, (0.3,))[0]
    for k in range(crossval.N_FOLDS):
        inside, out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        fitted = heads.fit(
            features_of(rows[:, inside]), labels[inside], weights[inside], CLASSES, choice(head, width, 0.3)
        )
        *_, (w, b) = fitted
        for view in (0, 1):
            refitted = rows[view, out] @ w.T + b
            torch.testing.assert_close(scores[view, out].softmax(1), refitted.softmax(1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
@pytest.mark.parametrize("width", [100, 200], ids=["primal", "dual"])
def test_views_of_a_photo_never_sit_on_both_sides(head, width):
    """Labels that only a photo's own views can tell: whoever peeks is right, who does not guesses."""
    generator = np.random.default_rng(1)
    photos = generator.normal(size=(N, width))
    rows = torch.from_numpy(np.repeat(photos[None], VIEWS, 0)).float()
    labels = generator.permutation(np.arange(N) % 2).astype(np.int64)
    found = choose(rows, labels, heads=[head])
    assert (found.held_out.argmax(1) == labels).mean() < 0.75
    assert found.loss > 0.6


def test_fold_0_is_the_validation_part_and_the_others_are_dealt_by_class():
    labels = np.repeat([0, 1], [32, 12])
    first = np.zeros(44, dtype=bool)
    first[[0, 1, 2, 33]] = True
    alone = np.arange(44)
    fold = crossval.folds(labels, alone, first, True, seed=3)
    assert fold.dtype == np.int64
    assert np.array_equal(fold == 0, first)
    assert set(fold.tolist()) == {0, 1, 2, 3, 4}
    for label in (0, 1):
        counts = np.bincount(fold[labels == label], minlength=5)[1:]
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(fold, crossval.folds(labels, alone, first, True, seed=3))
    assert not np.array_equal(fold, crossval.folds(labels, alone, first, True, seed=4))


def test_where_the_validation_photos_are_given_no_others_are_held_out():
    first = np.array([True, False, False, True])
    fold = crossval.folds(np.array([0, 1, 0, 1]), np.arange(4), first, False, seed=0)
    assert fold.tolist() == [0, -1, -1, 0]
    rows, labels = made(8)
    first = np.arange(N) % 4 == 0
    found = crossval.choose(
        features_of(rows), labels, crossval.folds(labels, np.arange(N), first, False, 0), np.ones(N), CLASSES,
        Options(["ridge"], [8], [False]),
    )  # fmt: skip
    assert np.array_equal(np.isfinite(found.held_out).all(1), first)


# --- logistic regression


def penalised(solution, x, labels, weights, l2):
    """The objective in float64, by its definition."""
    scores = x @ solution[:-1] + solution[-1]
    level = scores.max(1, keepdims=True)
    logs = scores - level - np.log(np.exp(scores - level).sum(1, keepdims=True))
    loss = -(weights * logs[np.arange(len(labels)), labels]).sum() / weights.sum()
    return loss + l2 / 2 * (solution[:-1] ** 2).sum()


@pytest.mark.parametrize("l2", [1.0, 0.01])
def test_several_logistic_problems_at_once_each_reach_the_optimum_of_scikit_learn(l2):
    rows, labels = made(10, n=60)
    x = rows[0]
    generator = np.random.default_rng(2)
    weights = np.stack([np.ones(60), generator.uniform(0.1, 3, 60), generator.uniform(0, 1, 60) > 0.3]).astype(float)
    start = torch.zeros(3, 11, CLASSES)
    targets = torch.from_numpy(one_hot(labels)).float()
    *_, (found, losses) = lbfgs.minimise(x, targets, torch.from_numpy(weights).float(), l2, start)
    data = x.double().numpy()
    for problem, w, loss in zip(found.double().numpy(), weights, losses, strict=True):
        peer = LogisticRegression(C=1 / (l2 * w.sum()), tol=1e-8, max_iter=5000).fit(data, labels, sample_weight=w)
        wanted = penalised(np.vstack([peer.coef_.T, peer.intercept_]), data, labels, w, l2)
        assert penalised(problem, data, labels, w, l2) == pytest.approx(wanted, abs=1e-3)
        assert float(loss) == pytest.approx(wanted, abs=1e-3)


def test_every_step_of_logistic_regression_lowers_the_loss():
    rows, labels = made(10, n=60)
    targets = torch.from_numpy(one_hot(labels)).float()
    steps = lbfgs.minimise(rows[0], targets, torch.ones(1, 60), 0.01, torch.zeros(1, 11, CLASSES))
    losses = [float(loss) for _, loss in steps]
    assert len(losses) > 5
    assert losses[0] < math.log(CLASSES)
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(losses))


def test_features_that_say_nothing_are_survived():
    rows, labels = torch.zeros(1, N, 8), made(8)[1]
    found = choose(rows, labels, heads=["ridge", "logistic"])
    *_, (weight, bias) = heads.fit(features_of(rows), labels, np.ones(N), CLASSES, found)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()
    assert np.isfinite(found.loss)


# --- choosing


def test_the_loss_is_the_log_loss_of_the_calibrated_probabilities_held_out():
    for kind, head in (("even", "ridge"), ("balanced", "ridge"), ("even", "logistic")):
        rows, labels = made(8)
        found = choose(rows, labels, kind, heads=[head])
        np.testing.assert_allclose(found.held_out.sum(1), 1)
        losses = -np.log(found.held_out[np.arange(N), labels])
        assert np.average(losses, weights=weights_of(labels, kind)) == pytest.approx(found.loss, rel=1e-4)


def test_the_temperature_is_the_best_there_is_and_the_fitted_head_has_it_in():
    """By log loss on targets that doubt a little."""
    rows, labels = made(8)
    found = choose(rows, labels)
    logs = torch.from_numpy(np.log(found.held_out)) * found.temperature  # the scores, but for a constant of each photo
    doubt = 1 / (N + 2)
    targets = (1 - doubt) * torch.eye(CLASSES, dtype=torch.float64)[torch.from_numpy(labels)] + doubt / CLASSES

    def criterion(temperature):
        return float(-(targets * (logs / temperature).log_softmax(1)).sum(1).mean())

    assert criterion(found.temperature) == pytest.approx(found.criterion)
    assert all(criterion(found.temperature * factor) >= found.criterion for factor in (0.8, 1.25))
    warm, cold = (
        next(heads.fit(features_of(rows), labels, np.ones(N), CLASSES, dataclasses.replace(found, temperature=t)))
        for t in (found.temperature, 1.0)
    )
    for one, other in zip(warm, cold, strict=True):
        torch.testing.assert_close(one * found.temperature, other)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_no_answer_is_certain_even_where_all_held_out_photos_are_told_apart(head):
    rows, labels = made(8, spread=0.01)
    found = choose(rows, labels, heads=[head])
    assert (found.held_out.argmax(1) == labels).all()
    assert 0.9 < found.held_out.max(1).min() <= found.held_out.max() < 0.9999


@pytest.mark.parametrize("useful", [True, False])
def test_more_features_win_only_where_they_help(useful):
    few, labels = made(6, n=80, views=1, spread=2.0)
    noise = 3 * torch.randn(1, 80, 40, generator=torch.Generator().manual_seed(0))
    more = made(40, n=80, views=1, spread=0.3)[0] if useful else noise
    found = choose(torch.cat([more, few], 2), labels, widths=[6, 46])
    assert found.width == (46 if useful else 6)


@pytest.mark.parametrize("useful", [True, False])
def test_mirroring_wins_only_where_it_clearly_helps(useful):
    plain, labels = made(6, n=80, views=1, spread=1.0)
    generator = torch.Generator().manual_seed(0)
    errors = 2.5 * torch.randn(plain.shape, generator=generator) if useful else torch.zeros(1)
    rows = torch.cat([plain + errors, plain - errors])  # what is wrong with one view is undone by the other
    found = choose(rows, labels, mirror=[False, True])
    assert found.mirror is useful


def test_what_is_told_is_not_chosen():
    rows, labels = made(8)
    found = choose(rows, labels, heads=["logistic"], mirror=[True], l2=0.07, widths=[4])
    assert (found.head, found.mirror, found.l2, found.width) == ("logistic", True, 0.07, 4)


def test_logistic_regression_is_left_out_where_it_would_take_too_long(monkeypatch):
    rows, labels = made(8)
    asked = []
    real = crossval._Trial._logistic
    monkeypatch.setattr(crossval._Trial, "_logistic", lambda *args: asked.append(1) or real(*args))
    monkeypatch.setattr(crossval, "TOO_MUCH", 1)
    assert choose(rows, labels, heads=["ridge", "logistic"]).head == "ridge"
    assert not asked
    assert choose(rows, labels, heads=["logistic"]).head == "logistic"
    assert asked


def test_the_better_of_ridge_and_logistic_is_chosen():
    for seed in range(3):
        rows, labels = made(8, seed=seed)
        both = choose(rows, labels, heads=["ridge", "logistic"])
        alone = [choose(rows, labels, heads=[head]) for head in ("ridge", "logistic")]
        assert both.criterion == min(one.criterion for one in alone)
        assert both.head == min(alone, key=lambda one: one.criterion).head


def test_logistic_regression_is_left_out_where_all_rows_would_take_too_much_memory(monkeypatch):
    rows, labels = made(8)
    monkeypatch.setattr(crossval, "TOO_LARGE", 4 * rows.numel() - 1)
    monkeypatch.setattr(crossval._Trial, "_logistic", None)
    assert choose(rows, labels, heads=["ridge", "logistic"]).head == "ridge"


@pytest.mark.parametrize("width", [8, 200], ids=["primal", "dual"])
def test_features_read_by_pieces_give_what_those_read_at_once_give(width, monkeypatch):
    rows, labels = made(width)
    whole = choose(rows, labels, heads=["ridge", "logistic"])
    monkeypatch.setattr(heads, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(crossval, "ROWS_AT_ONCE", 7)
    pieces = list(features_of(rows).pieces())
    assert [len(piece) for _, _, piece in pieces[:6]] == [7, 7, 7, 7, 7, 5]
    assert torch.equal(features_of(rows).all(), rows.reshape(-1, width))
    parts = choose(rows, labels, heads=["ridge", "logistic"])
    assert (parts.head, parts.l2, parts.temperature) == (whole.head, whole.l2, whole.temperature)
    np.testing.assert_allclose(parts.held_out, whole.held_out, atol=1e-4)
    for one, other in zip(
        *(list(heads.fit(features_of(rows), labels, np.ones(N), CLASSES, c))[-1] for c in (whole, parts)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_same_photos_and_seed_give_the_same_head():
    rows, labels = made(8)
    one, other = (choose(rows, labels, heads=["ridge", "logistic"]) for _ in range(2))
    assert np.array_equal(one.held_out, other.held_out)
    assert np.array_equal(one.energies, other.energies)
    one, other = (dataclasses.replace(choice, held_out=None, energies=None) for choice in (one, other))
    assert one == other


@pytest.mark.parametrize("width", [8, 200], ids=["primal", "dual"])
def test_choosing_stops_when_it_is_asked_to(width):
    rows, labels = made(width)
    options, asked = Options(["ridge", "logistic"], [width], [False]), []

    def check():
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crossval.choose(features_of(rows), labels, dealt(labels), np.ones(N), CLASSES, options, check)
    assert len(asked) == 4


@pytest.mark.parametrize("seed", range(6))
def test_a_group_of_several_classes_is_held_out_in_one_fold(seed):
    labels = np.repeat([0, 1, 2], 12)
    groups = np.arange(36)
    groups[[3, 4, 15, 30]], groups[[5, 20]] = 3, 5
    first = np.zeros(36, dtype=bool)
    first[[0, 12, 24]] = True
    fold = crossval.folds(labels, groups, first, True, seed)
    assert np.array_equal(fold == 0, first)
    assert len(set(fold[[3, 4, 15, 30]])) == len(set(fold[[5, 20]])) == 1
    assert set(fold) == set(range(crossval.N_FOLDS))


def test_groups_of_one_change_no_fold():
    _, labels = made(4)
    first = np.arange(N) % 5 == 0
    generator, wanted, dealt_so_far = np.random.default_rng(2), np.where(first, 0, -1), 0
    for label in range(CLASSES):
        for index in generator.permutation(np.flatnonzero(~first & (labels == label))):
            wanted[index], dealt_so_far = 1 + dealt_so_far % 4, dealt_so_far + 1
    assert np.array_equal(crossval.folds(labels, np.arange(N), first, True, 2), wanted)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_photos_of_one_group_are_survived_where_all_lie_in_one_fold(head):
    rows, labels = made(8)
    first = np.arange(N) % 5 == 0
    fold = crossval.folds(labels, np.zeros(N, dtype=np.int64), first, True, 0)
    assert set(fold.tolist()) == {0, 1}
    options = Options([head], [8], [False])
    found = crossval.choose(features_of(rows), labels, fold, np.ones(N), CLASSES, options)
    assert np.isfinite(found.held_out).all()
