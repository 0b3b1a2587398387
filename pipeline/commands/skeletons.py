"""The files that ``gens new`` writes. ``NAME`` stands for the name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Skeleton:
    """The first version of a sampler, an answerer or a policy."""

    group: str
    """Of the configuration."""
    code: str
    """``NAME/__init__.py``."""
    option: str
    """``GROUP/NAME.yaml``."""
    test: str
    """``tests/test_NAME.py``."""
    words: tuple[str, ...] = ()
    """Of the command that runs it, beside those of all kinds."""


_SAMPLER = Skeleton(
    group="sampler",
    code='''"""Scores frames: here by how much their pixels differ, whatever the question."""


def score(question, frames, gain):
    """A score for each frame of a batch.

    Args:
        question: its text.
        frames: a list of (time, pixels): seconds, and an RGB array of uint8, [height, width, 3], read-only.
        gain: a setting of the YAML file.
    """
    return [gain * float(pixels.std()) for time, pixels in frames]


# A model: say `load: NAME.load` in the YAML file. It is called once, and `score` is given the result.
#
# def load(checkpoint):
#     import torch
#     return torch.load(checkpoint)
#
# def score(question, frames, model, gain): ...
''',
    option="""# gens evaluate sampler=NAME ...
defaults:
  - function            # all settings, with what each is for
  - _self_
name: NAME
about: {what: standard deviation of the pixels, checkpoint: none, memory: none, extra: none}
function: NAME.score
settings:               # keyword arguments of the function
  gain: 1.0
fps: 1.0                # candidate frames a second
batch_size: 32          # frames in one call
""",
    test="""import numpy as np
from NAME import score


def test_each_frame_has_a_finite_score():
    random = np.random.default_rng(0)
    frames = [(float(second), random.integers(0, 256, (4, 6, 3), np.uint8)) for second in range(5)]
    scores = score("What color is the square?", frames, gain=1.0)
    assert len(scores) == len(frames)
    assert np.isfinite(scores).all()
""",
)
_ANSWERER = Skeleton(
    group="answerer",
    code='''"""Answers questions: here always with the first option."""


def answer(question, frames, option):
    """The text of the answer; an option is read from it.

    Args:
        question: its text, with lettered options and the instruction how to answer.
        frames: a list of (time, pixels): seconds, and an RGB array of uint8, [height, width, 3], read-only.
        option: a setting of the YAML file.
    """
    return option


# A model: say `load: NAME.load` in the YAML file. It is called once, and `answer` is given the result.
#
# def load(checkpoint):
#     from transformers import pipeline
#     return pipeline("image-text-to-text", checkpoint)
#
# def answer(question, frames, model): ...
''',
    option="""# gens evaluate answerer=NAME ...
defaults:
  - function            # all settings, with what each is for
  - _self_
name: NAME
about: {what: the first option, checkpoint: none, memory: none, extra: none}
function: NAME.answer
settings:               # keyword arguments of the function
  option: A
max_frames: null        # frames that it takes; null: any number
""",
    test="""import numpy as np
from NAME import answer


def test_the_answer_is_a_text():
    frames = [(float(second), np.zeros((4, 6, 3), np.uint8)) for second in range(3)]
    assert answer("What color is the square?\\nA. red\\nB. blue", frames, option="A") == "A"
""",
)
_POLICY = Skeleton(
    group="selection",
    code='''"""Chooses among scored frames: here the best ones that keep some seconds from each other."""


def choose(times, scores, count, apart):
    """At most ``count`` positions in ``times`` and ``scores``.

    Args:
        times: seconds of the frames, ascending: a float64 array.
        scores: parallel to ``times``.
        count: the most that may be chosen. Where there are no more frames than that, all are taken without a call.
        apart: a setting of the YAML file, in seconds.
    """
    chosen = []
    for place in (-scores).argsort(kind="stable"):
        if len(chosen) < count and all(abs(times[place] - times[other]) >= apart for other in chosen):
            chosen.append(int(place))
    return chosen
''',
    option="""# gens evaluate selection=NAME ...
defaults:
  - function            # all settings, with what each is for
  - _self_
name: NAME
about: {what: the highest scores that are some seconds apart, checkpoint: none, memory: none, extra: none}
choice:
  function: NAME.choose
  settings:             # keyword arguments of the function
    apart: 2.0
""",
    test="""import numpy as np
from NAME import choose


def test_positions_differ_and_are_no_more_than_asked_for():
    times = np.arange(10.0)
    scores = np.array([0.0, 9, 8, 7, 1, 1, 5, 1, 1, 0])
    positions = choose(times, scores, 3, apart=2.0)
    assert sorted(positions) == [1, 3, 6]
""",
    # The default sampler scores few frames, and the policy is not called where all of them fit the budget.
    words=("selection.budget=2",),
)
SKELETONS = {"sampler": _SAMPLER, "answerer": _ANSWERER, "policy": _POLICY}
