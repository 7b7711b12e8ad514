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


@pytest.mark.parametrize("seed", range(5))
def test_a_mirrored_photo_of_a_thing_on_a_plain_ground_looks_the_same(seed):
    picture = Image.new("RGB", (160, 120), "white")
    picture.paste(scene(seed).resize((70, 60)), (20, 30))
    both = [looks.look(np.asarray(p)) for p in (picture, ImageOps.mirror(picture))]
    assert looks.pairs(both) == [(0, 1)]


def test_a_mirrored_copy_of_a_mirrored_copy_is_paired_once():
    picture = scene(3)
    known = [looks.look(np.asarray(p)) for p in (picture, ImageOps.mirror(picture), picture.resize((80, 60)))]
    assert sorted(looks.pairs(known)) == [(0, 1), (0, 2), (1, 2)]


def test_pairs_are_those_that_a_comparison_of_every_bit_finds():
    generator = np.random.default_rng(0)
    seeds = generator.integers(0, 2, (20, 64), dtype=np.uint8)
    bits = np.repeat(seeds, 10, axis=0)
    for row in bits:
        row[generator.choice(64, generator.integers(0, 6), replace=False)] ^= 1
    known = [np.packbits(row).tobytes().hex() + "80808040" for row in bits]
    mirrored = 1 - bits.reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
    apart = np.minimum(*((bits[:, None] != other[None]).sum(2) for other in (bits, mirrored)))
    first = [known.index(text) for text in known]
    wanted = {(i, j) for i in range(200) for j in range(i) if apart[i, j] <= looks.NEAR_BITS and first[i] == i}
    wanted = {(j, i) for i, j in wanted if first[j] == j} | {(first[i], i) for i in range(200) if first[i] != i}
    found = looks.pairs(known)
    assert set(found) == wanted
    assert len(found) == len(wanted) > 500


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photos are not here")
@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_real_photos_are_tied_to_their_originals_alone(change):
    pictures = [Image.open(path).convert("RGB") for path in sorted((SHARED / "flowers-400").rglob("*.jpg"))[::25]]
    known = [looks.look(np.asarray(p)) for p in pictures]
    known += [looks.look(CHANGES[change](p)) for p in pictures]
    n, found = len(pictures), looks.pairs(known)
    assert all(j == i + n for i, j in found)
    assert len(found) >= 0.9 * n


def test_photos_of_cameras_without_a_name_are_no_burst():
    assert looks.bursts(["", "", "A", "A"], [100, 101, 100, 101]) == [(2, 3)]


def test_a_burst_is_followed_from_shot_to_shot_in_the_order_of_the_clock():
    assert looks.bursts(["A"] * 4, [106, 100, 103, 110]) == [(1, 2), (2, 0)]


def test_photos_without_looks_or_times_are_each_their_own_group():
    assert looks.pairs([]) == looks.pairs([""]) == looks.bursts([], []) == []
    assert looks.grouped(3, []).tolist() == [0, 1, 2]
