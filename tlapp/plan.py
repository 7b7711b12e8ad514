"""Every setting of a run, validated, in one frozen value; and the policy that proposes one for a dataset.

The only room for default numbers. Knows the catalogue of backbones, never torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tlapp import catalog
from tlapp.dataset import Dataset, Split
from tlapp.errors import PlanError, printable

SCHEMA = 1


@dataclass(frozen=True)
class Augmentation:
    """How far each random change of a training photo may go. 0 switches it off.

    Attributes:
        crop: part of the photo's area that a random crop may leave out; 0.36 keeps 64 % to all of it.
        horizontal_flip, vertical_flip: probability that a view is mirrored.
        rotation: degrees to either side.
        zoom: fraction by which the photo may be scaled up or down.
        shift: fraction of a side by which it may be moved.
        brightness, contrast, saturation: fraction by which each may change.
        blur: largest standard deviation of a Gaussian blur, in pixels.
        erasing: probability that a random rectangle is painted grey.
    """

    crop: float = 0.36
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    blur: float = 0.0
    erasing: float = 0.0

    @property
    def is_off(self) -> bool:
        """Whether every view of a photo is the same."""
        return not any(dataclasses.astuple(self))


AUGMENTATIONS: dict[str, Augmentation] = {
    "off": Augmentation(crop=0.0, horizontal_flip=0.0),
    "light": Augmentation(),
    "medium": Augmentation(crop=0.5, rotation=10, brightness=0.2, contrast=0.2, saturation=0.2),
    "strong": Augmentation(
        crop=0.7, rotation=20, zoom=0.1, shift=0.1, brightness=0.4, contrast=0.4, saturation=0.4, blur=1.0, erasing=0.25
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All that decides a run, beside the photos.

    Attributes:
        backbone: a name of `catalog.BACKBONES`.
        weights: path of a weights file for the backbone; empty: the published ones.
        frozen: blocks that do not learn, any set of the backbone's.
        solver: "sgd": AdamW on cached activations.
        augmentation: see `Augmentation`.
        views: augmented views of each photo that are drawn beforehand where activations are cached.
        test_fraction: part of the photos held back as test photos where the folder has no split.
        validation_fraction: part of the remaining photos that choices are made on.
        split_seed: seed of both; None: `seed`.
        head_rate: learning rate of the head while it alone learns.
        fine_tune_rate: learning rate of the last unfrozen block, and of the head beside it.
        rate_decay: factor on that rate for each block further from the head.
        epochs: passes over the training photos, at most.
        head_epochs: how many of them train the head alone, first, where blocks are unfrozen (at most half).
        batch_size: photos a step.
        dropout: probability with which the head ignores a feature while learning.
        weight_decay: AdamW's, on weights (not biases or BatchNorm).
        label_smoothing: part of the target spread over all classes.
        class_weighting: "balanced": rare classes count as much as common ones; "none".
        patience: epochs without a lower validation loss before the run ends; 0: never early.
        cache_mb: megabytes that cached activations may take.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
    """

    backbone: str
    frozen: tuple[str, ...]
    weights: str = ""
    solver: str = "sgd"
    augmentation: Augmentation = field(default_factory=Augmentation)
    views: int = 4
    test_fraction: float = 0.2
    validation_fraction: float = 0.2
    split_seed: int | None = None
    head_rate: float = 1e-3
    fine_tune_rate: float = 3e-4
    rate_decay: float = 0.5
    epochs: int = 40
    head_epochs: int = 10
    batch_size: int = 32
    dropout: float = 0.2
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    class_weighting: str = "none"
    patience: int = 10
    cache_mb: int = 1024
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_types(self)
        _check_types(self.augmentation, "augmentation.")
        blocks = catalog.get(self.backbone).block_names
        unknown = [name for name in self.frozen if name not in blocks]
        if unknown:
            raise PlanError(
                f"{self.backbone} has no block `{printable(unknown[0])}` to freeze. Its blocks are "
                f"{', '.join(blocks)}; `all` and `none` work too."
            )
        object.__setattr__(self, "frozen", tuple(name for name in blocks if name in self.frozen))
        _choice("solver", self.solver, ("sgd",))
        _choice("class_weighting", self.class_weighting, ("none", "balanced"))
        _choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        for name, (low, high) in RANGES.items():
            owner: Any = self.augmentation if name.startswith("augmentation.") else self
            value = getattr(owner, name.rpartition(".")[2])
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise PlanError(f"{name} is {value:g}; it must be from {low:g} to {high:g}.")
        if self.test_fraction + self.validation_fraction > 0.8:
            raise PlanError("test_fraction and validation_fraction leave too few photos to train on; lower one.")

    @property
    def learning(self) -> tuple[str, ...]:
        """The blocks that learn beside the head, from the input on."""
        return tuple(name for name in catalog.get(self.backbone).block_names if name not in self.frozen)

    @property
    def head_only(self) -> bool:
        """Whether all blocks are frozen (feature extraction)."""
        return not self.learning

    @property
    def n_head_epochs(self) -> int:
        """Epochs in which the head alone learns."""
        return self.epochs if self.head_only else min(self.head_epochs, self.epochs // 2)

    def split(self, dataset: Dataset) -> Split:
        """The dataset's photos divided as this plan says. Raises DataError."""
        seed = self.seed if self.split_seed is None else self.split_seed
        return dataset.split(self.test_fraction, self.validation_fraction, seed)

    def with_settings(self, settings: dict[str, str]) -> Plan:
        """A copy with settings given as text, as in `--set head_rate=0.01 augmentation=off`. Raises PlanError."""
        plan = self
        for key, text in settings.items():
            plan = plan._with(key, text)
        return plan

    def _with(self, key: str, text: str) -> Plan:
        if key == "augmentation":
            _choice(key, text, tuple(AUGMENTATIONS))
            return dataclasses.replace(self, augmentation=AUGMENTATIONS[text])
        if key == "frozen":
            return dataclasses.replace(self, frozen=read_frozen(self.backbone, text))
        prefix, _, name = key.rpartition(".")
        owner: Any = self.augmentation if prefix == "augmentation" else self
        types = {f.name: str(f.type) for f in dataclasses.fields(owner)}
        if prefix not in ("", "augmentation") or name not in types or name == "backbone":
            names = [f.name for f in dataclasses.fields(Plan) if f.name != "backbone"]
            names += [f"augmentation.{f.name}" for f in dataclasses.fields(Augmentation)]
            near = difflib.get_close_matches(key, names, 1)
            hint = f"Did you mean {near[0]}?" if near else f"The settings are {', '.join(names)}."
            raise PlanError(f"There is no setting `{printable(key)}`. {hint}")
        changed = dataclasses.replace(owner, **{name: _parse(key, text, types[name])})
        return dataclasses.replace(self, augmentation=changed) if prefix else changed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the schema's number."""
        return {"schema": SCHEMA, **dataclasses.asdict(self), "frozen": list(self.frozen)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """The inverse of `to_dict`. Raises PlanError on anything else."""
        values = dict(values)
        schema = values.pop("schema", SCHEMA)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise PlanError("This plan was written by a newer version of tlapp. Update tlapp to read it.")
        try:
            values["augmentation"] = Augmentation(**values.get("augmentation", {}))
            values["frozen"] = tuple(values["frozen"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise PlanError(f"This is not a plan that tlapp can read ({error}).") from error

    def to_json(self) -> str:
        """Readable JSON of `to_dict`."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`. Raises PlanError."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise PlanError(f"This is not a plan that tlapp can read ({error}).") from error
        if not isinstance(values, dict):
            raise PlanError("This is not a plan that tlapp can read (not an object).")
        return cls.from_dict(values)


RANGES: dict[str, tuple[float, float]] = {
    "views": (1, 64),
    "test_fraction": (0.05, 0.5),
    "validation_fraction": (0.05, 0.5),
    "head_rate": (1e-7, 10),
    "fine_tune_rate": (1e-7, 10),
    "rate_decay": (0.01, 1),
    "epochs": (1, 10_000),
    "head_epochs": (0, 10_000),
    "batch_size": (1, 1024),
    "dropout": (0, 0.95),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.9),
    "patience": (0, 10_000),
    "cache_mb": (0, 1_000_000),
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


def suggest(dataset: Dataset, backbone: str = "auto") -> Plan:
    """A plan that suits the dataset: feature extraction, lightly augmented.

    Fewer than 50 photos get more views and smaller batches, so that an epoch still has some steps; more than 1,000
    get fewer views, as each adds less. A class three times as large as another turns class weighting on. All of
    this counts the photos that are not for testing alone.
    """
    chosen = catalog.choose(backbone).backbone
    by_class = Counter(photo.label for photo in dataset.photos if photo.side != "test")
    n, counts = by_class.total(), by_class.values()
    if n == len(dataset.photos):  # the test photos are still to be drawn, from every class alike
        n = round(n * (1 - Plan.test_fraction))
    return Plan(
        backbone=chosen.name,
        frozen=chosen.block_names,
        views=8 if n < 50 else 4 if n <= 1000 else 2,
        batch_size=8 if n < 50 else 32,
        class_weighting="balanced" if max(counts) >= 3 * min(counts) else "none",
    )


def read_frozen(backbone: str, text: str) -> tuple[str, ...]:
    """`all`, `none` or names with commas → names of blocks. The Plan checks them."""
    if text == "all":
        return catalog.get(backbone).block_names
    return tuple(name.strip() for name in text.split(",") if name.strip() and text != "none")


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PlanError(f"{name} is `{printable(str(value))}`; it must be {' or '.join(allowed)}.")


def _check_types(owner: Any, prefix: str = "") -> None:
    """Hold every field to its declared type, since plans come from JSON files too."""
    for f in dataclasses.fields(owner):
        value, kind = getattr(owner, f.name), str(f.type)
        right = {
            "str": isinstance(value, str),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
            "int | None": value is None or (isinstance(value, int) and not isinstance(value, bool)),
            "tuple[str, ...]": isinstance(value, tuple) and all(isinstance(name, str) for name in value),
            "Augmentation": isinstance(value, Augmentation),
        }[kind]
        if not right:
            raise PlanError(f"{prefix}{f.name} is {value!r}; it must be of type {kind}.")


def _parse(key: str, text: str, kind: str) -> Any:
    try:
        if kind.startswith("int"):
            return None if kind.endswith("None") and text.lower() == "none" else int(text)
        return float(text) if kind == "float" else text
    except ValueError:
        wanted = "a number" if kind == "float" else "a whole number"
        raise PlanError(f"{key} is `{printable(text)}`; it must be {wanted}.") from None
