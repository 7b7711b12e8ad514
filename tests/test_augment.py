"""Views of photos: seeded, of one size, each strength acting as far as its number says and no further."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tlapp import backbones, catalog, dataset, images
from tlapp.augment import GREY, Views, view_seed
from tlapp.features import PLAIN, Photos
from tlapp.plan import AUGMENTATIONS, Augmentation, Plan
from tlapp.seeding import seeded

RESNET = catalog.get("resnet18")
LITE = catalog.get("efficientnet_lite0")
OFF = AUGMENTATIONS["off"]
SEEDS = range(24)


def photo(size=(300, 256), seed=0):
    """A smooth colour field with fine grain: every change of it shows."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 200, (5, 6, 3), dtype=np.uint8))
    field = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(int)
    return np.clip(field + rng.integers(-30, 30, field.shape), 0, 255).astype(np.uint8)


def square():
    """A white square of 80 pixels a side in the middle of a black photo of 256."""
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[88:168, 88:168] = 255
    return pixels


def views(pixels, entry=RESNET, **strengths):
    made = Views(replace(OFF, **strengths), entry)
    return [made.draw(pixels, seed) for seed in SEEDS]


def plain(pixels, entry=RESNET):
    return Views(OFF, entry).plain(pixels)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(300, 256), (256, 700), (20, 9), (256, 256)])
@pytest.mark.parametrize("entry", [RESNET, LITE], ids=lambda entry: entry.name)
def test_every_view_is_a_crop_of_bytes(entry, size, name):
    made = Views(AUGMENTATIONS[name], entry)
    for view in (made.draw(photo(size), 1), made.plain(photo(size))):
        assert (view.shape, view.dtype) == ((3, 224, 224), torch.uint8)


@pytest.mark.parametrize("name", ["light", "medium", "strong"])
def test_a_view_follows_its_seed_alone(name):
    made, again = Views(AUGMENTATIONS[name], RESNET), Views(AUGMENTATIONS[name], RESNET)
    first = made.draw(photo(), 5)
    for seed in (6, 7, 2**62):
        assert not torch.equal(made.draw(photo(), seed), first)
    torch.manual_seed(99)
    assert torch.equal(made.draw(photo(), 5), first)
    assert torch.equal(again.draw(photo(), 5), first)


def test_drawing_leaves_every_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    Views(AUGMENTATIONS["strong"], RESNET).draw(photo(), 5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_views_drawn_on_two_threads_are_those_drawn_on_one():
    made = Views(AUGMENTATIONS["medium"], RESNET)
    alone = [made.draw(photo(), seed) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: made.draw(photo(), seed), range(16)))
    assert all(map(torch.equal, alone, together))


def test_off_is_the_plain_view():
    for pixels in (photo(), photo((90, 70)), photo((256, 600))):
        assert torch.equal(Views(OFF, LITE).draw(pixels, 5), plain(pixels, LITE))


def test_the_plain_view_is_the_centre_of_pillows_resize():
    pixels = photo((600, 400))
    for entry, interpolation in ((RESNET, "bilinear"), (LITE, "bicubic")):
        resized = images.resize(pixels, 256, interpolation)
        assert torch.equal(plain(pixels, entry).permute(1, 2, 0), torch.tensor(resized[16:240, 80:304]))


def test_the_photo_itself_is_never_changed():
    pixels = photo()
    before = pixels.copy()
    Views(AUGMENTATIONS["strong"], RESNET).draw(pixels, 1).zero_()
    plain(pixels).zero_()
    assert np.array_equal(pixels, before)


# --- letterbox: all of a photo


def letterboxed(pixels, entry=RESNET):
    return Views(OFF, entry, "letterbox").plain(pixels)


def ended(size):
    """A blue photo with a red stripe at the start of its longer side and a green one at its end."""
    width, height = size
    pixels = np.full((height, width, 3), (0, 0, 255), np.uint8)
    along = pixels if height > width else pixels.transpose(1, 0, 2)
    along[: len(along) // 10] = (255, 0, 0)
    along[-(len(along) // 10) :] = (0, 255, 0)
    return pixels


def has_ends(view):
    red, green, _ = view.int()
    return bool((red > 230).any() and (green > 230).any())


@pytest.mark.parametrize("size", [(1000, 256), (256, 1000), (5120, 256), (60, 20)], ids=str)
@pytest.mark.parametrize("entry", [RESNET, LITE], ids=lambda entry: entry.name)
def test_with_letterbox_nothing_of_a_long_photo_is_cut_off(entry, size):
    made = Views(replace(OFF, horizontal_flip=0.5), entry, "letterbox")
    assert not has_ends(plain(ended(size), entry))
    assert has_ends(letterboxed(ended(size), entry))
    assert all(has_ends(made.draw(ended(size), seed)) for seed in SEEDS)
    assert has_ends(Views(OFF, entry, "letterbox").draw(ended(size), 1))


def test_a_letterboxed_photo_is_pillows_resize_of_it_between_grey_bars():
    for entry, filtered in ((RESNET, Image.Resampling.BILINEAR), (LITE, Image.Resampling.BICUBIC)):
        wide = photo((600, 300))
        view = letterboxed(wide, entry).permute(1, 2, 0).numpy()
        assert np.array_equal(view[56:168], np.asarray(Image.fromarray(wide).resize((224, 112), filtered)))
        assert (np.concatenate([view[:56], view[168:]]) == GREY).all()
        tall = letterboxed(wide.transpose(1, 0, 2).copy(), entry)
        assert (torch.cat([tall[:, :, :56], tall[:, :, 168:]], 2) == GREY).all()
        assert not (tall[:, :, 56:168] == GREY).all(0).all(0).any()


def test_bars_differ_by_one_pixel_where_they_cannot_be_equal():
    white = np.full((256, 257, 3), 255, np.uint8)
    rows = (letterboxed(white)[0] == GREY).all(1).sum()
    assert rows == 224 - round(256 * 224 / 257) == 1


@pytest.mark.parametrize("side", [256, 224, 20])
def test_a_square_photo_is_letterboxed_to_the_same_size_without_bars(side):
    white = np.full((side, side, 3), 255, np.uint8)
    view = letterboxed(white)
    assert view.shape == plain(white).shape == (3, 224, 224)
    assert (view == 255).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(300, 256), (256, 700), (20, 9)], ids=str)
def test_random_views_of_a_letterboxed_photo_are_those_of_its_padded_square(size, name):
    whole, cut = Views(AUGMENTATIONS[name], LITE, "letterbox"), Views(AUGMENTATIONS[name], LITE)
    padded = letterboxed(photo(size), LITE)
    assert padded.dtype == torch.uint8
    for seed in range(4):
        view = whole.draw(photo(size), seed)
        assert (view.shape, view.dtype) == ((3, 224, 224), torch.uint8)
        expected = padded if name == "off" else cut.draw(padded.permute(1, 2, 0).numpy(), seed)
        assert torch.equal(view, expected)


def test_crop_is_the_framing_where_none_is_said_and_is_what_torchvision_does():
    pixels, light = photo((700, 256)), AUGMENTATIONS["light"]
    chain = v2.Compose([
        v2.RandomResizedCrop(224, scale=(0.64, 1.0), interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(0.5),
    ])  # fmt: skip
    assert torch.equal(Views(light, LITE, "crop").plain(pixels), plain(pixels, LITE))
    for seed in range(8):
        with seeded(seed):
            expected = chain(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
        for made in (Views(light, LITE), Views(light, LITE, "crop")):
            assert torch.equal(made.draw(pixels, seed), expected)


def test_the_views_of_a_plan_are_framed_as_it_says():
    for framing in ("crop", "letterbox"):
        made = Views.of(Plan("efficientnet_lite0", (), framing=framing, augmentation=AUGMENTATIONS["strong"]))
        assert (made.framing, made.backbone, made.augmentation) == (framing, LITE, AUGMENTATIONS["strong"])


# --- each strength


STRENGTHS = {"crop": 0.5, "horizontal_flip": 1.0, "vertical_flip": 1.0, "rotation": 20.0, "zoom": 0.3, "shift": 0.2,
             "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "blur": 2.0, "erasing": 1.0}  # fmt: skip


def test_every_strength_is_tried_here():
    assert set(STRENGTHS) == {field.name for field in fields(Augmentation)}


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_strength_alone_changes_the_view(name):
    changed = [not torch.equal(view, plain(photo())) for view in views(photo(), **{name: STRENGTHS[name]})]
    assert sum(changed) > len(changed) * 0.9


def test_a_certain_flip_mirrors_the_plain_view():
    assert all(torch.equal(view, plain(photo()).flip(2)) for view in views(photo(), horizontal_flip=1.0))
    assert all(torch.equal(view, plain(photo()).flip(1)) for view in views(photo(), vertical_flip=1.0))


@pytest.mark.parametrize(("name", "axis"), [("horizontal_flip", 2), ("vertical_flip", 1)])
@pytest.mark.parametrize("probability", [0.25, 0.75])
def test_a_flip_happens_with_its_probability(name, axis, probability):
    made = Views(replace(OFF, **{name: probability}), RESNET)
    pixels = photo()
    upright, mirrored = plain(pixels), plain(pixels).flip(axis)
    flipped = 0
    for seed in range(200):
        view = made.draw(pixels, seed)
        flipped += torch.equal(view, mirrored)
        assert torch.equal(view, upright) or torch.equal(view, mirrored)
    assert flipped / 200 == pytest.approx(probability, abs=0.1)


def test_by_default_views_are_mirrored_left_to_right_alone():
    assert (Augmentation().horizontal_flip, Augmentation().vertical_flip) == (0.5, 0.0)


def extent(view):
    """Of the white square: its area in pixels, and its centre from the middle of the view."""
    rows, columns = torch.nonzero(view[0] > 190, as_tuple=True)
    return len(rows), rows.float().mean().item() - 111.5, columns.float().mean().item() - 111.5


def test_zoom_makes_things_larger_and_smaller_within_its_bound():
    areas = [extent(view)[0] / 80**2 for view in views(square(), zoom=0.3)]
    assert 0.7**2 * 0.95 < min(areas) < 0.8
    assert 1.2 < max(areas) < 1.3**2 * 1.05


def test_shift_moves_things_each_way_within_its_bound():
    moved = np.array([extent(view)[1:] for view in views(square(), shift=0.2)])
    assert np.abs(moved).max() <= 0.2 * 224 + 1
    assert (moved.min(0) < -20).all()
    assert (moved.max(0) > 20).all()


def test_rotation_turns_things_each_way_within_its_bound():
    bar = np.zeros((256, 256, 3), np.uint8)
    bar[120:136, 64:192] = 255
    angles = []
    for view in views(bar, rotation=20.0):
        rows, columns = np.nonzero(view[0].numpy() > 190)
        angles.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert -21 < min(angles) < -10
    assert 10 < max(angles) < 21


def test_what_rotation_uncovers_is_grey():
    white = np.full((256, 256, 3), 255, np.uint8)
    turned = torch.stack(views(white, rotation=45.0))
    assert (turned[:, :, 0, 0] == GREY).any()
    assert turned.min() > 100


def test_crop_keeps_at_least_the_area_it_says():
    columns = np.arange(256, dtype=np.uint8)[None, :, None].repeat(256, 0).repeat(3, 2)
    widths = []
    for view in views(columns, crop=0.5):
        row = view[0, 112].float()
        widths.append((row.max() - row.min()).item())
    assert min(widths) < 220
    assert min(widths) > 256 * (0.5 * 3 / 4) ** 0.5 - 4


def test_erasing_paints_a_grey_rectangle_with_its_probability():
    white = np.full((256, 256, 3), 255, np.uint8)
    for view in views(white, erasing=1.0):
        rows, columns = torch.nonzero((view == GREY).all(0), as_tuple=True)
        height, width = (int(x.max() - x.min()) + 1 for x in (rows, columns))
        assert len(rows) == height * width > 500
        assert ((view == GREY) | (view == 255)).all()
    erased = sum((view == GREY).any().item() for view in views(white, erasing=0.5))
    assert 4 <= erased <= 20


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_light_changes_both_ways_within_its_bound(name):
    measure = {"brightness": lambda v: v.float().mean(), "contrast": lambda v: v.float().std()}[name]
    original = measure(plain(photo()))
    ratios = [(measure(view) / original).item() for view in views(photo(), **{name: 0.3})]
    assert 0.68 < min(ratios) < 0.9
    assert 1.1 < max(ratios) < 1.32


def test_saturation_changes_colours_and_leaves_greys():
    grey = photo()[..., :1].repeat(3, 2)
    assert all((view.int() - plain(grey).int()).abs().max() <= 1 for view in views(grey, saturation=0.5))
    colour = photo()
    spread = [(view.amax(0).int() - view.amin(0).int()).float().mean().item() for view in views(colour, saturation=0.5)]
    original = (plain(colour).amax(0).int() - plain(colour).amin(0).int()).float().mean().item()
    assert min(spread) < original * 0.8
    assert max(spread) > original * 1.2


def test_blur_takes_grain_away_and_keeps_the_light():
    def grain(view):
        return (view[:, :, 1:].float() - view[:, :, :-1].float()).abs().mean().item()

    original = plain(photo())
    blurred = views(photo(), blur=2.0)
    assert min(map(grain, blurred)) < grain(original) / 4
    assert all(abs(view.float().mean() - original.float().mean()) < 1 for view in blurred)


def test_normalise_is_the_published_preprocessing():
    view = plain(photo(), LITE)
    inputs = Views(OFF, LITE).normalise([view, view.flip(2)])
    assert torch.allclose(inputs, torch.stack([view, view.flip(2)]) / 127.5 - 1, atol=1e-6)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    from torchvision.models import ResNet18_Weights

    pixels = photo((256, 256))
    theirs = ResNet18_Weights.IMAGENET1K_V1.transforms()(Image.fromarray(pixels))
    (ours,) = Views(OFF, RESNET).normalise([plain(pixels)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_views_seed_differs_by_run_photo_and_draw_and_never_changes():
    seeds = {view_seed(run, photo, draw) for run in (0, 1) for photo in ("a" * 64, "b" * 64) for draw in range(5)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Another value would give runs that are resumed other views.
    assert view_seed(0, "a" * 64, 0) == 5902531914033679430


def test_training_learns_from_the_very_views_that_a_preview_draws(make_folder):
    data = dataset.scan(make_folder({"reds": 3, "blues": 3}))
    made = Views(AUGMENTATIONS["strong"], RESNET)
    photos = Photos(data, np.array([4, 1]), made, seed=9)
    for draw in (0, 3):
        inputs = photos.inputs([1, 0], draw)
        for row, index in zip(inputs, (1, 4), strict=True):
            preview = made.draw(data.pixels(index), view_seed(9, data.photos[index].sha256, draw))
            assert torch.equal(row, made.normalise([preview])[0])
    assert torch.equal(photos.inputs([0], PLAIN), made.normalise([made.plain(data.pixels(4))]))


def test_a_view_is_the_same_while_another_thread_builds_a_network(monkeypatch):
    """The network is begun in the midst of a view, and goes on building until the view is drawn."""
    made = Views(AUGMENTATIONS["strong"], RESNET)
    expected = made.draw(photo(), 5)
    building, drawn, empty, transform = threading.Event(), threading.Event(), backbones._empty, made._transform
    other = threading.Thread(target=backbones.build, args=(RESNET, 2))

    def slow_empty(entry):
        building.set()
        drawn.wait(10)
        return empty(entry)

    def slow_transform(pixels):
        other.start()
        building.wait(0.5)
        return transform(pixels)

    monkeypatch.setattr(backbones, "_empty", slow_empty)
    made._transform = slow_transform
    try:
        assert torch.equal(made.draw(photo(), 5), expected)
    finally:
        drawn.set()
        other.join()
