"""What happens in one video of the micro world: backgrounds, and now and then a coloured shape for two to four seconds.

Only the plan is made here, from a seed; :mod:`pipeline.benchmarks.micro.render` draws it. The plan guarantees what the
questions rely on: one shape and one colour that occur exactly once, chains of two or three objects shortly after one
another, and one object that occurs one to four times with nothing else like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

SIZE = 128
"""Width and height of every video in pixels."""
FPS = 8
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
BACKGROUNDS = ("plain", "gradient", "stripes", "noise")
MAX_COUNT = 4
MIN_DURATION, MAX_DURATION = 2.0, 4.0
CHAIN_GAP = (0.75, 2.0)
"""Seconds of empty picture between two objects of a chain."""
UNIT_GAP = 9.0
"""Seconds at least between objects that do not belong to one chain, so that "immediately after" has one reading."""
MARGIN = 3.0
"""Seconds without an object at both ends of a video."""
SIZES = (38, 54)
"""Smallest and largest side of a thing, pixels."""
_LARGEST_SHIFT = 16
_NEAR = 30
"""Pixels that consecutive occurrences of one object lie apart at least, along x or y."""


@dataclass(frozen=True, order=True)
class Thing:
    """What can be named in a question: a shape in a colour."""

    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Event:
    """A thing in the picture from ``start`` to ``end`` (seconds, the end excluded), drifting in a straight line."""

    thing: Thing
    start: float
    end: float
    x: float
    """Centre at the start, pixels."""
    y: float
    dx: float
    """Drift over the whole event, pixels."""
    dy: float
    size: int
    """Side of the box around it, pixels."""
    tint: tuple[int, int, int]
    """Added to the colour's red, green and blue, so that no two reds are quite the same."""

    def visible(self, second: float) -> bool:
        """Whether the thing is in the picture at this second."""
        return self.start <= second < self.end


@dataclass(frozen=True)
class Scene:
    """One background, from ``start`` until the next scene."""

    start: float
    kind: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """One video: everything that decides its pixels and its questions."""

    duration: float
    """Whole seconds."""
    scenes: tuple[Scene, ...]
    events: tuple[Event, ...]
    """In order of time, never two at once."""
    lone_shape: Event
    """The only event of its shape."""
    lone_color: Event
    """The only event of its colour."""
    chains: tuple[tuple[Event, ...], ...]
    """Events shortly after one another, each thing the only one of its kind in the video."""
    counted: tuple[Event, ...]
    """All occurrences of the thing that is counted."""


@dataclass(frozen=True)
class _Cast:
    """Who appears, before it is known when."""

    lone_shape: Thing
    lone_color: Thing
    chains: tuple[tuple[Thing, ...], ...]
    counted: Thing
    count: int
    others: tuple[Thing, ...]


def make_plan(random: Random, min_seconds: int, max_seconds: int) -> Plan:
    """Draw a video. The same state of ``random`` gives the same plan."""
    duration = random.randint(min_seconds, max_seconds)
    cast = _draw_cast(random, duration)
    units: list[tuple[Thing, ...]] = [*cast.chains, (cast.lone_shape,), (cast.lone_color,)]
    units += [(thing,) for thing in cast.others] + [(cast.counted,)] * cast.count
    random.shuffle(units)
    placed = _place(random, units, duration)
    events = tuple(event for unit in placed for event in unit)
    return Plan(
        duration=float(duration),
        scenes=_draw_scenes(random, duration),
        events=events,
        lone_shape=next(event for event in events if event.thing == cast.lone_shape),
        lone_color=next(event for event in events if event.thing == cast.lone_color),
        chains=tuple(unit for unit in placed if len(unit) > 1),
        counted=tuple(event for event in events if event.thing == cast.counted),
    )


def _draw_cast(random: Random, duration: int) -> _Cast:
    shapes, colors = list(SHAPES), list(COLORS)
    random.shuffle(shapes)
    random.shuffle(colors)
    one_shape, one_color = shapes.pop(), colors.pop()
    things = [Thing(color, shape) for color in colors for shape in shapes]
    random.shuffle(things)
    chains = tuple(tuple(things.pop() for _ in range(random.choice((2, 3)))) for _ in range(1 if duration < 240 else 2))
    return _Cast(
        lone_shape=Thing(random.choice(colors), one_shape),
        lone_color=Thing(one_color, random.choice(shapes)),
        chains=chains,
        counted=things.pop(),
        count=random.randint(1, MAX_COUNT),
        others=tuple(things.pop() for _ in range(random.randint(0, 1 + duration // 120))),
    )


def _place(random: Random, units: list[tuple[Thing, ...]], duration: int) -> list[tuple[Event, ...]]:
    """Give every unit its time: lengths and gaps first, then what is left of the video is spread between the units.

    All times are whole frames, so that an event's first and last frame are the ones that its times say.
    """
    lengths = [[random.randint(int(MIN_DURATION * FPS), int(MAX_DURATION * FPS)) for _ in unit] for unit in units]
    gaps = [[random.randint(int(CHAIN_GAP[0] * FPS), int(CHAIN_GAP[1] * FPS)) for _ in unit[1:]] for unit in units]
    needed = sum(map(sum, lengths)) + sum(map(sum, gaps)) + int(UNIT_GAP * FPS) * (len(units) - 1)
    spare = duration * FPS - 2 * int(MARGIN * FPS) - needed
    cuts = sorted(random.randint(0, spare) for _ in units)
    placed, last_seen = [], dict[Thing, tuple[float, float]]()
    frame = int(MARGIN * FPS)
    for number, unit in enumerate(units):
        begin = frame + cuts[number]
        events = []
        for place, thing in enumerate(unit):
            event = draw_event(random, thing, begin / FPS, (begin + lengths[number][place]) / FPS, last_seen.get(thing))
            last_seen[thing] = (event.x, event.y)
            events.append(event)
            begin += lengths[number][place] + (gaps[number][place] if place < len(unit) - 1 else 0)
        placed.append(tuple(events))
        frame = begin - cuts[number] + int(UNIT_GAP * FPS)
    return placed


def draw_event(random: Random, thing: Thing, start: float, end: float, before: tuple[float, float] | None) -> Event:
    """Place and motion of a thing, at some distance from ``before``, where such a thing was last seen."""
    size = random.randint(*SIZES)
    margin = size / 2 + 2
    while True:
        x, y = random.uniform(margin, SIZE - margin), random.uniform(margin, SIZE - margin)
        if before is None or max(abs(x - before[0]), abs(y - before[1])) >= _NEAR:
            break
    to_x = min(max(x + random.uniform(-_LARGEST_SHIFT, _LARGEST_SHIFT), margin), SIZE - margin)
    to_y = min(max(y + random.uniform(-_LARGEST_SHIFT, _LARGEST_SHIFT), margin), SIZE - margin)
    tint = (random.randint(-12, 12), random.randint(-12, 12), random.randint(-12, 12))
    return Event(thing, start, end, x, y, to_x - x, to_y - y, size, tint)


def _draw_scenes(random: Random, duration: int) -> tuple[Scene, ...]:
    starts = [0, *sorted(random.sample(range(20, duration - 20), random.randint(0, 2)))]
    return tuple(Scene(float(start), random.choice(BACKGROUNDS), random.getrandbits(32)) for start in starts)
