"""What a model cannot do is said before training."""

import warnings

import pytest
from helpers import pipelines
from helpers.tiny import red, tiny_config, tiny_pipeline

from vgrpo.commands.main import main
from vgrpo.models.loading import make_policy
from vgrpo.training.start import Given, start_run

LONG = "a red heart " * 10


@pytest.mark.parametrize(
    ("make", "resolution", "message"),
    [
        (tiny_pipeline, 40, "StableDiffusion3Pipeline draws multiples of 32 pixels per side; 32 is the nearest"),
        (pipelines.flux, 18, "FluxPipeline draws multiples of 4 pixels per side; 16 is the nearest"),
        (pipelines.flux, "18x32", "FluxPipeline draws multiples of 4 pixels per side; 16x32 is the nearest"),
        (pipelines.sdxl, 2, "StableDiffusionXLPipeline draws multiples of 4 pixels per side; 4 is the nearest"),
    ],
)
def test_a_resolution_that_cannot_be_drawn(make, resolution, message):
    with pytest.raises(ValueError, match=f"resolution={resolution}: a {message}"):
        make_policy(make(), max_sequence_length=16, resolution=resolution)


def test_a_resolution_beyond_the_networks_places():
    with pytest.raises(ValueError, match="resolution=128x64: this network knows places up to 64 pixels per side"):
        make_policy(tiny_pipeline(), resolution="128x64")


@pytest.mark.parametrize(
    ("make", "num_frames", "message"),
    [
        (pipelines.wan, 16, r"WanPipeline draws 4k \+ 1 frames; 17 is the nearest"),
        (pipelines.wan, -3, r"WanPipeline draws 4k \+ 1 frames; 1 is the nearest"),
        (pipelines.flux, 17, "FluxPipeline draws single images; leave it out"),
    ],
)
def test_a_number_of_frames_that_cannot_be_drawn(make, num_frames, message):
    with pytest.raises(ValueError, match=f"num_frames={num_frames}: a {message}"):
        make_policy(make(), max_sequence_length=16, resolution=16, num_frames=num_frames)


@pytest.mark.parametrize("make", [pipelines.stable_diffusion, pipelines.flux])
def test_prompts_that_are_cut_off_are_counted(make, tmp_path):
    config = tiny_config(tmp_path / "run", max_sequence_length=16, resolution=16)
    with pytest.warns(UserWarning, match=r"1 of 2 prompts are longer than the \d+ tokens"):
        start_run(config, Given(pipeline=make(), reward=red, prompts=["a red heart", LONG])).close()


@pytest.mark.parametrize(
    "line", ["sample --num-images 1 --num-steps 1", "eval --reward jpeg_compressibility --eval.num-images 1 --eval.num-steps 1"]
)
def test_they_are_counted_also_where_nothing_is_trained(line, tmp_path):
    pipelines.flux().save_pretrained(tmp_path / "flux")
    (tmp_path / "prompts.txt").write_text(f"a red heart\n{LONG}\n")
    line += f" --model {tmp_path}/flux --prompts {tmp_path}/prompts.txt --resolution 16 --max-sequence-length 16"
    with pytest.warns(UserWarning, match=r"1 of 2 prompts are longer than the \d+ tokens"):
        assert main([*line.split(), "--output-dir", str(tmp_path / "out")]) == 0


def test_an_encoder_that_reads_all_says_nothing(tmp_path):
    config = tiny_config(tmp_path / "run", max_sequence_length=128, resolution=16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_run(config, Given(pipeline=pipelines.flux(), reward=red, prompts=["a red heart", LONG])).close()
