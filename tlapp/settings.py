"""What each setting of a plan may be: choices by name, ranges of numbers, and which solver heeds it.

Texts become values here, and values are checked. Knows no plan, backbone or dataset.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tlapp.errors import PlanError, printable

CHOICES: dict[str, tuple[str, ...]] = {
    "solver": ("auto", "exact", "sgd"),
    "head": ("auto", "ridge", "logistic"),
    "depth": ("auto", "last", "several"),
    "mirror": ("auto", "on", "off"),
    "framing": ("crop", "letterbox"),
    "schedule": ("constant", "cosine"),
    "split_by": ("photo", "folder"),
    "draw": ("content", "order"),
    "class_weighting": ("none", "balanced"),
    "sampling": ("shuffled", "balanced"),
    "batchnorm": ("fixed", "learned"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "device": ("auto", "cpu", "cuda", "mps"),
}

SGD_ONLY = frozenset({
    "head_rate", "fine_tune_rate", "rate_decay", "schedule", "warm_up", "epochs", "head_epochs", "batch_size",
    "dropout", "weight_decay", "label_smoothing", "sampling", "batchnorm", "patience",
})  # fmt: skip
"""Settings that an exact head has no use for; fine-tuning by auto has its own."""

EXACT_ONLY = frozenset({"head", "depth", "l2"})
"""Settings that only an exact head has a use for."""

RANGES: dict[str, tuple[float, float]] = {
    "l2": (0, 1e4),
    "views": (1, 64),
    "test_fraction": (0.05, 0.5),
    "validation_fraction": (0.05, 0.5),
    "head_rate": (1e-7, 10),
    "fine_tune_rate": (1e-7, 10),
    "rate_decay": (0.01, 1),
    "warm_up": (0, 1000),
    "epochs": (1, 10_000),
    "head_epochs": (0, 10_000),
    "batch_size": (1, 1024),
    "dropout": (0, 0.95),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.9),
    "patience": (0, 10_000),
    "cache_mb": (0, 1_000_000),
    "disk_mb": (0, 10_000_000),
    "seed": (0, 2**31 - 1),
    "split_seed": (0, 2**31 - 1),
    "augmentation.crop": (0, 0.95),
    "augmentation.horizontal_flip": (0, 1),
    "augmentation.vertical_flip": (0, 1),
    "augmentation.rotation": (0, 180),
    "augmentation.zoom": (0, 0.9),
    "augmentation.shift": (0, 0.9),
    "augmentation.brightness": (0, 1),
    "augmentation.contrast": (0, 1),
    "augmentation.saturation": (0, 1),
    "augmentation.blur": (0, 10),
    "augmentation.erasing": (0, 1),
}


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Hold a named value to what is allowed. Raises PlanError."""
    if value not in allowed:
        raise PlanError(f"{name} is `{printable(str(value))}`; it must be {' or '.join(allowed)}.")


def check_range(name: str, value: float | None) -> None:
    """Hold a number to the range of its setting. Raises PlanError."""
    low, high = RANGES[name]
    if value is not None and not low <= value <= high:  # nor is what is not a number
        is_long = isinstance(value, int) and abs(value) > 10**15
        shown = "too large" if is_long else f"{value:g}"
        raise PlanError(f"{name} is {shown}; it must be from {low:g} to {high:g}.")


def check_types(owner: Any, prefix: str = "") -> None:
    """Hold every field of a dataclass to its declared type, since plans come from JSON files too. Raises PlanError."""
    for f in dataclasses.fields(owner):
        value, kind = getattr(owner, f.name), str(f.type)
        right = {
            "str": isinstance(value, str),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
            "int | None": value is None or (isinstance(value, int) and not isinstance(value, bool)),
            "tuple[str, ...]": isinstance(value, tuple) and all(isinstance(name, str) for name in value),
            "Augmentation": type(value).__name__ == kind,
        }[kind]
        if not right:
            raise PlanError(f"{prefix}{f.name} is {value!r}; it must be of type {kind}.")


def parse(key: str, text: str, kind: str) -> Any:
    """A setting given as text, as the type that its field declares. Raises PlanError."""
    try:
        if kind.startswith("int"):
            return None if kind.endswith("None") and text.lower() == "none" else int(text)
        return float(text) if kind == "float" else text
    except ValueError:
        wanted = "a number" if kind == "float" else "a whole number"
        raise PlanError(f"{key} is `{printable(text)}`; it must be {wanted}.") from None
