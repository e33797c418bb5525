"""Models by architecture, and what a model file says of them. Importing this module imports torch and torchvision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FCOS, KeypointRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from visionloop.core.errors import InvalidConfig
from visionloop.training.measurement import LEAST_CONFIDENCE
from visionloop.training.pytorch import models
from visionloop.training.pytorch.exporting import Graph
from visionloop.training.pytorch.objects.detector import Detector, Found
from visionloop.training.pytorch.starting import Head
from visionloop.training.trainers import Rows
from visionloop.training.trainers.torchvision import names
from visionloop.training.trainers.torchvision.targets import DrawingHeads

#: A residual block, and how many of them are at each of the four sizes of features.
BACKBONES: Mapping[str, tuple[type[nn.Module], list[int]]] = {
    "resnet18_fpn": (resnet.BasicBlock, [2, 2, 2, 2]),
    "resnet34_fpn": (resnet.BasicBlock, [3, 4, 6, 3]),
    "resnet50_fpn": (resnet.Bottleneck, [3, 4, 6, 3]),
    "resnet101_fpn": (resnet.Bottleneck, [3, 4, 23, 3]),
}

#: Channels of a tiny model at each of the four sizes, of its pyramid (FCOS normalises them in groups of 32), and of its box head.
TINY_CHANNELS, NARROW, NARROW_BOX_HEAD = (32, 64, 128, 256), 64, 256

#: Sides of the boxes that the R-CNN of a tiny model starts from, at each size of features.
SMALL_ANCHORS = ((8,), (16,), (32,), (64,), (128,))

#: How many proposals it learns from: a tenth of the library's numbers, for pictures with a tenth of the pixels.
FEW = {
    "rpn_pre_nms_top_n_train": 200,
    "rpn_post_nms_top_n_train": 200,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 64,
}

#: How many proposals a tiny R-CNN and another looks at where nothing is learned, before and after those are dropped that others hide.
#: There are never more detections than proposals, so max_det raises these numbers.
PROPOSALS = {True: (200, 100), False: (1000, 1000)}


@dataclass(frozen=True)
class Description(Detector):
    """What a model file says of its model.

    Attributes:
        architecture: One of `names`.
        keypoints: For pose the keypoints' names.
        iou: The IoU threshold of the non-maximum suppression.
    """

    architecture: str
    keypoints: Sequence[str]
    iou: float

    @property
    def keypoint_names(self) -> Sequence[str]:
        """For pose the keypoints' names."""
        return self.keypoints

    @property
    def family(self) -> str:
        """The kind of model, one of `names.FAMILIES`."""
        return self._parts[0]

    @property
    def background(self) -> int:
        """What is added to a class's number in the model."""
        return names.FAMILIES[self.family].background

    @property
    def _parts(self) -> tuple[str, str]:
        parts = names.split(self.architecture)
        if parts is None:
            raise InvalidConfig(
                f"model {self.architecture} is not one of torchvision's: give one such as fcos_resnet50_fpn."
            )
        return parts

    def build(self, confidence: float) -> nn.Module:
        """A model with random weights that gives detections of at least this confidence; nothing is fetched."""
        family, backbone = self._parts
        tiny = backbone == "tiny"
        pyramid = _pyramid(backbone, family)
        common: dict[str, Any] = {"min_size": self.imgsz, "max_size": self.imgsz, "_skip_resize": True}
        if family == "fcos":
            sizes = ((8,), (16,), (32,)) if tiny else ((8,), (16,), (32,), (64,), (128,))
            detector: nn.Module = FCOS(
                pyramid,
                len(self.classes),
                anchor_generator=AnchorGenerator(sizes, ((1.0,),) * len(sizes)),
                score_thresh=confidence,
                nms_thresh=self.iou,
                detections_per_img=self.max_det,
                **common,
            )
            return detector
        before, after = (max(number, self.max_det) for number in PROPOSALS[tiny])
        common |= {
            "rpn_pre_nms_top_n_test": before,
            "rpn_post_nms_top_n_test": after,
            "box_score_thresh": confidence,
            "box_nms_thresh": self.iou,
            "box_detections_per_img": self.max_det,
        }
        outputs = len(self.classes) + 1
        if tiny:
            common |= {
                **FEW,
                "rpn_anchor_generator": AnchorGenerator(SMALL_ANCHORS, ((0.5, 1.0, 2.0),) * len(SMALL_ANCHORS)),
                "box_roi_pool": MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
                "box_head": TwoMLPHead(NARROW * 49, NARROW_BOX_HEAD),
                "box_predictor": FastRCNNPredictor(NARROW_BOX_HEAD, outputs),
            }
        else:
            common["num_classes"] = outputs
        if family == "maskrcnn":
            model: nn.Module = MaskRCNN(pyramid, **common, **(_narrow_masks(outputs) if tiny else {}))
            model.roi_heads.__class__ = DrawingHeads
        else:
            points = len(self.keypoints)
            narrow = _narrow_keypoints(points) if tiny else {"num_keypoints": points}
            model = KeypointRCNN(pyramid, **common, **narrow)
        # Masks are left in their boxes: pasted into pictures they would take a gigabyte.
        model.transform.postprocess = _as_they_are  # type: ignore[union-attr]
        return model

    def find(self, model: nn.Module, inputs: Tensor) -> list[Found]:
        """What a model finds, already without what others hide; see `Detector.find`."""
        return [self._found(output) for output in model(list(inputs))]

    def graph(self, model: nn.Module) -> Graph:
        """Boxes, scores and classes of what the model finds, masks in their boxes or keypoints; one picture at a time."""
        more = {"maskrcnn": ("masks",), "keypointrcnn": ("keypoints",)}.get(self.family, ())
        return Graph(
            _Flat(model, self.background), ("boxes", "scores", "classes", *more), self._rows, "objects", ragged=True
        )

    def _rows(self, outputs: Sequence[NDArray[Any]]) -> Rows:
        """What outputs of the graph say."""
        boxes, scores, classes, *more = outputs
        by_class = np.zeros((len(scores), len(self.classes)), np.float32)
        by_class[np.arange(len(scores)), classes.astype(int)] = scores
        return Rows(by_class, boxes, more[0].reshape(len(scores), -1) if more else None)

    def _found(self, output: Mapping[str, Tensor]) -> Found:
        more = {}
        if "masks" in output:
            more["masks"] = output["masks"][:, 0]
        if "keypoints" in output:
            # What the library gives as third number is always 1; its scores are logits of the likeliest places.
            confidence = output["keypoints_scores"].sigmoid()[..., None]
            more["keypoints"] = torch.cat([output["keypoints"][..., :2], confidence], -1)
        return Found.of(
            boxes=output["boxes"], classes=output["labels"] - self.background, scores=output["scores"], **more
        )

    def heads(self) -> list[Head]:
        """The tensors with rows for each class."""
        if self.family == "fcos":
            return [Head(f"head.classification_head.cls_logits.{part}") for part in ("weight", "bias")]
        scores = [Head(f"roi_heads.box_predictor.cls_score.{part}", 1, 1) for part in ("weight", "bias")]
        boxes = [Head(f"roi_heads.box_predictor.bbox_pred.{part}", 4, 4) for part in ("weight", "bias")]
        masks = [Head(f"roi_heads.mask_predictor.mask_fcn_logits.{part}", 1, 1) for part in ("weight", "bias")]
        return [*scores, *boxes, *(masks if self.family == "maskrcnn" else ())]


class _Flat(nn.Module):
    """A model of one picture with tensors in place of a dictionary as its output."""

    def __init__(self, model: nn.Module, background: int) -> None:
        super().__init__()
        self.model, self.background = model, background

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        (found,) = self.model([images[0]])
        more: tuple[Tensor, ...] = ()
        if "masks" in found:
            more = (found["masks"][:, 0],)
        elif "keypoints" in found:
            confidence = found["keypoints_scores"].sigmoid()[..., None]
            more = (torch.cat([found["keypoints"][..., :2], confidence], -1),)
        return found["boxes"], found["scores"], found["labels"] - self.background, *more


def _as_they_are(result: Any, *_: Any) -> Any:
    return result


def _pyramid(backbone: str, family: str) -> BackboneWithFPN:
    """A backbone with a pyramid of features: for FCOS from an eighth of the picture's size on, else from a quarter on."""
    tiny = backbone == "tiny"
    layers = [2, 3, 4] if family == "fcos" else [1, 2, 3, 4]
    if tiny:
        body, channels, width = _tiny_body(), TINY_CHANNELS, NARROW
    else:
        block, blocks = BACKBONES[backbone]
        body = resnet.ResNet(block, blocks)
        channels, width = tuple(body.inplanes // 8 * 2**layer for layer in range(4)), 256
    extra: Any = LastLevelMaxPool()
    if family == "fcos":
        extra = _NoMore() if tiny else LastLevelP6P7(width, width)
    numbered = {f"layer{layer}": str(number) for number, layer in enumerate(layers)}
    return BackboneWithFPN(body, numbered, [channels[layer - 1] for layer in layers], width, extra_blocks=extra)


def _tiny_body() -> nn.Module:
    """A residual network with one block at each of the four sizes of features, half as wide as a ResNet-18."""
    parts: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, TINY_CHANNELS[0], 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(TINY_CHANNELS[0]),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    before = TINY_CHANNELS[0]
    for number, channels in enumerate(TINY_CHANNELS, 1):
        stride = 1 if number == 1 else 2
        shortcut = None
        if stride > 1:
            shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        parts[f"layer{number}"] = resnet.BasicBlock(before, channels, stride, shortcut)
        before = channels
    return nn.Sequential(OrderedDict(parts))


class _NoMore(LastLevelMaxPool):  # type: ignore[misc]
    """Adds no smaller features: pictures of a tiny model have no object that needs them."""

    def forward(self, x: Any, y: Any, names: Any) -> Any:
        """The features as they are."""
        return x, names


def _narrow_masks(outputs: int) -> dict[str, Any]:
    return {
        "mask_head": MaskRCNNHeads(NARROW, (NARROW,) * 2, 1),
        "mask_predictor": MaskRCNNPredictor(NARROW, NARROW, outputs),
    }


def _narrow_keypoints(points: int) -> dict[str, Any]:
    return {
        "keypoint_head": KeypointRCNNHeads(NARROW, (NARROW,) * 4),
        "keypoint_predictor": KeypointRCNNPredictor(NARROW, points),
    }


def load(path: Path, config: Mapping[str, Any]) -> tuple[Description, nn.Module]:
    """The description and the model of a model file, ready to predict.

    Args:
        path: The model file.
        config: ``conf``, ``iou`` and ``max_det``, where they are not to be `LEAST_CONFIDENCE` and the training's.

    Raises:
        InvalidReceipt: If it is not a model file, or one of another library.
    """
    limits = {name: config[name] for name in ("iou", "max_det") if name in config}
    confidence = float(config.get("conf", LEAST_CONFIDENCE))
    return models.load(path, Description, lambda about: about.build(confidence), limits)
