"""The command line: `vgrpo COMMAND ...`. A command is a file of this folder with a function `run`."""

import importlib
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from vgrpo.commands.options import HelpShown
from vgrpo.commands.words import UsageError
from vgrpo.models.quiet import without_import_chatter
from vgrpo.support.files import OF_THE_DISK, refused
from vgrpo.support.interrupts import EXIT_RESUMABLE, StopRequested, ctrl_c_is_no_other_error
from vgrpo.support.secrets import redact
from vgrpo.support.spelling import hint
from vgrpo.support.version import VERSION

USAGE = """vgrpo: online reinforcement learning for text-to-image diffusion and flow models.

  vgrpo train [RECIPE | run.yaml] [--option value ...]   fine-tune a model on a reward
  vgrpo ctl RUN_DIR pause|resume|stop|lr VALUE [...]     steer a run that goes on
  vgrpo sample --prompts FILE [...]                      draw images, with or without a LoRA
  vgrpo eval [--suite geneval] [...]                     score a model on held-out prompts, with intervals
  vgrpo report RUN_DIR                                   rebuild a run's report.html
  vgrpo ui [RUNS_DIR]                                    look at runs in a browser, also while they go on
  vgrpo export RUN_DIR [--format comfyui] [...]          the adapter as another tool reads it, with a model card
  vgrpo convert FILE.safetensors --output-dir FOLDER     a checkpoint in one file becomes a folder for --model
  vgrpo pretrain sprites|preference [...]                train the bundled model, or its reward, from nothing
  vgrpo serve-reward NAME [--port 8100]                  answer for a reward from a process of its own
  vgrpo serve-rollout MODEL [--port 8200]                draw images for runs from a process of its own
  vgrpo plan [RECIPE] [--gpu-memory 24GB] [...]          memory, evaluations and time of a job, before any download
  vgrpo doctor                                           what this machine has and can train, and what to type
  vgrpo prompts --kind geneval --output FILE [...]       prompts to train on, or a benchmark's
  vgrpo diagnose MODEL [...]                             measure how noisy a model's likelihood is
  vgrpo bench [--suite equal] [...]                      race algorithms on the bundled model

`vgrpo COMMAND --help` explains every option; `vgrpo --version` says which vgrpo this is. Start with:
vgrpo train sprites --gpus auto
"""
COMMANDS = (
    "train",
    "ctl",
    "sample",
    "eval",
    "report",
    "ui",
    "export",
    "convert",
    "pretrain",
    "serve-reward",
    "serve-rollout",
    "plan",
    "doctor",
    "prompts",
    "diagnose",
    "bench",
)
INTERRUPTED, BROKEN_PIPE = 130, 141  # what a shell reports of a process that ends by these signals


def main(args: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can mend are one clear message, not a traceback.

    Without `args` this is the whole program: it hides secrets in tracebacks, and a late Ctrl-C no longer changes its status.
    """
    if args is not None:
        return _finished(args)
    sys.excepthook = _show
    try:
        return _finished(sys.argv[1:])
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # torch tidies up at the exit, and would print a traceback


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A bug of ours, with where it is."""
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _finished(words: list[str]) -> int:
    """The status of a command whose output is all written."""
    try:
        status = _status_of(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has read enough
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it ends
        return BROKEN_PIPE
    return status


def _status_of(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(f"vgrpo {VERSION}")
        return 0
    if words[0] not in COMMANDS:
        print(f"vgrpo: no command {words[0]!r}; {hint(words[0], COMMANDS)} `vgrpo --help` explains them.", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _run(name: str, words: list[str]) -> int:
    """The command is imported only now: `vgrpo --help` should not wait for torch, nor a command for another's parts."""
    try:
        with without_import_chatter(), ctrl_c_is_no_other_error():
            status: int | None = importlib.import_module(f"vgrpo.commands.{name.replace('-', '_')}").run(words)
    except HelpShown:
        return 0
    except BrokenPipeError:
        raise
    except StopRequested as error:
        _say(f"vgrpo {name}: {error}")
        return EXIT_RESUMABLE
    except (ValueError, OSError) as error:
        _say(f"vgrpo {name}: {_message(error)}")
        return 2 if isinstance(error, UsageError) else 1
    except RuntimeError as error:
        from vgrpo.commands.failures import remedy

        advice = remedy(name, words, error)
        if advice is None:
            raise  # a bug of ours: show where
        _say(f"vgrpo {name}: {_message(error)}", advice)
        return 1
    return status or 0


def _say(*lines: str) -> None:
    for line in filter(None, lines):
        print(redact(line), file=sys.stderr)


def _message(error: Exception) -> str:
    """In one line; of what the system refused, the file and why."""
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        return refused(error, Path("the output"), "", "give the same command again")
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
