"""Whether torch can use the GPUs that a training is to compute on: driver, architecture and, for several, their exchange of values."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from visionloop.core.errors import SickMachine
from visionloop.core.logs import notice
from visionloop.training.devices import CPU, choose_device, device_name, meeting_variables, pod_gpus
from visionloop.training.driver import gpu_ids
from visionloop.training.environment import child_environment
from visionloop.training.preflight.planned import Planned

#: The program that asks torch: importing it here would take seconds and memory for the whole training.
PROGRAM = "import sys; from visionloop.training.pytorch.probe import main; main(sys.argv[1])"

#: Seconds that it may take; an exchange that has not come to an end by then hangs.
SECONDS = 60


class Gpu(msgspec.Struct, frozen=True):
    """A GPU as torch sees it: its name, and its compute capability, such as 9 and 0."""

    name: str
    capability: tuple[int, int]


class TorchFacts(msgspec.Struct, tag="facts", frozen=True, kw_only=True):
    """What torch says of this machine's GPUs.

    Attributes:
        torch: Its version.
        cuda: The version of CUDA that it is built for; None without one.
        driver: The newest version of CUDA that the driver knows, as 12040 for 12.4; 0 if that is not known.
        architectures: What it is compiled for: sm_90 (machine code of 9.0), compute_90 (code that newer ones translate).
        gpus: By number.
        others: Other devices, such as ``mps``.
        reason: Why no GPU can be used, where there is a reason.
    """

    torch: str
    cuda: str | None
    driver: int
    architectures: list[str]
    gpus: list[Gpu]
    others: list[str]
    reason: str


class Exchange(msgspec.Struct, tag="exchange", frozen=True):
    """How the exchange of several GPUs went; ``problem`` is empty if it went well."""

    problem: str


def check(planned: Planned, environment: Mapping[str, str]) -> str | None:
    """Says which GPUs torch computes on; None for the CPU, and where nothing speaks of a GPU.

    Raises:
        InvalidConfig: If a device is named that is not there.
        SickMachine: If GPUs that the pod was given, or that are named, can't be used, or can't exchange values.
    """
    named = device_name(planned.device)
    if not planned.torch or named == CPU:
        return None
    if not named and not pod_gpus(environment) and not gpu_ids(planned.device, environment):
        return None
    facts, exchange = asked(named, environment)
    return judged(planned.device, facts, exchange, environment) if facts is not None else None


def asked(device: str, environment: Mapping[str, str]) -> tuple[TorchFacts | None, Exchange | None]:
    """What torch says in a process of its own; None in place of what it did not say in time."""
    command = [sys.executable, "-c", PROGRAM, device]
    variables = child_environment(environment) | meeting_variables(environment)
    try:
        output = subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=SECONDS,
        ).stdout
    except subprocess.TimeoutExpired as ended:
        output = ended.stdout or b""
    facts: TorchFacts | None = None
    exchange: Exchange | None = None
    for line in output.splitlines():
        # A library may print lines of its own.
        with contextlib.suppress(msgspec.MsgspecError):
            match msgspec.json.decode(line, type=TorchFacts | Exchange):
                case TorchFacts() as facts:
                    pass
                case Exchange() as exchange:
                    pass
    return facts, exchange


def judged(device: object, facts: TorchFacts, exchange: Exchange | None, environment: Mapping[str, str]) -> str | None:
    """The GPUs in words, None for the CPU; raises as `check`.

    Args:
        device: The setting ``device``.
        facts: What torch says.
        exchange: How the exchange went; None if it did not come to an end.
        environment: The process's variables.
    """
    reason = _too_old(facts) or facts.reason
    names = [gpu.name for gpu in facts.gpus]
    chosen = choose_device(device, names, environment, others=facts.others, reason=reason)
    numbers = [int(word) for word in chosen.name.split(",") if word.isdecimal()]
    if not numbers:
        if reason and chosen.name == CPU:
            notice(
                f"train: this machine has a GPU, and torch can't use it ({reason}); the training computes on the CPU."
            )
        return None
    for number in numbers:
        gpu = facts.gpus[number]
        if not is_compiled_for(gpu.capability, facts.architectures):
            raise SickMachine(
                f"GPU {number} ({gpu.name}) has compute capability {gpu.capability[0]}.{gpu.capability[1]}, and torch {facts.torch} is "
                f"compiled for {', '.join(facts.architectures)}: install a torch for it, or use another GPU."
            )
    if len(numbers) > 1 and (exchange is None or exchange.problem):
        what = exchange.problem if exchange else f"no answer in {SECONDS} s"
        raise SickMachine(
            f"GPUs {' and '.join(map(str, numbers))} of this machine can't exchange values by NCCL ({what}): use one GPU, another "
            "machine, or NCCL's own variables (NCCL_P2P_DISABLE=1 where the machine's IOMMU keeps them apart)."
        )
    exchanged = ", NCCL" if len(numbers) > 1 else ""
    return f"{chosen.words}{exchanged}"


def is_compiled_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether code for one of the architectures runs on a GPU of this compute capability; so it is where none is named.

    Machine code runs on GPUs of its own major version from its minor version on, an architecture with a letter on that alone; code that is
    translated runs on all newer ones.
    """
    major, minor = capability
    for architecture in architectures:
        kind, _, version = architecture.partition("_")
        digits = version.rstrip("af")
        own = (int(digits[:-1]), int(digits[-1]))
        same = own == capability if version.endswith("a") else own[0] == major and own[1] <= minor
        if same or (kind == "compute" and own <= capability and digits == version):
            return True
    return not architectures


def _too_old(facts: TorchFacts) -> str:
    """The sentence about a driver that does not know torch's CUDA; empty if it does, or nothing is known of it."""
    if (
        facts.gpus
        or facts.cuda is None
        or not facts.driver
        or facts.driver // 1000 >= int(facts.cuda.partition(".")[0])
    ):
        return ""
    known = f"{facts.driver // 1000}.{facts.driver % 1000 // 10}"
    return f"the driver knows CUDA {known} and torch {facts.torch} needs {facts.cuda}: install a newer driver"
