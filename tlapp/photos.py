"""What a dataset is: accepted photos with their classes, the app's copy of their pixels, which of them belong
together, and how they divide.

Made by `dataset`; knows nothing of how photos are found or decoded.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from tlapp import looks
from tlapp.errors import DataError, some

PIXELS, ADDED_PIXELS = "photos.bin", "added.bin"
"""Files of the copies of photos; offsets count on from the end of the first into the second."""

_TO_DRAW_FROM = 3  # one for each part


@dataclass(frozen=True)
class Photo:
    """One accepted photo. `side` is "train", "validation" or "test" where its folder says so, else "".

    `height`, `width`: pixels of the copy, which starts at byte `offset`; `sha256` is of the file as submitted, as are
    `n_bytes`, `full_height`, `full_width`, `camera` and `taken` (`images.Facts`); `look`: `looks.look`;
    `subfolder`: `layout.subfolder`. `together`: a name that photos share which the person wants on one side.
    `added`: it joined later, as an answer put right; it is learned from and never drawn for a test or to choose by.
    What is unknown is 0 or "".
    """

    name: str
    label: int
    side: str
    sha256: str
    height: int
    width: int
    offset: int
    n_bytes: int = 0
    full_height: int = 0
    full_width: int = 0
    camera: str = ""
    taken: int = 0
    look: str = ""
    subfolder: str = ""
    together: str = ""
    added: bool = False


@dataclass(frozen=True)
class Skipped:
    """A submitted file that is not used; "`name` `reason`" reads as a sentence.

    `same_as`: the file that it is a copy of, byte by byte; `side`: as a photo has it, for such copies.
    """

    name: str
    reason: str
    same_as: str = ""
    side: str = ""


@dataclass(frozen=True)
class Disputed:
    """A photo that stands in several classes with the same bytes: one of them, its label -1, and these classes."""

    photo: Photo
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Indices into `Dataset.photos`: int64 arrays that share no element."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Accepted photos and their copy. len(photos) + len(skipped) = files submitted, junk aside.

    `disputed`: copies of these photos are here too, until the person says what they are; their files are skipped.
    `original`: the id of the dataset that this one was made of by the person's decisions, else "".
    """

    source: str
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    folder: Path
    original: str = ""
    disputed: tuple[Disputed, ...] = ()

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

    @cached_property
    def every(self) -> tuple[Photo, ...]:
        """All photos of which there are copies; the disputed ones come after the others."""
        return (*self.photos, *(one.photo for one in self.disputed))

    def pixels(self, index: int) -> np.ndarray:
        """The copy of one photo: uint8, (height, width, 3), RGB; the disputed ones come after the others.

        Raises DataError if the copy is gone.
        """
        photo = self.every[index]
        path, offset = self.folder / PIXELS, photo.offset
        try:
            if photo.added and offset >= path.stat().st_size:
                path, offset = self.folder / ADDED_PIXELS, offset - path.stat().st_size
            return np.array(np.memmap(path, np.uint8, mode="r", offset=offset, shape=(photo.height, photo.width, 3)))
        except (OSError, ValueError) as error:
            raise DataError(f"The app's copy of the photos at {self.folder} is gone. Load them again.") from error

    @cached_property
    def ties(self) -> dict[str, list[tuple[int, int]]]:
        """Pairs of photos that belong together, by the reason in words."""
        return {
            "near copies": looks.pairs([photo.look for photo in self.photos]),
            "burst": looks.bursts([photo.camera for photo in self.photos], [photo.taken for photo in self.photos]),
            "put together": looks.same([photo.together for photo in self.photos]),
        }

    @cached_property
    def groups(self) -> np.ndarray:
        """Photos that never sit on two sides: near copies, camera bursts, and what the person put together.

        The group of each photo, named by its first member: int64, shape (photos,).
        """
        return looks.grouped(len(self.photos), chain.from_iterable(self.ties.values()))

    @cached_property
    def subfolders(self) -> tuple[str, ...]:
        """The sub-folder of each photo; "" where there is none."""
        return tuple(photo.subfolder for photo in self.photos)

    def grouping(self, by: str) -> np.ndarray:
        """`groups`; for `by` "folder" the photos of sub-folders of one name belong together too."""
        if by != "folder":
            return self.groups
        return looks.grouped(len(self.photos), [*enumerate(self.groups.tolist()), *looks.same(self.subfolders)])

    def split(
        self, test_fraction: float = 0.2, validation_fraction: float = 0.2, seed: int = 0, by: str = "photo",
        learned: Collection[str] = (), draw: str = "content",
    ) -> Split:  # fmt: skip
        """Divide the photos as their folders say, else at random within each class.

        Test photos: those of a test folder, else `test_fraction` of all. Validation photos: those of a
        validation folder, else `validation_fraction` of what is left to train on. At least one photo of each
        class goes to every part that is drawn. Groups are drawn whole, unless a class is too small for that.

        Args:
            learned: beginnings of the SHA-256 of photos that the network has learned from already: they, and what
                belongs with them, are never test photos.
            draw: "content": in an order that follows from the seed and each photo's bytes, so that a photo stays where
                it was, but for a few at the edge, when others come, go or change their class. "order": by shuffling.

        Raises:
            DataError: a class would have no photo to train on, none to choose by or none to test on; `by` "folder" asks
                for more sub-folders than there are.
        """
        orders = _by_content(self.photos, seed) if draw == "content" else [np.random.default_rng(seed).permutation] * 2
        labels, sides = self.labels, np.array([photo.side for photo in self.photos])
        groups = self.grouping(by)
        seen = self._seen(learned, groups)
        test, validation = (sides == "test") & ~seen, sides == "validation"
        pool = ~test & ~validation
        drawn = []
        if (sides == "test").any() and seen.any():
            self._check_unseen(test, labels, seen & (sides == "test"))
        fixed = self._fixed(pool, labels, groups)
        if not test.any():
            drawable = pool & ~fixed
            self._check_unseen(drawable & ~seen, labels, seen)
            to_come = 0 if validation.any() else 1
            test = _draw(drawable & ~seen, labels, groups, test_fraction, orders[0], to_come, drawable & seen)
            drawn.append(test)
        if not validation.any():
            validation = _draw(pool & ~test & ~fixed, labels, groups, validation_fraction, orders[1], 0)
            drawn.append(validation)
        train = pool & ~test & ~validation
        every = [set(labels[part]) for part in (train, *drawn)]
        lacking = [name for i, name in enumerate(self.classes) if not all(i in present for present in every)]
        if lacking:
            raise DataError(
                f"Too few photos to train on in {some(lacking)}: each class needs one to train on, one to choose "
                "settings by and one to test with. Add photos or take the class out."
            )
        parts = [np.flatnonzero(part) for part in (train, validation, test)]
        if by == "folder":
            self._check_folders([train, *drawn], groups)
        return Split(*parts)

    def _seen(self, learned: Collection[str], groups: np.ndarray) -> np.ndarray:
        """A mask of the photos that the network has learned from, and of what belongs with them."""
        if not learned:
            return np.zeros(len(self.photos), dtype=bool)
        digits = len(next(iter(learned)))
        of = frozenset(learned)
        return np.isin(groups, groups[np.array([photo.sha256[:digits] in of for photo in self.photos])])

    def _check_unseen(self, drawable: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> None:
        """Raise DataError where nothing is left of a class that the network has not learned from."""
        touched = np.unique(labels[seen])
        lacking = [self.classes[i] for i in touched if not (drawable & (labels == i)).any()]
        if lacking:
            raise DataError(
                f"The network that this run would start from has learned from every photo of {some(lacking)}, so that "
                "none is left to test on. Add photos of it that are new, or start from published weights."
            )

    def _fixed(self, pool: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """A mask of the photos that are never drawn: those that were added, and what belongs with them.

        Where a class has few others, its photos are drawn as if nothing were added.
        """
        added = np.array([photo.added for photo in self.photos])
        fixed = pool & np.isin(groups, groups[added])
        left = np.bincount(labels[pool & ~fixed], minlength=len(self.classes))
        return added | (fixed & (left[labels] >= _TO_DRAW_FROM))

    def _check_folders(self, parts: list[np.ndarray], groups: np.ndarray) -> None:
        """Raise DataError where a drawn part shares a sub-folder with another."""
        named = np.array([bool(name) for name in self.subfolders])
        if not named.any():
            raise DataError("There are no sub-folders within the classes to split by. Split photo by photo.")
        for i, one in enumerate(parts):
            for other in parts[i + 1 :]:
                torn = np.isin(groups, groups[one & named]) & other & named
                if torn.any():
                    names = sorted({self.classes[self.photos[j].label] for j in np.flatnonzero(torn)})
                    raise DataError(
                        f"Too few sub-folders to split by in {some(names)}: each part needs one of its own. Split "
                        "photo by photo, or sort the photos into more sub-folders."
                    )


Order = Callable[[np.ndarray], np.ndarray]
"""Puts indices of photos into the order in which they are drawn."""


def _by_content(photos: Sequence[Photo], seed: int) -> list[Order]:
    """An order for the test photos, and one for the validation photos."""

    def order(part: str) -> Order:
        said = [f"{seed} {part} {photo.sha256}".encode("ascii") for photo in photos]
        ranks = np.array([int.from_bytes(hashlib.sha256(one).digest()[:8]) for one in said], dtype=np.uint64)
        return lambda members: members[np.argsort(ranks[members], kind="stable")]

    return [order("test"), order("validation")]


def _draw(
    pool: np.ndarray, labels: np.ndarray, groups: np.ndarray, fraction: float, order: Order,
    to_come: int, beside: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """A mask of `fraction` of the pool, class by class, at least one each, never a class's last; groups whole.

    `to_come`: draws of what is left; a class with groups keeps one for each if it can. Of a class that is one group,
    single photos are drawn all the same: without any there would be no score. `beside`: photos that count in the
    fraction and are left all the same, but may not be drawn.
    """
    drawn = np.zeros_like(pool)
    inside: dict[int, list[int]] = {}
    for index in np.flatnonzero(pool).tolist():
        inside.setdefault(int(groups[index]), []).append(index)
    n_classes = int(labels.max(initial=0)) + 1
    counts = {name: np.bincount(labels[members], minlength=n_classes) for name, members in inside.items()}
    left = np.bincount(labels[pool], minlength=n_classes)
    groups_left = np.zeros_like(left)
    for count in counts.values():
        groups_left += count > 0
    spared = np.where(groups_left < left, to_come, 0)
    kept = np.zeros_like(left) if beside is None else np.bincount(labels[beside], minlength=n_classes)
    wanted_of = np.maximum(1, np.round(fraction * (left + kept)).astype(np.int64))
    missing = np.minimum(wanted_of, np.where(kept > to_come, left, left - 1))
    groups_left += np.where(kept > to_come, 1 + spared, 0)

    def leaves_some(name: int) -> bool:
        return bool((counts[name] < left + kept)[counts[name] > 0].all())

    def take(indices: Sequence[int]) -> None:
        drawn[indices] = True
        np.subtract.at(left, labels[indices], 1)
        np.subtract.at(missing, labels[indices], 1)

    def take_group(name: int) -> None:
        take(inside[name])
        groups_left[counts[name] > 0] -= 1

    for label in np.unique(labels[pool]):
        members = order(np.flatnonzero(pool & (labels == label)))
        wanted, passed = int(missing[label]), dict[int, None]()
        for index in members:
            name = int(groups[index])
            if missing[label] <= 0:
                break
            if drawn[index] or name in passed:
                continue
            fits = (counts[name] <= missing) & (groups_left > 1 + spared)
            if fits[counts[name] > 0].all() and leaves_some(name):
                take_group(name)
            else:
                passed[name] = None
        if wanted > 0 and not drawn[members].any():
            whole = [name for name in passed if leaves_some(name)]
            if whole:
                take_group(min(whole, key=lambda name: len(inside[name])))
            else:
                take(members[:wanted].tolist())
    return drawn
