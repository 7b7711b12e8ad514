"""Where the app keeps its own things, and how a file gets there whole or not at all.

Knows paths, atomic writes and file locks; knows nothing of what is written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock
import platformdirs

from tlapp.errors import UserError


def home() -> Path:
    """The workspace folder: `TLAPP_HOME`, else the platform's user data folder. Made if missing."""
    folder = Path(os.environ.get("TLAPP_HOME") or platformdirs.user_data_dir("tlapp")).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The workspace folder {folder} cannot be made ({error.strerror}). "
            "Set TLAPP_HOME to a folder that you may write to."
        ) from error
    return folder


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
        probe.acquire(blocking=False)
    except filelock.Timeout:
        return True
    probe.release()
    return False


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a killed process left in `folder`: entries named `prefix`… whose lock nobody holds."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name.startswith(prefix) and entry.is_dir() and not is_locked(entry / "lock"):
            shutil.rmtree(entry, ignore_errors=True)


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hex digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
