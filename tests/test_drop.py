"""The drop zone: what `gather` lets in, and the zone itself in a real browser."""

import asyncio
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from conftest import drop_on, photo, until
from starlette.middleware import Middleware

from tlapp import dataset
from tlapp.dataset import Skipped
from tlapp.errors import DataError
from tlapp.intake import MAX_FILE_BYTES, MAX_FILES
from tlapp.ui import drop

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    """Gradio's upload folder, of this test alone."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.fixture
def sent(uploads):
    """sent("a/b.jpg", b"bytes") → an entry of a payload, its file as Gradio would have stored it."""

    def send(rel: str, content: bytes = b"x") -> dict[str, str]:
        place = uploads / f"{len(list(uploads.iterdir())):064x}" / "file"
        place.parent.mkdir()
        place.write_bytes(content)
        return {"rel": rel, "path": str(place)}

    return send


def payload(*files: Any, skipped: Any = ()) -> dict[str, Any]:
    return {"files": list(files), "skipped": list(skipped)}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_move_to_their_names_and_leave_the_upload_folder_empty(sent, target, uploads):
    source, skipped = drop.gather(payload(sent("p/bees/1.jpg", b"1"), sent("p/ants/2.jpg", b"2")), target, uploads)
    assert (source, skipped) == (target, [])
    assert tree(target) == {"p/bees/1.jpg": b"1", "p/ants/2.jpg": b"2"}
    assert not list(uploads.iterdir())


def test_one_upload_named_in_two_classes_gives_each_its_own_copy(sent, target, uploads):
    first = sent("bees/1.jpg", b"same")
    files = payload(first, {**first, "rel": "ants/1.jpg"}, {**first, "rel": "wasps/1.jpg"})
    drop.gather(files, target, uploads)
    assert tree(target) == {f"{name}/1.jpg": b"same" for name in ("bees", "ants", "wasps")}
    (target / "bees" / "1.jpg").write_bytes(b"changed")
    assert (target / "ants" / "1.jpg").read_bytes() == b"same"
    assert not list(uploads.iterdir())


def test_a_dropped_csv_of_labels_gives_the_dropped_photos_their_classes(sent, target, uploads, tmp_path):
    table = "file,label\n" + "".join(f"img/{i}.png,{'ab'[i % 2]}\n" for i in range(8))
    photos = [photo(tmp_path / f"{i}.png", (99, 9, 9), i).read_bytes() for i in range(8)]
    files = [sent(f"p/img/{i}.png", data) for i, data in enumerate(photos)]
    source, skipped = drop.gather(payload(sent("p/labels.csv", table.encode()), *files), target, uploads)
    assert (source, skipped) == (target, [])
    assert dataset.scan(source).class_counts() == {"a": 4, "b": 4}


def test_another_file_system_is_copied_to(sent, target, uploads, monkeypatch):
    def cross_device(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", cross_device)
    drop.gather(payload(sent("bees/1.jpg", b"1")), target, uploads)
    assert tree(target) == {"bees/1.jpg": b"1"}
    assert not list(uploads.iterdir())


def test_a_single_zip_is_what_to_scan(sent, target, uploads):
    assert drop.gather(payload(sent("My Photos.ZIP")), target, uploads)[0] == target / "My Photos.ZIP"
    assert drop.gather(payload(sent("1.zip"), sent("2.zip")), target, uploads)[0] == target


@pytest.mark.parametrize(
    "rel",
    [
        "bees/ü/蜂 🐝.jpg",
        f"bees/{HOSTILE}.png",
        "a #1 100% 'q' \"d\".jpg",
        "$a_$/new\nline.jpg",
        "bees/" + "n" * 250 + ".jpg",
        "bees/-rf",
    ],
)
def test_odd_names_are_kept_as_they_are(rel, sent, target, uploads):
    drop.gather(payload(sent(rel, b"1")), target, uploads)
    assert tree(target) == {rel: b"1"}


@pytest.mark.parametrize(
    "rel", ["..", "../x", "a/../../x", "/etc/x", "//x", "a//b", "a/", "./a", "", "a\0b", "a" * 4097]
)
def test_a_name_that_leads_elsewhere_is_refused(rel, sent, target, uploads):
    fine = sent("bees/1.jpg")
    with pytest.raises(DataError, match="not one that this page made"):
        drop.gather(payload(fine, sent(rel)), target, uploads)
    assert not tree(target)
    assert Path(fine["path"]).exists()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/etc/none", "", ".", "x", "/", "a\0b", "\ud800", 7, None, ["/etc/passwd"], {"path": "x"}]
)
def test_a_path_that_is_no_upload_is_refused(path, target, uploads):
    with pytest.raises(DataError, match="not one that this page made"):
        drop.gather(payload({"rel": "bees/1.jpg", "path": path}), target, uploads)
    assert not tree(target)


def test_links_folders_and_climbing_paths_are_refused(tmp_path, sent, target, uploads):
    outside = photo(tmp_path / "mine.png", (1, 2, 3), 0)
    own = Path(sent("own.png")["path"])
    (uploads / "out").symlink_to(outside)
    (uploads / "folder").symlink_to(tmp_path)
    (uploads / "inside").symlink_to(own)
    (uploads / "loop").symlink_to(uploads / "loop")
    os.mkfifo(uploads / "pipe")
    for path in ("out", "folder/mine.png", "inside", "loop", "pipe", own.parent.name, "../mine.png"):
        with pytest.raises(DataError, match="not one that this page made"):
            drop.gather(payload({"rel": "bees/1.png", "path": str(uploads / path)}), target, uploads)
    assert outside.exists()
    assert own.exists()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        [],
        {},
        {"files": []},
        {"files": {}, "skipped": []},
        {"files": [], "skipped": "x"},
        {"files": ["x"], "skipped": []},
        {"files": [None], "skipped": []},
        {"files": [{}], "skipped": []},
        {"files": [], "skipped": [7]},
        {"files": [], "skipped": [{"rel": 1, "reason": "x"}]},
        {"files": [], "skipped": [{"rel": "../x", "reason": "x"}]},
    ],
)
def test_a_payload_of_the_wrong_shape_is_refused(value, target, uploads):
    with pytest.raises(DataError, match="not one that this page made"):
        drop.gather(value, target, uploads)


def test_too_many_files_are_refused_in_a_sentence(target, uploads):
    with pytest.raises(DataError, match="more than 50,000 files"):
        drop.gather(payload(*[{}] * (MAX_FILES + 1)), target, uploads)


def test_what_the_page_left_out_is_passed_on_by_name(sent, target, uploads):
    left_out = {"rel": "p/bees/0.jpg", "reason": "is empty (0 bytes)"}
    _, skipped = drop.gather(payload(sent("p/bees/1.jpg"), skipped=[left_out]), target, uploads)
    assert skipped == [Skipped("p/bees/0.jpg", "is empty (0 bytes)")]
    with pytest.raises(DataError, match=r"for example `p/bees/0.jpg` is empty \(0 bytes\)\."):
        drop.gather(payload(skipped=[left_out]), target, uploads)
    with pytest.raises(DataError, match="no files in there"):
        drop.gather(payload(), target, uploads)


def test_a_file_that_has_no_place_is_named_and_the_others_arrive(sent, target, uploads):
    names = ["bees", "bees/1.jpg", "bees", "ants/" + "n" * 300 + ".jpg", "ants/\ud800.jpg", "ants/1.jpg"]
    source, skipped = drop.gather(payload(*map(sent, names)), target, uploads)
    assert set(tree(source)) == {"bees", "ants/1.jpg"}
    assert [s.name for s in skipped] == names[1:5]
    assert not list(uploads.iterdir())


def test_a_full_disk_is_told_and_leaves_no_upload_behind(sent, target, uploads, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.move", full)
    with pytest.raises(DataError, match="disk is full"):
        drop.gather(payload(sent("bees/1.jpg"), sent("bees/2.jpg")), target, uploads)
    assert not list(uploads.iterdir())


@dataclass
class Server:
    """What one test asks of the served zone: uploads pass, are held back or refused as the test says."""

    folder: Path
    uploads: Path
    arrived: list[tuple[Path, list[Skipped]]] = field(default_factory=list)
    seen: int = 0
    free: int = 10**9
    status: int = 0

    def receive(self, value: Any) -> None:
        folder = self.folder / f"arrived{len(self.arrived)}"
        folder.mkdir()
        self.arrived.append(drop.gather(value, folder, self.uploads))

    def tree(self) -> dict[str, bytes]:
        """What the one upload brought."""
        [(source, _)] = self.arrived
        return tree(source) if source.is_dir() else {source.name: source.read_bytes()}


@dataclass
class Site:
    """A page with nothing but the zone, for all tests of it, and the server that the running test has to do with."""

    uploads: Path
    url: str = ""
    server: Server | None = None


class Gate:
    """Stands before the upload route: the first `free` requests pass, later ones wait until there are more."""

    def __init__(self, app: Any, site: Site):
        self.app, self.site = app, site

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/upload"):
            server = self.site.server
            server.seen += 1
            place = server.seen
            while place > server.free:
                await asyncio.sleep(0.01)
            if server.status:
                while (await receive()).get("more_body"):
                    pass
                await send({"type": "http.response.start", "status": server.status, "headers": []})
                await send({"type": "http.response.body"})
                return
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("uploads"))
    with gr.Blocks(analytics_enabled=False) as page:
        zone = drop.drop_zone("zone")
        zone.upload(lambda value: site.server.receive(value) or "arrived", zone, gr.Textbox(elem_id="out"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("GRADIO_TEMP_DIR", str(site.uploads))
        _, site.url, _ = page.launch(
            prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", max_file_size="30mb",
            app_kwargs={"middleware": [Middleware(Gate, site=site)]},
        )  # fmt: skip
        yield site
        page.close(verbose=False)


@pytest.fixture
def server(served, tmp_path):
    served.server = Server(tmp_path, served.uploads)
    yield served.server
    served.server.free = 10**9
    for entry in served.uploads.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@pytest.fixture
def zone(served, server, visit):
    visit.goto(served.url)
    visit.locator("#zone .tl-drop[data-state=ready]").wait_for()
    return visit.locator("#zone")


def choose(zone: Any, path: Path) -> None:
    zone.locator("input.files" if path.is_file() else "input.folder").set_input_files(path)


def said(zone: Any, sentence: str) -> None:
    """Wait for the sentence in the zone, which must then be usable."""
    zone.locator(".said", has_text=sentence).wait_for()
    zone.locator("button.folder").wait_for(state="visible")


def test_a_dropped_folder_keeps_its_sub_folders(zone, server, make_folder):
    folder = make_folder({"train/bees": 2, "train/ants": 2, "val/bees": 1, "val/ants": 1}, "my photos")
    (folder / "labels.csv").write_text("file,label\n")  # lists of labels come through
    drop_on(zone, folder)
    said(zone, "7 files uploaded.")
    until(lambda: server.arrived)
    assert server.tree() == {f"my photos/{name}": content for name, content in tree(folder).items()}


def test_a_chosen_folder_keeps_its_sub_folders_and_can_be_chosen_again(zone, server, make_folder):
    folder = make_folder({"bees": 2, "ants": 2}, "my photos")
    for turn in (1, 2):
        choose(zone, folder)
        until(lambda turn=turn: len(server.arrived) == turn)
    assert tree(server.arrived[1][0]) == {f"my photos/{name}": content for name, content in tree(folder).items()}
    assert not list(server.uploads.iterdir())


def test_several_class_folders_and_loose_photos_at_once(zone, server, make_folder, tmp_path):
    folder = make_folder({"bees": 2, "ants": 2})
    loose = photo(tmp_path / "loose.png", (0, 0, 0), 1)
    drop_on(zone, folder / "bees", folder / "ants", loose)
    said(zone, "5 files uploaded.")
    until(lambda: server.arrived)
    assert server.tree() == tree(folder) | {"loose.png": loose.read_bytes()}


@pytest.mark.parametrize("way", [drop_on, choose])
def test_a_zip_arrives_as_one_file(way, zone, server, tmp_path):
    archive = tmp_path / f"{HOSTILE}.zip"
    archive.write_bytes(b"PK")
    way(zone, archive)
    said(zone, "1 file uploaded.")
    until(lambda: server.arrived)
    assert server.arrived[0][0].name == archive.name
    assert server.tree() == {archive.name: b"PK"}


def test_2000_files_arrive(zone, server, tmp_path):
    for i in range(2000):
        path = tmp_path / "photos" / f"class {i % 4}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{i // 8}".encode() * 500)  # many with equal bytes
    drop_on(zone, tmp_path / "photos")
    began = time.monotonic()
    said(zone, "2,000 files uploaded.")
    until(lambda: server.arrived)
    print(f"2,000 files in {time.monotonic() - began:.1f} s")
    assert server.tree() == {f"photos/{name}": content for name, content in tree(tmp_path / "photos").items()}
    assert server.seen == 20


def test_junk_stays_at_home_and_unfit_files_are_named(zone, server, make_folder):
    folder = make_folder({"bees": 1, "empty": 0, "__MACOSX/bees": 1, ".git": 1})
    for name in ("bees/.DS_Store", "bees/._000.png", "bees/Thumbs.db", "bees/notes.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "bees" / "zero.jpg").touch()
    with open(folder / "bees" / "huge.tif", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    drop_on(zone, folder)
    said(zone, "2 files uploaded.")
    until(lambda: server.arrived)
    assert set(server.tree()) == {"photos/bees/000.png", "photos/bees/notes.txt"}
    assert {s.name: s.reason for s in server.arrived[0][1]} == {
        "photos/empty": "is an empty folder",
        "photos/bees/zero.jpg": "is empty (0 bytes)",
        "photos/bees/huge.tif": "is larger than 256 MB",
    }


def test_a_folder_of_nothing_is_told(zone, server, tmp_path):
    (tmp_path / "photos" / ".git").mkdir(parents=True)
    (tmp_path / "photos" / ".git" / "config").write_bytes(b"x")
    choose(zone, tmp_path / "photos")
    said(zone, "There are no files in there.")
    assert not server.arrived


def test_hostile_names_are_shown_literally(zone, server, tmp_path):
    for name in (HOSTILE, "a#b%20c 'q' \"d\" 蜂"):
        photo(tmp_path / "photos" / name / f"{HOSTILE}.png", (0, 0, 0), len(name))
    server.free = 0
    choose(zone, tmp_path / "photos")
    zone.locator(".what", has_text="Uploading").wait_for()
    assert any(name in zone.locator(".what").inner_text() for name in (HOSTILE, "a#b%20c 'q' \"d\" 蜂"))
    server.free = 10
    said(zone, "2 files uploaded.")
    until(lambda: server.arrived)
    assert zone.locator("img").count() == 0
    assert server.tree() == {f"photos/{name}": content for name, content in tree(tmp_path / "photos").items()}


def many(folder: Path, n: int) -> Path:
    (folder / "bees").mkdir(parents=True)
    for i in range(n):
        (folder / "bees" / f"{i:03d}.jpg").write_bytes(f"{i}".encode())
    return folder


def test_cancel_ends_the_upload_and_keeps_nothing(zone, server, tmp_path):
    folder = many(tmp_path / "photos", 250)
    server.free = 1
    choose(zone, folder)
    until(lambda: server.seen == 2)
    assert "of 250 files · bees" in zone.locator(".what").inner_text()
    assert zone.locator("button.folder").is_hidden()
    zone.get_by_role("button", name="Cancel").click()
    said(zone, "Cancelled. Nothing was kept.")
    server.free = 10**9
    until(lambda: not any(files for _, _, files in os.walk(server.uploads)))
    assert not server.arrived
    choose(zone, folder)
    said(zone, "250 files uploaded.")
    until(lambda: server.arrived)
    assert len(server.tree()) == 250


def test_a_refused_upload_shows_a_sentence_and_can_be_tried_again(zone, server, tmp_path):
    folder = many(tmp_path / "photos", 3)
    for status, sentence in [(503, "refused the upload (status 503)"), (401, "password"), (413, "larger than the app")]:
        server.status = status
        choose(zone, folder)
        said(zone, sentence)
    assert not server.arrived
    server.status = 0
    choose(zone, folder)
    said(zone, "3 files uploaded.")
    until(lambda: server.arrived)


def test_a_lost_connection_shows_a_sentence(zone, server, tmp_path):
    zone.page.route("**/upload", lambda route: route.abort())
    drop_on(zone, many(tmp_path / "photos", 3))
    said(zone, "The connection to the app was lost.")
    assert not server.arrived


def test_a_zip_beyond_the_servers_limit_is_told(zone, server, tmp_path):
    with open(tmp_path / "big.zip", "wb") as file:
        file.truncate(40 * 2**20)
    choose(zone, tmp_path / "big.zip")
    said(zone, "big.zip is larger than the app accepts")
    assert not server.arrived


def test_files_that_vanish_meanwhile_are_named(zone, server, tmp_path):
    folder = many(tmp_path / "photos", 150)
    server.free = 0
    choose(zone, folder)
    until(lambda: server.seen == 1)
    for path in (folder / "bees").iterdir():
        path.unlink()
    server.free = 10**9
    zone.locator(".said", has_text="uploaded.").wait_for()
    until(lambda: server.arrived)
    vanished = server.arrived[0][1]
    assert len(vanished) >= 50  # of the second batch at least
    assert len(server.tree()) + len(vanished) == 150
    assert {s.reason for s in vanished} == {"changed or vanished during the upload"}


def test_the_zone_is_reached_and_used_by_keyboard(zone):
    page = zone.page
    page.on("filechooser", lambda chooser: None)  # from now on choosers are caught, not only once one is waited for
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Choose a folder":
            break
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    assert chooser.value.is_multiple()
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    assert not chooser.value.is_multiple()


def test_a_drop_beside_the_zone_keeps_the_page(zone, tmp_path):
    page, name = zone.page, zone.page.url
    page.evaluate("document.querySelector('#zone').style.marginTop = '200px'")
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(photo(tmp_path / "x.png", (0, 0, 0), 1))], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 5, "y": 5, "data": data})
    zone.locator("button.folder").wait_for()
    assert page.url == name


def test_a_phone_needs_no_sideways_scrolling(zone):
    zone.page.set_viewport_size({"width": 390, "height": 800})
    assert zone.page.evaluate("document.documentElement.scrollWidth") == 390
    assert zone.locator("button.folder").bounding_box()["y"] == zone.locator("button.files").bounding_box()["y"]
