"""How the photos divide, on the page: by what, photo by photo, as a list to keep, and with test photos of their own."""

import csv
import re

import numpy as np
import pytest
from conftest import drop_on, fill, photo
from sites import load, load_path, tab, train_to_the_end

from tlapp import tables
from tlapp.dataset import scan
from tlapp.ui import division, shelf

SIDES = {"train": "train", "val": "validation", "test": "test"}


def only(home):
    """The dataset that the page has read."""
    (found,) = (home / "datasets").glob("[0-9a-f]*")
    return shelf.dataset(found.name)


def expected(data, **how):
    """The names of the photos of each part."""
    parts = division.parts(data.split(**how))
    files = division.file_names(data)
    return {name: {files[i] for i in part} for name, part in parts.items()}


def shown(site):
    """The names of the photos of each part, as the page shows them."""
    read = "parts => parts.map(p => [p.dataset.part, [...p.querySelectorAll('.tl-file')].map(f => f.textContent)])"
    return {name: set(files) for name, files in site.locator("#where-photos section").evaluate_all(read)}


def bar(site):
    return [int(text.split()[0]) for text in site.locator("#split .tl-key").all_inner_texts()]


def sizes(parts):
    return [len(parts[name]) for name in ("train", "validation", "test")]


def saved(site, path):
    with site.expect_download() as download:
        site.locator("#where-csv").click()
    download.value.save_as(path)
    return path


def sides(data):
    return {(p.name, data.classes[p.label], p.side) for p in data.photos}


def sides_of(data, split):
    return {
        (data.photos[i].name, data.classes[data.photos[i].label], name)
        for name, part in division.parts(split).items()
        for i in part
    }


def read_list(text):
    return {(file, label, SIDES[split]) for file, label, split in list(csv.reader(text.splitlines()))[1:]}


@pytest.fixture
def days(tmp_path):
    """Two classes with five days of three photos each."""
    return fill(tmp_path / "photos", {f"{c}/day{d}": 3 for c in ("blues", "reds") for d in range(5)})


def test_split_by_sub_folder_reaches_the_bar_the_photos_and_the_plan(site, days, home):
    load(site, days)
    tab(site, "1 Data")
    data = only(home)
    site.locator("#change > button").click()
    site.locator("#where > button").click()
    site.locator("#where-photos section").first.wait_for()
    assert shown(site) == expected(data)
    site.get_by_label("whole sub-folders").check()
    site.locator("#where-photos .tl-mark", has_text="sub-folder day").first.wait_for()
    by_folder = expected(data, by="folder")
    assert by_folder != expected(data)
    assert shown(site) == by_folder
    assert bar(site) == sizes(by_folder)
    tab(site, "2 Train")
    run = train_to_the_end(site, home)
    assert run.plan.split_by == "folder"
    assert {p["file"] for p in run.report()["photos"]} == by_folder["test"]


def test_too_few_sub_folders_are_said_beside_the_bar_and_where_there_are_none_nothing_is_asked(
    site, folder, tmp_path, home
):
    load_path(site, fill(tmp_path / "two", {f"{c}/day{d}": 6 for c in ("blues", "reds") for d in range(2)}, seed=300))
    site.locator(".tl-class").first.wait_for()
    site.locator("#change > button").click()
    site.locator("#where > button").click()
    site.locator("#where-csv").wait_for()
    site.get_by_label("whole sub-folders").check()
    site.locator("#split .tl-error", has_text="Too few sub-folders to split by in blues, reds").wait_for()
    assert not site.locator("#where-csv").is_visible()
    tab(site, "2 Train")
    site.locator("#why-not", has_text="Too few sub-folders").wait_for()
    tab(site, "1 Data")
    load_path(site, folder)
    site.locator("#top-data", has_text="16 photos").wait_for()
    site.locator("#split .tl-key").first.wait_for()
    site.locator("#split-seed").wait_for()
    assert not site.locator("#split-by").is_visible()


def test_which_photo_is_where_follows_the_controls_and_its_list_splits_the_same_again(site, folder, home, tmp_path):
    load_path(site, folder)
    site.locator("#where > button").wait_for()
    assert site.locator("#where-photos img").count() == 0
    site.locator("#where > button").click()
    site.locator("#where-photos img").nth(15).wait_for()
    data = only(home)
    assert shown(site) == expected(data)
    site.locator("#change > button").click()
    site.locator("#split-seed input").fill("7")
    share = site.locator("#test-fraction input[type=number]")
    share.press("Control+a")
    share.press_sequentially("350")
    share.press("Tab")
    assert share.input_value() == "50"
    site.locator("h3", has_text="Test: 8 photos").wait_for()
    how = {"test_fraction": 0.5, "seed": 7}
    assert shown(site) == expected(data, **how)
    assert bar(site) == sizes(expected(data, **how))
    saved(site, folder / "split.csv")
    again = scan(folder, home=tmp_path / "elsewhere")
    assert sides(again) == sides_of(data, data.split(**how))
    assert sides_of(again, again.split(seed=3)) == sides(again)
    site.locator("#where > button").click()
    site.locator("#where-photos img").first.wait_for(state="detached")


def test_test_photos_of_their_own_are_read_beside_the_path(site, folder, home, tmp_path):
    site.locator("#test-path input, #test-path textarea").fill(str(tmp_path / "nowhere"))
    load_path(site, folder)
    site.locator("#reading-progress .tl-error", has_text=re.compile("nowhere.* does not exist")).wait_for()
    held = fill(tmp_path / "held", {"reds": 3, "blues": 2}, seed=900)
    site.locator("#test-path input, #test-path textarea").fill(str(held))
    site.locator("#read-path").click()
    site.locator("#top-data", has_text="21 photos, 2 classes").wait_for()
    site.locator("#split .tl-key", has_text="5 test").wait_for()
    assert not site.locator("#test-fraction").is_visible()
    assert {p.name.split("/")[0] for p in only(home).photos if p.side == "test"} == {"held"}
    own = fill(tmp_path / "own", {"train/reds": 4, "train/blues": 4, "test/reds": 2, "test/blues": 2}, seed=950)
    load_path(site, own)
    site.locator("#reading-progress .tl-error", has_text="has its own test photos").wait_for()


def test_marks_say_what_belongs_together_and_where_it_is_torn(tmp_path, home):
    root = fill(tmp_path / "photos", {"reds": 12, "blues": 12})
    copies = [photo(root / "reds" / f"{name}.png", (90, 160, 30), 5000, (240, 192)) for name in ("one", "two")]
    copies[1].write_bytes(copies[0].read_bytes() + b"\0")  # the same picture in another file
    data = scan(root, home=home)
    pair = [i for i, p in enumerate(data.photos) if "/one" in p.name or "/two" in p.name]
    split = data.split()
    assert division.marks(data, split, "photo") == {i: ["near copies 1"] for i in pair}
    torn = type(split)(np.setdiff1d(np.arange(26), pair), np.array(pair[:1]), np.array(pair[1:]))
    assert division.marks(data, torn, "folder") == {i: ["near copies 1, on several sides"] for i in pair}


def test_a_large_part_shows_some_photos_of_every_class_and_counts_the_rest(tmp_path, home):
    data = scan(fill(tmp_path / "photos", {"reds": 90, "blues": 20}), home=home)
    split = data.split()
    text = division.photos(data, split, "photo")
    train = re.search(r'<section data-part="train">(.*?)</section>', text, re.S)[1]
    assert train.count("<img") == division.MOST_SHOWN
    n_blue = sum(data.classes[data.photos[i].label] == "blues" for i in split.train)
    assert train.count(", blues") == n_blue
    assert f"and {len(split.train) - 60} more" in train
    assert read_list(division.to_csv(data, split)) == sides_of(data, split)


def test_the_list_of_a_dropped_folder_goes_back_into_that_folder(site, folder, home):
    drop_on(site.locator("#drop"), folder)
    site.locator("#where > button").click()
    site.locator("#where-photos img").nth(15).wait_for()
    data = only(home)
    assert {p.name.split("/")[0] for p in data.photos} == {folder.name}
    saved(site, folder / "split.csv")
    drop_on(site.locator("#drop"), folder)
    site.locator("#notes", has_text="The classes are those of split.csv").wait_for()
    (again,) = (shelf.dataset(path.name) for path in (home / "datasets").glob("[0-9a-f]*") if path.name != data.id)
    assert sides(again) == sides_of(data, data.split())
    assert shown(site) == expected(again)


def test_a_list_survives_names_that_a_spreadsheet_would_run(tmp_path, home):
    root = fill(tmp_path / "photos", {"+reds": 6, "=blues, or so": 6})
    photo(root / "+reds" / "-1.png", (200, 40, 40), 4000)
    data = scan(root, home=home)
    split = data.split(seed=2)
    (root / "split.csv").write_bytes(division.to_csv(data, split).encode())
    assert sides(scan(root, home=home)) == sides_of(data, split)


def test_the_list_is_a_table_that_labels_reads(tmp_path, home):
    data = scan(fill(tmp_path / "photos", {"reds": 6, "blues": 6}), home=home)
    text = division.to_csv(data, data.split())
    assert text.splitlines()[0] == "file,label,split"
    assert text == tables.to_csv(csv.reader(text.splitlines()))


def test_names_of_photos_classes_and_sub_folders_are_shown_literally(tmp_path, home):
    names = ["<img src=x onerror=alert(1)>", "<script>alert(1)<script>"]
    root = fill(tmp_path / "photos", {f"{c}/<b>{d}": 3 for c in names for d in range(4)})
    data = scan(root, home=home)
    text = division.photos(data, data.split(by="folder"), "folder")
    assert set(re.findall(r"<(\w+)", text)) == {"p", "section", "h3", "div", "figure", "img", "figcaption", "span"}
    assert text.count("<img") == len(data.photos)
    assert "sub-folder &lt;b&gt;0" in text
