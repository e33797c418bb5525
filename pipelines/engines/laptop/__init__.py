"""Runs a compiled KFP pipeline on this machine: a child process of its own, followed through events and the run's record."""

from visionloop.pipelines.engines.laptop.run import LocalRun, RunResult, run_pipeline

__all__ = ["LocalRun", "RunResult", "run_pipeline"]
