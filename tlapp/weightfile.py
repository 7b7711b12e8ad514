"""What a safetensors file says of itself, beside its tensors: read and written without torch.

Its head is JSON behind its length in 8 bytes. Knows nothing of networks or runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

_MOST_HEAD = 16 * 1024**2


def of_file(path: Path) -> dict[str, str]:
    """What a weights file says of itself: `run`, `classes`, `learned_from`; nothing of others, or where it is gone."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return _metadata(file.read(length)) if length <= _MOST_HEAD else {}
    except (OSError, ValueError):
        return {}


def classes_of(path: Path) -> list[str]:
    """The classes of the head in a weights file of a run, in its order; none of another file."""
    try:
        found = json.loads(of_file(path).get("classes", "[]"))
    except ValueError:
        return []
    return found if isinstance(found, list) and _are_texts(found) else []


def recorded(model: bytes) -> dict[str, str]:
    """What a delivered model says of itself; the head of a safetensors file is JSON behind its length in 8 bytes."""
    return _metadata(model[8 : 8 + int.from_bytes(model[:8], "little")])


def with_metadata(model: bytes, said: dict[str, str]) -> bytes:
    """The same tensors, saying this of themselves, in the order of the names: a model is known by its hash."""
    end = 8 + int.from_bytes(model[:8], "little")
    head = json.loads(model[8:end])
    head["__metadata__"] = dict(sorted(said.items()))
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + model[end:]


def _metadata(head: bytes) -> dict[str, str]:
    """Raises ValueError."""
    values = json.loads(head)
    found = values.get("__metadata__") if isinstance(values, dict) else None
    return found if isinstance(found, dict) and _are_texts(found.values()) else {}


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
