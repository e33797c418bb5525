"""A registered model behind HTTP, for trying out and for one node: MLflow's ``/invocations`` and the Open Inference Protocol."""
