"""An evaluation's figures beside the trainer's own metrics, by names under which trackers and engines show them, and its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from visionloop.components.evaluate.result import EvaluationResult
from visionloop.training.stopwatch import of_answers


def figures(result: EvaluationResult, timings: Mapping[str, float]) -> dict[str, float]:
    """The figures by name: ``coco_AP``, ``coco_AP_small``, ``errors_class``, ``dAP_class``, ``calibration_error``, ``latency_median_ms``.

    Args:
        result: The evaluation.
        timings: What its receipt has of them.
    """
    values = {f"coco_{name}": value for name, value in result.coco.items()}
    for size, measured in result.slices.items():
        if size.startswith("size:"):
            values |= {
                f"coco_{name}_{size.removeprefix('size:')}": measured[name] for name in ("AP", "AR") if name in measured
            }
    for kind, counted in result.errors.items():
        values[f"errors_{kind}"] = counted["count"]
        if "dAP" in counted:
            values[f"dAP_{kind}"] = counted["dAP"]
    if result.calibration is not None and result.calibration.error is not None:
        values["calibration_error"] = result.calibration.error
    answers = of_answers(timings).items()
    return values | {f"{name.removesuffix('_seconds')}_ms": round(1000 * value, 3) for name, value in answers}


def tables(result: EvaluationResult, objects: Mapping[str, int]) -> dict[str, bytes]:
    """The tables of classes and of slices by their path beside a tracker's run, as JSON with ``columns`` and ``data``.

    Args:
        result: The evaluation.
        objects: The number of true objects by class name.
    """
    classes = {
        name: {"objects": float(objects.get(name, 0)), **result.per_class.get(name, {})} for name in result.classes
    }
    both = {"classes": ("class", classes), "slices": ("slice", result.slices)}
    return {f"tables/{name}.json": _table(first, rows) for name, (first, rows) in both.items() if rows}


def _table(first: str, rows: Mapping[str, Mapping[str, float]]) -> bytes:
    columns: Sequence[str] = list(dict.fromkeys(name for values in rows.values() for name in values))
    data = [[name, *(values.get(column) for column in columns)] for name, values in rows.items()]
    return json.dumps({"columns": [first, *columns], "data": data}, ensure_ascii=False).encode()
