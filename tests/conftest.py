"""Real small photos, a workspace of each test's own, and no way to the network."""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from tlapp import catalog, cli, dataset, features, jobs, speed, train
from tlapp.catalog import INCLUDED
from tlapp.dataset import Dataset
from tlapp.events import Event
from tlapp.plan import AUGMENTATIONS, Plan, suggest
from tlapp.runs import Run

# On pictures as small as these, a second thread of torch only waits for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["sites"]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The test's own workspace and weights cache."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TLAPP_HOME", str(folder))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TLAPP_OFFLINE", raising=False)
    return folder


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch):
    connect = socket.socket.connect

    def guarded(self, address):
        assert not isinstance(address, tuple) or address[0] in ("127.0.0.1", "localhost", "::1"), address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def photo(path: Path, colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (60, 48)) -> Path:
    """A picture of a noisy colour, unlike every other seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


COLOURS = {"reds": (200, 40, 40), "blues": (40, 40, 200), "greens": (40, 180, 40)}


@pytest.fixture
def make_folder(tmp_path):
    """make_folder({"reds": 5, "train/blues": 3}) → the folder; class colour by the last part of the name."""

    def make(counts: dict[str, int], name: str = "photos") -> Path:
        seed = 0
        for folder, n in counts.items():
            (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                seed += 1
                colour = COLOURS.get(Path(folder).name, (128, 128, 128))
                photo(tmp_path / name / folder / f"{i:03d}.png", colour, hash_seed(name) + seed)
        return tmp_path / name

    return make


def hash_seed(name: str) -> int:
    """Photos of differently named folders differ."""
    return sum(map(ord, name)) * 1000


def fill(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Photos as `make_folder` makes them, anywhere; another seed gives other photos."""
    for folder, n in counts.items():
        for i in range(n):
            seed += 1
            colour = COLOURS.get(Path(folder).name, (128, 128, 128))
            photo(root / folder / f"{i:03d}.png", colour, seed)
    return root


SIDES = {"train/reds": 4, "train/blues": 4, "valid/reds": 2, "valid/blues": 2, "test/reds": 4, "test/blues": 4}


def quick(data: Dataset, **settings: Any) -> Plan:
    """A plan of few epochs on the included backbone that sees every photo once, and is the same on every machine."""
    given = {"solver": "sgd", "epochs": 3, "augmentation": AUGMENTATIONS["off"], "device": "cpu", **settings}
    return replace(suggest(data, INCLUDED), **{"precision": "float32", **given})


def watch(run: Run, seconds: float = 180) -> list[Event]:
    """All events of a run, which must end in time."""
    found: list[Event] = []
    follower = threading.Thread(target=lambda: found.extend(jobs.follow(run)), daemon=True)
    follower.start()
    follower.join(seconds)
    assert not follower.is_alive(), f"run {run.id} did not end; so far {run.events()[0][-3:]}"
    return found


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for what `condition` gives to be true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return result


def shrink_pictures(patch: pytest.MonkeyPatch) -> None:
    """The very networks, but on pictures of a quarter the side: sixteen times quicker."""
    for name, entry in list(catalog.BACKBONES.items()):
        blocks = tuple(replace(block, elements=block.elements // 16) for block in entry.blocks)
        patch.setitem(catalog.BACKBONES, name, replace(entry, resize=64, crop=56, blocks=blocks))


@pytest.fixture(scope="session")
def timed(tmp_path_factory):
    """The note that a workspace keeps of the trial that finds the quickest way to run the included backbone."""
    home = tmp_path_factory.mktemp("timed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLAPP_HOME", str(home))
        shrink_pictures(patch)
        speed.quickest(catalog.get(INCLUDED), torch.device("cpu"))
    return home / "quickest.json"


@pytest.fixture
def small_pictures(monkeypatch, home, timed):
    """For tests of what does not depend on the pictures' size, in a workspace that knows how they run quickest."""
    shrink_pictures(monkeypatch)
    home.mkdir(exist_ok=True)
    shutil.copy(timed, home)


@dataclass(frozen=True)
class Trained:
    """A finished run that many tests read; none may change it."""

    home: Path
    folder: Path
    data: Dataset
    run: Run
    events: list[Event]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of three epochs on eight photos, in a workspace of its own; read it with `small_pictures`."""
    root = tmp_path_factory.mktemp("trained")
    folder = fill(root / "photos", SIDES)
    data = dataset.scan(folder, home=root / "home")
    with pytest.MonkeyPatch.context() as patch:
        shrink_pictures(patch)
        run = jobs.start(data, quick(data, head_rate=0.05), root / "home")
        return Trained(root / "home", folder, data, run, watch(run))


@pytest.fixture
def own_run(trained, home):
    """A copy of the trained run in the test's own workspace, to be harmed at will."""
    shutil.copytree(trained.home, home, dirs_exist_ok=True)
    return Run(home / "runs" / trained.run.id)


def model_file(run: Run) -> Path:
    """Where the model that a run delivered lies."""
    (path,) = run.path.glob("model-*.safetensors")
    return path


class Sealed(Dataset):
    """A dataset whose test photos cannot be read; made by `seal`."""

    sealed: frozenset[int]

    def pixels(self, index: int) -> np.ndarray:
        assert index not in self.sealed, "a test photo was looked at"
        return super().pixels(index)


def seal(data: Dataset, plan: Plan) -> Sealed:
    """The same photos, but nobody may look at those that the plan tests on."""
    made = Sealed(*(getattr(data, field.name) for field in fields(data)))
    object.__setattr__(made, "sealed", frozenset(plan.split(data).test.tolist()))
    assert made.sealed
    return made


CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--process-per-site",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium for all tests; `TLAPP_TEST_BROWSER=required` makes its absence a failure."""
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not chromium or not importlib.util.find_spec("playwright"):
        absent = pytest.fail if os.environ.get("TLAPP_TEST_BROWSER") == "required" else pytest.skip
        absent("needs Chromium (the Debian package `chromium`) and Playwright (`pip install playwright`)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A fresh page. By its end no request has left this machine and no script has failed, other tabs included."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, service_workers="block")
    context.set_default_timeout(60_000)
    outside: list[str] = []
    failed: list[str] = []
    context.on("request", lambda request: is_local(request.url) or outside.append(request.url))
    context.on("weberror", lambda error: failed.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert not outside
    assert not failed


def drop_on(zone: Any, *paths: Path) -> None:
    """Drop real files and folders, as a person does from the desktop."""
    zone.evaluate("element => element.scrollIntoView({block: 'center'})")
    zone.hover(trial=True)  # once it stands still
    box = zone.bounding_box()
    session = zone.page.context.new_cdp_session(zone.page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 40}
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


def is_local(url: str) -> bool:
    """Whether a request for `url` stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.hostname in ("127.0.0.1", "localhost")


@pytest.fixture
def stop_at(monkeypatch):
    """stop_at(n): somebody asks to stop just before the training looks for it the n-th time.

    All photos are cached in one batch. What comes before, the instant model to compare with, does not count.
    """
    monkeypatch.setattr(features, "FORWARD_BATCH", 16)
    train_model, looks = train.train, itertools.count(1)

    def arrange(n):
        def counted(model, train_photos, validation_photos, plan, look, state):
            def looked():
                if next(looks) == n:
                    jobs.stop(look.__self__)
                return look()

            return train_model(model, train_photos, validation_photos, plan, looked, state)

        monkeypatch.setattr(train, "train", counted)

    return arrange


@pytest.fixture
def tlapp(capsys, monkeypatch, small_pictures):
    """tlapp("runs", "--json") → (exit code, standard output, standard error)."""
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def call(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call
