"""Stages and trainers are found by their entry points, a third party's too."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import pytest

from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.data.formats import GROUP, formats
from visionloop.training.catalog import TRAINERS, trainer, trainers


@pytest.mark.parametrize(
    ("find", "what", "existing"), [(catalog.stage, "stage", "snapshot"), (trainer, "trainer", "ultralytics")]
)
def test_a_name_that_there_is_not_names_those_that_there_are(find, what, existing):
    with pytest.raises(InvalidConfig, match=f"There is no {what} 'nothing'; there are .*{existing}"):
        find("nothing")


def test_a_third_partys_stage_is_found(tmp_path, monkeypatch):
    (tmp_path / "third_party_stage.py").write_text("STAGE = 'their stage'\n")
    write_distribution(tmp_path, "third-party", "[visionloop.stages]\ntheirs = third_party_stage:STAGE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert catalog.stage("theirs") == "their stage"
        assert "theirs" in {entry.name for entry in entry_points(group=catalog.STAGES)}
    finally:
        sys.modules.pop("third_party_stage", None)
        catalog.load.cache_clear()


@pytest.fixture
def notices(monkeypatch):
    """What was told as notices."""
    sentences: list[str] = []
    monkeypatch.setattr(catalog, "notice", sentences.append)
    catalog.pass_over.cache_clear()
    return sentences


@pytest.mark.parametrize(
    "module", ["raise ValueError('broken')", "import sys; sys.exit(3)", "import nothing_of_anybody"]
)
@pytest.mark.parametrize(
    ("group", "every", "find"),
    [
        (catalog.STAGES, catalog.stages, catalog.stage),
        (TRAINERS, trainers, trainer),
        (GROUP, formats, lambda name: catalog.find(GROUP, name, "format")),
    ],
)
def test_what_another_distribution_brings_and_can_not_be_loaded_stops_nobody_who_does_not_name_it(
    tmp_path, monkeypatch, notices, group, every, find, module
):
    before = set(every())
    (tmp_path / "broken_module.py").write_text(module)
    write_distribution(tmp_path, "broken", f"[{group}]\nodd = broken_module:ODD\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(every()) == set(every()) == before
    (sentence,) = notices
    assert "odd is passed over: " in sentence
    with pytest.raises(InvalidConfig, match=r"odd can't be loaded .*; correct the distribution broken"):
        find("odd")


def test_what_a_module_prints_is_not_on_stdout(tmp_path, monkeypatch, capfd):
    (tmp_path / "loud_module.py").write_text("import os\nprint('loud')\nos.write(1, b'louder')\nODD = 'odd'\n")
    write_distribution(tmp_path, "loud", "[visionloop.stages]\nodd = loud_module:ODD\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert catalog.stages()["odd"] == "odd"
    assert capfd.readouterr().out == ""
    catalog.load.cache_clear()


def test_a_trainer_that_lacks_what_is_read_of_all_stops_nobody(tmp_path, monkeypatch, notices):
    (tmp_path / "empty_module.py").write_text("class Empty:\n    name, protocol = 'odd', 2\nODD = Empty()\n")
    write_distribution(tmp_path, "empty", f"[{TRAINERS}]\nodd = empty_module:ODD\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "odd" not in trainers()
    assert "odd is passed over: it has no tasks, policy, model_task, requirements" in notices[0]
    catalog.load.cache_clear()


def write_distribution(folder, name, entry_points):
    """A distribution's metadata."""
    information = folder / f"{name}-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (information / "entry_points.txt").write_text(entry_points)
