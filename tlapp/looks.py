"""What two photos have in common before any network sees them: how they look, and when they were taken.

`look` sums a photo up in a few letters that are kept with it; `grouped` says which photos belong together, so that a
split can keep them on one side. Knows pixels and letters; nothing of files, classes or networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

NEAR_BITS = 6
"""Bits of 64 by which the hashes of near copies may differ: of 316,000 pairs of different photos none was as near.

On a plain ground, where few cells differ from the next, things look alike whatever they are: fewer bits may differ.
"""

NEAR_COLOUR = 24
"""Steps of 255 by which their mean colours may differ in each channel; plain pictures share a hash by chance."""

BURST_SECONDS = 3
TOO_MANY = 40
"""So many photos of one camera in one second are no burst: its clock was not set."""

MOST_MATES = 32
_ROWS = 1024


def look(pixels: np.ndarray) -> str:
    """A photo in 24 hex digits: its difference hash (64 bits: is each of 8 x 8 cells darker than the next one to the
    right, after D. Wong's dHash), its mean colour, and how many cells differ from the next. uint8 (H, W, 3).

    Of cells as bright as the next the left half counts as darker: so a mirror turns each bit round, flat or not.
    """
    small = np.asarray(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    rise = np.diff(small, axis=1)
    bits = (rise > 0) | ((rise == 0) & (np.arange(8) < 4))
    colour = np.asarray(Image.fromarray(pixels).resize((1, 1), Image.Resampling.BOX)).reshape(3)
    return (np.packbits(bits).tobytes() + bytes(colour) + bytes([np.count_nonzero(rise)])).hex()


def pairs(looks: Sequence[str]) -> list[tuple[int, int]]:
    """Which photos look the same but for size, compression, light or a mirror: (i, j) with i < j. "" is like none.

    Of photos with the very same look, each is paired with the first alone.
    """
    found = same(looks)
    first = {text: i for i, text in reversed(list(enumerate(looks))) if text}
    known = np.array(sorted(first.values()), dtype=np.int64)
    raw = np.array([list(bytes.fromhex(looks[i])) for i in known], dtype=np.uint8).reshape(len(known), 12)
    bits = np.unpackbits(raw[:, :8], axis=1).reshape(-1, 8, 8)
    mirrored = np.packbits(1 - bits[:, :, ::-1], axis=2).reshape(-1, 8)
    hashes = np.concatenate([raw[:, :8], mirrored]).view(np.uint64).reshape(-1)
    near = _near(hashes, np.tile(raw[:, 8:11].astype(np.int16), (2, 1)), np.tile(raw[:, 11], 2))
    return [*found, *zip(known[near[:, 0]].tolist(), known[near[:, 1]].tolist(), strict=True)]


def _near(hashes: np.ndarray, colours: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Pairs (i, j), i < j, of photos whose hash and colour are near: int64 (pairs, 2), each once.

    `rough`: how many cells of each differ from the next.

    The second half of the hashes are those of the mirrored photos. Where at most `NEAR_BITS` bits differ, one of
    `NEAR_BITS` + 1 pieces of the bits is the same: only such are compared.
    """
    n = len(hashes) // 2
    found = [np.empty((0, 2), dtype=np.int64)]
    edges = np.linspace(0, 64, NEAR_BITS + 2).astype(int)
    for low, high in pairwise(edges.tolist()):
        piece = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(piece, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1):
            plain = members[members < n]
            for begin in range(0, len(plain) if len(members) > 1 else 0, _ROWS):
                rows = plain[begin : begin + _ROWS]
                allowed = (NEAR_BITS * np.minimum(rough[rows, None], rough[members]).astype(np.int16) + 32) // 64
                near = np.bitwise_count(hashes[rows, None] ^ hashes[members]) <= allowed
                near &= near.cumsum(1, dtype=np.int32) <= MOST_MATES  # frames of a film are all near each other
                i, j = (side[at] for side, at in zip((rows, members), np.nonzero(near), strict=True))
                near = np.abs(colours[i] - colours[j]).max(1) <= NEAR_COLOUR
                found.append(np.sort(np.stack([i[near], j[near] % n], 1), axis=1))
    every = np.unique(np.concatenate(found), axis=0)
    return every[every[:, 0] < every[:, 1]]


def bursts(cameras: Sequence[str], taken: Sequence[int]) -> list[tuple[int, int]]:
    """Photos of one camera at most `BURST_SECONDS` after each other, as pairs of neighbours.

    `taken`: seconds; 0: unknown. Cameras of unknown name are not one camera.
    """
    known = enumerate(zip(cameras, taken, strict=True))
    shots = sorted((camera, second, i) for i, (camera, second) in known if camera and second)
    crowds = Counter(shot[:2] for shot in shots)
    shots = [shot for shot in shots if crowds[shot[:2]] < TOO_MANY]
    return [
        (one[2], other[2])
        for one, other in pairwise(shots)
        if one[0] == other[0] and other[1] - one[1] <= BURST_SECONDS
    ]


def grouped(n: int, ties: Iterable[tuple[int, int]]) -> np.ndarray:
    """The group of each of n photos, named by its first member: int64 (n,). `ties` hold pairs together."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for one, other in ties:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(i) for i in range(n)], dtype=np.int64)


def same(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs that hold together what has the same name; "" is the name of nothing."""
    first: dict[str, int] = {}
    return [(first[name], i) for i, name in enumerate(names) if name and first.setdefault(name, i) != i]
