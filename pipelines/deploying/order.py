"""What is deployed, and how; what is wrong with it is told before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core.errors import InvalidConfig
from visionloop.core.names import sanitise
from visionloop.core.policy import REGISTRY
from visionloop.pipelines.targets import check_images
from visionloop.registry import Version

#: The longest name of a deployment: platforms make host names of it, with parts of their own before and behind.
LONGEST_NAME = 40

#: How many replicas there may be.
MOST_REPLICAS = 1000


@dataclass(frozen=True)
class Wanted:
    """What a person asks for, whatever the model.

    Attributes:
        name: The name of the deployment; empty takes the model's.
        namespace: The Kubernetes namespace; empty leaves it to whoever applies the files.
        registry: The images' registry.
        tag: The images' tag; None takes this package's version.
        gpus: How many GPUs a replica asks for.
        replicas: The least and the largest number of replicas; a least number of 0 ends the last one where nobody asks.
        canary: The share of the traffic, in percent, that this version gets beside the one before; None gives it all.
    """

    name: str = ""
    namespace: str = ""
    registry: str = REGISTRY
    tag: str | None = None
    gpus: int = 0
    replicas: tuple[int, int] = (1, 3)
    canary: int | None = None

    def check(self) -> None:
        """Raises InvalidConfig if something can't be meant."""
        check_images(self.registry, self.tag)
        for option, value in (("--name", self.name), ("--namespace", self.namespace)):
            if value and (sanitise(value, what=option, longest=LONGEST_NAME) != value or value[0].isdigit()):
                raise InvalidConfig(
                    f"{option} {value[:80]!r}: give small letters, digits and single hyphens, a letter first, at most {LONGEST_NAME} characters."
                )
        least, most = self.replicas
        if not 0 <= least <= most <= MOST_REPLICAS or not most:
            raise InvalidConfig(
                f"--min-replicas {least} and --max-replicas {most}: give 0 to {MOST_REPLICAS:,}, the first no more than the second, and the second at least 1."
            )
        if self.canary is not None and not 0 <= self.canary <= 100:
            raise InvalidConfig(f"--canary {self.canary}: give a share from 0 to 100 percent.")


@dataclass(frozen=True)
class Order:
    """A version with what is asked for.

    Attributes:
        version: The version.
        uri: Where its files lie.
        trainer: The name of its trainer, whose image serves it.
        wanted: What is asked for.
    """

    version: Version
    uri: str
    trainer: str
    wanted: Wanted

    @property
    def name(self) -> str:
        """The name of the deployment, the same for every version of the model."""
        if self.wanted.name:
            return self.wanted.name
        name = sanitise(self.version.name, longest=LONGEST_NAME - 2)
        return name if name[0].isalpha() else f"m-{name}"
