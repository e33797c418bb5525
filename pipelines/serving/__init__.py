"""A registered model behind HTTP, for trying out and for one node: MLflow's ``/invocations`` and the Open Inference Protocol."""

#: The variable with what clients have to send.
TOKEN = "VISIONLOOP_SERVE_TOKEN"  # noqa: S105 (its name)

#: The least length of a token in characters.
SHORTEST_TOKEN = 16
