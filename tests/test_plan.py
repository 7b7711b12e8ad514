"""Plans: validated, read from text and JSON, suggested by the dataset's size."""

import pytest

from tlapp import catalog, dataset, plan
from tlapp.errors import PlanError

RESNET = catalog.get("resnet18")


def test_json_round_trip_is_exact():
    made = plan.Plan("resnet18", ("layer1", "stem"), augmentation=plan.AUGMENTATIONS["strong"], split_seed=4)
    assert plan.Plan.from_json(made.to_json()) == made
    assert made.frozen == ("stem", "layer1")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head_rat": "1"}, "head_rate"),
        ({"epochs": "0"}, "epochs is 0"),
        ({"epochs": "many"}, "whole number"),
        ({"head_rate": "nan"}, "head_rate"),
        ({"dropout": "1.5"}, "dropout"),
        ({"solver": "magic"}, "solver"),
        ({"frozen": "layer9"}, "layer9"),
        ({"augmentation": "wild"}, "augmentation"),
        ({"augmentation.rotation": "400"}, "rotation"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"test_fraction": "0.5", "validation_fraction": "0.5"}, "too few"),
    ],
)
def test_a_wrong_setting_is_named(settings, words):
    with pytest.raises(PlanError, match=words):
        plan.Plan("resnet18", ()).with_settings(settings)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"backbone": 3, "frozen": []}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(PlanError):
        plan.Plan.from_json(text)


def test_settings_given_as_text_arrive_typed():
    made = plan.Plan("resnet18", ()).with_settings(
        {
            "epochs": "3",
            "augmentation": "off",
            "augmentation.vertical_flip": "0.5",
            "frozen": "all",
            "split_seed": "none",
        }
    )
    assert (made.epochs, made.augmentation.crop, made.augmentation.vertical_flip) == (3, 0.0, 0.5)
    assert made.frozen == RESNET.block_names
    assert made.head_only


def test_half_of_the_epochs_at_most_train_the_head_alone():
    assert plan.Plan("resnet18", (), epochs=1).n_head_epochs == 0
    assert plan.Plan("resnet18", (), epochs=6).n_head_epochs == 3
    assert plan.Plan("resnet18", (), epochs=100).n_head_epochs == 10


def test_suggestions_follow_the_size_of_the_data(make_folder):
    small = plan.suggest(dataset.scan(make_folder({"reds": 12, "blues": 4})))
    assert (small.backbone, small.views, small.batch_size) == ("efficientnet_lite0", 8, 8)
    assert small.class_weighting == "balanced"
    even = plan.suggest(dataset.scan(make_folder({"reds": 32, "blues": 31}, "even")))
    assert (even.views, even.batch_size, even.class_weighting) == (4, 32, "none")
    assert even.head_only


def test_suggestions_do_not_count_test_photos(make_folder):
    held_back = plan.suggest(dataset.scan(make_folder({"reds": 30, "blues": 30})))
    assert (held_back.views, held_back.batch_size) == (8, 8)  # 48 are left when the test photos are drawn
    apart = {"train/reds": 15, "train/blues": 14, "test/reds": 2, "test/blues": 28}
    few = plan.suggest(dataset.scan(make_folder(apart, "apart")))
    assert (few.views, few.batch_size, few.class_weighting) == (8, 8, "none")
    uneven = {"train/reds": 9, "train/blues": 3, "test/reds": 1, "test/blues": 7}
    assert plan.suggest(dataset.scan(make_folder(uneven, "uneven"))).class_weighting == "balanced"
