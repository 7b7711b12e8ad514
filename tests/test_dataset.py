"""The dataset: layouts found, everything accounted for, no photo on two sides."""

import shutil
import zipfile

import numpy as np
import pytest
from conftest import photo
from PIL import Image

from tlapp import dataset, images, merge
from tlapp.errors import DataError
from tlapp.tasks import Cancelled


def sides(data):
    split = data.split()
    return [{data.photos[i].name for i in part} for part in (split.train, split.validation, split.test)]


def test_class_folders_are_read_and_the_rest_is_named(make_folder):
    folder = make_folder({"reds": 5, "blues": 6})
    (folder / "reds" / "notes.txt").write_text("hello")
    (folder / "readme.md").write_text("hello")
    (folder / "reds" / "empty.jpg").touch()
    (folder / "reds" / ".DS_Store").write_text("junk")
    (folder / "Thumbs.db").write_text("junk")
    data = dataset.scan(folder)
    assert data.class_counts() == {"blues": 6, "reds": 5}
    reasons = {s.name: s.reason for s in data.skipped}
    assert set(reasons) == {"reds/notes.txt", "readme.md", "reds/empty.jpg"}
    assert "0 bytes" in reasons["reds/empty.jpg"]
    assert len(data.photos) + len(data.skipped) == 14


def test_a_zip_gives_the_same_photos_as_its_folder(make_folder, tmp_path):
    folder = make_folder({"reds": 4, "blues": 4})
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path, "photos")
    from_zip, from_folder = dataset.scan(tmp_path / "photos.zip"), dataset.scan(folder)
    assert {p.sha256 for p in from_zip.photos} == {p.sha256 for p in from_folder.photos}
    assert "`photos`" in " ".join(from_zip.notes)


def test_val_without_test_is_the_test_part_and_validation_comes_out_of_train(make_folder):
    data = dataset.scan(make_folder({"train/reds": 10, "train/blues": 10, "val/reds": 3, "val/blues": 3}))
    train, validation, test = sides(data)
    assert len(test) == 6
    assert all(name.startswith("val/") for name in test)
    assert len(validation) == 4
    assert all(name.startswith("train/") for name in train | validation)


def test_with_test_too_valid_is_validation(make_folder):
    counts = {f"{side}/{c}": 4 for side in ("train", "valid", "test") for c in ("reds", "blues")}
    _train, validation, test = sides(dataset.scan(make_folder(counts)))
    assert all(name.startswith("valid/") for name in validation)
    assert all(name.startswith("test/") for name in test)


def test_given_test_photos_make_val_the_validation_part(make_folder):
    folder = make_folder({"train/reds": 4, "train/blues": 4, "val/reds": 2, "val/blues": 2})
    other = make_folder({"reds": 3, "blues": 3}, "other")
    train, validation, test = sides(dataset.scan(folder, other))
    assert len(train) == 8
    assert all(name.startswith("val/") for name in validation)
    assert all(name.startswith("other/") for name in test)
    assert len(test) == 6


def test_extra_folders_around_the_classes_are_unwrapped(make_folder, tmp_path):
    make_folder({"a/b/reds": 4, "a/b/blues": 4})
    data = dataset.scan(tmp_path / "photos")
    assert data.classes == ("blues", "reds")
    assert any("inside the folder" in note for note in data.notes)


def test_a_split_is_disjoint_complete_stratified_and_seeded(make_folder):
    data = dataset.scan(make_folder({"reds": 20, "blues": 10}))
    split = data.split(0.2, 0.25, seed=3)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together) == list(range(30))
    assert np.bincount(data.labels[split.test]).tolist() == [2, 4]
    assert np.bincount(data.labels[split.validation]).tolist() == [2, 4]
    assert np.array_equal(split.test, data.split(0.2, 0.25, seed=3).test)
    assert not np.array_equal(split.test, data.split(0.2, 0.25, seed=4).test)


@pytest.mark.parametrize("seed", range(5))
def test_identical_photos_never_sit_on_both_sides(make_folder, seed):
    folder = make_folder({"reds": 8, "blues": 8})
    shutil.copy(folder / "reds/000.png", folder / "reds/copy.png")
    data = dataset.scan(folder)
    split = data.split(seed=seed)
    parts = [{data.photos[i].sha256 for i in part} for part in (split.train, split.validation, split.test)]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert [s.name for s in data.skipped] == ["reds/copy.png"]


def test_a_copy_of_a_test_photo_is_taken_out_of_train(make_folder):
    folder = make_folder({"train/reds": 5, "train/blues": 5, "val/reds": 2, "val/blues": 2})
    shutil.copy(folder / "val/reds/000.png", folder / "train/reds/copied.png")
    data = dataset.scan(folder)
    assert [s.name for s in data.skipped] == ["train/reds/copied.png"]
    assert len(data.photos) == 14


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, "1 photo left out as an exact copy of others."), (2, "2 photos left out as exact copies of others.")],
)
def test_how_many_exact_copies_are_left_out_is_said_in_the_right_number(make_folder, n, said):
    folder = make_folder({"reds": 5, "blues": 5})
    for i in range(n):
        shutil.copy(folder / "reds" / f"00{i}.png", folder / "reds" / f"again{i}.png")
    assert said in dataset.scan(folder).notes


def test_one_photo_under_two_classes_is_in_neither(make_folder):
    folder = make_folder({"reds": 5, "blues": 5})
    shutil.copy(folder / "reds/000.png", folder / "blues/000.png")
    data = dataset.scan(folder)
    assert {s.name for s in data.skipped} == {"reds/000.png", "blues/000.png"}
    assert len(data.photos) == 8


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "is empty"),
        ({"": 4}, "no sub-folders"),
        ({"reds": 4}, "one class only, `reds`"),
        ({"reds": 4, "blues": 1}, "only one photo of `blues`"),
    ],
)
def test_unusable_folders_are_explained(make_folder, tmp_path, counts, words):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=words):
        dataset.scan(make_folder(counts) if counts else tmp_path / "photos")


def test_two_photos_of_a_class_are_too_few_to_split(make_folder):
    data = dataset.scan(make_folder({"reds": 5, "blues": 2}))
    with pytest.raises(DataError, match="`blues`"):
        data.split()


def test_cancel_works_while_a_folder_is_listed_and_leaves_nothing(make_folder, home):
    told = []

    def cancel(*what):
        told.append(what)
        raise Cancelled

    with pytest.raises(Cancelled):
        dataset.scan(make_folder({"reds": 3, "blues": 3}), report=cancel)
    assert told == [(0, 0, "0 found")]
    assert [entry.name for entry in (home / "datasets").iterdir() if entry.is_dir()] == []


def test_what_is_wrong_in_a_zip_is_named_entry_by_entry(make_folder, tmp_path):
    folder = make_folder({"reds": 3, "blues": 3})
    with zipfile.ZipFile(tmp_path / "odd.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
        archive.write(shutil.make_archive(str(tmp_path / "inner"), "zip", folder), "reds/inner.zip")
        archive.writestr("reds/bomb.bmp", bytes(2 * 1024**2))
        archive.writestr("reds/old.png", b"x", zipfile.ZIP_BZIP2)
    data = dataset.scan(tmp_path / "odd.zip")
    reasons = {s.name: s.reason for s in data.skipped}
    assert set(reasons) == {"reds/inner.zip", "reds/bomb.bmp", "reds/old.png"}
    assert reasons["reds/inner.zip"] == "is a zip inside the data; unpack it first"
    assert len(data.photos) == 6


def test_an_empty_class_folder_is_said_and_left_out(make_folder):
    data = dataset.scan(make_folder({"reds": 4, "blues": 4, "greens": 0}))
    assert data.classes == ("blues", "reds")
    assert any("`greens`" in note for note in data.notes)


def test_the_source_is_untouched_and_may_vanish(make_folder):
    folder = make_folder({"reds": 4, "blues": 4})
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    data = dataset.scan(folder)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    shutil.rmtree(folder)
    again = dataset.load(data.folder)
    assert again == data
    assert again.pixels(0).shape == (48, 60, 3)


def test_the_copy_holds_the_photos_pixels(make_folder):
    folder = make_folder({"reds": 4, "blues": 4})
    data = dataset.scan(folder)
    for i, entry in enumerate(data.photos):
        assert np.array_equal(data.pixels(i), np.asarray(Image.open(folder / entry.name)))


def test_names_of_labels_that_differ_in_case_alone_are_pointed_out(make_folder):
    folder = make_folder({"a": 3, "b": 3})
    lines = [f"{sub}/00{i}.png,{'Reds' if sub == 'a' else 'reds'}" for sub in "ab" for i in range(3)]
    (folder / "labels.csv").write_text("\n".join(["file,label", *lines]))
    data = dataset.scan(folder)
    assert data.classes == ("Reds", "reds")
    assert any("`Reds`, `reds` look the same" in note for note in data.notes)


def test_files_renamed_to_jpg_are_skipped_by_name_with_what_they_are(make_folder):
    folder = make_folder({"reds": 3, "blues": 3})
    made = {
        "nothing.jpg": (b"", "is empty (0 bytes)"),
        "text.jpg": (b"Dear diary", "is a text file, not a photo"),
        "drawing.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing, not a photo"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "is a HEIC photo, which is not read"),
        "cut.jpg": ((folder / "reds/000.png").read_bytes()[:-500], "is cut short"),
    }
    for name, (content, _) in made.items():
        (folder / "reds" / name).write_bytes(content)
    data = dataset.scan(folder)
    assert {s.name for s in data.skipped} == {f"reds/{name}" for name in made}
    assert all(s.reason.startswith(made[s.name.removeprefix("reds/")][1]) for s in data.skipped)
    assert len(data.photos) == 6


def test_a_photo_is_known_by_its_content_whatever_its_name_ends_in(make_folder):
    folder = make_folder({"reds": 3, "blues": 3})
    for ending, kind in {"jfif": "JPEG", "gif": "GIF", "avif": "AVIF", "txt": "WEBP", "": "PNG"}.items():
        noise = np.random.default_rng(len(ending)).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"reds/x.{ending}", kind)
    (folder / "reds/phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60))
    data = dataset.scan(folder)
    assert data.class_counts() == {"blues": 3, "reds": 8}
    assert [(s.name, "HEIC" in s.reason) for s in data.skipped] == [("reds/phone.heic", True)]


def test_a_turned_photo_is_kept_as_prediction_will_see_it(make_folder):
    folder = make_folder({"reds": 3, "blues": 3})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "reds/000.png").save(folder / "reds/turned.jpg", exif=exif)
    data = dataset.scan(folder)
    (index,) = [i for i, entry in enumerate(data.photos) if entry.name == "reds/turned.jpg"]
    assert data.pixels(index).shape == (60, 48, 3)
    assert np.array_equal(data.pixels(index), images.load((folder / "reds/turned.jpg").read_bytes()))


def test_class_names_that_look_the_same_are_pointed_out(make_folder):
    data = dataset.scan(make_folder({"Caf\u00e9": 4, "Cafe\u0301": 4}))
    assert len(data.classes) == 2
    assert any("look the same" in note for note in data.notes)


def test_a_zip_that_leads_outside_writes_nothing_there(make_folder, tmp_path):
    make_folder({"reds": 4, "blues": 4})
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as archive:
        for path in (tmp_path / "photos").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
        archive.write(photo(tmp_path / "x.png", (1, 2, 3), 1), "../../outside/reds/x.png")
    data = dataset.scan(evil)
    assert [s.name for s in data.skipped] == ["../../outside/reds/x.png"]
    assert not list(tmp_path.parent.glob("outside"))


def test_a_second_scan_of_the_same_photos_shares_one_copy(make_folder, home):
    folder = make_folder({"reds": 4, "blues": 4})
    assert dataset.scan(folder).folder == dataset.scan(folder).folder
    assert len([entry for entry in (home / "datasets").iterdir() if entry.is_dir()]) == 1


def test_photos_of_one_name_are_all_kept_however_often_more_are_added(make_folder):
    first, second, third = (dataset.scan(make_folder({"reds": 3, "blues": 3}, name)) for name in "abc")
    data = merge.combine([merge.combine([first, second]), third])
    assert data.class_counts() == {"blues": 9, "reds": 9}
    assert len({entry.name for entry in data.photos}) == 18
    assert data.skipped == ()


def test_a_photo_is_not_dropped_for_another_of_the_same_name(make_folder, tmp_path):
    folder = make_folder({"train/reds": 4, "train/blues": 4})
    given = make_folder({"reds": 2, "blues": 2}, "other/train")
    shutil.copy(given / "reds/001.png", folder / "train/reds/000.png")
    data = dataset.scan(folder, given)
    assert [(s.name, s.reason) for s in data.skipped] == [("train/reds/000.png", "is a copy of `train/reds/001.png`")]
    assert [entry.side for entry in data.photos if entry.name == "train/reds/000.png"] == ["test"]
    assert len(data.photos) == 11


def test_photos_added_without_a_test_part_are_said_to_be_for_training(make_folder):
    split = dataset.scan(make_folder({"train/reds": 4, "train/blues": 4, "test/reds": 2, "test/blues": 2}))
    loose = dataset.scan(make_folder({"reds": 3, "blues": 3}, "loose"))
    said = [note for note in merge.combine([split, loose]).notes if "all for training" in note]
    assert len(said) == 1
    assert "comes from the test photos of the others" in said[0]
    assert not [note for part in ([split, split], [loose, loose]) for note in merge.combine(part).notes
                if "all for training" in note]  # fmt: skip


def test_a_class_without_test_photos_is_named(make_folder):
    data = dataset.scan(make_folder({"train/reds": 4, "train/blues": 4, "test/reds": 2}))
    assert "The score says nothing of `blues`: no test photos there." in data.notes
    whole = dataset.scan(make_folder({"train/reds": 4, "train/blues": 4, "test/reds": 2, "test/blues": 1}, "whole"))
    assert not [note for note in whole.notes if "says nothing" in note]


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_folder_of_test_photos_beside_the_classes_is_no_class(make_folder, name):
    data = dataset.scan(make_folder({"reds": 4, "blues": 4, "greens": 0, f"{name}/reds": 2, f"{name}/blues": 3}))
    train, validation, test = sides(data)
    assert data.classes == ("blues", "reds")
    assert len(test) == 5
    assert all(entry.startswith(f"{name}/") for entry in test)
    assert len(train | validation) == 8
    assert any(f"photos of the {name} folder are the test photos" in note for note in data.notes)
    assert [note for note in data.notes if "No photos" in note] == [
        "No photos in the folder `greens`; it is not a class."
    ]


def test_a_class_may_be_called_test_and_hold_folders_of_its_own(make_folder):
    data = dataset.scan(make_folder({"reds": 4, "blues": 4, "test/old": 2, "test/new": 2}))
    assert data.class_counts() == {"blues": 4, "reds": 4, "test": 4}


@pytest.mark.parametrize("harm", ["no pixels", "half the pixels", "no list", "half the list", "empty"])
def test_a_second_scan_mends_a_broken_copy(make_folder, harm):
    folder = make_folder({"reds": 4, "blues": 4})
    data = dataset.scan(folder)
    pixels, listed = data.folder / "photos.bin", data.folder / "dataset.json"
    for path in {"no pixels": [pixels], "no list": [listed], "empty": [pixels, listed]}.get(harm, []):
        path.unlink()
    for path in {"half the pixels": [pixels], "half the list": [listed]}.get(harm, []):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = dataset.scan(folder)
    assert again == dataset.load(data.folder) == data
    assert all(again.pixels(i).shape == (48, 60, 3) for i in range(8))
