"""Variables of the backend before: none vanishes without a word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from visionloop.components.snapshot.preflight import FROM_OUTSIDE, HERE, preflight
from visionloop.core.errors import InvalidConfig
from visionloop.core.old_variables import OLD_VARIABLES, check_old_variables
from visionloop.core.runs import run_name
from visionloop.training.configuration import IGNORED_FIELDS

PAGE = "docs/configuration.md, Variables from before"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"DATASET_PATH": "s3://training-datasets/42/"},
            r"DATASET_PATH is not read: .*--dataset, or in DATASET_S3_URI",
        ),
        ({"SNAPSHOT_ID": "snap_0123456789ab", "DATASET_S3_URI": "s3://a/b"}, "SNAPSHOT_ID is not read: .*--snapshot"),
        ({"PRESIGNED_URLS_JSON": '{"images/000.png": "https://a?X-Amz-Signature=12345678"}'}, "PRESIGNED_URLS_JSON"),
        (
            {"STORAGE_TYPE": " R2\n", "R2_ENDPOINT": "https://x.r2.example"},
            "STORAGE_TYPE=r2 is not read: .*S3_ENDPOINT",
        ),
    ],
)
def test_what_asks_for_something_else_is_refused_with_its_new_name(environment: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said) as refused:
        check_old_variables((), environment)
    assert not any(value in str(refused.value) for value in environment.values())


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("dataset",), {"DATASET_PATH": "s3://training-datasets/42/"}),
        ((), {"DATASET_PATH": "s3://training-datasets/42/", "DATASET_S3_URI": "s3://a/b"}),
        (("snapshot",), {"SNAPSHOT_ID": "snap_0123456789ab"}),
        ((), {"STORAGE_TYPE": "r2", "S3_ENDPOINT": "https://x.r2.example"}),
        ((), {"BACKEND_URL": "http://localhost:3000"}),
        ((), {"BACKEND_BASE_URL": "https://a", "CALLBACK_TOKEN": "x" * 40, "CALLBACK_URL": "https://a/callback"}),
        ((), {"STORAGE_TYPE": "minio"}),
        ((), {"SNAPSHOT_ID": " "}),
    ],
)
def test_what_a_newer_name_says_as_well_is_passed_over(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    assert check_old_variables(arguments, environment) == []


def test_what_has_no_meaning_here_is_named_in_one_notice() -> None:
    environment = {"OUTPUT_PATH": "/workspace/output", "LABELER_API_URL": "http://localhost:8011", "TEMPORAL_HOST": ""}
    assert check_old_variables((), environment) == [f"without meaning here: OUTPUT_PATH, LABELER_API_URL ({PAGE})"]


def check(environment: dict[str, str], folder: Path) -> list[str]:
    arguments = {"workspace": str(folder / "work"), "dataset": str(folder / "data")}
    return preflight(arguments, {"model": "yolo11n.yaml"}, HERE, environment)


def test_a_run_of_this_machine_says_it_before_it_starts(tmp_path: Path) -> None:
    config = '{"name": "night run", "project": null, "save_period": -1, "epochs": 3, "custom_prompts": []}'
    environment = {"DATASET_ID": "42", "CONFIG": config}
    assert check(environment, tmp_path) == [
        f"without meaning here: DATASET_ID ({PAGE})",
        f"without meaning here: name, save_period in CONFIG ({PAGE})",
    ]
    with pytest.raises(InvalidConfig, match="SNAPSHOT_ID is not read"):
        check({"SNAPSHOT_ID": "snap_0123456789ab"}, tmp_path)


def test_a_run_of_a_cluster_has_other_variables() -> None:
    arguments = {"workspace": "s3://results/work", "dataset": "s3://datasets/digits"}
    notices = preflight(
        arguments, {"model": "yolo11n.yaml"}, FROM_OUTSIDE, {"DATASET_ID": "42", "SNAPSHOT_ID": "snap_0"}
    )
    assert not any("without meaning" in notice for notice in notices)


def test_prompts_in_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="custom_prompts in CONFIG: no trainer takes text prompts"):
        check({"CONFIG": '{"custom_prompts": ["a scratch"]}'}, tmp_path)


def test_a_run_has_the_id_of_the_older_variable_where_the_newer_one_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOB_ID", raising=False)
    monkeypatch.setenv("TRAINING_JOB_ID", "25")
    assert run_name(None) == "25"
    monkeypatch.setenv("JOB_ID", "26")
    assert run_name(None) == "26"
    assert run_name("27") == "27"


def test_the_table_of_the_docs_has_each_of_the_seeds_variables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    written = set(re.findall(r"`(\w+)", page))
    assert {name for old in OLD_VARIABLES for name in old.names} | set(IGNORED_FIELDS) <= written
    assert {"LABELER_SERVICE_KEY", "TRAINING_MODE", "R2_ENDPOINT", "OBSERVABILITY_BACKENDS", "CONFIG_LR0"} <= written
