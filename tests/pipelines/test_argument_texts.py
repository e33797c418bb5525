"""Texts that would mean something to an engine or to an image's name are refused by name before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from visionloop.core.errors import AccessDenied, InvalidConfig
from visionloop.pipelines.compile import compile_engine
from visionloop.pipelines.engines.argo.runs import submit, workflow_of
from visionloop.pipelines.engines.argo.schedules import ArgoSchedules, cron_workflow
from visionloop.pipelines.following.cron import Cron
from visionloop.pipelines.parameters import RETRAIN
from visionloop.pipelines.targets import check_images

TEMPLATE: dict[str, Any] = {
    "metadata": {"name": "visionloop-retrain"},
    "spec": {"arguments": {"parameters": [{"name": name} for name in RETRAIN]}},
}


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"description": "{{workflow.uid}}"}, "--description"),
        ({"dataset": "s3://datasets/{{=1}}"}, "--dataset"),
        ({"run_name": "{{"}, "--run-name"),
        ({"model": "{{inputs.parameters.model}}"}, "--set"),
        ({"advanced_config": {"device": "{{x}}"}}, "--set"),
        ({"retraining": "{{x}}"}, "--retraining"),
    ],
)
def test_argo_gets_no_text_that_it_would_replace(arguments: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidConfig, match=f"{option} .*Argo replaces"):
        workflow_of(TEMPLATE, arguments, "trace")
    with pytest.raises(InvalidConfig, match=f"{option} .*Argo replaces"):
        cron_workflow("nightly", "visionloop", TEMPLATE, arguments, Cron.parse("0 3 * * *"), "UTC")
    nobody = "http://127.0.0.1:9"  # it is told before the cluster is asked
    with pytest.raises(InvalidConfig, match=f"{option} .*Argo replaces"):
        submit("train", arguments, host=nobody)
    with pytest.raises(InvalidConfig, match=f"{option} .*Argo replaces"):
        ArgoSchedules(nobody, None).create("nightly", "retrain", arguments, Cron.parse("0 3 * * *"), "UTC")


def test_closing_braces_alone_are_jsons() -> None:
    arguments = {"advanced_config": {"a": {"b": 1}}, "gate": '{"floor": {"a": 1}}', "description": "}}"}
    made = workflow_of(TEMPLATE, arguments, "trace")["spec"]["arguments"]["parameters"]
    assert {"name": "description", "value": "}}"} in made


@pytest.mark.parametrize(
    "registry", ["localhost", "localhost:5000/a", "registry.example.com/vision/a__b-c", "[::1]:5000/a"]
)
def test_registries_that_name_images(registry: str) -> None:
    check_images(registry, "0.1.0")


@pytest.mark.parametrize(
    ("registry", "tag"),
    [
        ("", None),
        ("a b", None),
        ("https://a", None),
        ("a/", None),
        ("a/B", None),
        ("a;b", None),
        ("a\n", None),
        ("a", "b c"),
        ("a", ""),
        ("a", "{{x}}"),
        ("a", "-b"),
        ("a", "b" * 129),
    ],
)
def test_a_registry_or_tag_that_can_not_name_an_image_is_refused(
    registry: str, tag: str | None, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig, match="--tag" if tag is not None else "--registry"):
        compile_engine("argo", tmp_path / "out", registry, tag)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccessDenied, match=f"--out {tmp_path}/file/out: .* can't be written"):
        compile_engine("argo", tmp_path / "file" / "out")
