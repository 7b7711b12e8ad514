"""A CSV of labels: every line gives a photo its class or is named with the reason; no path leads out of its folder."""

import shutil
import zipfile

import pytest
from conftest import photo

from tlapp import dataset, labels
from tlapp.errors import DataError


@pytest.fixture
def loose(tmp_path):
    """A folder with ten photos in `img/`, of no class."""
    for i in range(10):
        photo(tmp_path / f"photos/img/{i}.png", (20 * i, 90, 200 - 20 * i), i)
    return tmp_path / "photos"


LINES = [f"img/{i}.png,{'reds' if i < 5 else 'blues'}" for i in range(10)]


def write(folder, *lines, head="file,label", name="labels.csv"):
    path = folder / name
    path.write_bytes("\n".join((head, *lines)).encode())
    return path


def reasons(data):
    return {s.name: s.reason for s in data.skipped}


def test_a_csv_gives_the_photos_their_classes(loose):
    data = dataset.scan(write(loose, *LINES))
    assert data.class_counts() == {"blues": 5, "reds": 5}
    assert {p.name for p in data.photos if data.classes[p.label] == "reds"} == {f"img/{i}.png" for i in range(5)}
    assert data.skipped == ()
    assert "The classes are those of `labels.csv`." in data.notes


def test_a_csv_that_is_given_itself_leaves_other_files_alone(loose):
    photo(loose / "img/other.png", (1, 2, 3), 99)
    data = dataset.scan(write(loose, *LINES))
    assert (len(data.photos), data.skipped) == (10, ())


@pytest.mark.parametrize("way", ["folder", "folder around", "zip", "zip of the folder"])
def test_a_csv_at_the_top_gives_the_classes_and_what_it_does_not_name_is_said(loose, tmp_path, way):
    write(loose, *LINES)
    (loose / ".DS_Store").touch()
    photo(loose / "img/other.png", (1, 2, 3), 99)
    source, before = loose, ""
    if way == "folder around":
        source, before = tmp_path / "around", "photos/"
        shutil.move(loose, source / "photos")
    elif way != "folder":
        source, before = tmp_path / "it.zip", "" if way == "zip" else "photos/"
        shutil.make_archive(str(tmp_path / "it"), "zip", tmp_path if before else loose, "photos" if before else None)
    data = dataset.scan(source)
    assert data.class_counts() == {"blues": 5, "reds": 5}
    assert reasons(data) == {f"{before}img/other.png": "is not named in `labels.csv`"}


def test_backslashes_in_a_zip_and_its_csv_part_folders(loose, tmp_path):
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        for i in range(10):
            archive.write(loose / f"img/{i}.png", f"img\\{i}.png")
        archive.writestr("labels.csv", "\n".join(["file,label", *LINES]).replace("/", "\\"))
    assert dataset.scan(tmp_path / "it.zip").class_counts() == {"blues": 5, "reds": 5}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n") + "\r\n\r\n",
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("file,label", ' "File" , LABEL '),
        lambda text: "\n".join(f"x,{b},,{a}" for a, b in (line.split(",") for line in text.split("\n"))),
        lambda text: text.replace("img/", "./img//"),
        lambda text: text.replace("img/", "img\\"),
        lambda text: "\n".join(", ".join(f'"{cell}"' for cell in line.split(",")) for line in text.split("\n"))
        .replace(', "', ',"'),
        lambda text: text.replace("reds", "  reds ").replace("\n", "\n,,\n"),
    ],
    ids=["semicolon", "tab", "bom", "crlf", "cr", "header", "columns", "dots", "backslash", "quotes", "spaces"],
)  # fmt: skip
def test_csvs_of_every_usual_form_are_read(loose, change):
    (loose / "labels.csv").write_bytes(change("\n".join(["file,label", *LINES])).encode())
    data = dataset.scan(loose / "labels.csv")
    assert (data.class_counts(), data.skipped) == ({"blues": 5, "reds": 5}, ())


def test_every_line_of_no_use_is_named_with_the_reason(loose, tmp_path):
    photo(tmp_path / "secret.png", (1, 2, 3), 77)
    for name in ("linked.png", "far"):
        (loose / name).symlink_to(tmp_path if name == "far" else tmp_path / "secret.png")
    (loose / "notes.txt").write_text("hello")
    bad = {
        "img/nothing.png,reds": "is named in `labels.csv` but is not there; check its path",
        "img/0.png, ": "has no label in `labels.csv`",
        "../secret.png,reds": "leads out of the folder of `labels.csv`",
        "/etc/passwd,reds": "leads out of the folder of `labels.csv`",
        "C:\\secret.png,reds": "leads out of the folder of `labels.csv`",
        "\\\\server\\share\\a.png,reds": "leads out of the folder of `labels.csv`",
        "linked.png,reds": "is a link; links are not followed, so put the photo itself there",
        "far/secret.png,reds": "lies behind a link to a folder; links are not followed",
        "notes.txt,reds": "is a text file, not a photo",
        "img,reds": "is not an ordinary file",
        "img/.hidden.png,reds": "is a hidden or system file; these are not read",
        f"img/1.png,{'x' * 300}": "has a label of more than 200 letters in `labels.csv`",
        "img/\0.png,reds": "is named in `labels.csv` but is not there; check its path",
        f"{'long' * 99}.png,reds": "is named in `labels.csv` but is not there; check its path",
        f"{'a/' * 60_000}x.png,reds": "lies more than 30 folders deep",
        ",reds": "has a line that names no file",
    }
    data = dataset.scan(write(loose, *LINES, *bad))
    assert len(data.photos) == 10
    assert sorted(s.reason for s in data.skipped) == sorted(bad.values())
    assert {s.name for s in data.skipped} >= {"img/nothing.png", "../secret.png", "linked.png", "labels.csv"}
    assert len(data.photos) + len(data.skipped) == len(LINES) + len(bad)


def test_a_file_named_twice_is_taken_once_or_where_its_lines_disagree_not_at_all(loose):
    data = dataset.scan(write(loose, *LINES, "./img/0.png,reds", "img/9.png,reds"))
    assert data.class_counts() == {"blues": 4, "reds": 5}
    assert reasons(data) == {
        "img/0.png": "stands in `labels.csv` more than once; it was taken once",
        "img/9.png": "stands in `labels.csv` with different labels or splits, so it is in none; keep one line",
    }


def test_a_file_on_two_sides_is_on_neither(loose):
    lines = [f"{line},{'test' if i % 5 == 4 else 'train'}" for i, line in enumerate(LINES)]
    data = dataset.scan(write(loose, *lines, "img/0.png,reds,test", head="file,label,split"))
    assert list(reasons(data)) == ["img/0.png"]


@pytest.mark.parametrize("with_test", [False, True])
def test_the_split_column_says_which_photos_are_for_what(loose, with_test):
    words = ["Train", "", "train", "VAL", "Testing" if with_test else "valid"]
    lines = [f"{line},{words[i % 5]}" for i, line in enumerate(LINES)]
    data = dataset.scan(write(loose, *lines, head="file,label,split"))
    sides = {data.photos[i].name: side for side in ("train", "validation", "test") for i in getattr(data.split(), side)}
    fourth, last = ("validation", "test") if with_test else ("test", "test")
    assert (sides["img/3.png"], sides["img/4.png"], sides["img/8.png"]) == (fourth, last, fourth)
    said = "marked test in `labels.csv` are" if with_test else "marked val in `labels.csv` are"
    assert any(said in note for note in data.notes)


def test_an_unknown_split_is_named(loose):
    data = dataset.scan(write(loose, *(f"{line}," for line in LINES[1:]), f"{LINES[0]},fold3", head="file,label,split"))
    assert reasons(data) == {"img/0.png": "has a split in `labels.csv` that is none of train, val and test"}


def test_source_and_test_may_both_be_csvs_of_one_folder(loose):
    learn, test = [0, 1, 2, 5, 6, 7], [3, 4, 8, 9]
    source = write(loose, *(LINES[i] for i in learn))
    data = dataset.scan(source, write(loose, *(LINES[i] for i in test), name="test.csv"))
    assert {p.name for p in data.photos if p.side == "test"} == {f"test.csv/img/{i}.png" for i in test}
    assert len(data.photos) == 10


@pytest.mark.parametrize("label", ["a/b", "../x", "$a_$", "<b>x</b>", "=1+1", "{0}", "🐞 bug", "a\nb", "x" * 200])
def test_labels_are_taken_literally(loose, label):
    quoted = f'"{label}"'
    data = dataset.scan(write(loose, *(line.replace("reds", quoted) for line in LINES)))
    assert set(data.classes) == {"blues", label}
    assert dataset.load(data.folder) == data


@pytest.mark.parametrize("name", ["{}.csv", "{0}.csv", "a`b.csv"])
def test_odd_names_of_the_csv_itself_do_no_harm(loose, name):
    lines = [f"{line},{'test' if i % 5 == 4 else ''}" for i, line in enumerate(LINES)]
    data = dataset.scan(write(loose, *lines, "img/0.png,", head="file,label,split", name=name))
    assert f"`{name}`" in reasons(data)["img/0.png"]
    assert any(f"marked test in `{name}`" in note for note in data.notes)


def test_a_csv_that_is_none_of_labels_is_a_skipped_text_file_beside_class_folders(make_folder):
    folder = make_folder({"reds": 3, "blues": 3})
    (folder / "prices.csv").write_text("item,price\nant,3\n")
    (folder / "reds/labels.csv").write_text("file,label\n000.png,blues\n")
    data = dataset.scan(folder)
    assert data.class_counts() == {"blues": 3, "reds": 3}
    assert reasons(data) == {
        "prices.csv": "lies outside the class folders",
        "reds/labels.csv": "is a text file, not a photo",
    }


def test_a_csv_that_names_none_of_the_files_leaves_class_folders_as_they_are(make_folder):
    folder = make_folder({"reds": 3, "blues": 3})
    write(folder, "elsewhere/1.png,greens")
    assert dataset.scan(folder).class_counts() == {"blues": 3, "reds": 3}


def test_a_csv_beside_class_folders_gives_the_classes_where_it_names_their_photos(make_folder):
    folder = make_folder({"a": 3, "b": 3})
    write(folder, *(f"{sub}/00{i}.png,{'reds' if i else 'blues'}" for sub in "ab" for i in range(3)))
    assert dataset.scan(folder).class_counts() == {"blues": 2, "reds": 4}


def test_of_two_lists_of_labels_none_is_used_and_that_is_said(make_folder):
    folder = make_folder({"reds": 3, "blues": 3})
    for name in ("one.csv", "two.csv"):
        write(folder, "reds/000.png,blues", name=name)
    data = dataset.scan(folder)
    assert data.class_counts() == {"blues": 3, "reds": 3}
    assert "`one.csv`, `two.csv` are all lists of labels, so none is used; keep one." in data.notes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "first line must name the columns `file` and `label`"),
        (b"name,class\na.png,reds\n", "first line must name the columns `file` and `label`"),
        (b"file,label\n", "No line of `labels.csv` names a photo that can be used.$"),
        (b"file,label\nx.png,reds\n", "For example `x.png` is named in `labels.csv` but is not there"),
        ("file,label\nimg/0.png,rös\n".encode("latin-1"), "is not UTF-8 text"),
        ("file,label\nimg/0.png,reds\n".encode("utf-16"), "first line must name"),
        (b"file,label\n" + b"x" * 200_000, "is damaged at line 2"),
    ],
)
def test_a_csv_of_no_use_is_answered_by_one_sentence_on_what_to_do(loose, content, words):
    (loose / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        dataset.scan(loose / "labels.csv")


def test_a_first_line_of_any_length_does_no_harm(loose):
    for end in ("filename", "file"):
        head = "label," + "x" * (4096 - len("label,,file")) + "," + end
        with pytest.raises(DataError, match=r"No line of `labels\.csv`"):
            dataset.scan(write(loose, *LINES, head=head))


def test_a_loose_folder_whose_csv_names_none_of_it_is_told_so(loose):
    write(loose, "0.png,reds")
    with pytest.raises(DataError, match=r"For example `0\.png` is named in `labels\.csv` but is not there"):
        dataset.scan(loose)


def test_a_csv_too_large_or_too_long_is_refused(loose, monkeypatch):
    path = write(loose, *LINES)
    monkeypatch.setattr(labels, "MAX_FILES", 9)
    with pytest.raises(DataError, match="has more than 9 lines"):
        dataset.scan(path)
    monkeypatch.setattr(labels, "MAX_TABLE_BYTES", 100)
    with pytest.raises(DataError, match="is larger than"):
        dataset.scan(path)


def test_cancel_works_while_the_files_of_a_csv_are_looked_up(loose):
    def cancel(*what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.scan(write(loose, *LINES), report=cancel)
