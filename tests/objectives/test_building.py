"""The width of an embedding is given once: by the towers, or to the objective in a loop of one's own."""

import inspect
import pickle
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ssl_mi import JointEmbedding, objectives
from ssl_mi.information.variational.critics import Bilinear
from ssl_mi.networks import MLP, MLPEncoder, Siamese
from ssl_mi.objectives import (
    BYOL,
    MINE,
    NNCLR,
    DeepClusterV2,
    DeepInfoMaxLocal,
    Infomax,
    MoCo,
    Objective,
    SimCLR,
    Sum,
    SwAV,
    TiCo,
)

CONF = Path(__file__).parents[2] / "conf" / "objective"
STATEFUL = [MINE, BYOL, NNCLR, MoCo, SwAV, TiCo, DeepInfoMaxLocal]


def towers(width=6):
    return Siamese(MLPEncoder((3, 2, 2), [8]), MLP(dims=[width]))


def module(objective):
    return JointEmbedding(towers(), objective, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1))


@pytest.mark.parametrize("kind", STATEFUL, ids=lambda kind: kind.__name__)
def test_a_width_given_later_builds_what_a_width_given_at_once_builds(kind):
    torch.manual_seed(0)
    at_once = kind(dim=6)
    torch.manual_seed(0)
    later = kind().build(6)
    assert [name for name, _ in at_once.named_parameters()] == [name for name, _ in later.named_parameters()]
    for name, value in at_once.state_dict().items():
        assert torch.equal(later.state_dict()[name], value), name


@pytest.mark.parametrize("objective", [SimCLR(temperature=0.3), MINE(), lambda dim: MINE(dim), MINE, MINE(dim=6)])
def test_a_module_takes_an_objective_a_class_or_a_function_of_the_width(objective):
    assert module(objective).objective.dim == 6


def test_an_objective_built_for_another_width_is_refused_by_name():
    with pytest.raises(ValueError, match=r"MINE\(dim=8\) got embeddings of width 6: give dim=6, or leave dim out"):
        module(MINE(dim=8))
    with pytest.raises(ValueError, match=r"SimCLR\(dim=8\) got embeddings of width 6"):
        module(SimCLR(dim=8))


@pytest.mark.parametrize("kind", STATEFUL, ids=lambda kind: kind.__name__)
def test_an_objective_that_waits_for_its_width_says_so_when_it_is_used(kind):
    views = [torch.randn(4, 6) for _ in range(2)]
    target = [torch.randn(4, 6) for _ in range(2)]
    beside = {"maps": [[torch.randn(4, 3, 6)]] * 2} if "maps" in kind.requires else {}
    with pytest.raises(AttributeError, match=rf"The width.*is not known yet: give {kind.__name__}\(dim=...\)"):
        kind()(views, views if beside else target, **beside)


def test_an_attribute_that_a_built_objective_does_not_have_is_no_matter_of_its_width():
    with pytest.raises(AttributeError, match=r"'SimCLR' object has no attribute 'temprature'$"):
        SimCLR(dim=6).temprature  # noqa: B018


def test_online_embeddings_are_the_targets_unless_others_are_given():
    views = [torch.randn(5, 6) for _ in range(2)]
    assert SimCLR()(views).total == SimCLR()(views, views).total


def test_one_tensor_is_no_list_of_views():
    with pytest.raises(ValueError, match=r"takes a list of views, but got one tensor \[5, 6\]"):
        SimCLR()(torch.randn(5, 6))


def test_an_objective_made_with_a_lambda_can_be_pickled():
    made = MINE(dim=6, critic=lambda dim_x, dim_y: Bilinear(dim_x, dim_y))
    assert pickle.loads(pickle.dumps(made)).dim == 6


def classes():
    kinds = (getattr(objectives, name) for name in objectives.__all__)
    return [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Objective) and kind is not Objective]


# DINOv2's objective is iBOT's class with other numbers; MSN's authors balance the targets in their configurations.
OWN_NUMBERS = {"dinov2": {"target_temperature", "centring", "koleo"}, "msn": {"iterations"}}


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_numbers_of_a_configuration_are_the_defaults_of_its_class(path):
    config = OmegaConf.to_container(OmegaConf.load(path))
    kind = getattr(objectives, config.pop("_target_").rsplit(".", 1)[1])
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    own = OWN_NUMBERS.get(path.stem, set()) | {"_partial_", "defaults", "name"}
    for key, value in config.items():
        if key not in own and not isinstance(value, dict):
            assert defaults[key] == (tuple(value) if isinstance(value, list) else value), key


def test_every_objective_can_be_made_from_a_configuration():
    text = "".join(path.read_text(encoding="utf-8") for path in CONF.glob("*.yaml"))  # as a part of another, too
    named = set(re.findall(r"_target_: ssl_mi\.objectives\.(\w+)", text))
    assert {kind.__name__ for kind in classes()} <= named


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_objective_documents_its_arguments_and_paper(kind):
    text = inspect.getdoc(kind)
    for name in inspect.signature(kind).parameters:
        assert f"\n    {name}: " in text, name
    assert "References:" in text or kind in (Infomax, Sum)


def test_clusters_of_the_wrong_number_of_images_are_refused_before_training():
    with pytest.raises(ValueError, match="prototypes <= images"):
        DeepClusterV2(images=10, prototypes=11)
