"""The speed benchmark at its smallest: every kind of cell on the CPU, and its table in ``gens check``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import gens
from made import write_video
from tiny import write_qwen2_5_vl, write_qwen2_vl

from pipeline.spans import MAIN, Span
from scripts.benchmark_speed import main
from scripts.speed import tables
from scripts.speed.cells import Cell
from scripts.speed.floors import Load, Weights, floor_seconds
from scripts.speed.machine import Machine, peak_memory
from scripts.speed.projection import projected
from scripts.speed.where import Traced, busy, where

MACHINE = Machine("card", "host, 16 cores", {"torch": "2", "transformers": "5"}, 1e12, 1e9, 10**9)
KINDS = {
    "gens": ["ours-gens-1w-1q", "stock-gens-1w"],
    "gens_3b": ["ours-gens_3b-2w-1q", "stock-gens_3b-1w"],
    "answerers": ["ours-qwen2_vl_7b", "stock-qwen2_vl_7b", "ours-llava_video_7b"],
    "gens_3b_files": ["file-gens_3b-2w", "decoding-file-6s"],
    "readers": ["reader-pyav"],
}


def test_the_peak_before_work_forgets_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """GenS forgets it before each window, and the tower has seen the frames by then."""
    now = {"max_memory_allocated": 90, "max_memory_reserved": 95}
    for name in tuple(now):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: now[name])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: now.update(dict.fromkeys(now, 10)))
    with peak_memory("cuda:0") as peaks:
        assert now["max_memory_allocated"] == 10
        now |= {"max_memory_allocated": 70, "max_memory_reserved": 71}
        torch.cuda.reset_peak_memory_stats("cuda:0")
        now |= {"max_memory_allocated": 40, "max_memory_reserved": 80}
    assert peaks == [70, 80]


def test_one_cell_of_each_kind_is_measured_once_and_read_by_gens_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    cells = [cell for kinds in KINDS.values() for cell in kinds]
    words = ["--tiny", "--device", "cpu", "--out", str(out), "--project", "--part", *KINDS, "--cells", *cells]
    assert main(words) == 0
    printed = capsys.readouterr().out
    measured = {path.name: json.loads(path.read_text()) for path in (out / "cells").iterdir()}
    assert len(measured) == len(cells)
    assert all(cell["seconds"] > 0 for cell in measured.values())
    assert "| gens_3b | 2 | 1 |" in printed
    assert "*scaled*" in printed
    assert "Projection, not a measurement" in printed
    assert "Where the time goes: `gens sample` with gens_3b, 0.1 minutes." in printed
    [command] = [cell for cell in measured.values() if cell["who"] == "file"]
    mine = [row for row in command["where"] if not row["name"].startswith("worker")]
    assert {"checks", "frames", "vision", "prefill", "step"} <= {row["name"] for row in mine}
    assert sum(row["seconds"] for row in mine) == pytest.approx(command["seconds"], rel=0.05)

    assert main(words) == 0  # nothing is measured a second time
    assert {path.name: json.loads(path.read_text()) for path in (out / "cells").iterdir()} == measured

    write_qwen2_5_vl(tmp_path / "sampler")
    write_qwen2_vl(tmp_path / "answerer")
    write_video(tmp_path / "clip.mp4", seconds=6)
    row = {"id": "q", "video": "clip.mp4", "question": "which?", "options": ["a", "b"], "answer": "a"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
    done = gens(
        *("check", "--json", "--config-dir", str(out), "speed=measured"),
        *("benchmark=jsonl", "benchmark.path=questions.jsonl", "selection.budget=3"),
        *("sampler=gens_3b", f"sampler.checkpoint.source={tmp_path / 'sampler'}", "sampler.window.frames=3"),
        *("answerer=qwen2_vl_7b", f"answerer.checkpoint.source={tmp_path / 'answerer'}"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    times = json.loads(done.stdout)["seconds"]
    a_window = measured["ours-gens_3b-2w-1q-3t.json"]["seconds"] / 2
    assert times["sampling"]["amount"] == pytest.approx(2 * a_window, rel=1e-3)
    assert "2 windows x 1 question, windows of 4 frames" in times["sampling"]["source"]
    a_second = measured["decoding-file-6s.json"]["seconds"] / 6
    assert times["decoding"]["amount"] == pytest.approx(6 * a_second, rel=1e-3)
    a_frame = measured["ours-qwen2_vl_7b-2q-2t.json"]["seconds"] / 6
    assert times["answering"]["amount"] == pytest.approx(3 * a_frame, rel=1e-3)


def test_what_cannot_be_measured_is_a_line_with_its_reason_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    words = ["--tiny", "--device", "cpu", "--out", str(tmp_path), "--part", "readers", "--cells", "reader-pyav"]
    assert main([*words, "--video", str(broken)]) == 1
    assert "* reader-pyav-10s: InvalidDataError: " in capsys.readouterr().out
    assert main([*words, "--minutes", "-1"]) == 1
    assert "for the next run: reader-pyav-10s" in capsys.readouterr().out
    assert main(words) == 0
    assert "Not measured" not in capsys.readouterr().out


def test_overlapping_kernels_count_once() -> None:
    assert busy([(0, 10), (5, 12), (20, 30), (21, 22)]) == 22
    assert busy([]) == 0


def test_what_a_thread_did_while_no_kernel_ran_is_the_inner_one_of_its_spans() -> None:
    spans = [
        Span("step", 5.0, 8.0, MAIN),
        Span("capture", 6.0, 7.0, MAIN),
        Span("frames", 2.0, 4.0, MAIN),
        Span("decode", 1.0, 3.0, "worker 7"),
        Span("decode", 1.0, 3.5, "worker 8"),
        Span("look", 0.5, 1.0, "another thread"),
    ]
    kernels = [(3.5, 6.25), (5.0, 6.5), (7.5, 9.0)]
    rows = where(spans, 0.0, 10.0, kernels)
    told = {row.name: (row.count, row.seconds, row.idle, row.first, row.last) for row in rows}
    assert told == {
        "until the first of these": (1, 2.0, 2.0, 2.0, 2.0),
        "frames": (1, 2.0, 1.5, 4.0, 4.0),
        "between these": (1, 1.0, 0.0, 5.0, 5.0),
        "step": (1, 2.0, 0.5, 8.0, 8.0),
        "capture": (1, 1.0, 0.5, 7.0, 7.0),
        "after the last of these": (1, 2.0, 1.0, 10.0, 10.0),
        "worker: decode": (2, 4.5, None, 3.0, 3.5),
    }
    assert [row.idle for row in where(spans, 0.0, 10.0, None)] == [None] * 7


def test_kernels_after_the_end_are_not_of_the_run() -> None:
    traced = Traced(lambda: None, "cpu")
    traced._start, traced._end = 0.0, 10.0
    assert traced.idle([(2.0, 4.0), (11.0, 12.0), (14.0, 15.0)]) == 0.8


def test_the_floor_is_the_operations_of_prompts_and_the_bytes_of_steps() -> None:
    weights = Weights(
        tower=10, projector=5, dense=100, experts=400, head=50, expert_count=8, chosen=2, layers=1, width=4,
        cache_numbers=8, tower_layers=1, tower_width=2, item=2,
    )  # fmt: skip
    load = Load(2, 1, frames=3, patches=4, frame_tokens=1, prefix_tokens=20, suffix_tokens=1, tokens=3)
    vision = 2 * 3 * (2 * 4 * 10 + 4 * 4**2 * 2 + 2 * 5)
    prefill = 2 * (2 * 20 * 200 + 2 * 20**2 * 4)
    suffixes = 2 * (2 * 200 + 2 * 50 + 4 * 20 * 4)
    # Two rows miss an expert with probability (3/4)**2; keys and values are those of 2 x 20 tokens, and the rows' own.
    step = 2 * (100 + 400 * 7 / 16 + 50) + (40 + 2 * 2.5) * 8 * 2
    expected = (vision + prefill + suffixes) / 1e12 + 2 * step / 1e9
    assert floor_seconds(weights, load, MACHINE) == pytest.approx(expected)


def test_several_workers_are_compared_with_one_by_their_windows_a_second() -> None:
    def cell(workers: int, windows: int, seconds: float) -> Cell:
        return Cell("workers", "gens", windows, 1, 100, 256, 600.0, workers, seconds=seconds)

    cells = [cell(1, 9, 18.0), cell(2, 18, 19.0)]
    told = tables.markdown(cells, MACHINE)
    assert "| gens | from the file | 1 | 9 | 18 | 0.5 | 1.00 |" in told
    assert "| gens | from the file | 2 | 18 | 19 | 0.947 | 1.89 |" in told
    assert len({each.key for each in cells}) == 2


@pytest.mark.long
def test_workers_with_random_weights_are_measured_once_they_are_warm(tmp_path: Path) -> None:
    words = ["--tiny", "--device", "cpu", "--out", str(tmp_path), "--part", "gens_3b_workers"]
    assert main([*words, "--cells", "workers_prepared"]) == 0
    found = [json.loads(path.read_text()) for path in (tmp_path / "cells").iterdir()]
    assert sorted((cell["workers"], cell["windows"]) for cell in found) == [(1, 2), (2, 4)]


def test_larger_stock_cells_are_scaled_and_marked() -> None:
    def cell(who: str, windows: int, questions: int, seconds: float) -> Cell:
        return Cell(who, "gens", windows, questions, 100, 256, seconds=seconds)  # type: ignore[arg-type]

    cells = [cell("stock", 1, 1, 9.0), cell("stock", 1, 3, 24.0), cell("ours", 1, 1, 3.0), cell("ours", 4, 26, 16.0)]
    told = tables.markdown(cells, MACHINE)
    assert "| gens | 1 | 1 | 3 | 9 | 3.0 |" in told
    assert "| gens | 4 | 26 | 16 | 832 *scaled* | 52.0 |" in told
    # 1910 windows with 1.78 questions each, between 1 question (0.5 s a window) and 26 (4 s).
    hours = 1910 * (0.5 + 3.5 * (1337 / 753 - 1) / 25) / 3600
    [row] = [
        line
        for line in projected([cell("ours", 4, 1, 2.0), *cells], "gens", "qwen2_vl_7b")
        if line.startswith("| LongVideoBench")
    ]
    assert f"| {hours:.1f} | {4598 * 8 / 3600:.1f} | not measured |" in row
