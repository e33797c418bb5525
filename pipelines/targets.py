"""What a pipeline is compiled for: where its images come from, which policy rows apply, and whether an engine places pods."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from visionloop.components.calls import STAGES
from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import REGISTRY, StagePolicy
from visionloop.training import catalog as training_catalog
from visionloop.training.configuration.settings import BASIC

#: The trainer that a form names by default; its rows are the DAG's plain ones.
DEFAULT_TRAINER = str(BASIC["trainer"].default)


#: The stages that need the trainer's library, so they run in its image: both engines have one of each for every trainer.
BY_TRAINER = ("train", "evaluate", "export", "register", "predict")


@dataclass(frozen=True)
class Target:
    """An engine with its images and policies.

    Attributes:
        policies: The row of each stage.
        trainers: The train row of each trainer, the default one first; its image serves evaluate, export and register too.
        registry: The images' registry.
        tag: The images' tag, by default the package's version.
        places: Whether an engine places pods and retries them. On a laptop nothing does: kfp.local would honour a retry
            with real sleeps, whatever the exit code, so a stage retries itself there.
    """

    policies: Mapping[str, StagePolicy]
    trainers: Mapping[str, StagePolicy]
    registry: str = REGISTRY
    tag: str = field(default_factory=lambda: version("visionloop"))
    places: bool = True

    def image(self, policy: StagePolicy) -> str:
        """A row's image."""
        return f"{self.registry}/{policy.image}:{self.tag}"

    def row(self, stage: str, trainer: str) -> StagePolicy:
        """A stage's row: for train the trainer's own, for the others of BY_TRAINER the stage's with the trainer's image and variables."""
        if stage not in BY_TRAINER:
            return self.policies[stage]
        own, policy = self.trainers[trainer], self.policies[stage]
        return own if stage == "train" else replace(policy, image=own.image, variables=policy.variables + own.variables)

    def shared_row(self, stage: str, trainers: Sequence[str]) -> StagePolicy:
        """The row of a stage of BY_TRAINER for a task that several trainers share: the first one's, with the variables of all."""
        variables = (name for trainer in trainers for name in self.row(stage, trainer).variables)
        return replace(self.row(stage, trainers[0]), variables=tuple(dict.fromkeys(variables)))

    def alike(self) -> list[tuple[str, ...]]:
        """The trainers in groups whose rows for train differ in nothing but image and variables."""
        groups: dict[StagePolicy, tuple[str, ...]] = {}
        for name, row in self.trainers.items():
            plain = replace(row, image="", variables=())
            groups[plain] = (*groups.get(plain, ()), name)
        return list(groups.values())


#: A registry with its path, and a tag (https://github.com/distribution/reference/blob/main/reference.go).
_REGISTRY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def check_images(registry: str, tag: str | None) -> None:
    """Refuses a registry or a tag that can't be part of an image's name.

    Raises:
        InvalidConfig: If one can't.
    """
    if not _REGISTRY.fullmatch(registry):
        raise InvalidConfig(
            f"--registry {registry!r} can't begin an image's name; give a host and a path in small letters, such as registry.example.com/vision."
        )
    if tag is not None and not _TAG.fullmatch(tag):
        raise InvalidConfig(f"--tag {tag!r} can't be an image's tag; give up to 128 letters, digits, '.', '_' and '-'.")


def cluster(registry: str = REGISTRY, tag: str | None = None, gpus: int | None = None) -> Target:
    """A cluster with the rows of every installed stage and trainer.

    Args:
        registry: The images' registry.
        tag: The images' tag, by default the package's version.
        gpus: Replaces the policy's number in every row that asks for GPUs, up to the row's ``gpus_most``; 0 runs them on the CPU, on any node.

    Raises:
        InvalidConfig: If the registry or tag can't be part of an image's name.
    """
    check_images(registry, tag)
    trainers = training_catalog.trainers()
    names = sorted(trainers, key=lambda name: (name != DEFAULT_TRAINER, name))
    return Target(
        policies={name: with_gpus(catalog.stage(name).policy, gpus) for name in STAGES},
        trainers={name: with_gpus(trainers[name].policy, gpus) for name in names},
        registry=registry,
        tag=tag or version("visionloop"),
    )


def with_gpus(policy: StagePolicy, gpus: int | None) -> StagePolicy:
    """A row with another number of GPUs, if it has any, up to its own limit; with 0, nothing sends its pod to nodes with GPUs."""
    if gpus is None or not policy.gpus:
        return policy
    return (
        replace(policy, gpus=min(gpus, policy.gpus_most or gpus))
        if gpus
        else replace(policy, gpus=0, node_selector=(), tolerations=())
    )


def laptop(trainer: str = "") -> Target:
    """This machine, for runs with one trainer: the default one, if no trainer has this name."""
    target = cluster()
    name = next((name for name in target.trainers if name.lower() == trainer.strip().lower()), DEFAULT_TRAINER)
    return replace(target, places=False, trainers={name: target.trainers[name]})
