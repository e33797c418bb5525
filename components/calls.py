"""How each stage is called in a pipeline: the one table that plan, the look ahead and both compilers read.

A stage's arguments are receipts of earlier stages and parameters of the pipeline. Of a result, a pipeline passes on
the scalars that the table names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from visionloop.core.errors import Defect

#: The argument that holds the training's settings as a JSON object: a pipeline makes it from the fields of its form.
SETTINGS = "settings"

#: The parameter that says in how many shards a stage is done; snapshot's scalar of the same name lists them.
SHARDS = "shards"

#: The parameter that lists the formats in which the model is exported; empty in none.
EXPORT = "export"

#: Who makes a model the champion that the gate promotes: register, or a person by ``visionloop model promote``.
AUTO, MANUAL = APPROVE = ("auto", "manual")


@dataclass(frozen=True)
class Unless:
    """A condition under which a stage is left out: a scalar of an earlier stage's result has this value."""

    stage: str
    scalar: str
    value: str


@dataclass(frozen=True)
class Call:
    """One stage's call.

    Attributes:
        receipts: The arguments that are receipts: by name, the stage whose receipt it is.
        parameters: The arguments that are the pipeline's parameters of the same name, where the pipeline has them.
        renamed: The arguments that are the pipeline's parameters of another name: by argument, the parameter.
        outputs: The scalars that the pipeline passes on in addition to the receipt.
        unless: The condition under which the stage is left out.
        only_with: The parameter of the pipeline without which it is left out: then its receipt is an empty text.
    """

    receipts: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    unless: Unless | None = None
    only_with: str = ""

    @property
    def condition(self) -> Unless:
        """The condition under which the stage is left out. Raises Defect if it has none."""
        if self.unless is None:
            raise Defect("a stage without a condition was asked for it")
        return self.unless

    def arguments(self, parameters: Mapping[str, Any], receipts: Mapping[str, Any]) -> dict[str, Any]:
        """The stage's arguments.

        Args:
            parameters: The pipeline's parameters by name, SETTINGS among them.
            receipts: The receipts of the stages before, by stage: their URIs, or what an engine uses in their place.
        """
        values: dict[str, Any] = {argument: receipts[stage] for argument, stage in self.receipts.items()}
        taken = {name: name for name in self.parameters} | dict(self.renamed)
        return values | {argument: parameters[name] for argument, name in taken.items() if name in parameters}

    def arguments_of_shard(
        self, parameters: Mapping[str, Any], receipts: Mapping[str, Any], shard: Any
    ) -> dict[str, Any]:
        """The arguments of a shard of the stage, in an engine's loop over snapshot's SHARDS; others as of ``arguments``."""
        values = self.arguments(parameters, receipts)
        return {argument: value for argument, value in values.items() if argument != SHARDS} | {"shard": shard}


#: What is rejected is neither exported nor registered.
REJECTED = Unless("evaluate", "verdict", "reject")

#: The stages of a pipeline that have a result, in the order in which they run.
CALLS: Mapping[str, Call] = {
    "snapshot": Call(
        parameters=(
            "dataset",
            "snapshot",
            "task",
            "split",
            "model_name",
            "retraining",
            SETTINGS,
            "gate",
            "dataset_format",
            "classes",
            "where",
            "checks",
            SHARDS,
            "slices",
            "costs",
            EXPORT,
        ),
        outputs=("snapshot_id", "go", "reason", SHARDS),
    ),
    "validate": Call(
        receipts={"snapshot": "snapshot"},
        parameters=("checks", SETTINGS, SHARDS),
        renamed={"mode": "validate_mode", "on_error": "on_error"},
        outputs=("errors", "quarantined"),
    ),
    "convert": Call(receipts={"snapshot": "snapshot", "report": "validate"}, parameters=(SHARDS,)),
    "train": Call(
        receipts={"snapshot": "snapshot", "converted": "convert"},
        parameters=(SETTINGS, "model_name", "run_name", "description"),
    ),
    "evaluate": Call(
        receipts={"training": "train", "snapshot": "snapshot"},
        parameters=("model_name", "gate", "slices", "costs"),
        outputs=("verdict", "reason", "metrics"),
    ),
    "export": Call(
        receipts={"evaluation": "evaluate"},
        parameters=(EXPORT,),
        unless=REJECTED,
        only_with=EXPORT,
    ),
    "register": Call(
        receipts={"evaluation": "evaluate", "exports": "export"},
        parameters=("model_name", "storage", "approve"),
        outputs=("version", "alias"),
        unless=REJECTED,
    ),
}

#: The calls of a pipeline that measures a model which exists already: no training comes before evaluate, and no registration follows.
MEASURED: Mapping[str, Call] = {
    "snapshot": replace(
        CALLS["snapshot"],
        parameters=tuple(
            name
            for name in CALLS["snapshot"].parameters
            if name not in ("model_name", "retraining", SETTINGS, "gate", EXPORT)
        ),
    ),
    "validate": replace(CALLS["validate"], parameters=("checks", SHARDS)),
    "convert": CALLS["convert"],
    "evaluate": Call(
        receipts={"snapshot": "snapshot", "converted": "convert"},
        parameters=("model", "split_name", SETTINGS, "slices", "tile"),
        outputs=CALLS["evaluate"].outputs,
    ),
}

#: The call of a pipeline that predicts with a model which exists already, on images without labels.
PREDICTED: Mapping[str, Call] = {
    "predict": Call(parameters=("model", "images", "confidence", "write", "tile"), outputs=("objects", "unreadable")),
}

#: The stages that may be done in shards: each shard is a call of the same stage, before that of the whole.
SHARDED = ("validate", "convert")

#: Behind a stage's name, the name of an engine's loop over its shards.
LOOP = "-shards"

#: What runs whatever happened before.
_LAST = "cleanup"

#: The stages in the order in which they are shown.
STAGES = (*CALLS, *PREDICTED, _LAST)

#: The stages of each pipeline, by its name in ``pipelines.definitions.PIPELINES``.
STAGES_OF: Mapping[str, tuple[str, ...]] = {
    "train": (*CALLS, _LAST),
    "retrain": (*CALLS, _LAST),
    "measure": (*MEASURED, _LAST),
    "predict": (*PREDICTED, _LAST),
}

#: The stages that request a GPU: the one before them looks for existing results, so that no pod starts for nothing.
EXPENSIVE = ("train", "evaluate")
