"""How long a run will take and how many numbers it will learn, before it starts.

`speed` times a backbone on this machine; `seconds` then counts what `recipe`, `train` and `sitting` do with a plan, so
it changes with them. Knows no photos, only how many there are.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from dataclasses import dataclass

from tlapp import catalog, footprint, recipe, speed
from tlapp import plan as plans
from tlapp.features import draws, plan_cache
from tlapp.footprint import Footprint
from tlapp.plan import Augmentation, Plan
from tlapp.speed import Speed

# Trained blocks take 32 photos at a time where the probe can afford 8. On a processor the early ones, whose
# activations are large, then take longer per photo: 1.1 (ResNets) to 2 times (EfficientNet); the later ones do not.
LARGE = 70_000
LARGE_BATCH = 1.3
# Forward and backward, in forwards. The gradients of a layer's input and of its weights cost one forward each, a
# BatchNorm in train mode somewhat more: on one idle core ResNets took 2.8 to 3.5, EfficientNet-Lite0 3.4 to 4.3 (its
# last blocks 2.7 to 3.5), without gradients of the weights 2.1 and 2.8. Not timed: one block says less of the whole.
LEARNING = 3.3
PASSING_THROUGH = 2.4
# Views, in views of the augmentation "light": turning and colours cost most, then blurring.
VIEWS = {"off": 0.3, "light": 1.0, "medium": 4.0, "strong": 6.5}
LETTERBOX = 1.6  # what resizing all of a photo adds, in the same views: photos are kept at the size that crops need
LOADING = 0.7  # seconds: weights read and checked, the model written and checked
EPOCH = 0.03  # seconds: events and two small files, each brought safely to the disk
STEP = 0.0015  # seconds: forward and backward of the head alone, any batch
ADAMW = 5e-9  # seconds per number and step
FITTING = 1e-3  # seconds per view: choosing and fitting an exact head
SAVING = 4e-9  # seconds per byte copied, hashed and written


def probe(plan: Plan) -> Speed:
    """The speed of the plan's backbone on the plan's device, measured once in this process."""
    return speed.measure(catalog.get(plan.backbone), plan.device)


def seconds(plan: Plan, n_train: int, n_validation: int, n_test: int, speed: Speed) -> float:
    """Seconds that a run takes at most (all its epochs, on an idle machine) with so many photos of each kind."""
    entry = catalog.get(plan.backbone)
    plain, whole = _plain(plan, speed), sum(speed.frozen)
    scoring = LOADING + n_test * (plain + sum(speed.blocks))
    if plan.solver == "sgd":
        return scoring + (n_train + n_validation) * (plain + whole) + _trained(plan, n_train, n_validation, speed)
    n, n_views = n_train + n_validation, len(draws(plan, plan.views))
    exact = n * (n_views * whole + min(n_views, 2) * plain + max(0, n_views - 2) * _drawn(plan, speed))
    exact += FITTING * n * n_views
    if not recipe.tries_tuning(entry, plan, n_train, n_validation, speed.itemsize):
        return scoring + exact
    tuning = plans.tuning(plan)
    tail = sum(speed.blocks[-entry.tail :])
    steps = math.ceil(n_train / tuning.batch_size) * (STEP + ADAMW * learned(tuning, 0))
    epoch = 2 * (EPOCH + steps) + (n_train + n) * LEARNING * tail + n_validation * tail  # again on all if it is kept
    return scoring + exact + tuning.epochs * (epoch + 16 * SAVING * learned(tuning, 0))


def _drawn(plan: Plan, speed: Speed) -> float:
    return speed.view * (VIEWS[_kind(plan.augmentation)] + LETTERBOX * (plan.framing == "letterbox"))


def _plain(plan: Plan, speed: Speed) -> float:
    return _drawn(dataclasses.replace(plan, augmentation=plans.AUGMENTATIONS["off"]), speed)


def _trained(plan: Plan, n_train: int, n_validation: int, speed: Speed) -> float:
    """What `train` takes with a plan of the solver sgd."""
    entry = catalog.get(plan.backbone)
    names, prefix = entry.block_names, _prefix(plan)
    before = sum(speed.frozen[:prefix])
    drawn, plain = _drawn(plan, speed), _plain(plan, speed)
    cached = plan_cache(entry, plan, prefix, n_train, n_validation, speed.itemsize).views
    head, fine = epochs(plan, n_train, n_validation, speed)

    def pass_over(n_views: int, blocks: float) -> float:
        """Training and validation photos drawn and run through."""
        return n_views * n_train * (drawn + blocks) + n_validation * (plain + blocks)

    total = pass_over(cached, before) if cached else 0
    if plan.n_head_epochs and not plan.head_only:
        n_views = max(1, plan_cache(entry, plan, len(names), n_train, n_validation).views)
        rest = sum(speed.frozen[prefix:])
        total += (cached * n_train + n_validation) * rest if cached else pass_over(n_views, before + rest)
    return total + plan.n_head_epochs * head + (plan.epochs - plan.n_head_epochs) * fine


def epochs(plan: Plan, n_train: int, n_validation: int, speed: Speed) -> tuple[float, float]:
    """Seconds of an epoch of gradient descent: while the head learns alone, and while blocks learn."""
    entry = catalog.get(plan.backbone)
    names, prefix = entry.block_names, _prefix(plan)
    slower = [LARGE_BATCH if block.elements > LARGE else 1 for block in entry.blocks]
    blocks = list(map(operator.mul, speed.blocks, slower))
    backward = [PASSING_THROUGH if name in plan.frozen else LEARNING for name in names]
    learning, tail = sum(map(operator.mul, blocks[prefix:], backward[prefix:])), sum(blocks[prefix:])
    steps, n_bytes = math.ceil(n_train / plan.batch_size), 4 * learned(plan, 0)
    again = 0.0
    if not plan_cache(entry, plan, prefix, n_train, n_validation, speed.itemsize).views:
        before = sum(speed.frozen[:prefix])
        again = n_train * (_drawn(plan, speed) + before) + n_validation * (_plain(plan, speed) + before)
    head = EPOCH + steps * STEP + 2 * SAVING * n_bytes + again * plan.head_only
    fine = EPOCH + steps * (STEP + ADAMW * n_bytes / 4) + 4 * SAVING * n_bytes
    return head, fine + again + n_train * learning + n_validation * tail


def _prefix(plan: Plan) -> int:
    """How many blocks from the pixels on are frozen without a gap."""
    names = catalog.get(plan.backbone).block_names
    return next((i for i, name in enumerate(names) if name not in plan.frozen), len(names))


@dataclass(frozen=True)
class Cost:
    """What a choice of blocks costs: numbers that are learned, seconds of an epoch, bytes of memory in a step."""

    numbers: int
    seconds: float
    memory: float


def cost(plan: Plan, n_classes: int, n_train: int, n_validation: int, speed: Speed) -> Cost:
    """What gradient descent costs with the plan's ticks, whatever its solver.

    Memory is what backward needs of a batch, and four numbers for each that learns: itself, its gradient and AdamW's
    two moments.
    """
    told = dataclasses.replace(plan, solver="sgd")
    head, fine = epochs(told, n_train, n_validation, speed)
    numbers = learned(told, n_classes)
    held = sum(speed.held[_prefix(told) :]) * min(plan.batch_size, n_train)
    return Cost(numbers, head if told.head_only else fine, held + 16 * numbers)


def learned(plan: Plan, n_classes: int) -> int:
    """How many numbers a run of this plan learns at most: the head's and those of the blocks that are not frozen."""
    entry = catalog.get(plan.backbone)
    features = entry.features if plan.solver == "sgd" or plan.depth == "last" else entry.depth_features
    return (features + 1) * n_classes + sum(b.parameters for b in entry.blocks if b.name not in plan.frozen)


def written(plan: Plan, n_classes: int, n_train: int, n_validation: int, n_test: int, itemsize: int = 4) -> Footprint:
    """What a run of the plan writes at most, with what it caches on the disk at `itemsize` bytes a number."""
    entry = catalog.get(plan.backbone)
    if plan.solver == "sgd":
        cached = plan_cache(entry, plan, _prefix(plan), n_train, n_validation, itemsize)
    else:
        cached = recipe.cache_plan(entry, plan, n_train, n_validation, itemsize)[1]
    n_photos = n_train + n_validation + n_test
    return footprint.of_run(plan, n_classes, n_photos, cached.megabytes if cached.on_disk else 0)


def in_words(seconds: float) -> str:
    """A time as coarse as an estimate is: "about 20 s", "about 2 min", "about 1 h 10 min"."""
    steps = ((5, 1), (30, 5), (55, 10), (570, 60), (3450, 300), (35_700, 600), (math.inf, 3600))
    step = next(step for limit, step in steps if seconds < limit)
    rounded = max(1, round(seconds / step) * step)
    if rounded < 60:
        return f"about {rounded} s"
    return f"about {rounded // 3600} h {rounded % 3600 // 60} min".replace(" 0 h", "").removesuffix(" 0 min")


def _kind(a: Augmentation) -> str:
    """The named augmentation that takes about as long as this one."""
    if a.is_off:
        return "off"
    turned = any((a.rotation, a.zoom, a.shift, a.brightness, a.contrast, a.saturation))
    return "strong" if a.blur else "medium" if turned else "light"
