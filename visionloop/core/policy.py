"""The policy table: what each stage may use and how often it is tried, on every target alike.

Both compilers and the stages themselves read it; nothing else holds a limit. A third party's stage brings its own row
with its entry point, a trainer its own row for ``train``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal

#: The images' default registry and the tag that equals the package's version.
REGISTRY = "localhost"

#: Seconds without finished work after which a stage counts as dead, and the shortest interval between two signs of life.
SILENCE_SECONDS = 300
SIGN_OF_LIFE_SECONDS = 60

#: Seconds by which an engine's deadline exceeds the stage's own limit, so that the stage ends itself first.
ENGINE_DEADLINE_MARGIN = 600

#: The time limit of a whole run, and how long finished pods are kept, in seconds.
RUN_DEADLINE_SECONDS = 25 * 3600
FINISHED_POD_SECONDS = 3600

#: The share of a dataset's images that may be quarantined before the dataset itself is refused.
QUARANTINE_LIMIT = 0.05

#: Seconds by which validate's limit grows with each image, by mode.
VALIDATE_SECONDS_AN_IMAGE = (("annotations", 0.001), ("headers", 0.005), ("full", 0.06))

#: Days after which checkpoints of a training that never finished are removed.
ABANDONED_CHECKPOINT_DAYS = 30

#: The node-wide image cache's size in bytes.
CACHE_BYTES = 50 * 10**9

#: The variable that names the cache's folder; where a stage's policy has a cache volume, it is mounted there.
CACHE_VARIABLE = "VISIONLOOP_CACHE"

#: What the image of a trainer is called, with its name behind it.
TRAINER_IMAGE = "visionloop-trainer"

#: The variable that tells a stage how many GPUs its pod was given; both compilers set it.
POD_GPUS_VARIABLE = "VISIONLOOP_POD_GPUS"

#: The variable that tells register where its pod has the key that signs models, if there is one; both compilers set it.
SIGNING_FILE_VARIABLE = "VISIONLOOP_SIGNING_FILE"


@dataclass(frozen=True)
class Toleration:
    """A Kubernetes toleration; ``value`` None means the operator ``Exists``."""

    key: str
    value: str | None = None
    effect: str = "NoSchedule"


@dataclass(frozen=True)
class StagePolicy:
    """One stage's row.

    CPU in cores ("500m", "2"), memory in Kubernetes' units ("8Gi"), times in seconds. ``attempts`` counts the first try.
    ``cache_claim`` names a PersistentVolumeClaim for the image cache; without one an emptyDir serves. ``annotations`` are the pod's.

    After a kill for memory, the limit is multiplied by ``memory_factor`` for each earlier attempt, up to ``memory_most``
    (None: limited only by the number of attempts). A factor of 1 leaves the limit unchanged.

    The first ``spot_losses`` attempts run on nodes that may be taken away (``spot_selector``, ``spot_tolerations``), later ones
    on all others; without a selector, none runs on such nodes.

    ``gpus_most`` limits the number of GPUs that a run may ask for (None: no limit): a stage that computes on one has no use for more.

    The limit is ``timeout``, and ``seconds_an_image`` of the stage's mode for each image; where that grows with a dataset, an engine's
    deadline is the whole run's.

    ``secrets`` are roles of ``core.secrets``: the pod has the variables of their Secrets and no others. ``variables`` are
    further names that the pod takes from the ConfigMap, such as those of a trainer's library.
    """

    image: str = "visionloop-stage"
    cpu_request: str = "250m"
    cpu_limit: str = "1"
    memory_request: str = "512Mi"
    memory_limit: str = "2Gi"
    memory_factor: float = 2.0
    memory_most: str | None = None
    gpus: int = 0
    gpus_most: int | None = None
    timeout: int = 3600
    seconds_an_image: tuple[tuple[str, float], ...] = ()
    attempts: int = 3
    backoff_first: int = 1
    backoff_factor: float = 2.0
    backoff_longest: int = 10
    grace_period: int = 30
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    spot_losses: int = 0
    spot_selector: tuple[tuple[str, str], ...] = ()
    spot_tolerations: tuple[Toleration, ...] = ()
    shared_memory: str | None = None
    cache_volume: bool = False
    cache_claim: str | None = None
    image_pull_policy: str = "IfNotPresent"
    image_pull_secret: str | None = None
    priority_class: str | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ("dataset", "results")
    variables: tuple[str, ...] = ()

    @property
    def engine_deadline(self) -> int:
        """Seconds after which an engine kills an attempt."""
        return RUN_DEADLINE_SECONDS if self.seconds_an_image else self.timeout + ENGINE_DEADLINE_MARGIN

    def limit(self, mode: str, images: int) -> float:
        """The stage's own limit in seconds, over all attempts, for this many images."""
        return self.timeout + dict(self.seconds_an_image).get(mode, 0.0) * images

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after ``attempt`` (1 for the first) failed."""
        # A large attempt number would overflow the power.
        return min(self.backoff_first * self.backoff_factor ** min(attempt - 1, 64), self.backoff_longest)


#: Kubernetes' units of memory in bytes (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def mebibytes(quantity: str) -> int:
    """An amount of memory in Kubernetes' notation ("8Gi", "1.5G", "500000k") in MiB, rounded down.

    Raises:
        ValueError: If it is not such an amount.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?", quantity, re.ASCII)
    if match is None:
        raise ValueError(f"{quantity!r} is not an amount of memory; give a number and one of {', '.join(_UNITS)[2:]}.")
    return int(Decimal(match[1]) * _UNITS[match[2] or ""]) // 2**20


#: The label, and the taint, of nodes that may be taken away at any time (docs/engines.md).
SPOT = ("visionloop/capacity", "spot")

#: Keeps the cluster's autoscaler from removing an underused node while a pod runs on it for hours
#: (https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md).
STAYS = ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")

#: What a stage has that asks for the champion, tracks, or registers.
_WITH_REGISTRY = ("dataset", "results", "registry")

_DATA = StagePolicy()
_GPU = StagePolicy(
    image=TRAINER_IMAGE,
    cpu_request="2",
    cpu_limit="4",
    memory_request="8Gi",
    memory_limit="16Gi",
    memory_most="64Gi",
    gpus=1,
    timeout=24 * 3600,
    backoff_first=10,
    backoff_longest=60,
    grace_period=60,
    tolerations=(Toleration("nvidia.com/gpu"),),
    spot_selector=(SPOT,),
    spot_tolerations=(Toleration(*SPOT),),
    shared_memory="2Gi",
    cache_volume=True,
    annotations=(STAYS,),
    secrets=_WITH_REGISTRY,
)

#: One row per stage. Those with TRAINER_IMAGE run in the image of the run's trainer.
POLICIES: dict[str, StagePolicy] = {
    "snapshot": replace(_DATA, secrets=_WITH_REGISTRY),
    "validate": replace(
        _DATA, timeout=300, seconds_an_image=VALIDATE_SECONDS_AN_IMAGE, cpu_limit="2", memory_limit="4Gi"
    ),
    "convert": replace(_DATA, secrets=_WITH_REGISTRY),
    "train": replace(_GPU, secrets=(*_WITH_REGISTRY, "events")),
    "evaluate": replace(_GPU, gpus_most=1, timeout=2 * 3600),
    "export": replace(
        _DATA,
        image=TRAINER_IMAGE,
        cpu_request="1",
        cpu_limit="4",
        memory_request="2Gi",
        memory_limit="8Gi",
        memory_most="32Gi",
        timeout=2 * 3600,
        cache_volume=True,
    ),
    "register": replace(_DATA, image=TRAINER_IMAGE, memory_limit="4Gi", secrets=("results", "registry")),
    "predict": replace(_GPU, gpus_most=1, shared_memory=None, cache_volume=False, secrets=(*_WITH_REGISTRY, "events")),
    "cleanup": replace(_DATA, timeout=300, attempts=3, secrets=("results", "registry", "notify", "events")),
}


def row_of_trainer(name: str) -> StagePolicy:
    """The row for train of a trainer that needs no more than the table says: in the image of its name."""
    return replace(POLICIES["train"], image=f"{TRAINER_IMAGE}-{name}")
