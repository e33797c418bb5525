"""Receipts: the only thing that makes outputs a result."""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_canonical import DIGESTS, JSON, NAMES

from visionloop.core import damage, receipts
from visionloop.core.canonical import sha256
from visionloop.core.errors import Defect, InvalidReceipt, Transient
from visionloop.core.receipts import FILE, InputReference, Output, Parameter, Receipt
from visionloop.core.storage import Prefix, Sent, open_prefix

DATA = {"labels": b"labels", "index": b"the index", "report": b"<html>"}


def make(attempt: str = "attempt1", **changes) -> Receipt:
    """A receipt of ``DATA``; the report is a decoration."""
    values: dict[str, Any] = {
        "stage": "convert",
        "logic_version": 1,
        "key": "",
        "attempt": attempt,
        "inputs": {"snapshot": InputReference("s3://w/snapshot/k/receipt.json", "ab" * 32)},
        "parameters": {"format": Parameter("yolo", "default")},
        "outputs": {
            name: Output(f"{attempt}/{name}", len(data), sha256(data), name != "report") for name, data in DATA.items()
        },
        "digest": "",
        "scalars": {"images": 3},
        "metrics": {"mAP50": 0.5},
        "timings": {"seconds": 1.0},
        "versions": {"visionloop": "0.1.0"},
        "trace_id": "t",
    } | changes
    receipt = Receipt(**values)
    return msgspec.structs.replace(
        receipt,
        key=changes.get("key") or receipts.key_of(receipt),
        digest=changes.get("digest") or receipts.digest_of(receipt.outputs),
    )


def store(workspace: str, receipt: Receipt | None = None) -> tuple[Prefix, receipts.Result]:
    """Writes outputs and publishes their receipt."""
    receipt = receipt or make()
    prefix = open_prefix(workspace, "results").child(f"{receipt.stage}/{receipt.key}")
    for name, data in DATA.items():
        prefix.write(f"{receipt.attempt}/{name}", data)
    return prefix, receipts.publish(prefix, receipt, None)


@settings(max_examples=40)
@given(
    st.dictionaries(NAMES, JSON, max_size=4),
    st.dictionaries(NAMES, DIGESTS, max_size=3),
    st.dictionaries(NAMES, JSON, max_size=3),
    st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
def test_a_receipt_reads_back_as_it_was_written(parameters, inputs, scalars, metrics):
    receipt = make(
        parameters={name: Parameter(value, "given") for name, value in parameters.items()},
        inputs={name: InputReference(None, digest) for name, digest in inputs.items()},
        scalars=scalars,
        metrics=metrics,
    )
    assert receipts.parse(receipt.encode(), "uri") == receipt


def test_the_fields_of_a_receipt_are_the_contracts():
    fields = msgspec.json.decode(make().encode())
    assert set(fields) == {
        *("schema", "stage", "logic_version", "key", "attempt", "inputs", "parameters", "outputs", "digest"),
        *("scalars", "metrics", "timings", "versions", "trace_id", "tracking"),
    }
    assert fields["schema"] == 1
    assert fields["tracking"] == "not tracked"
    assert set(fields["inputs"]["snapshot"]) == {"receipt", "digest"}
    assert set(fields["parameters"]["format"]) == {"value", "source"}
    assert set(fields["outputs"]["labels"]) == {"path", "size", "sha256", "result"}


def test_the_digest_covers_results_alone():
    receipt = make()
    for name, entry in receipt.outputs.items():
        outputs = receipt.outputs | {name: msgspec.structs.replace(entry, sha256="0" * 64)}
        assert (receipts.digest_of(outputs) != receipt.digest) == (name != "report")
    moved = {name: msgspec.structs.replace(entry, path=f"elsewhere/{name}") for name, entry in receipt.outputs.items()}
    assert receipts.digest_of(moved) == receipt.digest
    renamed = {f"{name}2": entry for name, entry in receipt.outputs.items()}
    assert receipts.digest_of(renamed) != receipt.digest


ALTERATIONS = [
    ("schema", 2),
    ("stage", "train"),
    ("logic_version", 2),
    ("key", "0" * 64),
    ("digest", "0" * 64),
    ("inputs.snapshot.digest", "0" * 64),
    ("inputs.other", {"receipt": None, "digest": "none"}),
    ("parameters.format.value", "imagefolder"),
    ("parameters.other", {"value": 1, "source": "default"}),
    ("outputs.labels.sha256", "0" * 64),
    ("outputs.labels.result", False),
    ("outputs.report.result", True),
    ("outputs.other", {"path": "a/b", "size": 1, "sha256": "0" * 64, "result": True}),
    ("metrics.mAP50", "high"),
    ("logic_version", "1"),
    ("outputs", []),
    ("trace_id", None),
]


@pytest.mark.parametrize(("field", "value"), ALTERATIONS)
def test_an_altered_receipt_is_refused(workspace, field, value):
    prefix, result = store(workspace)
    content = msgspec.json.decode(prefix.read(FILE))
    *path, last = field.split(".")
    inner = content
    for name in path:
        inner = inner[name]
    assert inner.get(last) != value
    inner[last] = value
    prefix.write(FILE, msgspec.json.encode(content))
    with pytest.raises(InvalidReceipt) as caught:
        receipts.load(result.uri, "convert")
    assert caught.value.exit_code == 65
    assert result.uri in str(caught.value)
    assert receipts.look(open_prefix(workspace, "results"), "convert", result.receipt.key) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"{", b"\xff\xfe", make().encode()[:-10]])
def test_what_is_no_receipt_is_refused(data):
    with pytest.raises(InvalidReceipt, match="somewhere: not a receipt"):
        receipts.parse(data, "somewhere")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("damage", ["gone", "shorter"])
def test_a_receipt_whose_outputs_are_gone_or_cut_is_not_intact(workspace, name, damage):
    prefix, result = store(workspace)
    assert result.intact()
    if damage == "gone":
        prefix.delete([f"attempt1/{name}"])
    else:
        prefix.write(f"attempt1/{name}", DATA[name][:-1])
    assert not result.intact()
    with pytest.raises(
        InvalidReceipt, match=rf"the output '{name}' (is gone|has \d+ bytes instead of \d+); run again: convert will be"
    ):
        receipts.load(result.uri, "convert")


def test_an_altered_sample_is_noticed_and_every_altered_output_when_it_is_read(workspace, tmp_path):
    prefix, result = store(workspace)
    prefix.write("attempt1/labels", b"LABELS")
    assert not result.intact()
    prefix.write("attempt1/labels", DATA["labels"])
    assert result.intact()
    prefix.write("attempt1/index", b"THE INDEX")
    for read in (lambda: result.read("index"), lambda: result.fetch("index", tmp_path / "index")):
        with pytest.raises(
            InvalidReceipt,
            match=r"the output 'index' is damaged, and can't be marked .* --force convert and --workspace",
        ):
            read()
    prefix.delete(["attempt1/index"])
    for read in (lambda: result.read("index"), lambda: result.fetch("index", tmp_path / "index")):
        with pytest.raises(
            InvalidReceipt, match="the output 'index' is gone; run again: convert will be computed again"
        ):
            read()
    assert list(tmp_path.glob("*index*")) == []
    assert result.read("labels") == b"labels"
    assert result.fetch("labels", tmp_path / "labels").read_bytes() == b"labels"


@pytest.mark.parametrize("name", ["index", "report"])
def test_a_damaged_output_is_marked_by_its_reader_and_the_key_counts_as_gone(workspace, tmp_path, name):
    results = open_prefix(workspace, "results")
    prefix, published = store(workspace)
    prefix.write(f"attempt1/{name}", bytes(len(DATA[name])))
    result = receipts.load(published.uri, "convert", results)
    sentence = f"{published.uri}: the output '{name}' is damaged; run again: convert will be computed again."
    for read in (lambda: result.read(name), lambda: result.fetch(name, tmp_path / "output")):
        with pytest.raises(InvalidReceipt) as caught:
            read()
        assert str(caught.value) == sentence
        place_mark = msgspec.json.decode(prefix.read(damage.FILE))
        assert place_mark == {"output": name, "attempt": "attempt1", "sha256": sha256(bytes(len(DATA[name])))}
    assert list(tmp_path.glob("output*")) == []
    looked = receipts.look(results, "convert", published.receipt.key)
    assert looked is not None
    assert not looked.intact()
    with pytest.raises(InvalidReceipt) as caught:
        receipts.load(published.uri, "convert", results)
    assert str(caught.value) == sentence
    for output, data in DATA.items():
        prefix.write(f"attempt2/{output}", data)
    assert receipts.publish(prefix, make("attempt2"), looked.etag).intact()


def test_an_output_that_is_damaged_on_its_way_is_read_again(workspace):
    results = open_prefix(workspace, "results")
    store_prefix, published = store(workspace)
    result = receipts.load(published.uri, "convert", results)
    reads = iter([b"the ind3x", DATA["index"], b"the ind3x", b"th3 index", b"the"])

    def transfer(prefix: Prefix, path: str) -> Sent:
        assert prefix.read(path) == DATA["index"]
        data = next(reads)
        return Sent(len(data), sha256(data))

    result._check("index", transfer)
    with pytest.raises(Transient, match="reads differently each time"):
        result._check("index", transfer)
    assert not store_prefix.exists(damage.FILE)


def test_a_damaged_output_of_another_workspace_is_not_marked(workspace, tmp_path):
    prefix, published = store(workspace)
    prefix.write("attempt1/index", bytes(len(DATA["index"])))
    result = receipts.load(published.uri, "convert", open_prefix(str(tmp_path / "another"), "results"))
    with pytest.raises(InvalidReceipt, match=r"run again with --force convert and --workspace (s3|file)://"):
        result.read("index")
    assert not prefix.exists(damage.FILE)


def test_an_input_is_looked_for_in_the_open_workspace_first_and_its_digest_decides(tmp_path):
    old, new = (open_prefix(str(tmp_path / name), "results") for name in ("old", "new"))
    _, converted = store(old.uri)
    training = make(stage="train", inputs={"converted": converted.reference}, parameters={}, outputs={})
    receipts.publish(old.child(f"train/{training.key}"), training, None)

    def opened() -> receipts.Result:
        result = receipts.look(new, "train", training.key)
        assert result is not None
        return result

    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert opened().input("converted", "convert").prefix.uri.startswith(new.uri)
    here = new.child(f"convert/{converted.receipt.key}")
    # Another result of the same key: the one that was trained on is still at its URI.
    others = {**converted.receipt.outputs, "index": Output("attempt2/index", 1, sha256(b"2"), True)}
    another = make("attempt2", outputs={**others, "labels": Output("attempt2/labels", 1, sha256(b"1"), True)})
    here.write(FILE, another.encode())
    assert opened().input("converted", "convert").uri == converted.uri
    shutil.rmtree(tmp_path / "old")
    with pytest.raises(InvalidReceipt, match="no such receipt: the convert stage has not finished"):
        opened().input("converted", "convert")
    # Damaged here, and gone from where it was: the sentence is about the one that a run can compute again.
    here.write(FILE, converted.receipt.encode())
    here.delete(["attempt1/index"])
    with pytest.raises(InvalidReceipt, match=rf"^{here.uri}/receipt\.json: the output 'index' is gone; run again"):
        opened().input("converted", "convert")
    with pytest.raises(InvalidReceipt, match="inputs has no 'snapshot'"):
        opened().input("snapshot", "snapshot")


def test_an_input_that_was_computed_anew_with_another_result_is_refused(workspace):
    results = open_prefix(workspace, "results")
    prefix, converted = store(workspace)
    training = make(stage="train", inputs={"converted": converted.reference}, parameters={}, outputs={})
    receipts.publish(results.child(f"train/{training.key}"), training, None)
    prefix.write("attempt2/index", b"2")
    prefix.write(FILE, make("attempt2", outputs={"index": Output("attempt2/index", 1, sha256(b"2"), True)}).encode())
    result = receipts.look(results, "train", training.key)
    assert result is not None
    with pytest.raises(InvalidReceipt, match=r"computed anew, with another result, since .* train will be computed"):
        result.input("converted", "convert")


def test_a_path_that_leads_out_of_the_key_is_no_output(workspace):
    receipt = make()
    entry = msgspec.structs.replace(receipt.outputs["labels"], path="../../secret")
    prefix, result = store(workspace)
    prefix.write(FILE, make(outputs=receipt.outputs | {"labels": entry}).encode())
    with pytest.raises(InvalidReceipt):
        receipts.load(result.uri, "convert")


@pytest.mark.parametrize("uri", ["", "s3://w/convert/k", "s3://w/convert/k/other.json"])
def test_a_uri_that_names_no_receipt(uri):
    with pytest.raises(InvalidReceipt, match="not the URI of a convert receipt"):
        receipts.load(uri, "convert")


def test_an_input_of_another_stage_or_without_a_receipt(workspace):
    _, result = store(workspace)
    with pytest.raises(InvalidReceipt, match="of stage 'convert', where one of 'train' is needed"):
        receipts.load(result.uri, "train")
    with pytest.raises(InvalidReceipt, match="has not finished"):
        receipts.load(result.uri.replace(result.receipt.key, "0" * 64), "convert")
    loaded = receipts.load(result.uri, "convert")
    assert loaded.receipt == result.receipt
    assert loaded.uri == result.uri
    assert loaded.reference == InputReference(result.uri, result.receipt.digest)
    assert loaded.output_uri("labels") == f"{result.prefix.uri}/attempt1/labels"
    with pytest.raises(InvalidReceipt, match="has no 'weights'"):
        loaded.output("weights")


def test_a_receipt_that_lies_in_another_keys_folder_is_not_its_result(workspace):
    results = open_prefix(workspace, "results")
    prefix, own = store(workspace)
    other = make(parameters={"format": Parameter("imagefolder", "default")})
    for folder in (f"convert/{other.key}", f"train/{own.receipt.key}"):
        stage, key = folder.split("/")
        results.child(folder).write(FILE, prefix.read(FILE))
        assert receipts.look(results, stage, key) is None
        with pytest.raises(
            InvalidReceipt, match=f"holds the receipt of convert/{own.receipt.key[:12]}…, which belongs"
        ):
            receipts.load(f"{results.uri}/{folder}/{FILE}", stage)


def test_a_receipt_that_lies_in_another_keys_folder_gives_way(workspace):
    results = open_prefix(workspace, "results")
    prefix, _ = store(workspace)
    other = make(parameters={"format": Parameter("imagefolder", "default")})
    results.child(f"convert/{other.key}").write(FILE, prefix.read(FILE))
    published = receipts.publish(results.child(f"convert/{other.key}"), other, None)
    assert published.receipt == other
    loaded = receipts.look(results, "convert", other.key)
    assert loaded is not None
    assert loaded.receipt == other


def test_of_racing_publishers_one_wins_and_all_take_its_receipt(workspace):
    racers = [make(f"attempt{number}") for number in range(8)]
    prefix = open_prefix(workspace, "results").child(f"convert/{racers[0].key}")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda receipt: receipts.publish(prefix, receipt, None), racers))
    stored = receipts.parse(prefix.read(FILE), "uri")
    assert {entry.receipt.attempt for entry in results} == {stored.attempt}


def test_a_late_finisher_takes_the_winners_receipt(workspace):
    prefix, first = store(workspace)
    late = receipts.publish(prefix, make("attempt2"), None)
    assert late.receipt == first.receipt
    assert prefix.read(FILE) == first.receipt.encode()


def test_a_forced_one_replaces_exactly_the_receipt_it_saw(workspace):
    prefix, _ = store(workspace)
    seen = prefix.read_with_etag(FILE)[1]
    assert receipts.publish(prefix, make("attempt2"), seen).receipt.attempt == "attempt2"
    assert receipts.publish(prefix, make("attempt3"), seen).receipt.attempt == "attempt2"
    prefix.delete([FILE])
    assert receipts.publish(prefix, make("attempt4"), seen).receipt.attempt == "attempt4"
    assert receipts.parse(prefix.read(FILE), "uri").attempt == "attempt4"


@pytest.mark.parametrize("torn", [b"", b'{"schema": 1,'])
def test_a_torn_object_gives_way_to_a_receipt(workspace, torn):
    prefix, _ = store(workspace)
    prefix.write(FILE, torn)
    assert receipts.publish(prefix, make("attempt2"), None).receipt.attempt == "attempt2"
    assert receipts.parse(prefix.read(FILE), "uri").attempt == "attempt2"


def test_what_could_not_be_read_back_is_never_published(workspace):
    prefix = open_prefix(workspace, "results")
    for receipt in (make(metrics={"mAP50": math.nan}), make(digest="0" * 64)):
        with pytest.raises(Defect, match="can't be read back"):
            receipts.publish(prefix, receipt, None)
    assert not prefix.exists(FILE)
    assert receipts.finite({"a": 1.0, "b": math.nan, "c": math.inf}) == {"a": 1.0}
