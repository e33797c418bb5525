"""The retraining pipeline: the training pipeline behind snapshot's decision, on each engine and on a schedule."""

NAME = "visionloop-retrain"
TITLE = "Visionloop: retrain"
DESCRIPTION = "Retrains a vision model where its retraining policy says that it is worth its cost."

#: The part behind the decision: one DAG, so that one condition holds for all of it.
WORTH_IT = "worth-retraining"
