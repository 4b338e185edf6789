"""The lists that a specification runs over. A new objective is a file, a YAML file and a row here.

Each row says how to build a small one, what it takes, what it claims, and its twin in transcriptions.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import transcriptions as slow

from ssl_mi.information import bounds
from ssl_mi.information.variational.critics import Bilinear, Concat
from ssl_mi.networks import DenseHeads
from ssl_mi.objectives import (
    AMDIM,
    BYOL,
    CLIP,
    CMC,
    CPC,
    DCL,
    DINO,
    MINE,
    MMCR,
    NNCLR,
    NWJ,
    SMILE,
    WMSE,
    AlignmentUniformity,
    All4One,
    BarlowTwins,
    CodingRate,
    DeepClusterV2,
    DeepInfoMax,
    DeepInfoMaxLocal,
    DenseContrast,
    FroSSL,
    Infomax,
    InfoNCE,
    KoLeo,
    LeJEPA,
    LocalVICReg,
    MoCo,
    MoCoV3,
    NearestTargets,
    Objective,
    Predictor,
    ReSSL,
    SigLIP,
    SimCLR,
    SimSiam,
    SpectralContrastive,
    Sum,
    SupCon,
    SwAV,
    TiCo,
    VIbCReg,
    VICReg,
)

DIM = 6  # width of an embedding


MAPS = ("maps", "target_maps")
BOXES = torch.tensor([[2.0, 0.0, 20.0, 24.0], [4.0, 30.0, 24.0, -22.0]])  # of two views, the second mirrored


@dataclass(frozen=True)
class Row:
    """make: () -> the objective, for embeddings of DIM. twin: the paper's equation, see transcriptions.py.

    yaml:      its file in conf/objective, where the row has another name.
    teacher:   targets come from another network. targets: how many views that sees; None for all.
    collapse:  what a constant embedding does to the loss beside aligned ones: "raises" or "lowers" it; None: unsaid.
    reads:     `read` returns a bound on mutual information.
    past:      an image is compared with what it was an epoch ago: specifications show it every image once before.
    locations: of the maps at its two scales.
    heads:     its local heads, where those hand out features beside local embeddings.
    largest:   scale of embeddings that the value can bear in float32: all of half precision's, unless it has e^T in it.
    """

    make: Callable[[], Objective]
    twin: Callable
    yaml: str | None = None
    teacher: bool = False
    views: int = 2
    targets: int | None = None
    collapse: str | None = "raises"
    reads: bool = False
    past: bool = False
    largest: float = 6e4
    locations: tuple[int, int] = (4, 5)
    heads: Callable | None = None

    def maps(self, make: Callable) -> dict[str, list]:
        """What the objective takes of maps; make(locations) -> local embeddings of a view, [n, locations, DIM]."""
        names = [name for name in self.make().requires if name in MAPS]
        sizes = self.locations if self.heads is None else (4, 4)
        return {name: [[make(s) for s in sizes] for _ in range(self.views)] for name in names}

    def learning(self, beside: dict) -> list[torch.Tensor]:
        """The maps that get a gradient: not those of a teacher, nor the features that locations are matched by."""
        return [m for scales in beside.get("maps", []) for m in (scales if self.heads is None else scales[:1])]


def beside(takes, n: int) -> dict[str, torch.Tensor]:
    """What an objective takes beside the embeddings of n images; maps are not made of nothing."""
    boxes = BOXES + (torch.arange(n) % 7)[:, None, None] * torch.tensor([1.0, 0.3, 0.1, 0.0])
    values = {"labels": torch.arange(n) % 4, "index": torch.arange(n), "boxes": boxes}
    return {name: values[name] for name in takes if name not in MAPS}


def copying(dim: int, final_norm: bool = False) -> Predictor:
    """A predictor that starts as its batch norm alone, x = relu(x) - relu(-x), so that agreement is not scrambled."""
    made = Predictor(dim, 2 * dim, final_norm)
    eye = torch.eye(dim)
    made[0].weight.data = torch.cat([eye, -eye])
    made[3].weight.data = torch.cat([eye, -eye], 1)
    return made


def distance(dim_x: int, dim_y: int) -> Concat:
    """A concat critic that starts as 1.5 - |x - y|_1 / 2, so that no fit is needed to see agreement."""
    critic = Concat(dim_x, dim_y, hidden=[2 * dim_x, 4])
    eye = torch.eye(dim_x)
    critic.first.weight.data = torch.cat([torch.cat([eye, -eye]), torch.cat([-eye, eye])], 1)
    second, last = critic.rest[1][0], critic.rest[1][2]
    second.weight.data.fill_(0.5)
    last.weight.data.fill_(-0.25)
    for layer, offset in ((critic.first, 0.0), (second, 0.0), (last, 1.5)):
        layer.bias.data.fill_(offset)
    return critic


def remembering(dim: int, steps: int) -> CPC:
    """A CPC whose context starts as the window itself, tanh(z_t / 10), so that no fit is needed to see agreement."""
    made = CPC(dim, context=dim, steps=steps)
    with torch.no_grad():
        made.reader.weight_ih_l0.mul_(0.01)
        made.reader.weight_hh_l0.mul_(0.01)
        made.reader.weight_ih_l0[2 * dim :] = 0.1 * torch.eye(dim)
        made.reader.bias_ih_l0.zero_()
        made.reader.bias_ih_l0[dim : 2 * dim] = -8.0  # the update gate: nearly nothing is kept of the past
        made.reader.bias_hh_l0.mul_(0.01)
        for layer in made.ahead:
            layer.weight.copy_(10 * torch.eye(dim))
    return made


REGULARISERS = {"koleo"}  # which train beside others, in a Sum: test_combined.py
SIBLINGS = {
    "mae",
    "simmim",
    "ijepa",
    "ibot",
    "dinov2",
    "msn",
    "data2vec",
}  # whose step is another, with a specification of its own: test_masked*.py

OBJECTIVES = {
    "simclr": Row(lambda: SimCLR(DIM, temperature=0.5), slow.nt_xent, reads=True, largest=1e20),
    "infonce": Row(lambda: InfoNCE(DIM), slow.infonce, reads=True),
    "infomax": Row(lambda: Infomax(DIM), slow.infonce, reads=True),
    "clip": Row(lambda: CLIP(DIM, temperature=0.1), slow.clip, reads=True, largest=1e20),
    "cmc": Row(lambda: CMC(DIM), slow.clip, reads=True, largest=1e20),
    "cpc": Row(lambda: remembering(DIM, steps=2), slow.cpc, views=3, reads=True),
    "siglip": Row(lambda: SigLIP(DIM), slow.siglip, reads=True, largest=1e20),
    "mine": Row(lambda: MINE(DIM, critic=distance), slow.mine, reads=True),
    "nwj": Row(lambda: NWJ(DIM, critic=distance), slow.nwj, reads=True),
    "deep_infomax": Row(lambda: DeepInfoMax(DIM, critic=distance), slow.js, reads=True),
    "deep_infomax_local": Row(lambda: DeepInfoMaxLocal(DIM), slow.local_js, largest=3.0),
    "local_infonce": Row(
        lambda: DeepInfoMaxLocal(DIM, Bilinear, bounds.InfoNCE(), across=True),
        slow.local_infonce,
        yaml="deep_infomax_local",
    ),
    "amdim": Row(lambda: AMDIM(DIM), slow.amdim),
    "smile": Row(lambda: SMILE(DIM, critic=distance), slow.smile, reads=True),
    "moco": Row(lambda: MoCo(DIM, queue=80), slow.moco, teacher=True, collapse=None, largest=1e20),
    "moco_v3": Row(
        lambda: MoCoV3(DIM, predictor=partial(copying, final_norm=True)), slow.moco_v3, teacher=True, reads=True
    ),
    "dcl": Row(lambda: DCL(DIM), slow.dcl, largest=1e20),
    "dclw": Row(lambda: DCL(DIM, weight_width=0.5), slow.dcl, yaml="dcl", largest=1e20),
    "supcon": Row(lambda: SupCon(DIM), slow.supcon, collapse=None, largest=1e20),
    "spectral": Row(lambda: SpectralContrastive(DIM), slow.spectral, largest=1e20),
    "alignment_uniformity": Row(lambda: AlignmentUniformity(DIM), slow.alignment_uniformity, largest=1e20),
    "nnclr": Row(lambda: NNCLR(DIM, copying, queue=80, temperature=0.1), slow.nnclr),
    "ressl": Row(lambda: ReSSL(DIM, queue=80), slow.ressl, teacher=True, targets=1, collapse=None, largest=1e20),
    "byol": Row(lambda: BYOL(DIM, copying), slow.byol, teacher=True, collapse="lowers"),
    "simsiam": Row(lambda: SimSiam(DIM, copying), slow.simsiam, collapse="lowers"),
    "sum": Row(
        lambda: Sum(DIM, {"first": SimCLR(temperature=0.5), "koleo": KoLeo}, {"koleo": 0.1}),
        slow.nt_xent_and_koleo,
        reads=True,
        largest=1e20,
    ),
    "sum_with_a_teacher": Row(
        lambda: Sum(DIM, {"byol": partial(BYOL, predictor=copying), "koleo": KoLeo}, {"koleo": 0.1}),
        slow.byol_and_koleo,
        yaml="sum",
        teacher=True,
    ),
    "barlow_twins": Row(lambda: BarlowTwins(DIM), slow.barlow_twins),
    "vicreg": Row(lambda: VICReg(DIM), slow.vicreg),
    "vibcreg": Row(lambda: VIbCReg(DIM), slow.vibcreg),
    "w_mse": Row(lambda: WMSE(DIM), slow.w_mse),
    "tico": Row(lambda: TiCo(DIM), slow.tico, teacher=True, largest=1e20),
    "tico_as_printed": Row(
        lambda: TiCo(DIM, moments_gradient=True), slow.tico, yaml="tico", teacher=True, largest=1e20
    ),
    "mmcr": Row(lambda: MMCR(DIM), slow.mmcr, views=3, largest=1e20),
    "coding_rate": Row(lambda: CodingRate(DIM, invariance=2.0), slow.coding_rate, views=3, largest=1e20),
    "lejepa": Row(lambda: LeJEPA(DIM, slices=3), slow.lejepa, views=3),
    "densecl": Row(
        lambda: Sum(
            DIM,
            {"moco": partial(MoCo, queue=80), "dense": partial(DenseContrast, queue=80)},
            {"moco": 0.5, "dense": 0.5},
        ),
        slow.densecl,
        teacher=True,
        collapse=None,
        largest=1e20,
        heads=partial(DenseHeads, hidden=[4]),
    ),
    "vicregl": Row(
        lambda: Sum(DIM, {"vicreg": VICReg, "local": partial(LocalVICReg, matches=2)}, {"vicreg": 0.75, "local": 0.25}),
        slow.vicregl,
        locations=(4, 9),
    ),
    "all4one": Row(
        lambda: All4One(DIM, copying, queue=80, neighbours=3, depth=2, heads=2),
        slow.all4one,
        teacher=True,
        collapse=None,
    ),
    "frossl": Row(lambda: FroSSL(DIM), slow.frossl, views=3, largest=1e20),
    "nnbyol": Row(
        lambda: NearestTargets(DIM, partial(BYOL, predictor=copying), 80, "nnbyol"),
        slow.nnbyol,
        teacher=True,
        collapse=None,
    ),
    "nnsiam": Row(
        lambda: NearestTargets(DIM, partial(SimSiam, predictor=copying), 80, "nnsiam"), slow.nnsiam, collapse=None
    ),
    "swav": Row(lambda: SwAV(DIM, prototypes=9, queue=40), slow.swav, views=3, largest=1e20),
    "deepcluster": Row(
        lambda: DeepClusterV2(DIM, images=48, prototypes=5, heads=3), slow.deepcluster, views=3, past=True, largest=1e20
    ),
    "dino": Row(lambda: DINO(DIM, target_temperature=0.04), slow.dino, teacher=True, views=3, targets=2, collapse=None),
}
