"""Classify photos with the model beside this file. Needs onnxruntime, Pillow and NumPy; see requirements.txt.

    python predict.py PHOTO… [--json] [--int8]

Prints for each photo the class, how sure the model is, and the file; a photo of which no class may be right is
"none of these". With --json, a list with `file`, `label`, `probability`, `probabilities`, `unknown`, `strangeness`,
or `file` and `error`. Ends with 1 if a photo could not be read. With --int8, the INT8 model answers, if it is here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; its builds report to their maker unless told so
try:
    import numpy as np
    import onnxruntime
    import PIL  # noqa: F401
except ImportError as error:
    sys.exit(f"{error.name} is missing. Beside this file: pip install -r requirements.txt")
from pictures import PictureError, centre, letterboxed, load

HERE = Path(__file__).resolve().parent
NONE = "none of these"
PRECISE = ("session.x64quantprecision", "1")
"""The option of ONNX Runtime with which sums of INT8 products do not overflow; it takes twice the time."""


def may_overflow() -> bool:
    """Whether sums of INT8 products may overflow here: on x86, where nothing says that the processor has VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True


class Model:
    """The model of this folder, with what its own metadata says of it."""

    def __init__(self, path: Path = HERE / "model.onnx") -> None:
        options = onnxruntime.SessionOptions()
        if may_overflow():
            options.add_session_config_entry(*PRECISE)
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        told = self.session.get_modelmeta().custom_metadata_map
        self.classes: list[str] = json.loads(told["classes"])
        self.view = json.loads(told["preprocess"])
        self.keep = float(told["keep"])

    def pixels(self, photo: bytes) -> np.ndarray:
        """A photo's bytes → what the model looks at: uint8 (side, side, 3), RGB."""
        view, whole = self.view, load(photo)
        if view["framing"] == "letterbox":
            return letterboxed(whole, view["side"], view["interpolation"])
        return centre(whole, view["resize"], view["side"], view["interpolation"])

    def predict(self, photo: bytes) -> dict[str, Any]:
        """The answer for a photo's bytes. Raises PictureError."""
        names = [output.name for output in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(None, {"pixels": self.pixels(photo)[None]}), strict=True))
        row = found["probabilities"][0].tolist()
        best = max(range(len(row)), key=row.__getitem__)
        strangeness = float(found["strangeness"][0]) if "strangeness" in found else None
        return {
            "label": self.classes[best], "probability": row[best],
            "probabilities": dict(zip(self.classes, row, strict=True)),
            "unknown": None if strangeness is None else strangeness > self.keep, "strangeness": strangeness,
        }  # fmt: skip


def percent(share: float) -> str:
    """A share of 1 as whole per cent; 100 only where it is all."""
    return f"{100 if share == 1 else min(99, round(100 * share))} %"


def answer(model: Model, file: str) -> dict[str, Any]:
    """As `Model.predict`, of a file; what is wrong with it is said in `error`."""
    try:
        return {"file": file, **model.predict(Path(file).read_bytes())}
    except PictureError as error:
        return {"file": file, "error": f"{file} {error}."}
    except OSError as error:
        return {"file": file, "error": f"{file} cannot be read ({error.strerror})."}


def main() -> int:
    """Answer for the photos that the command line names."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("photos", nargs="+", metavar="PHOTO")
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    parser.add_argument("--int8", action="store_true", help="ask model.int8.onnx: smaller, see MODEL_CARD.md")
    options = parser.parse_args()
    path = HERE / ("model.int8.onnx" if options.int8 else "model.onnx")
    if not path.is_file():
        parser.error(f"there is no {path.name} in this folder; `tlapp export RUN --to DIR --int8` makes it")
    model = Model(path)
    answers = [answer(model, file) for file in options.photos]
    if options.json:
        print(json.dumps(answers))
    for one in answers:
        if "error" in one:
            print(ascii(one["error"])[1:-1], file=sys.stderr)
        elif not options.json:
            said = f"{NONE}, nearest is {one['label']}" if one["unknown"] else one["label"]
            print(f"{said}  {percent(one['probability'])}  {one['file']}")
    return 1 if any("error" in one for one in answers) else 0


if __name__ == "__main__":
    sys.exit(main())
