"""Folders of photos for the benchmarks: read them, draw a few photos of each class, multiply them.

What an arm learns from is `train/`, what it is tested on `val/`; tlapp reads such a folder the same way. Knows nothing
of networks.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Item:
    """A photo: `name` is its path below the folder, `label` the index of its class."""

    path: Path
    name: str
    label: int


@dataclass(frozen=True)
class Folder:
    """Photos to learn from and photos to be tested on, each sorted by name."""

    root: Path
    classes: tuple[str, ...]
    learn: tuple[Item, ...]
    test: tuple[Item, ...]

    @property
    def everything(self) -> list[Item]:
        """All photos by class and file name, so in the same order whatever a draw took."""
        return sorted(self.learn + self.test, key=lambda item: (item.name.partition("/")[2], item.name))

    def marks(self, answers: Sequence[int]) -> str:
        """One character a photo of `everything`: 1 right, 0 wrong, - learned from. `answers` go with `test`."""
        right = {item.name: str(int(item.label == a)) for item, a in zip(self.test, answers, strict=True)}
        return "".join(right.get(item.name, "-") for item in self.everything)


def read(root: Path) -> Folder:
    """A folder with `train/` and `val/`, each with one sub-folder per class."""
    classes = tuple(sorted(path.name for path in (root / "train").iterdir() if path.is_dir()))
    sides = []
    for side in ("train", "val"):
        files = [(path, label) for label, name in enumerate(classes) for path in (root / side / name).iterdir()]
        items = [Item(path, path.relative_to(root).as_posix(), label) for path, label in files]
        sides.append(tuple(sorted(items, key=lambda item: item.name)))
    return Folder(root, classes, *sides)


def draw(source: Path, n: int, seed: int, target: Path, n_test: int | None = None) -> Folder:
    """Copies of `n` photos of each class of `source` to learn from; all the rest (or `n_test` a class) are test photos.

    With one seed, the draw of 10 is a part of the draw of 20. A source with its own split is drawn from within it.
    """
    own = (source / "train").is_dir()
    subs = sorted(path for path in (source / "train" if own else source).iterdir() if path.is_dir())
    for label, sub in enumerate(subs):
        files = sorted(sub.iterdir())
        files = [files[i] for i in np.random.default_rng([seed, label]).permutation(len(files))]
        rest = sorted((source / "val" / sub.name).iterdir()) if own else files[n:]
        for side, chosen in (("train", files[:n]), ("val", rest[:n_test])):
            (target / side / sub.name).mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, target / side / sub.name)
    return read(target)


def multiply(source: Path, n: int, target: Path) -> Folder:
    """`n` photos in `target`, a fifth of them test photos: the source's, over and over, each with bytes of its own.

    The bytes stand behind the end of the picture, where no reader looks. Photos that are there already stay, so a
    folder can grow.
    """
    originals = sorted(path for path in source.rglob("*.jpg") if path.is_file())
    classes = {path.parent.name: [p for p in originals if p.parent.name == path.parent.name] for path in originals}
    names = sorted(classes)
    for i in range(n):
        name, turn = names[i % len(names)], i // len(names)
        file = target / ("val" if turn % 5 == 4 else "train") / name / f"{turn:06d}.jpg"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(classes[name][turn % len(classes[name])].read_bytes() + i.to_bytes(4, "little"))
    return read(target)
