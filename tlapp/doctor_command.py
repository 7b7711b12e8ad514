"""What `tlapp doctor` prints: what was found, a verdict, and what to attach to a report.

Takes the parsed options and returns its exit code: 1 where something needs the person.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from tlapp import doctor, journal
from tlapp.doctor import Checkup, Machine
from tlapp.errors import printable

MOST_SHOWN = 10


def examine(options: argparse.Namespace) -> int:
    """Look at everything, and say it."""
    found = doctor.examine(deep=options.deep)
    if options.json:
        print(json.dumps(found.to_dict()))
    else:
        for line in (*_machine(found.machine), *_workspace(found), *_verdict(found, options.deep)):
            print(printable(line))
    return 1 if found.needs else 0


def _machine(machine: Machine) -> Iterator[str]:
    yield f"tlapp {machine.tlapp}, Python {machine.python}, {machine.platform}"
    yield ", ".join(f"{name} {version or 'missing'}" for name, version in machine.packages.items())
    threads = f"{machine.threads} thread{'s' if machine.threads != 1 else ''}" if machine.threads else "unknown threads"
    yield f"Processor: {threads}{_memory(machine.memory_free, machine.memory_total)}"
    gpu = f"{machine.gpu}{_memory(machine.gpu_free, machine.gpu_total)}" if machine.gpu else "none that torch can use"
    yield f"GPU: {gpu}"
    yield f"Set in the environment: {', '.join(machine.environment) or 'nothing that matters'}"


def _memory(free: float | None, total: float | None) -> str:
    if total is None:
        return ""
    return f", {total:,.0f} MB memory" + ("" if free is None else f", {free:,.0f} of them free")


def _workspace(found: Checkup) -> Iterator[str]:
    yield f"Weights: {', '.join(f'{name} {state}' for name, state in found.weights.items())}"
    free = "" if found.free_megabytes is None else f", {found.free_megabytes:,.0f} MB free"
    there = "" if found.exists else ", not made yet"
    yield f"Workspace: {found.path}{there}{'' if found.writable else ', not writable'}{free}"
    for part in found.parts:
        yield f"  {part.kind:<12}{part.count:>6}  {part.files:>7} files {part.megabytes:>11,.1f} MB"
    for kind, every in (("run", found.runs), ("dataset", found.datasets)):
        states = [one.state for one in every]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        yield f"{kind.capitalize()}s: {counts or 'none'}"
    yield from _listed("Datasets that no run learned from", found.unused_datasets)
    yield from _listed("Runs whose photos are not here, which cannot be resumed or explained", found.without_photos)
    yield from _listed("Left by processes that were ended, and removed by itself", found.leftovers)
    yield from _listed(
        "Locks held",
        tuple(f"{one.lock} by process {one.process or 'unknown'}" + (f" ({one.command})" if one.command else "")
              for one in found.locks),
    )  # fmt: skip
    yield f"Log: {found.log}{' (off, by TLAPP_LOG)' if journal.is_off() else ''}"
    yield from (f"  {fault['time']}  {fault['said']}" for fault in found.faults)


def _listed(title: str, names: tuple[str, ...]) -> Iterator[str]:
    if names:
        more = f", and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
        yield f"{title}: {', '.join(names[:MOST_SHOWN])}{more}"


def _verdict(found: Checkup, deep: bool) -> Iterator[str]:
    yield ""
    if not found.needs:
        yield "All is well." if deep else "All is well, as far as can be seen; --deep also hashes the models."
    else:
        n = len(found.needs)
        yield "1 thing needs you:" if n == 1 else f"{n} things need you:"
        yield from (f"  {i}. {need.what} {need.do}" for i, need in enumerate(found.needs[:MOST_SHOWN], 1))
        if n > MOST_SHOWN:
            yield f"  And {n - MOST_SHOWN} more: tlapp doctor --json"
    yield (
        f"To report a fault, attach {found.log} and what `tlapp doctor --json` prints. Neither holds photos; they hold "
        "paths of this machine, so look through them before you send them."
    )
