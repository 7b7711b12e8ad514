"""How a listing is meant: which folder is a class, which a split, what lies outside.

Looks at paths alone, never into a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tlapp.errors import DataError, printable, some
from tlapp.intake import File, Listing

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Placed:
    """A file with the class and side that its folders give it; `side` "" where they give none."""

    file: File
    class_name: str
    side: str


@dataclass
class Arranged:
    """What a listing means. `has_test`: a folder of its own holds the test photos (not a `val/` taken as such)."""

    placed: list[Placed] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    has_test: bool = False


def subfolder(name: str, class_name: str) -> str:
    """The first folder below that of the class in the path `name`; where no folder has the name of the class, all that
    stand before the file. "" where there is none.
    """
    folders = PurePosixPath(name).parts[:-1]
    if class_name in folders:
        below = folders[len(folders) - folders[::-1].index(class_name) :]
        return below[0] if below else ""
    return "/".join(folders)


def arrange(listing: Listing, shown: str) -> Arranged:
    """Find classes and splits; messages call the source `shown`. Raises DataError where no folder holds photos."""
    arranged = Arranged(skipped=list(listing.refused))
    paths = [(PurePosixPath(file.name).parts, file) for file in listing.files]
    depth = _unwrapped(paths, arranged)
    wrapper = paths[0][0][:depth] if paths else ()
    inside = [(parts[depth:], file) for parts, file in paths if parts[:depth] == wrapper and len(parts) > depth]
    outside = [file for parts, file in paths if parts[:depth] != wrapper or len(parts) <= depth]
    arranged.skipped += [(file.name, "lies outside the class folders") for file in outside]
    if not any(len(parts) > 1 for parts, _ in inside):
        raise DataError(_nothing(len(paths), shown, listing.refused))
    tops = {parts[0] for parts, _ in inside if len(parts) > 1}
    sides = _sides(tops, inside)
    beside = bool(sides) and "train" not in sides.values()
    for parts, file in inside:
        class_parts, side = (parts[1:], sides[parts[0]]) if parts[0] in sides else (parts, "train" if beside else "")
        if parts[0] in sides and len(class_parts) < 2:
            arranged.skipped.append((file.name, f"lies directly in {parts[0]}/, in no class folder"))
        elif len(class_parts) < 2 or (sides and not side):
            arranged.skipped.append((file.name, "lies outside the class folders"))
        else:
            arranged.placed.append(Placed(file, class_parts[0], side))
    if sides:
        settle_sides(arranged, "of the {} folder", "the class folders beside it" if beside else "the train folder")
    _note_empty(listing, arranged, depth + (bool(sides) and not beside), wrapper, set(sides))
    if not arranged.placed:
        raise DataError(_nothing(len(paths), shown, listing.refused))
    return arranged


def _unwrapped(paths: list[tuple[tuple[str, ...], File]], arranged: Arranged) -> int:
    """How many extra folders stand around the classes."""
    depth = 0
    while True:
        below = {parts[depth] for parts, _ in paths if len(parts) > depth + 1}
        deeper = any(len(parts) > depth + 2 for parts, _ in paths)
        direct = any(len(parts) == depth + 2 for parts, _ in paths if parts[depth] in below)
        grand = {parts[depth + 1] for parts, _ in paths if len(parts) > depth + 2}
        if len(below) != 1 or not deeper or (direct and len(grand) < 2):
            return depth
        arranged.notes.append(f"The classes were found inside the folder {some([below.pop()])}.")
        depth += 1


def _sides(tops: set[str], inside: list[tuple[tuple[str, ...], File]]) -> dict[str, str]:
    """Folder name → side, where the folders are a split.

    Either a train folder with classes within it, or, beside the class folders, a test or val folder that holds some
    of the same names.
    """
    sides = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
    within = {top: {parts[1] for parts, _ in inside if parts[0] == top and len(parts) > 2} for top in sides}
    if "train" in sides.values():
        return sides if any(within[top] for top in sides if sides[top] == "train") else {}
    classes = tops - set(sides)
    return {top: side for top, side in sides.items() if within[top] & classes}


def settle_sides(arranged: Arranged, whose: str, rest: str) -> None:
    """`val` without `test` is the test part; then validation photos come out of `rest`. `whose` has a {} for either."""
    present = {placed.side for placed in arranged.placed}
    arranged.has_test = "test" in present
    if arranged.has_test:
        arranged.notes.append(f"The photos {whose.format('test')} are the test photos.")
    elif "validation" in present:
        arranged.placed = [
            Placed(p.file, p.class_name, "test") if p.side == "validation" else p for p in arranged.placed
        ]
        arranged.notes.append(
            f"The photos {whose.format('val')} are the test photos; the choices of the training are made on a part of "
            f"{rest}."
        )


def _note_empty(listing: Listing, arranged: Arranged, depth: int, wrapper: tuple[str, ...], splits: set[str]) -> None:
    filled = {placed.class_name for placed in arranged.placed} | splits
    parts = [PurePosixPath(folder).parts for folder in sorted(listing.folders)]
    empty = {p[depth] for p in parts if len(p) == depth + 1 and p[: len(wrapper)] == wrapper} - filled
    if empty:
        arranged.notes.append(f"No photos in the folder {some(sorted(empty))}; it is not a class.")


def _nothing(n_files: int, shown: str, refused: list[tuple[str, str]]) -> str:
    shown = printable(shown)
    if n_files:
        files = f"{n_files} file{'s' * (n_files > 1)}"
        return (
            f"{shown} holds {files} but no sub-folders with photos. Put the photos of each class into a folder of its "
            "own, named as the class, and give the folder around them."
        )
    if refused:
        name, reason = refused[0]
        return f"Nothing in {shown} can be read; for example `{printable(name)}` {reason}."
    return f"{shown} is empty. Give a folder with one sub-folder of photos per class."
