"""A small kit for pictures of cut, coloured paper: smooth outlines, soft light, soft shadows.

Knows Pillow and geometry; knows nothing of what is drawn.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter

# A line or outline: a complex array, x to the right and y down.
Curve = np.ndarray
Colour = tuple[int, ...]

WHITE = (255, 255, 255)
_NIGHT = (16, 13, 44)  # what shaded sides and shadows tend to
_FINE = 4  # edges are drawn this many times larger, then averaged
_CIRCLE = np.exp(2j * np.pi * np.arange(36) / 36)
_WAY = np.arange(9) / 8


class Paper:
    """A square sheet, clear where nothing was painted; or, given a `picture`, that one to paint on at once.

    Curves are turned and enlarged by the complex number `scale`, then moved to the pixel `origin`.
    """

    def __init__(self, side: int, picture: Image.Image | None = None) -> None:
        # Pasted onto black, colours are multiplied by their cover, which is what `laid_on` adds up.
        self.image = picture or Image.new("RGB", (side, side))
        self.cover = Image.new("L", (side, side))
        self.side = side
        self.origin: complex = 0
        self.scale: complex = 1
        self.mirrored = False

    def paint(
        self,
        outline: Curve,
        colour: Colour,
        shade: float = 0.14,
        alpha: float = 1,
        blur: float = 0,
        within: Image.Image | None = None,
    ) -> None:
        """Fill an outline; light falls on it from the upper left, the more the larger `shade` is."""
        mask, box = self._mask(outline, alpha, blur)
        if within:
            mask = ImageChops.multiply(mask, within.crop(box))
        self.cover.paste(255, box, mask)
        if shade:
            tile = Image.new("RGB", (2, 2), colour)
            tile.putpixel((0, 0), mix(colour, WHITE, shade))
            tile.putpixel((1, 1), mix(colour, _NIGHT, shade))
            tile = tile.resize(mask.size, Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))
            self.image.paste(tile, box, mask)
        else:
            self.image.paste(colour, box, mask)

    def line(
        self, curve: Curve, width: float | Curve, colour: Colour, alpha: float = 1, within: Image.Image | None = None
    ) -> None:
        """A line along a curve; `width` may differ from point to point."""
        along = np.gradient(curve)
        across = 0.5j * width * along / np.maximum(np.abs(along), 1e-9)
        self.paint(np.concatenate([curve + across, (curve - across)[::-1]]), colour, 0, alpha, within=within)

    def stencil(self, outline: Curve) -> Image.Image:
        """An outline as a mask for others to stay `within`."""
        whole = Image.new("L", (self.side, self.side))
        mask, box = self._mask(outline, 1, 0)
        whole.paste(mask, box)
        return whole

    def laid_on(self, picture: Image.Image, shadow: float) -> Image.Image:
        """The picture with this sheet on it, which casts a soft shadow to the lower right."""
        small = (self.side // 4, self.side // 4)
        soft = self.cover.resize(small, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1.7))
        soft = soft.resize(self.cover.size, Image.Resampling.BILINEAR).point(lambda v: v * shadow)
        picture = picture.copy()
        picture.paste(_NIGHT, (4, 7), soft)
        picture.paste((0, 0, 0), (0, 0), self.cover)
        return ImageChops.add(picture, self.image)

    def _mask(self, outline: Curve, alpha: float, blur: float) -> tuple[Image.Image, tuple[int, int, int, int]]:
        """The outline's cover, 0 to 255, of the smallest box of pixels around it, and that box."""
        points = (-outline.conj() if self.mirrored else outline) * self.scale + self.origin
        margin = 2 + int(3 * blur)
        left, top = (min(self.side - 1, max(0, int(v.min()) - margin)) for v in (points.real, points.imag))
        right, bottom = (min(self.side, int(v.max()) + margin) for v in (points.real, points.imag))
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        mask = Image.new("L", ((right - left) * _FINE, (bottom - top) * _FINE))
        points = (points - complex(left, top)) * _FINE
        ImageDraw.Draw(mask).polygon(points.view(np.float64).tolist(), fill=round(255 * alpha))
        mask = mask.reduce(_FINE)
        return mask.filter(ImageFilter.GaussianBlur(blur)) if blur else mask, (left, top, right, bottom)


def disc(centre: complex, radius: float, flat: float = 1) -> Curve:
    """A circle, or an ellipse `flat` times as high as it is wide."""
    return centre + radius * (_CIRCLE.real + 1j * flat * _CIRCLE.imag)


def arc(reach: complex, bend: complex = 0) -> Curve:
    """From 0 to `reach`, drawn aside towards `bend`: nine points."""
    return reach * _WAY + bend * _WAY * (1 - _WAY)


def leaf(root: complex, reach: complex, width: float) -> Curve:
    """A leaf or feather from `root`, pointing along `reach`."""
    along = np.array([0, 0.25, 0.55, 0.85, 1, 0.85, 0.55, 0.25])
    aside = np.array([0.25, 0.75, 1, 0.75, 0, -0.75, -1, -0.75])
    return root + smooth(*(reach * (along + 1j * width / abs(reach) * aside)))


def smooth(*points: complex, ends: bool = False) -> Curve:
    """A Catmull-Rom curve through the points, eight steps between two; closed, unless it `ends` at the last."""
    p = np.array([points[0] if ends else points[-1], *points, *(points[-1:] if ends else points[:2])])
    t = _WAY[:-1]
    a, b, c, d = (p[k : len(p) - 3 + k, None] for k in range(4))
    curve = (b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))).ravel()
    return np.append(curve, points[-1]) if ends else curve


def colours(text: str) -> list[Colour]:
    """Colours from their names in HTML, with blanks between."""
    return [ImageColor.getrgb(name) for name in text.split()]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour that is `a`, with a `share` of `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
