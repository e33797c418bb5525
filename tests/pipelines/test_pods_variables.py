"""The variables that a pod reads, as docs/configuration.md describes them, reach the pods."""

from __future__ import annotations

import re
from pathlib import Path

from compiled import Kubeflow

from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.kubeflow.ir import kfp_files
from visionloop.pipelines.targets import cluster

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

#: Variables of the page that no pod takes from a Secret or the ConfigMap, and why not.
NOT_TAKEN = {
    "JOB_ID": "one value for all runs: the engine gives each its id",
    "TRAINING_JOB_ID": "the same under its older name",
    "TRACE_ID": "one value for all runs: the run's record holds its own",
    "MLFLOW_RUN_ID": "one value for all runs",
    "AWS_PROFILE": "of a file that a pod does not have",
    "AWS_SHARED_CREDENTIALS_FILE": "a file that a pod does not have",
    "CONFIG_PATH": "a file that a pod does not have",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "set by the cluster, which leaves a variable alone that a pod names",
    "VISIONLOOP_ATTEMPTS": "set by the compiler, from the stage's row",
    "VISIONLOOP_CACHE": "set by the compiler, from the stage's row",
    "TMPDIR": "set by the compiler",
    "VISIONLOOP_IMAGE_WEIGHTS": "set by the image",
    "VISIONLOOP_SIGNING_KEY": "a file that register has from its Secret",
    "VISIONLOOP_HOME": "of the embedded services, which run on a laptop",
}


#: Sections of the page with variables that no stage reads.
NO_STAGES = ("Engines\n", "Serving\n", "Secrets\n", "Set by", "Variables from before\n")


def documented() -> set[str]:
    """The variables of the page's tables, but for those that no stage reads."""
    variables = PAGE.read_text(encoding="utf-8").partition("\n## Settings")[0]
    sections = [text for text in variables.split("\n### ") if not text.startswith(NO_STAGES)]
    rows = [line for text in sections for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row.split("|")[1])}


def test_every_variable_that_a_pod_reads_is_taken_or_has_a_reason_not_to_be() -> None:
    taken = {*pods.SECRET_VARIABLES, *pods.CONFIG_VARIABLES}
    assert len(documented()) > 50
    assert documented() - taken == set(NOT_TAKEN)


def test_no_pod_is_handed_what_nothing_reads() -> None:
    assert {*pods.SECRET_VARIABLES, *pods.CONFIG_VARIABLES} - documented() == set()


def test_the_page_names_those_that_are_not_taken() -> None:
    (paragraph,) = [
        text
        for text in PAGE.read_text(encoding="utf-8").split("\n\n")
        if text.startswith("Of the variables of this page")
    ]
    assert set(re.findall(r"`([A-Z0-9_]+)`", paragraph)) == set(NOT_TAKEN)


def test_none_is_taken_twice_and_what_the_compiler_sets_is_taken_from_nowhere() -> None:
    named = [*pods.SECRET_VARIABLES, *pods.CONFIG_VARIABLES]
    assert len(named) == len(set(named))
    for text in kfp_files(cluster()).values():
        kfp = Kubeflow(text)
        for tasks in kfp.leaves().values():
            for _, _, task in tasks:
                container, _ = kfp.executor(task)
                assert {entry["name"] for entry in container["env"]} & set(named) == set()
