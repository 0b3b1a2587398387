"""A procedural video world, small enough to train on, with questions whose answers can be checked frame by frame."""

from __future__ import annotations

from pipeline.benchmarks.micro.benchmark import MicroBenchmark

__all__ = ["MicroBenchmark"]
