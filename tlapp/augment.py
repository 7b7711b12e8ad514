"""Random views of a photo for training, and the one plain view for everything else.

`Views.draw` is what training learns from and what a preview shows: the very same call. Knows nothing of
datasets or networks beyond the preprocessing numbers of the catalogue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms import v2

from tlapp import catalog, images
from tlapp.catalog import Backbone
from tlapp.images import GREY
from tlapp.plan import Augmentation, Plan
from tlapp.seeding import seeded


class Views:
    """The views of photos that one backbone, one augmentation and one framing (see `Plan`) give.

    `plain` and `draw` take uint8 (H, W, 3) RGB arrays as `images.load` gives them.
    """

    def __init__(self, augmentation: Augmentation, backbone: Backbone, framing: str = "crop") -> None:
        self.augmentation = augmentation
        self.backbone = backbone
        self.framing = framing
        self._transform = _random_transform(augmentation, backbone, framing)
        self.mean = torch.tensor(backbone.mean).view(3, 1, 1) * 255
        self.std = torch.tensor(backbone.std).view(3, 1, 1) * 255

    @classmethod
    def of(cls, plan: Plan) -> Views:
        """The views that a run of this plan learns from and answers by."""
        return cls(plan.augmentation, catalog.get(plan.backbone), plan.framing)

    def plain(self, pixels: np.ndarray) -> torch.Tensor:
        """The centre of the photo, or all of it, resized by Pillow: uint8 (3, crop, crop), channels last in memory."""
        return torch.from_numpy(self.square(pixels)).permute(2, 0, 1)

    def square(self, pixels: np.ndarray) -> np.ndarray:
        """As `plain`: uint8 (crop, crop, 3)."""
        b = self.backbone
        if self.framing == "letterbox":
            return images.letterboxed(pixels, b.crop, b.interpolation)
        return images.centre(pixels, b.resize, b.crop, b.interpolation)

    def draw(self, pixels: np.ndarray, seed: int) -> torch.Tensor:
        """The random view that `seed` means, always the same: uint8 (3, crop, crop)."""
        if self.augmentation.is_off:
            return self.plain(pixels)
        with seeded(seed):
            return self._transform(_tensor(self.square(pixels) if self.framing == "letterbox" else pixels))

    def normalise(self, views: Sequence[torch.Tensor]) -> torch.Tensor:
        """uint8 views (3, H, W), at least one → float32 (views, 3, H, W) with the backbone's mean and deviation.

        In channels-last memory, as the views of `plain` are already.
        """
        batch = torch.empty((len(views), *views[0].shape), memory_format=torch.channels_last)
        for row, view in zip(batch, views, strict=True):
            row.copy_(view)
        return batch.sub_(self.mean).div_(self.std)


def view_seed(seed: int, photo_sha256: str, draw: int) -> int:
    """The seed of one view: a function of the run's seed, the photo and the number of the draw."""
    digest = hashlib.sha256(f"{seed}:{photo_sha256}:{draw}".encode("ascii")).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _random_transform(a: Augmentation, backbone: Backbone, framing: str) -> v2.Transform:
    interpolation = v2.InterpolationMode(backbone.interpolation)
    steps: list[torch.nn.Module] = []
    if a.crop:
        steps.append(
            v2.RandomResizedCrop(backbone.crop, scale=(1 - a.crop, 1.0), interpolation=interpolation, antialias=True)
        )
    elif framing == "crop":
        steps += [v2.Resize(backbone.resize, interpolation, antialias=True), v2.CenterCrop(backbone.crop)]
    if a.horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(a.horizontal_flip))
    if a.vertical_flip:
        steps.append(v2.RandomVerticalFlip(a.vertical_flip))
    if a.rotation or a.zoom or a.shift:
        steps.append(
            v2.RandomAffine(
                a.rotation,
                translate=(a.shift, a.shift),
                scale=(1 - a.zoom, 1 + a.zoom),
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=GREY,
            )
        )
    if a.brightness or a.contrast or a.saturation:
        steps.append(v2.ColorJitter(a.brightness, a.contrast, a.saturation))
    if a.blur:
        size = 2 * int(np.ceil(3 * a.blur)) + 1
        steps.append(v2.GaussianBlur(size, sigma=(1e-3, a.blur)))
    if a.erasing:
        steps.append(v2.RandomErasing(p=a.erasing, value=GREY))
    return v2.Compose(steps or [v2.Identity()])


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
