"""What a dataset is: accepted photos with their classes, the app's copy of their pixels, and how they divide.

Made by `dataset`; knows nothing of how photos are found or decoded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlapp.errors import DataError, some


@dataclass(frozen=True)
class Photo:
    """One accepted photo. `side` is "train", "validation" or "test" where its folder says so, else "".

    `height`, `width`: pixels of the copy, which starts at byte `offset`; `sha256` is of the file as submitted.
    """

    name: str
    label: int
    side: str
    sha256: str
    height: int
    width: int
    offset: int


@dataclass(frozen=True)
class Skipped:
    """A submitted file that is not used; "`name` `reason`" reads as a sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Split:
    """Indices into `Dataset.photos`: int64 arrays that share no element."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Accepted photos and their copy. len(photos) + len(skipped) = files submitted, junk aside."""

    source: str
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    folder: Path

    @property
    def id(self) -> str:
        """Name of the copy in the workspace, made from the content: the same photos, the same id."""
        return self.folder.name

    @property
    def labels(self) -> np.ndarray:
        """Class index of every photo, int64, shape (photos,)."""
        return np.array([photo.label for photo in self.photos], dtype=np.int64)

    def class_counts(self) -> dict[str, int]:
        """Photos per class."""
        counts = Counter(photo.label for photo in self.photos)
        return {name: counts[i] for i, name in enumerate(self.classes)}

    def pixels(self, index: int) -> np.ndarray:
        """The copy of one photo: uint8, (height, width, 3), RGB. Raises DataError if the copy is gone."""
        photo = self.photos[index]
        try:
            return np.array(
                np.memmap(
                    self.folder / "photos.bin",
                    np.uint8,
                    mode="r",
                    offset=photo.offset,
                    shape=(photo.height, photo.width, 3),
                )
            )
        except (OSError, ValueError) as error:
            raise DataError(f"The app's copy of the photos at {self.folder} is gone. Load them again.") from error

    def split(self, test_fraction: float = 0.2, validation_fraction: float = 0.2, seed: int = 0) -> Split:
        """Divide the photos as their folders say, else at random within each class.

        Test photos: those of a test folder, else `test_fraction` of all. Validation photos: those of a
        validation folder, else `validation_fraction` of what is left to train on. At least one photo of each
        class goes to every part that is drawn.

        Raises:
            DataError: a class would have no photo to train on or none to choose by.
        """
        generator = np.random.default_rng(seed)
        labels, sides = self.labels, np.array([photo.side for photo in self.photos])
        test, validation = sides == "test", sides == "validation"
        pool = ~test & ~validation
        drawn = []
        if not test.any():
            test = _draw(pool, labels, test_fraction, generator)
            drawn.append(test)
        if not validation.any():
            validation = _draw(pool & ~test, labels, validation_fraction, generator)
            drawn.append(validation)
        train = pool & ~test & ~validation
        every = [set(labels[part]) for part in (train, *drawn)]
        lacking = [name for i, name in enumerate(self.classes) if not all(i in present for present in every)]
        if lacking:
            raise DataError(
                f"Too few photos to train on in {some(lacking)}: each class needs one to train on, one to choose "
                "settings by and one to test with. Add photos or take the class out."
            )
        return Split(np.flatnonzero(train), np.flatnonzero(validation), np.flatnonzero(test))


def _draw(pool: np.ndarray, labels: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """A mask of `fraction` of the pool, class by class, at least one each, never a class's last."""
    drawn = np.zeros_like(pool)
    for label in np.unique(labels[pool]):
        members = generator.permutation(np.flatnonzero(pool & (labels == label)))
        drawn[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    return drawn
