"""``gens VERB overrides...``: each verb is a Hydra app with a primary config of its own, conf/VERB.yaml."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from difflib import get_close_matches
from typing import Any

from pipeline import versions
from pipeline.config import conf_dir, nearest, register_resolvers
from pipeline.environment import by_name
from pipeline.errors import ConfigError, PipelineError
from pipeline.paths import path_text
from pipeline.quoting import for_shell, is_list, is_quoted, quoted, quoted_list, readable
from pipeline.stopping import ExitCode, Stopped, signals_stop, stop_code
from pipeline.terminal import give_up_streams, prepare_streams, remark, tell
from pipeline.usage import OPTIONS, keys_of, usage_of
from pipeline.wellformed import is_well_formed, well_formed

VERBS = {
    "demo": "both stages on the embedded models over made videos: no GPU, no network",
    "ask": "one question about one video: gens ask clip.mp4 'What is it?' 'a dog, a cat'",
    "sample": "only stage 1: which frames matter, as a selection file",
    "answer": "only stage 2: answers from a selection file",
    "judge": "only stage 3: grades of free answers, by a model or a rule, in a column of their own",
    "evaluate": "both stages over a benchmark; -m sweeps over samplers, budgets, answerers",
    "serve": "both stages behind OpenAI's protocol, with models that stay loaded",
    "mcp": "both stages as tools for programs around a language model (Model Context Protocol)",
    "recall": "how much of the evidence a sampler's frames show; needs no model, and often no video",
    "export": "selections or answers as other projects read them",
    "check": "what is missing and what a run will take, before any model is loaded",
    "download": "what a benchmark consists of, where to get it, and the parts that the hub has",
    "status": "what is running: rows done and left, rate, failures, time left; or one run, also a dead one",
    "runs": "all run folders; --prune names those without rows, and removes them with --yes",
    "report": "one HTML page over finished and half-finished runs",
    "compare": "two runs over the same questions: difference, interval, and which answers flipped",
    "joint": "figures of runs over the same questions, as CG-Bench has them: CRR, acc@IoU, rec@IoU",
    "new": "a sampler, an answerer or a policy of your own: gens new sampler NAME writes its files",
    "list": "samplers, policies, answerers, prompts, benchmarks: what each is and needs",
}
_OF_PEOPLE = ("question", "video", "answer", "subtitles_file")
"""Keys with free text, in which commas, colons and braces have no meaning."""
_ASKED = ("video", "question", "options")
"""Keys of ``gens ask`` whose values may be typed alone, in this order."""
_WITH_VALUE = ("--config-dir", "-cd", "--cfg", "-c", "--package", "-p", "--info", "-i")
"""Options whose value is the next word."""
_NAMED = {"list": ("what",), "new": ("kind", "name"), "status": ("run",)}
"""Keys of verbs whose values may be typed alone, in this order."""
_JSON = {"--json": "json=true"}
_SWITCHES = {
    "check": _JSON,
    "judge": {"--calibrate": "calibrate=true"},
    "status": _JSON,
    "runs": {**_JSON, "--prune": "prune=true", "--yes": "confirmed=true"},
}
"""Words of verbs that stand for an override."""
_UNSET = ("answer", "subtitles_file", "options")
"""Keys that the user may set to ``null``."""


def main() -> int:
    """Run the verb named on the command line.

    Returns:
        0 on success, 1 if some questions failed, 2 for a command that cannot run, 3 for a fault of this program, whose
        traceback is printed, and 128 + the number of the signal that ended it: 130 for Ctrl-C.
    """
    prepare_streams()
    try:
        with signals_stop():
            code = _called(sys.argv[1:])
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough.
        code = stop_code(Stopped(signal.SIGPIPE))
    except KeyboardInterrupt as stop:
        code = _stopped(stop)
    except PipelineError as error:
        code = _refuse(error)
    except Exception:
        code = _fault()
    give_up_streams()
    return code


def _stopped(stop: KeyboardInterrupt) -> int:
    if stop_code(stop) != stop_code(Stopped(signal.SIGPIPE)):
        with suppress(BrokenPipeError):
            remark("\ninterrupted: finished questions are kept; the same command continues from here")
    return stop_code(stop)


def _fault() -> int:
    with suppress(BrokenPipeError):
        remark(traceback.format_exc().rstrip("\n"))
    return ExitCode.FAULT


def _refuse(error: PipelineError) -> int:
    with suppress(BrokenPipeError):
        remark(f"error: {error}")
    return ExitCode.CANNOT_RUN


def _called(words: Sequence[str]) -> int:
    if "-sc" in words or "--shell_completion" in words:
        return _complete(words)
    if "--version" in words:
        return _tell_versions()
    if not words or words[0] in ("-h", "--help"):
        tell(_usage())
        return ExitCode.SUCCESS if words else ExitCode.CANNOT_RUN
    verb, overrides = words[0], [_well_formed(word) for word in words[1:]]
    if verb not in VERBS:
        raise ConfigError(f"gens {verb}: no such command.{nearest(verb, VERBS)}", f"one of {', '.join(VERBS)}")
    if {"-h", "--help"} & set(overrides):
        tell(usage_of(verb, VERBS[verb]))
        return ExitCode.SUCCESS
    if verb in _NAMED:
        overrides = _with_keys(overrides, _NAMED[verb])
    switches = _SWITCHES.get(verb, {})
    overrides = [switches.get(word, word) for word in overrides]
    _check_options(verb, overrides)
    if verb == "ask":
        overrides = _with_question(overrides)
    sweep = bool({"-m", "--multirun"} & set(overrides))
    if verb == "ask" and not sweep:
        overrides = [_as_typed(word) for word in overrides]
    return _run(verb, [readable(word, sweep=sweep) for word in overrides])


def _well_formed(word: str) -> str:
    """The word as UTF-8 text: a path that is none becomes a ``file:`` URI, other text gets U+FFFD."""
    key, _, value = word.partition("=")
    is_path = value and not value.startswith(("[", "{")) and key not in ("question", "options", "answer")
    return well_formed(word) if is_well_formed(word) or not is_path else f"{key}={path_text(value)}"


def _as_typed(word: str) -> str:
    """Quote free text, so that it arrives as the user typed it."""
    key, _, value = word.partition("=")
    if (key in _UNSET and value == "null") or is_quoted(value):
        return word
    if key in _OF_PEOPLE:
        return f"{key}={quoted(value)}"
    if key == "options" and (is_list(value) or "," in value):
        return f"{key}={quoted_list(value)}"
    return word


def _with_keys(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The words as overrides: those that stand alone at the beginning are the values of ``keys``, and ``--into X``."""
    left = list(words)
    found: list[str] = []
    for key in keys:
        if left and "=" not in left[0] and not left[0].startswith("-"):
            found.append(f"{key}={left.pop(0)}")
    if "name" in keys and "--into" in left[:-1]:
        place = left.index("--into")
        found.append(f"into={quoted(left[place + 1])}")
        del left[place : place + 2]
    return [*found, *(f"into={quoted(word[7:])}" if word.startswith("--into=") else word for word in left)]


def _with_question(words: Sequence[str]) -> list[str]:
    """The words of ``gens ask`` as overrides: of those without a key the first is the video, then question, options."""
    found: list[str] = []
    keys = list(_ASKED)
    for place, word in enumerate(words):
        is_setting = re.match(r"[+~]*[\w./@]*=", word) or word.startswith(("-", "~"))
        if is_setting or (place and words[place - 1] in _WITH_VALUE):
            found.append(word)
        elif keys:
            key = keys.pop(0)
            found.append(f"{key}={quoted_list(word) if key == 'options' else quoted(word)}")
        else:
            raise ConfigError(
                f"{word}: a word after video, question and options",
                "quote the question, and all options together: gens ask clip.mp4 'What is it?' 'a dog, a cat'",
            )
    return found


def _check_options(verb: str, words: Sequence[str]) -> None:
    """Refuse options that are none of Hydra's; most are keys that somebody wrote as other programs want them.

    Raises:
        ConfigError: the word as it is to be typed.
    """
    from hydra.main import get_args_parser

    keys = {f"--{key}": key for key in keys_of(verb)}
    # Words with a space are settings to argparse, whatever they begin with.
    mistaken = next((word for word in words if word.partition("=")[0] in keys), None)
    if mistaken is None:
        _, unknown = get_args_parser().parse_known_intermixed_args(list(words))
        if not unknown:
            return
        mistaken = unknown[0]
    word, equals, value = mistaken.partition("=")
    close = [word] if word in keys else get_close_matches(word, [*OPTIONS, *keys], n=1, cutoff=0.5)
    key = word.lstrip("-") if "." in word else next((keys[name] for name in close if name in keys), None)
    if key is not None:
        after = words[words.index(mistaken) + 1 :]
        if not equals and after and not after[0].startswith("-"):
            value = after[0]
        raise ConfigError(f"{word}: a setting is written KEY=VALUE", for_shell(f"{key}={value or '...'}"))
    raise ConfigError(f"{mistaken}: no such option.{nearest(mistaken, OPTIONS)}", f"one of {', '.join(OPTIONS)}")


def _tell_versions() -> int:
    for name, number in {"python": versions.python(), **versions.packages()}.items():
        tell(f"{name} {number}")
    return ExitCode.SUCCESS


def _run(verb: str, words: Sequence[str]) -> int:
    from hydra.main import get_args_parser

    from pipeline.explain import no_key

    given = get_args_parser().parse_intermixed_args(list(words))
    if given.config_name or given.config_path or given.experimental_rerun:
        raise ConfigError(
            "--config-name, --config-path and --experimental-rerun would have Hydra run another program than this",
            f"one of {', '.join(OPTIONS)}",
        )
    for word in given.overrides:
        if word.lstrip("+~").startswith("="):
            raise no_key(word, verb)
    _check_working_folder()
    if given.cfg or given.info or given.hydra_help or given.shell_completion:
        return _show(verb, given, words)
    from pipeline.commands import driving

    return max(driving.run(verb, given), default=ExitCode.SUCCESS)


def _show(verb: str, given: Namespace, words: Sequence[str]) -> int:
    """Have Hydra show a configuration or complete a line. Nothing is run."""
    import hydra

    from pipeline.commands.driving import as_chosen, explained_with
    from pipeline.run_names import register_run_name

    overrides = given.overrides if given.shell_completion else as_chosen(verb, given)
    # Hydra wants its options before the overrides; people write them in any order.
    options = [word for word in words if word not in given.overrides]
    # Hydra then raises its exceptions instead of printing them, and we add the nearest valid word.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register_resolvers()
    register_run_name()
    before = sys.argv
    sys.argv = [sys.argv[0], *options, *overrides]
    try:
        with explained_with(verb, given), by_name():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)(_nothing)()
    finally:
        sys.argv = before
    return ExitCode.SUCCESS


def _nothing(_: Any) -> None:
    """The task function for Hydra, which does not call it when it shows something."""


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ConfigError("the working folder does not exist any more", "change to another folder: cd ~") from error


def _complete(words: Sequence[str]) -> int:
    """Hydra's shell completion, with the verb removed from the line that it completes."""
    line = re.split(" +", os.environ.get("COMP_LINE", ""))
    if any(word.startswith("query=") for word in words):
        if len(line) < 3 or line[1] not in VERBS:
            tell(" ".join(VERBS))
            return ExitCode.SUCCESS
        verb = line[1]
        os.environ["COMP_LINE"] = " ".join([line[0], *line[2:]])
        told = io.StringIO()
        with redirect_stdout(told):
            code = _run(verb, words)
        tell(_completed(told.getvalue()).rstrip("\n"))
        return code
    return _run("evaluate", words)


def _completed(told: str) -> str:
    """Hydra's completions. A group that holds both options and groups gets both endings, ``=`` and ``/``."""
    return re.sub(r"(?<!\S)([\w/@]*\w)(?!\S)", r"\1= \1/", told)


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<9} {what}" for verb, what in VERBS.items())
    return (
        f"gens VERB [key=value ...]\n\n{verbs}\n\n"
        "gens VERB --help shows the verb's configuration, --cfg job the composed one; -m sweeps; --config-dir adds\n"
        'your own YAML files; --version. Completion: eval "$(gens -sc install=bash)"'
    )
