"""Model names: the task of each, the file names of its weights, and the architectures that are shipped."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

#: Suffixes of model names and the task of each; other tasks are listed so that a mismatch can be reported.
TASK_SUFFIXES = {
    "-seg": "segmentation",
    "-cls": "classification",
    "-pose": "pose",
    "-obb": "oriented detection",
    "-sem": "semantic segmentation",
    "-depth": "depth",
}

#: Names of the library's detector family: yolo11n, yolov8x-seg, yolov5nu, yolov3-tiny, yolo26n-p2, yolov9c, yolov10b.
_NAME = re.compile(r"yolov?(?P<version>\d+)(?P<scale>[nsmlxtbce]?)u?(?P<variant>(-[a-z0-9]+)*)")

#: Variants that need more than boxes, or another training loop.
_OTHER_TRAINING = ("-world", "-worldv2", "-rtdetr")


def model_task(model: str) -> str | None:
    """The task of a bare model or YAML name, or None if the name does not show it (a path, a URI, another family)."""
    variant = _variant(model)
    if variant is None:
        return None
    for suffix, task in TASK_SUFFIXES.items():
        if suffix in variant:
            return task
    return "detection"


def stride(model: str) -> int:
    """The number that ``imgsz`` must be a multiple of, as far as the name shows it: P6 models have one more scale."""
    return 64 if "-p6" in (_variant(model) or "") or re.match(r"yolov5[nsmlx]6", model) else 32


def weights_names(model: str) -> tuple[str, ...]:
    """File names that a bare model name's weights may have; empty for a YAML name, a path or a URI."""
    if "/" in model or model.endswith((".yaml", ".yml")):
        return ()
    stem = model.removesuffix(".pt")
    # The library's own YOLOv5 and v3 weights carry a u; those without come from another code base and don't load.
    if re.fullmatch(r"yolov5[nsmlx]6?|yolov3(-tiny|-spp)?", stem):
        stem += "u"
    return (f"{stem}.pt",)


def is_architecture(model: str) -> bool:
    """Whether ``model`` is the YAML name of an architecture that the installed library ships and trains in this way.

    If the library is not installed, only the spelling is checked.
    """
    stem, dot, suffix = model.rpartition(".")
    if not dot or suffix not in ("yaml", "yml") or _variant(model) is None:
        return False
    shipped = _shipped()
    # One file serves all scales of an architecture: the one of yolo11n-seg.yaml is yolo11-seg.yaml.
    return not shipped or stem in shipped or re.sub(r"(\d+)[nslmx](.*)", r"\1\2", stem) in shipped


def _variant(model: str) -> str | None:
    match = _NAME.fullmatch(re.sub(r"\.(pt|yaml|yml)$", "", model))
    if match is None or match["variant"] in _OTHER_TRAINING:
        return None
    return match["variant"]


@functools.cache
def _shipped() -> frozenset[str]:
    """Stems of the YAML files in the installed library, found without importing it."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    models = Path(next(iter(spec.submodule_search_locations))) / "cfg" / "models"
    return frozenset(path.stem for path in models.rglob("*.yaml"))
