"""TensorBoard's files, read by TensorBoard itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tracked_training import Started

from visionloop.core.errors import InvalidConfig
from visionloop.core.storage import open_prefix
from visionloop.training.tracking import attach, chosen
from visionloop.training.tracking.tensorboard.tracker import TEST_FILE, TRAINING_FILE

TENSORBOARD = {"OBSERVABILITY_BACKENDS": "tensorboard"}
PARAMS: dict[str, Any] = {"epochs": 3, "lr0": 0.01, "model": "yolo11n", "cos_lr": False}


def started(workspace: str, earlier: Any = None, resumed_after: int = 0, run: str = "night", **more: Any) -> Started:
    return Started(
        {**TENSORBOARD, **more},
        earlier,
        run=run,
        workspace=workspace,
        resumed_after=resumed_after,
        params=PARAMS,
        tags={"visionloop.trace_id": "trace", "visionloop.dataset": "s3://data/a|b"},
    )


def metrics(epoch: int) -> dict[str, float]:
    return {"train/box_loss": 1 / epoch, "val/mAP50-95": epoch / 8}


def shown(folder: Path) -> Any:
    """A folder as TensorBoard has loaded it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in shown(folder).Scalars(name)]


def test_tensorboard_shows_the_metrics_by_epoch_and_the_settings(tmp_path: Path) -> None:
    workspace = (tmp_path / "work space").as_uri()
    tracker = started(workspace)
    for epoch in (1, 2, 3):
        tracker.log_epoch(epoch, metrics(epoch))
    tracker.finish("succeeded", {1: {"val/mAP50-95": 9.0}})
    folder = tmp_path / "work space" / "runs" / "night" / "tensorboard"
    assert tracker.record == {"tensorboard": {"run_id": "night", "url": folder.as_uri()}}
    assert scalars(folder, "val/mAP50-95") == [(1, 0.125), (2, 0.25), (3, 0.375)]
    assert scalars(folder, "train/box_loss")[0] == (1, 1.0)
    loaded = shown(folder)
    (settings,) = loaded.Tensors("settings/text_summary")
    text = settings.tensor_proto.string_val[0].decode()
    assert "| lr0 | 0.01 |" in text
    assert "| model | yolo11n |" in text
    (about,) = loaded.Tensors("training/text_summary")
    assert r"| visionloop.dataset | s3://data/a\|b |" in about.tensor_proto.string_val[0].decode()


def test_the_page_of_settings_compares_runs_by_their_metrics(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.metadata import parse_experiment_plugin_data, parse_session_start_info_plugin_data

    tracker = started(tmp_path.as_uri())
    tracker.log_epoch(1, metrics(1))
    tracker.log_epoch(2, {**metrics(2), "val/later": 1.0})
    tracker.finish("succeeded")
    content = shown(tmp_path / "runs/night/tensorboard").PluginTagToContent("hparams")
    begin = parse_session_start_info_plugin_data(content["_hparams_/session_start_info"])
    assert begin.hparams["lr0"].number_value == 0.01
    assert begin.hparams["cos_lr"].bool_value is False
    assert begin.hparams["model"].string_value == "yolo11n"
    experiment = parse_experiment_plugin_data(content["_hparams_/experiment"])
    assert {info.name for info in experiment.hparam_infos} == set(PARAMS)
    assert [info.name.tag for info in experiment.metric_infos] == ["train/box_loss", "val/mAP50-95"]
    assert "_hparams_/session_end_info" in content


def test_a_file_grows_where_it_lies_and_its_beginning_stays(tmp_path: Path) -> None:
    """Whoever follows it has it open."""
    tracker = started(tmp_path.as_uri())
    path = tmp_path / "runs/night/tensorboard" / TRAINING_FILE
    seen = [path.read_bytes()]
    number = path.stat().st_ino
    for epoch in (1, 2):
        tracker.log_epoch(epoch, metrics(epoch))
        seen.append(path.read_bytes())
    tracker.finish("failed")
    assert path.stat().st_ino == number
    assert all(later.startswith(earlier) and later != earlier for earlier, later in itertools.pairwise(seen))
    assert path.read_bytes() == seen[-1]


def test_a_resumed_attempt_goes_on_with_the_same_story(tmp_path: Path) -> None:
    first = started(tmp_path.as_uri())
    first.log_epochs({epoch: metrics(epoch) for epoch in (1, 2, 3)})
    folder = tmp_path / "runs/night/tensorboard"
    before, number = (folder / TRAINING_FILE).read_bytes(), (folder / TRAINING_FILE).stat().st_ino
    # Killed while it wrote. The next attempt goes on from the checkpoint of epoch 3.
    (folder / TRAINING_FILE).write_bytes(before)
    second = started(tmp_path.as_uri(), first.record, resumed_after=3)
    second.log_epoch(4, metrics(4))
    assert (folder / TRAINING_FILE).read_bytes().startswith(before)
    assert (folder / TRAINING_FILE).stat().st_ino == number
    assert [epoch for epoch, _ in scalars(folder, "val/mAP50-95")] == [1, 2, 3, 4]


def test_what_was_cut_off_or_is_trained_again_is_written_anew(tmp_path: Path) -> None:
    first = started(tmp_path.as_uri())
    first.log_epochs({epoch: metrics(epoch) for epoch in (1, 2, 3)})
    folder = tmp_path / "runs/night/tensorboard"
    content = (folder / TRAINING_FILE).read_bytes()
    (folder / TRAINING_FILE).write_bytes(content[:-5])  # of epoch 3
    second = started(tmp_path.as_uri(), first.record, resumed_after=1)
    second.log_epochs({2: {"val/mAP50-95": 0.5}, 3: {"val/mAP50-95": 0.75}})
    assert scalars(folder, "val/mAP50-95") == [(1, 0.125), (2, 0.5), (3, 0.75)]


@pytest.mark.parametrize("content", [b"", b"no event file", b"\x08" + b"\x00" * 11 + b"\xff" * 12])
def test_a_file_of_something_else_is_written_anew(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "runs/night/tensorboard"
    folder.mkdir(parents=True)
    (folder / TRAINING_FILE).write_bytes(content)
    tracker = started(tmp_path.as_uri(), resumed_after=1)
    tracker.finish("succeeded", {1: metrics(1), 2: metrics(2)})
    assert [epoch for epoch, _ in scalars(folder, "val/mAP50-95")] == [1, 2]


def test_a_run_that_goes_on_from_another_ones_training_shows_all_of_it(tmp_path: Path) -> None:
    first = started(tmp_path.as_uri())
    first.log_epochs({1: metrics(1), 2: metrics(2)})
    second = started(tmp_path.as_uri(), first.record, resumed_after=1, run="morning")
    second.log_epoch(2, {"val/mAP50-95": 0.5})
    assert scalars(tmp_path / "runs/morning/tensorboard", "val/mAP50-95") == [(1, 0.125), (2, 0.5)]
    assert scalars(tmp_path / "runs/night/tensorboard", "val/mAP50-95") == [(1, 0.125), (2, 0.25)]
    # The other run was not tracked: its epochs come at the end, and stand in their places.
    third = started(tmp_path.as_uri(), resumed_after=2, run="noon")
    third.log_epoch(3, metrics(3))
    third.finish("succeeded", {epoch: metrics(epoch) for epoch in (1, 2, 3)})
    assert [epoch for epoch, _ in scalars(tmp_path / "runs/noon/tensorboard", "val/mAP50-95")] == [1, 2, 3]


def test_in_a_store_the_file_is_put_at_each_epoch(s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in s3.both_roles.items():
        monkeypatch.setenv(name, value)
    workspace = f"s3://results/{tmp_path.name}"
    tracker = started(workspace)
    prefix = open_prefix(f"{workspace}/runs/night/tensorboard", "results")
    seen = [prefix.read(TRAINING_FILE)]
    for epoch in (1, 2):
        tracker.log_epoch(epoch, metrics(epoch))
        seen.append(prefix.read(TRAINING_FILE))
    assert all(later.startswith(earlier) and later != earlier for earlier, later in itertools.pairwise(seen))
    (tmp_path / TRAINING_FILE).write_bytes(seen[-1])
    assert [epoch for epoch, _ in scalars(tmp_path, "val/mAP50-95")] == [1, 2]
    assert tracker.record == {"tensorboard": {"run_id": "night", "url": prefix.uri}}


def test_a_folder_takes_the_place_of_the_workspaces(tmp_path: Path) -> None:
    tracker = started("s3://results/work", TENSORBOARD_LOG_DIR=str(tmp_path / "board"))
    tracker.log_epoch(1, metrics(1))
    assert [epoch for epoch, _ in scalars(tmp_path / "board/night", "val/mAP50-95")] == [1]


def test_what_the_evaluation_measured_stands_beside_the_training(
    tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    tracker = started(tmp_path.as_uri())
    tracker.finish("succeeded", {1: metrics(1)})
    for _ in range(2):  # a second attempt at evaluate
        attach(TENSORBOARD, tracker.record, {"test/mAP50": 0.5}, {"reports/evaluate.html": b"<p>good</p>"})
    folder = tmp_path / "runs/night/tensorboard"
    assert scalars(folder, "test/mAP50") == [(0, 0.5)]
    assert [epoch for epoch, _ in scalars(folder, "val/mAP50-95")] == [1]
    # Another pod does not have the folder.
    elsewhere = {"tensorboard": {"run_id": "night", "url": (tmp_path / "gone").as_uri()}}
    attach(TENSORBOARD, elsewhere, {"test/mAP50": 0.5}, {})
    assert not (tmp_path / "gone").exists()
    assert "left out of tensorboard's run night: test/mAP50" in lines.text
    assert sorted(file.name for file in folder.iterdir()) == [TRAINING_FILE, TEST_FILE]


def test_a_full_disk_is_told_once_and_loses_nothing_that_comes_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = started(tmp_path.as_uri())
    opened = Path.open

    def full(path: Path, mode: str = "r", *more: Any) -> Any:
        if mode == "ab":
            raise OSError(28, "No space left on device")
        return opened(path, mode, *more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        tracker.log_epoch(1, metrics(1))
        tracker.log_epoch(2, metrics(2))
        assert "No space left on device" in tracker.record["tensorboard"]["problem"]
    assert caplog.text.count("tracking failed: tensorboard") == 1
    tracker.log_epoch(3, metrics(3))
    assert "problem" not in tracker.record["tensorboard"]
    assert [epoch for epoch, _ in scalars(tmp_path / "runs/night/tensorboard", "val/mAP50-95")] == [1, 2, 3]


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("s3://results/board", str(tmp_path / "file")):
        with pytest.raises(InvalidConfig, match=r"TENSORBOARD_LOG_DIR .*: not a folder; give the path of one"):
            chosen({**TENSORBOARD, "TENSORBOARD_LOG_DIR": folder})


def test_it_is_switched_off_by_its_variable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = started(tmp_path.as_uri(), TENSORBOARD_ENABLED="false")
    tracker.finish("succeeded", {1: metrics(1)})
    assert tracker.record == "not tracked"
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionloop.core.packages.version_of", lambda _: None)
    with pytest.raises(InvalidConfig) as caught:
        chosen(TENSORBOARD)
    assert caught.value.sentence == (
        "OBSERVABILITY_BACKENDS: the tracker tensorboard needs the package tensorboardX, which is not installed here; "
        "install it with pip install 'visionloop[tensorboard]', or leave tensorboard out."
    )


def test_nothing_is_imported_before_somebody_asks() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import visionloop.training.tracking.tensorboard as tracker; tracker.TRACKER.check({});"
        " print([name for name in ('tensorboardX', 'google.protobuf', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
