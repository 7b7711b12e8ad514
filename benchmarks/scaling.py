"""How time and memory grow with the photos: 100 to 20,000, tlapp's instant and best model, and the limit.

    python -m benchmarks scaling [--most 2000] [--rounds 1] [--arms limit instant best]

The photos are the same few, each file with bytes of its own, so they say nothing of accuracy. Every measurement has a
fresh process and an empty workspace. 20,000 photos need about 6 GB of disk for the while (`TMPDIR` says where).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import _common, _photos
from benchmarks._common import Row, Rows
from benchmarks._statistics import middle

SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
ARMS = ["limit", "instant", "best"]


def main(arguments: list[str]) -> None:
    """Measure what is missing, smallest first, then make table and figure."""
    parser = _common.parser("scaling", "Seconds per photo and peak memory against the number of photos.")
    parser.add_argument("--most", type=int, default=2000, help="photos; at most 20,000")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, metavar="ARM")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("photos", "round", "arm"), options.threads)
    if not options.render:
        with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as temporary:
            todo = [(turn, arm) for turn in range(options.rounds) for arm in ("bare", *options.arms)]
            for n in (n for n in SIZES if n <= options.most):
                if all(rows.has(photos=n, round=turn, arm=arm) for turn, arm in todo):
                    continue
                folder = _photos.multiply(options.data / "flowers-400", n, Path(temporary)).root
                for turn, arm in todo:
                    take = lambda arm=arm, turn=turn, folder=folder: without_answers(  # noqa: E731
                        _common.in_fresh_process(arm, folder, threads=options.threads, seed=turn)
                    )
                    rows.measure(take, photos=n, round=turn, arm=arm)
    render(rows.of_one_machine(), options.page)


def without_answers(row: Row) -> Row:
    """Less what says nothing here."""
    return {name: value for name, value in row.items() if name not in ("accuracy", "marks", "n_test")}


def render(rows: list[Row], page: Path) -> None:
    """The section `scaling` of the page, with its figure."""
    sizes = sorted({row["photos"] for row in rows})
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    bare = middle([row["peak_mb"] for row in rows if row["arm"] == "bare"])

    def value(n: int, arm: str, key: str) -> float | None:
        values = [row[key] for row in rows if row["photos"] == n and row["arm"] == arm]
        return middle(values) if values else None

    def per_photo(n: int, arm: str, key: str) -> str:
        seconds = value(n, arm, key)
        return "" if seconds is None else f"{1000 * seconds / n:.1f}"

    def peak(n: int, arm: str) -> str:
        found = value(n, arm, "peak_mb")
        return "" if found is None else f"{found - bare:.0f}"

    head = ["photos"]
    head += [f"{arm}, ms per photo" + ("" if arm == "limit" else " (with the score)") for arm in arms]
    ours = [arm for arm in arms if arm != "limit"]
    head += [f"{arm}, peak MB" for arm in ours]
    lines = []
    for n in sizes:
        times = []
        for arm in arms:
            text, whole = (per_photo(n, arm, key) for key in ("seconds", "scored_seconds"))
            times.append(text if arm == "limit" or not text else f"{text} ({whole})")
        lines.append([f"{n:,}", *times, *(peak(n, arm) for arm in ours)])
    figure = _common.figure(11, 4)
    left, right = figure.subplots(1, 2)
    for i, arm in enumerate(arms):
        there = [n for n in sizes if value(n, arm, "seconds") is not None]
        times = [1000 / n * (value(n, arm, "scored_seconds") or 0) for n in there]
        peaks = [(value(n, arm, "peak_mb") or 0) - bare for n in there]
        for axes, values in ((left, times), (right, peaks))[: 1 if arm == "limit" else 2]:
            axes.plot(there, values, "o-", color=f"C{i}", label=arm if arm == "limit" else f"tlapp, {arm}")
    for axes, title in (
        (left, "Milliseconds per photo, with the score"),
        (right, "Peak memory over the bare import, MB"),
    ):
        axes.set(title=title, xlabel="photos", xscale="log")
        axes.set_ylim(bottom=0)
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.minorticks_off()
        axes.title.set_fontsize(10)
    left.legend(frameon=False)
    parts = [
        f"Made by `python -m benchmarks scaling` on {_common.words(rows[-1]['machine'])}.",
        _common.table(head, lines),
        "Time from the files to the model, for each photo of the folder, a fifth of them test photos; in brackets with "
        "the score on these. Peak memory is over that of a process that has only imported torch, torchvision and timm.",
        _common.save_figure(figure, page, "scaling"),
    ]
    _common.write_section(page, "scaling", "\n\n".join(parts))
