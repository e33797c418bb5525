"""Architectures by name: the kind of model, and where it differs from the library's defaults. Nothing here imports the library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The library's classes by the ``model_type`` of a configuration: of the configuration and of the model.
FAMILIES: Mapping[str, tuple[str, str]] = {
    "rt_detr": ("RTDetrConfig", "RTDetrForObjectDetection"),
    "rt_detr_v2": ("RTDetrV2Config", "RTDetrV2ForObjectDetection"),
    "d_fine": ("DFineConfig", "DFineForObjectDetection"),
}


def _resnet(depths: list[int], widths: list[int], block: str, **more: Any) -> dict[str, Any]:
    """A residual backbone, whose features of an eighth, a sixteenth and a thirty-second of the picture's size are used."""
    return {
        "model_type": "rt_detr_resnet",
        "depths": depths,
        "hidden_sizes": widths,
        "layer_type": block,
        "out_indices": [2, 3, 4],
        **more,
    }


def _hgnet(stem: list[int], stages: list[tuple[int, int, int]], layers: int, affine: bool) -> dict[str, Any]:
    """An HGNetV2; ``stages`` are the middle and outer channels and the blocks of each of the four sizes of features."""
    outer = [out for _, out, _ in stages]
    return {
        "model_type": "hgnet_v2",
        "stem_channels": [3, *stem],
        "stage_in_channels": [stem[-1], *outer[:-1]],
        "stage_mid_channels": [middle for middle, _, _ in stages],
        "stage_out_channels": outer,
        # The library takes the channels of the features from here, and would only fail at the first picture.
        "hidden_sizes": outer,
        "stage_num_blocks": [blocks for _, _, blocks in stages],
        "stage_numb_of_layers": [layers] * 4,
        "use_learnable_affine_block": affine,
        "out_indices": [2, 3, 4],
    }


_SMALL = [64, 128, 256, 512]
_LARGE = [256, 512, 1024, 2048]
_BASIC: dict[str, Any] = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
_WIDE: dict[str, Any] = {
    "encoder_hidden_dim": 384,
    "encoder_ffn_dim": 2048,
    "decoder_in_channels": [384, 384, 384],
}

#: For small pictures and little time: narrow, shallow, with few queries.
_TINY: dict[str, Any] = {
    "d_model": 64,
    "encoder_hidden_dim": 64,
    "encoder_ffn_dim": 256,
    "encoder_attention_heads": 4,
    "decoder_in_channels": [64, 64, 64],
    "decoder_ffn_dim": 256,
    "decoder_attention_heads": 4,
    "decoder_layers": 2,
    "num_queries": 50,
    "num_denoising": 30,
    "hidden_expansion": 0.5,
}

#: What the ResNets of RT-DETR and RT-DETRv2 change, by the last part of a model's name.
_RESNETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        **_TINY,
        "backbone_config": _resnet([1, 1, 1, 1], [32, 64, 128, 192], "basic", embedding_size=32),
        "encoder_in_channels": [64, 128, 192],
    },
    "r18vd": {"backbone_config": _resnet([2, 2, 2, 2], _SMALL, "basic"), **_BASIC, "decoder_layers": 3},
    "r34vd": {"backbone_config": _resnet([3, 4, 6, 3], _SMALL, "basic"), **_BASIC, "decoder_layers": 4},
    "r50vd": {"backbone_config": _resnet([3, 4, 6, 3], _LARGE, "bottleneck")},
    "r101vd": {"backbone_config": _resnet([3, 4, 23, 3], _LARGE, "bottleneck"), **_WIDE},
}

_B0 = ([16, 16], [(16, 64, 1), (32, 256, 1), (64, 512, 2), (128, 1024, 1)], 3, True)
_THREE_LEVELS: dict[str, Any] = {"decoder_n_points": [3, 6, 3]}

_HGNETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        **_TINY,
        "backbone_config": _hgnet([16, 16], [(16, 32, 1), (32, 64, 1), (48, 128, 1), (64, 192, 1)], 2, True),
        "encoder_in_channels": [64, 128, 192],
        "depth_mult": 0.34,
        "decoder_n_points": [3, 6, 3],
    },
    "nano": {
        "backbone_config": _hgnet(*_B0) | {"out_indices": [3, 4]},
        "encoder_in_channels": [512, 1024],
        "feat_strides": [16, 32],
        "encode_proj_layers": [1],
        "encoder_hidden_dim": 128,
        "encoder_ffn_dim": 512,
        "decoder_in_channels": [128, 128],
        "d_model": 128,
        "decoder_ffn_dim": 512,
        "decoder_layers": 3,
        "num_feature_levels": 2,
        "decoder_n_points": [6, 6],
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
    },
    "small": {
        **_THREE_LEVELS,
        "backbone_config": _hgnet(*_B0),
        "encoder_in_channels": [256, 512, 1024],
        "decoder_layers": 3,
        "hidden_expansion": 0.5,
        "depth_mult": 0.34,
    },
    "medium": {
        **_THREE_LEVELS,
        "backbone_config": _hgnet([24, 32], [(32, 96, 1), (64, 384, 1), (128, 768, 3), (256, 1536, 1)], 4, True),
        "encoder_in_channels": [384, 768, 1536],
        "decoder_layers": 4,
        "depth_mult": 0.67,
    },
    "large": {
        **_THREE_LEVELS,
        "backbone_config": _hgnet([32, 48], [(48, 128, 1), (96, 512, 1), (192, 1024, 3), (384, 2048, 1)], 6, False),
    },
    "xlarge": {
        **_THREE_LEVELS,
        **_WIDE,
        "backbone_config": _hgnet([32, 64], [(64, 128, 1), (128, 512, 2), (256, 1024, 5), (512, 2048, 2)], 6, False),
        "reg_scale": 8.0,
    },
}

#: By the first part of a model's name: its family, and what its sizes change.
_SIZES: Mapping[str, tuple[str, Mapping[str, Mapping[str, Any]]]] = {
    "rtdetr": ("rt_detr", _RESNETS),
    "rtdetr_v2": ("rt_detr_v2", _RESNETS),
    "dfine": ("d_fine", _HGNETS),
}

#: By name: the family, and what differs from the library's defaults.
ARCHITECTURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    f"{first}_{last}": (family, changes) for first, (family, sizes) in _SIZES.items() for last, changes in sizes.items()
}

#: The one that is trained where none is named.
DEFAULT = "rtdetr_r18vd"

#: The files of a folder of weights as the library saves it: for each the names that it may have, the first that is there counts.
WEIGHTS_FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"))


def architecture(model: str) -> str | None:
    """The architecture that a bare model or YAML name is for; None for a path, a URI or another name."""
    name = model.removesuffix(".yaml").removesuffix(".yml")
    return name if name in ARCHITECTURES else None
