"""The door for pictures: what is read comes out as plain RGB, what is not is refused in words."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image, features

from benchmarks import _mutants
from tlapp import images
from tlapp.errors import PictureError

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # pytest undoes the filters that `images` sets once
RED, BLUE, WHITE = (200, 30, 30), (30, 30, 200), (255, 255, 255)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(colour=RED, size=(40, 30)):
    return Image.new("RGB", size, colour)


def noisy(size, seed=0):
    """A smooth colour field with some grain: compresses like a photo."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def png_start(width, height):
    """A one-bit PNG of that size that ends with its first pixels: decoding it would find it cut short."""
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(100)),
    ):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data


def turned_by(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def assert_colour(pixels, colour, tolerance=0):
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert np.abs(pixels.astype(int) - np.array(colour)).max() <= tolerance


def refusal(data):
    with pytest.raises(PictureError) as caught:
        images.load(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"Dear diary,\n", "is a text file"),
        (b" \n", "is a text file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", "is an SVG"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"%PDF-1.7\n\x00", "is a PDF"),
        (b"PK\x03\x04" + bytes(60), "is a zip"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(60), "is a HEIC photo"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic" + bytes(60), "is a HEIC photo"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42" + bytes(60), "is a video"),
        (bytes(range(256)), "is not a picture in a format that is read"),
    ],
)
def test_what_is_no_photo_is_named_for_what_it_is(data, words):
    assert words in refusal(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_a_picture_cut_short_is_refused(kind):
    whole = encoded(noisy((200, 150)), kind)
    images.load(whole)
    assert "copy it again" in refusal(whole[: len(whole) * 6 // 10])


def test_a_cut_jpeg_that_verify_lets_pass_is_found_by_decoding():
    cut = encoded(noisy((200, 150)), "JPEG", quality=90)[:-400]
    Image.open(io.BytesIO(cut)).verify()
    assert "is cut short" in refusal(cut)


@pytest.mark.parametrize("side", [10_955, 13_000, 30_000, 2**31 - 1])
def test_too_many_pixels_are_refused_before_decoding(side):
    assert "megapixels" in refusal(png_start(side, side))


def test_below_the_pixel_cap_decoding_is_tried():
    assert "is cut short" in refusal(png_start(10_954, 10_954))


def test_too_many_bytes_are_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 1024**2)
    assert refusal(encoded(flat()) + bytes(1024**2)) == "is larger than 1 MB"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_of_several_frames_the_first_is_read(kind):
    data = encoded(flat(RED), kind, save_all=True, append_images=[flat(BLUE)])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 2
    assert_colour(images.load(data), RED, 4)


def test_a_later_frame_of_monstrous_size_is_never_looked_at():
    data = bytearray(encoded(flat(RED), "GIF", save_all=True, append_images=[flat(BLUE)]))
    descriptor = data.rindex(b"\x2c" + struct.pack("<4H", 0, 0, 40, 30))
    assert descriptor != data.index(b"\x2c" + struct.pack("<4H", 0, 0, 40, 30))
    data[descriptor + 5 : descriptor + 9] = struct.pack("<2H", 65535, 65535)
    with Image.open(io.BytesIO(data)) as opened, pytest.raises(Image.DecompressionBombError):
        opened.seek(1)
    assert_colour(images.load(bytes(data)), RED, 4)


@pytest.mark.parametrize(
    ("size", "words"),
    [((2, 4000), "at least 8 a side"), ((10, 201), "as long as wide"), ((4000, 8), "as long as wide")],
)
def test_a_strip_is_refused(size, words):
    assert words in refusal(encoded(flat(size=size)))


def test_twenty_times_as_long_as_wide_is_still_read():
    assert images.load(encoded(flat(size=(10, 200)))).shape == (200, 10, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_saturated(kind):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(16, 0)
    pixels = images.load(encoded(Image.fromarray(ramp), kind))
    assert np.array_equal(pixels[0, :, 0], np.arange(256))
    assert (pixels == pixels[..., :1]).all()


def test_float_grey_spans_black_to_white():
    ramp = np.linspace(-3, 5, 64, dtype=np.float32)[None].repeat(16, 0)
    row = images.load(encoded(Image.fromarray(ramp), "TIFF"))[0, :, 0].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert (np.diff(row) > 0).all()


def test_hidden_colours_do_not_show_through():
    hidden = Image.new("RGBA", (40, 30), (*RED, 0))
    assert_colour(images.load(encoded(hidden)), WHITE)


def test_half_transparency_is_laid_on_white():
    half = Image.new("RGBA", (40, 30), (0, 0, 0, 128))
    assert_colour(images.load(encoded(half)), (127, 127, 127), 1)


@pytest.mark.parametrize("mode", ["P", "LA", "L", "RGB"])
def test_transparency_of_every_kind_is_laid_on_white(mode):
    picture = Image.new(mode, (40, 30), 0)
    options = {} if mode == "LA" else {"transparency": (0, 0, 0) if mode == "RGB" else 0}
    assert_colour(images.load(encoded(picture, **options)), WHITE)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a.transpose(1, 0, 2), 2)),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_cameras_orientation_is_applied(kind, orientation, turned):
    quarters = np.zeros((32, 48, 3), np.uint8)
    quarters[:16, :24], quarters[:16, 24:], quarters[16:, :24] = RED, BLUE, WHITE
    data = encoded(Image.fromarray(quarters), kind, exif=turned_by(orientation))
    pixels = images.load(data)
    expected = turned(quarters)
    assert pixels.shape == expected.shape
    corners = np.ix_([4, -5], [4, -5])
    assert np.abs(pixels[corners].astype(int) - expected[corners]).max() < 12


def test_the_orientation_is_applied_though_another_field_is_odd():
    exif = turned_by(6)
    exif[0x011A] = 72.0  # then renamed to the camera's model, which is no number
    block = exif.tobytes().replace(struct.pack(">H", 0x011A), struct.pack(">H", 0x0110))
    assert images.load(encoded(flat(), "JPEG", exif=block)).shape == (40, 30, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("block", [b"garbage!", b"II*\x00\xff\xff\xff\xff"])
def test_broken_exif_does_not_spoil_the_picture(kind, block):
    data = encoded(flat(), kind, exif=b"Exif\x00\x00" + block)
    assert_colour(images.load(data), RED, 4)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "CMYK"),
        ("JPEG", "RGB"),
        ("TIFF", "CMYK"),
        ("TIFF", "LAB"),
        ("PNG", "P"),
        ("GIF", "P"),
        ("BMP", "P"),
        ("WEBP", "RGB"),
        ("AVIF", "RGB"),
        ("JPEG2000", "RGB"),
        ("PPM", "RGB"),
    ],
)
def test_every_format_and_colour_mode_comes_out_as_the_same_rgb(kind, mode):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    picture = flat().quantize() if mode == "P" else flat()
    if mode == "CMYK":
        picture = picture.convert("CMYK")
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    assert_colour(images.load(encoded(picture, kind)), RED, 6)


def test_one_bit_pictures_are_black_and_white():
    picture = Image.new("1", (40, 30), 1)
    assert_colour(images.load(encoded(picture)), WHITE)


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), SyntaxError("not a TIFF"), struct.error("short"), IndexError(), ValueError(), OSError("broken"),
     ZeroDivisionError(), RecursionError(), MemoryError(), EOFError(), Image.DecompressionBombError("bomb")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_reader_raises_becomes_a_sentence(monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(images, "_decode", fails)
    assert refusal(encoded(flat())).startswith(("is ", "has ", "needs "))


def test_formats_that_start_other_programs_stay_shut():
    assert "text file" in refusal(encoded(flat(), "EPS"))


@pytest.mark.parametrize("kind", _mutants.originals())
def test_a_damaged_file_is_a_picture_or_a_sentence_and_soon(kind):
    rng = np.random.default_rng(sum(kind.encode()))
    shapes, refusals = [], []
    for mutant in _mutants.mutants(rng, _mutants.originals()[kind], 60):
        begun = time.monotonic()
        try:
            shapes.append(images.load(mutant).shape)
        except PictureError as error:
            refusals.append(str(error))
        assert time.monotonic() - begun < 1
    assert all(len(shape) == 3 and shape[2] == 3 for shape in shapes)
    assert all(text.startswith(("is ", "has ")) for text in refusals)
    assert len(refusals) > 3


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (4032, 3024), (1600, 1203), (1023, 771)])
def test_draft_decoding_gives_the_size_and_picture_of_full_decoding(size):
    picture = noisy(size)
    data = encoded(picture, "JPEG")
    pixels = images.load(data)
    whole = np.asarray(picture.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))
    long = int(256 * max(size) / min(size))
    assert sorted(pixels.shape[:2]) in ([256, long], [256, long + 1])
    assert (pixels.shape[1] > pixels.shape[0]) == (size[0] > size[1])
    assert np.abs(pixels.astype(int) - whole).mean() < 3


def test_pillows_warnings_stay_off_the_terminal(tmp_path):
    (tmp_path / "large.png").write_bytes(png_start(10_000, 10_000))
    code = "import sys, tlapp.images as i\ntry: i.load(open(sys.argv[1], 'rb').read())\nexcept i.PictureError: pass"
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


def test_none_keeps_the_full_size_and_small_pictures_are_not_enlarged():
    assert images.load(encoded(flat(size=(600, 400))), None).shape == (400, 600, 3)
    assert images.load(encoded(flat(size=(600, 400)))).shape == (256, 384, 3)
    assert images.load(encoded(flat(size=(60, 40)))).shape == (40, 60, 3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_is_pillows_with_torchvisions_rounding(interpolation):
    pixels = np.asarray(noisy((333, 200)))
    resized = images.resize(pixels, 64, interpolation)
    assert resized.shape == (64, int(64 * 333 / 200), 3)
    wanted = Image.fromarray(pixels).resize((106, 64), Image.Resampling[interpolation.upper()])
    assert np.array_equal(resized, np.asarray(wanted))
    assert images.resize(pixels.transpose(1, 0, 2), 64, interpolation).shape == (106, 64, 3)
    assert images.resize(pixels, 200, interpolation) is pixels


def test_the_two_interpolations_differ():
    pixels = np.asarray(noisy((333, 200)))
    assert not np.array_equal(images.resize(pixels, 300, "bilinear"), images.resize(pixels, 300, "bicubic"))


def tagged(maker="", model="", original="", changed="", orientation=1, kind="JPEG"):
    """A picture of 40 by 30 pixels with these fields of a camera."""
    exif = turned_by(orientation)
    for tag, value in ((0x010F, maker), (0x0110, model), (0x0132, changed)):
        if value:
            exif[tag] = value
    if original:
        exif.get_ifd(0x8769)[0x9003] = original
    return encoded(flat(), kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_facts_tell_the_size_of_the_picture_that_is_loaded(kind, orientation):
    data = tagged(orientation=orientation, kind=kind)
    facts = images.facts(data)
    assert (facts.height, facts.width) == images.load(data, None).shape[:2]


@pytest.mark.parametrize(
    ("maker", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("samsung", "SM-G991B", "samsung SM-G991B"),
        ("Apple\0", " iPhone  12 ", "Apple iPhone 12"),
        ("CANON", "Canon EOS 5D", "Canon EOS 5D"),
        ("Maker", "", "Maker"),
        ("", "Model", "Model"),
        ("M" * 80, "N" * 80, "M" * 80 + " " + "N" * 19),
    ],
)
def test_the_camera_is_maker_and_model_without_saying_the_maker_twice(maker, model, camera):
    assert images.facts(tagged(maker, model)).camera == camera


def test_the_time_is_that_of_the_shot_rather_than_of_a_later_change():
    shot, later = "2020:02:29 23:59:59", "2024:01:01 00:00:00"
    both = images.facts(tagged(original=shot, changed=later)).taken
    assert both == images.facts(tagged(original=shot)).taken == images.facts(tagged(changed=shot)).taken
    assert images.facts(tagged(changed=later)).taken > both > 0
    assert images.facts(tagged(original="2020:03:01 00:00:01")).taken == both + 2


@pytest.mark.parametrize(
    "text", ["0000:00:00 00:00:00", "    :  :     :  :  ", "2024:13:01 00:00:00", "1960:01:01 00:00:00"]
)
def test_a_clock_that_tells_no_time_is_unknown(text):
    assert images.facts(tagged(original=text)).taken == 0


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + bytes(range(200))])
def test_broken_exif_leaves_the_size_known(block):
    facts = images.facts(encoded(flat(), "JPEG", exif=block))
    assert facts == images.Facts(30, 40)


def test_the_turn_is_told_though_the_block_of_the_shot_is_broken():
    # little-endian TIFF: orientation 6, and a block of the shot that points behind the end
    tags = struct.pack("<H HHIHH HHII I", 2, 0x0112, 3, 1, 6, 0, 0x8769, 4, 1, 0xFFFFFF, 0)
    data = encoded(flat(), "JPEG", exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags)
    assert images.load(data, None).shape[:2] == (40, 30)
    assert images.facts(data) == images.Facts(40, 30)
