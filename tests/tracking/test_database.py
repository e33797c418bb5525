"""The database's tracker, against real SQLite files and a real PostgreSQL."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tracked_training import HASH, Started

from visionloop.core.errors import InvalidConfig
from visionloop.training.tracking import attach, chosen, end_left_open, record
from visionloop.training.tracking.database import address, schema
from visionloop.training.tracking.database.connection import writing

DATABASE = {"OBSERVABILITY_BACKENDS": "database"}
PARAMS: dict[str, Any] = {"epochs": 3, "lr0": 0.01, "cos_lr": False, "model": "yolo11n"}

Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/made/tracking.db"
    server: str = request.getfixturevalue("postgresql")
    name = f"of_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(
        server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def query(url: str) -> Query:
    """Rows of the database."""

    def ask(statement: str) -> list[tuple[Any, ...]]:
        engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        try:
            with engine.begin() as connection:
                done = connection.execute(sqlalchemy.text(statement))
                return [tuple(row) for row in done] if done.returns_rows else []
        finally:
            engine.dispose()

    return ask


def variables(url: str) -> dict[str, str]:
    return {**DATABASE, address.VARIABLE: url}


def started(url: str, earlier: Any = None, **described: Any) -> Started:
    tags = {"visionloop.trace_id": "trace"}
    return Started(variables(url), earlier, experiment="bolts", params=PARAMS, tags=tags, **described)


def test_the_tables_hold_the_whole_story(url: str, query: Query) -> None:
    tracker = started(url, description="by night")
    tracker.log_epoch(1, {"train/box_loss": 1.5, "val/mAP50": 0.25})
    tracker.log_epochs({2: {"val/mAP50": 0.5, "val/odd": math.nan}, 3: {}})
    tracker.finish("succeeded", {1: {"val/mAP50": 9.0}, 4: {"val/mAP50": 0.75}})
    attach(variables(url), tracker.record, {"test/mAP50": 0.625}, {"model_card.md": b"card"})
    attach(variables(url), tracker.record, {"test/mAP50": 0.625}, {})  # a second attempt at evaluate
    ((run_id, started_at, ended_at),) = query("SELECT id, started_at, ended_at FROM visionloop_runs")
    assert tracker.record == {"database": {"run_id": run_id, "url": None}}
    assert started_at <= ended_at
    assert query("SELECT run, experiment, name, description, dataset_hash, status FROM visionloop_runs") == [
        ("run-1", "bolts", "run 1", "by night", HASH, "succeeded")
    ]
    assert query("SELECT name, value FROM visionloop_params ORDER BY name") == [
        ("cos_lr", "false"),
        ("epochs", "3"),
        ("lr0", "0.01"),
        ("model", "yolo11n"),
    ]
    assert query("SELECT name, value FROM visionloop_tags") == [("visionloop.trace_id", "trace")]
    assert query("SELECT name, epoch, value FROM visionloop_metrics ORDER BY name, epoch") == [
        ("test/mAP50", 0, 0.625),
        ("train/box_loss", 1, 1.5),
        ("val/mAP50", 1, 0.25),
        ("val/mAP50", 2, 0.5),
        ("val/mAP50", 4, 0.75),
        ("val/odd", 2, None),
    ]


def test_a_retried_training_goes_on_in_its_run(url: str, query: Query) -> None:
    first = started(url)
    first.log_epochs({1: {"val/mAP50": 0.1}, 2: {"val/mAP50": 0.2}})
    first.finish("failed")
    second = started(url, first.record, resumed_after=1)
    assert query("SELECT status, ended_at FROM visionloop_runs") == [("running", None)]
    second.log_epochs({2: {"val/mAP50": 0.3}, 3: {"val/mAP50": 0.4}})
    second.finish("succeeded")
    assert second.record == first.record
    assert query("SELECT epoch, value FROM visionloop_metrics ORDER BY epoch") == [(1, 0.1), (2, 0.2), (3, 0.4)]
    # A run that is gone is opened anew.
    third = started(url, {"database": {"run_id": "gone", "url": None}})
    assert third.record["database"]["run_id"] not in ("gone", first.record["database"]["run_id"])


def test_a_run_that_was_left_open_is_ended_once(url: str, query: Query, tmp_path: Path) -> None:
    from visionloop.core.storage import open_prefix

    prefix = open_prefix(str(tmp_path / "key"), "results")
    record.write(prefix, started(url).record)
    assert end_left_open(variables(url), prefix, "failed")
    assert query("SELECT status FROM visionloop_runs") == [("failed",)]
    assert not end_left_open(variables(url), prefix, "succeeded")


def test_stages_that_begin_at_once_share_the_tables(url: str, query: Query) -> None:
    def begin(number: int) -> dict[str, Any]:
        return dict(started(url, run=f"run-{number}").record["database"])

    with ThreadPoolExecutor(6) as pool:
        entries = list(pool.map(begin, range(6)))
    assert [entry for entry in entries if "problem" in entry] == []
    assert sorted(query("SELECT run FROM visionloop_runs")) == [(f"run-{number}",) for number in range(6)]
    assert query("SELECT version FROM visionloop_schema") == [(1,)]


def test_older_tables_are_brought_to_the_newer_version(url: str, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    before = started(url)
    before.log_epoch(1, {"val/mAP50": 0.5})
    step = ("ALTER TABLE visionloop_runs ADD COLUMN place TEXT", "UPDATE visionloop_runs SET place = 'here'")
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
        after = started(url, before.record)
        assert after.record == before.record
        assert query("SELECT version FROM visionloop_schema") == [(2,)]
        assert query("SELECT place FROM visionloop_runs") == [("here",)]
        assert query("SELECT value FROM visionloop_metrics") == [(0.5,)]
    # The older Visionloop leaves them alone.
    older = started(url)
    assert "has the tables of version 2 and this Visionloop those of version 1" in older.record["database"]["problem"]
    assert len(query("SELECT id FROM visionloop_runs")) == 1


def test_a_step_that_fails_leaves_the_older_tables(url: str, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    started(url)
    step = ("ALTER TABLE visionloop_runs ADD COLUMN place TEXT", "UPDATE nothing SET place = 'here'")
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
        assert "problem" in started(url).record["database"]
    assert query("SELECT version FROM visionloop_schema") == [(1,)]
    assert "problem" not in started(url).record["database"]


def test_another_applications_database_is_left_alone(url: str, query: Query) -> None:
    if url.startswith("sqlite"):
        address.sqlite_file(url).parent.mkdir()
    for name in ("orders", "parts", "users", "views"):
        query(f"CREATE TABLE {name} (number INTEGER)")
    tracker = started(url)
    tracker.finish("succeeded", {1: {"val/mAP50": 0.5}})
    problem = tracker.record["database"]["problem"]
    assert "holds tables of another application (orders, parts, users …); give one of its own." in problem
    assert "secret-word" not in problem
    with pytest.raises(InvalidConfig, match="another application"), writing(variables(url)):
        raise AssertionError("it was opened")


def test_what_a_database_missed_is_written_when_it_is_back(
    url: str, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = started(url)
    tracker.log_epoch(1, {"val/mAP50": 0.1})
    query("ALTER TABLE visionloop_metrics RENAME TO away")
    tracker.log_epoch(2, {"val/mAP50": 0.2})
    tracker.log_epoch(3, {"val/mAP50": 0.3})
    assert caplog.text.count("tracking failed: database") == 1
    query("ALTER TABLE away RENAME TO visionloop_metrics")
    tracker.finish("succeeded")
    assert query("SELECT epoch FROM visionloop_metrics ORDER BY epoch") == [(1,), (2,), (3,)]
    assert "problem" not in tracker.record["database"]


def test_a_full_disk_is_one_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/tracking.db"
    tracker = started(url)
    tracker.log_epoch(1, {"val/mAP50": 0.1})
    pages = "PRAGMA max_page_count=1"

    def limited(connection: Any, _: Any) -> None:
        connection.execute(pages)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", limited)
    try:
        for epoch in range(2, 6):
            tracker.log_epoch(epoch, {f"val/{number}": 0.1 for number in range(500)})
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", limited)
    assert tracker.record["database"]["problem"] == f"{tmp_path}/tracking.db: the disk is full; free space there."
    assert caplog.text.count("tracking failed: database") == 1
    tracker.finish("succeeded")
    with sqlite3.connect(tmp_path / "tracking.db") as database:
        assert database.execute("SELECT count(DISTINCT epoch) FROM visionloop_metrics").fetchone() == (5,)
    database.close()


@pytest.mark.parametrize(
    ("content", "said"), [(b"x" * 4096, "the file is no SQLite database"), (None, "the file can't be opened")]
)
def test_a_file_of_something_else_is_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "tracking.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert said in started(f"sqlite:///{path}").record["database"]["problem"]
    assert content is None or path.read_bytes() == content


def test_no_password_is_told(postgresql: str, caplog: pytest.LogCaptureFixture) -> None:
    missing = postgresql.replace("/postgres?", "/nowhere?")
    wrong = postgresql.replace("secret-word", "wrong-pass%2Fword")
    host = "postgresql://somebody:hidden-word@127.0.0.1:9/runs?password=other-word"
    said = [started(url).record["database"]["problem"] for url in (missing, wrong, host)]
    assert "is not there; make it, or give another one" in said[0]
    assert "the user or password is refused; correct VISIONLOOP_DATABASE_URL" in said[1]
    assert said[2].startswith("postgresql://127.0.0.1:9/runs: the database does not take it")
    for text in (*said, caplog.text):
        for word in ("secret-word", "wrong-pass", "hidden-word", "other-word"):
            assert word not in text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://host/runs", "not the URL of a database that is tracked in"),
        ("/folder/tracking.db", "not the URL of a database that is tracked in"),
        ("http://user:hidden-word@host/runs", "not the URL of a database that is tracked in"),
        ("sqlite://tracking.db", "needs three slashes"),
        ("sqlite:///", "needs three slashes"),
        ("postgresql://user:hidden/word@host:5432/runs", "no host and port can be read in it"),
    ],
)
def test_a_url_that_can_not_be_used_is_refused_before_anything_starts(url: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        chosen(variables(url))
    assert said in caught.value.sentence
    assert address.VARIABLE in caught.value.sentence
    assert "hidden" not in caught.value.sentence


def test_without_a_url_it_lies_in_the_home_and_in_a_pod_nowhere(tmp_path: Path) -> None:
    here = {**DATABASE, "VISIONLOOP_HOME": str(tmp_path / "home")}
    tracker = Started(here)
    assert "problem" not in tracker.record["database"]
    assert (tmp_path / "home" / "tracking.db").is_file()
    with pytest.raises(InvalidConfig) as caught:
        chosen({**here, "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert caught.value.sentence.startswith(
        "VISIONLOOP_DATABASE_URL is not set, and a pod keeps no database of its own"
    )


def test_the_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionloop.core.packages.version_of", lambda name: None if name == "psycopg" else "1")
    assert list(chosen(variables("sqlite:////tmp/tracking.db"))) == ["database"]
    with pytest.raises(
        InvalidConfig, match=r"needs the package psycopg, .* install it with pip install 'visionloop\[database\]'"
    ):
        chosen(variables("postgresql://host/runs"))


def test_nothing_is_imported_before_somebody_asks() -> None:
    code = (
        "import sys; import visionloop.training.tracking.database as tracker; tracker.TRACKER.check({});"
        " print([name for name in ('sqlalchemy', 'psycopg') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout == "[]\n"
