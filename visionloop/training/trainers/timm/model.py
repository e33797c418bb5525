"""Models by architecture, what a model file says of them, and the pictures that they take. Importing this module imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import nn

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.training.pytorch.exporting import preprocessing_of
from visionloop.training.pytorch.images.classifier import Classifier, Transform
from visionloop.training.trainers.timm.environment import library

#: Pictures are cut so that the longer side is at most this many times the shorter one before they are scaled; the model sees a square.
THIN = 4


@dataclass(frozen=True)
class Description(Classifier):
    """What a model file says of its model.

    Attributes:
        architecture: The library's name, with the tag of the weights that the model started from, if it is one of the library's.
        mean: Of each channel of an input, from 0 to 1.
        std: Of each channel.
        interpolation: How pictures are scaled.
        crop_pct: The part of a scaled picture's side that the model sees.
        crop_mode: How a picture becomes a square: its middle is cut out, it is squashed, or it gets a border.
    """

    architecture: str
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    @classmethod
    def of(cls, architecture: str, classes: Sequence[str], imgsz: int, crop_pct: float | None = None) -> Description:
        """That of a new model: its pictures are prepared as those of the library's own weights are, but for ``crop_pct``.

        Raises:
            InvalidConfig: If the library has no such architecture.
        """
        timm = library()
        if not timm.is_model(architecture):
            raise InvalidConfig(f"model {architecture} is not an architecture that timm brings: give one of its names.")
        if architecture not in timm.models.get_arch_pretrained_cfgs(architecture):
            architecture = architecture.partition(".")[0]
        data = timm.data.resolve_data_config({}, pretrained_cfg=_defaults(architecture).to_dict())
        return cls(
            classes=list(classes),
            imgsz=imgsz,
            architecture=architecture,
            mean=list(data["mean"]),
            std=list(data["std"]),
            interpolation=str(data["interpolation"]),
            crop_pct=crop_pct or float(data["crop_pct"]),
            crop_mode=str(data["crop_mode"]),
        )

    def transform(self) -> Transform:
        """Makes an input of a picture: scaled, cropped in the middle, normalised."""
        made: Transform = library().data.create_transform(
            self.imgsz,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
        )
        thin = self._thin
        return made if thin is None else lambda picture: made(_middle(picture, thin))

    def preprocessing(self) -> Mapping[str, Any]:
        """The same in fields, for an exported model: what the library's ``transforms_imagenet_eval`` makes of these values."""
        border = self.crop_mode == "border"
        return preprocessing_of(
            self.imgsz,
            resize="longer" if border else "both" if self.crop_mode == "squash" else "shorter",
            round="nearest" if border else "down",
            to=math.floor(self.imgsz / self.crop_pct),
            filter=self.interpolation,
            antialias=True,
            fill=[round(255 * value) for value in self.mean] if border else 0,
            thin=self._thin,
            mean=self.mean,
            std=self.std,
        )

    @property
    def _thin(self) -> int | None:
        """With a border the model sees the whole picture, unless it would be less than a pixel high."""
        return {"center": THIN, "border": self.imgsz}.get(self.crop_mode)

    def training_transform(self, config: Mapping[str, Any]) -> Transform:
        """Makes an input of a picture for training, by the settings of augmentation."""
        recipe = config["aa"]
        made: Transform = library().data.create_transform(
            self.imgsz,
            is_training=True,
            scale=(float(config["scale"]), 1.0),
            hflip=float(config["hflip"]),
            vflip=float(config["vflip"]),
            color_jitter=float(config["color_jitter"]) or None,
            auto_augment=None if recipe == "none" else recipe,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            re_prob=float(config["reprob"]),
            re_mode=config["remode"],
            re_count=int(config["recount"]),
        )
        return made

    def build(self, **arguments: float) -> nn.Module:
        """A model with random weights.

        Raises:
            InvalidConfig: If the architecture can't be built for this image size.
        """
        if _defaults(self.architecture).fixed_input_size:
            arguments["img_size"] = self.imgsz
        try:
            model: nn.Module = library().create_model(
                self.architecture, pretrained=False, num_classes=len(self.classes), **arguments
            )
        except TypeError as error:
            named = next((name for name in ("drop_path_rate", "drop_rate") if f"'{name}'" in str(error)), None)
            if named is None or named not in arguments:
                raise
            notice(f"train: the architecture {self.architecture} takes no {named}, so it is not used.")
            return self.build(**{name: value for name, value in arguments.items() if name not in (named, "img_size")})
        except AssertionError as error:
            raise InvalidConfig(f"imgsz {self.imgsz} does not fit the model {self.architecture}: {error}") from error
        return model

    def heads(self, model: nn.Module) -> list[str]:
        """The tensors of a model with a row for each class: those that have one row more in a model for one class more.

        Raises:
            InvalidConfig: If there is none.
        """
        with torch.device("meta"):  # without memory or random numbers
            larger = replace(self, classes=[*self.classes, ""]).build().state_dict()
        heads = [name for name, value in model.state_dict().items() if larger[name].shape != value.shape]
        if not heads:
            raise InvalidConfig(f"the architecture {self.architecture} tells no classes: give another model.")
        return heads


def _middle(picture: Image.Image, thin: int) -> Image.Image:
    """A picture cut to its middle where the longer side is more than ``thin`` times the shorter one: scaled whole, it would be huge or vanish."""
    kept = [side - max(0, (side - thin * min(picture.size)) // 2 * 2) for side in picture.size]
    left, top = ((side - part) // 2 for side, part in zip(picture.size, kept, strict=True))
    return picture.crop((left, top, left + kept[0], top + kept[1]))


def _defaults(architecture: str) -> Any:
    return library().get_pretrained_cfg(architecture) or library().models.PretrainedCfg()
