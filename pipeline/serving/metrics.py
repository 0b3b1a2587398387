"""What the engine has done, in the text format of Prometheus.

Source: Prometheus documentation, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.serving.engine import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(engine: Engine) -> str:
    """All metrics of an engine."""
    return "".join(f"{line}\n" for line in _lines(engine))


def _lines(engine: Engine) -> Iterator[str]:
    counts = engine.counts
    yield from _metric("gens_info", "gauge", "What answers.", [(dict(engine.session.parts), 1)])
    yield from _metric("gens_questions_waiting", "gauge", "Questions in the queue.", [({}, engine.waiting)])
    yield from _metric("gens_questions_computing", "gauge", "Questions that are computed.", [({}, engine.computing)])
    yield from _metric("gens_questions_total", "counter", "Questions that were taken.", [({}, counts.asked)])
    yield from _metric(
        "gens_replies_total",
        "counter",
        "Replies by status.",
        [({"status": status}, count) for status, count in sorted(counts.by_status.items())],
    )
    yield from _metric(
        "gens_rejected_total", "counter", "Questions that came to a full queue.", [({}, counts.rejected)]
    )
    yield from _metric("gens_withdrawn_total", "counter", "Questions that nobody waited for.", [({}, counts.withdrawn)])
    yield from _metric("gens_rounds_total", "counter", "Rounds of questions answered together.", [({}, counts.rounds)])
    yield from _metric("gens_round_seconds_total", "counter", "Seconds of all rounds.", [({}, counts.computed)])
    yield from _metric(
        "gens_waiting_seconds_total", "counter", "Seconds that answered questions waited.", [({}, counts.waited)]
    )
    yield from _metric("gens_frames_selected_total", "counter", "Frames of all selections.", [({}, counts.frames)])
    tokens = [({"kind": "prompt"}, counts.prompt_tokens), ({"kind": "output"}, counts.output_tokens)]
    yield from _metric(
        "gens_answerer_tokens_total", "counter", "Tokens of the answerer, cached answers not counted.", tokens
    )


def _metric(name: str, kind: str, about: str, samples: Sequence[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{_labelled(labels)} {value:.17g}"


def _labelled(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
