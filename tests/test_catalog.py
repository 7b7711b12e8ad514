"""Which backbone a name means on this machine, where its weights lie, and what is said when they do not."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from tlapp import catalog
from tlapp.errors import PlanError, WeightsError

CONTENT = b"as good as weights, to a hash"
FETCHED = [name for name, entry in catalog.BACKBONES.items() if not entry.included]


def put(name, content):
    path = catalog.weights_path(catalog.get(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def published(monkeypatch):
    """Make the catalogue's ResNet-18 the one whose file holds `CONTENT`."""
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    monkeypatch.setitem(
        catalog.BACKBONES,
        "resnet18",
        dataclasses.replace(catalog.get("resnet18"), weights_sha256=digest, weights_file=f"resnet18-{digest}.pth"),
    )


def test_auto_is_the_included_backbone_where_no_resnet18_is_here(published):
    choice = catalog.choose()
    assert choice.backbone.name == "efficientnet_lite0"
    assert "not on this machine" in choice.reason


def test_auto_is_a_resnet18_that_is_here_and_whole(published):
    put("resnet18", CONTENT)
    choice = catalog.choose("auto")
    assert choice == catalog.Choice(catalog.get("resnet18"), "its weights are on this machine")


def test_auto_passes_over_a_damaged_resnet18(published):
    put("resnet18", CONTENT + b"!")
    choice = catalog.choose()
    assert choice.backbone.name == "efficientnet_lite0"
    assert "damaged" in choice.reason


def test_auto_heeds_no_other_backbones_weights(published):
    put("resnet34", CONTENT)
    assert catalog.choose().backbone.included


@pytest.mark.parametrize("name", catalog.BACKBONES)
def test_a_named_backbone_is_taken_whether_its_weights_are_here_or_not(name):
    assert catalog.choose(name).backbone is catalog.BACKBONES[name]


def test_an_unknown_backbone_is_answered_with_the_list():
    with pytest.raises(PlanError) as caught:
        catalog.choose("resnet\n19")
    assert all(name in str(caught.value) for name in ("`resnet\\n19`", "auto", *catalog.BACKBONES))


def test_the_included_weights_are_here_and_whole():
    entry = catalog.get(catalog.INCLUDED)
    assert entry.included
    assert catalog.check_weights(entry).stat().st_size == pytest.approx(entry.megabytes * 1e6, rel=0.01)


@pytest.mark.parametrize("name", FETCHED)
def test_missing_weights_are_answered_with_the_ways_out(name):
    with pytest.raises(WeightsError) as caught:
        catalog.check_weights(catalog.get(name))
    for words in (f"tlapp weights get {name}", "--weights", f"--backbone {catalog.INCLUDED}"):
        assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", CONTENT])
@pytest.mark.parametrize("name", FETCHED)
def test_damaged_weights_are_named_and_the_included_backbone_offered(name, content):
    path = put(name, content)
    with pytest.raises(WeightsError) as caught:
        catalog.check_weights(catalog.get(name))
    for words in (str(path), "damaged", f"tlapp weights get {name}", f"--backbone {catalog.INCLUDED}"):
        assert words in str(caught.value)


def test_a_damaged_install_is_not_offered_to_itself():
    broken = dataclasses.replace(catalog.get(catalog.INCLUDED), weights_sha256="0" * 64)
    with pytest.raises(WeightsError, match="Install tlapp again") as caught:
        catalog.check_weights(broken)
    assert "--backbone" not in str(caught.value)


@pytest.mark.parametrize("variables", [{}, {"TORCH_HOME": "~/t"}, {"XDG_CACHE_HOME": "/x/cache"}, {"TORCH_HOME": "/t"}])
def test_weights_lie_where_torch_itself_would_look(variables, monkeypatch):
    import torch

    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert catalog.weights_folder() == Path(torch.hub.get_dir()) / "checkpoints"
