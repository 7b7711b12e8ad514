"""Everything that can go wrong on the user's side, each with a sentence that says what to do.

::

    UserError
    ├── DataError           a folder or zip that cannot be trained on
    ├── PictureError        one picture that cannot be used
    ├── PlanError           a setting that is not valid
    ├── WeightsError        pretrained weights that are missing, damaged or could not be fetched
    ├── RunError            a run that does not exist, is damaged, or cannot do what was asked
    ├── UsageError          a command line that is not complete
    ├── TrainingDiverged    the loss became infinite or not a number
    └── OutOfMemory         the machine's or the GPU's memory did not suffice

A message is a whole sentence in the user's words: what happened, to which file, what to do. It is shown as it
is on the page and on the terminal, but for the remedy of a WeightsError. Any other exception is a fault
of this program.
"""

from __future__ import annotations

import errno
import re


class UserError(Exception):
    """Something the person can put right; ``str(error)`` is the sentence to show."""


class DataError(UserError):
    """A folder or zip that cannot be trained on."""


class PictureError(UserError):
    """One picture that cannot be used; the message completes the sentence "<file> ..."."""


class PlanError(UserError):
    """A setting that is not valid."""


class WeightsError(UserError):
    """Pretrained weights that are missing, damaged or could not be fetched.

    `what`: the message without its `remedy`, what to do on the command line; the page has a remedy of its own.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what, self.remedy = what, remedy


class RunError(UserError):
    """A run that does not exist, is damaged, or cannot do what was asked."""


class UsageError(UserError):
    """A command line that is not complete."""


class TrainingDiverged(UserError):  # noqa: N818 - named for what happened
    """The loss became infinite or not a number."""


class OutOfMemory(UserError):  # noqa: N818 - named for what happened
    """The machine's or the GPU's memory did not suffice."""


def explain_oserror(error: OSError) -> str:
    """One sentence for a failed file operation: what, which file, what to do."""
    place = f" ({printable(str(error.filename))})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{place}. Free some space and try again; what was saved before is unharmed."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"There is no permission to write or read here{place}. Choose a place you may use."
    if error.errno == errno.ENOENT:
        return f"That file or folder does not exist{place}. Check the path."
    return f"The file system reported a fault: {error.strerror or error}{place}."


def one_line(text: str) -> str:
    """`text` with control characters and undecodable bytes of file names shown as escapes, all else as it is."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", _escaped, text)


def printable(text: str) -> str:
    """As `one_line`, with what breaks lines or turns the direction of writing shown as escapes too."""
    return re.sub(r"[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", _escaped, one_line(text))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def some(names: list[str], most: int = 3) -> str:
    """The first few of `names` and how many more: "`a`, `b`, `c` and 4 more"."""
    shown = ", ".join(f"`{printable(name)}`" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
