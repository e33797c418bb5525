"""What every pod of Visionloop has, on either engine: variables, volumes, paths, labels and the security context."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from visionloop.core import names, secrets
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import CACHE_VARIABLE, POD_GPUS_VARIABLE, POLICIES, SIGNING_FILE_VARIABLE, StagePolicy

#: The ConfigMap that pods take variables from; it need not exist, nor any key in it.
CONFIG_MAP = "visionloop"

#: Variables that pods take from the Secrets of their roles (``secrets_of``); none of these has to exist either.
SECRET_VARIABLES = tuple(entry.name for entry in secrets.CREDENTIALS if entry.role)

#: Variables that every stage takes from the ConfigMap: the form of its log lines, and the way to the stores.
EVERY_STAGE = (
    "VISIONLOOP_LOG_FORMAT",
    "VISIONLOOP_LOG_LEVEL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)

#: Variables taken by each stage that has a role: where that role's store or server lies.
OF_ROLE = {
    "dataset": ("EXTERNAL_S3_ENDPOINT", "EXTERNAL_STORAGE_ENDPOINT"),
    "results": (
        "INTERNAL_S3_ENDPOINT",
        "S3_ENDPOINT",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ),
    "registry": (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "CLEARML_API_HOST",
        "CLEARML_WEB_HOST",
        "CLEARML_FILES_HOST",
        "CLEARML_API_HOST_VERIFY_CERT",
        "CLEARML_OFFLINE_MODE",
    ),
    "notify": ("VISIONLOOP_NOTIFY_FORMAT", "VISIONLOOP_RUN_URL"),
    "events": ("CALLBACK_INTERVAL",),
}

#: What makes a training's key: read where it is checked (snapshot), looked for (convert) and computed (train).
_TRAINING = (
    "MODEL_NAME",
    "FRAMEWORK",
    "EPOCHS",
    "BATCH_SIZE",
    "LEARNING_RATE",
    "IMGSZ",
    "DEVICE",
    "CONFIG",
    "CONFIG_IMGSZ",
    "CONFIG_EPOCHS",
    "CONFIG_BATCH",
    "CONFIG_LR0",
    "CONFIG_OPTIMIZER",
    "CONFIG_AUGMENT",
    "ADVANCED_CONFIG",
    "VISIONLOOP_WEIGHTS",
    "VISIONLOOP_ALLOW_DOWNLOAD",
)

#: What decides which trackers a training is told to: read where it is checked (snapshot) and where it is tracked (train).
_TRACKING = (
    "MLFLOW_ENABLED",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL",
    "OBSERVABILITY_BACKENDS",
    "TENSORBOARD_ENABLED",
    "TENSORBOARD_LOG_DIR",
)

#: Variables that a stage takes besides.
OF_STAGE = {
    "snapshot": ("DATASET_S3_URI", "TASK_TYPE", *_TRAINING, *_TRACKING),
    "convert": _TRAINING,
    "train": (
        *_TRAINING,
        *_TRACKING,
        "CLEARML_CACHE_DIR",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_EXPERIMENT_ID",
        "OMP_NUM_THREADS",
        "VISIONLOOP_CACHE_BYTES",
    ),
    "evaluate": ("DEVICE", "OMP_NUM_THREADS", "VISIONLOOP_CACHE_BYTES"),
    "export": ("OMP_NUM_THREADS", "VISIONLOOP_CACHE_BYTES"),
    "register": ("OMP_NUM_THREADS",),
    "predict": ("OMP_NUM_THREADS",),
}

#: Every variable that some stage takes from the ConfigMap.
CONFIG_VARIABLES = tuple(dict.fromkeys(chain(EVERY_STAGE, *OF_ROLE.values(), *OF_STAGE.values())))

#: The one folder of a pod that is writable, an emptyDir: the root file system is read-only.
SCRATCH = "/tmp"  # noqa: S108 - a volume of the pod's own

#: HOME and every library's cache lie in the scratch folder.
ENVIRONMENT = {
    "HOME": SCRATCH,
    "TMPDIR": SCRATCH,
    "XDG_CACHE_HOME": f"{SCRATCH}/.cache",
    "MPLCONFIGDIR": f"{SCRATCH}/.cache/matplotlib",
}

#: Where the image cache lies in a pod that has one.
CACHE = "/cache"

#: The Secret with the key that signs models (its key ``key.pem``), and where register's pods have it as a file: no other stage's do.
SIGNER = "visionloop-signing"
SIGNING = "/signing"
SIGNING_KEY = f"{SIGNING}/key.pem"
SIGNS = "register"

#: The Kubernetes resource that the policy's ``gpus`` counts.
GPU = "nvidia.com/gpu"

#: The group that owns a pod's volumes, so that a user other than root may write to them.
VOLUME_GROUP = 65532

#: The service account of each stage's pods (manifests/base); a third party's stage has the first.
SERVICE_ACCOUNT = "visionloop-data"
SERVICE_ACCOUNTS = {
    "train": "visionloop-train",
    "evaluate": "visionloop-train",
    "predict": "visionloop-train",
    "register": "visionloop-register",
}

#: Whose token Argo's own containers have, to report a step's outputs; the stage's container has none.
EXECUTOR_ACCOUNT = "visionloop-executor"

#: The labels under which a run and its pods are found; values are as ``core.names.sanitise`` makes them.
MODEL_LABEL, DATASET_LABEL, TRACE_LABEL = "visionloop/model", "visionloop/dataset", "visionloop/trace-id"
RUN_LABEL, TRAINER_LABEL = "visionloop/run", "visionloop/trainer"

#: The label that names the stage on each of its pods.
STAGE_LABEL = "app.kubernetes.io/component"

#: Prefixes of the annotations that engines write and read themselves; no row may have one.
ENGINES_ANNOTATIONS = ("workflows.argoproj.io/", "pipelines.kubeflow.org/")


@dataclass(frozen=True)
class Volume:
    """A volume: an emptyDir, in memory or with a size limit, a PersistentVolumeClaim, or the files of a Secret that need not exist."""

    name: str
    path: str
    memory: bool = False
    size: str | None = None
    claim: str | None = None
    secret: str | None = None


def volumes(stage: str, policy: StagePolicy) -> list[Volume]:
    """The volumes of a stage's pod."""
    needed = [Volume("scratch", SCRATCH)]
    if policy.shared_memory:
        needed.append(Volume("shared-memory", "/dev/shm", memory=True, size=policy.shared_memory))  # noqa: S108
    if policy.cache_volume:
        needed.append(Volume("cache", CACHE, claim=policy.cache_claim))
    if stage == SIGNS:
        needed.append(Volume("signing", SIGNING, secret=SIGNER))
    return needed


def environment(stage: str, policy: StagePolicy) -> dict[str, str]:
    """The variables that a stage's pod sets itself."""
    cache = {CACHE_VARIABLE: CACHE} if policy.cache_volume else {}
    signing = {SIGNING_FILE_VARIABLE: SIGNING_KEY} if stage == SIGNS else {}
    return {**ENVIRONMENT, **cache, **signing, POD_GPUS_VARIABLE: str(policy.gpus)}


def labels(stage: str, trainer: str | None = None) -> dict[str, str]:
    """The labels of a stage's pods that are known before a run, with the trainer's if there is but one."""
    of_trainer = {TRAINER_LABEL: names.sanitise(trainer)} if trainer else {}
    return {"app.kubernetes.io/name": "visionloop", STAGE_LABEL: names.sanitise(stage), **of_trainer}


def annotations_of(policy: StagePolicy) -> dict[str, str]:
    """The annotations of a stage's pods.

    Raises:
        InvalidConfig: If one is an engine's own.
    """
    for name, _ in policy.annotations:
        if name.startswith(ENGINES_ANNOTATIONS):
            raise InvalidConfig(
                f"The policy row of image {policy.image}: annotation {name} is the engine's own; name it otherwise."
            )
    return dict(policy.annotations)


def service_account(stage: str) -> str:
    """The service account of a stage's pods."""
    return SERVICE_ACCOUNTS.get(stage, SERVICE_ACCOUNT)


def secrets_of(stage: str, policy: StagePolicy) -> dict[str, tuple[str, ...]]:
    """The Secrets that a stage's pods take variables from, with these variables, by the Secret's name.

    Raises:
        InvalidConfig: If the row names an unknown role.
    """
    return {secrets.secret_of(role): secrets.variables(role) for role in _roles(stage, policy)}


def config_of(stage: str, policy: StagePolicy) -> tuple[str, ...]:
    """The variables that a stage's pods take from the ConfigMap: none that the stage does not read.

    Raises:
        InvalidConfig: If the row names an unknown role.
    """
    of_roles = chain.from_iterable(OF_ROLE[role] for role in _roles(stage, policy))
    return tuple(dict.fromkeys((*EVERY_STAGE, *of_roles, *OF_STAGE.get(stage, ()), *policy.variables)))


def _roles(stage: str, policy: StagePolicy) -> list[str]:
    """A stage's roles: a trainer's row for ``train`` may add one, but takes none away from the stage."""
    roles = {*policy.secrets, *(POLICIES[stage].secrets if stage in POLICIES else ())}
    if unknown := sorted(roles - set(secrets.ROLES)):
        raise InvalidConfig(
            f"The policy row of {stage}: secrets {unknown[0]}; give some of {', '.join(secrets.ROLES)}."
        )
    return [role for role in secrets.ROLES if role in roles]
