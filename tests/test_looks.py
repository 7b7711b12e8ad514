"""What belongs together at a glance: copies of a photo, and shots of one burst."""

import io

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image, ImageEnhance, ImageOps

from tlapp import images, looks


def scene(seed):
    """A picture of large soft shapes, as photos have them: uint8 (120, 160, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)


def recoded(picture, quality):
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return images.load(out.getvalue())


CHANGES = {
    "compressed": lambda p: recoded(p, 30),
    "half the size": lambda p: np.asarray(p.resize((80, 60))),
    "brighter": lambda p: np.asarray(ImageEnhance.Brightness(p).enhance(1.08)),
    "mirrored": lambda p: np.asarray(ImageOps.mirror(p)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", range(5))
def test_a_changed_copy_looks_the_same(change, seed):
    picture = scene(seed)
    assert looks.pairs([looks.look(np.asarray(picture)), looks.look(CHANGES[change](picture))]) == [(0, 1)]


def test_different_photos_do_not_look_the_same():
    assert looks.pairs([looks.look(np.asarray(scene(seed))) for seed in range(60)]) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photos are not here")
def test_no_two_real_photos_look_the_same():
    files = sorted((SHARED / "flowers-400").rglob("*.jpg"))[::4]
    assert len(files) == 100
    assert looks.pairs([looks.look(images.load(path.read_bytes())) for path in files]) == []


def test_plain_pictures_are_told_apart_by_their_colour():
    plain = [looks.look(np.full((40, 40, 3), colour, np.uint8)) for colour in ((200, 0, 0), (0, 0, 200), (205, 5, 5))]
    assert looks.pairs(plain) == [(0, 2)]


def test_a_photo_whose_look_is_unknown_is_like_none():
    known = looks.look(np.asarray(scene(0)))
    assert looks.pairs(["", known, "", known]) == [(1, 3)]


def test_pairs_are_found_across_pieces_of_the_comparison(monkeypatch):
    monkeypatch.setattr(looks, "_ROWS", 2)
    known = [looks.look(np.asarray(scene(seed))) for seed in (0, 1, 2, 0, 1)]
    assert sorted(looks.pairs(known)) == [(0, 3), (1, 4)]


def test_shots_of_one_camera_a_moment_apart_are_a_burst():
    cameras = ["A", "A", "B", "A", "A", "A"]
    taken = [100, 103, 101, 107, 0, 0]
    assert looks.bursts(cameras, taken) == [(0, 1)]


def test_a_clock_that_was_never_set_makes_no_burst():
    n = looks.TOO_MANY
    assert looks.bursts(["A"] * n, [5] * n) == []
    assert len(looks.bursts(["A"] * (n - 1), [5] * (n - 1))) == n - 2


def test_ties_are_followed_through():
    assert looks.grouped(6, [(4, 2), (2, 5), (1, 0)]).tolist() == [0, 0, 2, 3, 2, 2]
    assert looks.same(["x", "", "y", "x", "", "x"]) == [(0, 3), (0, 5)]


def test_facts_of_a_file_are_read_as_it_is_to_be_seen():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Canon", "Canon EOS 5D\0"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 10:20:30"
    out = io.BytesIO()
    scene(0).save(out, "JPEG", exif=exif)
    found = images.facts(out.getvalue())
    assert (found.height, found.width, found.camera) == (160, 120, "Canon EOS 5D")
    later = images.Facts(taken=found.taken + 5)
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 10:20:35"
    out = io.BytesIO()
    scene(0).save(out, "JPEG", exif=exif)
    assert images.facts(out.getvalue()).taken == later.taken


def test_facts_that_cannot_be_read_stay_empty():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "not a date"
    out = io.BytesIO()
    scene(0).save(out, "JPEG", exif=exif)
    assert images.facts(out.getvalue()) == images.Facts(120, 160, "Maker", 0)
    assert images.facts(b"nothing") == images.Facts()
