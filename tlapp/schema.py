"""What earlier versions wrote, brought to what this one reads: the one place where formats of files are migrated.

Every file of a run or bundle says the number of its schema. A step takes the values of one number to the next; files
themselves stay as they are. Knows plain values; knows nothing of folders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tlapp import evaluate

Values = dict[str, Any]

RUN = 1
"""plan.json of a run: its plan, photos, classes and origin."""
PLAN = 2
"""All settings of a run. With 1, test and validation photos were drawn by shuffling."""
REPORT = 2
"""report.json. 1 gave scores without intervals, and did not say how strange a photo is."""
BUNDLE = 1
"""run.json of a bundle: as plan.json of a run, with the run's name and the part of known photos to keep."""


class NewerError(ValueError):
    """A file was written by a newer version of tlapp."""


def upgraded(values: Values, kind: str) -> Values:
    """The values of a file as this version has them. `kind`: "run", "plan", "report" or "bundle".

    Raises NewerError where it cannot know them, else ValueError where they are not what their schema says.
    """
    newest, steps = {"run": (RUN, {}), "plan": (PLAN, _PLAN), "report": (REPORT, _REPORT), "bundle": (BUNDLE, {})}[kind]
    number = values.get("schema", newest)  # every version has written it
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError("its schema has no number")
    if number > newest:
        raise NewerError(f"its schema is {number}, and {newest} is the newest that is known here")
    for step in range(number, newest):
        try:
            values = steps[step](values)
        except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"it is not of schema {step}") from error
    return {**values, "schema": newest}


def _with_intervals(values: Values) -> Values:
    """Report 1 → 2."""
    scores = evaluate.of_counts(np.array(values["confusion"], dtype=np.int64)).to_dict(tuple(values["classes"]))
    validation = evaluate.stated(values["validation_accuracy"], values["n_validation"])
    photos = [{"strangeness": None, **photo} for photo in values["photos"]]
    return {"validation": validation, **values, **scores, "photos": photos}


def _shuffled(values: Values) -> Values:
    """Plan 1 → 2."""
    return {"draw": "order", **values}


_PLAN: dict[int, Callable[[Values], Values]] = {1: _shuffled}
_REPORT: dict[int, Callable[[Values], Values]] = {1: _with_intervals}
