"""What the trials that press the served page share: the server in a process of its own, and clients that do over HTTP
what a page or a program does.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks._common import ROOT, Row

API = "gradio_api"
PATIENCE = 300.0
"""Seconds after which an answer counts as one that never came."""


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The server said no. `sentence`: what it said; `status`: of HTTP."""

    def __init__(self, sentence: str, status: int = 200) -> None:
        super().__init__(sentence)
        self.sentence, self.status = sentence, status

    @property
    def is_polite(self) -> bool:
        """Whether it is a sentence that a person can use, not a fault of the program."""
        is_status = self.status in (200, 429, 500, 503)  # Gradio gives a handler's own refusal 500
        return is_status and bool(self.sentence) and not any(word in self.sentence for word in FAULTS)


FAULTS = ("Traceback", "fault of the program", "Internal Server Error")


@dataclass
class Server:
    """A served page in a process of its own."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def look(self) -> Row:
        """Threads, open files, children, memory in MB, files of uploads and photos on their way in."""
        proc = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        rollup = (proc / "smaps_rollup").read_text().splitlines()
        pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        children = [
            (task / "children").read_text().split()
            for task in (proc / "task").iterdir()
            if (task / "children").exists()
        ]
        sizes = [size for part in ("uploads", "incoming") for size in _sizes(self.home / part)]
        return {
            "threads": int(status["Threads"]), "files_open": len(os.listdir(proc / "fd")),
            "children": sum(map(len, children)), "rss": int(status["VmRSS"].split()[0]) / 1024, "pss": pss / 1024,
            "uploads": len(sizes), "uploads_mb": sum(sizes) / 2**20,
        }  # fmt: skip

    def cpu_seconds(self) -> float:
        """Seconds of the processor that the server has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sizes(folder: Path) -> list[int]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                found.append(path.stat().st_size)
    return found


@contextlib.contextmanager
def serving(home: Path | None = None) -> Iterator[Server]:
    """`tlapp serve` on a free port, with a workspace of its own; ended with the context."""
    with tempfile.TemporaryDirectory(prefix="tlapp-trial-") as made:
        place = home or Path(made) / "home"
        environment = {**os.environ, "TLAPP_HOME": str(place), "TLAPP_OFFLINE": "1"}
        command = [sys.executable, "-m", "tlapp.cli", "serve", "--port", "0", "--no-browser", "--json"]
        with open(Path(made) / "said.txt", "w") as said:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=said, text=True
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                sys.exit(f"The server did not start:\n{(Path(made) / 'said.txt').read_text()[-2000:]}")
            yield Server(json.loads(line)["url"], place, process)
            text = (Path(made) / "said.txt").read_text()
            if "Traceback" in text:
                print(f"The server printed a traceback:\n{text[-4000:]}", file=sys.stderr)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass
class Client:
    """One program or one browser tab: a session of its own. Raises Refused where the server refuses."""

    url: str
    session: str = field(default_factory=lambda: secrets.token_hex(5))

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def close(self) -> None:
        """Give the connections back."""
        self.http.close()

    def upload(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        """Send files as the page does; the payloads that stand for them."""
        with contextlib.ExitStack() as stack:
            parts = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in files]
            paths = _answer(self.http.post(f"{API}/upload", files=parts))
        return [
            {"path": path, "orig_name": file.name, "meta": {"_type": "gradio.FileData"}}
            for path, file in zip(paths, files, strict=True)
        ]

    def break_off(self, content: bytes) -> None:
        """Begin an upload, and hang up in its middle."""
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'

        def half() -> Iterator[bytes]:
            yield head + content
            raise ConnectionAbortedError

        with contextlib.suppress(ConnectionAbortedError, httpx.HTTPError):
            length = str(len(head) + 2 * len(content))
            headers = {"content-type": "multipart/form-data; boundary=x", "content-length": length}
            self.http.post(f"{API}/upload", content=half(), headers=headers)

    def call(self, endpoint: str, *given: Any) -> Any:
        """Ask an endpoint of docs/api.md."""
        event = _answer(self.http.post(f"{API}/call/{endpoint}", json={"data": given}))["event_id"]
        kind = ""
        with self.http.stream("GET", f"{API}/call/{endpoint}/{event}") as answer:
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "complete":
                    said = json.loads(value)
                    return said[0] if len(said) == 1 else said
                elif name == "data" and kind == "error":
                    raise Refused(_sentence(value))
        raise Refused("")

    def run(self, function: dict[str, Any], given: Sequence[Any], event: dict[str, Any] | None = None) -> list[Any]:
        """Have one of the page's handlers run that are not queued."""
        asked = {"data": given, "fn_index": function["id"], "session_hash": self.session, "event_data": event}
        data: list[Any] = _answer(self.http.post(f"{API}/run/predict", json=asked))["data"]
        return data

    def queue(self, function: dict[str, Any], given: Sequence[Any]) -> list[Any]:
        """Have one of the page's queued handlers run to its end; what it said last."""
        asked = {"data": given, "fn_index": function["id"], "session_hash": self.session}
        event = _answer(self.http.post(f"{API}/queue/join", json=asked))["event_id"]
        last: list[Any] = []
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.partition("data:")[2] or "{}")
                if message.get("event_id") not in (event, None):
                    continue
                if message.get("msg") == "process_generating" and isinstance(message["output"].get("data"), list):
                    last = message["output"]["data"]
                elif message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise Refused(_sentence(json.dumps(message["output"])))
                    return message["output"].get("data") or last
                elif message.get("msg") in ("unexpected_error", "close_stream", "queue_full"):
                    raise Refused(str(message.get("message") or message["msg"]))
        raise Refused("")


def _answer(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        raise Refused(_sentence(answer.text), answer.status_code)
    return answer.json()


def _sentence(text: str) -> str:
    """What an answer of Gradio says, whatever it is wrapped in."""
    try:
        said = json.loads(text)
    except ValueError:
        return text
    if isinstance(said, dict):
        said = said.get("error") or said.get("detail") or said
    if isinstance(said, dict):
        said = said.get("error") or said
    return said if isinstance(said, str) else json.dumps(said)


class Page:
    """What a browser tab would ask for, over HTTP: its handlers by the widget that sets them off."""

    def __init__(self, url: str) -> None:
        self.client = Client(url)
        config = self.client.http.get("config").json()
        self._widgets = {one["id"]: one for one in config["components"]}
        self._functions = config["dependencies"]
        self.dataset, self.run = "", ""

    def close(self) -> None:
        """Leave the page."""
        self.client.close()

    def handlers(self, event: str, elem_id: str = "") -> list[dict[str, Any]]:
        """The handlers of the server's that this event of the widget, or tab, sets off, in the page's order."""

        def is_meant(target: int) -> bool:
            props = self._widgets[target]["props"] if elem_id else {}
            return not elem_id or elem_id in (props.get("elem_id"), props.get("id"))

        return [
            function for function in self._functions if function["backend_fn"]
            for target, name in function["targets"] if name == event and is_meant(target)
        ]  # fmt: skip

    @property
    def tick(self) -> dict[str, Any]:
        """The handler by which a tab follows a run."""
        return next(one for one in self.handlers("tick") if len(one["inputs"]) == 2)

    def values(self, function: dict[str, Any], **typed: Any) -> list[Any]:
        """What the page would send: its two ids, what was typed, else what stands there from the beginning."""
        given = []
        for number in function["inputs"]:
            widget = self._widgets[number]
            name = str(widget["props"].get("elem_id") or "").replace("-", "_")
            if widget["type"] == "browserstate":
                given.append(self.run if widget["props"]["storage_key"] == "tlapp-run" else self.dataset)
            elif widget["type"] == "state":
                given.append(None)
            else:
                given.append(typed.get(name, widget["props"].get("value")))
        return given

    def open(self) -> None:
        """Load the page with what it asks for at once."""
        self.client.http.get("").raise_for_status()
        for function in self.handlers("load"):
            self.client.run(function, self.values(function))

    def follow(self) -> list[Any]:
        """One tick of the timer."""
        return self.client.run(self.tick, self.values(self.tick))

    def read(self, path: Path) -> str:
        """Type a path and have it read; remembers its id. What the page says, where it could not be read."""
        function = self.handlers("click", "read-path")[0]
        answer = self.client.queue(function, self.values(function, path=str(path)))
        if isinstance(answer[0], str):
            self.dataset = answer[0]
            return ""
        return str(answer[1])

    def ask(self, event: str, elem_id: str, chosen: str = "", about: dict[str, Any] | None = None) -> list[Any]:
        """Set off the first handler of the widget's; `chosen` stands in the texts that nobody sees."""
        function = self.handlers(event, elem_id)[0]
        given = self.values(function)
        if chosen:
            given = [chosen, *given[1:]]
        return self.client.run(function, given, about)


def photos(data: Path) -> Path:
    """The folder of photos that a trial uses: the shared flowers, else a drawn demo set."""
    if (data / "flowers-400").is_dir():
        return data / "flowers-400"
    from tlapp import demo

    return demo.make(Path(tempfile.mkdtemp(prefix="tlapp-demo-")))


def wait_for_run(client: Client, run: str, seconds: float = 600) -> dict[str, Any]:
    """The status of a run once it has ended."""
    deadline = time.monotonic() + seconds
    while (status := client.call("run_status", run))["state"] == "running":
        if time.monotonic() > deadline:
            raise TimeoutError(f"run {run} did not end")
        time.sleep(0.2)
    return dict(status)


def growth(rows: Sequence[Row], name: str, start: float = 0.0) -> float:
    """Part by which a measure grew from `start` minutes on to the end, along a line through it (Theil and Sen)."""
    points = [(row["minute"], row[name]) for row in rows if row["minute"] >= start]
    slopes = sorted((b - a) / (u - t) for i, (t, a) in enumerate(points) for u, b in points[i + 1 :] if u > t)
    if not slopes:
        return 0.0
    slope = slopes[len(slopes) // 2]
    level = sorted(value - slope * t for t, value in points)[len(points) // 2]
    begin = level + slope * points[0][0]
    return slope * (points[-1][0] - points[0][0]) / begin if begin else 0.0
