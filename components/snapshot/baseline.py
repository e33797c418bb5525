"""What a snapshot is compared with for drift: the one that the champion was trained on, or was itself compared with.

The champion is looked up anew in each run and outside snapshot's receipt; validate, which has no keys of the registry, finds
what it compares with in the run's record.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from visionloop.core import receipts
from visionloop.core.errors import InvalidReceipt, VisionloopError
from visionloop.core.names import sanitise
from visionloop.core.receipts import Result
from visionloop.core.runs import RUN_VARIABLE
from visionloop.core.storage import Prefix

#: Tells the champion to the stages of a run on this machine, whose start has looked it up: importing MLflow takes seconds.
VARIABLE = "VISIONLOOP_CHAMPION"

#: The scalar of a run's snapshot, and of validate's receipt, that says what is compared with.
SCALAR = "baseline"


class Champion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A champion: ``NAME/VERSION``, and its training's receipt and digest."""

    label: str = ""
    training: str = ""
    digest: str | None = None


def look_up(model_name: str, environment: Mapping[str, str]) -> Champion:
    """The champion of a model; an empty one where there is none, or none that Visionloop registered.

    Raises:
        VisionloopError: If the registry can't be asked.
    """
    from visionloop.registry import Registry

    version = Registry(environment, "drift").champion(sanitise(model_name))
    if version is None or version.training_receipt is None:
        return Champion()
    return Champion(version.label, version.training_receipt, version.training_digest)


def champion_variable(model_name: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """The variable for the stages of a run on this machine; none where the registry can't be asked."""
    if not model_name:
        return {}
    try:
        champion = look_up(model_name, environment)
    except VisionloopError:
        return {}
    return {VARIABLE: msgspec.json.encode(champion).decode()}


def scalars(
    model_name: str | None, in_pipeline: bool, snapshot_id: str, workspace: Prefix, environment: Mapping[str, str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What snapshot says in a run of what its result is compared with, and notices.

    Args:
        model_name: The model's name; None where the run has none.
        in_pipeline: Whether this is a pipeline's snapshot rather than a stage by itself, which asks no registry.
        snapshot_id: The id of the snapshot.
        workspace: The workspace that is open now.
        environment: The process's variables.

    Returns:
        SCALAR with the receipts' URIs of the compared ``snapshot`` and of its ``report``; nothing without a champion. A
        registry or a lineage that can't be read is a notice.
    """
    if not model_name:
        return {}, []
    try:
        if environment.get(VARIABLE):
            champion = msgspec.json.decode(environment[VARIABLE], type=Champion)
        elif in_pipeline and RUN_VARIABLE not in environment:
            champion = look_up(model_name, environment)
        else:
            return {}, []
        baseline = _compared(champion, snapshot_id, workspace) if champion.training else None
    except (VisionloopError, msgspec.MsgspecError) as error:
        why = error.sentence.rstrip(".") if isinstance(error, VisionloopError) else str(error)
        return {}, [f"drift is not measured: what the champion of {model_name} was trained on can't be read ({why})."]
    return ({SCALAR: baseline} if baseline else {}), []


def _compared(champion: Champion, snapshot_id: str, workspace: Prefix) -> dict[str, str] | None:
    """The champion's snapshot and report; if that is this very snapshot, what it was compared with itself.

    So a dataset that did not change finds its earlier result, whoever became the champion with it.
    """
    training = receipts.nearest(champion.training, "train", workspace, champion.digest, outputs=False)
    snapshot = _input(training, "snapshot", "snapshot", workspace)
    report = _input(_input(training, "converted", "convert", workspace), "report", "validate", workspace)
    if snapshot.receipt.scalars.get("snapshot_id") != snapshot_id:
        return {"snapshot": snapshot.uri, "report": report.uri}
    earlier = report.receipt.scalars.get(SCALAR)
    return dict(earlier) if isinstance(earlier, dict) else None


def _input(result: Result, name: str, stage: str, workspace: Prefix) -> Result:
    """The receipt of an input; its outputs may be gone."""
    reference = result.receipt.inputs.get(name)
    if reference is None or reference.receipt is None:
        raise InvalidReceipt(f"{result.uri}: inputs has no '{name}'.")
    return receipts.nearest(reference.receipt, stage, workspace, reference.digest, outputs=False)
