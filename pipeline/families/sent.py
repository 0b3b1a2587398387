"""A prompt as text, as it was sent: a mark stands in the place of each frame, such as ``<frame 3 at 12.5 s>``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence


def frame_mark(frames: range, times: Sequence[float]) -> str:
    """What stands in the place of frames that are shown as one picture.

    Args:
        frames: their places among all, from 0.
        times: seconds of all.
    """
    first, last = frames[0], frames[-1]
    if first == last:
        return f"<frame {first + 1} at {_second(times[first])} s>"
    return f"<frames {first + 1} to {last + 1} at {_second(times[first])} to {_second(times[last])} s>"


def marked_text(
    ids: Sequence[int],
    is_picture: Collection[int],
    marks: Sequence[tuple[str, int]],
    decode: Callable[[list[int]], str],
) -> str:
    """The text of a prompt with a mark for each picture.

    Args:
        ids: of the whole prompt.
        is_picture: the ids of which pictures consist.
        marks: of each picture in order, with the number of ids that it covers.
        decode: gives the text of ids.
    """
    parts: list[str] = []
    begin = place = 0
    for mark, tokens in marks:
        while place < len(ids) and ids[place] not in is_picture:
            place += 1
        parts += [decode(list(ids[begin:place])), mark]
        begin = place = place + tokens
    return "".join([*parts, decode(list(ids[begin:]))])


def marks_found(ids: Sequence[int], is_picture: Collection[int], times: Sequence[float]) -> list[tuple[str, int]]:
    """The marks of a prompt whose processor does not say which frames are where, each with the ids that it covers.

    A processor may put two frames, or all, into one run of ids, or cut each frame into as many runs, with separators
    of its own between them.
    """
    runs: list[tuple[int, int]] = []
    for place, token in enumerate(ids):
        if token in is_picture:
            is_new = not runs or runs[-1][1] < place
            runs[len(runs) - (not is_new) :] = [(place if is_new else runs[-1][0], place + 1)]
    frames, pictures = len(times), len(runs)
    if frames and pictures and pictures % frames == 0:
        parts = pictures // frames
        marks = [frame_mark(range(at, at + 1), times) for at in range(frames)]
        return [(mark, runs[(at + 1) * parts - 1][1] - runs[at * parts][0]) for at, mark in enumerate(marks)]
    together = -(-frames // pictures) if pictures else 0
    if together and -(-frames // together) == pictures:
        marks = [frame_mark(range(at, min(at + together, frames)), times) for at in range(0, frames, together)]
    else:
        marks = [f"<picture {number} of {pictures}>" for number in range(1, pictures + 1)]
    return [(mark, end - start) for mark, (start, end) in zip(marks, runs, strict=True)]


def _second(time: float) -> str:
    return f"{time:.2f}".rstrip("0").rstrip(".")
