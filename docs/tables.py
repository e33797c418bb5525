"""Writes the tables of docs/ and README.md that say what the code holds; tests/docs checks that they are current.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. Run ``.venv/bin/python docs/tables.py`` after a change.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

from visionloop.core import catalog, errors, secrets
from visionloop.core.old_variables import OLD_VARIABLES
from visionloop.core.policy import POLICIES, TRAINER_IMAGE, StagePolicy
from visionloop.data.annotations.codes import CODES
from visionloop.pipelines.cli.stage import COMMON
from visionloop.pipelines.engines import pods
from visionloop.pipelines.parameters import TRAIN, form
from visionloop.pipelines.targets import DEFAULT_TRAINER, STAGES
from visionloop.training.catalog import reference, trainers
from visionloop.training.configuration import BASIC, CUSTOM_PROMPTS, IGNORED_FIELDS, describe, settings_of
from visionloop.training.events.payloads import TRAINING, About, Family
from visionloop.training.events.predictions import PREDICTION
from visionloop.training.trainers import Setting, Trainer

FOLDER = Path(__file__).parent

#: Where the trainers of this repository lie.
OWN_TRAINERS = "visionloop.training.trainers"

#: A marked place of a page: its opening mark, the table's name, what stands there, its closing mark.
BLOCK = re.compile(r"(<!-- table: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def exit_codes() -> str:
    """Every exit code with the causes that have it."""
    rows = [
        ["0", "", "Done.", "", ""],
        ["2", "", "The command line is mistyped.", "Read the usage that it prints.", "never"],
    ]
    classes = sorted(errors.all_errors()[1:], key=lambda error: error.exit_code)
    for error in classes:
        again = "yes" if error.exit_code in errors.RETRYABLE else "never"
        rows.append([str(error.exit_code), f"`{error.error_code}`", _meaning(error), error.remedy, again])
    return table(("exit", "code", "meaning", "remedy", "retried by an engine"), rows)


def _meaning(described: type[object]) -> str:
    """The docstring's first sentence."""
    return (described.__doc__ or "").strip().splitlines()[0].split(". ")[0].rstrip(".") + "."


def arguments(name: str) -> str:
    """The arguments of a stage besides the common ones."""
    rows = []
    for entry in fields(catalog.stage(name).arguments):
        declared = entry.metadata["argument"]
        if declared.repeated:
            default = "none"
        elif entry.default is MISSING:
            default = "required"
        else:
            default = "none" if entry.default is None else f"`{entry.default}`"
        variable = f"`{declared.variable}`" if declared.variable else ""
        rows.append([f"`--{entry.name.replace('_', '-')}`", default, variable, declared.description])
    return table(("option", "default", "variable", "meaning"), rows)


def common_arguments() -> str:
    """The arguments that every stage takes."""
    return table(
        ("option", "meaning"), ([f"`--{name.replace('_', '-')}`", text] for name, (_, _, text) in COMMON.items())
    )


def parameters() -> str:
    """The pipelines' form, with the values that the default trainer lists for its settings."""
    shown = {**form([DEFAULT_TRAINER]), "trainer": TRAIN["trainer"]}
    rows = (
        [
            f"`{parameter.name}`",
            "required" if parameter.text is None else f"`{parameter.text}`" if parameter.text else "empty",
            parameter.description,
        ]
        for parameter in shown.values()
    )
    return table(("parameter", "default", "meaning"), rows)


def settings(chosen: dict[str, Setting]) -> str:
    """Settings of a training."""
    rows = (
        [f"`{setting.name}`", f"`{setting.default}`", setting.allowed, setting.meaning, setting.in_key]
        for setting in describe(chosen)
    )
    return table(("setting", "default", "takes", "meaning", "in the key"), rows)


def own_trainers() -> dict[str, Trainer]:
    """The trainers of this repository by name, the default one first."""
    own = {
        name: trainer for name, trainer in trainers().items() if (reference(name) or "").startswith(f"{OWN_TRAINERS}.")
    }
    return dict(sorted(own.items(), key=lambda pair: (pair[0] != DEFAULT_TRAINER, pair[0])))


def summary_of_trainers() -> str:
    """Each trainer with what it trains, its licence, its extra and its image."""
    rows = (
        [
            f"`{name}`",
            ", ".join(sorted(trainer.tasks)),
            getattr(trainer, "licence", ""),
            f"`visionloop[{name}]`",
            f"`{trainer.policy.image}`",
        ]
        for name, trainer in own_trainers().items()
    )
    return table(("trainer", "tasks", "licence of its library", "extra", "image"), rows)


def advanced(trainer: Trainer, task: str) -> str:
    """A task's settings besides the basic ones and those of the trainer's first task."""
    return settings(own_settings(trainer, task))


def own_settings(trainer: Trainer, task: str) -> dict[str, Setting]:
    """The settings of a task that are neither basic ones nor those of the trainer's first task."""
    every, first = settings_of(trainer, task), first_task(trainer)
    before = settings_of(trainer, first) if task != first else {}
    return {name: setting for name, setting in every.items() if name not in BASIC and name not in before}


def first_task(trainer: Trainer) -> str:
    """The task whose settings are shown in whole: detection, if the trainer has it."""
    return min(trainer.tasks, key=lambda task: (task != "detection", task))


def credentials() -> str:
    """The variables that belong in a Secret."""
    rows = (
        [f"`{entry.name}`", f"`{secrets.secret_of(entry.role)}`" if entry.role else "", "yes" if entry.secret else "no"]
        for entry in secrets.CREDENTIALS
    )
    return table(("variable", "Secret of the pods", "never shown"), rows)


def old_variables() -> str:
    """What became of the variables and the fields of CONFIG of the backend before."""
    rows = [
        [
            ", ".join(f"`{name}`" if old.value is None else f"`{name}={old.value}`" for name in old.names),
            old.state,
            f"{old.instead}{_unless(old.successors)}" + (f"; only beside `{old.beside}`" if old.beside else ""),
        ]
        for old in OLD_VARIABLES
    ]
    rows += [[f"`{name}` in `CONFIG`", "no meaning", instead] for name, instead in IGNORED_FIELDS.items()]
    rows.append(
        [f"`{CUSTOM_PROMPTS}` in `CONFIG`", "refused", "no trainer takes text prompts; an empty one is passed over"]
    )
    return table(("variable", "here", "in its place"), rows)


def _unless(successors: tuple[str, ...]) -> str:
    """Where an old variable is passed over: one of its successors is there."""
    written = [f"`{name}`" if name.isupper() else f"`--{name}`" for name in successors]
    return f" (passed over beside {', '.join(written)})" if written else ""


def pod_variables() -> str:
    """What pods take from the ConfigMap: variables that the same stages read in one row."""
    rows: dict[str, list[str]] = {}
    for name in pods.CONFIG_VARIABLES:
        stages = [stage for stage in STAGES if name in pods.config_of(stage, POLICIES[stage])]
        rows.setdefault("all" if len(stages) == len(STAGES) else ", ".join(stages), []).append(f"`{name}`")
    return table(("variables", "stages"), ([", ".join(names), stages] for stages, names in rows.items()))


def foreign_words(module: str) -> str:
    """The words of a library that are not settings here, those with one remedy in one row."""
    words = importlib.import_module(module)
    by_advice: dict[str, list[str]] = {}
    for word, advice in words.WORDS.items():
        by_advice.setdefault(advice, []).append(f"`{word}`")
    rows = [[", ".join(words), advice] for advice, words in by_advice.items()]
    return table(
        ("word", "what to do"),
        [*rows, *([", ".join(map("`{}`".format, row.examples)), row.advice] for row in words.VALUES)],
    )


def policies() -> str:
    """The policy table."""
    rows = [
        [
            name,
            f"{row.image}-NAME" if row.image == TRAINER_IMAGE else row.image,
            f"{row.cpu_request} to {row.cpu_limit}",
            f"{row.memory_request} to {row.memory_limit}",
            str(row.gpus),
            row.shared_memory or "",
            duration(row.timeout) + _growth(row),
            str(row.attempts),
            f"{row.backoff_first} s to {row.backoff_longest} s",
            ", ".join(row.secrets),
        ]
        for name, row in POLICIES.items()
    ]
    head = ("stage", "image", "CPU", "memory", "GPUs", "`/dev/shm`", "limit", "attempts", "wait between", "Secrets")
    return table(head, rows)


def _growth(row: StagePolicy) -> str:
    """By how much a limit grows with each image, by mode."""
    rates = [f"{seconds * 1000:g} ms ({mode})" for mode, seconds in row.seconds_an_image]
    return f"; for each image {', '.join(rates)} more" if rates else ""


def duration(seconds: int) -> str:
    """A limit as people say it."""
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"


def findings() -> str:
    """Every code of a finding, with its severity and threshold; a severity that can't be lowered is bold."""
    rows = []
    for name, code in CODES.items():
        severity = ", ".join(code.severities)
        threshold = ""
        if code.threshold is not None:
            limits = f"{code.threshold.least:g} to {code.threshold.most:g}"
            threshold = f"`{code.threshold.default:g}` ({limits}): {code.threshold.meaning}"
        rows.append([f"`{name}`", f"**{severity}**" if code.fixed else severity, threshold, code.meaning])
    return table(("finding", "severity", "threshold", "what it says"), rows)


def events(family: Family) -> str:
    """Every event of a training or a prediction: when it is sent, the end of its id, its fields."""
    rows = []
    for kind, data in family.kinds.items():
        names = [name for name in data.__struct_fields__ if name not in About.__struct_fields__]
        fields_of = ", ".join(f"`{name}`" for name in names)
        place = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), family.places.get(kind, ""))
        rows.append([f"`{kind}`", f"`RUN.{family.stage}.{kind}{place}`", _meaning(data), fields_of])
    return table(("event", "id", "what it says", "fields of its data"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "exit codes": exit_codes,
    "common arguments": common_arguments,
    "parameters": parameters,
    "basic settings": lambda: settings(dict(BASIC)),
    "trainers": summary_of_trainers,
    "policies": policies,
    "findings": findings,
    "events": partial(events, TRAINING),
    "events of a prediction": partial(events, PREDICTION),
    "secrets": credentials,
    "variables of pods": pod_variables,
    "variables from before": old_variables,
    **{f"arguments of {name}": partial(arguments, name) for name in STAGES},
    **{
        f"settings of {name} for {task}": partial(advanced, trainer, task)
        for name, trainer in own_trainers().items()
        for task in sorted(trainer.tasks)
        if task == first_task(trainer) or own_settings(trainer, task)
    },
    **{
        f"words of {name}": partial(foreign_words, f"{OWN_TRAINERS}.{name}.words")
        for name in own_trainers()
        if importlib.util.find_spec(f"{OWN_TRAINERS}.{name}.words")
    },
}


def pages() -> list[Path]:
    """The pages that hold a table."""
    return [
        page
        for page in (*sorted(FOLDER.glob("*.md")), FOLDER.parent / "README.md")
        if BLOCK.search(page.read_text(encoding="utf-8"))
    ]


def current(text: str) -> str:
    """A page's text with its tables as they should be."""

    def fill(match: re.Match[str]) -> Any:
        return f"{match[1]}\n{TABLES[match[2]]()}\n{match[4]}"

    return BLOCK.sub(fill, text)


def main() -> None:
    """Rewrites every table."""
    for page in pages():
        page.write_text(current(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
