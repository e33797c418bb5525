"""Stages and trainers are found by their entry points, a third party's too."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import pytest

from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.training.catalog import trainer


@pytest.mark.parametrize(
    ("find", "what", "known"), [(catalog.stage, "stage", "snapshot"), (trainer, "trainer", "ultralytics")]
)
def test_a_name_that_there_is_not_names_those_that_there_are(find, what, known):
    with pytest.raises(InvalidConfig, match=f"There is no {what} 'nothing'; there are .*{known}"):
        find("nothing")


def test_a_third_partys_stage_is_found(tmp_path, monkeypatch):
    (tmp_path / "third_party_stage.py").write_text("STAGE = 'their stage'\n")
    information = tmp_path / "third_party-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[visionloop.stages]\ntheirs = third_party_stage:STAGE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert catalog.stage("theirs") == "their stage"
        assert "theirs" in {entry.name for entry in entry_points(group=catalog.STAGES)}
    finally:
        sys.modules.pop("third_party_stage", None)
        catalog.load.cache_clear()
