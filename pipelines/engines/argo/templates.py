"""A stage as an Argo template, from its arguments and its policy row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import yaml
from hera.workflows import Container, Parameter, models
from hera.workflows.models import (
    Backoff,
    Capabilities,
    ConfigMapKeySelector,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    ExecutorConfig,
    PersistentVolumeClaimVolumeSource,
    PodSecurityContext,
    Quantity,
    ResourceRequirements,
    SeccompProfile,
    SecretEnvSource,
    SecretVolumeSource,
    SecurityContext,
    ValueFrom,
    VolumeMount,
)
from hera.workflows.retry_strategy import RetryStrategy

from visionloop.components.calls import SHARDS
from visionloop.core.errors import RETRYABLE
from visionloop.core.policy import POD_GPUS_VARIABLE, StagePolicy, Toleration, mebibytes
from visionloop.core.stage import Action, Argument, Stage
from visionloop.pipelines.engines import pods
from visionloop.pipelines.parameters import Parameter as FormParameter
from visionloop.pipelines.targets import Target

#: Where a stage writes its output parameters: a folder of its own in the pod's scratch volume.
OUTPUTS = f"{pods.SCRATCH}/outputs"

#: An output that a "successful" step lost is empty, so that what reads it refuses it; a list must still be a list.
LOST = {SHARDS: "[]"}

#: The exit code that Argo gives a failed pod none of whose containers ran: its node refused or evicted it.
NEVER_RAN = -1

#: Retries a lost pod, which has no exit code, and a failed one by its exit code (docs/contract.md, "Retries").
RETRY_EXPRESSION = f"lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in {[NEVER_RAN, *RETRYABLE]}"

#: Conditions of a pod's patch: that it takes GPUs, that it goes to a spot node, and that the previous attempt was killed for
#: its memory (137, an exit code that a deleted or lost pod does not have).
_WITH_GPUS = "asInt(inputs.parameters.gpus) > 0"
_ON_SPOT = "{attempt} < asInt(inputs.parameters.spot)"
_KILLED = "lastRetry.exitCode == '137'"

#: A name from a person as a label's or a lock's, in Argo's expression language: as ``core.names`` makes it, except for accents.
SANITISED = (
    "let clean = sprig.trimAll('-', sprig.regexReplaceAll('[^a-z0-9]+', sprig.lower({}), '-')); "
    "len(clean) <= 63 ? clean : sprig.trimAll('-', sprig.trunc(54, clean)) + '-' + sprig.trunc(8, sprig.sha256sum(clean))"
)


@dataclass(frozen=True)
class Field:
    """An input of a template: its default as text (None makes it required), meaning and choices."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, parameter: FormParameter) -> Field:
        """A field of the pipelines' form."""
        return cls(parameter.name, parameter.text, parameter.description, parameter.choices)

    def parameter(self) -> Parameter:
        """The template's input, without its meaning: each node's status repeats all of it, and the form has the meaning.

        So the default is the value that an argument replaces: a ``default`` would be repeated with it in every node.
        """
        keywords: dict[str, Any] = {} if self.default is None else {"value": self.default}
        return Parameter(name=self.name, **keywords)

    def argument(self) -> Parameter:
        """The workflow's argument: a field of the form."""
        keywords: dict[str, Any] = {} if self.default is None else {"value": self.default}
        return Parameter(name=self.name, description=self.description, enum=list(self.choices) or None, **keywords)


#: The inputs that every stage has.
COMMON = (
    Field("workspace", None, "Where results lie: s3://bucket/prefix, file:///folder or a path."),
    Field("trace_id", "", "The trace id; empty takes the run's."),
)


def inputs_of(stage: Stage | Action) -> list[Field]:
    """A stage's own arguments as inputs, except for repeated ones."""
    inputs = []
    for entry in fields(stage.arguments):
        argument: Argument = entry.metadata["argument"]
        if not argument.repeated:
            required = entry.default is MISSING
            inputs.append(Field(entry.name, None if required else str(entry.default or ""), argument.description))
    return inputs


def gpus(policy: StagePolicy) -> list[Field]:
    """The input that says how many GPUs a stage's pod takes, if its row has some."""
    if not policy.gpus:
        return []
    return [Field("gpus", str(policy.gpus), "GPUs of the pod; 0 runs it on the CPU, on any node.")]


def spot(policy: StagePolicy) -> list[Field]:
    """The input that says how many attempts go to spot nodes, if its row selects some."""
    if not policy.spot_selector:
        return []
    meaning = "Attempts on spot nodes, which may be taken away, before those on others; 0 uses none."
    return [Field("spot", str(policy.spot_losses), meaning)]


def memory(policy: StagePolicy) -> list[Field]:
    """The input from which a retry's memory grows: an overlay that replaces the container's limit replaces it too."""
    if not _grows(policy):
        return []
    return [Field("memory", str(mebibytes(policy.memory_limit)), "The container's memory limit in MiB.")]


def fields_of(stage: Stage | Action, policy: StagePolicy, more: Iterable[Field] = ()) -> list[Field]:
    """Every input of a stage's template that a person gives."""
    return [*COMMON, *inputs_of(stage), *more, *gpus(policy), *spot(policy)]


def stage_template(
    stage: Stage | Action,
    policy: StagePolicy,
    target: Target,
    *,
    outputs: Sequence[str],
    inputs: Iterable[Field] = (),
    words: Sequence[str] = (),
    synchronization: models.Synchronization | None = None,
    trainer: str | None = None,
) -> Container:
    """A container template that runs ``visionloop stage NAME``.

    Args:
        stage: The stage; its arguments become inputs and options.
        policy: Its policy row.
        target: Where the images come from.
        outputs: The output parameters: receipt and scalars.
        inputs: Further inputs.
        words: Further words of the command line.
        synchronization: Locks that the template waits for.
        trainer: The trainer whose image it runs, if it is for one alone.
    """
    own = inputs_of(stage)
    command = [
        "stage",
        stage.name,
        *(f"--{field.name.replace('_', '-')}={{{{inputs.parameters.{field.name}}}}}" for field in (*COMMON, *own)),
        *words,
        "--run={{workflow.uid}}",
        f"--outputs={OUTPUTS}",
    ]
    return Container(
        name=stage.name,
        inputs=[field.parameter() for field in (*fields_of(stage, policy, inputs), *memory(policy))],
        outputs=[
            Parameter(name=output, value_from=ValueFrom(path=f"{OUTPUTS}/{output}", default=LOST.get(output, "")))
            for output in outputs
        ],
        image=target.image(policy),
        image_pull_policy=policy.image_pull_policy,
        command=["visionloop"],
        args=command,
        env=[
            *(EnvVar(name=name, value=value) for name, value in environment(stage.name, policy).items()),
            *(_from_config_map(name) for name in pods.config_of(stage.name, policy)),
        ],
        env_from=[
            EnvFromSource(secret_ref=SecretEnvSource(name=secret, optional=True))
            for secret in pods.secrets_of(stage.name, policy)
        ],
        resources=ResourceRequirements(
            requests={"cpu": Quantity(policy.cpu_request), "memory": Quantity(policy.memory_request)},
            limits={"cpu": Quantity(policy.cpu_limit), "memory": Quantity(policy.memory_limit)},
        ),
        volumes=[_volume(volume) for volume in pods.volumes(stage.name, policy)],
        volume_mounts=[
            VolumeMount(name=volume.name, mount_path=volume.path, read_only=True if volume.secret else None)
            for volume in pods.volumes(stage.name, policy)
        ],
        security_context=_security(),
        pod_security_context=PodSecurityContext(
            run_as_non_root=True, fs_group=pods.VOLUME_GROUP, seccomp_profile=SeccompProfile(type="RuntimeDefault")
        ),
        # Every task gives its trace id; the model and, where a template serves several, the trainer are the pipeline's to say.
        labels={
            **pods.labels(stage.name, trainer),
            pods.RUN_LABEL: "{{workflow.uid}}",
            pods.TRACE_LABEL: label_value("inputs.parameters.trace_id"),
        },
        annotations=pods.annotations_of(policy) or None,
        service_account_name=pods.service_account(stage.name),
        automount_service_account_token=False,
        executor=ExecutorConfig(service_account_name=pods.EXECUTOR_ACCOUNT),
        active_deadline_seconds=policy.engine_deadline,
        retry_strategy=_retries(policy),
        priority_class_name=policy.priority_class,
        pod_spec_patch=pod_spec_patch(policy),
        synchronization=synchronization,
    )


def label_value(source: str) -> str:
    """What an expression of Argo yields, as a label's value."""
    return f"{{{{={SANITISED.format(source)}}}}}"


def _from_config_map(name: str) -> EnvVar:
    selector = ConfigMapKeySelector(name=pods.CONFIG_MAP, key=name, optional=True)
    return EnvVar(name=name, value_from=EnvVarSource(config_map_key_ref=selector))


def environment(stage: str, policy: StagePolicy) -> dict[str, str]:
    """The variables that a stage's pod sets itself; a run may ask for another number of GPUs than the row's."""
    own = {POD_GPUS_VARIABLE: "{{inputs.parameters.gpus}}"} if policy.gpus else {}
    return pods.environment(stage, policy) | own


def pod_spec_patch(policy: StagePolicy) -> str:
    """The YAML of what a template has no field for, and of what depends on inputs and attempts.

    Argo's own containers get the security context that Pod Security ``restricted`` requires. GPU limit, selector and
    toleration depend on the input ``gpus``, spot nodes on the input ``spot`` and the attempt's number, more memory on how
    the previous attempt ended.
    """
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    # Without them Kubernetes hands every pod the addresses of all Services of the namespace, as variables.
    patch: dict[str, Any] = {"terminationGracePeriodSeconds": policy.grace_period, "enableServiceLinks": False}
    if policy.image_pull_secret:
        patch["imagePullSecrets"] = [{"name": policy.image_pull_secret}]
    patch["initContainers"] = [{"name": "init", "securityContext": security}]
    patch["containers"] = [{"name": "wait", "securityContext": security}]
    lines = [
        yaml.dump(patch, Dumper=_NoAliases, sort_keys=False, default_flow_style=None, width=200).rstrip(),
        *_resources(policy),
        *_placement(policy),
    ]
    return "\n".join(lines) + "\n"


def _resources(policy: StagePolicy) -> list[str]:
    """What the main container gets in addition to its template's resources."""
    limits, requests = "", ""
    if policy.gpus:
        limits += _if(_WITH_GPUS, f'"{pods.GPU}": "\' + inputs.parameters.gpus + \'"')
    if _grows(policy):
        # The previous attempt used all of its limit, so a node must have that much.
        limits += _if(_KILLED, f'"memory": "\' + {_grown(policy, "int(retries)")} + \'Mi"')
        requests += _if(_KILLED, f'"memory": "\' + {_grown(policy, "int(retries) - 1")} + \'Mi"')
    if not limits:
        return []
    return ["- name: main", "  resources:", f"    limits: {{ {limits} }}", f"    requests: {{ {requests} }}"]


def _placement(policy: StagePolicy) -> list[str]:
    """The tolerations and the node selector of the pod."""
    tolerations = [
        [json.dumps(_plain(toleration)) for toleration in some]
        for some in (policy.tolerations, policy.spot_tolerations)
    ]
    selectors = [
        [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in some]
        for some in (policy.node_selector, policy.spot_selector)
    ]
    on_spot = _ON_SPOT.format(attempt="int(retries)" if policy.attempts > 1 else "0")
    lines = []
    for name, (own, spots), (opening, closing) in (
        ("tolerations", tolerations, "[]"),
        ("nodeSelector", selectors, "{}"),
    ):
        entries = _if(_WITH_GPUS if policy.gpus else "true", ", ".join(own)) if own else ""
        if spots and policy.spot_selector:
            entries += _if(on_spot, ", ".join(spots))
        if entries:
            lines.append(f"{name}: {opening} {entries} {closing}")
    return lines


def _if(condition: str, entries: str) -> str:
    """Entries of a list or an object in YAML's flow style, which allows a comma after the last one too."""
    return f"{entries}, " if condition == "true" else f"{{{{={condition} ? '{entries}, ' : ''}}}}"


def _grows(policy: StagePolicy) -> bool:
    return policy.memory_factor > 1 and policy.attempts > 1


def _grown(policy: StagePolicy, steps: str) -> str:
    """The memory in MiB after some kills, as an expression that yields text."""
    amount = f"asFloat(inputs.parameters.memory) * {policy.memory_factor:g} ** ({steps})"
    if policy.memory_most:
        amount = f"max(asFloat(inputs.parameters.memory), min({amount}, {mebibytes(policy.memory_most)}))"
    return f"string(int({amount}))"


class _NoAliases(yaml.SafeDumper):
    """Writes a repeated value in full each time."""

    def ignore_aliases(self, data: Any) -> bool:
        """True for every value."""
        return True


def _retries(policy: StagePolicy) -> RetryStrategy | None:
    if policy.attempts < 2:
        return None
    return RetryStrategy(
        limit=str(policy.attempts - 1),
        # Stated, although an expression implies it in Argo: the expression alone decides.
        retry_policy="Always",
        expression=RETRY_EXPRESSION,
        backoff=Backoff(
            duration=f"{policy.backoff_first}s",
            factor=models.IntOrString(root=f"{policy.backoff_factor:g}"),
            cap=f"{policy.backoff_longest}s",
        ),
    )


def _security() -> SecurityContext:
    return SecurityContext(
        allow_privilege_escalation=False,
        capabilities=Capabilities(drop=["ALL"]),
        read_only_root_filesystem=True,
        run_as_non_root=True,
        seccomp_profile=SeccompProfile(type="RuntimeDefault"),
    )


def _volume(volume: pods.Volume) -> models.Volume:
    if volume.claim:
        return models.Volume(
            name=volume.name, persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name=volume.claim)
        )
    if volume.secret:
        # For the pod's user by the volumes' group, and for nobody else.
        files = SecretVolumeSource(secret_name=volume.secret, optional=True, default_mode=0o440)
        return models.Volume(name=volume.name, secret=files)
    return models.Volume(
        name=volume.name,
        empty_dir=EmptyDirVolumeSource(
            medium="Memory" if volume.memory else None, size_limit=Quantity(volume.size) if volume.size else None
        ),
    )


def _plain(toleration: Toleration) -> dict[str, str]:
    plain = {"key": toleration.key, "operator": "Exists", "effect": toleration.effect}
    return plain if toleration.value is None else plain | {"operator": "Equal", "value": toleration.value}


def shown_as(title: str, description: str) -> Mapping[str, str]:
    """What Argo's page shows of a template."""
    return {"workflows.argoproj.io/title": title, "workflows.argoproj.io/description": description}
