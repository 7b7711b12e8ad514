"""Every setting of a run, validated, in one frozen value; and the policy that proposes one for a dataset.

The only room for default numbers. Knows the catalogue of backbones, never torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tlapp import catalog, schema
from tlapp.dataset import Dataset, Split
from tlapp.errors import PlanError, printable, some
from tlapp.settings import CHOICES, EXACT_ONLY, RANGES, SGD_ONLY, check_choice, check_range, check_types, parse


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
        learned: what the photos are known by (`lineage.known_by`) that these weights have learned from: never drawn for
            a test.
        frozen: blocks that do not learn, any set of the backbone's.
        solver: "exact": the head alone, fitted to its optimum on cached features. "auto": that, then fine-tuning of
            the last stage, kept only if validation accuracy clearly improves. "sgd": AdamW, whatever is frozen.
        head: of an exact fit: "ridge", "logistic", or "auto": whichever cross-validation prefers.
        depth: what an exact head sees: "last": the last block's features; "several": those of the last stage and
            what feeds it; "auto": several where cross-validation prefers them.
        mirror: answers for a photo and its mirror image are averaged: "on", "off", or "auto": where
            cross-validation prefers it (exact heads; else off).
        l2: strength of an exact head's L2 penalty, per photo; 0: chosen by cross-validation. A ridge head takes what
            is below about 1e-4 as that.
        framing: how a photo fills the network's square: "crop": its middle, what is longer is cut off; "letterbox": all
            of it, with grey bars beside. Holds for every view of a photo, in training, scores and answers.
        augmentation: see `Augmentation`.
        views: views of each photo that are drawn beforehand where activations are cached.
        test_fraction: part of the photos held back as test photos where the folder has no split.
        validation_fraction: part of the remaining photos that choices are made on.
        split_seed: seed of both; None: `seed`.
        draw: how photos are drawn for a part: "content" or "order", see `Dataset.split`.
        split_by: "photo", or "folder": sub-folders of the classes are drawn whole.
        head_rate: learning rate of the head while it alone learns.
        fine_tune_rate: learning rate of the last unfrozen block, and of the head beside it.
        rate_decay: factor on that rate for each block further from the head.
        schedule: "constant", or "cosine": rates fall to zero over the epochs of a phase.
        warm_up: epochs at the start of a phase in which the rates rise from zero.
        epochs: passes over the training photos, at most.
        head_epochs: how many of them train the head alone, first, where blocks are unfrozen (at most half).
        batch_size: photos a step.
        dropout: probability with which the head ignores a feature while learning.
        weight_decay: AdamW's, on weights (not biases or BatchNorm).
        label_smoothing: part of the target spread over all classes.
        class_weighting: "balanced": rare classes count as much as common ones in the loss; "none".
        sampling: "shuffled": every photo once an epoch; "balanced": drawn so that each class comes as often.
        batchnorm: "fixed": unfrozen blocks keep their BatchNorm statistics; "learned": they are measured anew.
        patience: epochs without a lower validation loss before the run ends; 0: never early.
        precision: of the frozen part: "float32", "bfloat16", "float16", or "auto": the quickest on the machine.
        cache_mb: megabytes of memory that cached activations may take.
        disk_mb: megabytes of disk that they may take beyond.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
    """

    backbone: str
    frozen: tuple[str, ...]
    weights: str = ""
    learned: tuple[str, ...] = ()
    solver: str = "sgd"
    head: str = "auto"
    depth: str = "auto"
    mirror: str = "auto"
    l2: float = 0.0
    framing: str = "crop"
    augmentation: Augmentation = field(default_factory=Augmentation)
    views: int = 4
    test_fraction: float = 0.2
    validation_fraction: float = 0.2
    split_seed: int | None = None
    split_by: str = "photo"
    draw: str = "content"
    head_rate: float = 1e-3
    fine_tune_rate: float = 3e-4
    rate_decay: float = 0.5
    schedule: str = "constant"
    warm_up: int = 0
    epochs: int = 40
    head_epochs: int = 10
    batch_size: int = 32
    dropout: float = 0.2
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    class_weighting: str = "none"
    sampling: str = "shuffled"
    batchnorm: str = "fixed"
    patience: int = 10
    precision: str = "auto"
    cache_mb: int = 64
    disk_mb: int = 4096
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        check_types(self.augmentation, "augmentation.")
        blocks = catalog.get(self.backbone).block_names
        unknown = [name for name in self.frozen if name not in blocks]
        if unknown:
            raise PlanError(
                f"{self.backbone} has no block `{printable(unknown[0])}` to freeze. Its blocks are "
                f"{', '.join(blocks)}; `all` and `none` work too."
            )
        object.__setattr__(self, "frozen", tuple(name for name in blocks if name in self.frozen))
        if not all(re.fullmatch("[0-9a-f]{12}", one) for one in self.learned):
            raise PlanError("learned holds what is not the beginning of a photo's SHA-256, 12 digits.")
        for name, allowed in CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if self.solver != "sgd" and self.learning:
            raise PlanError(
                f"The solver {self.solver} needs all blocks frozen, but {self.learning[0]} is not. Freeze all, or set "
                "solver to sgd."
            )
        for name in RANGES:
            owner: Any = self.augmentation if name.startswith("augmentation.") else self
            check_range(name, getattr(owner, name.rpartition(".")[2]))
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

    @property
    def is_instant(self) -> bool:
        """Whether this is the plan of an instant model."""
        return self == instant_of(self)

    def split(self, dataset: Dataset) -> Split:
        """The dataset's photos divided as this plan says. Raises DataError."""
        seed = self.seed if self.split_seed is None else self.split_seed
        return dataset.split(self.test_fraction, self.validation_fraction, seed, self.split_by, self.learned, self.draw)

    def with_settings(self, settings: dict[str, str]) -> Plan:
        """A copy with settings given as text, as in `--set head_rate=0.01 augmentation=off`. Raises PlanError.

        The solver follows where it is not given: sgd for settings that only it heeds and for unfrozen blocks,
        exact where all blocks are frozen by name.
        """
        plan, settings = self, dict(settings)
        only_sgd = next((key for key in settings if key in SGD_ONLY), None)
        only_exact = next((key for key in settings if key in EXACT_ONLY), None)
        if "solver" not in settings and only_sgd:
            settings["solver"] = "sgd"
        elif "solver" not in settings and "frozen" in settings:
            is_all = set(read_frozen(self.backbone, settings["frozen"])) == set(catalog.get(self.backbone).block_names)
            settings["solver"] = "exact" if is_all else "sgd"
        solver = settings.get("solver", self.solver)
        foreign = only_exact if solver == "sgd" else only_sgd
        if foreign:
            raise PlanError(f"{foreign} does not go with the solver {solver}, which has no use for it. Leave one out.")
        for key in sorted(settings, key="solver".__eq__, reverse=True):  # the solver says what else fits
            text = settings[key]
            plan = plan._with(key, text)
        return plan

    def _with(self, key: str, text: str) -> Plan:
        if key == "augmentation":
            check_choice(key, text, tuple(AUGMENTATIONS))
            return dataclasses.replace(self, augmentation=AUGMENTATIONS[text])
        if key == "frozen":
            return dataclasses.replace(self, frozen=read_frozen(self.backbone, text))
        prefix, _, name = key.rpartition(".")
        owner: Any = self.augmentation if prefix == "augmentation" else self
        types = {f.name: str(f.type) for f in dataclasses.fields(owner)}
        if prefix not in ("", "augmentation") or name not in types or name in ("backbone", "learned"):
            names = [f.name for f in dataclasses.fields(Plan) if f.name not in ("backbone", "learned")]
            names += [f"augmentation.{f.name}" for f in dataclasses.fields(Augmentation)]
            near = difflib.get_close_matches(key, names, 1)
            hint = f"Did you mean {near[0]}?" if near else f"The settings are {', '.join(names)}."
            raise PlanError(f"There is no setting `{printable(key)}`. {hint}")
        changed = dataclasses.replace(owner, **{name: parse(key, text, types[name])})
        return dataclasses.replace(self, augmentation=changed) if prefix else changed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the schema's number."""
        lists = {"frozen": list(self.frozen), "learned": list(self.learned)}
        return {"schema": schema.PLAN, **dataclasses.asdict(self), **lists}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """The inverse of `to_dict`. Raises PlanError on anything else."""
        try:
            values = schema.upgraded(values, "plan")
            del values["schema"]
            values["augmentation"] = Augmentation(**values.get("augmentation", {}))
            values["frozen"], values["learned"] = tuple(values["frozen"]), tuple(values.get("learned", ()))
            return cls(**values)
        except schema.NewerError as error:
            raise PlanError("This plan was written by a newer version of tlapp. Update tlapp to read it.") from error
        except (TypeError, KeyError, ValueError) as error:
            raise PlanError(f"This is not a plan that tlapp can read ({error}).") from error

    def flat(self) -> dict[str, Any]:
        """Every setting by name, to be shown: "augmentation.crop" and so on; of `learned`, how many."""
        values = {name: value for name, value in self.to_dict().items() if name not in ("schema", "augmentation")}
        inner = {f"augmentation.{name}": value for name, value in dataclasses.asdict(self.augmentation).items()}
        return values | {"learned": len(self.learned)} | inner

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


def suggest(dataset: Dataset, backbone: str = "auto") -> Plan:
    """The plan that suits the dataset: an exact head on a few lightly augmented views, then the last stage fine-tuned.

    At most 100 photos get more views, as they cost little there, and smaller batches, so that an epoch still has some
    steps. A class `UNEVEN` times as large as another turns class weighting on. All of this counts the photos that are
    not for testing alone.
    """
    chosen = catalog.choose(backbone).backbone
    by_class = Counter(photo.label for photo in dataset.photos if photo.side != "test")
    n, counts = by_class.total(), by_class.values()
    if n == len(dataset.photos):  # the test photos are still to be drawn, from every class alike
        n = round(n * (1 - Plan.test_fraction))
    return Plan(
        backbone=chosen.name,
        frozen=chosen.block_names,
        solver="auto",
        views=8 if n <= 100 else 4,
        batch_size=8 if n < 50 else 32,
        class_weighting="balanced" if max(counts) >= UNEVEN * min(counts) else "none",
    )


UNEVEN = 3
"""How many times as many photos of one class as of another turn class weighting on."""


def uneven(dataset: Dataset) -> str:
    """A sentence on what is done where a class has far more photos than another, else nothing."""
    counts = Counter(photo.label for photo in dataset.photos if photo.side != "test")
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] < UNEVEN * counts[least]:
        return ""
    few = some([dataset.classes[least]])
    return (
        f"{some([dataset.classes[most]])} has {counts[most] / counts[least]:.0f} times as many photos as {few}. "
        "Class weighting is suggested, so that each class counts the same in training (under More in 2 Train); more "
        f"photos of {few} help more."
    )


def instant(dataset: Dataset, backbone: str = "auto") -> Plan:
    """The quickest plan there is: one plain view of each photo through the frozen network, and a ridge head."""
    return instant_of(suggest(dataset, backbone))


def instant_of(plan: Plan) -> Plan:
    """The instant model that a run of this plan is compared with: the same photos, framing, split and network."""
    return Plan(
        plan.backbone, catalog.get(plan.backbone).block_names, plan.weights, plan.learned, solver="exact", head="ridge",
        mirror="off", framing=plan.framing, augmentation=AUGMENTATIONS["off"], test_fraction=plan.test_fraction,
        validation_fraction=plan.validation_fraction, split_seed=plan.split_seed, split_by=plan.split_by,
        draw=plan.draw, seed=plan.seed, class_weighting=plan.class_weighting, precision=plan.precision,
        cache_mb=plan.cache_mb, disk_mb=plan.disk_mb, device=plan.device,
    )  # fmt: skip


WORTH_TUNING = 100
"""Photos to train on below which auto does not try to fine-tune: with 50 it gained nothing."""


def too_few_to_tune(plan: Plan, n_train: int) -> str:
    """A sentence where auto does not try to fine-tune with so few training photos, else nothing."""
    if plan.solver != "auto" or n_train >= WORTH_TUNING:
        return ""
    entry = catalog.get(plan.backbone)
    tail = ", ".join(entry.block_names[-entry.tail :])
    return f"With {n_train} training photos {tail} is not fine-tuned; from {WORTH_TUNING} on that is tried."


def tuning(plan: Plan) -> Plan:
    """What auto does after its exact head: the last stage by AdamW, for a few epochs."""
    entry = catalog.get(plan.backbone)
    return dataclasses.replace(
        plan, solver="sgd", frozen=entry.before_tail, epochs=12, head_epochs=0, patience=4, dropout=0.0,
        batch_size=min(16, plan.batch_size), fine_tune_rate=Plan.fine_tune_rate, mirror="off",
    )  # fmt: skip


def read_frozen(backbone: str, text: str) -> tuple[str, ...]:
    """`all`, `none` or names with commas → names of blocks. The Plan checks them."""
    if text == "all":
        return catalog.get(backbone).block_names
    return tuple(name.strip() for name in text.split(",") if name.strip() and text != "none")
