"""A receiver of a training's events: it checks the token, drops what it has, and shows how each run stands.

    python -m uvicorn --app-dir docs --port 8700 receiver:app

``VISIONLOOP_EVENTS_SECRET`` is the secret that the training signs with. docs/events.md tells how to use it.
"""

from __future__ import annotations

import math
import os
from typing import Annotated, Any

import jwt
from fastapi import FastAPI, Header, HTTPException

app = FastAPI()

#: What is known of each run, and the ids of the events that it is known from, each with its run and epoch. A real one keeps both in a database.
runs: dict[str, dict[str, Any]] = {}
seen: dict[str, tuple[str, float]] = {}


def check(authorization: str, run: str) -> None:
    """Refuses a token that is not ours, has expired, or is another run's."""
    secret, token = os.environ["VISIONLOOP_EVENTS_SECRET"], authorization.removeprefix("Bearer ")
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, f"Token: {error}") from error
    if claims["sub"] != run or claims.get("scope") != "training-callback":
        raise HTTPException(401, "Token job_id mismatch")


@app.post("/events")
def take(event: dict[str, Any], authorization: Annotated[str, Header()] = "") -> dict[str, str]:
    """Takes one CloudEvent; one that came before changes nothing."""
    data, (family, _, kind) = event["data"], event["type"].rpartition(".")
    check(authorization, data["job_id"])
    if event["id"] in seen or family != "visionloop.training":  # a prediction's have other fields
        return {"status": "ok", "job_id": data["job_id"]}
    run = runs.setdefault(
        data["job_id"], {"status": "pending", "epoch": 0, "metrics": {}, "checkpoint": None, "log": []}
    )
    match kind:
        case "started":  # what comes after the epoch that it goes on from is told anew, an end too
            for old, (name, epoch) in list(seen.items()):
                if name == data["job_id"] and epoch > data["resumed_after_epoch"]:
                    del seen[old]
            run |= {"status": "running", "total_epochs": data["total_epochs"], "host": data["hostname"]}
        case "progress":
            run |= {"epoch": data["epoch"], "metrics": data["metrics"], "eta_seconds": data["eta_seconds"]}
        case "checkpoint":
            run["checkpoint"] = data["checkpoint_path"]
        case "log":
            run["log"] = [*run["log"], *(line["message"] for line in data["logs"])][-100:]
        case "completed":
            run |= {"status": "completed", "reused": data["reused"], "best": data["best_checkpoint_path"]}
        case "failed":
            run |= {"status": "failed", "error": f"{data['error_code']}: {data['error_message']}"}
        case "stopped":
            run |= {"status": "stopped", "best": data["best_checkpoint_path"]}
    seen[event["id"]] = (data["job_id"], data.get("epoch", math.inf))
    return {"status": "ok", "job_id": data["job_id"]}


@app.get("/runs/{name}")
def show(name: str) -> dict[str, Any]:
    """How a run stands."""
    if name not in runs:
        raise HTTPException(404, f"{name}: no event of this run has come.")
    return runs[name]
