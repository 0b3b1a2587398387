"""``gens VERB overrides...``: each verb is a Hydra app with a primary config of its own, conf/VERB.yaml."""

from __future__ import annotations

import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout

from pipeline.config import conf_dir, nearest, register_resolvers
from pipeline.errors import with_remedy
from pipeline.paths import path_text
from pipeline.usage import OPTIONS, usage_of
from pipeline.wellformed import is_well_formed, well_formed

VERBS = {
    "demo": "both stages on the embedded models over made videos: no GPU, no network",
    "ask": "one question about one video: gens ask video=clip.mp4 question='...' options='[...]'",
    "sample": "stage 1 alone: which moments matter, as a selection file",
    "answer": "stage 2 alone: answers from a selection file",
    "evaluate": "both stages over a benchmark; -m sweeps over samplers, budgets, answerers",
    "recall": "how much of the evidence a sampler's frames show; needs no model, and often no video",
    "export": "selections or answers as other projects read them",
    "check": "what is missing and what a run will take, before any model is loaded",
    "download": "what a benchmark consists of, where to get it, and the parts that the hub has",
    "report": "one HTML page over finished and half-finished runs",
    "compare": "two runs over the same questions: difference, interval, and which answers flipped",
    "list": "samplers, policies, answerers, prompts, benchmarks: what each is and needs",
}
FINE, USAGE, FAULT, INTERRUPTED, BROKEN_PIPE = 0, 2, 3, 130, 141


def main() -> int:
    """Run the verb named on the command line.

    Returns:
        0 when all is well, 1 when some questions failed, 2 for a command that cannot run as it stands, 3 for a fault of
        this program, told by its traceback.
    """
    try:
        code = _called(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough; Python would complain once more as it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception:
        traceback.print_exc()
        return FAULT
    return code


def _called(words: Sequence[str]) -> int:
    if "-sc" in words or "--shell_completion" in words:
        return _complete(words)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return FINE if words else USAGE
    verb, overrides = words[0], [_well_formed(word) for word in words[1:]]
    if verb not in VERBS:
        return _refuse(f"gens {verb}: no such command.{nearest(verb, VERBS)}", f"one of {', '.join(VERBS)}")
    if {"-h", "--help"} & set(overrides):
        print(usage_of(verb, VERBS[verb]))
        return FINE
    if verb == "list" and overrides and "=" not in overrides[0] and not overrides[0].startswith("-"):
        overrides = [f"what={overrides[0]}", *overrides[1:]]
    if verb == "check":
        overrides = ["json=true" if word == "--json" else word for word in overrides]
    return _run(verb, _as_typed(overrides) if verb == "ask" else overrides)


def _well_formed(word: str) -> str:
    """A word whose bytes are not UTF-8 as one that can be stored: a path as a ``file:`` URI, other text with U+FFFD."""
    key, _, value = word.partition("=")
    is_path = value and not value.startswith(("[", "{")) and key not in ("question", "options", "answer")
    return well_formed(word) if is_well_formed(word) or not is_path else f"{key}={path_text(value)}"


def _as_typed(overrides: Sequence[str]) -> list[str]:
    """Quote the question and the path: people's commas, colons and braces are no part of Hydra's grammar.

    Left alone in a sweep, where a comma parts the values, and where the value is quoted already.
    """
    if {"-m", "--multirun"} & set(overrides):
        return list(overrides)
    return [
        f"{key}={_quoted(value)}" if key in ("question", "video", "subtitles_file") and not _is_quoted(value) else word
        for word in overrides
        for key, _, value in [word.partition("=")]
    ]


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _quoted(value: str) -> str:
    # Hydra takes a backslash as it is, except before a quote; OmegaConf takes ${ for an interpolation.
    escaped = re.sub(r"(\\*)'", r"\1\1\'", value.replace("${", "\\${"))
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _run(verb: str, words: Sequence[str]) -> int:
    import hydra
    from hydra.main import get_args_parser

    from pipeline.commands.job import Job
    from pipeline.commands.sweep import summed_up
    from pipeline.run_names import register_run_folder

    given, unknown = get_args_parser().parse_known_intermixed_args(list(words))
    if unknown:
        option = unknown[0]
        return _refuse(f"{option}: no such option.{nearest(option, OPTIONS)}", f"one of {', '.join(OPTIONS)}")
    # Hydra wants its options before the overrides; people write them in any order.
    overrides = [word for word in words if word not in given.overrides] + given.overrides
    job = Job(verb)
    register_resolvers()
    register_run_folder()
    # Hydra then hands its exceptions to us, who know the nearest valid word.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [sys.argv[0], *overrides]
    try:
        with summed_up(job.codes):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)(job)()
    except KeyboardInterrupt:
        print("\ninterrupted: finished questions are kept, the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return _explained(error, verb, overrides)
    return max(job.codes, default=FINE)


def _explained(error: Exception, verb: str, overrides: Sequence[str]) -> int:
    from pipeline.explain import explain

    explained = explain(error, verb, overrides)
    if explained is None:
        raise error
    return _refuse(explained.problem, explained.remedy)


def _complete(words: Sequence[str]) -> int:
    """Hydra's shell completion, with the verb taken out of the line that it completes."""
    line = re.split(" +", os.environ.get("COMP_LINE", ""))
    if any(word.startswith("query=") for word in words):
        if len(line) < 3 or line[1] not in VERBS:
            print(" ".join(VERBS))
            return FINE
        verb = line[1]
        os.environ["COMP_LINE"] = " ".join([line[0], *line[2:]])
        told = io.StringIO()
        with redirect_stdout(told):
            code = _run(verb, words)
        print(_completed(told.getvalue()), end="")
        return code
    return _run("evaluate", words)


def _completed(told: str) -> str:
    """Hydra's choices, of which a group that holds options and groups is left without an end: it may have either."""
    return re.sub(r"(?<!\S)([\w/@]*\w)(?!\S)", r"\1= \1/", told)


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<9} {what}" for verb, what in VERBS.items())
    return (
        f"gens VERB [key=value ...]\n\n{verbs}\n\n"
        "gens VERB --help shows the verb's configuration, --cfg job the composed one; -m sweeps; --config-dir adds\n"
        'your own YAML files. Completion: eval "$(gens -sc install=bash)"'
    )


def _refuse(problem: str, remedy: str) -> int:
    print(f"error: {with_remedy(problem, remedy)}", file=sys.stderr)
    return USAGE
