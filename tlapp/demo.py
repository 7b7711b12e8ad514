"""The demo set: four classes of drawn pictures, to try the app offline and before photos are at hand.

Balloons, birds, butterflies and kites, in the same colours above the same landscapes: shape alone tells them apart.
Knows what to draw and where it is kept; knows nothing of datasets or training.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tlapp import workspace
from tlapp.errors import DataError, explain_oserror
from tlapp.paper import WHITE, Colour, Paper, arc, colours, disc, leaf, mix, smooth

CLASSES = ("balloon", "bird", "butterfly", "kite")
VERSION = 1
"""Raised whenever the pictures change, so that an older set is not taken for the new one."""

TRAIN, TEST = range(15), range(15, 21)
"""Seeds of the pictures to train on and of those held back, the same in each class."""

SIDE = 288
Random = np.random.Generator
# Sky at the top, sky at the horizon, far land, near land, sun or moon.
_LIGHTS = (
    "#3f93dc #d9f1fa #93c4bf #3a8558 #fffbe6",
    "#6fc3cf #fdf1d3 #a9cfa4 #4d9460 #fff6d0",
    "#35397a #f79c86 #7d5c96 #2a2a55 #ffd7a3",
    "#e8825c #fde3a2 #c98a72 #6b4a5e #fff3cf",
    "#12264a #4b8fa3 #2c5674 #10283f #f5f1dc",
    "#8f8fd6 #fbdde6 #a99bcb #56568f #fff4e6",
    "#4fae9f #eef7d8 #86bfa0 #2b6b62 #fffbe0",
)
_GROUNDS = ("hills", "mountains", "water", "meadow")
# Three colours, of which any may become the main one, and a dark one.
_PALETTES = (
    "#e4512b #f6ab1c #fff0d2 #3b1d2a",
    "#2567d4 #7fd0ea #fff5da #131f3d",
    "#f5bb0a #ee6a22 #fff8e0 #432118",
    "#8440b0 #ea8cc6 #fdeaf6 #29123d",
    "#159a86 #b7e389 #fbffe6 #0a3735",
    "#e5336f #ffb0c1 #fff1f3 #470c29",
    "#c8342c #2b9fca #fdf2d6 #2a1a2d",
    "#2c3b70 #f4c24a #f57d52 #1a1d38",
)
_FIR = np.array([-0.36 - 0.15j, -0.14 - 0.45j, -0.26 - 0.4j, -0.08 - 0.75j, -0.17 - 0.7j, -1.2j])
_FIR = np.concatenate([_FIR, -_FIR.conj()[::-1]])
_BLOSSOM = smooth(*(np.exp(0.1j * np.pi * np.arange(20)) * np.tile([0.5, 0.95, 1.05, 0.95], 5)))


def make(home: Path) -> Path:
    """The folder of the demo set in the workspace `home`, drawn first where it is not there yet.

    It holds `train/<class>/*.jpg` and `test/<class>/*.jpg`, and is there whole or not at all. Raises DataError
    where it cannot be saved.
    """
    folder = home / "demo" / f"drawn-v{VERSION}"
    if folder.is_dir():
        return folder
    try:
        workspace.make_folder(folder.parent)
        with workspace.lock(folder.parent / "lock"):
            if not folder.is_dir():  # another process may have been first
                _draw_all(folder)
    except OSError as error:
        raise DataError(explain_oserror(error)) from error
    return folder


def _draw_all(folder: Path) -> None:
    with workspace.own_folder(folder.parent, ".drawing-") as unfinished:
        for side, seeds in (("train", TRAIN), ("test", TEST)):
            for name in CLASSES:
                (unfinished / side / name).mkdir(parents=True)
                for seed in seeds:
                    quality = 70 + 11 * seed % 26  # else the class with most lines is told by its files' size
                    draw(name, seed).save(
                        unfinished / side / name / f"{name}-{seed + 1:02d}.jpg",
                        "JPEG", quality=quality, comment="Drawn by tlapp; not a photo.",
                    )  # fmt: skip
        workspace.sync_all(unfinished)
        os.chmod(unfinished, 0o755)
        os.rename(unfinished, folder)
        workspace.sync_folder(folder.parent)


def draw(class_name: str, seed: int) -> Image.Image:
    """One picture, RGB, 288 x 288, the same for the same seed. Raises ValueError for a class that is not drawn."""
    index = CLASSES.index(class_name)
    rng = np.random.default_rng([index, seed])
    # Lights and grounds take turns, so that every class gets its share of each.
    light = colours(_LIGHTS[(seed + 2 * index) % len(_LIGHTS)])
    picture = _landscape(rng, light, _GROUNDS[(seed + index + seed // 4) % len(_GROUNDS)])
    sky = np.array(mix(light[0], light[1], 0.5))
    some = [colours(_PALETTES[i]) for i in rng.permutation(len(_PALETTES))[:3]]
    palettes = [[palette[i] for i in (*rng.permutation(3), 3)] for palette in some]
    palette = max(palettes, key=lambda p: int(np.abs(p[0] - sky).sum()))
    paint, height, radius, tilt = _SUBJECTS[class_name]
    subject = Paper(SIDE)
    subject.scale = radius * rng.uniform(0.75, 1.12) * _turn(rng.uniform(-tilt, tilt))
    subject.origin = complex(rng.uniform(122, 166), height + rng.uniform(-14, 18))
    paint(subject, rng, palette)
    picture = subject.laid_on(picture, 0.4)
    blurred = Paper(SIDE, picture)
    for edge in rng.choice([-16, 236], rng.integers(3, 7)):
        spot = disc(edge + complex(*rng.uniform([0, 235], [68, 300])), rng.uniform(9, 26))
        blurred.paint(spot, mix(_flower(rng), light[4], 0.3), 0, 0.5, blur=4)
    return picture


def _landscape(rng: Random, light: list[Colour], ground: str) -> Image.Image:
    top, horizon, far, near, sun = light
    sky = Image.fromarray(np.array([[top], [horizon]], np.uint8))
    picture = sky.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(0, 0.5, 1, 1.4))
    air = Paper(SIDE, picture)
    for _ in range(30 if sum(top) < 300 else 0):
        air.paint(disc(complex(*rng.uniform(0, [SIDE, 170])), rng.uniform(0.5, 1.4)), sun, 0, rng.uniform(0.4, 1))
    place = complex(*rng.uniform(30, [258, 150]))
    for radius, alpha, blur in ((75, 0.3, 25), (38, 0.35, 12), (17, 0.9, 0)):
        air.paint(disc(place, radius), sun, 0, alpha, blur)
    x = np.linspace(-2.5, 2.5, 61)
    for _ in range(rng.integers(2, 5)):
        place, size = complex(*rng.uniform([0, 30], [SIDE, 185])), rng.uniform(12, 21)
        for tone, bulge in ((0.3, 1), (0.6, 0.8)):
            puffs = [np.maximum(0, bulge * (1 - 0.24 * abs(k)) ** 2 - (x - 0.85 * k) ** 2) for k in range(-2, 3)]
            air.paint(place + size * (x - 1j * np.sqrt(np.max(puffs, axis=0))), mix(horizon, WHITE, tone), 0, 0.85, 0.7)
    level = rng.uniform(180, 212)
    for k in range(3):
        sheet, colour = Paper(SIDE), mix(far, near, k / 2)
        if k == 2 and ground == "water":
            _water(sheet, rng, light, level + 34)
        else:
            _ridge(sheet, rng, level + 27 * k, colour, ground == "mountains" and k < 2, (9, 17, 0)[k])
        if k == 2 and ground == "meadow":
            _grass(sheet, rng, light)
        picture = sheet.laid_on(picture, 0.22)
    return picture


def _ridge(sheet: Paper, rng: Random, level: float, colour: Colour, rocky: bool, tree: float) -> None:
    x = np.linspace(-5, SIDE + 5, 60)
    if rocky:
        rise = np.interp(x, np.linspace(-5, SIDE + 5, 8), rng.uniform(-34, 22, 8)) + rng.uniform(-1.5, 1.5, 60)
    else:
        rise = rng.uniform(3, 12) * np.sin(x / 48 + rng.uniform(0, 6)) + rng.uniform(2, 6) * np.sin(x / 24)
    ridge = x + 1j * (level + rise)
    sheet.paint(np.concatenate([ridge, [SIDE + 400j, 400j]]), colour, 0.1)
    for foot in rng.choice(ridge, 0 if rocky or not tree else rng.integers(3, 9), replace=False):
        tall, green = tree * rng.uniform(0.8, 1.3), mix(colour, (15, 25, 50), 0.3)
        sheet.line(np.array([foot - 0.4j * tall, foot + 2j]), 0.1 * tall, green)
        sheet.paint(foot + tall * (disc(-0.65j, 0.38) if rng.uniform() < 0.5 else _FIR), green, 0.1)


def _water(sheet: Paper, rng: Random, light: list[Colour], shore: float) -> None:
    top, horizon, _far, near, sun = light
    surface = np.array([-5, SIDE + 5, SIDE + 5 + 200j, -5 + 200j]) + 1j * shore
    sheet.paint(surface, mix(mix(top, horizon, 0.35), near, 0.15), 0.12)
    for depth in rng.uniform(0.02, 1, 24):
        place, size = complex(rng.uniform(0, SIDE), shore + (SIDE - shore) * depth), 0.5 + 1.4 * depth
        sheet.paint(disc(place, rng.uniform(5, 12) * size, 0.07), mix(horizon, sun, 0.6), 0, rng.uniform(0.3, 0.8))


def _grass(sheet: Paper, rng: Random, light: list[Colour]) -> None:
    for _ in range(45):
        blade = complex(rng.uniform(0, SIDE), SIDE + 2) + arc(rng.uniform(-10, 10) - 1j * rng.uniform(14, 44))
        sheet.line(blade, np.linspace(4, 0.5, 9), mix(light[3], light[2], rng.uniform(0, 0.6)))
        if rng.uniform() < 0.4:
            sheet.paint(blade[-1] + rng.uniform(4, 6) * _turn(rng.uniform(0, 72)) * _BLOSSOM, _flower(rng))
            sheet.paint(disc(blade[-1], 1.7), light[4], 0)


def _balloon(paper: Paper, rng: Random, palette: list[Colour]) -> None:
    main, second, accent, dark = palette
    for x in (-0.17, 0, 0.17):
        paper.line(np.array([x + 0.78j, 0.7 * x + 1.2j]), 0.022, dark)
    paper.paint(np.array([-0.16 + 1.16j, 0.16 + 1.16j, 0.13 + 1.42j, -0.13 + 1.42j]), mix(second, dark, 0.45), 0.3)
    for y, thick in ((1.16, 0.06), (1.24, 0.018), (1.31, 0.018), (1.38, 0.018)):
        paper.line(np.array([-0.17, 0.17]) + 1j * y, thick, dark)
    half = smooth(-1.15j, 0.45 - 1.06j, 0.8 - 0.72j, 0.9 - 0.28j, 0.76 + 0.16j, 0.46 + 0.54j, 0.2 + 0.8j, ends=True)
    gores = rng.integers(4, 7)
    angles = np.clip((np.arange(-gores - 1, gores + 1) + rng.uniform()) / gores, -1, 1) * np.pi / 2
    seams = [half.real * np.sin(angle) + 1j * half.imag for angle in angles]
    for k in range(2 * gores + 1):
        paper.paint(np.concatenate([seams[k], seams[k + 1][::-1]]), palette[k % 2], 0.1)
    envelope = paper.stencil(np.concatenate([half, -half.conj()[::-1]]))
    belts = ((), ((-0.3, 0.36, accent), (-0.3, 0.22, main)), ((0.22, 0.12, accent), (-0.8, 0.12, accent)))
    for y, width, colour in belts[rng.integers(3)]:
        paper.line(arc(2, 0.5j) - 1 + 1j * y, width, colour, within=envelope)
    paper.paint(disc(0.5 + 0.1j, 0.75, 1.4), dark, 0, 0.32, blur=16, within=envelope)
    paper.paint(disc(-0.35 - 0.6j, 0.3, 1.3), WHITE, 0, 0.4, blur=9, within=envelope)
    paper.paint(disc(0.79j, 0.2, 0.3), dark, 0)


def _bird(paper: Paper, rng: Random, palette: list[Colour]) -> None:
    main, second, accent, dark = palette
    paper.mirrored = rng.uniform() < 0.5
    paper.origin += (-0.14 if paper.mirrored else 0.14) * paper.scale  # the tail is longer than the head
    lift = rng.uniform(50, 125)
    _wing(paper, palette, 0.2 - 0.15j, lift - 25, 1, 0.28)
    for k in range(4):
        paper.paint(leaf(-0.5 + 0.06j, 0.85 * _turn(163 + 9 * k), 0.09), mix(main, dark, 0.45 - 0.1 * k))
    back = (0.84 - 0.24j, 0.6 - 0.44j, 0.3 - 0.28j, -0.2 - 0.14j, -0.72 + 0.03j)
    body = smooth(*back, -0.7 + 0.13j, -0.2 + 0.28j, 0.35 + 0.24j, 0.72 + 0.02j)
    paper.paint(body, main)
    inside = paper.stencil(body)
    paper.paint(disc(0.28 + 0.36j, 0.62, 0.5), accent, 0.1, within=inside)
    if rng.uniform() < 0.6:
        paper.paint(disc(0.56 - 0.5j, 0.26, 0.75), mix(second, dark, 0.3), 0.1, within=inside)
    paper.paint(np.array([0.8 - 0.3j, 1.06 - 0.16j, 0.79 - 0.13j]), mix(accent, (240, 140, 20), 0.75), 0.2)
    for x, size, colour in ((0.66, 0.062, WHITE), (0.67, 0.046, dark), (0.685, 0.016, WHITE)):
        paper.paint(disc(x - 0.275j, size), colour, 0)
    _wing(paper, palette, 0.12 - 0.06j, lift, rng.choice([1, 1, -1]), 0)


def _wing(paper: Paper, palette: list[Colour], root: complex, first: float, beat: int, tone: float) -> None:
    for row, (count, length) in enumerate(((9, 1.1), (7, 0.72), (5, 0.42))):
        for share in np.linspace(0, 1, count):
            reach = length * (1 - 0.42 * share) * _turn(-beat * (first + (95 - 10 * row) * share))
            colour = mix(palette[row % 2], palette[3], tone + (0.05 if row else 0.22) * share)
            paper.paint(leaf(root, reach, 0.1 - 0.01 * row), colour, 0.12)


def _butterfly(paper: Paper, rng: Random, palette: list[Colour]) -> None:
    main, second, accent, dark = palette
    fore = smooth(0.03 - 0.12j, 0.3 - 0.62j, 0.72 - 0.98j, 1.08 - 0.9j, 0.98 - 0.45j, 0.66 - 0.06j, 0.05 + 0.04j)
    hind = smooth(0, 0.5, 0.86 + 0.16j, 0.84 + 0.5j, 0.56 + rng.uniform(0.64, 0.96) * 1j, 0.28 + 0.68j, 0.05 + 0.2j)
    eyes, rim, dark = rng.uniform() < 0.4, rng.choice([0.78, 0.88]), mix(dark, main, rng.uniform(0, 0.2))
    for wide in (rng.uniform(0.8, 1.05), -rng.uniform(0.6, 1.05)):
        for wing, middle, colour in ((hind, 0.5 + 0.34j, second), (fore, 0.62 - 0.5j, main)):
            edge, middle = wide * wing.real + 1j * wing.imag, wide * middle.real + 1j * middle.imag
            cell = middle + rim * (edge - middle)
            inside = paper.stencil(cell)
            paper.paint(edge, dark, 0.1)
            paper.paint(cell, colour, 0.22)
            paper.paint(0.62 * edge, mix(colour, accent, 0.5), 0.1, 0.85, blur=5, within=inside)
            for point in edge[6:-6:5]:
                paper.line(arc(point, 0.12j * point), np.linspace(0.035, 0.012, 9), dark, 0.75, within=inside)
            for point in edge[10:-14:3]:
                paper.paint(disc(middle + (0.47 + 0.51 * rim) * (point - middle), 0.028), accent, 0)
            for radius, spot in ((0.17, dark), (0.13, accent), (0.08, dark)) if eyes else ():
                paper.paint(disc(1.12 * middle, radius), spot, 0)
    paper.line(arc(1j) - 0.32j, np.sin(np.linspace(0.5, 3.1, 9)) * 0.13, dark)
    paper.paint(disc(-0.36j, 0.075), dark, 0.3)
    for feeler in (arc(0.3 - 0.45j, -0.2) - 0.4j, arc(-0.3 - 0.45j, 0.2) - 0.4j):
        paper.line(feeler, 0.022, dark)
        paper.paint(disc(feeler[-1], 0.03), dark, 0)


def _kite(paper: Paper, rng: Random, palette: list[Colour]) -> None:
    main, second, accent, dark = palette
    wide, cross = rng.uniform(0.6, 0.85), -1j * rng.uniform(0.2, 0.4)
    corners = np.array([-1.05j, wide + cross, 1j, -wide + cross])
    down = 1j * abs(paper.scale) / paper.scale  # in the picture, whatever the tilt
    paper.line(cross + down * arc(6 + rng.choice([-4, 4]) * 1j, 1.5), 0.014, dark, 0.6)
    sway = rng.choice([-0.16, 0.16]) * np.sin(np.linspace(0, 6.5, 9))
    tail = smooth(*(1j + arc(rng.uniform(-0.3, 0.3) + 1.3j) + sway), ends=True)
    paper.line(tail, 0.025, dark)
    for k, knot in enumerate(tail[14::12]):
        for angle in (20, 160, -20, -160):
            paper.paint(leaf(knot, 0.2 * _turn(angle), 0.07), palette[k % 3])
    pattern = rng.choice(["plain", "panes", "rings", "stripes"])
    for k in range(4):
        panel = np.array([corners[k], corners[(k + 1) % 4], cross])
        paper.paint(panel, main if pattern == "stripes" else palette[k % 2], 0.16)
        if pattern == "panes":
            paper.paint(cross + 0.55 * (panel - cross), palette[1 - k % 2], 0.1)
    inside = paper.stencil(corners)
    for size, colour in ((0.3, accent), (0.2, main)) if pattern == "rings" else ():
        paper.paint(disc(cross, size), colour, 0.1)
    for y, colour in ((-0.55, second), (-0.1, accent), (0.35, second)) if pattern == "stripes" else ():
        paper.line(np.array([-1, 0.28j, 1]) + 1j * y, 0.15, colour, within=inside)
    paper.paint(corners[:3], dark, 0, 0.13)
    paper.paint(disc(-0.25 - 0.4j, 0.2, 1.3), WHITE, 0, 0.3, blur=8, within=inside)
    for k in range(4):
        paper.line(corners[[k, (k + 2) % 4]], 0.02, dark, 0.8)
        paper.line(corners[[k, (k + 1) % 4]], 0.035, mix(main, dark, 0.55))


# What paints it, the height of its middle in the picture, its radius in pixels, how many degrees it may tilt.
_SUBJECTS: dict[str, tuple[Callable[[Paper, Random, list[Colour]], None], float, float, float]] = {
    "balloon": (_balloon, 116, 74, 14),
    "bird": (_bird, 130, 86, 25),
    "butterfly": (_butterfly, 130, 84, 40),
    "kite": (_kite, 108, 84, 38),
}


def _flower(rng: Random) -> Colour:
    return colours(_PALETTES[rng.integers(len(_PALETTES))])[rng.integers(3)]


def _turn(degrees: float) -> complex:
    return complex(np.exp(1j * np.radians(degrees)))
