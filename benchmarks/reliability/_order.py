"""The order of writing that outlives a power cut: a file's bytes on the disk before its name, that before all is said.

Fed with file operations as they happen, by whoever sees them; knows nothing of how they are seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath


@dataclass
class Order:
    """What is not yet durable below `root`, and `faults`: what became visible before it was.

    `dirty`: files written to since they were last synced; `names`: files and folders whose name is new in a folder that
    was not synced since. `renames`, `syncs`: how many there were.
    """

    root: str
    dirty: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    renames: int = 0
    syncs: int = 0

    def wrote(self, path: str, is_new: bool = False) -> None:
        """Bytes were written to a file, or it was made."""
        if self._is_ours(path):
            self.dirty.add(path)
            if is_new:
                self.names.add(path)

    def made(self, path: str) -> None:
        """A folder, or a further name of a file, came to be."""
        if self._is_ours(path):
            self.names.add(path)

    def removed(self, path: str) -> None:
        """A file or folder is gone."""
        for known in (self.dirty, self.names):
            known -= {one for one in known if _is_in(one, path)}

    def synced(self, path: str) -> None:
        """A file or a folder was synced."""
        if self._is_ours(path):
            self.syncs += 1
            self.dirty.discard(path)
            self.names -= {name for name in self.names if str(PurePath(name).parent) == path}

    def renamed(self, before: str, after: str) -> None:
        """A file or folder has another name. What it holds must have been durable."""
        if not self._is_ours(after):
            return
        self.renames += 1
        inside = {name for name in self.names if name != before and _is_in(name, before)}
        late = {path for path in self.dirty | inside if _is_in(path, before)}
        self.faults += [
            f"{self._short(path)} was not synced before the rename to {self._short(after)}" for path in late
        ]
        self.removed(before)
        self.names.add(after)

    def end(self, but: tuple[str, ...] = ("lock", "looked")) -> list[str]:
        """All is said and done: `faults`, with what is not durable still, but for files whose names end so."""
        late = {path for path in self.dirty | self.names if not path.endswith(but)}
        return self.faults + [f"{self._short(path)} was never synced" for path in sorted(late)]

    def _is_ours(self, path: str) -> bool:
        return path.startswith(f"{self.root}/") or path == self.root

    def _short(self, path: str) -> str:
        return str(PurePath(path).relative_to(self.root))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
