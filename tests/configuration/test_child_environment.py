"""Which variables the process of a training library is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionloop.training.environment import PROXY_VARIABLES, child_environment, trainer_variables
from visionloop.training.trainers.ultralytics import TRAINER, download

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "canary",
    "INTERNAL_S3_SECRET_KEY": "canary",
    "EXTERNAL_S3_SECRET_KEY": "canary",
    "MLFLOW_TRACKING_PASSWORD": "canary",
    "MLFLOW_TRACKING_URI": "http://canary",
    "VISIONLOOP_NOTIFY_URL": "http://canary",
    "ARGO_TOKEN": "canary",
    "HF_TOKEN": "canary",
    "HTTPS_PROXY": "http://user:canary@proxy",
}
NEEDED = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "CUDA_VISIBLE_DEVICES": "0",
    "PYTORCH_CUDA_ALLOC_CONF": "x",
    "PYTHONPATH": "/x",
    "VISIONLOOP_LOG_FORMAT": "json",
    "VISIONLOOP_CACHE_BYTES": "1",
    "VISIONLOOP_POD_GPUS": "1",
}


def test_a_child_gets_what_it_needs_and_no_secret() -> None:
    assert child_environment(SECRETS | NEEDED) == NEEDED
    assert trainer_variables(TRAINER) == ()
    # A library that found these would take itself for a part of the job around it, and write nothing.
    assert child_environment({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}) == {}
    further = child_environment(SECRETS | NEEDED | {"EXAMPLE_HOME": "/x"}, ["EXAMPLE_*"])
    assert further == NEEDED | {"EXAMPLE_HOME": "/x"}


def test_a_download_gets_the_proxies_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    program = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    monkeypatch.setattr(download, "_PROGRAM", program)
    text = download.download_weights("yolo11n", tmp_path).read_text()
    assert text.count("canary") == 1
    assert "http://user:canary@proxy" in text
    assert '"YOLO_OFFLINE": "false"' in text
    assert {name.lower() for name in PROXY_VARIABLES} == {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
