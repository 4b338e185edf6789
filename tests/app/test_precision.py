"""`trainer.precision=fastest`: measured once, recorded, and of no influence on the numbers of a run."""

import json

import pytest
import torch

from ssl_mi.app import precision
from ssl_mi.app.train import prepare


def choose(monkeypatch, ratio):
    """Steps in bfloat16 that are `ratio` times as fast, after the real measurement."""
    measure, calls = precision._seconds, []

    def seconds(data, module, device):
        found, images = measure(data, module, device)
        calls.append(found)
        return {precision.EXACT: ratio, precision.MIXED: 1.0}, images

    monkeypatch.setattr(precision, "_seconds", seconds)
    return calls


def weights(run):
    return {k: v.clone() for k, v in run.module.state_dict().items()}


@pytest.mark.parametrize(("ratio", "choice"), [(1.05, "32-true"), (2.0, "bf16-mixed")])
def test_a_run_with_the_precision_that_was_measured_is_the_run_with_that_precision(
    ratio, choice, run, tmp_path, monkeypatch
):
    plain = run(f"trainer.precision={choice}", "trainer.max_epochs=1", f"run_dir={tmp_path / 'plain'}")
    calls = choose(monkeypatch, ratio)
    made = run("trainer.precision=fastest", "trainer.max_epochs=1")
    assert len(calls) == 1
    assert min(calls[0].values()) > 0
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(made)[name]), name
    told = json.loads((tmp_path / "run" / "report.json").read_text())["precision"]
    assert told.startswith(f"{choice} (measured on ")
    assert "32-true 1050 ms" in told or "32-true 2000 ms" in told


def test_a_resumed_run_keeps_the_choice_without_measuring(run, tmp_path, monkeypatch):
    choose(monkeypatch, 2.0)
    run("trainer.precision=fastest", "trainer.max_epochs=1")
    calls = choose(monkeypatch, 0.5)  # the machine is another now
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed = run(
        "trainer.precision=fastest", "trainer.max_epochs=2", f"ckpt_path={last}", f"run_dir={tmp_path / 'resumed'}",
        "resume_changes=[trainer.max_epochs]",
    )  # fmt: skip
    assert calls == []
    assert resumed.trainer.precision == "bf16-mixed"


def test_several_processes_are_refused_by_name(configure):
    cfg = configure("trainer.precision=fastest", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    with pytest.raises(ValueError, match="2 could choose differently: set"):
        prepare(cfg)
