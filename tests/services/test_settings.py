"""What the services are started with: addresses, ports, variables, and the sentences for what can't work."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig, SickMachine
from visionloop.pipelines.services import leases, store, tracking
from visionloop.pipelines.services.folder import Folder, find_folder
from visionloop.pipelines.services.ports import LOOPBACK, RANGE, check_address, is_free, keep_ports
from visionloop.pipelines.services.processes import Process, this_process


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "home")
    folder.create()
    return folder


def test_the_folder_is_named_by_argument_then_variable_then_the_nearest_then_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, inner = tmp_path / "project", tmp_path / "project" / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_folder("a", {"VISIONLOOP_HOME": "/b"}).path == inner / "a"
    assert find_folder(None, {"VISIONLOOP_HOME": "/b"}) == Folder(Path("/b"), "set by VISIONLOOP_HOME")
    own = find_folder(None, {"VISIONLOOP_HOME": ""})
    assert own.path.is_relative_to(tmp_path)
    assert own.path.name == "visionloop"
    assert own.origin.startswith("your data folder")
    # mkdir begins one, and every folder below it has the same.
    (project / ".visionloop").mkdir()
    nearest = Folder(project / ".visionloop", "the nearest .visionloop from here upwards")
    assert find_folder(None, {}) == nearest
    monkeypatch.chdir(project)
    assert find_folder(None, {}) == nearest
    # A file of that name is none, nor is a current folder that is gone an error.
    (inner / ".visionloop").write_text("")
    monkeypatch.chdir(inner)
    assert find_folder(None, {}) == nearest
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert find_folder(None, {}) == own
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a folder to another user")
def test_a_folder_of_another_user_is_nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / ".visionloop").mkdir()
    inner = tmp_path / "inner"
    (inner / ".visionloop").mkdir(parents=True)
    monkeypatch.chdir(inner)
    os.chown(inner / ".visionloop", 12345, -1)
    assert find_folder(None, {}).path == tmp_path / ".visionloop"
    (inner / ".visionloop").rmdir()
    (inner / ".visionloop").symlink_to(tmp_path)
    os.chown(inner / ".visionloop", 12345, -1, follow_symlinks=False)
    assert find_folder(None, {}).path == tmp_path / ".visionloop"


def test_a_folder_that_a_person_began_becomes_its_owners(tmp_path: Path) -> None:
    begun = tmp_path / ".visionloop"
    begun.mkdir(mode=0o755)
    Folder(begun).create()
    assert stat.S_IMODE(begun.stat().st_mode) == 0o700


def test_a_folder_that_no_database_url_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"100%.*VISIONLOOP_HOME"):
        find_folder(tmp_path / "100%")


def test_the_folder_is_its_owners_and_ignored_by_git(folder: Folder) -> None:
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert (folder.path / ".gitignore").read_text() == "*\n"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(InvalidConfig, match=r"home: .*File exists.*VISIONLOOP_HOME"):
        Folder(tmp_path / "home").create()


def test_a_disk_with_too_little_space_is_a_sick_machine(folder: Folder) -> None:
    folder.require_space(1)
    with pytest.raises(SickMachine, match=r"home: the disk has \d+ MiB free .* need 1099511627776 MiB"):
        folder.require_space(2**60)


def test_a_full_disk_is_a_sick_machine(folder: Folder) -> None:
    (folder.path / "services.lock").symlink_to("/dev/full")
    from visionloop.pipelines.services.folder import naming_the_remedy

    with (
        pytest.raises(SickMachine, match=r"home: the disk is full; free some space or set VISIONLOOP_HOME"),
        naming_the_remedy(folder),
    ):
        (folder.path / "services.lock").write_text("x")


def test_ports_are_kept(folder: Folder) -> None:
    first = keep_ports(folder, {"s3": LOOPBACK, "master": LOOPBACK})
    assert len(set(first.values())) == 2
    assert all(port in RANGE for port in first.values())
    assert keep_ports(folder, {"master": LOOPBACK, "s3": LOOPBACK}) == first
    more = keep_ports(folder, {"page": LOOPBACK})
    assert more["page"] not in first.values()
    assert keep_ports(folder, {"s3": LOOPBACK}) == {"s3": first["s3"]}


def test_only_a_taken_port_is_replaced(folder: Folder) -> None:
    first = keep_ports(folder, {"master": LOOPBACK})
    with socket.create_server((LOOPBACK, 0)) as held:
        taken = held.getsockname()[1]
        folder.ports.write_text(json.dumps({**first, "s3": taken}))
        assert not is_free(LOOPBACK, taken)
        second = keep_ports(folder, {"s3": LOOPBACK, "master": LOOPBACK})
    assert second["master"] == first["master"]
    assert second["s3"] != taken


@pytest.mark.parametrize("content", [b"", b"[]", b'{"s3": "x"}', b"\xff"])
def test_a_broken_ports_file_is_made_anew(folder: Folder, content: bytes) -> None:
    folder.ports.write_bytes(content)
    ports = keep_ports(folder, {"s3": LOOPBACK})
    assert keep_ports(folder, {"s3": LOOPBACK}) == ports


@pytest.mark.parametrize("address", ["192.0.2.1", "localhost", "", "1", "::1", "127.0.0.1:80"])
def test_an_address_of_no_interface_is_refused(address: str) -> None:
    with pytest.raises(InvalidConfig, match="not an IPv4 address of this machine"):
        check_address(address)


def test_keys_are_made_once_at_random_and_hidden(folder: Folder, tmp_path: Path) -> None:
    keys = store.load_keys(folder)
    assert store.load_keys(folder) == keys
    assert stat.S_IMODE(folder.keys.stat().st_mode) == 0o600
    assert keys.secret_key not in repr(keys)
    other = Folder(tmp_path / "other")
    other.create()
    assert store.load_keys(other).secret_key != keys.secret_key


@pytest.mark.parametrize("content", [b"", b"{}", b'{"identities": []}', b'{"identities": [{"name": "a"}]}'])
def test_a_broken_keys_file_is_named(folder: Folder, content: bytes) -> None:
    folder.keys.write_bytes(content)
    with pytest.raises(InvalidConfig, match=r"keys\.json: holds no S3 keys; remove the file"):
        store.load_keys(folder)


def test_the_server_is_told_to_stay_quiet_and_on_loopback(folder: Folder) -> None:
    ports = dict(zip(store.PORTS, range(20000, 20008), strict=True))
    command = store.command(folder, ports)
    for argument in (
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
    ):
        assert argument in command
    for port in ports.values():
        assert sum(argument.endswith(f"={port}") for argument in command) == 1
    keys = store.load_keys(folder)
    assert keys.secret_key not in " ".join(command)


def test_the_page_answers_to_its_own_names_only() -> None:
    assert tracking.allowed_hosts("10.1.2.3", 5000) == ["10.1.2.3:5000", "127.0.0.1:5000", "localhost:5000"]
    assert tracking.allowed_hosts("127.0.0.1", 5000) == ["127.0.0.1:5000", "localhost:5000"]
    assert tracking.allowed_hosts("0.0.0.0", 5000) == ["*"]


def test_mlflow_is_started_without_the_callers_settings(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.setenv("AWS_PROFILE", "another")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_USERNAME", "another")
    monkeypatch.setenv("KEPT", "yes")
    environment = tracking.page_environment(folder, "http://127.0.0.1:1", store.Keys("key", "secret"), password=False)
    assert not [name for name in environment if name.startswith(("MLFLOW_AUTH", "MLFLOW_FLASK"))]
    with_password = tracking.page_environment(folder, "http://127.0.0.1:1", store.Keys("key", "secret"), password=True)
    added = {name: value for name, value in with_password.items() if name not in environment}
    assert set(added) == {"MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"}
    assert tracking.load_password(folder) == added["MLFLOW_AUTH_ADMIN_PASSWORD"] == tracking.read_password(folder)
    assert added["MLFLOW_AUTH_ADMIN_PASSWORD"] not in folder.page_settings.read_text()
    for file in (folder.page_password, folder.page_secret, folder.page_settings):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "MLFLOW_TRACKING_URI" not in environment
    assert "AWS_PROFILE" not in environment
    assert environment["KEPT"] == "yes"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_S3_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]) == ("key", "secret")


def test_a_new_password_leaves_no_user_with_the_old_one(folder: Folder) -> None:
    first = tracking.load_password(folder)
    folder.page_users.write_bytes(b"MLflow's table of users")
    assert tracking.load_password(folder) == first
    assert folder.page_users.exists()
    folder.page_password.unlink()
    assert tracking.load_password(folder) != first
    assert not folder.page_users.exists()


names = st.lists(st.text("abc.*-1", min_size=1, max_size=8), max_size=5)


@given(names, names)
def test_no_proxy_is_extended_and_never_shortened(before: list[str], added: list[str]) -> None:
    once = tracking.without_proxy({"NO_PROXY": ", ".join(before)}, *added)
    result = once["NO_PROXY"].split(",")
    assert set(result) == {*before, *added, "localhost"}
    assert len(result) == len(set(result))
    assert once["no_proxy"] == once["NO_PROXY"]
    assert tracking.without_proxy(once, *added) == once


def test_a_lease_ends_with_its_holder(folder: Folder) -> None:
    mine = leases.take(folder)
    gone = folder.leases / "1.dead.json"
    gone.write_text('{"holder": {"pid": 1, "born": "earlier"}}')
    broken = folder.leases / "broken.json"
    broken.write_text("{")
    assert [lease.holder for lease in leases.valid(folder)] == [this_process()]
    leases.sweep(folder)
    assert sorted(folder.leases.iterdir()) == [mine]
    permanent = leases.take(folder, permanent=True)
    assert [lease.holder for lease in leases.valid(folder)] == [None, this_process()]
    leases.give_back(mine)
    leases.give_back(permanent)
    leases.give_back(permanent)
    assert leases.valid(folder) == []


def test_two_leases_of_one_process_are_two(folder: Folder) -> None:
    first, second = leases.take(folder), leases.take(folder)
    leases.give_back(first)
    assert len(leases.valid(folder)) == 1
    leases.give_back(second)
    assert leases.valid(folder) == []


def test_a_process_of_the_same_id_does_not_keep_a_lease() -> None:
    assert not leases.Lease(Process(this_process().pid, "another")).valid
