"""The drop zone: folders and zips from the browser, their sub-folder names kept, checked and taken into a folder.

Gradio's own file inputs lose the names of sub-folders, so the zone posts the files itself and hands on where each
one lies. Knows the upload's payload and Gradio's upload folder; knows nothing of classes, photos or the page.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from tlapp.dataset import Skipped
from tlapp.errors import DataError, explain_oserror, printable
from tlapp.intake import MAX_FILE_BYTES, MAX_FILES
from tlapp.ui.frame import SILENT
from tlapp.ui.serve import uploads_folder

_STRANGE = "That upload is not one that this page made. Reload the page, then drop the folder again."
_MAX_NAME = 4096


class Kind(NamedTuple):
    """What a zone asks for: its words, the attributes of its input for files, what comes after the upload, whether
    pictures are pasted, and whether photos may be dropped anywhere on the page that no zone covers.
    """

    title: str
    hint: str
    button: str
    files: str
    then: str = "The answers appear below."
    pastes: bool = False
    anywhere: bool = False


FOLDER = Kind(
    'Drop a folder with one <span class="whole">sub-folder</span> per class',
    "Or several class folders at once, or a zip of them.",
    "Choose a zip",
    'accept=".zip"',
    "The photos in them appear below.",
)
PHOTOS = Kind(
    "Drop a photo, or paste one",
    "Several photos, a whole folder or a zip do as well.",
    "Choose photos",
    'accept="image/*,.zip" multiple',
    pastes=True,
)

ANYWHERE = Kind(
    "Try a new photo",
    "Drop it anywhere on this page.",
    "Choose a photo",
    'accept="image/*" multiple',
    pastes=True,
    anywhere=True,
)


def drop_zone(elem_id: str, kind: Kind = FOLDER) -> gr.HTML:
    """The zone, to be listened to: `zone.upload(handler, zone, …)`; the handler passes its argument to `gather`."""
    markup = _beside("drop.html").replace("{drawing}", _beside("tree.svg") if kind is FOLDER else "")
    for name, words in kind._asdict().items():
        markup = markup.replace(f"{{{name}}}", str(words))
    zone = gr.HTML(
        html_template=markup,
        css_template=_beside("drop.css"),
        js_on_load=_beside("drop.js"),
        apply_default_css=False,
        elem_id=elem_id,
        most_files=MAX_FILES,
        most_bytes=MAX_FILE_BYTES,
        pastes=kind.pastes,
        anywhere=kind.anywhere,
    )
    zone.clear(_discard, zone, None, queue=False, api_visibility="private", **SILENT)
    return zone


def gather(value: Any, folder: Path, uploads: Path) -> tuple[Path, list[Skipped]]:
    """Move an upload out of Gradio's folder, each file to its path under `folder`.

    Args:
        value: what the client sent, `{"files": [{"rel", "path"}], "skipped": [{"rel", "reason"}]}` if it is
            honest. Nothing is moved before all of it is checked.
        folder: an empty folder of the app's own.
        uploads: Gradio's upload folder; a `path` elsewhere is refused.

    Returns:
        What to scan, `folder` or the one zip that was sent; and the files left out, with reasons.

    Raises:
        DataError: the payload is not of this page's making, nothing usable was sent, or the disk is full.
    """
    files, skipped = _checked(value, uploads)
    if not files:
        if skipped:
            raise DataError(
                f"Nothing in there can be used; for example `{printable(skipped[0].name)}` {skipped[0].reason}."
            )
        raise DataError("There are no files in there. Drop a folder with one sub-folder of photos per class.")
    arrived = []
    uses = Counter(path for _, path in files)
    try:
        for name, path in files:
            uses[path] -= 1
            target = folder.joinpath(*name.split("/"))
            if reason := _take(path, target, keep=uses[path] > 0):
                skipped.append(Skipped(name, reason))
            else:
                arrived.append(target)
    finally:
        for path in uses:
            _forget(path)
    if len(files) == len(arrived) == 1 and arrived[0].suffix.lower() == ".zip":
        return arrived[0], skipped
    return folder, skipped


def _discard(value: Any) -> None:
    """Delete what an upload that was cancelled or failed had sent."""
    with suppress(DataError):
        for _, path in _checked(value, uploads_folder())[0]:
            _forget(path)


def _checked(value: Any, uploads: Path) -> tuple[list[tuple[str, Path]], list[Skipped]]:
    """The payload's files as (name, place) and its skipped files. Raises DataError."""
    files = value.get("files") if isinstance(value, dict) else None
    skipped = value.get("skipped") if isinstance(value, dict) else None
    if not isinstance(files, list) or not isinstance(skipped, list):
        raise DataError(_STRANGE)
    if len(files) + len(skipped) > MAX_FILES:
        raise DataError(f"There are more than {MAX_FILES:,} files in there. Choose a smaller folder.")
    places = [(_name(_text(file, "rel")), _place(_text(file, "path"), uploads)) for file in files]
    return places, [Skipped(_name(_text(file, "rel")), _text(file, "reason")[:200]) for file in skipped]


def _text(entry: Any, key: str) -> str:
    text = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_NAME:
        raise DataError(_STRANGE)
    return text


def _name(rel: str) -> str:
    """`rel` if it names a file below a folder on any system, with "/" between the parts."""
    parts = rel.split("/")
    # On Windows, `Path.name` drops a drive or anything before a backslash.
    if "\0" in rel or any(part in ("", "..") or Path(part).name != part for part in parts):
        raise DataError(_STRANGE)
    return rel


def uploaded(text: str, uploads: Path) -> Path | None:
    """The uploaded file at `text`, if it is an ordinary file inside `uploads` with no link on the way."""
    try:
        path = Path(text).resolve(strict=True)
        own = path.is_relative_to(uploads.resolve()) and path.is_file() and not Path(text).is_symlink()
    except (OSError, ValueError, RuntimeError):  # gone, not a path at all, a loop of links
        return None
    return path if own else None


def _place(text: str, uploads: Path) -> Path:
    path = uploaded(text, uploads)
    if path is None:
        raise DataError(_STRANGE)
    return path


def _take(path: Path, target: Path, keep: bool) -> str:
    """Move the file, or copy it where it is wanted once more; why that cannot be, or "". Raises DataError."""
    try:
        if os.path.lexists(target):
            return "has the path of another file of this upload"
        target.parent.mkdir(parents=True, exist_ok=True)
        if keep:
            shutil.copyfile(path, target)
        else:
            shutil.move(path, target)
    except (FileExistsError, NotADirectoryError):
        return "has a file of this upload where its folder should be"
    except UnicodeEncodeError:
        return "has a name that cannot be kept on this machine; rename it"
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return "has too long a name; shorten it"
        if error.errno in (errno.EINVAL, errno.EILSEQ):
            return "has a name that cannot be kept on this machine; rename it"
        raise DataError(explain_oserror(error)) from error
    return ""


def _forget(path: Path) -> None:
    """Remove an upload from Gradio's folder, with the sub-folder that Gradio made for it."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
