"""Real small photos, a workspace of each test's own, and no way to the network."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
