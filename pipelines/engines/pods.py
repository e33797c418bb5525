"""What every pod of Visionloop has, on either engine: variables, volumes, paths, labels and the security context."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core import names
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import CACHE_VARIABLE, POD_GPUS_VARIABLE, StagePolicy

#: The Secret and the ConfigMap that pods take variables from; neither has to exist, nor any key in them.
SECRET = "visionloop"  # noqa: S105 - the name of a Secret, not one
CONFIG_MAP = "visionloop"

#: Variables taken from the Secret where an engine must name each (KFP); Argo takes all of its keys.
SECRET_VARIABLES = (
    "INTERNAL_S3_ACCESS_KEY",
    "INTERNAL_S3_SECRET_KEY",
    "EXTERNAL_S3_ACCESS_KEY",
    "EXTERNAL_S3_SECRET_KEY",
    "EXTERNAL_STORAGE_ACCESS_KEY",
    "EXTERNAL_STORAGE_SECRET_KEY",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "R2_ACCESS_KEY_ID",
    "R2_SECRET_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "CALLBACK_TOKEN",
    "LABELER_SERVICE_KEY",
    "SERVICE_JWT_SECRET",
    "PRESIGNED_URLS_JSON",
    "VISIONLOOP_NOTIFY_URL",
)

#: Variables taken from the ConfigMap where an engine must name each.
CONFIG_VARIABLES = (
    "INTERNAL_S3_ENDPOINT",
    "EXTERNAL_S3_ENDPOINT",
    "EXTERNAL_STORAGE_ENDPOINT",
    "S3_ENDPOINT",
    "STORAGE_TYPE",
    "R2_ENDPOINT",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_ENABLED",
    "OBSERVABILITY_BACKENDS",
    "TENSORBOARD_ENABLED",
    "TENSORBOARD_LOG_DIR",
    "CLEARML_API_HOST",
    "CLEARML_WEB_HOST",
    "CALLBACK_URL",
    "CALLBACK_INTERVAL",
    "LABELER_API_URL",
    "DATASET_S3_URI",
    "TASK_TYPE",
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
    "OMP_NUM_THREADS",
    "VISIONLOOP_ALLOW_DOWNLOAD",
    "VISIONLOOP_CACHE_BYTES",
    "VISIONLOOP_LOG_FORMAT",
    "VISIONLOOP_LOG_LEVEL",
    "VISIONLOOP_NOTIFY_FORMAT",
    "VISIONLOOP_RUN_URL",
    "VISIONLOOP_WEIGHTS",
)

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

#: The Kubernetes resource that the policy's ``gpus`` counts.
GPU = "nvidia.com/gpu"

#: The group that owns a pod's volumes, so that a user other than root may write to them.
VOLUME_GROUP = 65532

#: The service account of each stage's pods (manifests/base); a third party's stage has the first.
SERVICE_ACCOUNT = "visionloop-data"
SERVICE_ACCOUNTS = {"train": "visionloop-train", "evaluate": "visionloop-train", "register": "visionloop-register"}

#: The labels under which ``argo list -l`` finds a run.
MODEL_LABEL, DATASET_LABEL, TRACE_LABEL = "visionloop/model", "visionloop/dataset", "visionloop/trace-id"

#: The label that names the stage on each of its pods.
STAGE_LABEL = "app.kubernetes.io/component"

#: Prefixes of the annotations that engines write and read themselves; no row may have one.
ENGINES_ANNOTATIONS = ("workflows.argoproj.io/", "pipelines.kubeflow.org/")


@dataclass(frozen=True)
class Volume:
    """A volume: an emptyDir, in memory or with a size limit, or a PersistentVolumeClaim."""

    name: str
    path: str
    memory: bool = False
    size: str | None = None
    claim: str | None = None


def volumes(policy: StagePolicy) -> list[Volume]:
    """The volumes of a stage's pod."""
    needed = [Volume("scratch", SCRATCH)]
    if policy.shared_memory:
        needed.append(Volume("shared-memory", "/dev/shm", memory=True, size=policy.shared_memory))  # noqa: S108
    if policy.cache_volume:
        needed.append(Volume("cache", CACHE, claim=policy.cache_claim))
    return needed


def environment(policy: StagePolicy) -> dict[str, str]:
    """The variables that a stage's pod sets itself."""
    cache = {CACHE_VARIABLE: CACHE} if policy.cache_volume else {}
    return {**ENVIRONMENT, **cache, POD_GPUS_VARIABLE: str(policy.gpus)}


def labels(stage: str) -> dict[str, str]:
    """The labels of a stage's pods."""
    return {"app.kubernetes.io/name": "visionloop", STAGE_LABEL: names.sanitise(stage)}


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
