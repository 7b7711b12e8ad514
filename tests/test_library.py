"""The library's public names: few, typed, cheap to import, and documented by examples that run."""

import ast
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COLOURS, fill, photo

import tlapp
from tlapp import jobs, runs

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def examples(page, instead=()):
    """The blocks of Python in a page of the docs, in order, each at its line there; `instead`: words put for others."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for words, others in dict(instead).items():
        assert words in text
        text = text.replace(words, others)
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
        yield compile("\n" * text.count("\n", 0, block.start(1)) + block[1], str(DOCS / page), "exec")


@pytest.fixture
def place(tmp_path, monkeypatch, small_pictures):
    """The folder that the examples are about, as the current one."""
    place = tmp_path / "place"
    fill(place / "photos", {"reds": 8, "blues": 8})
    photo(place / "new-photo.jpg", COLOURS["blues"], 99)
    monkeypatch.chdir(place)
    return place


def test_the_examples_of_the_docs_run_in_order_as_they_stand(place, home, capsys):
    names = {}
    for example in examples("library.md"):
        exec(example, names)
    said = capsys.readouterr().out
    assert "no-such-folder does not exist" in said
    assert re.search(r"\d+% of 4 test photos are right, plausibly \d+% to \d+%", said)
    assert "took part in the training" in said
    assert re.search(r"'file': 'new-photo.jpg', 'label': '(reds|blues)'", said)
    assert names["run"] in runs.all_runs(home)
    assert (place / "my-model.zip").is_file()


def test_there_are_at_most_ten_names_and_each_has_its_line_its_example_and_its_docstring():
    page = (DOCS / "library.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"^```python\n(.*?)^```", page, re.M | re.S))
    assert len(tlapp.__all__) <= 10
    assert set(re.findall(r"^\| `(\w+)", page, re.M)) == set(tlapp.__all__)
    for name in tlapp.__all__:
        assert f"tlapp.{name}" in blocks, name
        assert inspect.getdoc(getattr(tlapp, name)), name
        assert name in dir(tlapp)


def test_a_name_that_is_not_there_is_answered_by_those_that_are():
    with pytest.raises(AttributeError, match=r"tlapp has no `teach`; its names are scan, Plan"):
        _ = tlapp.teach


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = {*sys.modules}; import tlapp; print(*{*sys.modules} - before, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    found = {name.split(".")[0] if not name.startswith("tlapp") else name for name in done.stdout.split()}
    assert found - sys.stdlib_module_names == {"tlapp"}


def test_type_checkers_are_told_of_the_very_things_that_the_names_stand_for():
    (branch,) = [node for node in ast.parse((ROOT / "tlapp/__init__.py").read_text()).body if isinstance(node, ast.If)]
    told = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = {name: (thing.__module__, thing.__name__) for name in tlapp.__all__ if (thing := getattr(tlapp, name))}
    assert told == found
    assert (ROOT / "tlapp/py.typed").is_file()


def test_the_path_is_walked_without_naming_a_workspace(place, home):
    photos = tlapp.scan("photos")
    plan = tlapp.suggest(photos).with_settings({"augmentation": "off", "head": "ridge", "precision": "float32"})
    run = tlapp.start(photos, plan)
    assert list(tlapp.follow(run))
    assert tlapp.find(run.id) == tlapp.find("1") == tlapp.find("latest") == run
    assert run.path.parent.parent == photos.folder.parent.parent == home
    assert tlapp.load(run).classes == ("blues", "reds")
    jobs.close()


# --- the scripts

SCRIPTS = ("feature_extraction", "fine_tuning", "augmentation")


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_trains_and_prints_its_score_with_its_interval(place, home, capsys, monkeypatch, name):
    monkeypatch.setattr(sys, "argv", [name, "photos"])
    runpy.run_path(str(DOCS / f"{name}.py"), run_name="__main__")
    *_, score = [line for line in capsys.readouterr().out.splitlines() if "test photos right" in line]
    assert re.fullmatch(r"[A-Z][a-z -]+: \d+% of 4 test photos right, \d+% to \d+%\.", score)
    plans = {run.id: run.plan for run in runs.all_runs(home)}
    assert {plan.head_only for plan in plans.values()} == {name != "fine_tuning"}
    assert {plan.augmentation.is_off for plan in plans.values()} == (
        {True, False} if name == "augmentation" else {False}
    )


def test_a_script_runs_as_a_program_of_its_own(tmp_path):
    fill(tmp_path / "photos", {"reds": 4, "blues": 4})
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(DOCS / "feature_extraction.py"), str(tmp_path / "photos")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=120)
    assert re.fullmatch(r"Feature extraction: \d+% of 2 test photos right, \d+% to \d+%\.\n", done.stdout)
    assert "RunFinished" in done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_short_know_the_public_library_alone_and_stand_in_the_readme(name):
    source = (DOCS / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(source.splitlines()) <= 40
    assert {ast.unparse(node) for node in imported} == {"import sys", "import tlapp"}
    used = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tlapp"
    }
    assert used <= set(tlapp.__all__)
    assert f"docs/{name}.py" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"({name}.py)" in (DOCS / "library.md").read_text(encoding="utf-8")
