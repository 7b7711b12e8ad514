"""How the frozen part runs: the same function, faster, in the precision that suits the machine; and on which device."""

import contextlib
import json

import pytest
import torch
from torch import nn

from tlapp import backbones, catalog, features, speed
from tlapp import train as training
from tlapp.errors import RunError
from tlapp.plan import Plan
from tlapp.speed import Frozen, Way

pytestmark = pytest.mark.usefixtures("small_pictures")
CPU = torch.device("cpu")
FLOAT32 = Way(torch.float32)
CUDA = torch.device("cuda")  # never there: what it is asked for is looked at, not done


def model_of(name, several=False):
    """A network with random weights and BatchNorm statistics that matter."""
    model = backbones.build(catalog.get(name), 2, several=several)
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def pictures(n=2):
    return torch.randn(n, 3, 56, 56, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def untried(home, small_pictures):
    """No way was tried in this process or noted in this workspace."""
    (home / "quickest.json").unlink()
    speed._times.cache_clear()
    yield
    speed._times.cache_clear()


@pytest.mark.parametrize("several", [False, True], ids=["last", "several"])
@pytest.mark.parametrize("name", catalog.BACKBONES)
def test_the_frozen_part_computes_what_the_model_does(name, several):
    model = model_of(name, several)
    middle = model.n_blocks - model.entry.tail
    first = Frozen(model, 0, middle, CPU, FLOAT32)
    last = Frozen(model, middle, model.n_blocks, CPU, FLOAT32)
    with torch.no_grad():
        wanted = model.run(pictures(), 0, middle)
        pooled = model.run(pictures(), 0, model.n_blocks)
    between = first(pictures())
    torch.testing.assert_close(between, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last(between), pooled, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(Frozen(model, 0, model.n_blocks, CPU, FLOAT32)(pictures()), last(between))
    assert pooled.shape[1] == sum(model.head.widths)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in last.model.modules()), "not merged"


def test_features_of_several_depths_can_be_had_from_a_model_of_one():
    one, more = model_of("resnet18"), model_of("resnet18", several=True)
    wide = Frozen(one, 0, 5, CPU, FLOAT32, several=True)(pictures())
    assert torch.equal(wide, Frozen(more, 0, 5, CPU, FLOAT32)(pictures()))
    assert torch.equal(wide[:, -512:], Frozen(one, 0, 5, CPU, FLOAT32)(pictures()))
    assert wide.shape[1] == 512 + 256


def test_the_model_is_left_as_it_was_and_goes_its_own_way():
    model = model_of("resnet18")
    model.freeze({"stem"})
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    frozen = Frozen(model, 0, 5, CPU, FLOAT32)
    once = frozen(pictures())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [block.training for block in model.blocks.values()] == [False, True, True, True, True]
    assert all(p.requires_grad for p in model.blocks["layer4"].parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert torch.equal(frozen(pictures()), once)


def test_what_comes_out_has_no_gradient():
    frozen = Frozen(model_of("resnet18"), 0, 5, CPU, FLOAT32)
    assert not frozen(pictures().requires_grad_()).requires_grad


def test_a_lower_precision_is_kept_between_blocks_but_not_behind_the_last():
    model = model_of("resnet18")
    assert Frozen(model, 0, 4, CPU, Way(torch.bfloat16))(pictures()).dtype == torch.bfloat16
    pooled = Frozen(model, 0, 5, CPU, Way(torch.bfloat16))(pictures())
    assert pooled.dtype == torch.float32
    exact = Frozen(model, 0, 5, CPU, FLOAT32)(pictures())
    assert not torch.equal(pooled, exact)
    torch.testing.assert_close(pooled, exact, rtol=0.1, atol=0.1)


def test_weights_lie_ready_in_the_precision_they_run_in():
    for precision in (torch.bfloat16, torch.float32):
        kept = Frozen(model_of("resnet18"), 0, 5, CPU, Way(precision)).model.blocks.parameters()
        assert {parameter.dtype for parameter in kept} == {precision}


# --- the way it runs


def test_the_order_in_memory_changes_nothing_but_the_last_digits():
    model = model_of("resnet18")
    contiguous = Frozen(model, 0, 3, CPU, Way(torch.float32, torch.contiguous_format))(pictures())
    channels_last = Frozen(model, 0, 3, CPU, FLOAT32)(pictures())
    assert contiguous.is_contiguous()
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(contiguous, channels_last, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_the_precision_that_is_wanted_is_obeyed_and_none_is_tried(name, home, untried, monkeypatch):
    monkeypatch.setattr(speed, "_try_ways", None)
    for device in (CPU, CUDA):
        assert speed.quickest(catalog.get("resnet18"), device, name) == Way(getattr(torch, name))
    assert not (home / "quickest.json").exists()


@pytest.mark.parametrize("found", speed.WAYS)
def test_the_quickest_way_is_tried_once_and_kept_in_the_workspace(home, monkeypatch, untried, found):
    tried = []
    times = {name: 2.0 if name == found else 10.0 for name in speed.WAYS}
    monkeypatch.setattr(speed, "_try_ways", lambda entry: tried.append(entry.name) or times)
    entry = catalog.get("resnet18")
    for _ in range(2):
        assert speed.quickest(entry, CPU) == speed.WAYS[found]
    speed._times.cache_clear()  # as another process
    assert speed.quickest(entry, CPU) == speed.WAYS[found]
    assert tried == ["resnet18"]
    (key, kept) = json.loads((home / "quickest.json").read_text()).popitem()
    assert kept == times
    assert all(word in key for word in ("resnet18", torch.__version__, "threads"))
    speed.quickest(catalog.get("resnet34"), CPU)
    assert len(json.loads((home / "quickest.json").read_text())) == 2
    assert tried == ["resnet18", "resnet34"]


@pytest.mark.parametrize(("ms", "wanted"), [(9.5, torch.float32), (8.5, torch.bfloat16)])
def test_a_lower_precision_must_be_clearly_faster(home, monkeypatch, untried, ms, wanted):
    times = {name: ms if way.precision == torch.bfloat16 else 10.0 for name, way in speed.WAYS.items()}
    monkeypatch.setattr(speed, "_try_ways", lambda entry: times)
    assert speed.quickest(catalog.get("resnet18"), CPU).precision == wanted


def test_every_workspace_has_a_note_of_its_own(home, tmp_path, monkeypatch, untried):
    monkeypatch.setattr(speed, "_try_ways", lambda entry: dict.fromkeys(speed.WAYS, 1.0))
    for place in (home, tmp_path / "other"):
        monkeypatch.setenv("TLAPP_HOME", str(place))
        speed.quickest(catalog.get("resnet18"), CPU)
        assert (place / "quickest.json").exists()


NOTES = [b"", b"{", b"[]", b"\xff\xfe", b"3", b"{}", b'{"float32, channels last": 1.0}']


@pytest.mark.parametrize("content", NOTES)
def test_a_damaged_note_is_written_anew(home, monkeypatch, untried, content):
    times = dict.fromkeys(speed.WAYS, 1.0)
    monkeypatch.setattr(speed, "_try_ways", lambda entry: times)
    speed.quickest(catalog.get("resnet18"), CPU)
    note = home / "quickest.json"
    key = next(iter(json.loads(note.read_text())))
    for damaged in (content, json.dumps({key: content.decode("latin-1")}).encode(), b'{"%s": {}}' % key.encode()):
        note.write_bytes(damaged)
        speed._times.cache_clear()
        assert speed.quickest(catalog.get("resnet18"), CPU) == FLOAT32
        assert json.loads(note.read_text())[key] == times


def test_a_trial_times_both_precisions_and_the_quicker_one_in_both_orders():
    times = speed._try_ways(catalog.get("resnet18"))
    (contiguous,) = times.keys() - {"float32, channels last", "bfloat16, channels last"}
    assert contiguous in ("float32, contiguous", "bfloat16, contiguous")
    assert all(0 < ms < 60_000 for ms in times.values())


@pytest.mark.parametrize(("low", "wanted"), [(0.016, "bfloat16"), (0.019, "float32")])
def test_a_trial_takes_the_best_of_several_runs_of_each(monkeypatch, low, wanted):
    clock, ran = [0.0], []
    cost = {"float32, channels last": 0.020, "bfloat16, channels last": low, f"{wanted}, contiguous": 0.04}

    def run(frozen, x):
        assert x.is_contiguous(memory_format=frozen.way.memory_format)
        (name,) = [name for name, way in speed.WAYS.items() if way == frozen.way]
        ran.append(name)
        clock[0] += cost[name] * (1 if ran.count(name) == 2 else 3)

    monkeypatch.setattr(Frozen, "__call__", run)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    times = speed._try_ways(catalog.get("resnet18"))
    assert times == pytest.approx({name: 1000 * seconds / 4 for name, seconds in cost.items()})


@pytest.mark.parametrize(("supported", "wanted"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_runs_in_the_half_precision_that_it_has_without_a_trial(monkeypatch, supported, wanted):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    monkeypatch.setattr(speed, "_try_ways", None)
    assert speed.quickest(catalog.get("resnet18"), CUDA) == Way(wanted)
    assert speed.quickest(catalog.get("resnet18"), torch.device("mps")) == FLOAT32


# --- device


def there(monkeypatch, *kinds):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [(("cuda", "mps"), "cuda"), (("cuda",), "cuda"), (("mps",), "mps"), ((), "cpu")],
    ids=lambda value: str(value),
)
def test_auto_prefers_cuda_then_mps_then_the_processor(monkeypatch, kinds, wanted):
    there(monkeypatch, *kinds)
    assert speed.device().type == wanted
    assert speed.device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_said(monkeypatch, name):
    there(monkeypatch)
    with pytest.raises(RunError, match=f"device {name} is not available.*cpu or auto"):
        speed.device(name)
    made = speed.measure(catalog.get("resnet18"), name)
    assert speed.measure(catalog.get("resnet18"), "cpu") is made


def test_a_backbone_is_timed_once(monkeypatch):
    monkeypatch.setattr(speed, "_measured", {})
    entry = catalog.get("resnet18")
    assert not speed.is_measured(entry)
    made = speed.measure(entry)
    assert speed.is_measured(entry)
    assert speed.measure(entry) is made
    assert not speed.is_measured(catalog.get("resnet34"))


@pytest.mark.parametrize("kind", ["cuda", "cpu", "mps"])
def test_memory_is_pinned_for_cuda_alone(monkeypatch, kind):
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: asked.append("pinned") or self)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, device, non_blocking: asked.append((device.type, non_blocking)) or self
    )
    features._moved(torch.zeros(2), torch.device(kind))
    assert asked == ["pinned"] * (kind == "cuda") + [(kind, True)]


@pytest.mark.parametrize(
    ("kind", "supported", "precision", "wanted"),
    [
        ("cuda", True, "auto", torch.bfloat16),
        ("cuda", True, "bfloat16", torch.bfloat16),
        ("cuda", True, "float32", torch.float32),
        ("cuda", False, "auto", torch.float32),
        ("cpu", True, "auto", torch.float32),
        ("cpu", True, "bfloat16", torch.float32),
        ("mps", True, "auto", torch.float32),
    ],
)
def test_learning_takes_a_lower_precision_on_cuda_alone(monkeypatch, kind, supported, precision, wanted):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    monkeypatch.setattr(
        training, "autocast", lambda device, dtype: asked.append((device.type, dtype)) or contextlib.nullcontext()
    )
    training._on_gpu(torch.device(kind), Plan("resnet18", (), precision=precision))
    assert asked == [(kind, wanted)]


def test_float32_leaves_everything_as_it_is():
    x = torch.randn(4, 4)
    with speed.autocast(CPU, torch.float32):
        assert not torch.is_autocast_enabled("cpu")
        assert (x @ x).dtype == torch.float32
    with speed.autocast(CPU, torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_only_a_gpu_is_waited_for(monkeypatch, kind):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waited.append(1))
    speed._wait(torch.device(kind))
    assert len(waited) == (kind == "cuda")


def test_times_are_the_best_of_several_rounds_after_a_first(monkeypatch):
    clock = iter([0.0, 0.0, 9.0, 1.0, 3.0, 1.0, 2.0, 5.0, 9.0])  # the end, then each round's beginning and end
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(speed, "LEAST_SECONDS", 0.0)
    assert speed._fastest([lambda: None]) == [1.0 / speed.BATCH]
