"""What the Test tab keeps and accepts: sheets of answers with their files, and pictures of the live view."""

import base64

import pytest
from conftest import COLOURS, photo

from tlapp.dataset import Skipped
from tlapp.errors import DataError
from tlapp.ui import answers, camera, sheets


def sent(path):
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def test_a_picture_of_the_live_view_is_answered_with_its_bars(own_run, small_pictures, tmp_path):
    answer = camera.classify([sent(photo(tmp_path / "a.jpg", COLOURS["reds"], 1)), own_run.id])
    assert "tl-label" in answer["html"]
    assert {"blues", "reds"} <= set(answer["html"].replace("<", ">").split(">"))


@pytest.mark.parametrize(
    "given",
    [None, "x", [], ["x", "y"], ["data:image/jpeg;base64,%%%", ""], [1, 2], {"a": 1},
     ["data:image/jpeg;base64," + "A" * (camera.MOST_BYTES + 4), ""]],
)  # fmt: skip
def test_a_picture_that_no_page_sent_is_refused_in_a_sentence(given):
    assert camera.classify(given)["error"].startswith("That picture is not one")


def test_what_is_no_picture_is_said_so():
    coded = base64.b64encode(b"no picture").decode()
    assert camera.classify([f"data:image/jpeg;base64,{coded}", ""])["error"].startswith("The camera's picture is")


def test_a_sheet_keeps_its_file_until_it_is_forgotten_and_the_oldest_goes_first(
    own_run, small_pictures, tmp_path, home
):
    path = photo(tmp_path / "a.png", COLOURS["reds"], 1)
    made = [sheets.of_file("a.png", path, own_run) for _ in range(sheets.KEPT + 1)]
    files = [sheet.files[0][1] for _, sheet in made]
    assert sheets.get(made[0][0]) is None
    assert [file.exists() for file in files] == [False] + [True] * sheets.KEPT
    csv = made[1][1].csv()
    assert csv.read_text().startswith("file,label,probability,unknown,blues,reds,error")
    for name, _ in made:
        sheets.forget(name)
    assert not any(file.exists() for file in [*files, csv])
    assert sheets.get("unknown") is sheets.get(None) is sheets.get([]) is None


def test_a_sheet_that_is_given_up_leaves_no_files(own_run, small_pictures, tmp_path, home, monkeypatch):
    uploads = tmp_path / "uploads"
    monkeypatch.setattr(sheets, "uploads_folder", lambda: uploads)
    path = photo(uploads / "1" / "a.png", COLOURS["reds"], 1)

    def cancel(done, total, what=""):
        raise DataError("enough")

    with pytest.raises(DataError, match="enough"):
        sheets.of_upload({"files": [{"rel": "a.png", "path": str(path)}], "skipped": []}, own_run, cancel)
    assert not [entry for entry in (home / "incoming").iterdir() if entry.is_dir()]


def test_many_failures_are_folded():
    assert answers.failures([]) == ""
    assert answers.failures(["`a` is bad."] * 3).count("tl-notice") == 3
    folded = answers.failures(["<b> is bad."] * 4)
    assert "4 files could not be read" in folded
    assert "<b>" not in folded


def test_a_second_file_of_one_name_is_refused_beside_the_answer_to_the_first(own_run, small_pictures, tmp_path):
    path = photo(tmp_path / "a.png", COLOURS["reds"], 1)
    sheet = sheets.Sheet(own_run, [("a.png", path)], [Skipped("a.png", "has the path of another file of this upload")])
    sheet.ask(lambda done, total, what="": None)
    html = sheet.html()
    assert "a.png has the path of another file of this upload." in html
    assert "tl-answer" in html
    assert len(sheet.csv().read_text().splitlines()) == 3
