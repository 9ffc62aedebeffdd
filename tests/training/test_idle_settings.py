"""What a run's only optimiser step makes no use of is said at its start; how far it is from the untrained model is told."""

import json

import pytest
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import VGRPO, RolloutConfig, UpdateConfig, train
from vgrpo.objectives import FlowGRPO
from vgrpo.recipes import RECIPES
from vgrpo.training.loop import train as train_with_listeners
from vgrpo.training.record.events import Noticed
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum
from vgrpo.training.start import Given, idle_settings


def test_a_clip_that_does_nothing_is_told_of(tmp_path):
    heard = []
    config = tiny_config(tmp_path / "run", num_iterations=1, objective=VGRPO(num_probes=2, ratio_clip=0.02, kl_weight=0.3))
    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    train_with_listeners(config, given, listeners=[heard.append])
    told = [event.text for event in heard if isinstance(event, Noticed) and "does nothing" in event.text]
    assert [text.split()[0] for text in told] == ["objective.ratio_clip=0.02", "objective.kl_weight=0.3"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"objective": VGRPO()}, []),
        ({"objective": FlowGRPO()}, ["objective.ratio_clip=0.0001"]),
        ({"objective": VGRPO(ratio_clip=0.02), "update": UpdateConfig(num_minibatches=2)}, []),
        ({"objective": VGRPO(ratio_clip=0.02), "update": UpdateConfig(num_epochs=2)}, []),
        ({"objective": VGRPO(ratio_clip=0.02), "rollout": RolloutConfig(lag=1)}, []),
    ],
)
def test_only_where_it_does_nothing(changes, names):
    assert [text.split()[0] for text in idle_settings(Config(**changes))] == names


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_has_one(name):
    recipe = RECIPES[name]
    for config in [stage.config for stage in recipe.stages] if isinstance(recipe, Curriculum) else [recipe]:
        assert idle_settings(config) == []


@pytest.mark.parametrize("objective", [VGRPO(num_probes=2, ref_weight=0.5), FlowGRPO(kl_weight=0.01)], ids=["forward", "path"])
def test_the_distance_to_the_untrained_model_grows_from_0(tmp_path, objective):
    config = tiny_config(tmp_path / "run", num_iterations=3, objective=objective)
    train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["kl"] for line in lines] == [0, 0, 0]
    assert lines[0]["ref_kl"] == 0 < lines[1]["ref_kl"] < lines[2]["ref_kl"]
