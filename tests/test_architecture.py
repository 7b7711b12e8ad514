"""The rules of the design, held by reading the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = [
    "errors", "events", "workspace", "images", "intake", "layout", "dataset", "catalog", "plan", "augment|backbones",
    "features", "train", "evaluate", "runs", "predict", "scoring", "fetching", "jobs", "cli",
]  # fmt: skip
RANK = {name: i for i, names in enumerate(ORDER) for name in names.split("|")}
TORCH_FREE = {"errors", "events", "workspace", "images", "intake", "layout", "dataset", "catalog", "plan", "runs",
              "fetching", "jobs", "cli"}  # fmt: skip
MODULES = sorted(path.stem for path in (ROOT / "tlapp").glob("*.py") if not path.stem.startswith("__"))


def tree(name):
    return ast.parse((ROOT / "tlapp" / f"{name}.py").read_text())


def imported(node):
    """Names of the modules an import statement brings in, with `tlapp.` names spelled out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        whole = [f"tlapp.{alias.name}" for alias in node.names]
        return whole if node.module == "tlapp" else [node.module or ""]
    return []


def own_imports(name):
    for node in ast.walk(tree(name)):
        for module in imported(node):
            if module.startswith("tlapp."):
                yield module.split(".")[1]


def test_every_room_is_in_the_order():
    assert set(MODULES) == set(RANK)


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_rooms_above_it(name):
    for other in own_imports(name):
        assert RANK[other] < RANK[name], f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(TORCH_FREE))
def test_torch_is_not_imported_where_it_must_not_be(name):
    top = [module for node in tree(name).body for module in imported(node)]
    assert not [m for m in top if m.split(".")[0] in ("torch", "torchvision", "timm", "safetensors")]


@pytest.mark.parametrize("name", MODULES)
def test_nothing_prints_but_the_command_line(name):
    calls = [n for n in ast.walk(tree(name)) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
    assert name == "cli" or not calls


def test_threads_start_in_jobs_alone():
    nodes = [(name, node) for name in MODULES for node in ast.walk(tree(name))]
    users = {name for name, node in nodes if isinstance(node, ast.Attribute) and node.attr == "Thread"}
    assert users == {"jobs"}


def test_the_command_line_comes_up_without_torch():
    code = "import sys, tlapp.cli; sys.exit(any(m in sys.modules for m in ('torch', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_functions_and_classes_have_docstrings():
    for name in MODULES:
        assert ast.get_docstring(tree(name)), name
        for node in tree(name).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"


def test_the_readmes_file_tree_is_the_tree():
    block = re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block
    named = set(re.findall(r"^\s+([a-z_]+)\.py ", block[1], re.M))
    assert named == set(MODULES) | {"__init__", "__main__"} or named == set(MODULES)


def test_catalogue_matches_the_networks():
    import torch
    import torchvision

    from tlapp import backbones, catalog

    for entry in catalog.BACKBONES.values():
        model = backbones.build(entry, 2).eval()
        x = torch.zeros(1, 3, entry.crop, entry.crop)
        for block in entry.blocks:
            with torch.no_grad():
                x = model.blocks[block.name](x)
            assert sum(p.numel() for p in model.blocks[block.name].parameters()) == block.parameters
            assert x.numel() == block.elements, block
        assert x.shape[1] == entry.features
        if entry.enum:
            weights = torchvision.models.get_weight(entry.enum)
            assert weights.url.endswith("/" + entry.weights_file)
            transforms = weights.transforms()
            assert (tuple(transforms.mean), tuple(transforms.std)) == (entry.mean, entry.std)
            assert (transforms.resize_size, transforms.crop_size) == ([entry.resize], [entry.crop])
            assert transforms.interpolation.value == entry.interpolation
