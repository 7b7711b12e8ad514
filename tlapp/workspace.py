"""Where the app keeps its own things, and how a file gets there whole or not at all.

Knows paths, atomic writes and file locks; knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
import numpy as np
import platformdirs

from tlapp.errors import UserError, printable

try:
    import fcntl
except ImportError:  # Windows, where nobody can remove a file that is open
    fcntl = None  # type: ignore[assignment]

GONE = ".gone-"
_TEMPORARY = re.compile(r"\.tmp-\w{8}")
_STORES = ("datasets", "demo", "exports", "incoming", "runs", "uploads", "weights")


def place() -> Path:
    """The workspace folder, made or not: `TLAPP_HOME`, else the platform's user data folder. Raises UserError."""
    return expand(os.environ.get("TLAPP_HOME") or platformdirs.user_data_dir("tlapp")).absolute()


def home() -> Path:
    """As `place`, made if it is missing. Raises UserError."""
    folder = place()
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
    stood at `path` before is untouched. Raises OSError, with `path` as its file.
    """
    handle, temporary = _temporary(path)
    try:
        try:
            if callable(content):
                content(temporary)
            else:
                temporary.write_bytes(content)
            os.chmod(temporary, 0o644)
            sync(handle)
        finally:
            if not fcntl:
                os.close(handle)  # an open file cannot be renamed there
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error  # the person knows no temporary file
        raise
    finally:
        if fcntl:
            os.close(handle)
    sync_folder(path.parent)


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside the one to be replaced, and its descriptor, open while it is being written.

    Its lock, which goes with the descriptor, tells a living writer's file from what a killed one left.
    """
    while True:
        try:
            handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if not fcntl or _claim(handle, wait=True):
            return handle, Path(name)
        os.close(handle)


def _claim(handle: int, wait: bool = False) -> bool:
    """Lock an open file for as long as it is open: False if another has it, or removed it meanwhile."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return wait  # a disk that knows no locks: nothing can be claimed there, so nothing is swept
    return os.fstat(handle).st_nlink > 0


def write_array(path: Path, rows: np.ndarray) -> None:
    """Put an array at `path` as `np.save` writes it, whole or not at all. Raises OSError."""

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # by its name alone, NumPy would add an ending
            np.save(file, rows)

    write_atomic(path, save)


def sync(descriptor: int) -> None:
    """Make what was written to an open file or folder durable. Raises OSError.

    On macOS `fsync` alone leaves it in the disk's own memory.
    """
    if hasattr(fcntl, "F_FULLFSYNC"):
        with contextlib.suppress(OSError):  # a disk of another machine may not know it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable, where the platform knows such a thing."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, durable when this returns. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder as good as at once: cut off anywhere, nothing of it stands at its place. Raises OSError.

    It is moved aside first; what is left there is swept at the next start.
    """
    aside = folder.with_name(f"{GONE}{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


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
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return False  # nobody works where nothing can be written, and it can still be read
        raise
    probe.release()
    return False


@contextmanager
def own_folder(store: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `store`, ours while the context is open and gone after it, unless it was moved away.

    Those that killed processes left there are removed first. The lock lies beside the folder, so that it can be
    moved while it is held.
    """
    make_folder(store)
    with making(store, prefix):  # who sweeps must not take a lock in the making for a dead one
        _sweep_own(store, prefix)
        folder = store / f"{prefix}{secrets.token_hex(4)}"
        held = lock(_lock_of(folder))
        try:
            held.acquire()
            folder.mkdir(0o700)
        except BaseException:
            held.release()
            _lock_of(folder).unlink(missing_ok=True)
            raise
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
    make_folder(path.parent)
    prefix = f".{path.name}-"
    try:
        with own_folder(path.parent, prefix) as beside:
            yield beside
            sync_all(beside)
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


def sync_all(folder: Path) -> None:
    """Make all that was written into the folder durable."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb+") as file:
                sync(file.fileno())
        sync_folder(Path(place))


def sweep(home: Path) -> None:
    """Remove what killed processes left in the workspace: temporary files, folders and locks of their own.

    What a living process writes, this one or another, stays. Looks at the app's own folders alone, in case the
    workspace is a folder of the person's. What cannot be removed stays until the next time.
    """
    own = [store for store in (home / name for name in _STORES) if store.is_dir()]
    for store in own:
        for path in store.glob("?*create.lock"):
            with contextlib.suppress(OSError), lock(path):
                _sweep_own(store, path.name.removesuffix("create.lock"))
    if home.is_dir():
        _sweep_files(home, os.listdir(home))
    for store in own:
        _sweep_below(store)


def _sweep_own(store: Path, prefix: str) -> None:
    """Those of `own_folder`, each known by its lock; the caller holds the store's."""
    for path in store.glob(f"{glob.escape(prefix)}{'[0-9a-z_]' * 8}.lock"):
        if not is_locked(path):
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)


def _sweep_below(folder: Path) -> None:
    """Temporary files and folders that are being removed, anywhere below; not in the folders of living processes."""
    for place, folders, names in os.walk(folder):
        path = Path(place)
        for name in [name for name in folders if name.startswith(GONE)]:
            shutil.rmtree(path / name, ignore_errors=True)
        folders[:] = [name for name in folders if not name.startswith(GONE) and f"{name}.lock" not in names]
        left = [name for name in names if _TEMPORARY.fullmatch(name)]
        if left and not is_locked(path / "lock"):  # an earlier version locks its run, but no temporary file
            _sweep_files(path, left)


def _sweep_files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if _TEMPORARY.fullmatch(name):
            with contextlib.suppress(OSError):
                _remove_dead(folder / name)


def _remove_dead(temporary: Path) -> None:
    """Remove a temporary file unless a living process writes it. Raises OSError."""
    if not fcntl:
        temporary.unlink()
        return
    handle = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if _claim(handle):
            temporary.unlink()
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hex digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
