"""Which checkpoint a run goes on from, and what is refused by name before anything is lost."""

import os
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Callback
from torch import nn

from ssl_mi.app import resuming
from ssl_mi.callbacks.checkpoints import ChangedOptimizer
from ssl_mi.callbacks.history import History


def content(**changes):
    """A checkpoint as Lightning writes it, at the end of epoch 5."""
    counts = {"ready": 5, "started": 5, "processed": 5, "completed": 4}
    module = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    whole = {
        "state_dict": module.state_dict(),
        "epoch": 4,
        "global_step": 20,
        "pytorch-lightning_version": "2.6.0",
        "loops": {
            "fit_loop": {"epoch_progress": {"current": counts}, "epoch_loop.batch_progress": {"current": counts}}
        },
        "callbacks": {},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
    }
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


def saved(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content(**changes), path)
    return path


# --- which file ----------------------------------------------------------------------------------------------------


def test_last_is_the_newest_whole_checkpoint_of_this_run_or_else_of_the_newest_beside_it(tmp_path, capsys):
    old = saved(tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt")
    new = saved(tmp_path / "runs" / "b" / "checkpoints" / "epoch=2-step=12.ckpt")
    broken = tmp_path / "runs" / "b" / "checkpoints" / "last.ckpt"
    broken.write_bytes(new.read_bytes()[:500])
    for age, path in enumerate((broken, new, old)):
        os.utime(path, (1e9 - age, 1e9 - age))
    own = tmp_path / "runs" / "c"
    found = resuming.candidates("last", own)
    assert found == [broken, new]
    assert resuming.newest_whole(found)[0] == new
    assert f"passed over: {broken}" in capsys.readouterr().err
    assert resuming.candidates(str(tmp_path / "runs" / "a"), own) == [old]
    assert resuming.candidates(str(new), own) == [new]
    assert resuming.candidates(None, own) == []
    shutil.copytree(old.parents[1], own)
    assert resuming.candidates("last", own) == [own / "checkpoints" / "last.ckpt"]


def test_a_job_that_its_scheduler_started_again_goes_on_by_itself(tmp_path, monkeypatch):
    own = saved(tmp_path / "checkpoints" / "last.ckpt")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert resuming.candidates(None, tmp_path) == [own]


@pytest.mark.parametrize("given", ["nowhere/last.ckpt", "last", "."])
def test_where_there_is_none_it_is_said(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"ckpt_path={given}"):
        resuming.candidates(given, tmp_path / "run")


# --- what is in it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict.fromkeys(("loops", "optimizer_states", "callbacks", "lr_schedulers"), ...), "it has no loops, optimizer"),
        ({"loops": ...}, "it has no loops, so it does not say where training was"),
        ({"pytorch-lightning_version": ...}, "it has no pytorch-lightning_version"),
        ({"pytorch-lightning_version": "99.0.0"}, "written by Lightning 99.0.0 .* install pytorch-lightning>=99.0.0"),
        ({"pytorch-lightning_version": "new"}, "version='new' in it is no version"),
        ({"epoch": "four"}, "damaged: epoch in it"),
        ({"loops": {"fit_loop": 3}}, "damaged: loops in it"),
        ({"callbacks": [1]}, "damaged: callbacks in it"),
        ({"optimizer_states": [{"state": {0: 3}, "param_groups": []}]}, "damaged: optimizer_states in it"),
        ({"state_dict": {"weight": [1.0]}}, "'state_dict' is no mapping of names to tensors"),
        ({"state_dict": ...}, "no checkpoint of a run"),
    ],
)
def test_what_is_not_all_there_is_named_and_never_half_loaded(tmp_path, changes, message):
    path = saved(tmp_path / "a.ckpt", **changes)
    with pytest.raises(ValueError, match=message) as error:
        resuming.check_whole(resuming.read(path), path)
    assert str(path) in str(error.value)


def test_a_whole_one_is_accepted(tmp_path):
    path = saved(tmp_path / "a.ckpt")
    checkpoint = resuming.read(path)
    resuming.check_whole(checkpoint, path)
    resuming.check_fits(checkpoint, nn.Linear(3, 2), path)


def test_a_state_that_a_callback_cannot_take_is_named_and_the_callback_is_as_it_was():
    history = History()
    checkpoint = {"callbacks": {history.state_key: {"epochs": 5}}}
    with pytest.raises(ValueError, match=r"the state of History in it cannot be taken over \(TypeError"):
        resuming.check_callbacks(checkpoint, [Callback(), history], "a.ckpt")
    assert history.epochs == []


def test_weights_of_another_architecture_are_listed_the_first_of_many():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    state = {"0.weight": torch.zeros(5, 3), "0.bias": torch.zeros(2), "old.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="does not fit this run") as error:
        resuming.check_fits({"state_dict": state}, module, "a.ckpt")
    text = str(error.value)
    assert "missing in the file: 1.weight, 1.bias" in text
    assert "unknown to this run: old.weight" in text
    assert "of another shape: 0.weight [5, 3] for [2, 3]" in text
    module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(20)))
    with pytest.raises(ValueError, match="and 32 more"):
        resuming.check_fits({"state_dict": {}}, module, "a.ckpt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"hello world\n", b"", b"PK\x03\x04 half of a file", b"\x80\x04N."])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt (cannot be read as a|is no) checkpoint"):
        resuming.read(path)


class Code:
    """Whoever unpickles this runs it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "ran"
    path = saved(tmp_path / "a.ckpt", hyper=Code(mark))
    with pytest.raises(ValueError, match=r"code in files is never run: .*(?i:unsupported)") as error:
        resuming.read(path)
    assert not mark.exists()
    assert "weights_only" not in str(error.value)  # torch advises to turn the protection off; we do not
    torch.load(path, weights_only=False)
    assert mark.exists()  # so it would have run


# --- whether it is the same run ------------------------------------------------------------------------------------

CONFIG = {
    "seed": 0,
    "data": {"batch_size": 28, "seed": 0, "num_workers": 0},
    "objective": {"_target_": "SimCLR", "temperature": 0.5},
    "optimizer": {"weight_decay": 0.1},
    "trainer": {"max_epochs": 4, "devices": 1},
    "teacher": None,
    "run_dir": "a",
}


def against(overrides, allowed=None):
    cfg = OmegaConf.merge(CONFIG, OmegaConf.from_dotlist(overrides), {"resume_changes": allowed})
    return resuming.check_same_run({"ssl_mi": {"config": CONFIG}}, cfg, "a.ckpt")


def test_what_differs_from_the_run_that_is_resumed_is_named_and_refused_unless_it_is_allowed():
    other = ["objective._target_=MINE", "seed=1", "data.seed=1", "optimizer.weight_decay=0.3", "trainer.max_epochs=8"]
    with pytest.raises(ValueError, match="of a run with another configuration") as error:
        against(other)
    for text in ("seed: 0 there, 1 here", "_target_: SimCLR there, MINE here", "weight_decay: 0.1 there, 0.3 here"):
        assert text in str(error.value)
    assert "data.seed" not in str(error.value)  # a copy of seed
    with pytest.raises(ValueError, match=r"trainer\.max_epochs: 4 there, 8 here"):
        against(["trainer.max_epochs=8", "data.batch_size=14"], ["data"])
    assert against(["trainer.max_epochs=8"], ["trainer.max_epochs"]) == ["trainer.max_epochs"]
    assert "seed" in against(other, "allow")


def test_what_changes_nothing_of_the_training_may_differ():
    assert against(["run_dir=b", "trainer.devices=2", "data.num_workers=4", "teacher=null"]) == []


def test_a_checkpoint_that_holds_no_configuration_is_resumed_only_where_that_is_allowed():
    with pytest.raises(ValueError, match=r"does not hold the configuration.*resume_changes=allow"):
        resuming.check_same_run({}, OmegaConf.create({"resume_changes": None}), "a.ckpt")
    assert resuming.check_same_run({}, OmegaConf.create({"resume_changes": "allow"}), "a.ckpt") == []


def test_an_allowed_change_of_the_optimizer_is_used_and_not_only_reported(run, tmp_path):
    run("trainer.max_epochs=1")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    changed = ["optimizer.weight_decay=0.3", "optimizer.lr=0.01", "schedule=constant"]
    resumed = run(
        "trainer.max_epochs=2", f"ckpt_path={last}", "resume_changes=allow", f"run_dir={tmp_path / 'other'}", *changed
    )
    assert any(isinstance(c, ChangedOptimizer) for c in resumed.trainer.callbacks)
    first = resumed.trainer.optimizers[0].param_groups[0]
    assert (first["weight_decay"], first["lr"]) == (0.3, pytest.approx(0.01))
