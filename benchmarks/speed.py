"""Seconds to tlapp's models and to its peers', against the least that any model on this backbone costs; and memory.

    python -m benchmarks speed [--set ants-bees] [--per-class 40] [--rounds 3] [--arms limit instant best …]

All arms in turn, then again: a noisy machine is noisy for all, and ratios are taken within a round. Every measurement
has a fresh process, so that its peak of memory is its own, and an empty workspace; imports come before the clock.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import _common, _photos
from benchmarks._common import TITLES, Row, Rows
from benchmarks._statistics import middle

ARMS = [
    "limit", "instant", "instant again", "best", "best + fine-tuning", "logistic", "plain", "strengthened", "timm",
    "fastai", "full fine-tuning",
]  # fmt: skip
FIRST_LIMIT, BEST_LIMIT, FASTER, MEMORY = 1.15, 4.0, 40.0, 0.1
Rounds = dict[int, Row]


def main(arguments: list[str]) -> None:
    """Measure what is missing, then make table and figure."""
    parser = _common.parser("speed", "Seconds and memory to a model, against the limit and against peers.")
    parser.add_argument("--set", default="ants-bees", choices=["ants-bees", "flowers-400"])
    parser.add_argument("--per-class", type=int, default=40, help="photos to learn from where the set has no split")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, metavar="ARM")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="3 + 3 photos per class, one epoch: a trial, no result")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("set", "round", "arm"), options.threads, keep=not options.quick)
    if not options.render:
        with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as temporary:
            folder, epochs = options.data / options.set, 1 if options.quick else None
            if options.quick or options.set == "flowers-400":
                n, n_test = (3, 3) if options.quick else (options.per_class, None)
                folder = _photos.draw(folder, n, 0, Path(temporary) / "draw", n_test).root
            photos = _photos.read(folder)
            sizes = {"n_learn": len(photos.learn), "n_test": len(photos.test)}
            for turn in range(options.rounds):
                for arm in ("bare", *_common.with_fastai(options.arms)):
                    take = lambda arm=arm, turn=turn: {  # noqa: E731
                        **sizes,
                        **_common.in_fresh_process(arm, folder, threads=options.threads, seed=turn, epochs=epochs),
                    }
                    rows.measure(take, set=options.set, round=turn, arm=arm)
    if not options.quick:
        render(rows.of_one_machine(), options.page)


def render(rows: list[Row], page: Path) -> None:
    """The section `speed` of the page, with its figure."""
    parts = [f"Made by `python -m benchmarks speed` on {_common.words(rows[-1]['machine'])}."]
    names = list(dict.fromkeys(row["set"] for row in rows))
    for name in names:
        rounds = by_arm([row for row in rows if row["set"] == name])
        parts += [f"**{describe(name, rounds)}**", set_table(rounds), said_of_limit(rounds)]
    parts += [EXPLAINED, draw_figure(rows, names, page), "**Targets**"]
    for name in names:
        parts.append("\n".join(f"- {name}: {t}" for t in targets(by_arm([row for row in rows if row["set"] == name]))))
    _common.write_section(page, "speed", "\n\n".join(part for part in parts if part))


EXPLAINED = (
    "Seconds are medians over the rounds (lowest – highest), from the files to the model, and to the model with its "
    "score on the test photos; ratios are medians of those within a round. tlapp decodes all photos, test photos too, "
    "before it learns, and delivers no model without its score; its peers decode test photos to score them alone. "
    "Memory is the peak of a process less that of one that has only imported torch, torchvision and timm."
)


def by_arm(rows: list[Row]) -> dict[str, Rounds]:
    """The rows of each arm by round, in the order of `ARMS`."""
    found: dict[str, Rounds] = {
        arm: {row["round"]: row for row in rows if row["arm"] == arm} for arm in ("bare", *ARMS)
    }
    return {arm: rounds for arm, rounds in found.items() if rounds}


def describe(name: str, rounds: dict[str, Rounds]) -> str:
    """The photos in words."""
    row = next(iter(next(iter(rounds.values())).values()))
    seen = f" ({_common.SEEN})" if name == "ants-bees" else ""
    return f"{name}{seen}: {row['n_learn']} photos to learn from, {row['n_test']} test photos"


def ratio(over: Rounds, under: Rounds, above: str = "seconds", below: str = "seconds") -> float:
    """The median of a time over another, in the rounds that have both; there must be one."""
    return middle([over[i][above] / under[i][below] for i in sorted(over.keys() & under.keys())])


def memory(rounds: dict[str, Rounds], arm: str) -> float:
    """Median peak over the bare import, in MB."""
    peaks = {name: middle([row["peak_mb"] for row in rounds[name].values()]) for name in (arm, "bare")}
    return peaks[arm] - peaks["bare"]


def set_table(rounds: dict[str, Rounds]) -> str:
    """One line an arm."""
    lines = []
    for arm in (arm for arm in rounds if arm != "bare"):
        of = rounds[arm]
        line = [TITLES[arm]]
        for key in ("seconds", "scored_seconds"):
            values = [row[key] for row in of.values()]
            line.append(f"{middle(values):.2f} ({min(values):.2f} – {max(values):.2f})")
        for over, under in ((arm, "limit"), (arm, "instant"), (arm, "best")):
            quotient = ratio(of, rounds[under]) if under in rounds and over != under else None
            line.append(f"{quotient:.2f}" if quotient else "")
        cpu, load = (middle([row[key] for row in of.values()]) for key in ("cpu_seconds", "load"))
        lines.append([*line, f"{cpu:.1f}", f"{load:.1f}", "" if arm == "limit" else f"{memory(rounds, arm):.0f}"])
    head = ["arm", "s to the model", "s with its score", "÷ limit", "÷ instant", "÷ best", "CPU s", "load", "peak MB"]
    return _common.table(head, lines)


def said_of_limit(rounds: dict[str, Rounds]) -> str:
    """In what the limit ran."""
    ways = sorted({f"{row['precision']}, batches of {row['batch']}" for row in rounds.get("limit", {}).values()})
    return f"The limit: every photo decoded once and run once; quickest here in {' or '.join(ways)}." if ways else ""


def targets(rounds: dict[str, Rounds]) -> list[str]:
    """Each target, what was measured, and whether it is met."""
    told = []
    limit = rounds.get("limit", {})
    for arm, most in (("instant", FIRST_LIMIT), ("instant again", FIRST_LIMIT), ("best", BEST_LIMIT)):
        if arm not in rounds or not limit:
            continue
        to_model, whole = ratio(rounds[arm], limit), ratio(rounds[arm], limit, "scored_seconds")
        strict = ratio(rounds[arm], limit, below="learn_seconds")
        told.append(
            f"{TITLES[arm]}, at most {most:g} times the limit: the model is there at {to_model:.2f} "
            f"({_common.judged(to_model <= most)}), its score at {whole:.2f} ({_common.judged(whole <= most)}); "
            f"against the limit less the forward of the test photos, which the model does not need, {strict:.2f} "
            f"({_common.judged(strict <= most)})."
        )
    for arm in ("instant", "instant again"):
        if arm in rounds and "plain" in rounds:
            to_model = ratio(rounds["plain"], rounds[arm])
            whole = ratio(rounds["plain"], rounds[arm], "scored_seconds", "scored_seconds")
            told.append(
                f"{TITLES[arm]}, {FASTER:.0f} times as fast as the verbatim plain loop: × {to_model:.0f} to the "
                f"model, × {whole:.0f} with its score: {_common.judged(min(to_model, whole) >= FASTER)}."
            )
    for arm in ("instant", "best", "best + fine-tuning"):
        if arm in rounds and "full fine-tuning" in rounds:
            share = memory(rounds, arm) / memory(rounds, "full fine-tuning")
            told.append(
                f"{TITLES[arm]}, peak memory at most a tenth of full fine-tuning's: {share:.2f} of it: "
                f"{_common.judged(share <= MEMORY)}."
            )
    return told


def draw_figure(rows: list[Row], names: list[str], page: Path) -> str:
    """Seconds with the score, and memory, a bar an arm."""
    figure = _common.figure(11, 0.6 + 3.6 * len(names))
    grid = figure.subplots(len(names), 2, squeeze=False)
    for (left, right), name in zip(grid, names, strict=True):
        rounds = by_arm([row for row in rows if row["set"] == name])
        arms = [arm for arm in rounds if arm != "bare"]
        seconds = [middle([row["scored_seconds"] for row in rounds[arm].values()]) for arm in arms]
        peaks = [0 if arm == "limit" else memory(rounds, arm) for arm in arms]
        note = f"\n({_common.SEEN})" if name == "ants-bees" else ""
        titles = [TITLES[arm] for arm in arms]
        _common.bars(left, titles, seconds, ".1f", "#2f74e6", f"{name}: seconds from files to a scored model{note}")
        _common.bars(right, arms, peaks, ".0f", "#d97000", "Peak memory over the bare import, MB")
        left.set_xscale("log")
        left.set_xlim(min(seconds) / 2, max(seconds) * 2)
        left.xaxis.set_major_formatter("{x:g}")
        left.xaxis.set_minor_formatter("")
        right.set_yticks([])
    return _common.save_figure(figure, page, "speed")
