"""Whether a step's images are there: the effective batch against the devices that share it, and the images of train."""

from __future__ import annotations

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.training.devices import device_count
from visionloop.training.preflight.planned import Planned


def check(planned: Planned) -> str | None:
    """Says how many images make a step of how many; None where that is not known. A batch that is never full is a notice where nobody asked for
    it, or as long as the training sees as many images.

    Raises:
        InvalidConfig: If a step is asked for with more images than the whole training sees, or devices have no image of a batch.
    """
    batch, images, devices = planned.batch, planned.images, device_count(planned.device)
    if batch < devices:
        raise InvalidConfig(
            f"batch is {batch}, and {devices} devices share it: give batch={devices} at least, or fewer devices."
        )
    if images is None:
        return None
    if planned.batch_asked and batch > images * planned.epochs:
        raise InvalidConfig(
            f"batch is {batch}, but train has {images} images, and {planned.epochs} epochs see {images * planned.epochs}: not one step "
            f"would be as asked; give batch={images} at most, or more epochs."
        )
    if batch > images:
        notice(
            f"train: batch is {batch} and train has {images} images, so each epoch is one step of {images}; "
            f"batch={max(images // 2, 1)} or less gives more."
        )
    return f"batch {batch} of {images} images"
