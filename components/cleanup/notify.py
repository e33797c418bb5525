"""One message about how a run ended, to a chat or a webhook: what failed, why, what to do, and what is kept.

No engine says why a run failed; the run's record does. Nothing here ever fails a run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from visionloop.components.snapshot.retraining.policy import SKIP
from visionloop.components.snapshot.retraining.usage import model_name
from visionloop.core import secrets, texts
from visionloop.core.errors import InvalidConfig, NotFound, VisionloopError, by_code
from visionloop.core.logs import LOGGER, notice
from visionloop.core.runs import EVENT_NAMES, Failure, RunRecord, StageState

URL_VARIABLE = "VISIONLOOP_NOTIFY_URL"
FORMAT_VARIABLE = "VISIONLOOP_NOTIFY_FORMAT"

#: The Secret that pods take the address from, and the key that held it before: Argo hands on every key of a Secret.
SECRET = secrets.secret_of("notify")
OLD_KEY = "url"

#: Address of a run's page, with ``{run}`` in place of the run's name.
LINK_VARIABLE = "VISIONLOOP_RUN_URL"

#: Written once the message has been accepted, so that a second attempt at cleanup does not send it again.
FILE = "notified.json"

#: The time limit of one try in seconds, and the number of tries.
TIMEOUT_SECONDS = 10.0
TRIES = 3

#: The largest number of metrics that a message shows.
SHOWN = 6


@dataclass(frozen=True)
class Message:
    """The message about a run. ``status`` is completed, failed or stopped; ``facts`` are short lines by name."""

    run: str
    trace_id: str
    status: str
    title: str
    text: str
    facts: dict[str, str] = field(default_factory=dict)
    link: str | None = None


def message_of(record: RunRecord, engine_status: str | None = None, engine_failure: str | None = None) -> Message:
    """The message about a run, from its record alone.

    Args:
        record: The run's record.
        engine_status: The engine's status of the run at its end, used only if no stage recorded a failure. Kubeflow
            Pipelines may report RUNNING for a run that has ended, successfully or not: then the record's end counts.
        engine_failure: What the engine says about the step that failed first, used where ``engine_status`` is.
    """
    run = record.read()
    arguments: Mapping[str, Any] = run.arguments if run else {}
    states = {state.stage: state for state in record.stages()}
    failures = sorted(record.failures(), key=lambda failure: failure.written_at)
    model = str(states["register"].scalars.get("model_name", "")) if "register" in states else ""
    model = model or model_name(arguments)
    trace_id = run.trace_id if run else ""
    template = os.environ.get(LINK_VARIABLE)
    link = template.replace("{run}", quote(record.name, safe="")) if template else None
    if failures:
        return _failed(record.name, trace_id, model, failures[0], states, link)
    if text := why_lost(states, engine_status, engine_failure):
        return Message(record.name, trace_id, "failed", f"{model or record.name}: failed", text, {}, link)
    return _succeeded(record.name, trace_id, model, states, link)


def why_lost(
    states: Mapping[str, StageState], engine_status: str | None, engine_failure: str | None = None
) -> str | None:
    """Why a run in which no stage failed was ended before its last stage, in a sentence; None if it was not.

    Args:
        states: The stages' states by name.
        engine_status: The engine's status of the run at its end.
        engine_failure: What the engine says about the step that failed first.
    """
    if not _lost(states, (engine_status or "").lower()):
        return None
    why = " ".join((engine_failure or "").split()) or "a lost node, a limit of the engine, or a stop by hand"
    return f"The engine ended the run, and no stage told a failure: {why.rstrip('.')}."


def _lost(states: Mapping[str, StageState], engine_status: str) -> bool:
    snapshot, evaluate, register, predict = (
        states.get(name) or StageState(stage=name) for name in ("snapshot", "evaluate", "register", "predict")
    )
    if "succeeded" in (register.state, predict.state):
        return False
    # A model that is only measured has the verdict none.
    over = snapshot.scalars.get("go") == SKIP or evaluate.scalars.get("verdict") in ("reject", "none")
    return engine_status in ("failed", "error") or (engine_status == "running" and not over)


def _failed(
    run: str, trace_id: str, model: str, failure: Failure, states: Mapping[str, StageState], link: str | None
) -> Message:
    error = by_code(failure.exit_code, failure.error_code)
    status = failure.event
    facts = {
        "stage": failure.stage,
        "error": f"{failure.error_code} (exit code {failure.exit_code})",
        "remedy": error.remedy,
    }
    kept = [
        f"{name} ({state.receipt})" for name, state in states.items() if state.state == "succeeded" and state.receipt
    ]
    if failure.receipt:
        kept.append(f"the best checkpoint so far ({failure.receipt})")
    elif failure.last_successful_epoch:
        kept.append(f"checkpoints up to epoch {failure.last_successful_epoch}")
    facts["kept"] = ", ".join(kept) or "nothing yet"
    title = f"{model or run}: {failure.stage} {status}"
    return Message(run, trace_id, status, title, failure.error_message, facts, link)


def _succeeded(run: str, trace_id: str, model: str, states: Mapping[str, StageState], link: str | None) -> Message:
    register, evaluate, snapshot = states.get("register"), states.get("evaluate"), states.get("snapshot")
    facts: dict[str, str] = {}
    if snapshot and snapshot.scalars.get("go") == SKIP:
        text = str(snapshot.scalars.get("reason"))
        return Message(run, trace_id, EVENT_NAMES["succeeded"], f"{model or run}: skipped", text, facts, link)
    verdict = str(evaluate.scalars.get("verdict") or "") if evaluate else ""
    if verdict:
        facts["verdict"] = verdict
    metrics = _metrics(evaluate)
    for name, value in list(metrics.items())[:SHOWN]:
        facts[name] = f"{value:.4g}"
    if register and register.scalars.get("version") is not None:
        version, alias = register.scalars["version"], register.scalars.get("alias")
        text = f"Version {version} is registered{f' as {alias}' if alias else ''}."
        title = f"{model or run}: version {version}"
    elif (predict := states.get("predict")) and predict.receipt:
        scalars = predict.scalars
        text = f"{scalars.get('model')} predicted on {scalars.get('images'):,} images: {predict.receipt}."
        title = f"{scalars.get('model')}: predicted"
        facts |= {name: f"{scalars[name]:,}" for name in ("objects", "unreadable") if scalars.get(name) is not None}
    elif verdict == "reject":
        text, title = "The model is below the gate's floor; nothing is registered.", f"{model or run}: rejected"
    else:
        text, title = "The run has ended.", f"{model or run}: completed"
    return Message(run, trace_id, EVENT_NAMES["succeeded"], title, text, facts, link)


def _metrics(evaluate: StageState | None) -> dict[str, float]:
    from visionloop.core.receipts import load

    if evaluate is None or not evaluate.receipt:
        return {}
    try:
        return load(evaluate.receipt, "evaluate").receipt.metrics
    except VisionloopError:
        return {}


def cleaned(message: Message) -> Message:
    """The message as it may leave the process; what an engine or an earlier version recorded may hold anything."""
    facts = {texts.sentence(name): texts.sentence(value) for name, value in message.facts.items()}
    title, text = texts.sentence(message.title), texts.sentence(message.text)
    link = secrets.redact_urls(message.link) if message.link else None
    return replace(message, title=title, text=text, facts=facts, link=link)


def payload(message: Message, form: str) -> dict[str, Any]:
    """The body to send: Slack's or Teams' own form, or plain JSON with every field.

    Raises:
        InvalidConfig: If ``form`` is not slack, teams or json.
    """
    message = cleaned(message)
    lines = [message.text, *(f"{name}: {value}" for name, value in message.facts.items())]
    if message.link:
        lines.append(message.link)
    match form:
        case "json":
            return {
                "run": message.run,
                "trace_id": message.trace_id,
                "status": message.status,
                "title": message.title,
                "text": message.text,
                **message.facts,
                "link": message.link,
            }
        case "slack":
            # https://docs.slack.dev/messaging/formatting-message-text: these three characters are control characters.
            escaped = "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            title = message.title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return {"text": f"*{title}*\n{escaped}"}
        case "teams":
            # An Adaptive Card as Teams' workflow webhooks take it (https://adaptivecards.io/explorer/).
            body: list[dict[str, Any]] = [
                {"type": "TextBlock", "text": message.title, "weight": "bolder", "wrap": True},
                {"type": "TextBlock", "text": message.text, "wrap": True},
                {
                    "type": "FactSet",
                    "facts": [{"title": name, "value": value} for name, value in message.facts.items()],
                },
            ]
            card: dict[str, Any] = {"type": "AdaptiveCard", "version": "1.4", "body": body}
            if message.link:
                card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the run", "url": message.link}]
            attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
            return {"type": "message", "attachments": [attachment]}
        case _:
            raise InvalidConfig(f"{FORMAT_VARIABLE} is '{form}'; give slack, teams or json.")


def notify(record: RunRecord, engine_status: str | None = None, engine_failure: str | None = None) -> bool:
    """Sends the message about a run if VISIONLOOP_NOTIFY_URL is set and none was sent yet. Returns whether one was sent now."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        if why := _why_no_address():
            notice(f"no message was sent: {why}")
        return False
    try:
        if record.prefix.exists(FILE):
            return False
        message = message_of(record, engine_status, engine_failure)
        _send(url, payload(message, os.environ.get(FORMAT_VARIABLE) or "json"))
        sent = {"status": message.status, "title": cleaned(message).title}
        record.prefix.create(FILE, json.dumps(sent).encode())
    except (VisionloopError, NotFound) as error:
        LOGGER.warning("no message was sent: %s", error)
        return False
    except Exception as error:  # noqa: BLE001 - notifying never fails a run; no text, for the address is a secret
        LOGGER.warning(
            "no message was sent: %s at %s", type(error).__name__, urlsplit(url).hostname or "a wrong address"
        )
        return False
    return True


def _why_no_address() -> str | None:
    """What is wrong where somebody wanted a message and gave no address that is read; None where nobody did."""
    in_a_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    if in_a_pod and OLD_KEY in os.environ:
        return f"the Secret {SECRET} holds the address under the key {OLD_KEY}, which is not read; name the key {URL_VARIABLE}."
    if os.environ.get(FORMAT_VARIABLE):
        problem = f"the Secret {SECRET} has no key {URL_VARIABLE}" if in_a_pod else f"{URL_VARIABLE} is not set"
        return f"{FORMAT_VARIABLE} is set, but {problem} (docs/engines.md, Notifications)."
    return None


def _send(url: str, body: Mapping[str, Any]) -> None:
    import urllib3

    retries = urllib3.Retry(
        TRIES - 1, backoff_factor=1.0, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None
    )
    answer = urllib3.PoolManager().request(
        "POST",
        url,
        body=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        timeout=TIMEOUT_SECONDS,
        retries=retries,
    )
    if answer.status >= 300:
        raise InvalidConfig(
            f"{URL_VARIABLE}: the receiver at {urlsplit(url).hostname} answered {answer.status}; correct the address."
        )
