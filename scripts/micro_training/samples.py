"""Training samples, drawn afresh for every step: what is in each frame, what is asked, what is to be said.

A sample is a plan of pictures, not pixels: :mod:`scripts.micro_training.pictures` draws a whole batch on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from pipeline.benchmarks.micro.questions import KINDS, draw_question
from pipeline.benchmarks.micro.world import (
    COLORS,
    FPS,
    SHAPES,
    Event,
    Plan,
    Thing,
    draw_event,
    make_plan,
)
from pipeline.domain import Question

WINDOW = 32
THINGS = tuple(Thing(color, shape) for color in COLORS for shape in SHAPES)
QUESTION_TEXT = {
    "attribute": "What color is the {}?",
    "shape": "What shape is the {} object?",
    "before": "What appears immediately before the {}?",
    "after": "What appears immediately after the {}?",
    "count": "How many times does the {} appear?",
}


@dataclass
class Asked:
    """A question and the words that answer it."""

    kind: str
    text: str
    answer: str


@dataclass
class Sample:
    """One sequence of frames with the questions that are put to it."""

    events: list[Event | None]
    """What is to be seen in each frame."""
    seconds: list[float]
    """When each frame is, on the clock of its events."""
    scenes: list[int]
    """Number of each frame's background, to be taken modulo the backgrounds there are."""
    asked: list[Asked] = field(default_factory=list)


# --- sampler -------------------------------------------------------------------------------------------------------


def window_sample(random: Random, questions: int) -> Sample:
    """A window as GenS sees it, with several questions about it; a quarter of them ask for what is not there."""
    frames = WINDOW if random.random() < 0.85 else random.randint(1, WINDOW - 1)
    events = _stream(random, frames)
    shown = [next((event for event in events if event.visible(second)), None) for second in range(frames)]
    seen = [event for event in events if event in shown]
    sample = Sample(shown, [float(second) for second in range(frames)], _scenes(random, frames))
    for _ in range(questions):
        sample.asked.append(_window_question(random, shown, seen))
    return sample


def _stream(random: Random, frames: int) -> list[Event]:
    """Events on a stretch of time around the window, from empty to crowded."""
    longest_gap = random.choice((4.0, 9.0, 20.0, 45.0))
    chained = random.choice((0.2, 0.5, 0.8))
    events: list[Event] = []
    second = -5.0 + random.uniform(0, longest_gap)
    while second < frames + 5:
        if events and random.random() < 0.3:
            thing = random.choice(events).thing
        elif events and random.random() < 0.3:
            last = random.choice(events).thing
            same_color = random.random() < 0.5
            thing = Thing(
                last.color if same_color else random.choice(COLORS), random.choice(SHAPES) if same_color else last.shape
            )
        else:
            thing = random.choice(THINGS)
        start = round(second * FPS) / FPS
        end = start + random.randint(2 * FPS, 4 * FPS) / FPS
        events.append(draw_event(random, thing, start, end, None))
        second = end + (random.uniform(0.75, 2.0) if random.random() < chained else random.uniform(2.0, longest_gap))
    return events


def _window_question(random: Random, shown: list[Event | None], seen: list[Event]) -> Asked:
    kind = random.choice(KINDS)
    here = seen if random.random() < 0.78 else []
    if kind in ("before", "after"):
        things = [event.thing for event in seen]
        once = [event for event in here if things.count(event.thing) == 1]
        if once:
            asked = random.choice(once)
            place = seen.index(asked) + (1 if kind == "after" else -1)
            partner = seen[place] if 0 <= place < len(seen) else None
            answer = scores_text([(shown, [partner], 5)] * (partner is not None) + [(shown, [asked], 4)])
            return Asked(kind, QUESTION_TEXT[kind].format(asked.thing), answer)
        return Asked(kind, QUESTION_TEXT[kind].format(_absent(random, THINGS, things)), "{}")
    names = {"attribute": lambda e: e.thing.shape, "shape": lambda e: e.thing.color, "count": lambda e: e.thing}
    name = names[kind]
    present = [name(event) for event in seen]
    words = {"attribute": SHAPES, "shape": COLORS, "count": THINGS}[kind]
    if here:
        word = name(random.choice(here))
    elif len(set(present)) < len(words):
        word = _absent(random, words, present)
    else:
        word = random.choice(words)
    targets = [event for event in seen if name(event) == word]
    return Asked(kind, QUESTION_TEXT[kind].format(word), scores_text([(shown, targets, 5)]))


def _absent(random: Random, words, present):
    return random.choice([word for word in words if word not in present])


def scores_text(groups) -> str:
    """GenS's JSON: ``{"11-12": 5, "16": 4}``, best scores first, each score's spans in order of time."""
    entries = []
    for shown, targets, score in groups:
        wanted = [event is not None and any(event is target for target in targets) for event in shown]
        frame = 0
        while frame < len(wanted):
            if wanted[frame]:
                last = frame
                while last + 1 < len(wanted) and wanted[last + 1]:
                    last += 1
                entries.append(f'"{frame}-{last}": {score}' if last > frame else f'"{frame}": {score}')
                frame = last
            frame += 1
    return "{" + ", ".join(entries) + "}"


def _scenes(random: Random, frames: int) -> list[int]:
    first = random.getrandbits(30)
    if random.random() < 0.9:
        return [first] * frames
    cut = random.randint(1, frames)
    return [first] * cut + [random.getrandbits(30)] * (frames - cut)


# --- answerers -----------------------------------------------------------------------------------------------------


def request_sample(random: Random, most: int) -> tuple[Sample, Question]:
    """Up to ``most`` selected frames and a question about them, as an answerer gets it; every sixth without options."""
    plan = make_plan(random, 180, 600)
    question = draw_question(random.choice((*KINDS, "count")), plan, random)
    budget = min(most, random.choice((8, 8, 16, 32)))
    times = _selected(random, plan, (*question.asked, *question.answering), budget)
    shown = [next((event for event in plan.events if event.visible(time)), None) for time in times]
    scenes = {scene.start: random.getrandbits(30) for scene in plan.scenes}
    behind = [scenes[max(start for start in scenes if start <= time)] for time in times]
    free = random.random() < 0.17
    options = None if free else question.options
    answer = question.answer if free else "ABCD"[question.correct]
    sample = Sample(shown, times, behind, [Asked(question.kind, question.text, answer)])
    return sample, Question("", "", question.text, options)


def _selected(random: Random, plan: Plan, evidence: tuple[Event, ...], budget: int) -> list[float]:
    """Times as a selection gives them: mostly all of the evidence that fits, at times less of it, often others too."""
    last = int(plan.duration) - 1
    if random.random() < 0.1:  # frames spread evenly, which show the answer or not: then a guess is all there is
        count = random.randint(2, budget)
        return [float(round(last * place / (count - 1))) for place in range(count)]
    per_event = [
        [second for second in range(int(event.start), int(event.end) + 1) if event.visible(second)]
        for event in evidence
    ]
    chosen = {random.choice(seconds) for seconds in per_event}
    rest = [second for seconds in per_event for second in seconds if second not in chosen]
    random.shuffle(rest)
    if random.random() < 0.25:
        rest = rest[: random.randint(0, len(rest))]
    chosen.update(rest[: budget - len(chosen)])
    room = budget - len(chosen)
    if room and random.random() < 0.6:
        for _ in range(random.randint(1, room)):
            if random.random() < 0.5:
                chosen.add(random.randint(0, last))
            else:
                event = random.choice(plan.events)
                chosen.add(min(int(event.start) + random.randint(0, 3), last))
    shift = random.randint(1, FPS - 1) / FPS if random.random() < 0.1 else 0.0
    return [second + shift if second < last else float(second) for second in sorted(chosen)]
