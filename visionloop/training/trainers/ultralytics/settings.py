"""The advanced settings of a task, and values of older configurations mapped to those that the library accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.configuration.settings import BASIC, IMGSZ_MULTIPLE
from visionloop.training.configuration.values import shown
from visionloop.training.devices import device_count
from visionloop.training.measurement import LEAST_CONFIDENCE
from visionloop.training.pytorch.settings import share, switch_off
from visionloop.training.trainers import Setting, Value
from visionloop.training.trainers.ultralytics import names

#: Optimizers as the library spells them.
OPTIMIZERS = ("SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop", "auto")

#: Those of which ``momentum`` is beta1.
ADAMS = ("Adam", "Adamax", "AdamW", "NAdam", "RAdam")

#: Augmentations that ``augment: false`` switches off, and the value of each that means off.
AUGMENTATIONS: dict[str, float] = dict.fromkeys(
    (
        "mosaic",
        "mixup",
        "cutmix",
        "copy_paste",
        "degrees",
        "translate",
        "scale",
        "shear",
        "perspective",
        "flipud",
        "fliplr",
        "bgr",
        "hsv_h",
        "hsv_s",
        "hsv_v",
        "multi_scale",
    ),
    0.0,
)
CLASSIFICATION_AUGMENTATIONS: dict[str, float | str] = {"erasing": 0.0, "auto_augment": "none"}


def _gain(default: float, description: str) -> Setting:
    return Setting(float, default, description, minimum=0.0, maximum=1000.0)


#: Those of each task.
_COMMON: dict[str, Setting] = {
    # Augmentation
    "scale": share(0.5, "largest scaling as a share of the size"),
    "flipud": share(0.0, "probability of an upside-down flip"),
    "fliplr": share(0.5, "probability of a left-right flip"),
    "hsv_h": share(0.015, "largest change of hue, as a share"),
    "hsv_s": share(0.7, "largest change of saturation, as a share"),
    "hsv_v": share(0.4, "largest change of brightness, as a share"),
    # Optimization
    "lr0": Setting(float, 0.01, "learning rate at the start", minimum=1e-9, maximum=1.0),
    "optimizer": Setting(str, "SGD", "name of the optimizer", choices=OPTIMIZERS),
    "lrf": share(0.01, "learning rate at the end, as a share of lr0"),
    "momentum": share(0.937, "momentum of SGD, beta1 of Adam"),
    "weight_decay": share(0.0005, "weight decay (L2)"),
    "warmup_epochs": Setting(float, 3.0, "epochs of warm-up", minimum=0.0, maximum=1000.0),
    "warmup_momentum": share(0.8, "momentum at the start of the warm-up"),
    "warmup_bias_lr": share(0.1, "learning rate of biases at the start of the warm-up"),
    "cos_lr": Setting(bool, False, "let the learning rate follow a cosine"),
    "nbs": Setting(
        int, 64, "images whose gradients make a step; smaller batches accumulate", minimum=1, maximum=65_536
    ),
    "freeze": Setting(int, None, "layers that are not trained, from the first", minimum=0, maximum=1000, optional=True),
    "amp": Setting(bool, True, "mixed precision on a GPU that can"),
    "deterministic": Setting(bool, True, "deterministic algorithms where the library has them"),
}

#: Those of the tasks that find objects: each would do nothing to whole images.
_OBJECTS: dict[str, Setting] = {
    "mosaic": share(1.0, "probability of composing an image of four"),
    "mixup": share(0.0, "probability of blending two images"),
    "cutmix": share(0.0, "probability of pasting a part of another image"),
    "copy_paste": share(0.0, "share of objects pasted from other images (where masks exist)"),
    "degrees": Setting(float, 0.0, "largest rotation in degrees", minimum=0.0, maximum=180.0),
    "translate": share(0.1, "largest shift as a share of the image"),
    "shear": Setting(float, 0.0, "largest shear in degrees", minimum=0.0, maximum=89.0),
    "perspective": share(0.0, "largest perspective distortion; 0.001 is much"),
    "bgr": share(0.0, "probability of swapping red and blue"),
    "close_mosaic": Setting(int, 10, "last epochs without mosaic; 0 keeps it", minimum=0, maximum=100_000),
    "multi_scale": share(0.0, "largest change of imgsz from batch to batch, as a share"),
    "single_cls": Setting(bool, False, "train all classes as one"),
    "rect": Setting(bool, False, "batches of equal shape in place of squares"),
}

_BOXES: dict[str, Setting] = {
    "box": _gain(7.5, "gain of the box loss"),
    "cls": _gain(0.5, "gain of the class loss"),
    "dfl": _gain(1.5, "gain of the distribution focal loss"),
    "cls_pw": share(0.0, "power of the inverse class frequency in the class loss; 0 weighs all alike"),
    "conf": share(LEAST_CONFIDENCE, "least confidence of a detection in validation"),
    "iou": share(0.7, "IoU threshold of the non-maximum suppression"),
    "max_det": Setting(int, 300, "most detections in an image", minimum=1, maximum=100_000),
}

_MASKS: dict[str, Setting] = {
    "overlap_mask": Setting(bool, True, "merge the masks of an image into one while training"),
    "mask_ratio": Setting(int, 4, "how much smaller masks are than the image while training", minimum=1, maximum=64),
}

_KEYPOINTS: dict[str, Setting] = {
    "pose": _gain(12.0, "gain of the keypoint loss"),
    "kobj": _gain(1.0, "gain of the keypoint visibility loss"),
}

_WHOLE_IMAGE: dict[str, Setting] = {
    "dropout": share(0.0, "dropout of the classification head"),
    "erasing": share(0.4, "probability of erasing a part of the image"),
    "auto_augment": Setting(
        str,
        "randaugment",
        "automatic augmentation policy",
        choices=("randaugment", "autoaugment", "augmix", "none"),
    ),
}

_BY_TASK: dict[str, dict[str, Setting]] = {
    "detection": _COMMON | _OBJECTS | _BOXES,
    "segmentation": _COMMON | _OBJECTS | _BOXES | _MASKS,
    "pose": _COMMON | _OBJECTS | _BOXES | _KEYPOINTS,
    "classification": _COMMON | _WHOLE_IMAGE,
}


#: The starting weights of a task where none are named: the smallest model of the family.
_MODELS = {"segmentation": "yolo11n-seg", "pose": "yolo11n-pose", "classification": "yolo11n-cls"}


def settings(task: str) -> dict[str, Setting]:
    """The advanced settings of a task by name, with their documented defaults and the library's ranges."""
    own = dict(_BY_TASK[task])
    if task in _MODELS:
        own["model"] = replace(BASIC["model"], default=_MODELS[task])
    if task == "classification":
        own["imgsz"] = replace(BASIC["imgsz"], default=224)  # as in the library
    return own


def normalise(values: dict[str, Any], task: str) -> dict[str, Any]:
    """Maps values of older configurations to the library's.

    - ``nms`` with a number is the IoU threshold: ``iou``.
    - ``multi_scale: false`` is 0.0; ``true`` has no meaning as a share and is refused.
    - ``augment: false`` sets every training augmentation to off; one that is also set, and not to off, is refused.
    - ``momentum`` is below 1 where it is Adam's beta1.
    - ``batch`` is a multiple of the number of devices.
    - ``optimizer`` may have any capitalisation; ``auto`` chooses its own learning rate, so ``lr0`` is refused with it.

    Args:
        values: The explicit values by setting, without defaults.
        task: The dataset's task.

    Raises:
        InvalidConfig: If a value has no meaning here, or contradicts another.
    """
    mapped = dict(values)
    if "nms" in mapped:
        _map_nms(mapped, task)
    if "multi_scale" in mapped:
        _map_multi_scale(mapped)
    if "optimizer" in mapped:
        _map_optimizer(mapped)
    _check_momentum(mapped)
    _check_batch(mapped, task)
    check_stride(mapped.get("imgsz"), names.stride(str(mapped.get("model") or "")))
    if mapped.get("augment") is False or str(mapped.get("augment")).lower() == "false":
        own = settings(task)
        off = AUGMENTATIONS | CLASSIFICATION_AUGMENTATIONS
        switch_off(mapped, {name: value for name, value in off.items() if name in own})
    return mapped


def remarks(values: Mapping[str, Value]) -> list[str]:
    """A notice where all epochs are among the last ones, which have no mosaic."""
    last, epochs = values.get("close_mosaic"), values["epochs"]
    if not values.get("mosaic") or not isinstance(last, int) or not isinstance(epochs, int) or last < epochs:
        return []
    return [
        f"close_mosaic is {last} and epochs {epochs}: no epoch has mosaic; give less than {epochs}, or 0 to keep it."
    ]


def _map_nms(values: dict[str, Any], task: str) -> None:
    value = values.pop("nms")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidConfig(
            f"nms is {value!r}: give the IoU threshold as a number from 0 to 1, or leave it out for 0.7."
        )
    if "iou" not in settings(task):
        raise InvalidConfig(f"nms has no meaning for {task}: leave it out.")
    if "iou" in values and values["iou"] != value:
        raise InvalidConfig(
            f"nms {value} and iou {values['iou']} are the same setting with two values: give iou alone."
        )
    values["iou"] = float(value)


def _map_multi_scale(values: dict[str, Any]) -> None:
    value = str(values["multi_scale"]).strip().lower()
    if value == "false":
        values["multi_scale"] = 0.0
    elif value == "true":
        raise InvalidConfig(
            "multi_scale is true, which says not by how much: give the largest change of imgsz as a fraction "
            "from 0.0 to 1.0, such as 0.25."
        )


def _map_optimizer(values: dict[str, Any]) -> None:
    spelled = {name.lower(): name for name in OPTIMIZERS}
    name = spelled.get(str(values["optimizer"]).strip().lower())
    if name is None:
        raise InvalidConfig(f"optimizer is {shown(values['optimizer'])}: give one of {', '.join(OPTIMIZERS)}.")
    values["optimizer"] = name
    if name == "auto" and "lr0" in values:
        raise InvalidConfig(
            f"optimizer auto chooses its own learning rate and would ignore lr0 {values['lr0']}: leave lr0 out, "
            "or name an optimizer such as SGD."
        )


def _check_momentum(values: dict[str, Any]) -> None:
    """Adam's beta1 is below 1, which torch would report once the training has begun."""
    if values.get("optimizer") in ADAMS and values.get("momentum") == 1:
        raise InvalidConfig(
            f"momentum is 1, and the optimizer {values['optimizer']} takes a number from 0 to below 1: give 0.9."
        )


def _check_batch(values: dict[str, Any], task: str) -> None:
    """The library gives each device an equal share of a batch, and would leave the rest out of it."""
    devices = device_count(values.get("device"))
    batch = values.get("batch", settings(task).get("batch", BASIC["batch"]).default)
    if isinstance(batch, int) and batch % devices:
        raise InvalidConfig(
            f"batch is {batch}, and device names {devices} GPUs, of which each has an equal share: give a multiple of {devices}."
        )


def check_stride(imgsz: object, stride: int) -> None:
    """Raises InvalidConfig if ``imgsz`` is not a multiple of a model's stride: the library would take the next one, in silence."""
    text = str(imgsz).strip()
    # What fits no model is refused by the rule for all, which names where the value came from.
    if text.isdecimal() and int(text) % IMGSZ_MULTIPLE == 0 and int(text) % stride:
        below = int(text) // stride * stride
        raise InvalidConfig(
            f"imgsz is {text}, but this model takes multiples of {stride}: give {f'{below} or ' if below else ''}{below + stride}."
        )
