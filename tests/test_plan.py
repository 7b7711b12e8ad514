"""Plans: validated, read from text and JSON, suggested by the dataset's size."""

import pytest

from tlapp import catalog, dataset, plan, settings
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
        ({"framing": "squeeze"}, "framing is `squeeze`; it must be crop or letterbox"),
        ({"framming": "crop"}, "Did you mean framing"),
        ({"split_seed": "-1"}, "split_seed is -1"),
        ({"test_fraction": "0.5", "validation_fraction": "0.5"}, "too few"),
    ],
)
def test_a_wrong_setting_is_named(settings, words):
    with pytest.raises(PlanError, match=words):
        plan.Plan("resnet18", ()).with_settings(settings)


def test_a_plan_that_was_written_before_there_was_framing_crops():
    old = plan.Plan("resnet18", ()).to_dict()
    assert old.pop("framing") == "crop"
    assert plan.Plan.from_dict(old) == plan.Plan("resnet18", ())


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
    assert (even.views, even.batch_size, even.class_weighting) == (8, 32, "none")
    assert even.head_only
    large = plan.suggest(dataset.scan(make_folder({"train/reds": 51, "train/blues": 50, "test/blues": 1}, "large")))
    assert (large.views, large.batch_size, large.class_weighting) == (4, 32, "none")
    assert {small.solver, even.solver, large.solver} == {"auto"}


def test_suggestions_do_not_count_test_photos(make_folder):
    held_back = plan.suggest(dataset.scan(make_folder({"reds": 30, "blues": 30})))
    assert (held_back.views, held_back.batch_size) == (8, 8)  # 48 are left when the test photos are drawn
    apart = {"train/reds": 15, "train/blues": 14, "test/reds": 2, "test/blues": 28}
    few = plan.suggest(dataset.scan(make_folder(apart, "apart")))
    assert (few.views, few.batch_size, few.class_weighting) == (8, 8, "none")
    uneven = {"train/reds": 9, "train/blues": 3, "test/reds": 1, "test/blues": 7}
    assert plan.suggest(dataset.scan(make_folder(uneven, "uneven"))).class_weighting == "balanced"


# --- solvers

ALL = RESNET.block_names
AUTO = plan.Plan("resnet18", ALL, solver="auto")
MOST = "stem,layer1,layer2,layer3"


@pytest.mark.parametrize(
    ("settings", "solver"),
    [
        ({}, "auto"),
        ({"seed": "4", "augmentation": "off", "views": "2", "mirror": "on"}, "auto"),
        ({"head": "ridge", "l2": "0.5"}, "auto"),
        ({"framing": "letterbox"}, "auto"),
        ({"framing": "letterbox", "epochs": "3"}, "sgd"),
        ({"frozen": "all"}, "exact"),
        ({"frozen": ",".join(ALL)}, "exact"),
        ({"frozen": "none"}, "sgd"),
        ({"frozen": MOST}, "sgd"),
        ({"epochs": "3"}, "sgd"),
        ({"epochs": "3", "frozen": "all"}, "sgd"),
        ({"dropout": "0.1"}, "sgd"),
        ({"sampling": "balanced"}, "sgd"),
        ({"solver": "exact"}, "exact"),
        ({"frozen": "all", "solver": "auto"}, "auto"),
        ({"frozen": "all", "solver": "sgd"}, "sgd"),
        ({"frozen": "none", "solver": "sgd"}, "sgd"),
    ],
    ids=str,
)
def test_the_solver_follows_the_settings_that_are_given(settings, solver):
    made = AUTO.with_settings(settings)
    assert made.solver == solver
    assert plan.Plan.from_json(made.to_json()) == made


@pytest.mark.parametrize("solver", ["exact", "auto"])
def test_an_exact_head_with_unfrozen_blocks_is_refused(solver):
    with pytest.raises(PlanError, match=f"solver {solver} needs all blocks frozen, but layer4 is not"):
        plan.Plan("resnet18", ALL[:-1], solver=solver)
    with pytest.raises(PlanError, match="but layer4 is not"):
        AUTO.with_settings({"solver": solver, "frozen": MOST})


@pytest.mark.parametrize("setting", sorted(settings.SGD_ONLY))
def test_settings_of_gradient_descent_are_refused_beside_an_exact_solver(setting):
    value = str(getattr(AUTO, setting))
    assert AUTO.with_settings({setting: value}).solver == "sgd"
    for solver in ("exact", "auto"):
        with pytest.raises(PlanError, match=f"^{setting} does not go with the solver {solver}"):
            AUTO.with_settings({"solver": solver, setting: value})


@pytest.mark.parametrize("setting", sorted(settings.EXACT_ONLY))
def test_settings_of_an_exact_head_are_refused_beside_gradient_descent(setting):
    value = str(getattr(AUTO, setting))
    for others in ({"solver": "sgd"}, {"epochs": "3"}, {"frozen": "none"}):
        with pytest.raises(PlanError, match=f"^{setting} does not go with the solver sgd"):
            AUTO.with_settings({setting: value, **others})


@pytest.mark.parametrize("name", settings.CHOICES)
def test_every_choice_is_held_to_its_words(name):
    for value in settings.CHOICES[name]:
        assert getattr(plan.Plan("resnet18", ALL, **{name: value}), name) == value
    with pytest.raises(PlanError, match=f"^{name} is `wild`; it must be {settings.CHOICES[name][0]} or "):
        plan.Plan("resnet18", ALL, **{name: "wild"})


def test_every_number_has_a_range_and_every_word_its_choices():
    defaults = AUTO.to_dict()
    numbers = {name for name, value in defaults.items() if type(value) in (int, float)} - {"schema"}
    numbers |= {f"augmentation.{name}" for name in defaults["augmentation"]} | {"split_seed"}
    assert set(settings.RANGES) == numbers
    assert set(settings.CHOICES) == {name for name, value in defaults.items() if type(value) is str} - {
        "backbone",
        "weights",
    }
    assert set(defaults) >= settings.SGD_ONLY | settings.EXACT_ONLY


def test_the_instant_plan_is_an_exact_ridge_head_on_the_plain_view(make_folder):
    data = dataset.scan(make_folder({"reds": 12, "blues": 4}))
    made = plan.instant(data)
    assert made.is_instant
    assert (made.solver, made.head, made.mirror, made.learning) == ("exact", "ridge", "off", ())
    assert made.augmentation.is_off
    assert made.class_weighting == plan.suggest(data).class_weighting == "balanced"
    assert (made.split(data).test == plan.suggest(data).split(data).test).all()
    assert plan.instant(data, "resnet18").backbone == "resnet18"


@pytest.mark.parametrize(
    ("settings", "instant"),
    [
        ({}, True),
        ({"seed": "3", "precision": "float32", "device": "cpu", "test_fraction": "0.3"}, True),
        ({"framing": "letterbox"}, True),
        ({"augmentation": "light"}, False),
        ({"head": "logistic"}, False),
        ({"mirror": "auto"}, False),
        ({"epochs": "3"}, False),
        ({"frozen": "none"}, False),
    ],
    ids=str,
)
def test_what_is_no_longer_the_instant_plan_is_known_as_such(make_folder, settings, instant):
    made = plan.instant(dataset.scan(make_folder({"reds": 4, "blues": 4})))
    assert made.with_settings(settings).is_instant is instant


def test_suggestions_are_not_instant(make_folder):
    data = dataset.scan(make_folder({"reds": 4, "blues": 4}))
    suggested = plan.suggest(data)
    assert not suggested.is_instant
    assert plan.instant_of(suggested) == plan.instant(data)


def test_the_instant_model_of_a_letterboxed_plan_is_letterboxed_and_another_one(make_folder):
    suggested = plan.suggest(dataset.scan(make_folder({"reds": 4, "blues": 4})))
    made = plan.instant_of(suggested.with_settings({"framing": "letterbox", "epochs": "3"}))
    assert made.framing == plan.tuning(made).framing == "letterbox"
    assert made.is_instant
    assert made != plan.instant_of(suggested)


@pytest.mark.parametrize("name", catalog.BACKBONES)
def test_what_auto_fine_tunes_is_the_last_stage_for_a_few_epochs(name):
    entry = catalog.get(name)
    auto = plan.Plan(name, entry.block_names, solver="auto", mirror="on", seed=3)
    tuned = plan.tuning(auto)
    assert tuned.learning == entry.block_names[-entry.tail :]
    assert tuned.frozen == entry.before_tail
    assert (tuned.solver, tuned.n_head_epochs, tuned.dropout, tuned.seed) == ("sgd", 0, 0.0, 3)
    assert 0 < tuned.patience < tuned.epochs <= 20
    assert tuned.augmentation == auto.augmentation


def test_a_plan_of_the_first_schema_draws_its_photos_as_it_did():
    new = plan.Plan("resnet18", ())
    old = {key: value for key, value in new.to_dict().items() if key not in ("draw", "learned")} | {"schema": 1}
    assert (new.draw, plan.Plan.from_dict(old).draw) == ("content", "order")
    assert plan.Plan.from_dict(plan.Plan.from_dict(old).to_dict()).draw == "order"
