"""The images as pods run them: every stage with the network closed, nothing writable but /tmp, nothing to build with."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pytest
from kubernetes_cluster import HOST, Cluster, kubectl

from visionloop.core.policy import POLICIES
from visionloop.pipelines.engines.argo.train import template_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

VERSION = metadata.version("visionloop")

#: Loaded by every Python process of a pod: writes down each address that it asks for and may not.
WATCH = """
import os, sys

ALLOWED = {os.environ["ALLOWED_HOST"], "127.0.0.1", "localhost", "::1", "0.0.0.0", os.uname().nodename, None, ""}

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in ALLOWED:
        with open("/tmp/reached", "a") as file:
            print(f"{event} {host}", file=file)

os.close(os.open(f"/tmp/watched-{os.getpid()}", os.O_CREAT))
sys.addaudithook(watch)
"""

#: Runs a stage, then tells its result and what was reached for.
RUN = """
import glob, json, os, subprocess, sys

done = subprocess.run(["visionloop", "stage", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
reached = open("/tmp/reached").read().split("\\n") if os.path.exists("/tmp/reached") else []
report = {"exit": done.returncode, "reached": reached, "watched": len(glob.glob("/tmp/watched-*"))}
if done.returncode == 0:
    report["result"] = json.loads(done.stdout.splitlines()[-1])
print("TOLD " + json.dumps(report), flush=True)
"""

#: Looks around in an image.
LOOK = """
import glob, json, os, shutil, subprocess, sys, tempfile

def writable(folder):
    try:
        tempfile.TemporaryFile(dir=folder).close()
        return True
    except OSError:
        return False

folders = [entry.path for entry in os.scandir("/") if entry.is_dir() and entry.name not in ("proc", "sys", "dev")]
folders += ["/", "/opt/visionloop", "/opt/venv", sys.prefix, "/var/tmp", "/usr/local"]
tools = ("cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "cmake", "rustc", "go", "nvcc")
names = sys.argv[1:]
helps = [subprocess.run(["visionloop", "stage", name, "--help"], capture_output=True).returncode for name in names]
bill = json.load(open("/opt/visionloop/sbom.json"))
print("TOLD " + json.dumps({
    "user": os.getuid(),
    "writable": sorted(folder for folder in folders if writable(folder)),
    "outside": sorted({os.environ["HOME"], tempfile.gettempdir()}),
    "builders": [tool for tool in tools if shutil.which(tool, path=os.environ["PATH"])],
    "helps": helps,
    "bill": bill["bomFormat"],
    "components": sorted(entry["name"].lower() for entry in bill["components"]),
    "git": glob.glob("/opt/visionloop/**/.git", recursive=True),
}), flush=True)
"""


@dataclass
class Proxy:
    """A proxy of this machine that hands nothing on; ``asked`` is the first line of each request."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    made = Proxy()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            made.asked.append(self.rfile.readline().decode(errors="replace").strip())

    with socketserver.ThreadingTCPServer((str(HOST), 0), Handler) as server:
        made.url = f"http://{HOST}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Closed:
    """Pods without names and with a proxy that leads nowhere; only the stores answer, by their addresses."""

    cluster: Cluster
    proxy: Proxy

    def printed(self, stage: str, program: str, *words: str) -> dict[str, Any]:
        """What a program prints in a pod made as the stage's template says."""
        template = self._template(stage)
        container = template["container"]
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), self.proxy.url)
        more = proxies | dict.fromkeys(("NO_PROXY", "no_proxy"), str(HOST))
        more |= {"ALLOWED_HOST": str(HOST), "PYTHONPATH": "/watch"}
        main = {
            "name": "main",
            "image": container["image"],
            "imagePullPolicy": container["imagePullPolicy"],
            "command": ["python", "-c", program, *words],
            "env": [*container["env"], *({"name": name, "value": value} for name, value in more.items())],
            "envFrom": container["envFrom"],
            "resources": container["resources"],
            "securityContext": container["securityContext"],
            "volumeMounts": [*container["volumeMounts"], {"name": "watch", "mountPath": "/watch", "readOnly": True}],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": f"closed-{stage}-", "labels": template["metadata"]["labels"]},
            "spec": {
                "restartPolicy": "Never",
                "dnsPolicy": "None",
                # Nobody listens there.
                "dnsConfig": {"nameservers": ["127.0.0.1"], "options": [{"name": "timeout", "value": "1"}]},
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "serviceAccountName": template["serviceAccountName"],
                "securityContext": template["securityContext"],
                "containers": [main],
                "volumes": [*template["volumes"], {"name": "watch", "configMap": {"name": "closed-watch"}}],
            },
        }
        name = kubectl("-n", self.cluster.namespace, "create", "-o", "name", "-f", "-", stdin=json.dumps(pod)).strip()
        log = self._end(name)
        (line,) = [line for line in log.splitlines() if line.startswith("TOLD ")]
        return dict(json.loads(line.removeprefix("TOLD ")))

    def _template(self, stage: str) -> dict[str, Any]:
        result = kubectl("-n", self.cluster.namespace, "get", "workflowtemplate", template_of(stage), "-o", "json")
        return next(dict(entry) for entry in json.loads(result)["spec"]["templates"] if entry["name"] == stage)

    def _end(self, name: str, seconds: float = 600) -> str:
        end = time.monotonic() + seconds
        phase = ""
        while phase not in ("Succeeded", "Failed"):
            assert time.monotonic() < end, f"{name} did not end within {seconds:g} s"
            time.sleep(1)
            state = json.loads(kubectl("-n", self.cluster.namespace, "get", name, "-o", "json"))["status"]
            phase = state.get("phase", "")
            waiting = [entry.get("state", {}).get("waiting", {}) for entry in state.get("containerStatuses", ())]
            assert not any("Image" in str(entry.get("reason")) for entry in waiting), waiting
        log = kubectl("-n", self.cluster.namespace, "logs", name)
        assert phase == "Succeeded", f"{log}\n{json.dumps(state)}"
        return log


@pytest.fixture(scope="module")
def closed(cluster: Cluster, proxy: Proxy) -> Closed:
    watch = {"sitecustomize.py": textwrap.dedent(WATCH)}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "closed-watch"}, "data": watch})
    return Closed(cluster, proxy)


def test_every_stage_runs_and_reaches_for_nothing_but_the_stores(closed: Closed, dataset: str) -> None:
    receipts: dict[str, str] = {}
    settings = ("model=yolo11n.yaml", "imgsz=64", "epochs=1", "mosaic=0", "workers=0")
    words = {
        "snapshot": lambda: (f"--dataset={dataset}",),
        "validate": lambda: (f"--snapshot={receipts['snapshot']}",),
        "convert": lambda: (f"--snapshot={receipts['snapshot']}", f"--report={receipts['validate']}"),
        "train": lambda: (
            f"--snapshot={receipts['snapshot']}",
            f"--converted={receipts['convert']}",
            *(f"--set={entry}" for entry in settings),
        ),
        "evaluate": lambda: (
            f"--snapshot={receipts['snapshot']}",
            f"--training={receipts['train']}",
            "--model-name=Closed",
        ),
        "register": lambda: (f"--evaluation={receipts['evaluate']}", "--model-name=Closed"),
        "cleanup": lambda: (),
    }
    assert set(words) == set(POLICIES)
    for stage, value in words.items():
        printed = closed.printed(stage, RUN, stage, "--workspace=s3://visionloop/closed", "--run=closed", *value())
        assert printed["exit"] == 0, stage
        assert printed["reached"] == [], stage
        # The program here and the stage; train has a child that trains.
        assert printed["watched"] >= (3 if stage == "train" else 2), stage
        receipts[stage] = printed["result"]["receipt"]
    assert closed.proxy.asked == []


def test_what_is_reached_for_would_be_seen(closed: Closed) -> None:
    # The watch, the proxy and the missing names are there: without this the test above could not fail.
    program = """
import json, socket, urllib.request
try:
    socket.create_connection(("registry.example.com", 443), timeout=5)
    names = True
except OSError:
    names = False
try:
    urllib.request.urlopen("http://registry.example.com/simple/", timeout=20)
except OSError:
    pass
print("TOLD " + json.dumps({"names": names, "reached": open("/tmp/reached").read()}), flush=True)
"""
    printed = closed.printed("snapshot", program)
    assert printed["names"] is False
    assert "registry.example.com" in printed["reached"]
    assert closed.proxy.asked == ["GET http://registry.example.com/simple/ HTTP/1.1"]
    closed.proxy.asked.clear()


@pytest.mark.parametrize(
    ("stage", "holds", "lacks"),
    [("snapshot", {"pyarrow", "obstore"}, {"torch", "ultralytics"}), ("train", {"torch", "ultralytics"}, set())],
)
def test_an_image_is_a_users_without_root_who_writes_to_tmp_alone_and_builds_nothing(
    closed: Closed, stage: str, holds: set[str], lacks: set[str]
) -> None:
    printed = closed.printed(stage, LOOK, *POLICIES)
    assert printed["user"] == 65532
    assert set(printed["writable"]) <= {"/tmp", "/cache"}
    assert printed["outside"] == ["/tmp"]
    assert printed["builders"] == []
    assert printed["helps"] == [0] * len(POLICIES)
    assert printed["bill"] == "CycloneDX"
    assert holds <= set(printed["components"])
    assert not lacks & set(printed["components"])
    assert printed["git"] == []


@pytest.mark.parametrize("name", ["stage", "trainer-ultralytics", "services"])
def test_an_image_says_what_it_is(name: str) -> None:
    said = {key.removeprefix("org.opencontainers.image."): value for key, value in image(name).labels.items()}
    assert said["title"] == f"visionloop-{name}"
    assert said["version"] == VERSION
    assert said["licenses"] == ("Apache-2.0 AND AGPL-3.0-only" if name == "trainer-ultralytics" else "Apache-2.0")


def test_the_data_stages_image_is_small() -> None:
    assert image("stage").size < 800e6


@dataclass(frozen=True)
class Image:
    """An image in a builder's store; ``size`` is that of its layers in bytes, unpacked."""

    labels: dict[str, str]
    size: int


def image(name: str) -> Image:
    """One of the images as a builder of this machine knows it."""
    reference = f"localhost/visionloop-{name}:{VERSION}"
    for command in (
        ["docker", "image", "inspect"],
        ["podman", "image", "inspect"],
        ["buildah", "inspect", "--type=image"],
    ):
        if shutil.which(command[0]):
            done = subprocess.run(
                [*command, reference], capture_output=True, text=True, check=False, env=dict(os.environ)
            )
            if done.returncode == 0:
                result = json.loads(done.stdout)
                if command[0] == "buildah":
                    layers = json.loads(result["Manifest"])["layers"]
                    return Image(result["OCIv1"]["config"]["Labels"], sum(layer["size"] for layer in layers))
                return Image(result[0]["Config"]["Labels"], result[0]["Size"])
    pytest.skip(f"{reference} is in no store of this machine's docker, podman or buildah")
