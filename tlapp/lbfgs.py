"""Multinomial logistic regression to its optimum, several problems on the same rows at once.

Knows matrices alone; what they mean is `heads`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def minimise(
    x: Tensor, targets: Tensor, weights: Tensor, l2: float, start: Tensor, tolerance: float = 1e-3, most: int = 100
) -> Iterator[tuple[Tensor, Tensor]]:
    """Multinomial logistic regression by L-BFGS (Nocedal, 1980), several problems on the same rows at once.

    Args:
        x: float32 (rows, d). targets: float32 (rows, classes), one-hot.
        weights: float32 (problems, rows); 0 leaves a row out of a problem.
        start: float32 (problems, d + 1, classes); the last row is the bias, which no penalty holds.
        tolerance: on the gradient, as part of the first one.

    Yields:
        After every step, (problems, d + 1, classes) and the penalised mean losses in nats, (problems,).
    """
    objective = _Objective(x, targets, weights, l2)
    solution = start
    loss, gradient = objective(solution)
    first = _dot(gradient, gradient).sqrt()
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(most):
        direction = _two_loops(gradient, steps)
        slope = -_dot(gradient, direction)
        length = torch.ones(len(start)) if steps else 1 / first.clamp(min=1e-12)
        while True:  # halve each problem's step until its loss falls
            tried = solution - length[:, None, None] * direction
            new_loss, new_gradient = objective(tried)
            too_far = new_loss > loss + 1e-4 * length * slope + 1e-7 * loss.abs()
            if not bool(too_far.any()) or float(length.min()) < 1e-6 * float(length.max()):
                break
            length = torch.where(too_far, length / 2, length)
        moved, turned = tried - solution, new_gradient - gradient
        curvature = _dot(moved, turned)
        usable = (curvature > 1e-12)[:, None, None]
        steps.append((moved * usable, turned * usable, torch.where(curvature > 1e-12, 1 / curvature, 0.0)))
        del steps[:-8]
        solution, loss, gradient = tried, new_loss, new_gradient
        yield solution, loss
        if bool((_dot(gradient, gradient).sqrt() <= tolerance * first).all()):
            return


def _two_loops(gradient: Tensor, steps: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The gradient times L-BFGS's guess of the inverse Hessian, for each problem."""
    direction = gradient.clone()
    shares = []
    for moved, turned, inverse in reversed(steps):
        share = inverse * _dot(moved, direction)
        direction -= share[:, None, None] * turned
        shares.append(share)
    if steps:
        moved, turned, _ = steps[-1]
        scale = _dot(moved, turned) / _dot(turned, turned).clamp(min=1e-20)
        direction *= torch.where(scale > 0, scale, 1.0)[:, None, None]
    for (moved, turned, inverse), share in zip(steps, reversed(shares), strict=True):
        direction += (share - inverse * _dot(turned, direction))[:, None, None] * moved
    return direction


class _Objective:
    """Penalised mean loss and its gradient, of all problems in two matrix products."""

    def __init__(self, x: Tensor, targets: Tensor, weights: Tensor, l2: float) -> None:
        self.x, self.targets, self.l2 = x, targets, l2
        self.weights = (weights / weights.sum(1, keepdim=True)).T  # (rows, problems)

    def __call__(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        p, d, k = solution.shape[0], solution.shape[1] - 1, solution.shape[2]
        scores = (self.x @ solution[:, :d].permute(1, 0, 2).reshape(d, p * k)).view(-1, p, k) + solution[:, d]
        level = torch.logsumexp(scores, 2)
        losses = level - (scores * self.targets[:, None]).sum(2)
        loss = (losses * self.weights).sum(0) + self.l2 / 2 * (solution[:, :d] ** 2).sum((1, 2))
        errors = (torch.exp(scores - level[..., None]) - self.targets[:, None]) * self.weights[..., None]
        gradient = torch.empty_like(solution)
        gradient[:, :d] = (self.x.T @ errors.reshape(-1, p * k)).view(d, p, k).permute(1, 0, 2)
        gradient[:, :d] += self.l2 * solution[:, :d]
        gradient[:, d] = errors.sum(0)
        return loss, gradient


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2))
