"""How often tlapp and its peers are right on test photos, over seeds and draws.

    python -m benchmarks accuracy [--sets ants-bees flowers-400] [--draws 10 20 40] [--arms instant best plain …]

ants-bees is learned from and tested on as its folders say; of flowers-400, some photos of each class are drawn to learn
from and all the rest is test. Every arm has the same files and a process of its own. A run that was broken off goes on
where it stood: rows that are there are not made again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import _common, _photos
from benchmarks._common import Row, Rows
from benchmarks._statistics import over_seeds, paired, percent, points

FAST = ["instant", "best", "logistic", "logistic unscaled"]
SLOW = ["plain", "strengthened", "best + fine-tuning", "timm", "fastai"]
FIVE = [*FAST, "plain", "strengthened"]
OURS = ["instant", "best", "best + fine-tuning"]
PEERS = ["logistic", "logistic unscaled", "plain", "strengthened", "timm", "fastai"]
GAIN_POINTS = 2.0
Marks = dict[int, str]


def main(arguments: list[str]) -> None:
    """Take the measurements that are missing, then make table and figure."""
    parser = _common.parser("accuracy", "Accuracy on test photos, tlapp and its peers.")
    parser.add_argument("--sets", nargs="+", choices=["ants-bees", "flowers-400"], default=["ants-bees", "flowers-400"])
    parser.add_argument("--draws", nargs="+", type=int, default=[10, 20, 40], help="photos per class of flowers-400")
    parser.add_argument("--arms", nargs="+", choices=OURS + PEERS, default=FAST + SLOW, metavar="ARM")
    parser.add_argument("--seeds", type=int, default=5, help="of the arms that freeze the backbone")
    parser.add_argument("--slow-seeds", type=int, default=3, help="of the arms that fine-tune")
    parser.add_argument("--redo", nargs="+", choices=OURS + PEERS, default=[], metavar="ARM", help="forget their rows")
    parser.add_argument("--quick", action="store_true", help="3 + 3 photos per class, one epoch: a trial, no result")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("set", "draw", "seed", "arm"), options.threads, keep=not options.quick)
    if options.redo and not options.quick:
        rows.forget(options.redo)
    if not options.render:
        arms = _common.with_fastai(options.arms)
        for seed in range(max(options.seeds, options.slow_seeds)):
            for name in options.sets:
                for n in ["own"] if name == "ants-bees" else options.draws:
                    seeds = {arm: options.seeds if arm in FIVE else options.slow_seeds for arm in arms}
                    measure(rows, options, name, n, seed, [arm for arm in arms if seed < seeds[arm]])
    if not options.quick:
        render(rows.of_one_machine(), options.page)


def measure(rows: Rows, options, name: str, n: int | str, seed: int, arms: list[str]) -> None:  # type: ignore[no-untyped-def]
    """All arms on one draw, one after the other."""
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as temporary:
        folder, epochs = options.data / name, None
        if options.quick:
            folder, epochs = _photos.draw(folder, 3, seed, Path(temporary) / "draw", n_test=3).root, 1
        elif n != "own":
            folder = _photos.draw(folder, int(n), seed, Path(temporary) / "draw").root
        for arm in arms:
            take = lambda arm=arm: _common.in_fresh_process(  # noqa: E731
                arm, folder, threads=options.threads, seed=seed, epochs=epochs
            )
            rows.measure(take, set=name, draw=n, seed=seed, arm=arm)


def render(rows: list[Row], page: Path) -> None:
    """The section `accuracy` of the page, with its figure."""
    parts = [f"Made by `python -m benchmarks accuracy` on {_common.words(rows[-1]['machine'])}."]
    cases = list(dict.fromkeys((row["set"], row["draw"]) for row in rows))
    cases.sort(key=lambda case: (case[1] == "own", case[0], case[1] if isinstance(case[1], int) else 0))
    parts += headline(rows, cases)
    for name, n in cases:
        parts += [f"**{title(name, n)}**", case_table([r for r in rows if (r["set"], r["draw"]) == (name, n)])]
    goals = _common.table(["target", "photos", "measured", "outcome"], targets(rows, cases))
    parts += [EXPLAINED, draw_figure(rows, cases, page), "**Targets** (differences in points)", goals]
    _common.write_section(page, "accuracy", "\n\n".join(parts))


def headline(rows: list[Row], cases: list[tuple[str, int | str]]) -> list[str]:
    """What counts most: on photos that are not from ImageNet, against heads and loops that are set up well."""
    peers = ["logistic", "logistic unscaled", "strengthened"]
    lines = []
    for name, n in (case for case in cases if case[1] != "own"):
        case = [row for row in rows if (row["set"], row["draw"]) == (name, n)]
        for our in OURS:
            mine = [row["accuracy"] for row in case if row["arm"] == our]
            minus = [points(paired(marks(case, our), marks(case, peer))) for peer in peers]
            if mine:
                lines.append([f"{name}, {n}", _common.TITLES[our], percent(over_seeds(mine)), *minus])
    if not lines:
        return []
    head = ["photos, per class to learn from", "arm", "accuracy, %", *(f"− {_common.TITLES[peer]}" for peer in peers)]
    return [_common.table(head, lines)]


EXPLAINED = (
    "Accuracy is the mean over seeds with its 95 % interval by Student's t over the seeds, which on drawn photos are "
    "draws as well. The differences are in points on the same test photos with the same seeds (those that both arms "
    "have), with a 95 % bootstrap interval over photos. Nothing in logistic regression is random, so on photos with "
    "their own split its seeds agree. Targets are judged by the value; the interval says how sure it is. The rows are "
    "of several days, so their seconds are not compared here but under Speed, where all arms take turns."
)


def title(name: str, n: int | str) -> str:
    """A case in words; beside ants-bees what must stand there."""
    return f"ants-bees, its own split ({_common.SEEN})" if n == "own" else f"{name}, {n} photos per class to learn from"


def marks(rows: list[Row], arm: str) -> Marks:
    """Right and wrong by seed."""
    return {row["seed"]: row["marks"] for row in rows if row["arm"] == arm}


def case_table(rows: list[Row]) -> str:
    """One line an arm."""
    lines = []
    for arm in (arm for arm in OURS + PEERS if marks(rows, arm)):
        mine = [row for row in rows if row["arm"] == arm]
        minus = [points(paired(marks(rows, our), marks(rows, arm))) if our != arm else "" for our in OURS[1:]]
        accuracy = percent(over_seeds([row["accuracy"] for row in mine]))
        lines.append([_common.TITLES[arm], str(len(mine)), accuracy, *minus])
    head = ["arm", "seeds", "accuracy, %", "best − it, points", "best + fine-tuning − it, points"]
    return _common.table(head, lines)


def targets(rows: list[Row], cases: list[tuple[str, int | str]]) -> list[list[str]]:
    """A line for each target and case: what is wanted, where, what was measured, whether it is met."""
    told = []
    for name, n in cases:
        case = [row for row in rows if (row["set"], row["draw"]) == (name, n)]
        told += [[line[0], title(name, n), *line[1:]] for line in ahead(case) + no_worse(case)]
    return sorted(told + half_the_labels(rows), key=lambda line: line[0])


def ahead(case: list[Row]) -> list[list[str]]:
    """tlapp against logistic regression and against every peer."""
    told = []
    for our in OURS[1:]:
        gains = {peer: paired(marks(case, our), marks(case, peer)) for peer in PEERS}
        found = {peer: gain for peer, gain in gains.items() if gain}
        plain_heads = [found[peer] for peer in PEERS[:2] if peer in found]
        if plain_heads:
            least = min(plain_heads, key=lambda gain: gain.value)
            wanted = f"{GAIN_POINTS:.0f} points above one-view logistic regression, the better of two: {our}"
            told.append([wanted, points(least), _common.judged(least.value >= GAIN_POINTS)])
        if found:
            nearest = min(found, key=lambda peer: found[peer].value)
            measured = f"nearest: {_common.TITLES[nearest]}, {points(found[nearest])}"
            told.append([f"ahead of every peer: {our}", measured, _common.judged(found[nearest].value > 0)])
    return told


def no_worse(case: list[Row]) -> list[list[str]]:
    """The instant model against the verbatim loop; how much faster it is stands in the section `speed`."""
    gain = paired(marks(case, "instant"), marks(case, "plain"))
    if not gain:
        return []
    return [["no less accurate than the verbatim plain loop: instant", points(gain), _common.judged(gain.value >= 0)]]


def half_the_labels(rows: list[Row]) -> list[list[str]]:
    """tlapp with k photos per class against the strengthened loop with twice as many."""
    drawn = [row for row in rows if row["draw"] != "own"]
    told = []
    for n in sorted({row["draw"] for row in drawn}):
        for our in OURS[1:]:
            mine = marks([row for row in drawn if row["draw"] == n], our)
            gain = paired(mine, marks([row for row in drawn if row["draw"] == 2 * n], "strengthened"))
            if gain:
                wanted = f"no less accurate than the strengthened plain loop with twice the photos: {our}"
                where = f"flowers-400, {n} against {2 * n} photos per class, the test photos of both"
                told.append([wanted, where, points(gain), _common.judged(gain.value >= 0)])
    return told


def draw_figure(rows: list[Row], cases: list[tuple[str, int | str]], page: Path) -> str:
    """Accuracy against photos per class, and ants-bees beside it."""
    figure = _common.figure(11, 4.8)
    drawn = [case for case in cases if case[1] != "own"]
    lines, own = figure.subplots(1, 2, width_ratios=(3, 2))
    for i, arm in enumerate(arm for arm in OURS + PEERS if marks(rows, arm)):
        colour, dash = f"C{i}", "-" if arm in OURS else "--"
        for axes, wanted in ((lines, drawn), (own, [("ants-bees", "own")])):
            of = {
                case: [r["accuracy"] for r in rows if r["arm"] == arm and (r["set"], r["draw"]) == case]
                for case in wanted
            }
            found = [(case, over_seeds(values)) for case, values in of.items() if values]
            if not found:
                continue
            x = [i if axes is own else case[1] * (1 + 0.012 * (i - 4)) for case, _ in found]
            y = [100 * mean.value for _, mean in found]
            half = [100 * (mean.interval[1] - mean.value) if mean.interval else 0 for _, mean in found]
            name = _common.TITLES[arm] if axes is lines else None
            axes.errorbar(x, y, half, color=colour, linestyle=dash, marker="o", markersize=4, capsize=2, label=name)
    lines.set(
        title="flowers-400", xlabel="photos per class to learn from", ylabel="% of test photos right", xscale="log"
    )
    ticks = sorted({case[1] for case in drawn})
    lines.set_xticks(ticks, [str(n) for n in ticks])
    lines.minorticks_off()
    own.set(title=f"ants-bees\n({_common.SEEN})", xticks=[])
    own.title.set_fontsize(9)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return _common.save_figure(figure, page, "accuracy")
