"""Networks: split without changing what they compute, frozen truly, weights files read safely or refused."""

import re

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from tlapp import backbones, catalog
from tlapp.errors import WeightsError

RESNET = catalog.get("resnet18")
LITE = catalog.get("efficientnet_lite0")
NORM = nn.modules.batchnorm._BatchNorm


@pytest.fixture(scope="module")
def resnet():
    """torchvision's own ResNet-18 with random weights and BatchNorm statistics that matter."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    for module in network.modules():
        if isinstance(module, NORM):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


@pytest.fixture
def save(tmp_path):
    """save(state) → the path of a weights file."""

    def saved(state, name="weights.pth"):
        path = tmp_path / name
        torch.save(state, path)
        return path

    return saved


def images(n=2, size=64):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def features(model, x):
    with torch.no_grad():
        return model.eval().run(x, 0, model.n_blocks)


def renamed(state, network):
    """The included file's names → timm's, by name and not by order."""
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
             "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    places = [f"blocks.{i}.{j}" for i, stage in enumerate(network.blocks) for j in range(len(stage))]
    result = {}
    for name, value in state.items():
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if inside:
            names = first if inside[1] == "0" else later
            result[f"{places[int(inside[1])]}.{names[inside[2]]}.{inside[3]}"] = value
        else:
            layer, _, kind = name.partition(".")
            result[f"{outer[layer]}.{kind}"] = value
    return result


def test_the_split_resnet_computes_what_torchvisions_does(resnet, save):
    model = backbones.load(RESNET, 2, weights=save(resnet.state_dict()))
    plain = torchvision.models.resnet18()
    plain.load_state_dict(resnet.state_dict())
    plain.fc = nn.Identity()
    with torch.no_grad():
        assert torch.equal(features(model, images()), plain.eval()(images()))


def test_the_split_lite0_computes_what_timms_does_with_the_included_weights():
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    file = torch.load(catalog.check_weights(LITE), weights_only=True)
    network.load_state_dict(renamed(file, network))
    with torch.no_grad():
        expected = network.eval().forward_head(network.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(features(backbones.load(LITE, 2), images()), expected)


@pytest.mark.parametrize("entry", [RESNET, LITE], ids=lambda entry: entry.name)
def test_running_in_two_parts_is_running_at_once(entry):
    model = backbones.build(entry, 3).eval()
    x = images(1)
    with torch.no_grad():
        whole = model(x)
        for cut in (1, model.n_blocks - 1, model.n_blocks):
            assert torch.equal(model(model.run(x, 0, cut), cut), whole)
    assert whole.shape == (1, 3)


def test_frozen_blocks_take_no_gradient_and_their_batchnorm_stays_in_eval_mode():
    model = backbones.build(RESNET, 2)
    model.freeze({"stem", "layer2"})
    for mode in (True, False, True):
        model.train(mode)
        for name, block in model.blocks.items():
            frozen = name in ("stem", "layer2")
            assert all(p.requires_grad is not frozen for p in block.parameters())
            assert all(m.training is (mode and not frozen) for m in block.modules())
        assert model.head.training is mode
    assert all(p.requires_grad for p in model.head.parameters())


def test_freezing_again_unfreezes_the_rest():
    model = backbones.build(RESNET, 2).train()
    model.freeze(RESNET.block_names)
    model.freeze({"layer1"})
    assert model.frozen == {"layer1"}
    assert all(p.requires_grad for p in model.blocks["stem"].parameters())
    assert model.blocks["stem"].training
    assert not model.blocks["layer1"].training


def test_a_step_changes_every_unfrozen_block_and_no_bit_of_a_frozen_one():
    model = backbones.build(RESNET, 2)
    model.freeze({"stem", "layer2"})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model.train()
    nn.functional.cross_entropy(model(images(4)), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()
    same = {k for k, v in model.state_dict().items() if torch.equal(v, before[k])}
    frozen = {k for k in before if k.startswith(("blocks.stem.", "blocks.layer2."))}
    assert same == frozen


@pytest.mark.parametrize(
    ("frozen", "prefix"),
    [((), 0), (("layer1",), 0), (("stem",), 1), (("stem", "layer1", "layer3"), 2), (RESNET.block_names, 5)],
)
def test_the_prefix_is_the_unbroken_run_of_frozen_blocks(frozen, prefix):
    model = backbones.build(RESNET, 2)
    model.freeze(frozen)
    assert model.prefix == prefix


def test_what_was_learned_is_put_back_exactly():
    model = backbones.build(RESNET, 2).train()
    model.freeze({"stem", "layer1", "layer2"})
    learned = model.learned()
    assert not any(k.startswith(("blocks.stem", "blocks.layer1", "blocks.layer2")) for k in learned)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        model.head.linear.weight.add_(1)
        model.blocks["layer4"][0].bn1.running_mean.add_(1)
    assert not torch.equal(model.head.linear.weight, learned["head.linear.weight"])
    model.restore(learned)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_network_follows_its_seed_and_leaves_the_global_generator_alone(resnet, save):
    path = save(resnet.state_dict())
    state = torch.get_rng_state()
    one, same, other = (backbones.load(RESNET, 2, weights=path, seed=seed) for seed in (1, 1, 2))
    backbones.build(RESNET, 2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.head.linear.weight, same.head.linear.weight)
    assert not torch.equal(one.head.linear.weight, other.head.linear.weight)


def shifted(state):
    return {f"module.{k}": v for k, v in state.items()}


def without_counts(state):
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def with_other_head(state):
    return {k: v for k, v in state.items() if not k.startswith("fc.")} | {"head.weight": torch.zeros(7, 512)}


@pytest.mark.parametrize(
    "form",
    [dict, shifted, without_counts, with_other_head, lambda state: {"epoch": 3, "state_dict": state}],
    ids=["plain", "data parallel", "older torch", "other head", "checkpoint"],
)
def test_state_dicts_of_every_usual_form_are_read(resnet, save, form):
    model = backbones.load(RESNET, 2, weights=save(form(resnet.state_dict())))
    assert torch.equal(model.blocks["layer4"][1].bn2.running_var, resnet.layer4[1].bn2.running_var)
    assert torch.equal(model.blocks["stem"][0].weight, resnet.conv1.weight)


def test_safetensors_are_read(resnet, tmp_path):
    safetensors.torch.save_file(resnet.state_dict(), tmp_path / "weights.safetensors")
    model = backbones.load(RESNET, 2, weights=tmp_path / "weights.safetensors")
    assert torch.equal(model.blocks["stem"][0].weight, resnet.conv1.weight)


def test_half_precision_weights_become_single(resnet, save):
    model = backbones.load(RESNET, 2, weights=save({k: v.half() for k, v in resnet.state_dict().items()}))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def refusal(path, entry=RESNET):
    with pytest.raises(WeightsError) as caught:
        backbones.load(entry, 2, weights=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("other", ["resnet34", "resnet50"])
def test_weights_of_another_architecture_are_refused(save, other):
    make = {"resnet34": torchvision.models.resnet34, "resnet50": torchvision.models.resnet50}
    with torch.device("meta"):
        network = make[other]()
    path = save({k: torch.ones(v.shape, dtype=v.dtype) for k, v in network.state_dict().items()})
    assert "is not of ResNet-18" in refusal(path)


def test_the_included_file_is_refused_by_a_resnet_and_a_resnets_by_lite0(resnet, save):
    assert "is not of ResNet-18" in refusal(catalog.check_weights(LITE))
    assert "is not of EfficientNet-Lite0" in refusal(save(resnet.state_dict()), LITE)


class Poison:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def test_code_in_a_weights_file_is_not_run(save, tmp_path):
    marker = tmp_path / "executed"
    path = save({"conv1.weight": Poison(str(marker))})
    assert "holds more than plain weights" in refusal(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)["conv1.weight"].close()
    assert marker.exists(), "the file was harmless, so this test shows nothing"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(resnet, save, value):
    state = {k: v.clone() for k, v in resnet.state_dict().items()}
    state["layer3.0.bn1.bias"][3] = value
    assert "not finite" in refusal(save(state))


@pytest.mark.parametrize("content", [[1, 2], {"conv1.weight": 3}, {}])
def test_what_is_no_state_dict_is_refused(save, content):
    assert "ResNet-18" in refusal(save(content))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04"])
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["nowhere.pth", "nowhere.safetensors"])
def test_a_missing_file_is_said(tmp_path, name):
    assert "does not exist" in refusal(tmp_path / name)


def test_published_weights_that_are_missing_are_said():
    with pytest.raises(WeightsError, match="are not on this machine"):
        backbones.load(RESNET, 2)


def test_dropout_follows_its_own_generator():
    layer = backbones.SeededDropout(0.25).train()
    x = torch.ones(200, 50)
    layer.generator.manual_seed(7)
    state = torch.get_rng_state()
    one = layer(x)
    assert torch.equal(torch.get_rng_state(), state)
    layer.generator.manual_seed(7)
    torch.rand(5)
    assert torch.equal(layer(x), one)
    assert not torch.equal(layer(x), one)
    assert one.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (one == 0).float().mean() == pytest.approx(0.25, abs=0.02)


def test_dropout_is_the_identity_when_not_training_or_off():
    x = torch.ones(4, 5)
    assert backbones.SeededDropout(0.5).eval()(x) is x
    assert backbones.SeededDropout(0.0).train()(x) is x


def test_the_head_evens_out_the_scale_of_features():
    head = backbones.Head([64], 3).eval()
    seen = []
    head.linear.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * 100
    for scale in (1, 10):
        assert head(x * scale).shape == (5, 3)
    torch.testing.assert_close(seen[0].square().mean(1), torch.ones(5))
    torch.testing.assert_close(seen[0], seen[1], rtol=0.05, atol=0.05)
    assert torch.equal(seen[0].sign(), x.sign())


def test_the_heads_gradient_is_finite_for_features_of_zero():
    x = torch.zeros(2, 16, requires_grad=True)
    backbones.Head([16], 2)(x).sum().backward()
    assert torch.isfinite(x.grad).all()
