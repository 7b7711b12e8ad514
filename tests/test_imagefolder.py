"""The cleaned photos as `ImageFolder` reads them: which files, their bytes, their sides, and what is never written."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import zipfile

import pytest
from conftest import COLOURS, SIDES, fill, photo
from PIL import Image
from torchvision.datasets import ImageFolder

from tlapp import additions, dataset, decisions, imagefolder, intake, workspace
from tlapp.additions import Addition
from tlapp.cli import main
from tlapp.decisions import EXCLUDE, RELABEL
from tlapp.errors import DataError

COUNTS = {"reds": 8, "blues": 8}


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "photos", COUNTS)


def copied(data, to, **more):
    """The copy of a dataset, split as by default."""
    return imagefolder.copy(data, data.split(), to, **more)


def manifest(path):
    """The lines of the manifest, by column."""
    return list(csv.DictReader((path / "manifest.csv").open(encoding="utf-8")))


def files(path):
    """All files below a folder but the manifest, by their relative paths."""
    inside = [p for p in path.rglob("*") if p.is_file() and p.name != "manifest.csv"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in inside}


def by_side(data):
    """Content → (class, side) of every photo, as the dataset divides."""
    split = data.split()
    return {
        data.photos[i].sha256: (data.classes[data.photos[i].label], side)
        for side in ("train", "validation", "test")
        for i in getattr(split, side).tolist()
    }


def test_image_folder_reads_the_same_classes_and_counts(folder, tmp_path):
    data = dataset.scan(folder)
    made = copied(data, tmp_path / "clean")
    for part, side in imagefolder.SIDES.items():
        read = ImageFolder(tmp_path / "clean" / side)
        assert tuple(read.classes) == data.classes
        wanted = [data.photos[i].label for i in getattr(data.split(), part)]
        assert sorted(read.targets) == sorted(wanted)
        assert {name: read.targets.count(i) for i, name in enumerate(read.classes)} == {
            name: made.classes[name][side] for name in data.classes
        }
    assert made.photos == 16


@pytest.mark.parametrize("way", ["folder", "zip", "csv", "sides"])
def test_the_copy_holds_the_very_bytes_and_is_read_again_with_the_same_sides(folder, tmp_path, way):
    source = folder
    if way == "sides":
        source = fill(tmp_path / "sides", SIDES)
    elif way == "zip":
        source = tmp_path / "photos.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.rglob("*.png"):
                archive.write(path, path.relative_to(tmp_path))
    elif way == "csv":
        source = folder / "labels.csv"
        lines = [f"{path.relative_to(folder).as_posix()},{path.parent.name}" for path in folder.rglob("*.png")]
        source.write_text("\n".join(["file,label", *lines]))
    data = dataset.scan(source)
    copied(data, tmp_path / "clean")
    originals = {hashlib.sha256(path.read_bytes()).hexdigest() for path in source.parent.rglob("*/*.png")}
    again = dataset.scan(tmp_path / "clean")
    assert by_side(again) == by_side(data)
    assert set(by_side(again)) <= originals
    assert again.skipped == ()


def test_without_the_manifest_the_folders_alone_give_the_same_sides(folder, tmp_path):
    data = dataset.scan(folder)
    copied(data, tmp_path / "clean")
    (tmp_path / "clean" / "manifest.csv").unlink()
    assert by_side(dataset.scan(tmp_path / "clean")) == by_side(data)


def test_the_manifest_names_every_photo_with_its_original_and_digest(folder, tmp_path):
    data = dataset.scan(folder)
    path = copied(data, tmp_path / "clean").path
    rows = manifest(path)
    assert tuple(rows[0]) == imagefolder.COLUMNS
    assert {row["file"] for row in rows} == set(files(path))
    digests = {photo.name: photo.sha256 for photo in data.photos}
    for row in rows:
        side, name, _ = row["file"].split("/")
        assert (side, name) == (row["split"], row["label"])
        assert hashlib.sha256((path / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["sha256"] == digests[row["original"]]
        assert row["copy"] == "exact"


def test_copies_broken_files_and_excluded_photos_are_left_out_and_relabelled_ones_moved(folder, tmp_path):
    shutil.copy(folder / "reds/000.png", folder / "reds/copy.png")
    (folder / "reds/broken.png").write_bytes(b"not a photo")
    base = dataset.scan(folder)
    named = {photo.name: photo for photo in base.photos}
    out, moved = named["blues/001.png"], named["reds/003.png"]
    data = decisions.apply(base, [decisions.about(out, EXCLUDE), decisions.about(moved, RELABEL, "blues")])
    made = copied(data, tmp_path / "clean")
    rows = {row["original"]: row for row in manifest(made.path)}
    assert len(rows) == made.photos == 15
    assert rows["reds/003.png"]["file"].split("/")[1] == "blues"
    assert {s.name for s in made.left_out} == {"reds/copy.png", "reds/broken.png", "blues/001.png"}
    assert not {s.name for s in made.left_out} & set(rows)


def test_near_copies_are_on_one_side(folder, tmp_path):
    for i in range(8):
        with Image.open(folder / f"reds/{i:03d}.png") as picture:
            picture.save(folder / f"reds/{i:03d}-smaller.jpg", quality=90)
    data = dataset.scan(folder)
    assert len(set(data.groups)) < len(data.photos)
    sides = {row["original"]: row["split"] for row in manifest(copied(data, tmp_path / "clean").path)}
    for i, group in enumerate(data.groups):
        assert sides[data.photos[i].name] == sides[data.photos[group].name]


HOSTILE = ["../../out", "C:\\y", "con", "a:b", ".hid", "=1+1", "A", "a", "x" * 190, "a\u202eb", "__MACOSX"]


def test_hostile_names_of_classes_and_files_stay_in_the_folder_and_are_safe_everywhere(tmp_path):
    loose = tmp_path / "deep" / "down" / "loose"
    lines, labels = ["file,label"], [*HOSTILE, str(tmp_path / "out")]
    for c, label in enumerate(labels):
        for i in range(3):
            name = ["NUL.png", "-rf;x.png", f"{'y' * 200}.png"][i]
            photo(loose / f"{c}" / name, COLOURS["reds"], 3 * c + i)
            lines.append(f'"{c}/{name}","{label}"')
    (loose / "labels.csv").write_text("\n".join(lines))
    data = dataset.scan(loose / "labels.csv")
    assert set(data.classes) == set(labels)
    before = {p for p in tmp_path.rglob("*") if "home" not in p.parts}
    path = copied(data, tmp_path / "deep/clean").path
    new = {p for p in tmp_path.rglob("*") if "home" not in p.parts} - before
    assert all(p == path or path in p.parents for p in new)
    parts = [part for file in files(path) for part in file.split("/")]
    assert all(len(part.encode()) <= 90 and not set(part) & set('<>:"\\|?*\u202e') for part in parts)
    assert not {part.split(".")[0].lower() for part in parts} & {"con", "nul", ""}
    folders = {file.split("/")[1] for file in files(path)}
    assert len({name.casefold() for name in folders}) == len(labels)
    again = dataset.scan(path)
    assert by_side(again) == by_side(data)


def test_files_of_one_name_in_several_sub_folders_are_told_apart(tmp_path):
    folder = tmp_path / "photos"
    for i, (name, day) in enumerate((n, d) for n in COUNTS for d in ("mon", "tue", "wed", "TUE")):
        photo(folder / name / day / "img.png", COLOURS[name], i)
    made = copied(dataset.scan(folder), tmp_path / "clean")
    names = sorted(file.split("/")[-1] for file in files(made.path) if "/reds/" in file)
    assert names == ["img-2.png", "img-3.png", "img-4.png", "img.png"]


def test_formats_that_image_folder_passes_over_are_written_as_png_and_said(folder, tmp_path):
    with Image.open(folder / "reds/000.png") as picture:
        picture.quantize(200).save(folder / "reds/still.gif")
    (folder / "reds/000.png").rename(folder / "reds/000.jpg")  # an ending that lies
    data = dataset.scan(folder)
    made = copied(data, tmp_path / "clean")
    rows = {row["original"]: row for row in manifest(made.path)}
    assert rows["reds/still.gif"]["copy"] == "converted"
    assert rows["reds/still.gif"]["file"].endswith("/still.png")
    assert rows["reds/000.jpg"]["file"].endswith("/000.png")
    assert rows["reds/000.jpg"]["copy"] == "exact"
    assert any("ImageFolder passes over" in note for note in made.notes)
    assert sum(len(ImageFolder(made.path / side)) for side in ("train", "val", "test")) == made.photos


def test_photos_that_were_added_are_there_as_the_apps_own_copies(folder, tmp_path):
    base = dataset.scan(folder)
    new = Addition("new.png", photo(tmp_path / "new.png", COLOURS["reds"], 500), "reds")
    joined = additions.add(base, [new])
    made = copied(joined.dataset, tmp_path / "clean")
    (row,) = [row for row in manifest(made.path) if row["copy"] != "exact"]
    assert (row["original"], row["split"], row["copy"]) == ("new.png", "train", "kept")
    with Image.open(made.path / row["file"]) as picture:
        assert (picture.convert("RGB").tobytes()) == joined.dataset.pixels(len(base.photos)).tobytes()
    assert any("added on the page" in note for note in made.notes)


def test_test_photos_of_their_own_are_copied_too(folder, tmp_path):
    other = fill(tmp_path / "photos2" / "photos", {"reds": 2, "blues": 2}, seed=900)
    data = dataset.scan(folder, other)
    made = copied(data, tmp_path / "clean", test=other)
    assert made.classes["reds"] == {"folder": "reds", "train": 6, "val": 2, "test": 2}
    assert by_side(dataset.scan(made.path)) == by_side(data)


def test_a_class_without_photos_on_a_side_has_its_folder_there_so_that_numbers_of_classes_agree(folder, tmp_path):
    other = fill(tmp_path / "tests", {"reds": 2}, seed=900)
    made = copied(dataset.scan(folder, other), tmp_path / "clean", test=other)
    assert (made.path / "test/blues").is_dir()
    assert any("allow_empty=True" in note for note in made.notes)
    assert ImageFolder(made.path / "test", allow_empty=True).classes == ["blues", "reds"]


def refused(data, to, words, **more):
    """The sentence of a copy that is not made; nothing is left where it would have been."""
    there = sorted(to.parent.iterdir()) if to.parent.exists() else []
    with pytest.raises(DataError, match=words) as error:
        copied(data, to, **more)
    assert (sorted(to.parent.iterdir()) if to.parent.exists() else []) == there
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("harm", ["gone", "changed", "all gone"])
def test_an_original_that_is_gone_or_has_changed_is_one_sentence_and_nothing_is_written(folder, tmp_path, harm):
    data = dataset.scan(folder)
    if harm == "gone":
        (folder / "reds/003.png").unlink()
    elif harm == "changed":
        photo(folder / "reds/003.png", COLOURS["blues"], 77)
    else:
        shutil.rmtree(folder)
    words = {"gone": "003.png` is not there any more", "changed": "003.png` has changed", "all gone": "not there"}
    refused(data, tmp_path / "clean", words[harm])


def test_photos_that_were_dropped_on_the_page_have_no_originals(folder, tmp_path):
    refused(dataset.scan(folder, shown_as="photos"), tmp_path / "clean", "small copies alone")


@pytest.mark.parametrize("there", ["file", "full", "inside", "source itself"])
def test_nothing_is_written_over_what_is_there_or_into_the_photos(folder, tmp_path, there):
    data = dataset.scan(folder)
    to = {"inside": folder / "clean", "source itself": folder}.get(there, tmp_path / "clean")
    if there == "file":
        to.write_text("mine")
    elif there == "full":
        fill(to, {"mine": 1})
    refused(data, to, "lies in the folder" if there == "inside" else "exists already")


def test_an_empty_folder_is_filled_and_nothing_else_is_left_beside_it(folder, tmp_path):
    (tmp_path / "clean").mkdir()
    copied(dataset.scan(folder), tmp_path / "clean")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "home", "photos"]


def test_a_full_disk_is_one_sentence_and_nothing_is_written(folder, tmp_path, monkeypatch):
    data = dataset.scan(folder)
    write, done = imagefolder.Path.write_bytes, []

    def full(path, content):
        if "clean" in str(path) and len(done) == 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        done.append(path)
        return write(path, content)

    monkeypatch.setattr(imagefolder.Path, "write_bytes", full)
    refused(data, tmp_path / "clean", "The disk is full")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_one_sentence(folder, tmp_path):
    data = dataset.scan(folder)
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(data, tmp_path / "closed" / "clean", "permission")


def test_a_place_below_a_file_is_one_sentence(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"fault|exists"):
        copied(dataset.scan(folder), tmp_path / "file" / "clean")


def test_a_photo_is_not_read_without_bounds(folder, tmp_path, monkeypatch):
    data = dataset.scan(folder)
    monkeypatch.setattr(intake, "MAX_FILE_BYTES", 10)
    refused(data, tmp_path / "clean", "larger than")


def tlapp(capsys, *arguments):
    """Exit code, standard output and standard error."""
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_command_prints_what_it_wrote(folder, tmp_path, capsys):
    (folder / "reds/broken.png").write_bytes(b"not a photo")
    code, out, _ = tlapp(capsys, "copy", folder, "--to", tmp_path / "clean", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["path"] == str(tmp_path / "clean")
    assert said["photos"] == 16
    assert said["classes"]["reds"] == {"folder": "reds", "train": 5, "val": 1, "test": 2}
    assert [left["file"] for left in said["left_out"]] == ["reds/broken.png"]
    code, out, _ = tlapp(capsys, "copy", folder, "--to", tmp_path / "again")
    assert (code, out) == (0, f"16 photos are in {tmp_path / 'again'}: train 10, val 2, test 4.\n")


def test_the_command_divides_as_train_would_with_the_same_settings(folder, tmp_path, capsys):
    options = ["--seed", 3, "--set", "test_fraction=0.4"]
    assert tlapp(capsys, "copy", folder, "--to", tmp_path / "clean", *options)[0] == 0
    data = dataset.scan(folder)
    test = {data.photos[i].name for i in data.split(0.4, seed=3).test}
    assert {row["original"] for row in manifest(tmp_path / "clean") if row["split"] == "test"} == test


def test_the_command_takes_decisions_and_what_was_done_on_the_page(folder, tmp_path, capsys):
    table = tmp_path / "decisions.csv"
    table.write_text("file,decision\nreds/001.png,exclude\n")
    assert tlapp(capsys, "copy", folder, "--to", tmp_path / "one", "--decisions", table)[0] == 0
    data = dataset.scan(folder)
    decisions.decide(data, [decisions.about(data.photos[0], EXCLUDE)])
    assert tlapp(capsys, "copy", folder, "--to", tmp_path / "two", "--as-on-page")[0] == 0
    assert "reds/001.png" not in {row["original"] for row in manifest(tmp_path / "one")}
    assert data.photos[0].name not in {row["original"] for row in manifest(tmp_path / "two")}


def test_a_setting_that_has_no_say_in_the_split_is_refused(folder, tmp_path, capsys):
    code, out, err = tlapp(capsys, "copy", folder, "--to", tmp_path / "clean", "--set", "dropout=0.3")
    assert (code, out) == (2, "")
    assert "dropout does not decide" in err
    assert not (tmp_path / "clean").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "test_fraction=2"], "test_fraction is 2"),
        (["--to", "."], "exists already"),
        ([], "lies in the folder"),
    ],
)
def test_what_hinders_is_said_before_photos_are_read(folder, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = tlapp(capsys, "copy", folder, "--to", folder / "clean", *options)
    assert (code, out) == (1, "")
    assert words in err
    assert not (tmp_path / "home" / "datasets").exists()


def test_a_whole_folder_of_a_killed_process_is_swept_by_the_next(tmp_path):
    (tmp_path / ".clean-0000dead").mkdir()
    (tmp_path / ".clean-0000dead.lock").touch()
    with workspace.whole_folder(tmp_path / "clean") as folder:
        (folder / "x").write_text("")
    assert [p.name for p in tmp_path.iterdir()] == ["clean"]


def test_the_manifest_holds_no_cell_that_a_spreadsheet_would_run(tmp_path):
    folder = tmp_path / "photos"
    for i in range(3):
        photo(folder / "=1+1" / f"@{i}.png", COLOURS["reds"], i)
        photo(folder / "blues" / f"{i}.png", COLOURS["blues"], 10 + i)
    path = copied(dataset.scan(folder), tmp_path / "clean").path
    cells = [c for row in csv.reader(io.StringIO((path / "manifest.csv").read_text())) for c in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
