"""The command line: `vgrpo train | sample | eval | report | pretrain | bench | diagnose | plan | prompts | serve-reward`."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from vgrpo.commands.options import parse, parse_job, take_option
from vgrpo.models.quiet import without_import_chatter
from vgrpo.support.spelling import hint

USAGE = """vgrpo: online reinforcement learning for text-to-image diffusion and flow models.

  vgrpo train [RECIPE | run.yaml] [--option value ...]   fine-tune a model on a reward
  vgrpo sample --prompts FILE [...]                      draw images, with or without a LoRA
  vgrpo eval [--suite geneval] [...]                     score a model on held-out prompts, with intervals
  vgrpo report RUN_DIR                                   rebuild a run's report.html
  vgrpo pretrain sprites|preference [...]                train the bundled model, or its reward, from nothing
  vgrpo serve-reward NAME [--port 8100]                  answer for a reward from a process of its own
  vgrpo plan [RECIPE] [--gpu-memory 24GB] [...]          memory, evaluations and time of a job, before any download
  vgrpo prompts --kind geneval --output FILE [...]       generate training prompts
  vgrpo diagnose MODEL [...]                             measure how noisy a model's likelihood is
  vgrpo bench [--suite methods] [...]                    race algorithms on the bundled model

`vgrpo COMMAND --help` explains every option. Start with: vgrpo train sprites
"""


def main(args: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can mend are one clear message, not a traceback."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        print(f"vgrpo: no command {args[0]!r}; {hint(args[0], COMMANDS)}\n\n{USAGE}", file=sys.stderr)
        return 2
    try:
        with without_import_chatter():
            command(args[1:])
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        from vgrpo.rewards.base import RewardError
        from vgrpo.support.memory_errors import GpuMemoryError

        if isinstance(error, RuntimeError | TypeError) and not isinstance(error, RewardError | GpuMemoryError):
            raise  # a bug of ours: show where
        print(f"vgrpo {args[0]}: {error}", file=sys.stderr)
        if isinstance(error, GpuMemoryError):
            remedy = (
                f"What takes it, and what to switch on:\n  {_plan_of(args[1:], error.memory)}" if args[0] == "train" else LESS
            )
            print(remedy, file=sys.stderr)
        return 1
    return 0


LESS = (
    "Draw fewer images at once (--num-images of sample, --eval.batch-size of eval, --batch-size of diagnose), or switch on\n"
    "  --memory.offload-encoders True --memory.vae-slicing True --memory.vae-tiling True\n"
    "and for diagnose --memory.gradient-checkpointing True.\n"
    "`vgrpo plan --model MODEL` says what the model's parts take."
)


def _plan_of(args: list[str], memory: str | None) -> str:
    """The `vgrpo plan` of a training command."""
    args = [arg for arg in args if arg != "--resume"]
    return shlex.join(["vgrpo", "plan", *args, *(["--gpu-memory", memory] if memory else [])])


def _train(args: list[str]) -> None:
    resume = "--resume" in args
    args = [arg for arg in args if arg != "--resume"]
    description = (
        "Fine-tune a model on a reward. Settings: a recipe's (docs/recipes.md lists them) or a config.yaml's, then these "
        "options. --objective NAME chooses the algorithm (vgrpo; docs/objectives.md lists the others), whose settings are then "
        "--objective.X. --resume goes on with the run in --output-dir."
    )
    job = parse_job(args, prog="vgrpo train [RECIPE | run.yaml]", description=description, resume=resume)
    if resume and job.output_dir is None:
        raise ValueError("--resume: name the run, by --output-dir or by its config.yaml")
    from vgrpo.commands.api import train_curriculum
    from vgrpo.training.loop import train
    from vgrpo.training.stages import Curriculum

    if isinstance(job, Curriculum):
        train_curriculum(job, resume=resume)
    else:
        train(job, resume=resume)


def _sample(args: list[str]) -> None:
    from vgrpo.commands.sample import SampleConfig, sample

    sample(parse(SampleConfig, args, prog="vgrpo sample", description="Draw images for the prompts of a file."))


def _eval(args: list[str]) -> None:
    import tyro

    from vgrpo.commands.evaluate import evaluate
    from vgrpo.evaluation.job import EvalJob, suite_job

    args, suite = take_option(args, "--suite")
    default = None if suite is None else suite_job(suite, output_dir=tyro.MISSING)
    description = "Score a model, with or without a LoRA, on the prompts and by the rewards of a suite or your own."
    evaluate(parse(EvalJob, args, prog="vgrpo eval [--suite NAME]", description=description, default=default))


def _report(args: list[str]) -> None:
    if len(args) != 1 or args[0].startswith("-"):
        print("usage: vgrpo report RUN_DIR\n\nRebuild report.html of a run, also of one that is still going.")
        return
    from vgrpo.pages.report import write_report

    print(write_report(Path(args[0])))


def _pretrain(args: list[str]) -> None:
    name = args.pop(0) if args and not args[0].startswith("-") else "sprites"
    if name == "sprites":
        from vgrpo.worlds.sprites.pretrain import PretrainConfig, pretrain

        description = "Train the bundled sprites model from nothing: about half an hour on two CPU cores."
        pretrain(parse(PretrainConfig, args, prog="vgrpo pretrain sprites", description=description))
    elif name == "preference":
        from vgrpo.worlds.sprites.preference import PreferenceConfig, pretrain_preference

        description = "Train the sprites world's learned preference model from nothing: about ten minutes on one CPU core."
        pretrain_preference(parse(PreferenceConfig, args, prog="vgrpo pretrain preference", description=description))
    else:
        raise ValueError(
            f"nothing called {name!r} to pretrain; there is sprites, the model, and preference, its learned reward"
        )


def _bench(args: list[str]) -> None:
    from vgrpo.analysis.race.config import BenchConfig
    from vgrpo.commands.bench import bench

    description = "Race algorithms on the sprites world, taking turns in one process. Goes on where it was stopped."
    bench(parse(BenchConfig, args, prog="vgrpo bench", description=description))


def _plan(args: list[str]) -> None:
    from vgrpo.commands.plan import Machine, plan
    from vgrpo.models.published import PUBLISHED

    machine = {}
    for option in ("--gpus", "--gpu-memory", "--tflops"):
        args, value = take_option(args, option)
        if value is not None:
            machine[option.removeprefix("--").replace("-", "_")] = value
    description = (
        "Memory by part, network evaluations and time of a job, from configs alone. Options are those of vgrpo train, and "
        "--gpus 1, --gpu-memory 24GB, --tflops 300 (throughput to reckon with). --model also takes published models by name: "
        f"{', '.join(PUBLISHED)}."
    )
    job = parse_job(args, prog="vgrpo plan [RECIPE | run.yaml]", description=description)
    from vgrpo.training.stages import Curriculum

    if not isinstance(job, Curriculum):
        plan(job, Machine(**machine))
        return
    for number, stage in enumerate(job.stages, 1):
        print(f"stage {number}: {stage.name}")
        plan(stage.config, Machine(**machine))


def _serve_reward(args: list[str]) -> None:
    if not args or args[0].startswith("-"):
        raise ValueError("name the reward first, e.g. vgrpo serve-reward pickscore")
    from vgrpo.rewards.served.remote import ServeConfig, serve

    name = args.pop(0)
    serve(name, parse(ServeConfig, args, prog="vgrpo serve-reward NAME", description="Serve a reward to training runs."))


def _prompts(args: list[str]) -> None:
    from vgrpo.commands.prompts import PromptsConfig, write_prompts

    write_prompts(parse(PromptsConfig, args, prog="vgrpo prompts", description="Generate a file of training prompts."))


def _diagnose(args: list[str]) -> None:
    model = args.pop(0) if args and not args[0].startswith("-") else "sprites"
    from vgrpo.commands.diagnose import DiagnoseConfig, diagnose

    description = "Measure how noisy a model's surrogate likelihood is on its own images, before training it."
    default = DiagnoseConfig(model=model)
    config = parse(DiagnoseConfig, args, prog="vgrpo diagnose MODEL", description=description, default=default)
    diagnose(config.model, config)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "sample": _sample,
    "eval": _eval,
    "report": _report,
    "pretrain": _pretrain,
    "bench": _bench,
    "diagnose": _diagnose,
    "prompts": _prompts,
    "plan": _plan,
    "serve-reward": _serve_reward,
}
