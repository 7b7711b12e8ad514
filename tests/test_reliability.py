"""docs/reliability.md: every promise names tests and trials that there are."""

import ast
import re
from pathlib import Path

import pytest

from benchmarks import reliability

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.partition("## Crashes\n")[0].splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| | what"))
]


def test_every_promise_is_shown_by_tests_that_there_are():
    for row in ROWS:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row[3])
        assert named, row
        for file, name in named:
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_every_row_has_its_number_once_and_a_promise():
    numbers = [int(row[0]) for row in ROWS if row[0]]
    assert len(numbers) == len(set(numbers)) == 50
    assert all(row[1] and row[2] for row in ROWS)


def test_every_trial_that_is_named_can_be_run_and_every_one_has_its_section_with_figures():
    assert set(re.findall(r"benchmarks reliability (\w+)", TEXT)) - {"NAME"} == set(reliability.NAMES)
    for name in reliability.NAMES:
        found = re.search(rf"<!-- {name} -->\n(.+?)\n<!-- /{name} -->", TEXT, re.DOTALL)
        assert found, name
        assert re.search(r"\d", found[1]), name


@pytest.mark.parametrize("arguments", [[], ["nothing"]])
def test_a_trial_that_there_is_not_is_answered_by_those_there_are(arguments):
    with pytest.raises(SystemExit, match=r"faults \| kill \| load"):
        reliability.main(arguments)
