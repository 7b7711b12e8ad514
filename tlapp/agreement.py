"""What INT8 costs: how far it agrees with the float model on the same test photos, in numbers and in words.

Counts answers; knows nothing of graphs, files or how the answers were got.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlapp import evaluate

Answer = tuple[str, bool | None]
"""The class a photo is given, and whether it is called "none of these" (None: the model cannot tell)."""


@dataclass(frozen=True)
class Agreement:
    """The INT8 and the float model on the same test photos.

    Attributes:
        n: test photos, at least one.
        same: how many of them both give the same class.
        right, float_right: how many each gives the right class.
        fixed, broken: how many INT8 alone is right about, and how many the float model alone.
        unknown_changed: how many are "none of these" to one of them only; None where the model cannot tell.
        size, float_size: of the files, in bytes.
        time_ratio: INT8's time for a photo over the float model's, timed in turn on one machine.
        n_calibration: training photos that the ranges were taken from.
    """

    n: int
    same: int
    right: int
    float_right: int
    fixed: int
    broken: int
    unknown_changed: int | None
    size: int
    float_size: int
    time_ratio: float
    n_calibration: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `chance`: how likely so one-sided a difference would be if neither were better (sign test)."""
        whole = evaluate.stated(self.float_right / self.n, self.n)
        return {
            **evaluate.stated(self.right / self.n, self.n),
            "agreement": self.same / self.n, "agreement_interval": list(evaluate.interval(self.same / self.n, self.n)),
            "float_accuracy": whole["accuracy"], "float": whole, "fixed": self.fixed, "broken": self.broken,
            "chance": evaluate.sign_test(self.fixed, self.broken), "unknown_changed": self.unknown_changed,
            "size": self.size, "float_size": self.float_size, "time_ratio": self.time_ratio,
            "n_calibration": self.n_calibration,
        }  # fmt: skip

    def verdict(self) -> str:
        """Whether INT8 costs accuracy, in a sentence or two; `strangers` goes on."""
        if self.same == self.n and self.unknown_changed:
            return "INT8 costs no accuracy on these photos (every one gets the same class), yet changes answers."
        if self.same == self.n:
            return "INT8 costs no accuracy on these photos: every one gets the same class."
        alone = f"it alone is right about {self.fixed:,}, the float model alone about {self.broken:,}"
        chance = evaluate.sign_test(self.fixed, self.broken) > evaluate.HARDLY_CHANCE
        if self.right >= self.float_right:
            return f"INT8 costs no accuracy on these photos: {alone}."
        if chance:
            return (
                f"INT8 is right about fewer: {alone}, which may be chance. Where accuracy counts, use the float model."
            )
        return f"INT8 costs accuracy: {alone}, which is hardly chance. Use the float model."

    def strangers(self) -> str:
        """What becomes of "none of these", in a sentence; empty where the model cannot tell."""
        if self.unknown_changed is None:
            return ""
        costs = self.right < self.float_right  # then the verdict has the advice
        advice = "; where that counts, use the float model" if self.unknown_changed and not costs else ""
        what = f"Of them {self.unknown_changed:,} change" if self.unknown_changed else "None changes"
        return f'{what} to or from "none of these"{advice}.'

    def in_words(self) -> list[str]:
        """All of it as sentences for a terminal."""
        worth, whole = (
            evaluate.in_words(right / self.n, self.n, "test photos", " to ") for right in (self.right, self.float_right)
        )
        return [
            f"INT8 gives {evaluate.counted(self.same, self.n)} of {self.n:,} test photos the same class as the app.",
            f"Accuracy of INT8 {worth}; of the float model {whole}.",
            " ".join(filter(None, [self.verdict(), self.strangers()])),
            f"Its file has {megabytes(self.size)} instead of {megabytes(self.float_size)}; a photo takes it "
            f"{self.time_ratio:.2f} times as long as the float model, on this machine.",
        ]


def megabytes(size: int) -> str:
    """A number of bytes as "6.3 MB"."""
    return f"{size / 1e6:.1f} MB"


def count(
    truth: Sequence[str], whole: Sequence[Answer], rounded: Sequence[Answer], *,
    size: int, float_size: int, time_ratio: float, n_calibration: int,
) -> Agreement:  # fmt: skip
    """Compare answers photo by photo.

    Args:
        truth: the photos' classes.
        whole, rounded: answers of the float and of the INT8 model, in the same order.
    """
    pairs = list(zip(truth, whole, rounded, strict=True))
    right = [(said[0] == true, now[0] == true) for true, said, now in pairs]
    tells = whole[0][1] is not None
    return Agreement(
        n=len(pairs), same=sum(said[0] == now[0] for _, said, now in pairs),
        right=sum(now for _, now in right), float_right=sum(then for then, _ in right),
        fixed=right.count((False, True)), broken=right.count((True, False)),
        unknown_changed=sum(said[1] != now[1] for _, said, now in pairs) if tells else None,
        size=size, float_size=float_size, time_ratio=time_ratio, n_calibration=n_calibration,
    )  # fmt: skip
