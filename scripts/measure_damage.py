"""How often damaged videos are shown as if nothing were wrong.

    python scripts/measure_damage.py                          # 256 files, 8 frames of each
    python scripts/measure_damage.py --backend decord --seed 7 --every-frame

Makes clean clips of seven codecs in six containers, damages copies of them (see tests/video/damaged_videos.py), reads
them, and prints a Markdown table: how many are refused, how many show what they did before, and how many pass with
pictures that are visibly wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "video")]

import av  # noqa: E402
from damaged_videos import CLIPS, SMALL, USUAL, VISIBLE, readings  # noqa: E402

from pipeline.video import Reader  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="auto", help="as reader.backend")
    parser.add_argument("--files", type=int, default=256)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--every-frame", action="store_true", help="read all frames and not every eighth")
    parser.add_argument("--small", action="store_true", help="256 x 192 pixels: damage is noticed less often")
    args = parser.parse_args()
    reader = Reader(name="damage", backend=args.backend, threads=0, image_fps=1.0)
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        step = 1 if args.every_frame else 8
        size = SMALL if args.small else USUAL
        names = list(CLIPS)
        for reading in readings(Path(folder), reader, args.files, args.seed, names, step, size):
            outcome = "passes" if reading.passes else "refused" if reading.refused else "unchanged"
            for row in (reading.name.partition(".")[0], "all"):
                counts[row, outcome] += 1
    print("| codec | files | refused | as before | visibly wrong, and passes |")
    print("|---|---|---|---|---|")
    for row in [*dict.fromkeys(name.partition(".")[0] for name in names), "all"]:
        figures = [counts[row, outcome] for outcome in ("refused", "unchanged", "passes")]
        print(f"| {row} | {sum(figures)} | {' | '.join(map(str, figures))} |")
    print(f"\nPyAV {av.__version__}; visibly wrong: a block of 16 x 16 pixels is off by more than {VISIBLE:g} of 255")


if __name__ == "__main__":
    main()
