"""Which worker gets which unit, and what becomes of the units of a worker that died."""

from __future__ import annotations

import pytest

from pipeline.artefacts.rows import RelevanceRow
from pipeline.domain import Question, Relevance
from pipeline.errors import CheckpointError
from pipeline.execution.dispatch import DEATHS_IN_A_ROW, Dispatch
from pipeline.execution.units import Lost, SampleUnit


def unit(name: str, questions: int = 1) -> SampleUnit:
    return SampleUnit(name, tuple(Question(f"{name}{number}", name, "?") for number in range(questions)))


def rows(given: SampleUnit) -> list[RelevanceRow]:
    return [RelevanceRow("k", "s", each, None, Relevance(each.id, (), ())) for each in given.questions]


def done(dispatch: Dispatch, worker: int, given: SampleUnit) -> None:
    assert all(dispatch.received(worker, row) for row in rows(given))


def test_each_unit_goes_to_one_worker_and_none_gets_a_second_one_that_another_lacks() -> None:
    a, b, c = unit("a"), unit("b"), unit("c")
    dispatch = Dispatch(iter([a, b, c]), 2)
    assert dispatch.give(0) == a
    assert dispatch.give(0) == b
    assert dispatch.give(0) is None
    assert dispatch.give(1) == c
    assert dispatch.is_wanted(0)
    for worker, given in ((0, a), (0, b), (1, c)):
        done(dispatch, worker, given)
    assert not dispatch.has_work
    assert not dispatch.received(0, rows(a)[0])


def test_units_of_a_dead_worker_go_to_another_one_at_a_time_and_without_what_is_done() -> None:
    a, b, c = unit("a", 2), unit("b"), unit("c")
    dispatch = Dispatch(iter([a, b, c]), 2)
    assert (dispatch.give(0), dispatch.give(0), dispatch.give(1)) == (a, b, c)
    dispatch.received(0, rows(a)[0])
    assert list(dispatch.died(0, "SIGSEGV")) == []
    done(dispatch, 1, c)
    assert dispatch.give(1) == a.only(["a1"])
    assert dispatch.give(1) is None  # alone
    done(dispatch, 1, a.only(["a1"]))
    assert dispatch.give(0) is None  # it died with it, and the other one lives
    assert dispatch.give(1) == b
    done(dispatch, 1, b)
    assert not dispatch.has_work


def test_what_two_workers_die_of_is_lost_and_what_was_in_hand_with_it_is_not() -> None:
    bad, good = unit("bad"), unit("good")
    dispatch = Dispatch(iter([bad, good]), 1)
    assert (dispatch.give(0), dispatch.give(0)) == (bad, good)
    assert list(dispatch.died(0, "SIGSEGV")) == []
    assert dispatch.give(0) == bad
    assert list(dispatch.died(0, "SIGABRT")) == [Lost(bad, "SIGABRT")]
    assert dispatch.give(0) == good
    done(dispatch, 0, good)
    assert not dispatch.has_work


def test_a_worker_whose_processes_all_die_is_given_up_and_costs_no_unit() -> None:
    units = [unit(str(number)) for number in range(2 * DEATHS_IN_A_ROW)]
    dispatch = Dispatch(iter(units), 2)
    lost = []
    for _ in range(DEATHS_IN_A_ROW):
        assert dispatch.give(0) is not None
        lost += list(dispatch.died(0, "the GPU has fallen off the bus"))
    assert dispatch.is_out(0)
    assert not lost
    finished = 0
    while (given := dispatch.give(1)) is not None:
        assert isinstance(given, SampleUnit)
        done(dispatch, 1, given)
        finished += 1
    assert finished == len(units)


def test_workers_that_cannot_load_their_model_say_so_once_and_end_the_run_with_it() -> None:
    a, b = unit("a"), unit("b")
    dispatch = Dispatch(iter([a, b]), 2)
    assert (dispatch.give(0), dispatch.give(1)) == (a, b)
    assert dispatch.refused(0, CheckpointError("weights are missing", "fetch them"))
    assert not dispatch.is_stuck
    assert not dispatch.refused(1, CheckpointError("weights are missing", "fetch them"))
    assert dispatch.is_stuck
    with pytest.raises(CheckpointError, match="weights are missing"):
        raise dispatch.ending()


def test_a_run_that_is_stopped_finishes_what_is_in_hand() -> None:
    a, b = unit("a"), unit("b")
    dispatch = Dispatch(iter([a, b]), 1)
    assert dispatch.give(0) == a
    dispatch.stop()
    assert dispatch.give(0) is None
    assert dispatch.has_work
    done(dispatch, 0, a)
    assert not dispatch.has_work
