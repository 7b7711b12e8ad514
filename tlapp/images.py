"""The one door a picture comes in by: bytes in, turned and bounded RGB out.

Training, preview and prediction all read through `load`, so a photo looks the same to each of them. Resizing
is Pillow's alone. Knows nothing of datasets, networks or augmentation.
"""

from __future__ import annotations

import functools
import io
import threading
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from tlapp.errors import PictureError

SHORT_SIDE = 256
"""Pixels of the shorter side at which photos are kept."""

MAX_BYTES = 256 * 1024**2
MAX_PIXELS = 120_000_000
MAX_ASPECT = 20
MIN_SIDE = 8

# Readers that Pillow implements itself; those that start other programs (EPS) or render scripts stay shut.
# MPO, several JPEGs in one file, is opened by the JPEG reader.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
GROUND = (255, 255, 255)
GREY = 127
"""Beside a photo that is shown whole."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LARGE = 25_000_000
_one_large_picture_at_a_time = threading.Lock()

Array = np.ndarray


def load(data: bytes, short_side: int | None = SHORT_SIDE) -> Array:
    """Decode a picture.

    Args:
        data: the file's bytes, in any of `FORMATS`.
        short_side: shrink until the shorter side has this many pixels; smaller pictures are never enlarged.
            None keeps the full size.

    Returns:
        uint8 array of shape (height, width, 3): RGB, first frame, EXIF orientation applied, transparency laid
        on white, 16-bit channels scaled to 8.

    Raises:
        PictureError: whatever is wrong with the bytes, in words that complete "<file> ...".
    """
    if not data:
        raise PictureError("is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise PictureError(f"is larger than {MAX_BYTES // 1024**2} MB")
    _quiet_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(*picture.size)
            if picture.width * picture.height > _LARGE:
                with _one_large_picture_at_a_time:
                    return _decode(picture, short_side)
            return _decode(picture, short_side)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(_what_it_is(data)) from None
    except Image.DecompressionBombError:
        raise PictureError(f"has more than {MAX_PIXELS // 10**6} megapixels; make it smaller") from None
    except MemoryError:
        raise PictureError("needs more memory than this machine has free; make it smaller") from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise PictureError(_what_broke(error)) from None


@dataclass(frozen=True)
class Facts:
    """What a file says of itself. `height`, `width`: pixels as it is to be seen; `camera`: maker and model; `taken`:
    seconds, by the camera's clock, 0 if it is not told.
    """

    height: int = 0
    width: int = 0
    camera: str = ""
    taken: int = 0


def facts(data: bytes) -> Facts:
    """Read the head of a picture that `load` accepts; what cannot be read stays empty."""
    _quiet_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            try:
                exif = picture.getexif()
            except Exception:  # as in `_turned`
                return Facts(height, width)
            try:
                own = exif.get_ifd(ExifTags.IFD.Exif)
            except Exception:
                own = {}
    except Exception:
        return Facts()
    if exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8):
        width, height = height, width
    maker, model = (_tidy(exif.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    camera = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
    when = own.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
    return Facts(height, width, camera[:100], _seconds(_tidy(when)))


def format_of(data: bytes) -> str:
    """Which of `FORMATS` a picture that `load` accepts is in; "MPO" is JPEG with several pictures."""
    _quiet_pillow()
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        return picture.format or ""


def _tidy(value: object) -> str:
    return " ".join(value.replace("\0", " ").split()) if isinstance(value, str) else ""


def _seconds(text: str) -> int:
    try:
        return max(0, round(datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()))
    except ValueError:
        return 0


def resize(pixels: Array, short_side: int, interpolation: str) -> Array:
    """Scale uint8 (H, W, 3) so that its shorter side is `short_side`; "bilinear" or "bicubic", antialiased."""
    height, width = pixels.shape[:2]
    if min(height, width) == short_side:
        return pixels
    size = _scaled((width, height), short_side)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[interpolation.upper()]))


def fit(pixels: Array, long_side: int, interpolation: str) -> Array:
    """As `resize`, but so that the longer side is `long_side`; the shorter keeps at least one pixel."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer == long_side:
        return pixels
    size = max(1, round(width * long_side / longer)), max(1, round(height * long_side / longer))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[interpolation.upper()]))


def centre(pixels: Array, short_side: int, crop: int, interpolation: str) -> Array:
    """The middle of a photo, scaled as `resize` does: uint8 (crop, crop, 3)."""
    resized = resize(pixels, short_side, interpolation)
    height, width = resized.shape[:2]
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return resized[top : top + crop, left : left + crop].copy()


def letterboxed(pixels: Array, side: int, interpolation: str) -> Array:
    """All of a photo in the middle of a grey square: uint8 (side, side, 3)."""
    whole = fit(pixels, side, interpolation)
    height, width = whole.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), GREY, np.uint8)
    square[top : top + height, left : left + width] = whole
    return square


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"has {width * height / 1e6:.0f} megapixels ({width} × {height}); "
            f"at most {MAX_PIXELS // 10**6} are read, so make it smaller"
        )
    if min(width, height) < MIN_SIDE:
        raise PictureError(f"is only {width} × {height} pixels; at least {MIN_SIDE} a side are needed")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(f"is {width} × {height} pixels, more than {MAX_ASPECT} times as long as wide; crop it first")


def _decode(picture: Image.Image, short_side: int | None) -> Array:
    if short_side is not None:
        # JPEG alone: decode at 1/2, 1/4 or 1/8 of the size, ten times faster for a phone's photo.
        picture.draft("RGB", _scaled(picture.size, short_side))
    picture.load()
    rgb = _to_rgb(_turned(picture))
    if short_side is not None and min(rgb.size) > short_side:
        rgb = rgb.resize(_scaled(rgb.size, short_side), Image.Resampling.BICUBIC)
    return np.asarray(rgb, dtype=np.uint8)


def _scaled(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(width, height) with the shorter side at `short_side`, the longer rounded as torchvision's Resize does."""
    width, height = size
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def _turned(picture: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also rewrites the EXIF block, and fails where any other field of it is odd.
    try:
        turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block does not spoil the pixels
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _grey(np.asarray(picture, dtype=np.float32) / 257)
    if picture.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(picture, dtype=np.float32))
        highest = float(values.max(initial=0.0))
        if picture.mode == "F" or highest > 65535 or float(values.min(initial=0.0)) < 0:
            low = float(values.min(initial=0.0))
            return _grey((values - low) * (255 / max(highest - low, 1e-6)))
        return _grey(values / 257)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        ground = Image.new("RGB", rgba.size, GROUND)
        ground.paste(rgba, mask=rgba.getchannel("A"))
        return ground
    return picture.convert("RGB")


def _grey(values: Array) -> Image.Image:
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8)).convert("RGB")


def _what_it_is(data: bytes) -> str:
    """Name the common things that are not a picture we read."""
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if data[4:8] == b"ftyp":
        if data[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
            return "is a HEIC photo, which is not read; export it as JPEG"
        if data[8:12] not in (b"avif", b"avis"):
            return "is a video, not a photo"
        return "is a damaged picture; copy it again from where it came"
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in start):
        return "is an SVG drawing, not a photo; export it as PNG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a photo; download the photo itself"
    if start.startswith(b"%pdf"):
        return "is a PDF, not a photo; export the page as JPEG"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "is a zip inside the data; unpack it first"
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")):
        return "is a damaged picture; copy it again from where it came"
    if b"\x00" not in data[:4096]:
        return "is a text file, not a photo"
    return "is not a picture in a format that is read (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, JPEG 2000)"


def _what_broke(error: Exception) -> str:
    if isinstance(error, OSError) and "truncated" in str(error):
        return "is cut short: its end is missing; copy it again from where it came"
    return "is damaged and cannot be decoded; copy it again from where it came"


@functools.cache
def _quiet_pillow() -> None:
    """Pillow warns on standard error of what is answered here by a sentence of our own."""
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\..*")
