"""The rules of the design, held by reading the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = [
    "errors", "room", "filenames", "tables", "evaluate", "schema", "events", "claims", "weightfile", "workspace",
    "journal", "tasks", "images", "intake", "layout", "labels", "looks", "photos", "dataset", "merge", "readings",
    "decisions", "additions", "imagefolder", "shortcuts", "paper", "demo", "catalog", "settings", "plan", "footprint",
    "memory", "seeding", "augment|backbones", "speed", "features", "lbfgs", "calibration", "heads", "crossval",
    "sampling", "pool", "unknown", "forecast", "audit", "optimizers", "train", "recipe", "told", "estimate", "tune",
    "runs", "lineage", "history", "cleanup", "compare", "figures", "board", "predict", "explain", "scoring",
    "fetching", "sitting", "jobs", "graph", "quantize", "agreement", "card", "webpage", "export", "bundles",
    "holdings", "doctor",
    "ui.pieces", "ui.frame", "ui.scale", "ui.slider", "ui.curve", "ui.guard", "ui.headers", "ui.limits", "ui.quiet",
    "ui.serve", "ui.drop", "ui.shelf", "ui.once", "ui.form", "ui.costs", "ui.views", "ui.preview", "ui.weights",
    "ui.tries",
    "ui.division", "ui.findings", "ui.audit", "ui.matrix", "ui.why", "ui.sure", "ui.takeaway", "ui.recall",
    "ui.overlay", "ui.versus", "ui.history", "ui.cleanup", "ui.answers", "ui.sheets", "ui.camera|ui.correct", "ui.api",
    "ui.data|ui.train|ui.live|ui.results|ui.test", "ui.app", "ui", "terminal", "commands|run_commands|doctor_command",
    "cli",
]  # fmt: skip
RANK = {name: i for i, names in enumerate(ORDER) for name in names.split("|")}
WITH_TORCH = {
    "seeding", "augment", "backbones", "speed", "features", "lbfgs", "heads", "crossval", "sampling", "pool",
    "unknown", "forecast", "audit", "optimizers", "train", "recipe", "told", "estimate", "tune", "predict", "explain",
    "scoring", "sitting", "graph", "quantize", "export", "bundles",
}  # fmt: skip
HEAVY = {"torch", "torchvision", "timm", "safetensors", "sklearn"}
TREES = {
    ".".join(path.relative_to(ROOT / "tlapp").with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text()
    )
    for path in sorted((ROOT / "tlapp").rglob("*.py"))
    if path.parent.name != "bundle" and (path.parent.name == "ui" or not path.stem.startswith("__"))
}  # fmt: skip


def imported(node):
    """Names of the modules an import statement brings in, with `tlapp.` names spelled out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = node.module in ("tlapp", "tlapp.ui")
        return [f"{node.module}.{alias.name}" for alias in node.names] if package else [node.module or ""]
    return []


def all_imports(name):
    return [module for node in ast.walk(TREES[name]) for module in imported(node)]


def test_every_room_is_in_the_order():
    assert set(TREES) == set(RANK)


@pytest.mark.parametrize("name", TREES)
def test_a_room_imports_only_rooms_above_it(name):
    for module in all_imports(name):
        other = module.removeprefix("tlapp.")
        if module.startswith("tlapp.") and other in RANK:
            assert RANK[other] < RANK[name], f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(set(TREES) - WITH_TORCH))
def test_torch_is_not_imported_where_it_must_not_be(name):
    top = {module.split(".")[0] for node in TREES[name].body for module in imported(node)}
    assert not top & HEAVY


@pytest.mark.parametrize("name", [name for name in TREES if not name.startswith("ui")])
def test_gradio_is_known_to_the_page_alone(name):
    assert "gradio" not in {module.split(".")[0] for module in all_imports(name)}


@pytest.mark.parametrize("name", [name for name in TREES if "command" not in name and name != "terminal"])
def test_nothing_prints_but_the_command_line(name):
    assert not [n for n in ast.walk(TREES[name]) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]


def test_pictures_come_in_by_one_door():
    nodes = [(name, node) for name, tree in TREES.items() for node in ast.walk(tree)]
    opened = {name for name, node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node) == "Image.open"}
    assert opened == {"images"}


def test_threads_start_in_two_rooms_alone():
    nodes = [(name, node) for name, tree in TREES.items() for node in ast.walk(tree)]
    users = {name for name, node in nodes if isinstance(node, ast.Attribute) and node.attr == "Thread"}
    assert users == {"jobs", "tasks"}


@pytest.mark.parametrize("module", ["tlapp.cli", "tlapp.ui"])
def test_the_command_line_and_the_page_come_up_without_torch(module):
    code = f"import sys, {module}; sys.exit(', '.join(m for m in {HEAVY} if m in sys.modules) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_functions_and_classes_have_docstrings():
    for name, tree in TREES.items():
        assert ast.get_docstring(tree), name
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"


def test_the_readmes_file_tree_is_the_tree():
    block = re.search(r"## Files\s+```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block
    inside = block[1].split("tlapp/\n")[1].split("\ntests/")[0]
    core, page = inside.split("    ui/")
    assert set(re.findall(r"^    ([a-z_]+)\.py ", core, re.M)) == {name for name in TREES if "ui" not in name}
    named = set(re.findall(r"^        ([a-z_]+)\.py ", page, re.M))
    assert named == {name.removeprefix("ui.") for name in TREES if name.startswith("ui.")}


def test_the_live_curve_stays_short():
    assert len((ROOT / "tlapp/ui/curve.py").read_text().splitlines()) <= 80


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
            assert x.shape[1] == block.channels, block
        assert x.shape[1] == entry.features
        if entry.enum:
            weights = torchvision.models.get_weight(entry.enum)
            assert weights.url.endswith("/" + entry.weights_file)
            transforms = weights.transforms()
            assert (tuple(transforms.mean), tuple(transforms.std)) == (entry.mean, entry.std)
            assert (transforms.resize_size, transforms.crop_size) == ([entry.resize], [entry.crop])
            assert transforms.interpolation.value == entry.interpolation
