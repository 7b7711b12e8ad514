"""Linear heads fitted to their optimum on features, which come in views of photos: ridge and logistic regression.

What is fitted, `crossval` has chosen. Knows no networks or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tlapp.lbfgs import minimise

ROWS_AT_ONCE = 256
_SURE = 1e-6
"""Share of the sum of eigenvalues below which rounding in float32 could outweigh a strength."""


class Features:
    """Normalised features of views of photos, `read` piece by piece: read(view, first, last) → float32 (photos, d)."""

    def __init__(self, shape: tuple[int, int, int], read: Callable[[int, int, int], Tensor]) -> None:
        self.n_views, self.n_photos, self.width = shape
        self.read = read

    def pieces(self) -> Iterator[tuple[int, int, Tensor]]:
        """All rows, as (view, first photo, rows)."""
        for view in range(self.n_views):
            for first in range(0, self.n_photos, ROWS_AT_ONCE):
                yield view, first, self.read(view, first, min(first + ROWS_AT_ONCE, self.n_photos))

    def all(self) -> Tensor:
        """float32 (views · photos, d), view by view, in memory of its own."""
        everything = torch.empty(self.n_views, self.n_photos, self.width)
        for view, first, rows in self.pieces():
            everything[view, first : first + len(rows)] = rows
        return everything.view(-1, self.width)


@dataclass(frozen=True)
class Choice:
    """A kind of head, and what it gave on held-out photos.

    `held_out`: float64 (photos, classes), calibrated probabilities; `energies`: float64 (photos,), of the scores that
    gave them (`unknown.energy`); both NaN for photos that no fold holds out.
    `loss`: their mean log loss in nats; `criterion`: the same on targets with a photo's worth of doubt, so that no
    setting seems perfect where all photos are told apart. Choices are made by it.
    """

    head: str
    width: int
    mirror: bool
    l2: float
    temperature: float
    loss: float
    criterion: float
    held_out: np.ndarray
    energies: np.ndarray = field(default_factory=lambda: np.zeros(0))


def fit(
    features: Features, labels: np.ndarray, weights: np.ndarray, n_classes: int, choice: Choice
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fit the chosen head on all of these photos; weight (classes, d) and bias (classes,) after every step.

    They are already divided by the choice's temperature, so that softmax gives calibrated probabilities. A ridge
    head takes a single step.
    """
    weight = torch.from_numpy(weights / weights.mean()).float()
    targets = one_hot(labels, n_classes)
    mean = mean_of(features, weight)[-choice.width :]
    if choice.head == "ridge":
        steps = iter([_ridge_solution(features, targets, weight, mean, choice)])
    else:
        steps = _logistic_steps(features, targets, weight, mean, choice)
    for w, bias in steps:
        yield (w / choice.temperature).T.contiguous(), (bias - mean @ w) / choice.temperature


def _ridge_solution(
    features: Features, targets: Tensor, weight: Tensor, mean: Tensor, choice: Choice
) -> tuple[Tensor, Tensor]:
    base = (weight @ targets) / weight.sum()
    strength = choice.l2 * float(weight.sum()) * features.n_views
    if features.n_views * features.n_photos <= choice.width:
        root = weight.repeat(features.n_views).sqrt()[:, None]
        x = features.all()[:, -choice.width :].sub_(mean).mul_(root)
        target = root * (targets - base).repeat(features.n_views, 1)
        return x.T @ solve(x @ x.T, [strength], target)[0], base
    gram, right = torch.zeros(choice.width, choice.width), torch.zeros(choice.width, targets.shape[1])
    for _, first, piece in features.pieces():
        x, there = piece[:, -choice.width :] - mean, slice(first, first + len(piece))
        weighted = x * weight[there, None]
        gram += weighted.T @ x
        right += weighted.T @ (targets[there] - base)
    return solve(gram, [strength], right)[0], base


def _logistic_steps(
    features: Features, targets: Tensor, weight: Tensor, mean: Tensor, choice: Choice
) -> Iterator[tuple[Tensor, Tensor]]:
    x = features.all()[:, -choice.width :].sub_(mean)
    start = torch.zeros(1, choice.width + 1, targets.shape[1])
    n_views = features.n_views
    for solution, _ in minimise(x, targets.repeat(n_views, 1), weight.repeat(n_views)[None], choice.l2, start):
        yield solution[0, :-1], solution[0, -1]


def solve(gram: Tensor, strengths: Sequence[float], target: Tensor) -> Tensor:
    """(gram + strength · identity)⁻¹ target, for each strength: (strengths, *target's shape).

    `gram` is symmetric, and left as it was. What it says below 1e-7 of the sum of its eigenvalues is rounding, so that
    no strength is taken to be less. Factorised in float64 where rounding could outweigh a strength.
    """
    largest = float(gram.diagonal().sum())  # no eigenvalue is larger
    if min(strengths) <= _SURE * largest and gram.dtype != torch.float64:
        return solve(gram.double(), strengths, target.double()).to(gram.dtype)
    root = torch.empty_like(gram).mT  # column by column, as LAPACK wants it: else it works on copies
    solutions = target.new_empty(len(strengths), *target.shape)
    diagonal, kept = gram.diagonal(), gram.diagonal().clone()
    for i, strength in enumerate(strengths):
        diagonal += max(strength, 1e-7 * largest, 1e-12)
        torch.linalg.cholesky(gram, out=root)
        diagonal.copy_(kept)
        half = torch.linalg.solve_triangular(root, target, upper=False)
        solutions[i] = torch.linalg.solve_triangular(root.mT, half, upper=True)
    return solutions


def one_hot(labels: np.ndarray, n_classes: int) -> Tensor:
    """int64 (photos,) → float32 (photos, classes)."""
    return torch.nn.functional.one_hot(torch.from_numpy(labels), n_classes).float()


def mean_of(features: Features, weights: Tensor) -> Tensor:
    """Weighted mean of all rows."""
    total = torch.zeros(features.width)
    for _, first, rows in features.pieces():
        total += weights[first : first + len(rows)] @ rows
    return total / (features.n_views * weights.sum())
