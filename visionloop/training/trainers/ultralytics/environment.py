"""The library's environment: offline, quiet, without telemetry, writing only into a private folder.

`library` is the only way in which ultralytics (AGPL-3.0) is imported.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import Defect, InvalidDataset
from visionloop.core.folders import process_folder
from visionloop.core.logs import LOGGER
from visionloop.data.decoding import Undecodable, decode
from visionloop.data.headers import Header
from visionloop.data.images import HEADER_BYTES, header_of
from visionloop.training.trainers.ultralytics.labels import read, view_of

if TYPE_CHECKING:
    import torch

#: Read once by the library at its import.
VARIABLES = {
    "ULTRALYTICS_SAFE_LOAD": "true",  # checkpoints are unpickled against a list of known classes
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
}

#: Threads of torch on the processor, unless OMP_NUM_THREADS says otherwise. The library's own choice, set regardless
#: of what was imported before: the number of threads decides the order of a sum's terms, and so a result's last bits.
THREADS = 1

#: The library's settings that send, track or advertise something.
SETTINGS_OFF = (
    "sync",
    "clearml",
    "comet",
    "dvc",
    "mlflow",
    "neptune",
    "raytune",
    "tensorboard",
    "wandb",
    "vscode_msg",
    "openvino_msg",
)

MODULES = (
    "ultralytics.data.base",
    "ultralytics.data.dataset",
    "ultralytics.data.utils",
    "ultralytics.engine.trainer",
    "ultralytics.engine.validator",
    "ultralytics.models.yolo.detect",
    "ultralytics.nn.tasks",
)


@functools.cache
def library() -> Any:
    """The ultralytics package, imported into a prepared environment.

    Raises:
        Defect: If something else imported the library before, with settings of its own.
    """
    os.environ.update(VARIABLES)
    folder = process_folder("ultralytics")
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    settings = folder / "Ultralytics" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps(dict.fromkeys(SETTINGS_OFF, False)))

    import ultralytics

    for module in MODULES:
        importlib.import_module(module)
    if not ultralytics.utils.SAFE_LOAD or ultralytics.utils.ONLINE:
        raise Defect(
            "ultralytics was imported before its surroundings were prepared: import it through `library` only."
        )
    library_settings = ultralytics.utils.SETTINGS
    library_settings.update({name: False for name in SETTINGS_OFF if name in library_settings})
    _keep_from_network(ultralytics)
    _keep_from_dataset(ultralytics)
    _describe_folders(ultralytics)
    _read_images_as_validated(ultralytics)
    _refuse_to_leave_out(ultralytics.data.dataset.YOLODataset)
    ultralytics.engine.trainer.check_amp = mixed_precision_works
    _forward_warnings(ultralytics.utils.LOGGER)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    importlib.import_module("torch").set_num_threads(int(threads) if threads.isdecimal() else THREADS)
    return ultralytics


def _keep_from_network(ultralytics: Any) -> None:
    """Makes every download an error: what a training needs is already in place."""

    def refuse(url: str | Path, *_: object, **__: object) -> None:
        raise Defect(f"The library tried to fetch {url}.")

    ultralytics.utils.downloads.safe_download = refuse
    ultralytics.data.utils.check_font = lambda *_: None  # called before any plot is drawn


def _keep_from_dataset(ultralytics: Any) -> None:
    """Keeps the dataset read-only: no pickled labels are read or written next to it, and no image is rewritten."""

    def no_cache(path: Path) -> dict[str, Any]:
        raise FileNotFoundError(path)

    ultralytics.data.dataset.load_dataset_cache_file = no_cache

    def save_nothing(prefix: str, path: Path, labels: dict[str, Any], version: str) -> None:
        labels["version"] = version  # all that the caller needs of it

    ultralytics.data.dataset.save_dataset_cache_file = save_nothing
    ultralytics.data.utils._replace_image = lambda *_: None


def _describe_folders(ultralytics: Any) -> None:
    """Has the library take a folder of classes as it is: it lists all files to count them, and refuses one without images to train on."""

    def described(dataset: str | Path, split: str = "") -> dict[str, Any]:
        folders = {name: Path(dataset) / name for name in ("train", "val", "test")}
        names = dict(enumerate(sorted(path.name for path in folders["train"].iterdir() if path.is_dir())))
        return {**folders, "nc": len(names), "names": names, "channels": 3}

    for module in (ultralytics.engine.trainer, ultralytics.engine.validator):
        module.check_cls_dataset = described


def _read_images_as_validated(ultralytics: Any) -> None:
    """Has the library read each image through Visionloop's decoder, and take its size from the same header."""

    def imread(file: str | Path, flags: int = 0) -> Any:
        """Height × width × 3, blue first; no other ``flags`` than those of a colour image are ever asked for."""
        try:
            return decode(Path(file).read_bytes(), "BGR")
        except Undecodable as error:
            raise InvalidDataset(f"{Path(file).name} is {error}; replace it, or leave it out.") from error

    ultralytics.data.base.imread = imread
    classified = ultralytics.data.dataset.ClassificationDataset
    classified.imread = staticmethod(imread)
    # Its scan opens each image at each start, and goes on without those that Pillow refuses.
    classified.verify_images = lambda self: self.samples
    ultralytics.data.utils.check_image = lambda file: ("", check_size(file))


def check_size(file: str) -> tuple[int, int]:
    """Height and width of an image, as it is shown. Raises InvalidDataset if it is not an image."""
    with Path(file).open("rb") as opened:
        header = header_of(opened.read(HEADER_BYTES), whole=False)
    if header is None:
        header = header_of(Path(file).read_bytes(), whole=False)
    if not isinstance(header, Header):
        raise InvalidDataset(f"{Path(file).name} can't be read as an image; replace it, or leave it out.")
    return header.height, header.width


def _refuse_to_leave_out(dataset: Any) -> None:
    """Ends what the library would go on with on fewer images: the result would be believed to be of all of them.

    The labels of a view come from its archive. The library's own scan, which reads every image and label file again, is left for
    folders that a person made.
    """
    scan = dataset.cache_labels
    reason = ": ignoring corrupt image/label: "

    def cache_labels(self: Any, path: Path) -> dict[str, Any]:
        if root := view_of(self.img_path):
            return read(self, root, Path(self.img_path).name, check_size)
        try:
            labels: dict[str, Any] = scan(self, path)
        except ValueError as error:  # there is no label file
            raise InvalidDataset(
                f"The split {path.stem} has no label; label its images, or change the split."
            ) from error
        problems = [message for message in labels["msgs"] if reason in message]
        if problems:
            names = []
            for message in problems:
                file, _, why = message.partition(reason)
                names.append(f"{path.stem}/{file.rpartition(f'{path.stem}/')[2]} ({why})")
            raise InvalidDataset(
                f"The library can't use {len(names)} of the {labels['results'][-1]} images of the split {path.stem}, and "
                f"would leave them out: {', '.join(names)}; correct them, or remove them and export again."
            )
        return labels

    dataset.cache_labels = cache_labels
    dataset.get_cache_hash = lambda *_: ""  # of what is never kept; it would look at every file


#: The library's warnings about a split without labels: ours name the split, and no temporary path.
SAID_OTHERWISE = ("Labels are missing or empty in", "no labels found in")


class _Forward(logging.Handler):
    """Hands the library's warnings to Visionloop's log, without their colours and those that are said otherwise."""

    def emit(self, record: logging.LogRecord) -> None:
        """Forwards one record."""
        message = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())
        if any(text in message for text in SAID_OTHERWISE):
            return
        LOGGER.log(record.levelno, "ultralytics: %s", message, extra={"source": "trainer"})


def _forward_warnings(logger: logging.Logger) -> None:
    """Forwards warnings only, and not to stdout, which is reserved for the stage's result."""
    logger.setLevel(logging.WARNING)
    logger.handlers[:] = [_Forward()]


def mixed_precision_works(model: torch.nn.Module) -> bool:
    """Whether the model's own outputs stay finite in half precision on its device.

    Replaces the library's check, which fetches weights and compares their detections.
    """
    import copy

    import torch

    device = next(model.parameters()).device
    if device.type != "cuda":
        return False
    probe = copy.deepcopy(model).eval()
    image = torch.full((1, 3, 64, 64), 0.5, device=device)
    with torch.no_grad(), torch.autocast("cuda"):
        output = probe(image)
    first = output[0] if isinstance(output, tuple | list) else output
    return bool(torch.isfinite(first).all())
