"""Questions about a video of the micro world: four options, exactly one of them right, and where to see that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from pipeline.benchmarks.micro.world import COLORS, MAX_COUNT, SHAPES, Event, Plan, Thing
from pipeline.domain import Span

KINDS = ("attribute", "shape", "before", "after", "count")


@dataclass(frozen=True)
class MicroQuestion:
    """A question as the world knows it, before it has an id and a file."""

    kind: str
    text: str
    options: tuple[str, ...]
    correct: int
    asked: tuple[Event, ...]
    """The events that the question names."""
    answering: tuple[Event, ...]
    """The events that show the answer, which the question does not name; empty where the asked ones show it."""

    @property
    def answer(self) -> str:
        """The right option's text."""
        return self.options[self.correct]

    @property
    def evidence(self) -> tuple[Span, ...]:
        """What must be seen to answer, in order of time."""
        events = sorted((*self.asked, *self.answering), key=lambda event: event.start)
        return tuple(Span(event.start, event.end) for event in events)


def draw_question(kind: str, plan: Plan, random: Random) -> MicroQuestion:
    """A question of this kind, one of :data:`KINDS`. The same state of ``random`` gives the same question."""
    return _DRAW[kind](plan, random)


def _attribute(plan: Plan, random: Random) -> MicroQuestion:
    event = plan.lone_shape
    text = f"What color is the {event.thing.shape}?"
    options, correct = _among(event.thing.color, COLORS, random)
    return MicroQuestion("attribute", text, options, correct, (event,), ())


def _shape(plan: Plan, random: Random) -> MicroQuestion:
    event = plan.lone_color
    text = f"What shape is the {event.thing.color} object?"
    options, correct = _among(event.thing.shape, SHAPES, random)
    return MicroQuestion("shape", text, options, correct, (event,), ())


def _before(plan: Plan, random: Random) -> MicroQuestion:
    chain = random.choice(plan.chains)
    place = random.randrange(1, len(chain))
    return _neighbour("before", plan, chain[place], chain[place - 1], random)


def _after(plan: Plan, random: Random) -> MicroQuestion:
    chain = random.choice(plan.chains)
    place = random.randrange(len(chain) - 1)
    return _neighbour("after", plan, chain[place], chain[place + 1], random)


def _neighbour(kind: str, plan: Plan, asked: Event, answering: Event, random: Random) -> MicroQuestion:
    """Wrong options are things of this very video first, so that having seen one of them is not enough."""
    text = f"What appears immediately {kind} the {asked.thing}?"
    others = sorted({event.thing for event in plan.events} - {asked.thing, answering.thing})
    near = next(chain for chain in plan.chains if asked in chain)
    trap = [event.thing for event in near if event not in (asked, answering)]
    wrong = trap + random.sample([thing for thing in others if thing not in trap], 3 - len(trap))
    options, correct = _shuffled(answering.thing, wrong, random)
    return MicroQuestion(kind, text, options, correct, (asked,), (answering,))


def _count(plan: Plan, random: Random) -> MicroQuestion:
    text = f"How many times does the {plan.counted[0].thing} appear?"
    numbers = [str(number) for number in range(1, MAX_COUNT + 1)]
    count = str(len(plan.counted))
    options, correct = _shuffled(count, [number for number in numbers if number != count], random)
    return MicroQuestion("count", text, options, correct, plan.counted, ())


_DRAW: dict[str, Callable[[Plan, Random], MicroQuestion]] = {
    "attribute": _attribute,
    "shape": _shape,
    "before": _before,
    "after": _after,
    "count": _count,
}


def _among(right: str, words: Sequence[str], random: Random) -> tuple[tuple[str, ...], int]:
    return _shuffled(right, random.sample([word for word in words if word != right], 3), random)


def _shuffled(right: str | Thing, wrong: Sequence[str | Thing], random: Random) -> tuple[tuple[str, ...], int]:
    options = [str(right), *map(str, wrong)]
    random.shuffle(options)
    return tuple(options), options.index(str(right))
