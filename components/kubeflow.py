"""What a KFP component calls: runs a stage with the component's parameters, and fills its artifacts from the receipt.

The components themselves are a signature, a docstring and one call, because a lightweight component's source travels in the
compiled pipeline. Only this module knows what an artifact is; no stage does.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from kfp import dsl

from visionloop.components.calls import CALLS
from visionloop.components.convert import ahead as looking
from visionloop.core import catalog, reports, runs, variables
from visionloop.core.encodings import print_json, write_anything
from visionloop.core.errors import VisionloopError
from visionloop.core.logs import notice
from visionloop.core.policy import POLICIES, REGISTRY, TRAINER_IMAGE
from visionloop.core.receipts import Result
from visionloop.core.receipts import load as load_receipt
from visionloop.core.running import Invocation
from visionloop.core.running import run_stage as run_to_receipt
from visionloop.core.runs import FORCE_VARIABLE, RUN_VARIABLE
from visionloop.core.stage import Outcome
from visionloop.core.storage import open_prefix
from visionloop.core.stray import stray_lines
from visionloop.training import catalog as catalog_of_trainers
from visionloop.training.configuration.settings import BASIC, display

#: The output of an evaluation that holds ``classes`` and their ``confusion`` (trainers.Evaluation).
CONFUSION = "confusion"

#: The output of an evaluation that holds all of it (evaluate.result.EvaluationResult).
EVALUATION = "evaluation"

#: The output of an evaluation that holds a ROC curve over its detections (evaluate.roc.Curve).
ROC = "roc"

#: The setting that also decides the image, so an engine's form always sets it.
TRAINER = "trainer"


def base_image(stage: str) -> str:
    """The image that a component is declared with, the default trainer's if it runs in a trainer's; a pipeline replaces it with its target's."""
    image = POLICIES[stage].image
    if image == TRAINER_IMAGE:
        image = catalog_of_trainers.trainer(str(BASIC[TRAINER].default)).policy.image
    return f"{REGISTRY}/{image}:{version('visionloop')}"


def run_stage(
    stage: str,
    workspace: str,
    run: str,
    trace_id: str,
    arguments: Mapping[str, Any],
    artifacts: Sequence[dsl.Artifact] = (),
    returns: Sequence[str] = (),
    ahead: Sequence[str] | None = None,
) -> tuple[Any, ...]:
    """Runs a stage for a component.

    Args:
        stage: The stage's name.
        workspace: Where results are stored.
        run: The engine's id of the run; the local runner's own name for it takes precedence.
        trace_id: The trace id, or "" for the run's.
        arguments: The stage's arguments by name; None and "" mean not given, an object is passed on as JSON.
        artifacts: The component's output artifacts.
        returns: The scalars that the component returns after the receipt's URI.
        ahead: The arguments of the later stages, as ``convert.ahead.look_ahead`` takes them; its result joins
            the run's scalars.

    Returns:
        The receipt's URI ("" for a stage without one, and for one that the run leaves out) and the scalars named in ``returns``, None as "".

    Raises:
        SystemExit: With the stage's exit code, after its sentence as the last line on stderr.
    """
    write_anything()
    arguments = {name: _text(value) for name, value in arguments.items()}
    call = CALLS.get(stage)
    if call is not None and call.only_with and not arguments.get(call.only_with):
        return ("", *("" for _ in returns))
    local = os.environ.get(RUN_VARIABLE)
    forced = tuple(name for name in os.environ.get(FORCE_VARIABLE, "").split(",") if name)
    invocation = Invocation(
        workspace=workspace,
        run=local or run or None,
        trace_id=trace_id or None,
        force=stage in forced,
        honour_failures=not local,
    )
    try:
        with stray_lines():
            outcome = run_to_receipt(catalog.stage(stage), arguments, invocation)
            if ahead is not None and outcome.result is not None:
                scalars = looking.look_ahead(
                    outcome, str(arguments["snapshot"]), ahead, replace(invocation, force=False), forced
                )
                outcome = replace(outcome, run_scalars={**outcome.run_scalars, **scalars})
    except VisionloopError as error:
        print(error.sentence, file=sys.stderr, flush=True)  # noqa: T201
        raise SystemExit(error.exit_code) from None
    print_json(outcome.summary())
    return _finish(outcome, artifacts, returns)


def reuse(
    stage: str,
    receipt: str,
    artifacts: Sequence[dsl.Artifact] = (),
    returns: Sequence[str] = (),
    workspace: str = "",
    run: str = "",
) -> tuple[Any, ...]:
    """Passes on an existing result, with the artifacts that the stage itself would have filled.

    Args:
        stage: The stage whose result it is.
        receipt: Its URI.
        artifacts: The component's output artifacts.
        returns: As in ``run_stage``.
        workspace: Where results are stored; with it and ``run``, a failure is recorded in the run like the stage's own.
        run: The engine's id of the run.

    Raises:
        SystemExit: With 65 if the receipt or an output of it is gone.
    """
    try:
        variables.prepare()
        opened = open_prefix(workspace, "results") if workspace else None
        values = _finish(Outcome(stage, load_receipt(receipt, stage, opened), True, 0.0), artifacts, returns)
    except VisionloopError as error:
        _record_reuse(stage, workspace, run, error)
        print(error.sentence, file=sys.stderr, flush=True)  # noqa: T201
        raise SystemExit(error.exit_code) from None
    _record_reuse(stage, workspace, run, None)
    return values


def _record_reuse(stage: str, workspace: str, run: str, error: VisionloopError | None) -> None:
    """Records the failure to pass on a result that the look-ahead recorded as reused, or clears it."""
    if not workspace or not run:
        return
    # The sentence is in the task's log even if the record can't be written.
    with contextlib.suppress(VisionloopError):
        record = runs.RunRecord(open_prefix(workspace, "results"), os.environ.get(RUN_VARIABLE) or run)
        state = record.state(stage)
        if error is not None:
            state.state, state.attempt = "failed", state.attempt + 1
            recorded = record.read()
            trace_id = recorded.trace_id if recorded else ""
            failure = runs.describe_failure(stage, error, attempt=state.attempt, trace_id=trace_id, traceback=None)
            record.write_failure(failure)
        elif state.state == "failed":
            state.state = "succeeded"
            record.clear_failure(stage)
        else:
            return
        record.write_state(state)


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, Mapping) else value


def look_ahead_arguments(
    settings: Mapping[str, Any] | str, model_name: str, gate: str, slices: str = "", costs: str = ""
) -> list[str]:
    """Returns the arguments of the stages after convert, as ``convert.ahead.look_ahead`` takes them."""
    arguments = {"settings": _text(settings), "model_name": model_name, "gate": gate, "slices": slices, "costs": costs}
    return [f"{name}={value}" for name, value in arguments.items()]


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that were set in a form: those that are neither empty nor the form's default.

    A form always holds every field, so a default in it is not a choice: the variables of the pod, the trainer's own
    default and the advanced object take precedence over it. On a cluster the trainer always counts as set, because it
    decided the image.

    Args:
        values: Settings by name; ``advanced_config`` is an object, others are as the engine converted them.
    """
    defaults: dict[str, Any] = {"advanced_config": {}, **{name: setting.default for name, setting in BASIC.items()}}
    return {
        name: value
        for name, value in values.items()
        if value not in (None, "") and (value != defaults[name] or _decides_image(name))
    }


def settings(values: Mapping[str, Any]) -> list[str]:
    """Returns the same as ``KEY=VALUE`` pairs, for pipelines that were compiled before ``settings`` was one parameter."""
    explicit = given_settings(values)
    return [f"{name}={display(value) if name in BASIC else _text(value)}" for name, value in explicit.items()]


def _decides_image(name: str) -> bool:
    return name == TRAINER and RUN_VARIABLE not in os.environ


def _finish(outcome: Outcome, artifacts: Sequence[dsl.Artifact], returns: Sequence[str]) -> tuple[Any, ...]:
    result = outcome.result
    if result is not None:
        for artifact in artifacts:
            _fill_if_possible(artifact, result)
    scalars = outcome.summary()
    values = ["" if scalars.get(name) is None else scalars.get(name) for name in returns]
    return (result.uri if result is not None else "", *values)


def _fill_if_possible(artifact: dsl.Artifact, result: Result) -> None:
    """Fills an artifact. An error is logged and does not end the stage: it has its receipt, and artifacts are only shown."""
    try:
        fill(artifact, result)
    except Exception as error:  # noqa: BLE001 - whatever a store, a disk or the engine's own library raises
        why = error.sentence if isinstance(error, VisionloopError) else f"{type(error).__name__}: {error}"
        notice(
            f"{result.receipt.stage}: the artifact {artifact.name} is not complete on the engine's page "
            f"({why.rstrip('.')}); the result is at {result.uri}."
        )


def fill(artifact: dsl.Artifact, result: Result) -> None:
    """Fills an output artifact from a receipt.

    The file at its path is a copy of the receipt, or the page for an HTML or Markdown artifact; its own URI stays the
    engine's (KFP refuses one outside the pipeline root), the real URIs are in its metadata. Metrics hold only figures and
    the receipt's URI: KFP's page shows each entry as a column, and compares runs by them.
    """
    receipt = result.receipt
    artifact.metadata["receipt"] = result.uri
    if not isinstance(artifact, dsl.Metrics):
        artifact.metadata.update(
            {
                "stage": receipt.stage,
                "key": receipt.key,
                "digest": receipt.digest,
                "trace_id": receipt.trace_id,
                **{f"{name}_uri": result.output_uri(name) for name in receipt.outputs},
                **{name: value for name, value in receipt.scalars.items() if value is not None},
            }
        )
    path = Path(artifact.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(receipt.encode())  # first, so that the artifact has a file whatever goes wrong below
    if isinstance(artifact, dsl.HTML | dsl.Markdown):
        page = _page(result, ".html" if isinstance(artifact, dsl.HTML) else ".md")
        if page is not None:
            path.write_bytes(page)
    elif isinstance(artifact, dsl.ClassificationMetrics):
        _confusion(artifact, result)
        _roc(artifact, result)
    elif isinstance(artifact, dsl.Metrics):
        for name, value in {**_figures(result), **receipt.metrics}.items():
            artifact.log_metric(name, value)


def _page(result: Result, ending: str) -> bytes | None:
    """Reads the receipt's first page with this file ending, if it has one."""
    pages = [name for name, output in result.receipt.outputs.items() if output.path.endswith(ending)]
    if not pages:
        return None
    page = result.read(pages[0])
    # The engine shows a copy, beside which the run's other pages do not lie.
    return reports.linked(page, {}) if ending == ".html" else page


def _figures(result: Result) -> dict[str, float]:
    """An evaluation's figures beside its metrics."""
    if EVALUATION not in result.receipt.outputs:
        return {}
    # The stage's own libraries, which no other stage needs.
    from visionloop.components.evaluate.figures import figures
    from visionloop.components.evaluate.result import read

    return figures(read(result), result.receipt.timings)


def _confusion(artifact: dsl.ClassificationMetrics, result: Result) -> None:
    """Logs the confusion matrix of an evaluation that has one: KFP's rows are the true classes, ours the predicted ones."""
    if CONFUSION not in result.receipt.outputs:
        return
    measured = msgspec.json.decode(result.read(CONFUSION))
    rows = [list(column) for column in zip(*measured["confusion"], strict=True)]
    # A classification of whole images has no background.
    names = [*(str(name) for name in measured["classes"]), "background"][: len(rows)]
    artifact.log_confusion_matrix(names, rows)


def _roc(artifact: dsl.ClassificationMetrics, result: Result) -> None:
    """Logs the ROC curve of an evaluation that has one; KFP's artifact appends to a curve that it already holds."""
    if ROC not in result.receipt.outputs:
        return
    curve = msgspec.json.decode(result.read(ROC))
    artifact.metadata.pop("confidenceMetrics", None)
    artifact.log_roc_curve(curve["fpr"], curve["tpr"], curve["threshold"])
