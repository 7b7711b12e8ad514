"""Damaged pictures and hostile zips, each made from a seed and a number alone, so that any one can be made again.

Shared by the benchmark `fuzz` and the tests. Knows nothing of who reads them.
"""

from __future__ import annotations

import bz2
import functools
import io
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, features

Rng = np.random.Generator


@functools.cache
def originals() -> dict[str, bytes]:
    """Small pictures of every format that is read, in the variants whose readers differ."""
    coarse = np.random.default_rng(3).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
    other = picture.transpose(Image.Transpose.ROTATE_180)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [other]}
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG": (picture, "JPEG", {"exif": exif}),
        "JPEG, progressive": (picture, "JPEG", {"progressive": True}),
        "JPEG, CMYK": (picture.convert("CMYK"), "JPEG", {}),
        "JPEG, two in one (MPO)": (picture, "MPO", frames),
        "PNG": (picture, "PNG", {"exif": exif}),
        "PNG, palette": (picture.quantize(16), "PNG", {"transparency": 3}),
        "PNG, 16 bit": (deep, "PNG", {}),
        "PNG, animated": (picture, "PNG", frames),
        "WebP": (picture, "WEBP", {}),
        "WebP, lossless": (picture, "WEBP", {"lossless": True}),
        "WebP, animated": (picture, "WEBP", frames),
        "GIF, animated": (picture, "GIF", frames),
        "TIFF": (picture, "TIFF", {}),
        "TIFF, LZW": (picture, "TIFF", {"compression": "tiff_lzw"}),
        "TIFF, deflate": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "TIFF, JPEG": (picture, "TIFF", {"compression": "jpeg"}),
        "TIFF, CCITT": (picture.convert("1"), "TIFF", {"compression": "group4"}),
        "BMP": (picture, "BMP", {}),
        "BMP, palette": (picture.quantize(16), "BMP", {}),
        "JPEG 2000": (picture, "JPEG2000", {}),
        "PPM": (picture, "PPM", {}),
    }
    if features.check("avif"):
        made["AVIF"] = (picture, "AVIF", {})
    return {name: encoded(shown, kind, **options) for name, (shown, kind, options) in made.items()}


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file of that format."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int, number: int) -> tuple[str, bytes]:
    """A damaged picture and the format it had."""
    rng = np.random.default_rng([seed, number])
    names = list(originals())
    name = names[number % len(names)]
    data = originals()[name]
    for _ in range(1 + int(rng.integers(3))):
        data = mutated(rng, data)
    if name.startswith("PNG") and rng.random() < 0.7:
        data = _with_right_sums(data)
    return name, data


def mutants(rng: Rng, whole: bytes, n: int) -> Iterator[bytes]:
    """The same file, damaged once, in `n` ways."""
    for i in range(n):
        yield mutated(rng, whole, i % _WAYS)


_WAYS = 8
_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def mutated(rng: Rng, whole: bytes, way: int | None = None) -> bytes:
    """Bytes flipped, overwritten, cut, repeated, dropped, made extreme, spliced or added, behind the signature."""
    data = bytearray(whole)
    if len(data) < 16:
        return whole + rng.bytes(16)
    # Half of the time near the beginning, where the sizes stand.
    most = len(data) if rng.random() < 0.5 else min(len(data), 200)
    at, span = int(rng.integers(4, most)), int(rng.integers(1, 64))
    match int(rng.integers(_WAYS)) if way is None else way:
        case 0:
            for k in rng.integers(4, most, int(rng.integers(1, 8))):
                data[k] ^= 1 << int(rng.integers(8))
        case 1:
            data[at : at + span] = rng.bytes(span)
        case 2:
            del data[at:]
        case 3:
            data[at:at] = data[at : at + span] * int(rng.integers(1, 4))
        case 4:
            del data[at : at + span]
        case 5:
            form = (">B", ">H", "<H", ">I", "<I")[int(rng.integers(5))]
            value = _EXTREMES[int(rng.integers(len(_EXTREMES)))] & ((1 << 8 * struct.calcsize(form)) - 1)
            data[at : at + struct.calcsize(form)] = struct.pack(form, value)
        case 6:
            names = list(originals())
            other = originals()[names[int(rng.integers(len(names)))]]
            data[at:] = other[int(rng.integers(len(other))) :]
        case 7:
            data += rng.bytes(span)
    return bytes(data)


def _with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the right check sums again, so that what is in them is looked at."""
    made, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        made[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(made)


# Zips, written by hand, as zipfile would not write them.


@dataclass(frozen=True)
class Entry:
    """One entry as it is to stand in the zip; None: what is true."""

    name: bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0x800
    mode: int = 0o100644
    size: int | None = None
    packed_size: int | None = None
    listed_at: int | None = None
    extra: bytes = b""


_PACK: dict[int, Callable[[bytes], bytes]] = {
    8: lambda data: zlib.compress(data)[2:-4],
    12: bz2.compress,
    14: lambda data: b"\x09\x04\x05\x00" + lzma.compress(data, lzma.FORMAT_ALONE)[:5] + lzma.compress(
        data, lzma.FORMAT_ALONE
    )[13:],
}  # fmt: skip


def write_zip(entries: list[Entry], comment: bytes = b"", count: int | None = None) -> bytes:
    """The bytes of a zip of these entries."""
    body, listed = bytearray(), bytearray()
    for entry in entries:
        packed = _PACK.get(entry.method, bytes)(entry.data)
        size = len(entry.data) if entry.size is None else entry.size
        packed_size = len(packed) if entry.packed_size is None else entry.packed_size
        at = len(body) if entry.listed_at is None else entry.listed_at
        common = struct.pack(
            "<HHHHHIIIHH", 20, entry.flags, entry.method, 0, 0x21, zlib.crc32(entry.data), packed_size, size,
            len(entry.name), len(entry.extra),
        )  # fmt: skip
        body += b"PK\x03\x04" + common + entry.name + entry.extra + packed
        listed += b"PK\x01\x02" + struct.pack("<H", 0x0314) + common
        listed += struct.pack("<HHHII", 0, 0, 0, entry.mode << 16, at) + entry.name + entry.extra
    n = (len(entries) if count is None else count) & 0xFFFF
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, n, n, len(listed), len(body), len(comment))
    return bytes(body + listed + end + comment)


@functools.cache
def _good() -> tuple[Entry, ...]:
    """Six photos in two classes."""
    found = []
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        name = f"{('reds', 'blues')[i % 2]}/{i}.png"
        found.append(Entry(name.encode(), encoded(Image.fromarray(noise), "PNG"), method=8 * (i % 2)))
    return tuple(found)


def _some(rng: Rng, values: list[bytes]) -> bytes:
    return values[int(rng.integers(len(values)))]


def _named(*names: bytes) -> Callable[[Rng], list[Entry]]:
    return lambda rng: [Entry(_some(rng, list(names)), _good()[0].data) for _ in range(3)]


def _lying(rng: Rng) -> list[Entry]:
    sizes = [0, 1, 4, 2**20, 2**31, 2**32 - 1]
    size, packed = (sizes[int(rng.integers(len(sizes)))] for _ in range(2))
    which = int(rng.integers(3))
    size_, packed_ = (size if which != 1 else None), (packed if which != 0 else None)
    return [Entry(b"reds/lie.png", _good()[0].data * 3, 8 * int(rng.integers(2)), size=size_, packed_size=packed_)]


def _table(rng: Rng) -> list[Entry]:
    cells = [b"reds/0.png", b"blues/1.png", b"../../x.png", b"/etc/passwd", b"C:\\x.png", b"a", b"", b'"', b"\0",
             b"\xff", "\u202eüñ".encode(), b"x" * 300, b"reds/4.png", b"train", b"=1+1", b"<b>"]  # fmt: skip
    lines = [_some(rng, [b",", b";", b"\t"]).join(_some(rng, cells) for _ in range(3)) for _ in range(12)]
    lines += [b"%s,%s," % (entry.name, b"ab"[i % 2 :][:1]) for i, entry in enumerate(_good())]
    head = _some(
        rng, [b"file,label,split", b"\xef\xbb\xbflabel,file", b"file;label;split", b"file\tlabel", b"name,label"]
    )
    return [Entry(_some(rng, [b"labels.csv", b"LABELS.CSV", b"reds/l.csv"]), b"\n".join([head, *lines]), 8)]


KINDS: dict[str, Callable[[Rng], list[Entry]]] = {
    "ordinary": lambda rng: [],
    "paths that lead out": _named(b"../x.png", b"reds/../../x.png", b"../" * 20 + b"x.png", b".git/../../x.png", b".."),
    "absolute paths": _named(b"/x.png", b"//server/x.png", b"C:/x.png", b"C:\\x.png", b"/tmp/tlapp-fuzz/x.png", b"c:x"),
    "backslashes": _named(b"..\\..\\x.png", b"reds\\y.png", b"\\\\server\\x.png", b"\\x.png", b"reds\\", b"\\"),
    "links": lambda rng: [
        Entry(b"link", b"/etc", mode=0o120777), Entry(b"link/x.png", _good()[0].data),
        Entry(b"reds/l.png", b"../../../../etc/passwd", mode=0o120777), Entry(b"dev", mode=0o020666),
    ],
    "overlaps": lambda rng: [
        Entry(b"reds/%d.png" % i, bytes(2000), 8, listed_at=int(rng.integers(3))) for i in range(10, 20)
    ],
    "entries within entries": lambda rng: [
        Entry(b"reds/q.png", write_zip(list(_good())), packed_size=int(rng.integers(4000))),
        replace(_good()[0], name=b"x"),
    ],
    "sizes that lie": _lying,
    "duplicates": lambda rng: [
        *_good()[:2], replace(_good()[0], name=b"reds/./0.png"), replace(_good()[1], name=b"reds"),
    ],
    "passwords": lambda rng: [Entry(b"reds/p.png", rng.bytes(60), 8, flags=0x801), Entry(b"a/", flags=1)],
    "odd packing": lambda rng: [
        Entry(b"reds/o%d.png" % i, rng.bytes(90), int(method))
        for i, method in enumerate(rng.choice([1, 6, 9, 12, 14, 93, 97, 99], 3))
    ],
    "zips in the zip": lambda rng: [Entry(b"reds/n.zip", write_zip(list(_good()))), Entry(b"n.png", write_zip([]))],
    "bombs": lambda rng: [
        Entry(b"reds/b%d.png" % m, bytes(2_000_000), m, size=None if rng.random() < 0.7 else 10) for m in (8, 12, 14)
    ],
    "names of every kind": _named(
        b"", b"/", b".", b"./", b"reds", b"reds/0.png/x.png", b"a\0b.png", b"\xff\xfe.png", b"x" * 5000, b"reds/" * 500,
        b"a/" * 30_000 + b"x.png",
        b"\n.png", b"con/nul.png", "reds/\u202e.png".encode(), "\ud800".encode("utf-8", "surrogatepass"), b"a:b/c.png",
    ),
    "names of an old code page": lambda rng: [Entry(rng.bytes(9) + b"/x.png", _good()[0].data, flags=0)],
    "odd extra fields": lambda rng: [
        Entry(b"reds/e.png", _good()[0].data, extra=extra)
        for extra in (b"\x01\0\x08\0" + rng.bytes(8), b"\x01\0\xff\xff", rng.bytes(30))[int(rng.integers(3)) :][:1]
    ],
    "lists of labels": _table,
    "damaged pictures": lambda rng: [
        Entry(b"reds/d%d.png" % i, picture(int(rng.integers(2**31)), int(rng.integers(99)))[1]) for i in range(4)
    ],
}  # fmt: skip


def hostile_zip(seed: int, number: int) -> tuple[str, bytes]:
    """What is wrong, and a zip of six photos with that added; every other one has bytes changed anywhere besides."""
    rng = np.random.default_rng([seed, number, 1])
    kind = list(KINDS)[number % len(KINDS)]
    entries = [*_good(), *KINDS[kind](rng)]
    if rng.random() < 0.3:
        rng.shuffle(entries)  # type: ignore[arg-type]
    data = write_zip(
        entries, rng.bytes(int(rng.integers(3)) * 9), None if rng.random() < 0.9 else int(rng.integers(2**16))
    )
    if rng.random() < 0.1:
        data = rng.bytes(50) + data
    if number // len(KINDS) % 2:
        changed = bytearray(data)
        for k in rng.integers(len(data) // 2 if rng.random() < 0.7 else 0, len(data), int(rng.integers(1, 6))):
            changed[k] = int(rng.integers(256))
        data = mutated(rng, bytes(changed)) if rng.random() < 0.3 else bytes(changed)
    return kind, data
