"""What is wrong with the one row of a benchmark that cannot be asked."""

from __future__ import annotations

from pipeline.benchmarks import Benchmark


def fault_of(benchmark: Benchmark) -> str:
    """The fault of the only question that has one."""
    questions = benchmark.questions()
    [fault] = [question.fault for question in questions if question.fault]
    assert len(questions) > 1
    assert "\n  what to do: " in fault
    return fault
