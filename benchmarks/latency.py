"""How long an answer takes: one photo, and a folder of them, against the bare forward of the same network.

    python -m benchmarks latency [--rounds 5] [--repeats 20]

One photo: float32, the network alone on a tensor that is ready, BatchNorm folded, channels last, eager; beside it
tlapp's answer on pixels and on a file. A folder: photos a second, against decoding them and running them in batches.
All in one process, in turn.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import _common, _photos
from benchmarks._common import Row, Rows
from benchmarks._statistics import middle

MODELS = ["instant", "best"]
ONE = {
    "forward": "bare forward of one photo", "file forward": "one photo decoded, then the bare forward",
    **{f"{model}, {what}": f"tlapp, {model}, one photo, {what}" for what in ("pixels", "file") for model in MODELS},
}  # fmt: skip
FOLDER = {
    "folder limit": "decode and batched forward",
    **{f"{m}, folder": f"tlapp, {m}, predict_files" for m in MODELS},
}
AGAINST = {"forward": "forward", "pixels": "forward", "file": "file forward", "folder": "folder limit"}


def main(arguments: list[str]) -> None:
    """Measure the rounds that are missing, then make table and figure."""
    parser = _common.parser("latency", "Milliseconds for one photo, photos a second for a folder.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20, help="of one photo in a round")
    parser.add_argument("--photos", type=int, default=200, help="in the folder, at most")
    options = parser.parse_args(arguments)
    rows = Rows(options.out, ("round", "arm"), options.threads)
    missing = [turn for turn in range(options.rounds) if not rows.has(round=turn, arm=[*ONE, *FOLDER][-1])]
    if missing and not options.render:
        measure(rows, options, missing)
    render(rows.of_one_machine(), options.page)


def measure(rows: Rows, options, rounds: list[int]) -> None:  # type: ignore[no-untyped-def]
    """All arms in turn, `repeats` times a round for one photo, once a round for the folder."""
    with tempfile.TemporaryDirectory(prefix="tlapp-bench-") as temporary:
        os.environ |= {"TLAPP_HOME": str(Path(temporary) / "home"), "TLAPP_OFFLINE": "1"}
        one, folder, n = arms(options, Path(temporary) / "draw")
        for arm in (*one.values(), *folder.values()):
            arm()  # warms up
        for turn in rounds:
            times: dict[str, list[float]] = {name: [] for name in (*one, *folder)}
            for repeat in range(options.repeats):
                for name, arm in {**one, **({} if repeat else folder)}.items():
                    started = time.perf_counter()
                    arm()
                    times[name].append(time.perf_counter() - started)
            load = os.getloadavg()[0]
            for name, values in times.items():
                row = {"seconds": middle(values), "repeats": len(values), "photos": n if name in folder else 1}
                rows.measure(lambda row=row, load=load: {**row, "load": load}, round=turn, arm=name)


def arms(options, target: Path) -> tuple[dict[str, Callable], dict[str, Callable], int]:  # type: ignore[no-untyped-def]
    """What to time: for one photo, for the folder; and how many photos the folder has."""
    import numpy as np
    import torch

    from benchmarks import _arms, _limit
    from tlapp import images, predict

    torch.set_num_threads(options.threads)
    drawn = _photos.draw(options.data / "flowers-400", 20, 0, target, n_test=5)
    predictors = {model: predict.load(_arms.train_tlapp(drawn, model, 0)[0]) for model in MODELS}
    paths = [item.path for item in _photos.read(options.data / "ants-bees").test]
    paths = [*paths, *(item.path for item in drawn.learn)][: options.photos]
    pixels = images.load(paths[0].read_bytes())
    bare, quickest = _limit.folded(), _limit.fastest([torch.float32])
    ready = _limit.ready(np.stack([_limit.decode(paths[0])]))

    def forward(inputs: torch.Tensor) -> None:
        with torch.inference_mode():
            bare(inputs)

    one: dict[str, Callable] = {
        "forward": lambda: forward(ready),
        "file forward": lambda: forward(_limit.ready(np.stack([_limit.decode(paths[0])]))),
    }
    folder: dict[str, Callable] = {"folder limit": lambda: _limit.run(quickest, paths, options.threads)}
    for name, predictor in predictors.items():
        one[f"{name}, pixels"] = lambda p=predictor: p.predict(pixels)
        one[f"{name}, file"] = lambda p=predictor: list(p.predict_files(paths[:1]))
        folder[f"{name}, folder"] = lambda p=predictor: list(p.predict_files(paths))
    return one, folder, len(paths)


def render(rows: list[Row], page: Path) -> None:
    """The section `latency` of the page, with its figure."""
    rounds = {arm: {row["round"]: row for row in rows if row["arm"] == arm} for arm in (*ONE, *FOLDER)}

    def ratio(arm: str, base: str) -> str:
        both = rounds[arm].keys() & rounds[base].keys()
        return f"{middle([rounds[arm][i]['seconds'] / rounds[base][i]['seconds'] for i in both]):.2f}"

    def seconds(arm: str) -> float:
        return middle([row["seconds"] for row in rounds[arm].values()])

    one = [[title, f"{1000 * seconds(arm):.1f}", ratio(arm, "forward"),
            ratio(arm, AGAINST[arm.split(", ")[-1]]) if ", " in arm else ""] for arm, title in ONE.items()]  # fmt: skip
    n = rows[-1]["photos"]
    folder = [[title, f"{n / seconds(arm):.0f}", ratio(arm, "folder limit")] for arm, title in FOLDER.items()]
    figure = _common.figure(11, 3.6)
    for axes, names, title in zip(
        figure.subplots(1, 2), (ONE, FOLDER), ("Milliseconds for one photo", f"Photos a second, {n} files"), strict=True
    ):
        values = [1000 * seconds(arm) if names is ONE else n / seconds(arm) for arm in names]
        colours = ["#2f74e6" if "tlapp" in words else "#9aa0a6" for words in names.values()]
        _common.bars(axes, list(names.values()), values, ".1f", colours, title)
    parts = [
        f"Made by `python -m benchmarks latency` on {_common.words(rows[-1]['machine'])}.",
        _common.table(["one photo", "ms", "÷ bare forward", "÷ like with like"], one),
        _common.table(["a folder", "photos a second", "seconds ÷ limit"], folder),
        "Medians over rounds of medians over repeats, all in one process, in turn; ratios within a round. Like with "
        "like: pixels against the bare forward, a file against decoding and the bare forward. float32 everywhere.",
        _common.save_figure(figure, page, "latency"),
    ]
    _common.write_section(page, "latency", "\n\n".join(parts))
