"""Overrides are held against what there is: what is misspelt is named, what a class takes is accepted."""

import functools

import pytest
from conftest import CONF
from omegaconf import OmegaConf, open_dict

from ssl_mi.app.composition import Sources
from ssl_mi.app.config_checks import Parameters, UnknownOverride, accepted, check_arguments, parameters_of
from ssl_mi.app.train import compose

SOURCES = Sources(CONF)


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("trainer.max_epoch=3", "did you mean 'trainer.max_epochs'"),
        ("optimizer.learning_rate=1", "there is no key 'optimizer.learning_rate'; torch.optim.AdamW takes params, lr"),
        ("optimiser=sgd", "did you mean 'optimizer'"),
        ("max_epochs=3", "did you mean 'trainer.max_epochs'"),  # the right word in the wrong place
        ("encoder=resnet81", "did you mean 'resnet18'"),
        ("objective=simclr,mnie", "did you mean 'mine'"),  # the second of a sweep
        ("~objektive", "did you mean 'objective'"),
        ("augmentation.views.0.ops.99.strength=1", "there is no key 'augmentation.views.0.ops.99.strength'"),
        ("augmentation.views.0.ops.2.strenght=1", "did you mean 'augmentation.views.0.ops.2.strength'"),
        ("checkpoint.every_n_train_step=4", "did you mean 'checkpoint.every_n_train_steps'"),
        ("optimizer.beta=1", "did you mean 'optimizer.betas'"),
        ("towers.projector.dimms=[8]", "did you mean 'towers.projector.dims'"),
        ("towers.projector={dimms: [8]}", "did you mean 'towers.projector.dims'"),
        ("evaluation.evaluations.mi.projections.cca2.dims=1", "did you mean 'evaluation.evaluations.mi.projections.c"),
        ("module.optimizer.betas=[.9,.9]", "'module.optimizer' is a copy of ${optimizer}, so set 'optimizer.betas'"),
        ("towers.together=false", "did you mean 'towers.joint_forward'"),  # as it was called before
        ("objective.critic.temperature=0.1", "did you mean 'objective.temperature'"),
        ("just a word", "write key=value"),
        ("teacher=null", "there are: ema, none; ~teacher leaves it out"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest_that_does(override, nearest):
    with pytest.raises(UnknownOverride) as error:
        accepted(SOURCES, [override], sweep=True)
    assert nearest in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", sorted((CONF / "augmentation").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_augmentation_can_be_chosen_on_the_command_line(path):
    of_pairs = "PairViews" in path.read_text(encoding="utf-8")  # whose views come one by one
    accepted(SOURCES, [f"augmentation={path.stem}", f"augmentation.views.0.{'ops=[]' if of_pairs else 'count=2'}"])


@pytest.mark.parametrize(
    ("objective", "key", "today"),
    [
        ("moco", "objective.size", "objective.queue"),
        ("densecl", "objective.parts.dense.size", "objective.parts.dense.queue"),
    ],
)
def test_the_size_of_a_queue_is_refused_with_its_name_today(objective, key, today):
    with pytest.raises(UnknownOverride, match=f"there is no key '{key}': did you mean '{today}'"):
        accepted(SOURCES, [f"objective={objective}", f"{key}=64"])


def test_a_misspelt_option_lists_all_there_are():
    with pytest.raises(UnknownOverride, match=r"there are: .*mine.*simclr"):
        accepted(SOURCES, ["objective=nothing_like_it"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["augmentation.views.0.ops.2.strength=0.5"],
        ["objective=simclr,mine", "seed=1,2,3"],
        ["objective=glob(*)", "optimizer.lr=1e-3,1e-4"],
        ["teacher=none,ema", "experiment=infonce_cifar,simclr_cifar"],
        ["+new=1", "++trainer.new=2", "~evaluation.evaluations.knn", "~logger"],
        ["experiment=mine_cifar", "data=image_folder", "data.root=somewhere"],
        ["hydra.run.dir=elsewhere", "towers=independent", "towers.towers.0.projector.dims=[8,4]"],
        ["experiment=mine_cifar", "objective.critic.hidden=[8]"],  # a part that the experiment chooses
    ],
    ids=" ".join,
)
def test_what_exists_is_accepted_as_it_is(overrides):
    assert accepted(SOURCES, overrides, sweep=True) == overrides


@pytest.mark.parametrize(
    ("overrides", "place", "value"),
    [
        (["checkpoint.every_n_train_steps=4"], "checkpoint.every_n_train_steps", 4),
        (["optimizer.betas=[.9,.95]"], "optimizer.betas", [0.9, 0.95]),  # of a partial part
        (["trainer.fast_dev_run=true"], "trainer.fast_dev_run", True),
        (["towers.projector={batch_norm: false, bias: false}"], "towers.projector.bias", False),
        (["towers.projector.bias=false"], "towers.projector.bias", False),
        (["experiment=mine_cifar", "objective_optimizer.eps=1e-3"], "objective_optimizer.eps", 1e-3),
        (
            ["objective_optimizer._target_=torch.optim.SGD", "objective_optimizer.nesterov=true"],
            "objective_optimizer.nesterov",
            True,
        ),
        (["optimizer._target_=torch.optim.Adagrad", "optimizer.lr_decay=1"], "optimizer.lr_decay", 1),
        (
            ["evaluation.evaluations.mi.projections.a={_target_: ssl_mi.information.projections.linear.PCA, dim: 3}"],
            "evaluation.evaluations.mi.projections.a.dim",
            3,
        ),
        (
            ["evaluation.evaluations={knn: null, again: {_target_: ssl_mi.evaluation.probes.KNN, k: 3}}"],
            "evaluation.evaluations.again.k",
            3,
        ),
        (["ckpt_path=runs/epoch=2-step=12.ckpt"], "ckpt_path", "runs/epoch=2-step=12.ckpt"),
    ],
    ids=str,
)
def test_what_the_class_named_by_target_takes_is_a_key(overrides, place, value):
    assert OmegaConf.select(compose(overrides), place) == value


def test_a_key_of_the_chosen_option_exists_and_of_another_does_not():
    accepted(SOURCES, ["objective=mine", "objective.critic.hidden=[8]"])
    with pytest.raises(UnknownOverride, match=r"objective\.critic\.hidden"):
        accepted(SOURCES, ["objective=simclr", "objective.critic.hidden=[8]"])


def test_a_key_must_fit_every_option_of_a_sweep():
    with pytest.raises(UnknownOverride, match=r"optimizer\.eps.*torch\.optim\.SGD takes"):
        accepted(SOURCES, ["optimizer=adamw,sgd", "optimizer.eps=1e-3"], sweep=True)
    assert accepted(SOURCES, ["optimizer=adam,adamw", "optimizer.eps=1e-3,1e-4"], sweep=True) == [
        "optimizer=adam,adamw",
        "++optimizer.eps=1e-3,1e-4",
    ]


def test_a_number_inside_a_list_arrives():
    assert compose(["augmentation.views.0.ops.2.strength=0.125"]).augmentation.views[0].ops[2].strength == 0.125


# What classes take


class Base:
    def __init__(self, depth=1):
        pass


class Child(Base):
    def __init__(self, width, **rest):
        super().__init__(**rest)


class Anything:
    def __init__(self, width, **rest):
        pass


def function(first, *, second=2):
    pass


@pytest.fixture
def parameters(monkeypatch):
    """The parameters of an object of this file."""
    from ssl_mi.app import config_checks

    def of(thing):
        monkeypatch.setattr(config_checks, "_load", lambda target: thing)
        return parameters_of("any", "part")

    return of


def test_a_class_that_hands_its_keywords_on_takes_what_its_base_takes(parameters):
    assert parameters(Child) == Parameters(("width", "depth"), open=False)
    assert parameters(Base) == Parameters(("depth",), open=False)
    assert parameters(Anything) == Parameters(("width",), open=True)
    assert parameters(function) == Parameters(("first", "second"), open=False)
    assert parameters(functools.partial(function, 1)) == Parameters(("second",), open=False)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of configurations with an encoder that takes anything, and the module that it is in."""
    (tmp_path / "anything.py").write_text("class Anything:\n    def __init__(self, width, **rest): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    conf = tmp_path / "conf"
    (conf / "encoder").mkdir(parents=True)
    (conf / "encoder" / "anything.yaml").write_text("_target_: anything.Anything\n")
    return conf


def test_a_class_with_open_keywords_takes_any_but_a_misspelt_one(own):
    sources = Sources.default(own)
    assert accepted(sources, ["encoder=anything", "encoder.flavour=1"])[1] == "++encoder.flavour=1"
    with pytest.raises(UnknownOverride, match=r"did you mean 'encoder\.width'\?; \+\+encoder\.widht insists"):
        accepted(sources, ["encoder=anything", "encoder.widht=1"])
    assert accepted(sources, ["encoder=anything", "++encoder.widht=1"])[1] == "++encoder.widht=1"


def test_a_file_that_another_hides_is_refused(own):
    (own / "encoder" / "mlp.yaml").write_text("_target_: anything.Anything\n")
    with pytest.raises(ValueError, match=r"encoder/mlp\.yaml is hidden by .*conf/encoder/mlp\.yaml"):
        compose([], config_dir=own)
    (own / "encoder" / "mlp.yaml").write_text((CONF / "encoder" / "mlp.yaml").read_text())
    assert compose(["encoder=anything"], config_dir=own).encoder._target_ == "anything.Anything"


def test_an_argument_that_a_part_does_not_take_is_named_with_its_place():
    cfg = compose([])
    cfg.optimizer = OmegaConf.create({"_target_": "torch.optim.AdamW", "_partial_": True, "lrr": 1})
    with pytest.raises(ValueError, match=r"takes no 'lrr' \(optimizer\.lrr\): did you mean 'lr'\?; remove it with"):
        check_arguments(cfg)


def test_a_key_of_a_file_by_its_old_name_is_refused_with_the_new_one():
    cfg = compose([])
    with open_dict(cfg):
        cfg.towers.together = False
    with pytest.raises(ValueError, match=r"takes no 'together' \(towers.together\): did you mean 'joint_forward'"):
        check_arguments(cfg)
