"""The bar is one line that counts epochs from 1."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from ssl_mi.app.closing import fact_lines, print_table
from ssl_mi.callbacks.evaluate import Evaluate
from ssl_mi.callbacks.progress import ProgressLine, line_of
from ssl_mi.evaluation.measurement import Measurement


def trainer(rows=()):
    evaluate = Evaluate({})
    evaluate.rows = list(rows)
    return SimpleNamespace(
        callback_metrics={"train/loss_step": torch.tensor(4.6254), "train/bound_nats": torch.tensor(1.611)},
        num_training_batches=15,
        max_epochs=16,
        current_epoch=0,
        datamodule=SimpleNamespace(batch_size=256),
        callbacks=[evaluate],
    )


def row(metric, headline, value, **rest):
    return Measurement("mi", 0, "val", "trained", metric, metric, value, headline=headline, **rest)


ROWS = [
    row("a", "ksg_nats", 0.5),
    row("b", "bound_nats", 1.0, ceiling=6.213),
    row("c", "linear_probe", 0.862),
    row("a", "ksg_nats", 1.512),
]


def test_the_line_has_rate_loss_bound_with_ceiling_and_the_last_information_and_probe():
    text = line_of(trainer(ROWS), done=5, seconds=0.5)
    assert text == "epoch 1/16  5/15  2560 im/s  loss 4.625  bound 1.61/6.21  MI 1.51  probe 86%"
    assert len(text) < 80
    assert line_of(trainer(), done=0, seconds=0.0) == "epoch 1/16  0/15  loss 4.625  bound 1.61"


@pytest.mark.parametrize("width", [30, 80, 120])
def test_it_is_one_line_of_any_terminal(width):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, markup=False, emoji=False)
    bar = ProgressLine(console)
    of = trainer(ROWS)
    bar.on_train_start(of, None)
    bar.on_train_epoch_start(of)
    bar.on_train_batch_end(of, None, None, None, 4)
    bar.shown.refresh()
    bar.close()
    shown = [line for line in console.render_lines("x")]  # noqa: C416
    assert shown
    assert file.getvalue().count("\n") <= 1


def test_facts_fold_at_words_and_hang_below_their_text():
    lines = fact_lines({"views": "word " * 40, "long": "x" * 200, "none": ""}, width=80)
    assert all(len(text) <= 61 for name, text in lines if "x" not in text)
    assert [name for name, _ in lines if name] == ["views", "long", "none"]
    assert " ".join(text for _, text in lines[: len(lines) - 2]).split() == ["word"] * 40


def test_a_table_is_as_wide_as_its_cells(capsys):
    console = Console(width=20, markup=False, emoji=False, highlight=False)
    print_table(console, ["a", "[b]"], [["one", "2 (1..3)"], ["three", ""]])
    assert capsys.readouterr().out.splitlines() == ["a      [b]", "---------------", "one    2 (1..3)", "three"]
