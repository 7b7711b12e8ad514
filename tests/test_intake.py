"""Folders and zips: what is listed, what is junk, what is refused by name; nothing is written anywhere."""

import contextlib
import os
import shutil
import stat
import struct
import warnings
import zipfile

import numpy as np
import pytest
from conftest import photo

from tlapp import dataset, intake
from tlapp.errors import DataError, PictureError, UserError


@pytest.fixture
def make_zip(tmp_path):
    """make_zip({"reds/a.png": b"..."}) → the zip; a ZipInfo may stand for a name."""

    def make(entries, packing=zipfile.ZIP_STORED):
        with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "photos.zip", "w", packing) as archive:
            warnings.simplefilter("ignore", UserWarning)  # of names given twice
            for name, data in entries:
                archive.writestr(name, data)
        return tmp_path / "photos.zip"

    return make


def patched(path, old, new):
    """Replace bytes of a zip, in the local header and in the list of contents alike."""
    data = path.read_bytes()
    assert data.count(old) == 2
    path.write_bytes(data.replace(old, new))
    return path


def overwritten(path, at, form, *values):
    """Numbers written over the bytes of a zip from place `at` on."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, at, *values)
    path.write_bytes(data)


def contents(source):
    """Name → bytes or the reason why not, of all that is listed."""
    found = {}
    with intake.open_source(source) as listing:
        for file in listing.files:
            try:
                found[file.name] = file.read()
            except PictureError as error:
                found[file.name] = str(error)
        assert not set(found) & {name for name, _ in listing.refused if "more than once" not in _}
        return found, dict(listing.refused), listing


JUNK = [".DS_Store", "reds/.hidden.png", "reds/._a.png", "__MACOSX/reds/._a.png", ".git/a.png", "reds/Thumbs.db",
        "reds/desktop.ini", "reds/@eaDir/a.png"]  # fmt: skip


def test_junk_in_a_folder_is_counted_and_left_out(tmp_path):
    for name in ["reds/a.png", *JUNK]:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    found, refused, listing = contents(tmp_path / "photos")
    assert (set(found), refused, listing.folders) == ({"reds/a.png"}, {}, {"reds"})
    assert listing.n_junk == len(JUNK)


def test_junk_in_a_zip_is_counted_and_left_out(make_zip):
    found, refused, listing = contents(make_zip([(name, b"x") for name in ["reds/a.png", *JUNK]]))
    assert (set(found), refused, listing.folders) == ({"reds/a.png"}, {}, {"reds"})
    assert listing.n_junk == len(JUNK)


def test_links_in_a_folder_are_named_and_not_followed(tmp_path):
    root = tmp_path / "photos"
    photo(tmp_path / "outside/secret.png", (1, 2, 3), 1)
    photo(root / "reds/a.png", (1, 2, 3), 2)
    (root / "reds/link.png").symlink_to(tmp_path / "outside/secret.png")
    (root / "reds/broken.png").symlink_to(tmp_path / "nothing")
    (root / "blues").symlink_to(tmp_path / "outside")
    (root / "reds/loop").symlink_to(root)
    found, refused, _listing = contents(root)
    assert set(found) == {"reds/a.png"}
    assert set(refused) == {"reds/link.png", "reds/broken.png", "blues", "reds/loop"}
    assert all("links are not followed" in reason for reason in refused.values())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with intake.open_source(tmp_path) as listing:
        assert (listing.files, listing.refused) == ([], [("pipe.png", "is not an ordinary file")])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path):
    photo(tmp_path / "a.png", (1, 2, 3), 1).chmod(0)
    photo(tmp_path / "reds/b.png", (1, 2, 3), 1)
    (tmp_path / "reds").chmod(0)
    try:
        found, refused, _listing = contents(tmp_path)
    finally:
        (tmp_path / "reds").chmod(0o755)
    assert "no permission" in found["a.png"]
    assert "no permission" in refused["reds"]


def test_a_file_that_vanishes_after_listing_is_refused(tmp_path):
    path = photo(tmp_path / "a.png", (1, 2, 3), 1)
    with intake.open_source(tmp_path) as listing:
        path.unlink()
        with pytest.raises(PictureError, match="does not exist"):
            listing.files[0].read()


def test_sources_that_are_neither_folder_nor_zip_are_explained(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.zip").touch()
    for name, words in [
        ("nowhere", "does not exist"),
        ("notes.txt", "not a zip"),
        ("empty.zip", "not a zip"),
    ]:
        with pytest.raises(DataError, match=words), intake.open_source(tmp_path / name):
            pass


def linked(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/a.png", "leads out of the zip"),
        ("../a.png", "leads out of the zip"),
        ("reds/../../a.png", "leads out of the zip"),
        (".git/../../a.png", "leads out of the zip"),
        ("C:/a.png", "leads out of the zip"),
        ("C:\\reds\\a.png", "leads out of the zip"),
        ("..\\..\\a.png", "leads out of the zip"),
        ("\\\\server\\a.png", "leads out of the zip"),
        (linked("reds/a.png"), "is a link"),
    ],
)
def test_members_that_lead_elsewhere_are_refused_by_name(make_zip, name, words):
    found, refused, _listing = contents(make_zip([("reds/ok.png", b"ok"), (name, b"/etc/passwd")]))
    assert found == {"reds/ok.png": b"ok"}
    shown = name if isinstance(name, str) else name.filename
    assert list(refused) == [shown.replace("\\", "/")]
    assert words in next(iter(refused.values()))


def test_backslashes_part_folders(make_zip):
    found, refused, listing = contents(make_zip([("reds\\", b""), ("reds\\a.png", b"1"), ("blues\\deep\\b.png", b"2")]))
    assert (found, refused) == ({"reds/a.png": b"1", "blues/deep/b.png": b"2"}, {})
    assert listing.folders == {"reds", "blues", "blues/deep"}


def test_entries_for_the_zips_own_root_are_passed_over(make_zip):
    found, refused, listing = contents(make_zip([("./", b""), ("./reds/", b""), ("./reds/a.png", b"1"), (".", b"2")]))
    assert (found, listing.folders) == ({"reds/a.png": b"1"}, {"reds"})
    assert list(refused) == ["."]


def test_of_an_entry_given_twice_the_first_is_taken(make_zip):
    found, refused, _listing = contents(make_zip([("reds/a.png", b"1"), ("reds/./a.png", b"2"), ("reds/a.png", b"3")]))
    assert found == {"reds/a.png": b"1"}
    assert set(refused) == {"reds/./a.png", "reds/a.png"}
    assert all("more than once" in reason for reason in refused.values())


def test_a_member_locked_with_a_password_is_refused(make_zip):
    path = make_zip([("reds/a.png", b"1"), ("reds/b.png", b"2")])
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rindex(signature) + flags] |= 1
    path.write_bytes(data)
    found, refused, _listing = contents(path)
    assert found == {"reds/a.png": b"1"}
    assert "password" in refused["reds/b.png"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_refused_and_the_others_read(make_zip, packing):
    noise = np.random.default_rng(0).bytes(3000)
    path = make_zip([("reds/a.png", noise), ("reds/b.png", b"fine" * 99)], packing)
    data = bytearray(path.read_bytes())
    for at in range(60, 2000, 7):
        data[at] ^= 0x5A
    path.write_bytes(data)
    found, _refused, _listing = contents(path)
    assert found == {"reds/a.png": "is damaged inside the zip; make the zip anew", "reds/b.png": b"fine" * 99}


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_is_unpacked_without_a_bound_is_refused_by_name(make_zip, packing):
    found, refused, _listing = contents(make_zip([("reds/a.png", b"1234" * 99)], packing))
    assert (found, list(refused)) == ({}, ["reds/a.png"])
    assert "packed in a way that is not read" in refused["reds/a.png"]


def test_an_odd_packing_is_refused(make_zip):
    path = make_zip([("reds/a.png", b"1234")])
    data = bytearray(path.read_bytes())
    data[8:10] = struct.pack("<H", 97)
    at = data.rindex(b"PK\x01\x02") + 10
    data[at : at + 2] = struct.pack("<H", 97)
    path.write_bytes(data)
    assert "packed in a way that is not read" in contents(path)[1]["reds/a.png"]


def test_a_size_that_lies_is_damage(make_zip):
    path = make_zip([("reds/a.png", bytes(5000))], zipfile.ZIP_DEFLATED)
    patched(path, struct.pack("<I", 5000), struct.pack("<I", 4))
    assert "is damaged" in contents(path)[0]["reds/a.png"]


def test_a_member_larger_than_its_bound_is_refused(make_zip, monkeypatch):
    monkeypatch.setattr(intake, "MAX_FILE_BYTES", 1024**2)
    large = bytes(range(256)) * 4096 + b"!"
    path = make_zip([("a.png", large), ("b.png", large[:-1])], zipfile.ZIP_DEFLATED)
    found, _refused, _listing = contents(path)
    assert found == {"a.png": "is larger than 1 MB", "b.png": large[:-1]}


def test_a_bomb_is_refused_by_name_without_unpacking_it(make_zip):
    bomb, plain = bytes(3 * 1024**2), bytes(1024**2)
    found, refused, _listing = contents(make_zip([("a.bmp", bomb), ("b.bmp", plain)], zipfile.ZIP_DEFLATED))
    assert found == {"b.bmp": plain}
    assert refused == {"a.bmp": "would unpack to more than 1,000 times its size in the zip"}


def at_same_place(path, of):
    """Make the last entry of the list of contents point to where the entry number `of` begins, with all its sizes."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start, info = archive.start_dir, archive.infolist()[of]
    last = data.rindex(b"PK\x01\x02")
    assert last > start
    data[last + 16 : last + 28] = struct.pack("<III", info.CRC, info.compress_size, info.file_size)
    data[last + 42 : last + 46] = struct.pack("<I", info.header_offset)
    path.write_bytes(data)
    return path


def test_entries_that_share_all_their_bytes_refuse_the_zip(make_zip):
    path = at_same_place(make_zip([("reds/a.png", b"1" * 50), ("reds/b.png", b"2" * 50)]), 0)
    with pytest.raises(DataError, match=r"^The zip .*photos\.zip is damaged or a trap: some of its entries overlap"):
        contents(path)


def test_an_entry_that_reaches_into_the_next_refuses_the_zip(make_zip):
    path = make_zip([("reds/a.png", b"1" * 50), ("reds/b.png", b"2" * 50)])
    overwritten(path, path.read_bytes().index(b"PK\x01\x02") + 20, "<II", 90, 90)
    with pytest.raises(DataError, match="overlap"):
        contents(path)


def test_a_header_of_its_own_that_lies_about_where_a_member_begins_spoils_that_member_alone(make_zip):
    path = make_zip([("reds/a.png", b"1" * 50), ("reds/b.png", b"2" * 50)])
    overwritten(path, 28, "<H", 40)
    found, refused, _listing = contents(path)
    assert found == {"reds/b.png": b"2" * 50}
    assert refused == {"reds/a.png": "is damaged inside the zip; make the zip anew"}


def test_a_path_of_thousands_of_folders_is_refused_by_name(make_zip):
    deep = ["a/" * 30_000 + "x.png", "b/" * 30_000, "c/" * 30 + "x.png"]
    found, refused, listing = contents(make_zip([*((name, b"1") for name in deep), ("d/" * 29 + "x.png", b"2")]))
    assert list(found.values()) == [b"2"]
    assert refused == dict.fromkeys(deep, "lies more than 30 folders deep")
    assert len(listing.folders) == 29


def test_an_empty_zip_holds_nothing(make_zip):
    found, refused, listing = contents(make_zip([]))
    assert (found, refused, listing.folders) == ({}, {}, set())


def test_a_zip_after_other_bytes_is_read(make_zip):
    path = make_zip([("reds/a.png", b"1" * 50), ("reds/b.png", b"2" * 50)])
    path.write_bytes(b"#!/bin/sh unpack yourself\n" + path.read_bytes())
    assert set(contents(path)[0]) == {"reds/a.png", "reds/b.png"}


def test_100_000_entries_are_refused_in_a_sentence_before_they_are_read(make_zip, monkeypatch):
    path = make_zip([("reds/a.png", b"1")])
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    many = data[:start] + data[start:end] * 100_000
    size = len(many) - start
    large = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 100_000, 100_000, size, start)
    place = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(many), 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(many + large + place + last)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(DataError, match="more than 50,000 entries"), intake.open_source(path):
        pass


def test_an_end_that_lies_about_the_number_of_entries_is_found_out(make_zip, monkeypatch):
    monkeypatch.setattr(intake, "MAX_FILES", 3)
    path = make_zip([(f"reds/{i}.png", b"x") for i in range(4)])
    overwritten(path, path.read_bytes().rindex(b"PK\x05\x06") + 8, "<HH", 1, 1)
    with pytest.raises(DataError, match="more than 3 entries"):
        contents(path)


def test_listing_reports_and_ends_with_what_the_report_raises(tmp_path):
    for i in range(450):
        (tmp_path / f"{i:03d}.png").touch()
    told = []
    with intake.open_source(tmp_path, report=lambda *what: told.append(what)) as listing:
        assert len(listing.files) == 450
    assert told == [(0, 0, "0 found"), (0, 0, "200 found"), (0, 0, "400 found")]

    def cancel(done, total, what):
        if what == "200 found":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), intake.open_source(tmp_path, report=cancel):
        pass


def test_a_file_larger_than_its_bound_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "MAX_FILE_BYTES", 1024**2)
    (tmp_path / "a.png").write_bytes(bytes(1024**2 + 1))
    assert contents(tmp_path)[0] == {"a.png": "is larger than 1 MB"}


def test_a_zip_that_unpacks_to_too_much_is_refused(make_zip, monkeypatch):
    monkeypatch.setattr(intake, "MAX_TOTAL_BYTES", 2500)
    path = make_zip([(f"{i}.png", bytes(1000)) for i in range(3)], zipfile.ZIP_DEFLATED)
    with intake.open_source(path) as listing:
        assert [len(file.read()) for file in listing.files[:2]] == [1000, 1000]
        with pytest.raises(DataError, match="unpacks to more"):
            listing.files[2].read()


def test_too_many_files_are_refused(make_zip, tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "MAX_FILES", 3)
    names = [f"reds/{i}.png" for i in range(4)]
    with pytest.raises(DataError, match="more than 3"):
        contents(make_zip([(name, b"x") for name in names]))
    for name in names:
        photo(tmp_path / "photos" / name, (1, 2, 3), 1)
    with pytest.raises(DataError, match="more than 3"):
        contents(tmp_path / "photos")


def test_a_damaged_list_of_contents_is_explained(make_zip):
    path = make_zip([("reds/ü.png", b"1")])
    patched(path, "ü".encode(), b"\xff\xff")
    with pytest.raises(DataError, match="is damaged"):
        contents(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_mutated_zip_gives_files_or_sentences_and_writes_nothing(make_zip, tmp_path, packing):
    rng = np.random.default_rng(packing)
    names = ("reds/a.png", "reds/ü.png", "../b.png", "./", "blues/", "__MACOSX/x")
    path = make_zip([(name, rng.bytes(40) * 3) for name in names], packing)
    whole = path.read_bytes()
    for _ in range(100):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 5)):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            contents(path)
    assert list(tmp_path.iterdir()) == [path]


def test_names_in_an_old_code_page_are_read(make_zip):
    path = make_zip([("reds/cafX.png", b"1")])
    patched(path, b"cafX", b"caf\x82")
    assert contents(path)[0] == {"reds/caf\u00e9.png": b"1"}


def test_file_names_that_are_not_utf8_survive_into_json(make_folder, tmp_path):
    folder = make_folder({"reds": 3, "blues": 3})
    odd = os.fsdecode(b"caf\xe9")
    try:
        shutil.copytree(folder / "reds", folder / odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    for i in range(3):
        photo(folder / odd / f"{odd}{i}.png", (9, 9, 9), 50 + i)
        (folder / odd / f"00{i}.png").unlink()
    (folder / odd / f"{odd}.txt").write_text("no photo")
    data = dataset.scan(folder)
    assert data.classes == ("blues", odd, "reds")
    assert dataset.load(data.folder) == data
    (data.folder / "dataset.json").read_bytes().decode("ascii")
    again = {p.name for p in dataset.load(data.folder).photos if p.label == 1}
    assert len(again) == 3
    assert all((folder / name).is_file() for name in again)
    assert [s.name for s in data.skipped] == [f"{odd}/{odd}.txt"]
