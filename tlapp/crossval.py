"""Which linear head suits the photos: cross-validation of ridge and logistic regression on features.

Folds hold out whole groups of photos, so that views and near copies of one never sit on both sides. What is chosen,
chosen is by log loss on held-out photos after temperature scaling ("refine, then calibrate", Berta et al. 2025): a
setting wins by telling classes apart, not by the scale of its scores. Knows no networks or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tlapp import calibration
from tlapp.heads import ROWS_AT_ONCE, Choice, Features, mean_of, one_hot, solve
from tlapp.lbfgs import minimise

RIDGE_L2 = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LOGISTIC_L2 = (1.0, 0.1, 0.01, 0.001)
N_FOLDS = 5
TOO_MUCH = 2e11
TOO_LARGE = 5e7
"""Logistic regression is left out of a free choice where its cross-validation would take more operations, or all rows
more bytes."""


@dataclass(frozen=True)
class Options:
    """What may be chosen. `heads`: of "ridge", "logistic"; `widths`: how many of the last features may be seen;
    `mirror`: whether view 1, the mirror image of view 0, may be averaged with it; `l2`: 0: by cross-validation.
    """

    heads: Sequence[str]
    widths: Sequence[int]
    mirror: Sequence[bool]
    l2: float = 0.0


def folds(labels: np.ndarray, groups: np.ndarray, first: np.ndarray, others: bool, seed: int) -> np.ndarray:
    """The fold of each photo, int64; -1: never held out.

    Args:
        labels: int64 (photos,).
        groups: int64 (photos,); photos of a group never sit in two of the folds that are dealt.
        first: bool (photos,), the photos of fold 0.
        others: whether the remaining photos are dealt into four more folds, class by class.
    """
    result = np.where(first, 0, -1)
    if others:
        generator, dealt = np.random.default_rng(seed), 0
        of_group: dict[int, int] = {}
        for label in np.unique(labels):
            for index in generator.permutation(np.flatnonzero(~first & (labels == label))):
                if groups[index] not in of_group:
                    of_group[groups[index]] = 1 + dealt % (N_FOLDS - 1)
                    dealt += 1
                result[index] = of_group[groups[index]]
    return result


def within_one(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Whether a photo's class lies within one group (or one fold), bool (photos,). Both: int64 (photos,)."""
    n_groups = {label: len(np.unique(groups[labels == label])) for label in np.unique(labels).tolist()}
    return np.array([n_groups[label] < 2 for label in labels.tolist()], dtype=bool)


def choose(
    features: Features,
    labels: np.ndarray,
    fold: np.ndarray,
    weights: np.ndarray,
    n_classes: int,
    options: Options,
    check: Callable[[], None] = lambda: None,
) -> Choice:
    """The head that does best on held-out photos.

    Averaging with the mirror image must lower the loss by more than one standard error of the difference, as it
    doubles the time of every answer; seeing more features costs nothing, and must lower it.

    Args:
        features: of all photos to learn from.
        labels, fold, weights: int64, int64 and float64, each (photos,).
        check: called between steps; what it raises ends the work.
    """
    trial = _Trial(features, labels, fold, weights, n_classes, any(options.mirror), check)
    best, *doubled = min(
        (trial.choices("ridge", width, options) for width in sorted(options.widths)),
        key=lambda ways: ways[0].criterion,
    )
    if doubled and _clearly_better(doubled[0], best, labels):
        best = doubled[0]
    if "logistic" not in options.heads:
        return best
    size = 4 * features.n_views * features.n_photos * features.width
    if "ridge" in options.heads and (size * n_classes * trial.n_folds * 60 > TOO_MUCH or size > TOO_LARGE):
        return best
    same = replace(options, mirror=[best.mirror])
    (other,) = trial.choices("logistic", best.width, same)
    return other if "ridge" not in options.heads or other.criterion < best.criterion else best


def _clearly_better(one: Choice, other: Choice, labels: np.ndarray) -> bool:
    """Whether the mean loss is lower by more than a standard error of the photos' differences."""
    known = np.isfinite(one.held_out[:, 0])
    difference = _losses(other.held_out[known], labels[known]) - _losses(one.held_out[known], labels[known])
    return float(difference.mean()) > float(difference.std()) / max(1, len(difference)) ** 0.5


def _losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))


class _Trial:
    """Cross-validation of heads on the same photos and folds."""

    def __init__(
        self, features: Features, labels: np.ndarray, fold: np.ndarray, weights: np.ndarray, n_classes: int,
        mirror: bool, check: Callable[[], None],
    ) -> None:  # fmt: skip
        self.features, self.labels, self.fold, self.check = features, labels, torch.from_numpy(fold), check
        self.held = np.flatnonzero(fold >= 0)
        self.folds = sorted(set(fold[self.held].tolist()))
        self.n_folds, self.n_classes = len(self.folds), n_classes
        self.asked = [0, 1] if mirror else [0]  # views that held-out photos are judged by
        self.targets = one_hot(labels, n_classes)
        self.weights = torch.from_numpy(weights / weights.mean()).float()
        self.mean = mean_of(features, self.weights)
        self._rows: Tensor | None = None

    def choices(self, head: str, width: int, options: Options) -> list[Choice]:
        """The best strength for each way of asking, plain and mirrored."""
        strengths = (options.l2,) if options.l2 else RIDGE_L2 if head == "ridge" else LOGISTIC_L2
        scores = {"ridge": self._ridge, "logistic": self._logistic}[head](width, strengths)
        found = []
        for mirror in options.mirror:
            asked = scores.mean(1) if mirror else scores[:, 0]
            tried = [self._calibrated(head, width, mirror, l2, asked[i]) for i, l2 in enumerate(strengths)]
            found.append(min(tried, key=lambda choice: (choice.criterion, -choice.l2)))
        return found

    def _calibrated(self, head: str, width: int, mirror: bool, l2: float, scores: Tensor) -> Choice:
        """`scores`: float (photos, classes), of which those of held-out photos count."""
        known, labels = scores[self.held].double().numpy(), self.labels[self.held]
        weights = self.weights[self.held].double().numpy()
        temperature, criterion = calibration.fit(known, labels, weights)
        log_odds = calibration.log_odds(known, temperature)
        loss = -float(weights @ log_odds[np.arange(len(labels)), labels] / weights.sum())
        held_out = np.full((len(self.labels), self.n_classes), np.nan)
        held_out[self.held] = np.exp(log_odds)
        energies = np.full(len(self.labels), np.nan)
        energies[self.held] = (log_odds - known / temperature)[:, 0]
        return Choice(head, width, mirror, l2, temperature, loss, criterion, held_out, energies)

    def _all_rows(self) -> Tensor:
        """float32 (views, photos, d), centred; read once."""
        if self._rows is None:
            f = self.features
            self._rows = f.all().view(f.n_views, f.n_photos, f.width).sub_(self.mean)
        return self._rows

    def _ridge(self, width: int, strengths: Sequence[float]) -> Tensor:
        """Held-out scores: (strengths, asked views, photos, classes)."""
        few = self.features.n_views * self.features.n_photos <= width
        return self._dual(width, strengths) if few else self._primal(width, strengths)

    def _no_scores(self, n_strengths: int) -> Tensor:
        return torch.zeros(n_strengths, len(self.asked), len(self.labels), self.n_classes)

    def _without(self, k: int) -> tuple[Tensor, Tensor]:
        """Weights of the photos, 0 for those of fold k, and the mean target of the others."""
        inside = self.weights * (self.fold != k)
        return inside, (inside @ self.targets) / inside.sum()

    def _dual(self, width: int, strengths: Sequence[float]) -> Tensor:
        """From the products of all rows with each other: for fewer rows than features."""
        n_views, n, scores = self.features.n_views, len(self.labels), self._no_scores(len(strengths))
        rows = self._all_rows()[..., -width:].reshape(-1, width)
        products = rows @ rows.T
        for k in self.folds:
            self.check()
            inside, base = self._without(k)
            weight = inside.repeat(n_views)
            out, on = torch.nonzero(self.fold == k)[:, 0], torch.nonzero(weight)[:, 0]
            size = float(weight.sum())
            to_mean = products @ weight / size  # products of every row with the mean of those inside
            offset = to_mean[on] - weight @ to_mean / size
            root = weight[on].sqrt()[:, None]
            kernel = products[on[:, None], on].sub_(offset).sub_(to_mean[on, None]).mul_(root).mul_(root.T)
            target = root * (self.targets - base).repeat(n_views, 1)[on]
            duals = root * solve(kernel, [l2 * size for l2 in strengths], target)
            for view in self.asked:
                asked = out + view * n
                centred = products[asked[:, None], on].sub_(offset).sub_(to_mean[asked, None])
                scores[:, view, out] = centred @ duals + base
        return scores

    def _primal(self, width: int, strengths: Sequence[float]) -> Tensor:
        """From the products of features with each other, which do not grow with the photos."""
        parts = sorted(set(self.fold.tolist()))
        grams = torch.zeros(len(parts), width, width)
        sums, totals = torch.zeros(len(parts), width, self.n_classes), torch.zeros(len(parts), width)
        for _, first, piece in self.features.pieces():
            self.check()
            x, there = (piece - self.mean)[:, -width:], slice(first, first + len(piece))
            for i, k in enumerate(parts):
                chosen = self.fold[there] == k
                weighted = x[chosen] * self.weights[there][chosen, None]
                grams[i].addmm_(weighted.T, x[chosen])
                sums[i] += weighted.T @ self.targets[there][chosen]
                totals[i] += weighted.sum(0)
        gram, right, total = grams.sum(0), sums.sum(0), totals.sum(0)
        solved = {}
        for k in self.folds:
            self.check()
            i, (inside, base) = parts.index(k), self._without(k)
            size = float(inside.sum()) * self.features.n_views
            mean = (total - totals[i]) / size
            system = torch.sub(gram, grams[i], out=grams[i]).addr_(mean, mean, alpha=-size)
            target = right - sums[i] - (total - totals[i])[:, None] * base
            weight = solve(system, [l2 * size for l2 in strengths], target)
            solved[k] = weight, (base - mean @ weight)[:, None]
        scores = self._no_scores(len(strengths))
        for view in self.asked:
            for first in range(0, len(self.labels), ROWS_AT_ONCE):
                last = min(first + ROWS_AT_ONCE, len(self.labels))
                x = (self.features.read(view, first, last) - self.mean)[:, -width:]
                for k, (weight, bias) in solved.items():
                    out = self.fold[first:last] == k
                    scores[:, view, first:last][:, out] = x[out] @ weight + bias
        return scores

    def _logistic(self, width: int, strengths: Sequence[float]) -> Tensor:
        """Held-out scores: (strengths, asked views, photos, classes); all folds side by side, strongest L2 first."""
        rows, n_views = self._all_rows()[..., -width:], self.features.n_views
        insides = torch.stack([self._without(k)[0].repeat(n_views) for k in self.folds])
        scores = self._no_scores(len(strengths))
        x, y = rows.reshape(-1, width), self.targets.repeat(n_views, 1)
        solution = torch.zeros(len(self.folds), width + 1, self.n_classes)
        for i, l2 in enumerate(strengths):
            for step, _ in minimise(x, y, insides, l2, solution, tolerance=1e-2, most=25):
                self.check()
                solution = step
            for w, k in zip(solution, self.folds, strict=True):
                out = self.fold == k
                for view in self.asked:
                    scores[i, view, out] = rows[view, out] @ w[:-1] + w[-1]
        return scores
