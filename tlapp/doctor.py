"""What of the install, the machine and the workspace is well, and what needs the person.

Only looks: it writes nothing, takes no lock and makes no workspace, so that may be broken, read-only or missing. Torch
is tried in a process of its own, as a broken one may take its process along. `holdings` looks into the workspace.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tlapp import __version__, catalog, holdings, journal, runs, workspace
from tlapp.errors import UserError, WeightsError, explain_oserror, printable
from tlapp.holdings import Held, One, Part
from tlapp.runs import Run

PACKAGES = (
    "torch", "torchvision", "timm", "gradio", "pillow", "numpy", "matplotlib", "safetensors", "onnx", "onnxruntime",
    "platformdirs", "filelock", "pydantic", "starlette",
)  # fmt: skip
MOST_FAULTS, FAULT_SECONDS = 5, 24 * 3600
LEAST_FREE_BYTES = 1e9
LOAD_SECONDS, AHEAD_SECONDS = 120, 3600
_OF_ENVIRONMENT = (
    "TORCH_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
)  # fmt: skip
_AGAIN = "Install tlapp again: pip install --force-reinstall tlapp."
_PROBE = """
import json, torch, torchvision, timm
said = {"threads": torch.get_num_threads(), "gpu": None, "gpu_free": None, "gpu_total": None}
if torch.cuda.is_available():
    free, total = torch.cuda.mem_get_info()
    said |= {"gpu": torch.cuda.get_device_name(), "gpu_free": free / 1e6, "gpu_total": total / 1e6}
elif torch.backends.mps.is_available():
    said["gpu"] = "Apple GPU (MPS)"
print(json.dumps(said))
"""


@dataclass(frozen=True)
class Need:
    """Something that needs the person, each a sentence: what it is, and what to do."""

    what: str
    do: str


@dataclass(frozen=True)
class Machine:
    """What it runs on, and with what. Memory in MB; None where it cannot be told cheaply."""

    tlapp: str
    python: str
    platform: str
    packages: dict[str, str | None]
    loads: bool
    threads: int | None
    gpu: str | None
    gpu_free: float | None
    gpu_total: float | None
    memory_free: float | None
    memory_total: float | None
    environment: tuple[str, ...]


@dataclass(frozen=True)
class Checkup:
    """All that was found.

    Attributes:
        without_photos: runs whose photos are not here: these cannot be resumed or explained.
        leftovers: what killed processes left, which goes by itself.
    """

    machine: Machine
    weights: dict[str, str]
    path: str
    exists: bool
    writable: bool
    free_megabytes: float | None
    parts: tuple[Part, ...]
    runs: tuple[One, ...]
    datasets: tuple[One, ...]
    unused_datasets: tuple[str, ...]
    without_photos: tuple[str, ...]
    leftovers: tuple[str, ...]
    locks: tuple[Held, ...]
    log: str
    faults: tuple[dict[str, str], ...]
    needs: tuple[Need, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, every text safe to show."""
        return _safe({"healthy": not self.needs, **dataclasses.asdict(self)})


def examine(home: Path | None = None, deep: bool = False) -> Checkup:
    """Look at everything. `deep`: hash every model. Whatever it finds, it raises nothing.

    `home`: the workspace; default that of `TLAPP_HOME`.
    """
    needs: list[Need] = []
    with _probing() as probe:
        try:
            home = home or workspace.place()
        except UserError as error:
            needs.append(Need(str(error), "Set TLAPP_HOME to a folder that you may write to."))
        exists, writable, free = _place(home, needs) if home else (False, False, None)
        home = home or Path(os.devnull)  # where nothing lies
        kept = list(holdings.all_runs(home, deep)) if exists else []
        read, used = list(holdings.all_datasets(home)) if exists else [], {dataset for _, dataset in kept}
        there = {one.id for one, _ in read}
        used |= holdings.used_in_trash(home) | {original for _, original in read}
        lines = journal.recent(home)
        faults = [_of_fault(line) for line in lines if line["event"] == "fault"]
        found = Checkup(
            _machine(probe, needs), _weights(needs), str(home), exists, writable, free,
            parts=tuple(holdings.parts(home)) if exists else (),
            runs=tuple(one for one, _ in kept),
            datasets=tuple(one for one, _ in read),
            unused_datasets=tuple(one.id for one, _ in read if one.id not in used),
            without_photos=tuple(one.id for one, dataset in kept if dataset and dataset not in there),
            leftovers=tuple(holdings.leftovers(home)) if exists else (),
            locks=tuple(holdings.locks(home, lines)) if exists else (),
            log=str(journal.path(home)), faults=tuple(faults[-MOST_FAULTS:]), needs=(),
        )  # fmt: skip
    needs += [
        Need(one.error, f"If you no longer want it: tlapp runs remove {one.id}.") for one in found.runs if one.error
    ]
    needs += _of_datasets(found, used)
    needs += _of_time(home, lines, faults)
    return dataclasses.replace(found, needs=tuple(needs))


# --- the machine


@contextlib.contextmanager
def _probing() -> Iterator[subprocess.Popen[str] | None]:
    """Meanwhile a process tries torch."""
    try:
        probe = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROBE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
    except OSError:
        yield None
        return
    try:
        yield probe
    finally:
        probe.kill()
        probe.communicate()


def _machine(probe: subprocess.Popen[str] | None, needs: list[Need]) -> Machine:
    packages = {name: _version(name) for name in PACKAGES}
    for name in (name for name, version in packages.items() if version is None):
        needs.append(Need(f"The package {name} is missing.", _AGAIN))
    said: dict[str, Any] = {}
    try:
        out, err = probe.communicate(timeout=LOAD_SECONDS) if probe else ("", "no process could be started")
        if probe and probe.returncode == 0:
            said = json.loads(out.splitlines()[-1])
        else:
            code = f"it ended with code {probe.returncode}" if probe else ""
            last = err.strip().splitlines()[-1][:300] if err.strip() else code
            needs.append(Need(f"torch, torchvision or timm cannot be loaded: {printable(last).rstrip('.')}.", _AGAIN))
    except (OSError, ValueError, LookupError, subprocess.TimeoutExpired):
        needs.append(Need(f"torch did not load within {LOAD_SECONDS} s.", "Close other programs and try again."))
    memory = _memory()
    return Machine(
        __version__, platform.python_version(), platform.platform(), packages, bool(said), said.get("threads"),
        said.get("gpu"), said.get("gpu_free"), said.get("gpu_total"), memory.get("MemAvailable"),
        memory.get("MemTotal"), tuple(sorted(filter(_matters, os.environ))),
    )  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, OSError, KeyError):
        return None


def _matters(name: str) -> bool:
    return name in _OF_ENVIRONMENT or name.startswith(("TLAPP_", "GRADIO_")) or name.lower().endswith("_proxy")


def _memory() -> dict[str, float]:
    """Linux's own account, in MB; elsewhere the total where the system tells it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return {"MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6}
    return {}


def _weights(needs: list[Need]) -> dict[str, str]:
    """Of each backbone: "whole", "not here" or "damaged"."""
    found = {}
    for backbone in catalog.BACKBONES.values():
        try:
            here = catalog.weights_path(backbone).is_file()
            if here:
                catalog.check_weights(backbone)
            found[backbone.name] = "whole" if here else "not here"
            if backbone.included and not here:
                needs.append(Need(f"The weights of {backbone.title}, which are included, are missing.", _AGAIN))
        except WeightsError as error:
            found[backbone.name] = "damaged"
            needs.append(Need(error.what, error.remedy or _AGAIN))
        except (OSError, RuntimeError) as error:
            found[backbone.name] = "damaged"
            what = explain_oserror(error) if isinstance(error, OSError) else f"{error}."
            needs.append(Need(f"The weights of {backbone.title} cannot be read. {what}", "Check the path."))
    return found


# --- the workspace


def _place(home: Path, needs: list[Need]) -> tuple[bool, bool, float | None]:
    """Whether it exists, whether it may be written to, and free space in MB."""
    nearest = next((folder for folder in (home, *home.parents) if folder.exists()), Path("/"))
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    free = None
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(nearest)
        free = usage.free if usage.total else None  # of some network disks nothing is told
        if not usage.total and not home.exists():  # such as in /proc, which takes no files whatever one's rights are
            what = (
                f"The workspace {printable(str(home))} is not there, and {printable(str(nearest))} tells of no space."
            )
            needs.append(Need(what, "If it cannot be made there, set TLAPP_HOME to a folder on a disk."))
            return False, writable, None
    if not writable:
        what = f"The workspace {printable(str(home))} cannot be written to."
        needs.append(Need(what, "Give yourself the right to, or set TLAPP_HOME to a folder that you may write to."))
    elif (log := journal.path(home)).exists() and not (log.is_file() and os.access(log, os.W_OK)):
        what = f"The log {printable(str(log))} cannot be written to, so faults leave no details."
        needs.append(Need(what, "Move it elsewhere, or give yourself the right to write to it."))
    if free is None:
        return home.is_dir(), writable, None
    if free < LEAST_FREE_BYTES:
        what = f"Only {free / 1e6:,.0f} MB are free where the workspace is."
        needs.append(Need(what, "Free some space, or set TLAPP_HOME to a folder on a larger disk."))
    return home.is_dir(), writable, free / 1e6


def _of_datasets(found: Checkup, used: set[str]) -> Iterator[Need]:
    for one in found.datasets:
        if one.error:
            needed = "Runs that learned from it cannot be resumed or exported until then."
            yield Need(one.error, needed if one.id in used else "No run learned from it, so its folder may be deleted.")


# --- faults and the clock


def _of_fault(line: dict[str, Any]) -> dict[str, str]:
    said = str(line.get("traceback", "")).strip().splitlines()
    where = str(line.get("run") or line.get("where") or "")
    return {"time": str(line.get("time", "")), "said": said[-1][:300] if said else "", "where": where}


def _of_time(home: Path, lines: list[dict[str, Any]], faults: list[dict[str, str]]) -> Iterator[Need]:
    now = time.time()
    iso = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - FAULT_SECONDS))
    if late := [fault for fault in faults if fault["time"] > iso]:
        often = "once" if len(late) == 1 else f"{len(late)} times"
        yield Need(
            f"The program failed {often} in the last day: {late[-1]['said'].rstrip('.')}.", "Report it, as below."
        )
    newest = 0.0
    for path in (journal.path(home), *(run.path / "plan.json" for run in _last_runs(home))):
        with contextlib.suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    if newest > now + AHEAD_SECONDS:
        today, then = (time.strftime("%Y-%m-%d %H:%M", time.localtime(when)) for when in (now, newest))
        yield Need(f"This machine's clock says {today}, but files of the workspace are of {then}.", "Set the clock.")


def _last_runs(home: Path) -> Iterable[Run]:
    with contextlib.suppress(OSError):
        return runs.all_runs(home)[-20:]
    return ()


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_safe(key): _safe(one) for key, one in value.items()}
    return [_safe(one) for one in value] if isinstance(value, list | tuple) else value
