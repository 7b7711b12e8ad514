"""A catalogue entry → a network: pretrained weights checked and read, a new head, blocks frozen.

Knows layers; knows nothing of photos, optimisers or runs. Fetching lives in `fetching`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tlapp import catalog, weightfile, workspace
from tlapp.catalog import Backbone
from tlapp.errors import WeightsError, printable
from tlapp.seeding import seeded

_FINAL = ("fc.", "classifier.", "_fc.")
_COUNT = "num_batches_tracked"
_HEAD = "head.linear.weight"


class SeededDropout(nn.Module):
    """Dropout with a generator of its own, so that no other thread's random numbers change a run."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.generator = torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        """Zero a part of (batch, features) and scale the rest, in training mode; else the identity."""
        if not self.training or self.probability == 0:
            return x
        keep = torch.rand(x.shape, generator=self.generator) >= self.probability
        return x * keep.to(x.device) / (1 - self.probability)


class Head(nn.Module):
    """Pooled features → class scores: signed square root, L2 norm, dropout, linear.

    The square root and norm are the "power normalisation" of Perronnin et al., ECCV 2010. Features of several
    depths lie side by side, `widths` of each, and are normalised apart. They come out with a root mean square of
    1, so that one learning rate suits every backbone.
    """

    _EPSILON = 1e-3  # bounds the square root's slope at zero

    def __init__(self, widths: Sequence[int], classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.widths = list(widths)
        self.dropout = SeededDropout(dropout)
        self.linear = nn.Linear(sum(widths), classes)
        nn.init.zeros_(self.linear.bias)

    def normalise(self, x: Tensor) -> Tensor:
        """(..., features) → the same shape, as the linear layer sees them."""
        x = x.sign() * ((x.abs() + self._EPSILON).sqrt() - self._EPSILON**0.5)
        parts = [nn.functional.normalize(part, dim=-1) * part.shape[-1] ** 0.5 for part in x.split(self.widths, -1)]
        return torch.cat(parts, -1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) → (batch, classes) logits."""
        return self.linear(self.dropout(self.normalise(x)))


class Classifier(nn.Module):
    """A backbone in named blocks with a head on the pooled outputs of its last block, or of all its `depths`.

    A frozen block has `requires_grad=False` and stays in eval mode whatever `train()` is called: its BatchNorm
    statistics never move and its output is a pure function of its input. With `fixed_statistics` those of the
    other blocks stay too, while their scales and shifts learn. With `mirror` the class scores are the mean of a
    photo's and its mirror image's, when classifying.
    """

    def __init__(
        self, entry: Backbone, blocks: list[nn.Module], n_classes: int, dropout: float = 0.0, several: bool = False
    ) -> None:
        super().__init__()
        self.entry = entry
        self.blocks = nn.ModuleDict(dict(zip(entry.block_names, blocks, strict=True)))
        self.depths = entry.depths if several else entry.depths[-1:]
        self.head = Head([entry.blocks[i].channels for i in self.depths], n_classes, dropout)
        self.frozen: frozenset[str] = frozenset()
        self.fixed_statistics = False
        self.mirror = False

    @property
    def several(self) -> bool:
        """Whether the head sees more than the last block."""
        return len(self.depths) > 1

    @property
    def n_blocks(self) -> int:
        """How many blocks stand before the head."""
        return len(self.blocks)

    @property
    def prefix(self) -> int:
        """How many blocks from the input on are frozen without a gap."""
        for i, name in enumerate(self.blocks):
            if name not in self.frozen:
                return i
        return self.n_blocks

    def renew_head(self, several: bool) -> None:
        """Put an untrained head on the last block, or on all depths."""
        classes, dropout = self.head.linear.out_features, self.head.dropout.probability
        self.depths = self.entry.depths if several else self.entry.depths[-1:]
        with seeded(0):
            new = Head([self.entry.blocks[i].channels for i in self.depths], classes, dropout)
        self.head = new.to(self.head.linear.weight.device)

    def freeze(self, names: Iterable[str]) -> None:
        """Freeze exactly these blocks and unfreeze the others; the head always learns."""
        self.frozen = frozenset(names)
        for name, block in self.blocks.items():
            block.requires_grad_(name not in self.frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode of all but what must not move: frozen blocks, and statistics that are fixed."""
        super().train(mode)
        for name in self.frozen:
            self.blocks[name].eval()
        if self.fixed_statistics:
            for module in self.blocks.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Blocks `start` to `stop` (exclusive); after the last one pooled to (batch, features)."""
        pooled = [pool(x)] if start - 1 in self.depths and stop == self.n_blocks else []
        for i, block in enumerate(list(self.blocks.values())[start:stop], start):
            x = block(x)
            if i in self.depths and stop == self.n_blocks:
                pooled.append(pool(x))
        return torch.cat(pooled, 1) if stop == self.n_blocks else x

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Input of block `start` (pooled features where start = n_blocks) → (batch, classes) logits.

        Features of several depths need `start` to be at or before the backbone's tail.
        """
        if start < self.n_blocks:
            x = self.run(x, start, self.n_blocks)
        return self.head(x)

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures → features as the head normalises them, and class scores, of the mirror image too with `mirror`."""
        seen = self.head.normalise(self.run(x, 0, self.n_blocks))
        scores = self.head.linear(seen)
        return seen, (scores + self(x.flip(3))) / 2 if self.mirror else scores

    def learned(self) -> dict[str, Tensor]:
        """A copy, on the CPU, of what training can change: unfrozen blocks with their buffers, and the head."""
        frozen = tuple(f"blocks.{name}." for name in self.frozen)
        return {
            k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, v in self.state_dict().items()
            if not k.startswith(frozen)
        }

    def restore(self, learned: dict[str, Tensor]) -> None:
        """Put back what `learned` gave."""
        self.load_state_dict(learned, strict=False)


def build(entry: Backbone, n_classes: int, *, dropout: float = 0.0, seed: int = 0, several: bool = False) -> Classifier:
    """The network without pretrained weights: to be filled, or for tests of shapes and freezing."""
    with seeded(seed):
        return Classifier(entry, _split(entry, _empty(entry)), n_classes, dropout, several)


def load(
    entry: Backbone,
    n_classes: int,
    *,
    weights: str | Path = "",
    dropout: float = 0.0,
    seed: int = 0,
    several: bool = False,
    classes: Sequence[str] = (),
) -> Classifier:
    """The network with pretrained weights and a new head; all in float32, on the CPU.

    Args:
        weights: a `.pth` or `.safetensors` file of this architecture, or of a run (`lineage.weights_of`); empty: the
            published weights, which must be on this machine and are hashed before they are read.
        classes: of the head; one that sees what that of the run saw begins with what that knew of classes of the same
            name.

    Raises:
        WeightsError: missing, damaged or foreign weights.
    """
    path = workspace.expand(weights) if weights else catalog.check_weights(entry)
    state = _read(path, entry)
    with seeded(seed):
        network = _empty(entry)
        if _HEAD in state:
            made = Classifier(entry, _split(entry, network), n_classes, dropout, several)
            _fill_from_run(made, state, entry, path, classes)
            return made
        _fill(network, state, entry, path)
        return Classifier(entry, _split(entry, network), n_classes, dropout, several)


def fold(block: nn.Module) -> None:
    """Merge each BatchNorm into the convolution before it, in place, for eval mode: the same function, faster."""
    before: tuple[str, nn.Module] | None = None
    for name, child in list(block.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None and isinstance(before[1], nn.Conv2d):
            setattr(block, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(block, name, getattr(child, "act", nn.Identity()))  # timm's BatchNorm carries its activation
            before = None
        else:
            fold(child)
            before = name, child


def pool(x: Tensor) -> Tensor:
    """(batch, channels, height, width) → the mean of each channel, float32 (batch, channels)."""
    return x.mean((2, 3), dtype=torch.float32)


def _empty(entry: Backbone) -> nn.Module:
    if entry.included:
        import timm

        return timm.create_model("tf_efficientnet_lite0", pretrained=False)
    import torchvision

    return torchvision.models.get_model(entry.name, weights=None)


def _split(entry: Backbone, network: nn.Module) -> list[nn.Module]:
    """The network's layers as the catalogue's blocks."""
    n: dict[str, nn.Module] = dict(network.named_children())
    if entry.included:
        stages = list(network.get_submodule("blocks").children())
        return [nn.Sequential(n["conv_stem"], n["bn1"]), *stages, nn.Sequential(n["conv_head"], n["bn2"])]
    stem = nn.Sequential(n["conv1"], n["bn1"], n["relu"], n["maxpool"])
    return [stem, n["layer1"], n["layer2"], n["layer3"], n["layer4"]]


def _read(path: Path, entry: Backbone) -> dict[str, Tensor]:
    shown = printable(str(path))
    state: Any
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"The weights file {shown} does not exist. Check the path.") from None
    except Exception as error:  # torch raises many kinds on damaged or unsafe files
        raise WeightsError(
            f"The weights file {shown} cannot be read: it is damaged or holds more than plain weights. "
            f"Give a state dict of {entry.title} as .pth or .safetensors."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"The weights file {shown} holds no state dict of {entry.title}.")
    return state


def _fill(network: nn.Module, state: dict[str, Tensor], entry: Backbone, path: Path) -> None:
    """Load all but the final classifier, which is replaced anyway; every other name and shape must match.

    BatchNorm's count of batches decides nothing here, and older files have none.
    """
    wanted = {k: v for k, v in network.state_dict().items() if not (k.startswith(_FINAL) or k.endswith(_COUNT))}
    given = {k.removeprefix("module."): v for k, v in state.items()}
    given = {k: v for k, v in given.items() if not (k.startswith(_FINAL) or k.endswith(_COUNT))}
    if entry.included and "_conv_stem.weight" in given:  # the package's names differ, its order is the same
        given = dict(zip(wanted, given.values(), strict=False)) if len(given) == len(wanted) else given
    wrong = [k for k, v in wanted.items() if k not in given or given[k].shape != v.shape]
    parts = {k.partition(".")[0] for k in wanted}
    wrong += [k for k in given if k not in wanted and k.partition(".")[0] in parts]  # of a deeper network
    if wrong:
        raise WeightsError(
            f"The weights file {printable(str(path))} is not of {entry.title}: `{wrong[0]}` is missing, has "
            f"another shape or is one too many. Choose the backbone the file was made for."
        )
    _check_finite(given, path)
    network.load_state_dict({k: given[k] for k in wanted}, strict=False)


def _check_finite(state: dict[str, Tensor], path: Path) -> None:
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise WeightsError(f"The weights file {printable(str(path))} holds numbers that are not finite.")


def _fill_from_run(
    model: Classifier, state: dict[str, Tensor], entry: Backbone, path: Path, classes: Sequence[str]
) -> None:
    """Load the blocks that a run delivered, and what its head knew of these classes."""
    wanted = {k: v for k, v in model.state_dict().items() if k.startswith("blocks.")}
    given = {k: v for k, v in state.items() if k.startswith("blocks.")}
    wrong = [k for k, v in wanted.items() if k not in given or given[k].shape != v.shape] + list(given.keys() - wanted)
    if wrong:
        raise WeightsError(
            f"The weights file {printable(str(path))} is not of {entry.title}: `{wrong[0]}` is missing, has another "
            "shape or is one too many. Choose the backbone the run was trained with."
        )
    _check_finite(state, path)
    model.load_state_dict(given, strict=False)
    before = weightfile.classes_of(path)
    weight, bias, linear = state[_HEAD], state.get("head.linear.bias"), model.head.linear
    if bias is None or weight.shape != (len(before), linear.in_features) or bias.shape != (len(before),):
        return
    with torch.no_grad():
        for place, name in enumerate(classes):
            if name in before:
                linear.weight[place] = weight[before.index(name)]
                linear.bias[place] = bias[before.index(name)]
