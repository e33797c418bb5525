"""What is set aside of a checkpoint, whatever the trainer does to its own file meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import laptop as machine
import pytest

from visionloop.components.train import uploads
from visionloop.components.train.uploads import Aside, Upload
from visionloop.core.errors import Defect
from visionloop.core.storage import Prefix, Sent


def written(file: Path, text: str) -> Path:
    """The file with this content, overwritten in place if it exists."""
    file.write_text(text)
    return file


def test_a_file_an_epoch_is_linked_once_it_is_seen_to_be_one(tmp_path: Path) -> None:
    aside = Aside(tmp_path / "aside")
    files = [written(tmp_path / f"epoch_{epoch}.pt", str(epoch)) for epoch in (1, 2, 3)]
    kept = [aside.put(file) for file in files]
    assert [file.samefile(own) for file, own in zip(kept, files, strict=True)] == [False, True, True]
    for file in files:
        file.unlink()
    assert [file.read_text() for file in kept] == ["1", "2", "3"]


def test_one_file_for_all_epochs_is_copied(tmp_path: Path) -> None:
    aside, file = Aside(tmp_path / "aside"), tmp_path / "last.pt"
    for epoch in ("1", "2", "3"):
        kept = aside.put(written(file, epoch))
        written(file, "the next one")
        assert kept.read_text() == epoch


def test_a_link_is_followed_and_a_file_system_without_links_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside, link = Aside(tmp_path / "aside"), tmp_path / "link.pt"
    aside.put(written(tmp_path / "epoch_1.pt", "1"))
    link.symlink_to(written(tmp_path / "epoch_2.pt", "2"))
    kept = aside.put(link)
    assert not kept.is_symlink()
    assert kept.samefile(tmp_path / "epoch_2.pt")

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(uploads.os, "link", refuse)
    assert aside.put(written(tmp_path / "epoch_3.pt", "3")).read_text() == "3"


def test_a_checkpoint_that_is_not_there_is_the_trainers_defect(tmp_path: Path) -> None:
    with pytest.raises(Defect, match=r"epoch_1\.pt: the trainer reported this checkpoint, and there is no such file\."):
        Aside(tmp_path / "aside").put(tmp_path / "epoch_1.pt")


def test_a_file_that_changes_while_it_is_sent_is_never_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, recorded = threading.Event(), list[Sent]()

    def slow(prefix: Prefix, local: Path, key: str, *more: object) -> Sent:
        assert changed.wait(60)
        return upload(prefix, local, key)

    upload = Prefix.upload
    monkeypatch.setattr(Prefix, "upload", slow)
    file = written(tmp_path / "epoch_1.pt", "1")
    sending = Upload(machine.file_prefix(tmp_path), file, "there.pt", "epoch 1", recorded.append)
    sending.begin()
    written(file, "another size")
    changed.set()
    assert sending.wait(lambda: None, 60)
    with pytest.raises(Defect, match="changed the checkpoint of epoch 1 after it had reported it"):
        sending.check()
    assert recorded == []
    assert not file.exists()
