"""The workspaces of released versions, packed next to this file."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

import laptop as machine

HERE = Path(__file__).parent

#: The registered model of every one, and the name that was given for it.
MODEL = "tiny-digits"
GIVEN_MODEL = "Tiny Digits"


@dataclass(frozen=True)
class Released:
    """One version's workspace: where its archive lies, and where its objects lay when it was recorded."""

    version: str

    @property
    def archive(self) -> Path:
        """The archive: ``dataset/…``, ``workspace/…`` and ``mlflow.db``."""
        return HERE / f"{self.version}.tar.gz"

    @property
    def prefix(self) -> str:
        """The prefix in the buckets ``datasets`` and ``results``; receipts hold these URIs."""
        return f"released/{self.version}"

    @property
    def dataset(self) -> str:
        """The dataset's URI."""
        return f"s3://datasets/{self.prefix}"

    @property
    def workspace(self) -> str:
        """The workspace's URI."""
        return f"s3://results/{self.prefix}"

    def put(self, server: machine.Server, database: Path) -> None:
        """Puts dataset and workspace onto a server, and MLflow's store into a file."""
        prefixes = {
            "dataset": machine.s3_prefix(server, "datasets", self.prefix, "dataset"),
            "workspace": machine.s3_prefix(server, "results", self.prefix),
        }
        with tarfile.open(self.archive) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None, member.name
                part, _, key = member.name.partition("/")
                if part in prefixes:
                    prefixes[part].write(key, file.read())
                else:
                    database.write_bytes(file.read())
