"""The sweep of what views share, and how it is judged."""

import math

import pytest
import torch

import good_views
from good_views import ALL, SWEET, VIEWS
from ssl_mi.data.known.sprites import FACTORS, Sprites


def rows(sweet, other=0.3):
    made = []
    for seed in range(3):
        for place, name in enumerate(VIEWS):
            accuracy = (sweet if name == SWEET else other) + 0.01 * seed
            kept = {f"nats_{f}": 0.1 for f in FACTORS}
            made.append(
                {"views": name, "seed": seed, "encoder": "trained", "nats": float(place), "accuracy": accuracy, **kept}
            )
        made.append({**made[-1], "views": "nothing", "encoder": "random"})
    return made


def test_the_sweep_climbs_from_nothing_through_just_the_task_to_everything():
    nats = [Sprites(shared=shared, partly=partly).nats for shared, partly in VIEWS.values()]
    assert nats == sorted(nats)
    assert (nats[0], nats[-1]) == (0, pytest.approx(math.log(5 * 6 * 3 * 9 * 3 * 6)))
    assert nats[list(VIEWS).index(SWEET)] == pytest.approx(good_views.TASK_NATS)
    assert list(VIEWS)[-1] == ALL


def test_the_task_is_which_of_15_shapes_and_sizes_it_is():
    factors = {
        "shape": torch.arange(5).repeat(3),
        "size": torch.arange(3).repeat_interleave(5),
        "colour": torch.zeros(15),
    }
    assert sorted(good_views.task_label(factors).tolist()) == list(range(15))


def test_it_passes_where_the_middle_beats_both_ends_and_fails_where_it_does_not():
    assert all(v.passed and v.value == pytest.approx(0.4) for v in good_views.verdicts(rows(0.7)))
    assert not any(v.passed for v in good_views.verdicts(rows(0.3)))


def test_rows_become_a_picture_and_words(tmp_path):
    good_views.picture(rows(0.7), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 20_000
    assert "| shape, size | 4.000 | 0.710 ± 0.010 |" in good_views.seen(rows(0.7))


def test_one_training_says_what_its_views_share_and_reads_the_random_encoder_once():
    trained, random = good_views.measure({"views": "nothing"}, 0, quick=True)
    assert trained["nats"] == 0
    assert set(random) == {"encoder", "accuracy", *(f"nats_{name}" for name in FACTORS)}
    assert 0 < trained["accuracy"] < 1
