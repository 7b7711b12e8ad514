"""What else a person could use, each as its users use it, on the same backbone, files and threads.

- **plain**: the loop that tutorials teach: frozen backbone run through every epoch, random resized crop and flip, Adam
  1e-3 on a linear head, 10 epochs, BatchNorm left in train mode, last epoch taken. **strengthened**: the same with
  BatchNorm in eval mode, channels_last and bfloat16 autocast.
- **logistic**: scikit-learn's LogisticRegression (C = 1) behind a StandardScaler, on the pooled features of one plain
  view in float32. **logistic unscaled**: without the scaler.
- **timm**: its training script's way to fine-tune: whole network, AdamW 5e-4 with weight decay 0.05, cosine with one
  warm-up epoch, 10 epochs, label smoothing 0.1, crops of 35 % to all, RandAugment of magnitude 6, flip, batch 16.
- **fastai**: `vision_learner` with its own head and `fine_tune(5)`: one epoch of the head, five of all, base rate 2e-3,
  `aug_transforms()`, batch 16 (its default of 64 would leave the smallest draws without a single step).
- **full fine-tuning**: whole network, AdamW 1e-4, batch 32, float32, one epoch: a reference for memory alone.

All learn from every photo that is no test photo, as they choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks._photos import Folder, Item
from tlapp import catalog

EPOCHS, BATCH, RATE = 10, 16, 1e-3
FASTAI_EPOCHS = 5
ENTRY = catalog.get(catalog.INCLUDED)


@dataclass(frozen=True)
class Model:
    """A trained arm: `answers` classifies the folder's test photos; `measured` is what the arm itself has to tell."""

    answers: Callable[[], list[int]] | None
    measured: dict[str, Any] = field(default_factory=dict)


def batches(items: Sequence[Item], transform: Callable[..., Any], size: int, shuffle: bool = False) -> Any:
    """A DataLoader that decodes anew whenever asked, as an image folder does. A last batch of one photo is left out
    where the order is random, as BatchNorm cannot learn from it."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Files(Dataset):
        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, i: int) -> tuple[Any, int]:
            with Image.open(items[i].path) as picture:
                return transform(picture.convert("RGB")), items[i].label

    return DataLoader(Files(), size, shuffle=shuffle, drop_last=shuffle and len(items) % size == 1)


def transforms() -> tuple[Any, Any]:
    """torchvision's usual ones: a random crop and flip to learn from, the centre to look at."""
    import torch
    from torchvision.transforms import v2

    finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(ENTRY.mean, ENTRY.std)]
    mode = v2.InterpolationMode(ENTRY.interpolation)
    learn = v2.Compose([v2.RandomResizedCrop(ENTRY.crop, interpolation=mode), v2.RandomHorizontalFlip(), *finish])
    look = v2.Compose([v2.Resize(ENTRY.resize, mode), v2.CenterCrop(ENTRY.crop), *finish])
    return learn, look


def body(pooled: bool = True) -> Any:
    """The included backbone with its published weights, and the average over places, as one module."""
    from torch import nn

    from tlapp import backbones

    blocks = backbones.load(ENTRY, 2).blocks.values()
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else [nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*blocks, *pool)


def classify(forward: Callable[[Any], Any], items: Sequence[Item], transform: Any) -> list[int]:
    """The best class of each photo."""
    import torch

    answers: list[int] = []
    with torch.no_grad():
        for inputs, _ in batches(items, transform, BATCH):
            answers += forward(inputs).argmax(1).tolist()
    return answers


def plain(folder: Folder, seed: int, epochs: int | None, strengthened: bool = False) -> Model:
    """The tutorials' loop."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    learn, look = transforms()
    backbone = body().requires_grad_(False)
    model = nn.Sequential(backbone, nn.Linear(ENTRY.features, len(folder.classes)))
    if strengthened:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model[1].parameters(), lr=RATE)

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        if not strengthened:
            return model(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            features = backbone(inputs.contiguous(memory_format=torch.channels_last))
        return model[1](features.float())

    for _ in range(epochs or EPOCHS):
        model.train()
        if strengthened:
            backbone.eval()
        _epoch(forward, batches(folder.learn, learn, BATCH, shuffle=True), optimizer, nn.functional.cross_entropy)
    model.eval()
    return Model(lambda: classify(forward, folder.test, look))


def logistic(folder: Folder, seed: int, epochs: int | None, scaled: bool = True) -> Model:
    """scikit-learn on pooled features; nothing in it is random."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    backbone, (_, look) = body().eval(), transforms()

    def features(items: Sequence[Item]) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([backbone(inputs).numpy() for inputs, _ in batches(items, look, 32)])

    head = LogisticRegression(max_iter=1000)
    head = make_pipeline(StandardScaler(), head) if scaled else head
    head.fit(features(folder.learn), [item.label for item in folder.learn])
    return Model(lambda: head.predict(features(folder.test)).tolist())


def timm_recipe(folder: Folder, seed: int, epochs: int | None) -> Model:
    """timm's parts put together as its training script does."""
    import timm
    import torch
    from timm.data import create_transform, resolve_data_config
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from torch import nn

    from tlapp import backbones

    torch.manual_seed(seed)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=len(folder.classes))
    blocks = backbones.load(ENTRY, 2).blocks  # the same weights for every arm
    network.conv_stem, network.bn1 = blocks["stem"]
    network.blocks = nn.Sequential(*(blocks[name] for name in ENTRY.block_names[1:-1]))
    network.conv_head, network.bn2 = blocks["top"]
    config = resolve_data_config({}, model=network)
    learn = create_transform(**config, is_training=True, scale=(0.35, 1.0), auto_augment="rand-m6-mstd0.5-inc1")
    look = create_transform(**config)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=5e-4, weight_decay=0.05)
    loader = batches(folder.learn, learn, BATCH, shuffle=True)
    n = epochs or EPOCHS
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=n, warmup_epochs=min(1, n - 1), warmup_lr=1e-5, step_on_epochs=False,
        updates_per_epoch=len(loader),
    )  # fmt: skip
    for epoch in range(n):
        network.train()
        first = epoch * len(loader)
        _epoch(
            network, loader, optimizer, LabelSmoothingCrossEntropy(0.1), lambda i, f=first: scheduler.step_update(f + i)
        )
    network.eval()
    return Model(lambda: classify(network, folder.test, look))


def fastai_recipe(folder: Folder, seed: int, epochs: int | None) -> Model:
    """fastai's first lesson, on this backbone; validation is left out, as it would only cost time."""
    from fastai.vision.all import (
        Callback,
        CancelValidException,
        CategoryBlock,
        DataBlock,
        ImageBlock,
        IndexSplitter,
        Normalize,
        Resize,
        aug_transforms,
        set_seed,
        vision_learner,
    )  # fmt: skip

    class NoValidation(Callback):
        def before_validate(self) -> None:
            raise CancelValidException

    set_seed(seed)
    names = {item.path: folder.classes[item.label] for item in folder.learn}
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(folder.classes))),
        get_y=lambda path: names[path],
        splitter=IndexSplitter([]),
        item_tfms=Resize(ENTRY.resize),
        batch_tfms=[*aug_transforms(size=ENTRY.crop), Normalize.from_stats(ENTRY.mean, ENTRY.std)],
    )
    loaders = block.dataloaders(list(names), bs=BATCH, num_workers=0, device="cpu")
    learner = vision_learner(loaders, lambda pretrained: body(pooled=False), path=folder.root)
    with learner.no_bar(), learner.no_logging():
        learner.add_cb(NoValidation())
        learner.fine_tune(epochs or FASTAI_EPOCHS, base_lr=2e-3)
        learner.remove_cb(NoValidation)

    def answers() -> list[int]:
        with learner.no_bar(), learner.no_logging():
            test = loaders.test_dl([item.path for item in folder.test])
            return learner.get_preds(dl=test)[0].argmax(1).tolist()

    return Model(answers)


def full_fine_tuning(folder: Folder, seed: int, epochs: int | None) -> Model:
    """One epoch of the whole network: what training it all needs in memory."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    learn, look = transforms()
    model = nn.Sequential(body(), nn.Linear(ENTRY.features, len(folder.classes))).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    _epoch(model, batches(folder.learn, learn, 32, shuffle=True), optimizer, nn.functional.cross_entropy)
    model.eval()
    return Model(lambda: classify(model, folder.test, look))


def _epoch(
    forward: Callable[[Any], Any], loader: Any, optimizer: Any, loss_of: Callable[..., Any],
    after: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    for i, (inputs, labels) in enumerate(loader, 1):
        loss = loss_of(forward(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after:
            after(i)
