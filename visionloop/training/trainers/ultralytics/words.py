"""Words that people bring from ``yolo train`` and that are not settings here, each with what to do instead.

`docs/configuration.md` shows the two tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from visionloop.training.devices import CPU, device_name

_LEAVE_OUT = "leave it out"
_OTHER_MODE = f"it belongs to the library's prediction, tracking or export, not to training: {_LEAVE_OUT}"
_NOT_HERE = f"this version does not train with it: {_LEAVE_OUT}"
_OTHER_TASK = f"it is of a task that is not trained here: {_LEAVE_OUT}"

#: The library's words for training, and what to do instead.
WORDS: dict[str, str] = {
    "resume": "a training resumes by itself from its last checkpoint when the same run is started again: leave it out",
    "save_period": f"the checkpoint of each epoch is kept until the training has ended: {_LEAVE_OUT}",
    "save": f"the checkpoint of each epoch is kept until the training has ended: {_LEAVE_OUT}",
    "classes": "choose classes by name with --classes, or give single_cls to train all as one",
    "data": "the dataset is named by --dataset: leave it out",
    "fraction": "choose a part of the images with --where",
    "split": "validation is on val and evaluation on test: divide the images by --split",
    "val": f"each epoch is validated, because that decides which one is the best: {_LEAVE_OUT}",
    "time": "the limit of a training's time is the policy's: give epochs",
    "project": "results lie under --workspace: leave it out",
    "name": "name the run by --run-name",
    "exist_ok": f"a result is found by its key and never overwritten: {_LEAVE_OUT}",
    "task": "the task is given by --task",
    "mode": f"a training is all that these settings are for: {_LEAVE_OUT}",
    "cfg": "give each setting by --set, or all of them as JSON in the variable CONFIG",
    "hyp": "give each setting by --set, or all of them as JSON in the variable CONFIG",
    "weights": "starting weights are the setting model",
    "img": "the size of the input is the setting imgsz",
    "img_size": "the size of the input is the setting imgsz",
    "half": "mixed precision is the setting amp",
    "verbose": "VISIONLOOP_LOG_LEVEL decides how much is logged",
    "plots": f"a training always draws its plots: {_LEAVE_OUT}",
    "label_smoothing": f"the library has none any more: {_LEAVE_OUT}",
    "cls_remap": _NOT_HERE,
    "compile": _NOT_HERE,
    "channels_last": _NOT_HERE,
    "distill_model": _NOT_HERE,
    "dis": _NOT_HERE,
    "profile": _NOT_HERE,
    "copy_paste_mode": _NOT_HERE,
    "rle": _NOT_HERE,
    **dict.fromkeys(("angle", "dlog", "dgrad", "dlam"), _OTHER_TASK),
    **dict.fromkeys(
        (
            "agnostic_nms",
            "dnn",
            "dynamic",
            "embed",
            "end2end",
            "format",
            "int8",
            "keras",
            "line_width",
            "opset",
            "optimize",
            "quantize",
            "retina_masks",
            "save_conf",
            "save_crop",
            "save_frames",
            "save_json",
            "save_txt",
            "show",
            "show_boxes",
            "show_conf",
            "show_labels",
            "simplify",
            "source",
            "stream_buffer",
            "tracker",
            "vid_stride",
            "visualize",
            "workspace",
        ),
        _OTHER_MODE,
    ),
}


@dataclass(frozen=True)
class ForeignValue:
    """A value of a setting that the library takes and Visionloop does not.

    ``examples`` are as people write them; ``matches`` says whether a value, as text without blanks, is one.
    """

    setting: str
    examples: tuple[str, ...]
    advice: str
    matches: Callable[[str], bool]


def _is_list(text: str) -> bool:
    return text[:1] in ("[", "(") or "," in text


#: The library's values that have no meaning here, and what to do instead.
VALUES: tuple[ForeignValue, ...] = (
    ForeignValue(
        "batch",
        ("batch=-1", "batch=0.8"),
        "the batch that fits is not searched for: give a whole number such as 16; where the GPU's memory runs out, the next attempt takes half of it",
        lambda text: bool(re.fullmatch(r"-1(\.0*)?|0?\.\d*[1-9]\d*", text)),
    ),
    ForeignValue(
        "imgsz",
        ("imgsz=[640,480]",),
        "the input is a square: give the length of its side as one number",
        _is_list,
    ),
    ForeignValue(
        "device",
        ("device=[0,1]",),
        "give the numbers of the GPUs with commas and without brackets, such as 0,1",
        lambda text: text[:1] in ("[", "(") and "," in text,
    ),
    ForeignValue(
        "device",
        ("device=-1", "device=npu:0"),
        "give cpu, or the number of a GPU such as 0, or leave it out for the first GPU",
        lambda text: any(
            not re.fullmatch(rf"({CPU}|mps|\d+)?", word) for word in device_name(text.strip("[]()")).split(",")
        ),
    ),
    ForeignValue(
        "freeze",
        ("freeze=[0,1,2]",),
        "give how many layers are not trained, counted from the first, as one number",
        _is_list,
    ),
    ForeignValue("scale", ("scale=(0.5,2.0)",), "give the largest scaling as one number from 0 to 1", _is_list),
    ForeignValue(
        "pretrained",
        ("pretrained=best.pt",),
        "give the starting weights as model",
        lambda text: text.lower().endswith((".pt", ".yaml")),
    ),
    ForeignValue(
        "amp",
        ("amp=bf16", "amp=fp32"),
        "give true for mixed precision, or false",
        lambda text: text.lower() in ("fp16", "bf16", "fp32"),
    ),
)


def advice(name: str, value: object) -> str | None:
    """What to do instead of a word or a value of the library's that is not taken here; None for all others."""
    word = name.lower().replace("-", "_")
    if word in WORDS:
        return WORDS[word]
    text = re.sub(r"\s", "", str(value)) if isinstance(value, str | int | float | list | tuple) else ""
    if not text or isinstance(value, bool):
        return None
    return next((row.advice for row in VALUES if row.setting == name and row.matches(text)), None)
