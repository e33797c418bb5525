"""``visionloop model list``, ``show`` and ``link``: what they print, and what is refused."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from decided import command, register, version
from toy_detector import Prepared, prepare, write_dataset

from visionloop.core.stores import local_path
from visionloop.registry import Registry
from visionloop.registry.versions import METRIC, PROMOTED_BY

HOSTILE = "a\x1b[2J\u202e\nb"


def test_the_list_has_every_version_the_newest_first(
    prepared: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2, 5)
    assert command(capsys, "promote", f"{name}/2", "--by", "ada")[0] == 0
    registry.create_version(name, "s3://elsewhere/model", {}, "")
    _, out, _ = command(capsys, "list", name.upper())
    models = json.loads(out)["models"]
    assert [entry["version"] for entry in models] == [3, 2, 1]
    assert [entry["aliases"] for entry in models] == [[], ["champion"], []]
    assert [entry["promoted_by"] for entry in models] == [None, "ada", None]
    assert [entry["superseded_by"] for entry in models] == [None, None, 2]
    assert [entry["snapshot"] is None for entry in models] == [True, False, False]
    assert models[2]["metrics"]["mAP50-95"] > models[1]["metrics"]["mAP50-95"] > 0
    every = json.loads(command(capsys, "list")[1])["models"]
    assert [entry for entry in every if entry["model"] == name] == models
    _, text, _ = command(capsys, "list", name, "--output", "text")
    lines = text.splitlines()
    assert lines[0].split() == ["MODEL", "ALIASES", "TIME", "METRIC", "SNAPSHOT", "PROMOTED", "BY"]
    assert lines[2].split()[:2] == [f"{name}/2", "champion"]
    assert "mAP50-95 0." in lines[2]


def test_a_model_is_shown_with_its_evidence(
    prepared: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2, 5)
    command(capsys, "promote", f"{name}/2", "--by", "ada", "--reason", "night")
    shown = json.loads(command(capsys, "show", f"{name}@champion")[1])
    assert (shown["model"], shown["version"], shown["verdict"]) == (name, 2, "keep")
    assert (shown["task"], shown["trainer"], shown["classes"]) == ("detection", "toy", ["dim", "bright"])
    assert shown["run"] == f"{name}-5"
    assert [(entry["decision"], entry["by"], entry["reason"]) for entry in shown["decisions"]] == [
        ("promote", "ada", "night")
    ]
    assert shown["training"].startswith(prepared.workspace)
    assert shown["cut_off"] is None
    _, text, _ = command(capsys, "show", f"models:/{name}/2", "--output", "text")
    assert f"Model     {name}/2 ({name}), registered " in text
    assert "Decision  promote by ada at " in text


def test_what_others_wrote_is_shown_and_never_acts(
    prepared: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2)
    registry.tag(
        version(registry, name, 1),
        {PROMOTED_BY: HOSTILE, f"{METRIC}mAP50-95": HOSTILE, "visionloop.superseded_by": HOSTILE},
    )
    registry.tag_model(name, "visionloop.name", HOSTILE)
    registry.tag_model(name, "visionloop.decision", HOSTILE)
    registry.create_version(name, "s3://elsewhere/model", {}, HOSTILE)
    for words in (("list", name), ("show", f"{name}/1"), ("show", f"{name}/2")):
        for form in ("text", "json"):
            code, out, _ = command(capsys, *words, "--output", form)
            assert code == 0
            assert not {"\x1b", "\u202e"} & set(out)
    lines = command(capsys, "list", name, "--output", "text")[1].splitlines()
    assert len(lines) == 3


@pytest.mark.usefixtures("registry")
def test_a_workspace_that_is_gone_leaves_what_the_registry_knows(
    prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2)
    folder = local_path(prepared.workspace)
    assert folder is not None
    folder.rename(f"{folder}-moved")
    shown = json.loads(command(capsys, "show", f"{name}/1")[1])
    assert (shown["files"], shown["verdict"], shown["run"]) == (None, None, None)
    assert shown["metrics"]
    code, _, sentence = command(capsys, "link", f"{name}/1")
    assert (code, "which is gone from there" in sentence) == (78, True)


@pytest.mark.usefixtures("registry")
def test_links_to_a_folder_are_its_files(prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    register(prepared, name, 2)
    links = json.loads(command(capsys, "link", f"{name}@champion")[1])["links"]
    assert {"MLmodel", "artifacts/best.pt"} <= {link["file"] for link in links}
    for link in links:
        path = local_path(link["url"])
        assert path is not None
        assert path.stat().st_size == link["size"]
        assert link["expires_at"] is None


@pytest.mark.usefixtures("registry")
def test_a_link_is_good_for_a_week_at_most(prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    register(prepared, name, 2)
    for seconds in (0, -1, 7 * 24 * 3600 + 1):
        code, out, sentence = command(capsys, "link", f"{name}/1", "--expires", seconds)
        assert (code, out) == (78, "")
        assert "give a number of seconds from 1 to 604,800" in sentence


@pytest.mark.usefixtures("toy", "mlflow_uri")
def test_links_to_a_store_open_without_keys(
    s3_workspace: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    register(prepare(write_dataset(tmp_path / "dataset"), s3_workspace), name, 2)
    links = {
        link["file"]: link for link in json.loads(command(capsys, "link", f"{name}/1", "--expires", 60)[1])["links"]
    }
    best = links["artifacts/best.pt"]
    assert best["expires_at"].endswith("Z")
    with urllib.request.urlopen(best["url"]) as answer:
        assert len(answer.read()) == best["size"]
    assert "X-Amz-Expires=60" in best["url"]
    with pytest.raises(HTTPError):
        urllib.request.urlopen(best["url"].partition("?")[0])
    assert "X-Amz-Signature" in command(capsys, "link", f"{name}/1", "--output", "text")[1]
