"""Writes a workspace of this version's form, to be kept next to this file and opened by every later version.

``python tests/released/record.py`` makes ``{version}.tar.gz``: a small dataset, all six receipts of a run on it with the toy
trainer, and MLflow's store. Receipts hold absolute URIs, so all lies at fixed ones, to which a test puts it back.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import laptop as machine  # noqa: E402 - found below tests/ only
from conftest import _Weed  # noqa: E402
from workspaces import MODEL, Released  # noqa: E402

from visionloop.pipelines.services import tracking  # noqa: E402
from visionloop.pipelines.services.folder import Folder  # noqa: E402


def record(released: Released) -> None:
    """Runs the pipeline on a server of its own, and packs what it left."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    weed = _Weed()
    try:
        server = weed.wait()
        with tempfile.TemporaryDirectory() as folder:
            home = Folder(Path(folder, "registry"))
            home.create()
            with home.lock():
                tracking.prepare(home)
            dataset = machine.s3_prefix(server, "datasets", released.prefix, "dataset")
            machine.Dataset(dataset).put(machine.sample_objects(12, 4, 4))
            workspace = machine.s3_prefix(server, "results", released.prefix)
            laptop = machine.build(Path(folder, "laptop"), home.path, workspace, server.both_roles)
            ended = laptop.start(*laptop.train_command(dataset.uri, settings=machine.TOY)).end().expect()
            assert ended.summary["alias"] == "champion", ended.summary
            assert ended.summary["model_name"] == MODEL, ended.summary
            with tarfile.open(released.archive, "w:gz") as archive:
                for part, entry in (("dataset", dataset), ("workspace", workspace)):
                    for key in sorted(info.key for info in entry.objects()):
                        data = entry.read(key)
                        member = tarfile.TarInfo(f"{part}/{key}")
                        member.size = len(data)
                        archive.addfile(member, io.BytesIO(data))
                archive.add(laptop.database, "mlflow.db", filter=_plain)
    finally:
        weed.stop()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member without its writer's names."""
    member.uname = member.gname = ""
    member.uid = member.gid = 0
    return member


if __name__ == "__main__":
    record(Released(version("visionloop")))
