"""``visionloop model verify``: a chain that holds, and one altered byte in each kind of link."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from decided import command, register, version
from toy_detector import Prepared, run, write_dataset

from visionloop.components.register.lineage import LINKS
from visionloop.core import damage, receipts
from visionloop.core.canonical import sha256
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import local_path
from visionloop.pipelines.models.verification import verify
from visionloop.registry import Registry
from visionloop.registry.versions import (
    CHECKPOINT_SHA256,
    DATASET_HASH,
    EVALUATION,
    METRIC,
    SNAPSHOT_ID,
    STARTING_WEIGHTS,
    STORAGE_URI,
    TRAINING_KEY,
)

STAGES = ["register", *(stage for _, stage in LINKS)]


def chain(registry: Registry, name: str) -> dict[str, Result]:
    """The receipts of version 1 by stage."""
    source = version(registry, name, 1).source
    result = receipts.load(f"{source.rsplit('/', 2)[0]}/receipt.json", "register")
    found = {"register": result}
    for link, stage in LINKS:
        result = found[stage] = result.input(link, stage)
    return found


def altered(data: bytes) -> bytes:
    """The same number of bytes, one of them another."""
    return data[:-1] + bytes([data[-1] ^ 1])


def broken_at(registry: Registry, name: str, images: Any = "listing") -> str:
    """The link that verify names."""
    with pytest.raises(InvalidReceipt) as caught:
        verify(registry, f"{name}/1", images)
    text = caught.value.sentence
    assert text.startswith(f"{name}/1: the link ")
    return text.removeprefix(f"{name}/1: the link ").partition(" is broken: ")[0]


def changes(prefix: Prefix, path: str) -> Iterator[None]:
    """Alters an object, and puts it back; once by a byte, once by removing it."""
    data = prefix.read(path)
    prefix.write(path, altered(data))
    yield
    prefix.delete([path])
    yield
    prefix.write(path, data)


def test_a_chain_that_holds_is_told_link_by_link(
    prepared: Prepared, registry: Registry, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2)
    code, out, _ = command(capsys, "verify", f"{name}@champion")
    found = json.loads(out)
    assert (code, found["model"], found["version"], found["notes"]) == (0, name, 1, [])
    links = {link["link"]: link for link in found["links"]}
    assert list(links) == ["version", "register", "provenance", "bom", "copy", *STAGES[1:], "images"]
    for stage, result in chain(registry, name).items():
        outputs = result.receipt.outputs.values()
        assert links[stage]["subject"] == result.uri
        assert (links[stage]["files"], links[stage]["bytes"]) == (len(outputs), sum(entry.size for entry in outputs))
    pictures = sum(path.stat().st_size for path in (tmp_path / "dataset/images").iterdir())
    assert (links["images"]["files"], links["images"]["bytes"]) == (8, pictures)
    assert links["images"]["compared"] == "size and SHA-256"
    code, out, _ = command(capsys, "verify", f"{name}/1", "--images", "none", "--output", "text")
    assert code == 0
    assert out.startswith(f"{name}/1 is what its records say, link by link:\nversion    models:/{name}/1\n")
    assert "8 images of " in out.splitlines()[-1]
    assert out.endswith("were not looked at (--images none).\n")


def test_one_altered_byte_in_a_file_names_the_link(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2)
    found = version(registry, name, 1)
    results = chain(registry, name)
    copy = open_prefix(found.tags[STORAGE_URI], "results")
    for _ in changes(copy, "artifacts/best.pt"):
        assert broken_at(registry, name) == "copy"
    source = open_prefix(found.source, "results")
    for path in ("artifacts/best.pt", "provenance.intoto.json", "bom.cdx.json"):
        for _ in changes(source, path):
            assert broken_at(registry, name) == "register"
        results["register"].prefix.delete([damage.FILE])
    for stage, result in results.items():
        for output in [entry for entry in result.receipt.outputs.values() if entry.result][:1]:
            for _ in changes(result.prefix, output.path):
                assert broken_at(registry, name) == stage, output.path
            result.prefix.delete([damage.FILE])
        for _ in changes(result.prefix, receipts.FILE):
            assert broken_at(registry, name) == stage
    verify(registry, f"{name}/1", "listing")


@pytest.mark.parametrize("images", ["listing", "bytes"])
def test_one_altered_byte_in_an_image_names_it(
    prepared: Prepared, registry: Registry, name: str, tmp_path: Path, images: Any
) -> None:
    register(prepared, name, 2)
    folder = open_prefix((tmp_path / "dataset").as_uri(), "dataset")
    for _ in changes(folder, "images/3.png"):
        assert broken_at(registry, name, images) == "images"
        with pytest.raises(InvalidReceipt, match=r"images/3\.png (changed|is gone)"):
            verify(registry, f"{name}/1", images)
        verify(registry, f"{name}/1", "none")
    verify(registry, f"{name}/1", images)
    (tmp_path / "dataset").rename(tmp_path / "elsewhere")
    assert broken_at(registry, name, images) == "images"


def test_a_result_that_was_computed_anew_is_no_link(prepared: Prepared, registry: Registry, name: str) -> None:
    """Whole and consistent in itself, but not what the receipt above was made from."""
    register(prepared, name, 2)
    for stage, result in list(chain(registry, name).items())[1:]:
        receipt = result.receipt
        output, entry = next((output, entry) for output, entry in receipt.outputs.items() if entry.result)
        before, uri = result.prefix.read(entry.path), f"{result.prefix.uri}/{receipts.FILE}"
        data = before + b" "
        outputs = receipt.outputs | {
            output: msgspec.structs.replace(entry, size=len(data), sha256=sha256(data)),
        }
        other = msgspec.structs.replace(receipt, outputs=outputs, digest=receipts.digest_of(outputs))
        result.prefix.write(entry.path, data)
        result.prefix.write(receipts.FILE, other.encode())
        assert receipts.load(uri, stage).intact()
        with pytest.raises(InvalidReceipt, match=f"the link {stage} is broken: .*computed anew, with another result"):
            verify(registry, f"{name}/1", "none")
        result.prefix.write(entry.path, before)
        result.prefix.write(receipts.FILE, receipt.encode())
    verify(registry, f"{name}/1", "none")


def test_a_tag_or_a_source_that_says_something_else_names_the_version(
    prepared: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2)
    register(prepared, f"{name}-other", 4)
    found = version(registry, name, 1)
    another = version(registry, f"{name}-other", 1)
    for tag in (TRAINING_KEY, CHECKPOINT_SHA256, STORAGE_URI, SNAPSHOT_ID, DATASET_HASH, f"{METRIC}mAP50-95"):
        registry.tag(found, {tag: altered(found.tags[tag].encode()).decode()})
        assert broken_at(registry, name) == "version"
        registry.tag(found, {tag: found.tags[tag]})
    registry.tag(found, {EVALUATION: another.tags[EVALUATION]})
    assert broken_at(registry, name) == "version"
    registry.tag(found, {EVALUATION: found.tags[EVALUATION]})
    registry.untag(found, SNAPSHOT_ID)
    assert broken_at(registry, name) == "version"
    registry.tag(found, {SNAPSHOT_ID: found.tags[SNAPSHOT_ID]})
    verify(registry, f"{name}/1", "none")
    for number, source in enumerate((another.source, "s3://elsewhere/model"), 2):
        registry.create_version(name, source, found.tags, "")
        code, out, sentence = command(capsys, "verify", f"{name}/{number}")
        assert (code, out) == (65, "")
        assert f"{name}/{number}: the link version is broken: " in sentence


def test_what_is_not_registered_by_visionloop_or_not_at_all_is_78(
    prepared: Prepared, registry: Registry, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2)
    code, out, sentence = command(capsys, "verify", f"{name}/7")
    assert (code, out) == (78, "")
    assert f"there is {name}/1" in sentence
    assert command(capsys, "verify", f"{name}-not")[0] == 78
    registry.create_version(name, "s3://elsewhere/model", {}, "")
    code, _, sentence = command(capsys, "verify", f"{name}/2")
    assert (code, "was not registered by Visionloop" in sentence) == (78, True)
    (tmp_path / "workspace").rename(tmp_path / "moved")
    code, _, sentence = command(capsys, "verify", f"{name}/1")
    assert (code, "which is gone from there; move it back" in sentence) == (78, True)


def test_what_was_not_checked_is_told(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 4)
    weights = f"sha256:{version(registry, name, 1).checkpoint_sha256}"
    prepared.register(prepared.evaluate(prepared.train(2, model=weights), name), name)
    prepared.register(prepared.evaluate(prepared.train(1, model=f"sha256:{'0' * 64}"), name), name)
    (note,) = verify(registry, f"{name}/2", "listing").notes
    assert "from the weights of " in note
    assert "which is a chain of its own: visionloop model verify " in note
    (note,) = verify(registry, f"{name}/3", "listing").notes
    assert "which no registered version has: they were not checked" in note
    third = version(registry, name, 3)
    registry.untag(third, STARTING_WEIGHTS)
    copy = open_prefix(third.tags[STORAGE_URI], "results")
    copy.delete([info.key for info in list(copy.objects())])
    open_prefix(third.source, "results").write("more.txt", b"more")
    champion = local_path(version(registry, name, 2).training_receipt or "")
    assert champion is not None
    champion.unlink()
    notes = verify(registry, f"{name}/3", "listing").notes
    assert [
        any(words in note for note in notes)
        for words in (
            f"no tag {STARTING_WEIGHTS}",
            "The copy at ",
            "1 more files that no receipt names: more.txt",
            "champion that it was compared with can't be read",
        )
    ] == [True] * 4
    assert len(notes) == 5


def test_a_workspace_and_a_dataset_in_a_store(
    s3_workspace: str, toy: object, registry: Registry, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    folder = write_dataset(tmp_path / "dataset")
    dataset = open_prefix(f"s3://datasets/{name}", "dataset")
    for path in sorted(folder.rglob("*.*")):
        dataset.write(path.relative_to(folder).as_posix(), path.read_bytes())
    from visionloop.components import convert, snapshot, validate

    def uri(stage: Any, **arguments: str) -> str:
        outcome = run(stage, arguments, s3_workspace)
        assert outcome.result is not None
        return outcome.result.uri

    taken = uri(snapshot.STAGE, dataset=dataset.uri)
    report = uri(validate.STAGE, snapshot=taken)
    register(Prepared(s3_workspace, taken, uri(convert.STAGE, snapshot=taken, report=report)), name, 2)
    for images, hashed in (("listing", False), ("bytes", True)):
        link = verify(registry, f"{name}/1", images).links[-1]  # type: ignore[arg-type]
        assert (link.link, link.files, bool(link.bytes)) == ("images", 8, hashed)
        assert link.compared.startswith("size and ETag")
    for _ in changes(dataset, "images/3.png"):
        assert broken_at(registry, name) == broken_at(registry, name, "bytes") == "images"
    source = open_prefix(version(registry, name, 1).source, "results")
    for _ in changes(source, "artifacts/best.pt"):
        assert broken_at(registry, name) == "register"
