"""Where the app keeps its own things, and how a file gets there whole or not at all.

Knows paths, atomic writes and file locks; knows nothing of what is written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import numpy as np
import platformdirs

from tlapp.errors import UserError, printable


def home() -> Path:
    """The workspace folder: `TLAPP_HOME`, else the platform's user data folder. Made if missing."""
    folder = expand(os.environ.get("TLAPP_HOME") or platformdirs.user_data_dir("tlapp")).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The workspace folder {folder} cannot be made ({error.strerror}). "
            "Set TLAPP_HOME to a folder that you may write to."
        ) from error
    return folder


def expand(path: str | Path) -> Path:
    """The path with a `~` or `~name` at its beginning spelled out. Raises UserError."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"There is no home folder for the beginning of {printable(str(path))}. Check the path."
        ) from error


def write_atomic(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Put `content` at `path` whole or not at all, durable when this returns.

    `content` is the bytes, or a function that writes them to the path it is given. Whatever fails, a file that
    stood at `path` before is untouched. Raises OSError.
    """
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content)
        os.chmod(temporary, 0o644)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_array(path: Path, rows: np.ndarray) -> None:
    """Put an array at `path` as `np.save` writes it, whole or not at all. Raises OSError."""

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # by its name alone, NumPy would add an ending
            np.save(file, rows)

    write_atomic(path, save)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable, where the platform knows such a thing."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock(path: Path) -> filelock.BaseFileLock:
    """An inter-process lock on `path`. The system frees it when its process dies, however it dies."""
    return filelock.FileLock(path, thread_local=False)


def is_locked(path: Path) -> bool:
    """Whether a living process (this one included) holds the lock at `path`."""
    if not path.exists():
        return False
    probe = lock(path)
    try:
        # Asking takes the lock for an instant; a moment's patience keeps two who ask at once apart.
        probe.acquire(timeout=0.03, poll_interval=0.01)
    except filelock.Timeout:
        return True
    probe.release()
    return False


@contextmanager
def own_folder(store: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `store`, ours while the context is open and gone after it, unless it was moved away.

    Those that killed processes left there are removed first. The lock lies beside the folder, so that it can be
    moved while it is held.
    """
    store.mkdir(parents=True, exist_ok=True)
    with making(store, prefix):  # a folder in the making has no lock yet
        for folder in left_behind(store, prefix):
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=store))
        held = lock(_lock_of(folder))
        held.acquire()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        held.release()
        _lock_of(folder).unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder that stands at `path` once the context ends well, and is gone if it does not. Raises OSError.

    `path` must not exist or be an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-"
    try:
        with own_folder(path.parent, prefix) as beside:
            yield beside
            os.chmod(beside, 0o755)
            if path.exists():
                path.rmdir()  # it is empty
            os.replace(beside, path)
    finally:
        (path.parent / f"{prefix}create.lock").unlink(missing_ok=True)  # the place is the person's
    sync_folder(path.parent)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def making(store: Path, prefix: str) -> filelock.BaseFileLock:
    """Held while `own_folder` makes a folder: meanwhile none is there without its lock."""
    return lock(store / f"{prefix}create.lock")


def left_behind(store: Path, prefix: str) -> list[Path]:
    """The folders of `own_folder` that no living process holds. Certain only while `making` is held."""
    if not store.is_dir():
        return []
    found = (entry for entry in store.iterdir() if entry.name.startswith(prefix) and not entry.is_symlink())
    return [entry for entry in found if entry.is_dir() and not is_locked(_lock_of(entry))]


def log_fault() -> str:
    """Write down the exception being handled; a sentence that says where."""
    try:
        path = home() / "fault.txt"
        path.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        return f"Details are in {path}; please report them."
    except (OSError, UserError):
        return "Its details could not be saved."


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hex digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
