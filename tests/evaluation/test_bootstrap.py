"""Confidence intervals against plain loops and against theory."""

import math
import random
import statistics

import pytest
import torch

from vgrpo.core.seeds import generator
from vgrpo.core.types import Prompt
from vgrpo.evaluation.bootstrap import NUM_RESAMPLES, estimates, over_categories
from vgrpo.evaluation.core import Judged
from vgrpo.evaluation.pictures import pictures_of
from vgrpo.evaluation.summary import summarise

COUNTS = {"counting": 9, "colors": 6}
PROMPTS = [Prompt(text=str(index), metadata={"tag": tag}) for tag, count in COUNTS.items() for index in range(count)]
PICTURES = pictures_of(PROMPTS, 3)


def scores(seed):
    values = torch.rand(len(PICTURES), generator=torch.Generator().manual_seed(seed))
    values[4] = torch.nan
    return values


def resampled(values, tag):
    """Means of the resamples of a category's prompts, image by image."""
    images = {}
    for value, picture in zip(values.tolist(), PICTURES, strict=True):
        if picture.tag == tag:
            images.setdefault(picture.index, []).append(value)
    prompts = list(images.values())
    drawn = torch.randint(len(prompts), (NUM_RESAMPLES, len(prompts)), generator=generator("bootstrap", tag)).tolist()
    return [statistics.fmean(v for index in row for v in prompts[index] if not math.isnan(v)) for row in drawn]


def percentile(values, share):
    """By linear interpolation between the sorted values."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = math.floor(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(values) - 1)] - ordered[low])


def check(entry, values):
    assert entry["low"] == pytest.approx(percentile(values, 0.025), abs=1e-6)
    assert entry["high"] == pytest.approx(percentile(values, 0.975), abs=1e-6)


def test_intervals_equal_a_plain_loop():
    values = scores(0)
    found = estimates(values, PICTURES)
    plain = {tag: resampled(values, tag) for tag in COUNTS}
    for tag in COUNTS:
        check(found[tag].entry(), plain[tag])
    check(over_categories(found).entry(), [statistics.fmean(pair) for pair in zip(*plain.values(), strict=True)])
    known = [v for v, picture in zip(values.tolist(), PICTURES, strict=True) if picture.tag == "counting" and v == v]
    assert found["counting"].entry()["mean"] == pytest.approx(statistics.fmean(known), abs=1e-6)


def judged(values):
    return Judged(rewards=values[:, None], failed=torch.zeros(len(values), 1, dtype=torch.bool))


def test_the_difference_is_paired():
    base, other = scores(0), scores(1)
    content = summarise({"base": judged(base), "tuned": judged(other)}, PICTURES, ["mine"])
    change = content["intervals"]["mine"]["change"]
    for tag in COUNTS:
        pairs = zip(resampled(base, tag), resampled(other, tag), strict=True)
        check(change["by_category"][tag], [after - before for before, after in pairs])
    shifted = {"base": judged(base), "tuned": judged(base + 0.25)}
    found = summarise(shifted, PICTURES, ["mine"])["intervals"]["mine"]
    assert found["base"]["overall"]["high"] - found["base"]["overall"]["low"] > 0.05
    for name in ("mean", "low", "high"):  # every prompt gains the same, so there is no doubt about the gain
        assert found["change"]["overall"][name] == pytest.approx(0.25, abs=1e-6)


def test_pickscore_has_the_numbers_that_papers_print_too():
    found = summarise({"base": judged(scores(0))}, PICTURES, ["pickscore"])["intervals"]
    own, published = (found[name]["base"]["overall"] for name in ("pickscore", "pickscore x 26, as published"))
    for name in ("mean", "low", "high"):
        assert published[name] == pytest.approx(26 * own[name], rel=1e-4)


def test_the_interval_is_as_wide_as_theory_says_for_images_of_one_prompt_that_are_alike():
    rng = random.Random(0)
    means = [rng.gauss(0, 1) for _ in range(400)]
    pictures = pictures_of([Prompt(text=str(index)) for index in range(400)], 4)
    entry = estimates(torch.tensor([means[picture.index] for picture in pictures]), pictures)["all"].entry()
    error = statistics.stdev(means) / 20  # of 400 prompts, not of 1600 images
    assert entry["high"] - entry["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_one_prompt_gives_no_interval():
    pictures = pictures_of([*PROMPTS, Prompt(text="lone", metadata={"tag": "lone"})], 1)
    found = estimates(torch.rand(len(pictures)), pictures)
    assert found["lone"].entry()["low"] is found["lone"].entry()["high"] is None
    assert found["lone"].entry()["mean"] is not None
    assert over_categories(found).entry()["low"] is None
