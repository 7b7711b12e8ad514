"""The heat map shows where the class is, and comes from the weights that answer."""

import copy
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import SHARED, watch
from PIL import Image

from tlapp import backbones, catalog, dataset, explain, images, jobs, predict
from tlapp.augment import Views
from tlapp.catalog import INCLUDED
from tlapp.plan import AUGMENTATIONS, instant
from tlapp.predict import Predictor

FLOWERS = SHARED / "flowers-400"
real = pytest.mark.skipif(not FLOWERS.is_dir(), reason="the real photos are not here")


@pytest.fixture(scope="module")
def knows_flowers(tmp_path_factory):
    """An instant model of two kinds of flowers, 20 photos each, and a photo of each that it has not seen."""
    root = tmp_path_factory.mktemp("flowers")
    names = sorted(path.name for path in FLOWERS.iterdir() if path.is_dir())[:2]
    unseen = []
    for name in names:
        (root / "photos" / name).mkdir(parents=True)
        files = sorted((FLOWERS / name).iterdir())
        for path in files[:20]:
            shutil.copy(path, root / "photos" / name)
        unseen.append(images.load(files[30].read_bytes()))
    data = dataset.scan(root / "photos", home=root / "home")
    run = jobs.start(data, instant(data, INCLUDED), root / "home")
    watch(run)
    return predict.load(run), unseen


def alike(one, other):
    """Correlation of two maps."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@real
def test_what_speaks_for_the_class_lies_where_the_flower_is(knows_flowers):
    """A flower pasted into a corner of a plain picture draws the map there, whichever corner it is."""
    predictor, photos = knows_flowers
    found = 0
    for photo in photos:
        small = np.asarray(Image.fromarray(photo).resize((128, 128)))
        for corner, (top, left) in enumerate(((0, 0), (0, 128), (128, 0), (128, 128))):
            canvas = np.full((256, 256, 3), 128, np.uint8)
            canvas[top : top + 128, left : left + 128] = small
            best = int(predictor.probabilities([canvas])[0].argmax())
            heat = explain.heat_map(predictor, canvas, best)
            assert heat.shape == (224, 224)
            assert heat.min() >= 0
            assert heat.max() == pytest.approx(1)
            shares = heat.reshape(2, 112, 2, 112).sum((1, 3)).ravel()
            found += int(shares.argmax()) == corner
    assert found >= 6


@real
@pytest.mark.parametrize("what", ["head", "last block", "all"])
def test_random_weights_give_another_map(knows_flowers, what):
    """The sanity check of Adebayo et al. (NeurIPS 2018): a map that stayed would tell of the picture alone."""
    predictor, photos = knows_flowers
    changed = copy.deepcopy(predictor)
    torch.manual_seed(0)
    parts = {
        "head": [changed.model.head],
        "last block": [list(changed.model.blocks.values())[-1]],
        "all": [changed.model],
    }[what]
    for part in parts:
        for value in part.parameters():
            value.data = torch.randn_like(value) * value.std().nan_to_num(1)
    maps = [[explain.heat_map(p, photo, 0) for photo in photos] for p in (predictor, changed)]
    assert np.mean([alike(one, other) for one, other in zip(*maps, strict=True)]) < 0.6


@real
def test_the_map_of_another_class_is_another(knows_flowers):
    predictor, photos = knows_flowers
    for photo in photos:
        assert alike(explain.heat_map(predictor, photo, 0), explain.heat_map(predictor, photo, 1)) < 0.5


@pytest.mark.parametrize("framing", ["crop", "letterbox"])
def test_a_map_covers_the_view_and_leaves_the_model_as_it_was(framing):
    entry = catalog.get(INCLUDED)
    views = Views(AUGMENTATIONS["off"], entry, framing)
    predictor = Predictor(backbones.build(entry, 3, several=True), views, ("a", "b", "c"))
    photo = np.random.default_rng(0).integers(0, 256, (300, 200, 3)).astype(np.uint8)
    before = predictor.probabilities([photo])
    heat = explain.heat_map(predictor, photo, 1)
    assert heat.shape == (entry.crop, entry.crop)
    assert heat.dtype == np.float32
    assert np.isfinite(heat).all()
    assert np.array_equal(predictor.probabilities([photo]), before)
    assert all(value.grad is None and not value.requires_grad for value in predictor.model.parameters())


def test_a_fine_tuned_run_explains_itself(own_run, small_pictures):
    predictor = predict.load(own_run)
    heat = explain.heat_map(predictor, np.full((64, 64, 3), 90, np.uint8), 0)
    assert heat.shape == (56, 56)


def test_two_threads_that_look_at_once_do_not_disturb_each_other():
    entry = catalog.get(INCLUDED)
    predictor = Predictor(backbones.build(entry, 2), Views(AUGMENTATIONS["off"], entry), ("a", "b"))
    photos = [np.random.default_rng(i).integers(0, 256, (224, 224, 3)).astype(np.uint8) for i in range(2)]
    maps = [explain.heat_map(predictor, photo, 0) for photo in photos]
    answers = predictor.probabilities(photos[:1])
    with ThreadPoolExecutor(3) as pool:
        drawn = [pool.submit(explain.heat_map, predictor, photos[i % 2], 0) for i in range(12)]
        asked = [pool.submit(predictor.probabilities, photos[:1]) for _ in range(12)]
        assert all(np.allclose(one.result(), maps[i % 2], atol=1e-4) for i, one in enumerate(drawn))
        assert all(np.allclose(one.result(), answers) for one in asked)
