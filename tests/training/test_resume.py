"""What a folder's state is, which run is the newest, and which settings a resumed run may change."""

import os
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from vgrpo.objectives import objective_class
from vgrpo.training.checkpoints.resume import FINISHED, FREE, check_changes, compare, is_free, newest_run, state_of
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import to_dict

BASE = Config()


def changed(name, value, config=BASE):
    """The settings with one other value, by its dotted name."""
    section, _, inner = name.partition(".")
    if inner:
        value = replace(getattr(config, section), **{inner: value})
    return replace(config, **{section: value})


FREE_CHANGES = [
    ("num_iterations", 100),
    ("checkpoint_every", 5),
    ("keep_checkpoints", 9),
    ("trackers", ("tensorboard",)),
    ("monitor", ("sharpness",)),
    ("stop_on_alarm", True),
    ("device", "cpu"),
    ("reward_device", "cpu"),
    ("memory.offload_rewards", True),
    ("memory.offload_copies", True),
    ("compile", True),
    ("attention", "native"),
    ("memory.gradient_checkpointing", True),
    ("memory.prompt_cache", Path("cache")),
    ("lora.init", Path("moved/lora")),
    ("eval.every", 3),
    ("eval.sample_every", 3),
    ("eval.batch_size", 8),
    ("rollout.batch_size", 8),
    ("update.micro_batch_size", 8),
    ("update.max_bad_steps", 8),
    ("output_dir", Path("elsewhere")),
]
BOUND_CHANGES = [
    ("seed", 1),
    ("model", "other"),
    ("adapter", "a:B"),
    ("prompts", "p.txt"),
    ("prompt_shares", ("a=1",)),
    ("eval_prompts", "p.txt"),
    ("reward", ("ocr",)),
    ("reward_weights", (2.0,)),
    ("finetune", "full"),
    ("precision", "fp32"),
    ("resolution", 64),
    ("ema_decay", 0.5),
    ("objective", objective_class("flowgrpo")()),
    ("advantage.std", "group"),
    ("rollout.num_prompts", 8),
    ("rollout.group_size", 8),
    ("rollout.num_steps", 8),
    ("rollout.solver", "euler"),
    ("rollout.guidance", 2.0),
    ("update.lr", 1e-5),
    ("update.optimizer", "adamw_8bit"),
    ("update.num_epochs", 2),
    ("lora.rank", 4),
    ("eval.num_prompts", 8),
    ("memory.weights", "bf16"),
]


@pytest.mark.parametrize(("name", "value"), FREE_CHANGES)
def test_what_does_not_decide_what_is_learned_may_change(name, value):
    (words,) = check_changes(to_dict(BASE), to_dict(changed(name, value)), allow=False)
    assert words.startswith(f"{name}: ")


@pytest.mark.parametrize(("name", "value"), BOUND_CHANGES)
def test_what_decides_may_not_change_unless_told(name, value):
    old, new = to_dict(BASE), to_dict(changed(name, value))
    with pytest.raises(ValueError, match=rf"{name}\S*: .+ -> .+--allow-changes.+ new run") as caught:
        check_changes(old, new, allow=False)
    assert "\n" not in str(caught.value)
    assert check_changes(old, new, allow=True)


def test_every_change_is_listed_with_old_and_new():
    new = changed("update.lr", 1e-5, changed("seed", 3, changed("num_iterations", 9)))
    with pytest.raises(ValueError, match=r"learned: seed: 0 -> 3; update.lr: None -> 1e-05\. ") as caught:
        check_changes(to_dict(BASE), to_dict(new), allow=False)
    assert "num_iterations" not in str(caught.value)
    assert check_changes(to_dict(BASE), to_dict(new), allow=True) == [
        "seed: 0 -> 3",
        "num_iterations: 75 -> 9",
        "update.lr: None -> 1e-05",
    ]


def test_another_algorithm_is_one_change():
    changes = compare(to_dict(BASE), to_dict(changed("objective", objective_class("flowgrpo")())))
    assert list(changes.values()) == ["objective.name: vgrpo -> flowgrpo"]


def test_more_iterations_change_a_learning_rate_that_falls_to_the_end():
    falling = changed("update.lr_schedule", "linear")
    with pytest.raises(ValueError, match="num_iterations: 75 -> 100"):
        check_changes(to_dict(falling), to_dict(changed("num_iterations", 100, falling)), allow=False)


def test_nothing_changes_between_a_file_and_what_it_is_read_as():
    assert check_changes(to_dict(BASE), to_dict(BASE), allow=False) == []
    assert compare({"a": (1, 2), "b": {"c": 1}}, {"a": [1, 2], "b": {"c": 1.0}}) == {}
    assert compare({"a": 1}, {"a": 1, "b": None}) == {"b": "b: (not set) -> None"}


def test_every_free_setting_exists_and_the_decided_ones_are_those_of_the_tests():
    def dotted(settings, prefix=""):
        for field in fields(settings):
            value = getattr(settings, field.name)
            yield from dotted(value, f"{field.name}.") if is_dataclass(value) else [f"{prefix}{field.name}"]

    known = set(dotted(BASE))
    assert {"num_iterations", "memory.vae_tiling"} <= known
    assert set(FREE) - known <= {"reward_timeout"}
    assert all(is_free(name, {}) for name, _ in FREE_CHANGES)


# Folders ------------------------------------------------------------------------------------------------------------------


def make(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
    return folder


@pytest.mark.parametrize(
    ("paths", "state"),
    [
        ([], "fresh"),
        ([".lock"], "fresh"),
        ([".lock", "config.yaml"], "begun"),
        (["config.yaml", "checkpoints/notes"], "begun"),
        (["config.yaml", "checkpoints/iteration-000000/manifest.json"], "stopped"),
        (["config.yaml", "checkpoints/damaged-iteration-000000/manifest.json"], "stopped"),
        (["config.yaml", "stage-1-a/checkpoints/iteration-000000/manifest.json"], "stopped"),
        (["config.yaml", "checkpoints/iteration-000004/manifest.json", FINISHED], "finished"),
    ],
)
def test_the_state_of_a_folder(tmp_path, paths, state):
    assert state_of(make(tmp_path / "run", *paths)) == state


def test_the_newest_unfinished_run_is_the_one_last_at_work(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--resume auto: there is no run under .*; start one"):
        newest_run(tmp_path)
    for age, name in enumerate(("a", "b", "c")):
        make(tmp_path / name, "config.yaml", "metrics.jsonl", "checkpoints/iteration-000001/manifest.json")
        for path in (tmp_path / name, *(tmp_path / name).iterdir()):
            os.utime(path, (1000 + age, 1000 + age))
    make(tmp_path / "notes", "readme")
    assert newest_run(tmp_path) == tmp_path / "c"
    os.utime(tmp_path / "a/metrics.jsonl", (2000, 2000))  # begun first, stopped last
    assert newest_run(tmp_path) == tmp_path / "a"
    make(tmp_path / "a", FINISHED)
    assert newest_run(tmp_path) == tmp_path / "c"
    for name in ("b", "c"):
        make(tmp_path / name, FINISHED)
    with pytest.raises(FileNotFoundError, match=r"all 3 runs under .* are finished"):
        newest_run(tmp_path)
