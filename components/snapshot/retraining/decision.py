"""The decision for one run: the policy, the champion and the earlier runs brought together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from visionloop.components.snapshot.retraining.champion import compare
from visionloop.components.snapshot.retraining.policy import Decision, Usage, decide, parse_policy
from visionloop.components.snapshot.retraining.usage import usage_of
from visionloop.core.errors import InvalidConfig
from visionloop.core.names import sanitise
from visionloop.core.storage import Prefix
from visionloop.data.annotations.tables import Annotations
from visionloop.registry import Registry


def decide_run(
    retraining: str,
    model: str | None,
    workspace: Prefix,
    run: str,
    snapshot_id: str,
    annotations: Annotations,
    environment: Mapping[str, str],
) -> Decision:
    """The decision for a run.

    Args:
        retraining: The policy as ``--retraining`` takes it.
        model: The model's name, not yet sanitised.
        workspace: The results' prefix.
        run: The run's name.
        snapshot_id: The id of this run's snapshot.
        annotations: Its annotations.
        environment: Variables that name the registry.

    Raises:
        InvalidConfig: If the policy is wrong, no model is named, or there is no MLflow.
    """
    policy = parse_policy(retraining)
    if not model:
        raise InvalidConfig("--retraining needs --model-name: the champion of that name is what is compared with.")
    name = sanitise(model)
    now = datetime.now(UTC)
    champion = Registry(environment, "--retraining").champion(name)
    compared = compare(champion, name, snapshot_id, annotations, now, workspace)
    return decide(policy, compared, usage_of(workspace, name, run, now) if policy.limits else Usage())
