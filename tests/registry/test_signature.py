"""The signature over a model's files: who signs, what is checked, and that nothing of the key is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    KeySerializationEncryption,
    NoEncryption,
)
from decided import command, register, version
from test_model_verify import chain
from test_statement import put
from toy_detector import Prepared

from visionloop.components.register import signature, statement
from visionloop.core.canonical import sha256
from visionloop.core.errors import InvalidConfig, InvalidReceipt
from visionloop.core.policy import SIGNING_FILE_VARIABLE
from visionloop.core.storage import open_prefix
from visionloop.core.stores import local_path
from visionloop.pipelines.models.verification import verify
from visionloop.registry import Registry
from visionloop.registry.versions import STORAGE_URI

#: A hardware module made of files, where it is installed.
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


def pem(private: Any, encryption: KeySerializationEncryption | None = None) -> bytes:
    """A private key's PEM file."""
    form = serialization.PrivateFormat.PKCS8
    data: bytes = private.private_bytes(serialization.Encoding.PEM, form, encryption or NoEncryption())
    return data


def made(folder: Path, name: str) -> tuple[Path, Path]:
    """A pair of keys: the files of the private and of the public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(pem(key))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The keys that register signs with."""
    private, public = made(tmp_path, "ada")
    monkeypatch.setenv(signature.VARIABLE, str(private))
    return private, public


def test_a_signed_model_is_verified_by_its_public_key_alone(
    prepared: Prepared,
    registry: Registry,
    name: str,
    signer: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    register(prepared, name, 2)
    _, public = signer
    code, out, _ = command(capsys, "verify", f"{name}@champion", "--public-key", public)
    assert code == 0
    (link,) = [entry for entry in json.loads(out)["links"] if entry["link"] == "signature"]
    assert link["subject"] == f"{version(registry, name, 1).source}/model.sig"
    _, other = made(tmp_path, "eve")
    code, _, sentence = command(capsys, "verify", f"{name}@champion", "--public-key", other)
    assert code == 65
    assert sentence.startswith(f"{name}/1: the link signature is broken: ")
    assert f"no signature of these files by the key in {other}" in sentence
    notes = verify(registry, f"{name}/1", "none").notes
    assert any("model.sig was not checked" in note for note in notes)


@pytest.mark.slow
def test_the_standards_own_command_accepts_the_copy_and_no_other_bytes(
    prepared: Prepared, registry: Registry, name: str, signer: tuple[Path, Path]
) -> None:
    register(prepared, name, 2)
    copy = local_path(version(registry, name, 1).tags[STORAGE_URI])
    assert copy is not None
    words = ["verify", "key", str(copy), "--signature", str(copy / signature.FILE), "--public_key", str(signer[1])]

    def verified() -> int:
        return subprocess.run(
            [sys.executable, "-m", "model_signing", *words], capture_output=True, check=False
        ).returncode

    assert verified() == 0
    (copy / "exports").mkdir()
    (copy / "exports" / "onnx-fp32").write_bytes(b"exported later")
    assert verified() == 0
    (copy / "conda.yaml").write_text("name: other\n")
    assert verified() != 0


def test_files_that_somebody_replaced_with_all_records_are_told_by_the_signature_alone(
    prepared: Prepared,
    registry: Registry,
    name: str,
    signer: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    register(prepared, name, 2)
    result = chain(registry, name)["register"]
    stated = json.loads(result.read(f"model/{statement.FILE}"))
    (subject,) = (entry for entry in stated["subject"] if entry["name"] == "conda.yaml")
    subject["digest"]["sha256"] = sha256(b"name: other\n")
    put(result, "conda.yaml", b"name: other\n")
    put(result, statement.FILE, json.dumps(stated).encode())
    copy = open_prefix(version(registry, name, 1).tags[STORAGE_URI], "results")
    for file in ("conda.yaml", statement.FILE):
        copy.write(file, open_prefix(version(registry, name, 1).source, "results").read(file))
    assert verify(registry, f"{name}/1", "none")
    code, _, sentence = command(capsys, "verify", f"{name}/1", "--images", "none", "--public-key", signer[1])
    assert code == 65
    assert "the link signature is broken" in sentence


def test_without_a_key_nothing_is_signed_and_asking_for_a_signature_says_so(
    prepared: Prepared, registry: Registry, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2)
    assert not open_prefix(version(registry, name, 1).source, "results").exists(signature.FILE)
    assert not any("model.sig" in note for note in verify(registry, f"{name}/1", "none").notes)
    _, public = made(tmp_path, "ada")
    code, _, sentence = command(capsys, "verify", f"{name}/1", "--public-key", public)
    assert code == 65
    assert "holds no model.sig: the model was not signed" in sentence


def test_forced_it_is_signed_afterwards(
    prepared: Prepared, registry: Registry, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = prepared.evaluate(prepared.train(2), name)
    prepared.register(evaluation, name)
    private, public = made(tmp_path, "ada")
    monkeypatch.setenv(signature.VARIABLE, str(private))
    assert prepared.register(evaluation, name).reused
    prepared.register(evaluation, name, force=True)
    assert "signature" in [link.link for link in verify(registry, f"{name}/1", "none", public_key=public).links]


def test_nothing_of_the_key_is_told_and_nobody_is_asked(
    prepared: Prepared,
    registry: Registry,
    name: str,
    signer: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def closed(*_: object) -> None:
        raise AssertionError("somebody is asked")

    evaluation = prepared.evaluate(prepared.train(2), name)
    monkeypatch.setattr(socket.socket, "connect", closed)
    monkeypatch.setattr(socket, "getaddrinfo", closed)
    prepared.register(evaluation, name)
    verify(registry, f"{name}/1", "none", public_key=signer[1])
    private = signer[0].read_text()
    secret = "".join(private.splitlines()[1:-1])
    written = {path: path.read_bytes() for path in (tmp_path / "workspace").rglob("*") if path.is_file()}
    assert written
    captured = capsys.readouterr()
    told = [captured.out, captured.err, caplog.text, json.dumps(dict(version(registry, name, 1).tags))]
    for text in (*told, *(data.decode(errors="replace") for data in written.values())):
        assert secret[:40] not in text.replace("\n", "")
        assert str(signer[0]) not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no key", "not the PEM file of a private key that can sign"),
        (lambda: pem(rsa.generate_private_key(65537, 2048)), "an elliptic key on P-256, P-384 or P-521"),
        (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "an elliptic key on P-256, P-384 or P-521"),
        (
            lambda: pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"opensesame")),
            "without a password",
        ),
        (None, "the file can't be read"),
    ],
    ids=["text", "rsa", "curve", "password", "missing"],
)
def test_a_key_that_cannot_sign_ends_it_before_anything_is_made(
    content: bytes | Callable[[], bytes] | None,
    words: str,
    prepared: Prepared,
    registry: Registry,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content() if callable(content) else content)
    monkeypatch.setenv(signature.VARIABLE, str(path))
    evaluation = prepared.evaluate(prepared.train(2), name)
    with pytest.raises(InvalidConfig, match=words) as caught:
        prepared.register(evaluation, name)
    assert "PRIVATE" not in caught.value.sentence
    assert registry.version(name, 1) is None


def test_a_key_in_the_variable_itself_is_refused_and_not_shown(tmp_path: Path) -> None:
    text = pem(ec.generate_private_key(ec.SECP256R1())).decode()
    with pytest.raises(InvalidConfig, match="holds a key; put it into a file") as caught:
        signature.key({signature.VARIABLE: text})
    assert "PRIVATE" not in caught.value.sentence
    with pytest.raises(InvalidConfig, match="not a file"):
        signature.key({signature.VARIABLE: str(tmp_path)})


def test_a_pin_is_not_shown(tmp_path: Path) -> None:
    from visionloop.core import secrets

    uri = f"pkcs11:token=models;object=ada?module-path={tmp_path}/none.so&pin-value=12345%2F678"
    with pytest.raises(InvalidConfig, match="can't be opened") as caught:
        signature.key({signature.VARIABLE: uri})
    assert "12345" not in caught.value.sentence
    assert secrets.redact("the PIN is 12345/678") == "the PIN is ***"


@pytest.mark.skipif(not MODULE.exists(), reason="needs SoftHSM, a hardware module made of files: apt install softhsm2")
def test_a_key_in_a_hardware_module_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = made(tmp_path, "ada")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    token = ("--token", "models", "--pin", "12345678")
    for words in (
        ("--init-token", "--free", "--label", "models", "--pin", "12345678", "--so-pin", "87654321"),
        ("--import", str(private), *token, "--label", "ada", "--id", "01"),
    ):
        subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)
    (tmp_path / "pin").write_text("12345678")
    uri = f"pkcs11:token=models;object=ada?module-path={MODULE}&pin-source=file:{tmp_path}/pin"
    key = signature.key({signature.VARIABLE: uri})
    assert key is not None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}\n")
    key.sign(tmp_path / "model")
    signature.verify(tmp_path / "model", public, "s3://models/model.sig")
    with pytest.raises(InvalidReceipt, match="no signature of these files"):
        signature.verify(tmp_path / "model", made(tmp_path, "eve")[1], "s3://models/model.sig")


def test_a_pod_signs_where_its_secret_holds_the_key(tmp_path: Path) -> None:
    mounted = tmp_path / "signing"
    variables = {SIGNING_FILE_VARIABLE: str(mounted / "key.pem")}
    assert signature.key(variables) is None
    mounted.mkdir()
    (mounted / "..data").mkdir()
    assert signature.key(variables) is None
    (mounted / "signer.pem").write_bytes(b"")
    with pytest.raises(InvalidConfig, match=r"has no key\.pem"):
        signature.key(variables)
    made(tmp_path, "ada")[0].rename(mounted / "key.pem")
    assert signature.key(variables) is not None


def test_without_the_library_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = made(tmp_path, "ada")
    for module in [name for name in sys.modules if name.partition(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(InvalidConfig, match=r"pip install 'visionloop\[signing\]'"):
        signature.key({signature.VARIABLE: str(private)})
    with pytest.raises(InvalidConfig, match=r"pip install 'visionloop\[signing\]'"):
        signature.verify(tmp_path, public, "s3://models/model.sig")


def test_a_public_key_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="no such file"):
        signature.verify(tmp_path, tmp_path / "none.pub", "s3://models/model.sig")
    (tmp_path / "bad.pub").write_text("no key")
    with pytest.raises(InvalidConfig, match="not the PEM file of a public key"):
        signature.verify(tmp_path, tmp_path / "bad.pub", "s3://models/model.sig")
