"""Asks a served model whether it is ready, and what it finds on one drawn picture; ends with 0 where it answers as it should.

    VISIONLOOP_SERVE_TOKEN=… python smoke_test.py http://bottles.default.example.com [SECONDS]

It needs nothing but Python. smoke_test.json beside it names the model and holds the picture.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

#: Seconds that the model may take until it is ready: an image is pulled, and a model is loaded.
PATIENCE = 600.0


def ask(address: str, body: bytes | None = None) -> bytes:
    """What a route answers. Raises OSError."""
    headers = {"Content-Type": "application/json"} if body else {}
    if token := os.environ.get("VISIONLOOP_SERVE_TOKEN", "").strip():
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(address, body, headers)  # noqa: S310 - the address is the caller's own
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        data: bytes = answer.read()
    return data


def main(address: str, patience: float) -> str:
    """Waits until the model is ready and asks it once; returns what is wrong, or nothing."""
    example = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    until = time.monotonic() + patience
    while True:
        try:
            ask(f"{address}/v2/health/ready")
            break
        except OSError as error:
            if time.monotonic() > until:
                return f"{address} is not ready after {patience:g} seconds: {error}"
            time.sleep(2)
    path = f"/v2/models/{example['model']}/versions/{example['version']}/infer"
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [example["image"]]}
    try:
        answer = json.loads(ask(address + path, json.dumps({"inputs": [tensor]}).encode()))
        found = json.loads(answer["outputs"][0]["data"][0])
    except urllib.error.HTTPError as error:
        return f"{address}{path} answers {error.code}: {error.read().decode(errors='replace')[:500]}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{address}{path} does not answer as it should: {error!r}"
    if not isinstance(found, list):
        return f"{address}{path} answers no list of predictions: {str(found)[:200]}"
    print(f"{example['model']}/{example['version']} is ready and answers: {len(found)} predictions")  # noqa: T201
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/"), float(sys.argv[2]) if len(sys.argv) > 2 else PATIENCE) or None)
