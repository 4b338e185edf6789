"""Runs from Python: silent, without a trace, and each as if it were alone in its process."""

import pytest
import torch
from conftest import NO_EVALUATION, TINY

from ssl_mi.app.api import last_reading, short_run

SHORT = [*TINY, *NO_EVALUATION, "evaluation.evaluations.capture=null", "trainer.max_epochs=1"]


def test_runs_in_one_process_do_not_touch_each_other_and_leave_and_print_nothing(capsys):
    first = short_run([*SHORT, "seed=3"])
    short_run([*SHORT, "seed=4"])
    again = short_run([*SHORT, "seed=3"])
    for one, other in zip(first.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not first.folder.exists()
    assert capsys.readouterr() == ("", "")


def test_what_was_measured_at_the_end_comes_by_metric_and_encoder():
    read = [one for one in SHORT if not one.startswith("evaluation.evaluations.geometry")]
    run = short_run(read)
    last = last_reading(run)
    assert {encoder for metric, encoder in last if metric == "effective_rank_h"} == {"trained", "random"}
    assert 1 <= last["effective_rank_h", "trained"] <= run.module.towers.h_dim


def test_a_mistake_is_raised_as_on_the_command_line():
    with pytest.raises(Exception, match="widht"):
        short_run([*SHORT, "encoder.widht=[8]"])
