"""GPU-hours for whole benchmarks, projected from the cells: nothing of this was run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scripts.speed.cells import Cell


@dataclass(frozen=True)
class Benchmark:
    """What one pass over all its questions reads."""

    name: str
    questions: int
    videos: int
    hours: float
    """Of video."""
    windows: int
    """Of 256 frames at 1 frame a second, over all videos."""
    window_questions: int
    """Over all questions, the windows of their videos: what a loop over questions reads."""


BENCHMARKS = (
    # Counted in lvb_val.json of the benchmark's authors (`video_id`, `duration`).
    Benchmark("LongVideoBench val", 1337, 753, 99.8, 1910, 4598),
    # Counted in the seven multiple-choice files of MLVU dev, json/1_plotQA.json to 7_topic_reasoning.json (`duration`).
    # Windows of a question: the mean over videos.
    Benchmark("MLVU dev", 2175, 1242, 251.4, 4001, round(2175 * 4001 / 1242)),
    # 500 videos and 12,976 questions: HourVideo's paper, arXiv 2411.04998. Hours: ten times the 39.3 of its dev set of
    # 50 videos. Half a window more a video than its seconds make, as lengths end anywhere.
    Benchmark("HourVideo", 12_976, 500, 393.0, round(393 * 3600 / 256 + 250), round((393 * 3600 / 256 + 250) * 25.952)),
)


def projected(cells: Sequence[Cell], sampler: str, answerer: str) -> list[str]:
    """Lines of Markdown; empty where the cells for it are missing.

    Each window costs what it cost among the most windows that were measured, by the questions of its video; each
    question costs an answer of the fewest tokens that were measured.
    """
    done = [cell for cell in cells if cell.seconds is not None]
    ours = [cell for cell in done if (cell.who, cell.of) == ("ours", sampler)]
    stock = [cell for cell in done if (cell.who, cell.of) == ("stock", sampler)]
    answers = [cell for cell in done if cell.of == answerer]
    decoding = [cell for cell in done if cell.who == "decoding"]
    if not ours:
        return []
    most = max(cell.windows for cell in ours)
    curve = sorted((cell.questions, (cell.seconds or 0) / most) for cell in ours if cell.windows == most)
    rows = []
    for benchmark in BENCHMARKS:
        a_window = _at(curve, benchmark.questions / benchmark.videos)
        scoring = None if a_window is None else benchmark.windows * a_window / 3600
        by_stock = None
        if stock:
            largest = max(stock, key=lambda cell: cell.windows * cell.questions)
            each = (largest.seconds or 0) / (largest.windows * largest.questions)
            by_stock = benchmark.window_questions * each / 3600
        second = [_answering(answers, who, benchmark.questions) for who in ("ours", "stock")]
        read = None
        if decoding:
            longest = max(decoding, key=lambda cell: cell.video)
            read = benchmark.hours * (longest.seconds or 0) / longest.video
        figures = (scoring, by_stock, *second, read)
        told = " | ".join("not measured" if hours is None else f"{hours:.1f}" for hours in figures)
        rows.append(f"| {benchmark.name} | {benchmark.questions} | {benchmark.videos} | {benchmark.hours} | {told} |")
    return [
        f"**Projection, not a measurement**: hours with {sampler} and {answerer}, one GPU.",
        "",
        "| benchmark | questions | videos | hours of video | stage 1 | stock | stage 2 | stock | host decodes |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _answering(answers: Sequence[Cell], who: str, questions: int) -> float | None:
    found = [cell for cell in answers if cell.who == who]
    if not found:
        return None
    cell = min(found, key=lambda cell: cell.tokens)
    return questions * (cell.seconds or 0) / cell.questions / 3600


def _at(curve: Sequence[tuple[int, float]], questions: float) -> float | None:
    """Between the two nearest numbers of questions; None beyond the largest that was measured."""
    if questions <= curve[0][0]:
        return curve[0][1]
    for (few, low), (many, high) in pairwise(curve):
        if questions <= many:
            return low + (high - low) * (questions - few) / (many - few)
    return None
