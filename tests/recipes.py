"""What the sources of the recipes in conf/experiment train with. Facts, from public configurations and papers.

`theirs` of a recipe is what its source has; a key that the source does not say is left out. `also` are differences that
no key of the table holds, by a word of the clause that names them.

    images       training images                      crop      least share of the area, of each kind of view
    epochs, batch, warmup (epochs)                    jitter    brightness, contrast, saturation, hue, of each kind
    taps         of the blur at 32 pixels, of each kind that has one; 13 hold sigma 2, as kernels that follow it do
    optimizer, rate, decay, momentum, eta, clip       blur, solarize, grey: chances, of each kind of view
    norms_decay  biases and norms decay too           bicubic   interpolation of crops
    final        last rate over the largest           padding   of the stem's convolution
    projector    widths                               zero_init residual branches start at zero
    inner_norm   batch norms inside the projector     last_norm batch norm after its last layer: none, affine, plain
    predictor    (hidden width, batch norm at the end), or none
    teacher      momentum at the start and the end, or none
    temperature  of the objective; the student's, where there are two
    views        of each image
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """What a recipe is held against.

    Attributes:
        source: Whose values they are, in words of the header; None where the combination is not published.
        theirs: The values, by the keys above.
        also: Words that name what else differs.
    """

    source: str | None
    theirs: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()


LARS = {"optimizer": "LARS", "momentum": 0.9, "eta": 0.02, "clip": True}
SGD = {"optimizer": "SGD", "momentum": 0.9}
PLAIN = {"blur": [0.0], "solarize": [0.0], "grey": [0.2]}
ASYMMETRIC = {
    "crop": [0.08, 0.08],
    "jitter": [(0.4, 0.4, 0.2, 0.1)] * 2,
    "blur": [0.0, 0.0],
    "solarize": [0.0, 0.2],
    "grey": [0.2, 0.2],
}
SYMMETRIC = {"crop": [0.08], "jitter": [(0.8, 0.8, 0.8, 0.2)], **PLAIN}
WEAKER = {"crop": [0.08], "jitter": [(0.4, 0.4, 0.4, 0.1)], **PLAIN}
LARGER = {"crop": [0.2], "jitter": [(0.4, 0.4, 0.2, 0.1)], "blur": [0.0], "solarize": [0.1], "grey": [0.2]}


def solo(**theirs: Any) -> dict[str, Any]:
    """solo-learn's scripts for CIFAR at the time of its table of results, with what all of them share."""
    common = {"images": 50_000, "epochs": 1000, "batch": 256, "warmup": 10, "final": 0.0, "norms_decay": True}
    network = {"bicubic": True, "padding": 2, "zero_init": False, "inner_norm": True, "last_norm": None}
    return {**common, **network, "predictor": None, "teacher": None, "views": 2, **theirs}


RECIPES = {
    "barlow_twins_cifar": Recipe(
        "solo-learn", solo(**LARS, **ASYMMETRIC, rate=0.3, decay=1e-4, projector=[2048, 2048, 2048])
    ),
    "byol_cifar": Recipe(
        "solo-learn",
        solo(
            **LARS,
            **ASYMMETRIC,
            rate=1.0,
            decay=1e-5,
            projector=[4096, 256],
            predictor=(4096, False),
            teacher=(0.99, 1.0),
        ),
    ),
    "moco_cifar": Recipe(
        "solo-learn",
        solo(
            **SGD,
            **WEAKER,
            rate=0.3,
            decay=1e-4,
            projector=[2048, 256],
            inner_norm=False,
            teacher=(0.99, 0.999),
            temperature=0.2,
        ),
        also=("one queue for both views",),
    ),
    "simsiam_cifar": Recipe(
        "solo-learn",
        solo(
            **SGD,
            **WEAKER,
            rate=0.5,
            decay=1e-5,
            projector=[2048, 2048, 2048],
            last_norm="plain",
            predictor=(512, False),
            zero_init=True,
        ),
    ),
    "moco_v3_cifar": Recipe(
        "solo-learn",
        solo(
            **{**LARS, "clip": False},
            crop=[0.2, 0.2],
            jitter=[(0.4, 0.4, 0.4, 0.1)] * 2,
            blur=[1.0, 0.1],
            taps=[13, 13],
            solarize=[0.0, 0.2],
            grey=[0.2, 0.2],
            rate=0.3,
            decay=1e-6,
            projector=[4096, 256],
            last_norm="plain",
            predictor=(4096, False),
            teacher=(0.99, 1.0),
            temperature=0.2,
        ),
    ),
    "nnclr_cifar": Recipe(
        "solo-learn",
        solo(
            **LARS,
            **ASYMMETRIC,
            rate=0.4,
            decay=1e-5,
            projector=[2048, 2048, 256],
            last_norm="affine",
            predictor=(4096, False),
            temperature=0.2,
        ),
    ),
    "all4one_cifar": Recipe(
        "solo-learn",
        solo(
            **LARS,
            **ASYMMETRIC,
            rate=1.0,
            decay=1e-5,
            projector=[2048, 2048, 256],
            last_norm="affine",
            predictor=(4096, False),
            teacher=(0.99, 1.0),
            temperature=0.2,
        ),
        also=("no dropout", "attention's rate", "a support set of"),
    ),
    "dino_cifar": Recipe(
        "solo-learn",
        solo(
            **LARS,
            **ASYMMETRIC,
            rate=0.3,
            decay=1e-6,
            projector=[2048, 2048, 256],
            inner_norm=False,
            teacher=(0.9995, 1.0),
            temperature=0.1,
        ),
        also=("the teacher's temperature",),
    ),
    "ressl_cifar": Recipe(
        "solo-learn",
        solo(
            **SGD,
            crop=[0.08, 0.08],
            jitter=[None, (0.4, 0.4, 0.2, 0.1)],
            blur=[0.0, 0.0],
            solarize=[0.0, 0.0],
            grey=[0.0, 0.2],
            rate=0.05,
            decay=1e-4,
            projector=[4096, 256],
            inner_norm=False,
            teacher=(0.99, 1.0),
            temperature=0.1,
        ),
    ),
    "supcon_cifar": Recipe(
        "solo-learn",
        solo(**LARS, **SYMMETRIC, rate=0.4, decay=1e-5, projector=[2048, 256], inner_norm=False, temperature=0.2),
        also=("L_out",),
    ),
    "swav_cifar": Recipe(
        "solo-learn",
        solo(**LARS, **SYMMETRIC, rate=0.6, decay=1e-6, projector=[2048, 128], final=0.001, temperature=0.1),
        also=("LARS adapts",),
    ),
    "deepcluster_cifar": Recipe(
        "solo-learn",
        solo(**LARS, **SYMMETRIC, rate=0.6, decay=1e-6, projector=[2048, 128], final=0.001, warmup=11, temperature=0.1),
        also=("only fills the bank", "LARS adapts"),
    ),
    "w_mse_cifar": Recipe(
        "solo-learn",
        solo(
            crop=[0.2],
            jitter=[(0.4, 0.4, 0.2, 0.1)],
            **PLAIN,
            optimizer="Adam",
            rate=3e-3,
            decay=1e-6,
            warmup=2,
            projector=[1024, 64],
        ),
        also=("covariances",),
    ),
    "vibcreg_cifar": Recipe(
        "solo-learn",
        solo(**{**LARS, "clip": False}, **LARGER, rate=0.3, decay=1e-4, projector=[2048, 2048, 2048]),
        also=("iterative normalisation", "variance term"),
    ),
    "vicreg_cifar": Recipe(
        "solo-learn",
        solo(**LARS, **LARGER, rate=0.3, decay=1e-4, projector=[2048, 2048, 2048]),
        also=("variance term",),
    ),
    "mae_cifar": Recipe(
        "solo-learn",
        {
            **{"images": 50_000, "epochs": 1000, "batch": 256, "warmup": 10, "final": 0.0, "bicubic": True},
            **{"optimizer": "AdamW", "rate": 2e-4, "decay": 0.05, "norms_decay": True, "views": 1},
            **{"crop": [0.08], "jitter": [None], "blur": [0.0], "solarize": [0.0], "grey": [0.0]},
        },
    ),
    "simclr_cifar": Recipe(
        "the authors'",
        {
            **{"images": 50_000, "epochs": 1000, "batch": 512, "warmup": 10, "final": 0.0, "bicubic": True},
            **{"optimizer": "LARS", "momentum": 0.9, "eta": 0.001, "clip": False, "rate": 2.0, "decay": 1e-4},
            **{"norms_decay": False, "projector": [512, 512, 128], "last_norm": "affine", "temperature": 0.5},
            **{"padding": 1, "views": 2, **WEAKER},
        },
        also=("the mean over both directions",),
    ),
    "dcl_cifar": Recipe(
        "lightly's",
        {
            **{"images": 50_000, "epochs": 200, "batch": 128, "warmup": 0, "final": 0.0, **SGD, "norms_decay": True},
            **{"rate": 0.06, "decay": 5e-4, "projector": [512, 128], "inner_norm": True, "last_norm": "affine"},
            **{"temperature": 0.1, "padding": 1, "bicubic": False, "views": 2, **WEAKER},
        },
        also=("mean and deviation", "the paper's loss"),
    ),
    "spectral_cifar": Recipe(
        "the authors'",
        {
            **{"images": 50_000, "epochs": 800, "batch": 512, **SGD, "norms_decay": True, "rate": 0.06, "decay": 5e-4},
            **{"warmup": 10, "bicubic": False, "padding": 1, "views": 2, **WEAKER, "crop": [0.2]},
        },
        also=("a batch norm in the projector",),
    ),
    "emp_ssl_cifar": Recipe(
        "the authors'",
        {
            **{"images": 50_000, "epochs": 30, "batch": 100, **LARS, "eta": 0.005, "rate": 0.3, "decay": 1e-4},
            **{"norms_decay": True, "warmup": 0, "projector": [4096, 4096, 1024], "views": 20},
            **{"blur": [0.1], "taps": [13], "solarize": [0.1], "grey": [0.2], "jitter": [(0.4, 0.4, 0.4, 0.2)]},
        },
        also=("Nesterov", "the probe sees"),
    ),
    "lejepa_cifar": Recipe(
        "the authors'",
        {"optimizer": "AdamW", "rate": 5e-4, "decay": 5e-4, "final": 0.001, "views": 8},
        also=("256 slices", "3 taps"),
    ),
    "mmcr_cifar": Recipe("the authors'", {"batch": 32, "views": 40, "jitter": [(0.4, 0.4, 0.4, 0.1)]}),
}

# The method with another network or other data than any source: nothing to be held against.
OWN = {
    "alignment_uniformity_cifar",
    "amdim_cifar",
    "cmc_cifar",
    "deep_infomax_cifar",
    "deep_infomax_local_cifar",
    "dino_vit_cifar",
    "infonce_cifar",
    "mine_cifar",
    "siglip_cifar",
    "tico_cifar",
    # of methods that no source has on CIFAR with this encoder
    *("vicregl_cifar", "densecl_cifar", "frossl_cifar", "nnbyol_cifar", "nnsiam_cifar"),
    *("ibot_cifar", "dinov2_cifar", "simmim_cifar", "ijepa_cifar", "msn_cifar", "data2vec_cifar"),
    *("swav_multicrop_cifar", "dino_multicrop_cifar", "byol_multicrop_cifar"),
}

# The words of a clause that names a difference, by key.
WORDS = {
    "images": "training images of",
    "epochs": "epochs",
    "batch": "images a step",
    "warmup": "of warm-up",
    "optimizer": "optimizer",
    "rate": "a rate of",
    "decay": "weight decay",
    "momentum": "momentum",
    "eta": "eta",
    "clip": "clips its local rate",
    "norms_decay": "norms and biases never decay",
    "final": "last rate",
    "projector": "projector",
    "inner_norm": "batch norms in the head",
    "last_norm": "last norm",
    "predictor": "predictor",
    "teacher": "the teacher's momentum",
    "temperature": "temperature of",
    "bicubic": "bilinear crops",
    "padding": "stem with padding",
    "zero_init": "residual branches",
    "crop": "crops from",
    "jitter": "colours",
    "blur": "blur",
    "taps": "taps of the kernel",
    "solarize": "solarisation",
    "grey": "grey",
    "views": "views of each image",
}


def ours(cfg: dict[str, Any]) -> dict[str, Any]:
    """The same keys of a composed experiment, resolved to plain containers."""
    optimizer, schedule, objective = cfg["optimizer"], cfg["schedule"], cfg["objective"]
    teacher, predictor = cfg["teacher"], objective.get("predictor")
    towers = cfg["towers"]
    head = (towers["towers"][0] if "towers" in towers else towers)["projector"] or {}
    images = round(50_000 * (1 - cfg["data"]["val_fraction"]))
    return {
        "images": images,
        "epochs": cfg["trainer"]["max_epochs"],
        "batch": cfg["data"]["batch_size"],
        "warmup": schedule["warmup_epochs"],
        "final": schedule["final_ratio"],
        "optimizer": optimizer["_target_"].rsplit(".", 1)[-1],
        "rate": optimizer["lr"],
        "decay": optimizer["weight_decay"],
        "momentum": optimizer.get("momentum"),
        "eta": optimizer.get("eta"),
        "clip": optimizer.get("clip"),
        "norms_decay": False,  # of no optimizer: `parameter_groups`
        "projector": head.get("dims"),
        "inner_norm": head.get("batch_norm"),
        "last_norm": head.get("final_norm"),
        "predictor": predictor and (predictor["hidden"], predictor.get("final_norm", False)),
        "teacher": teacher and (teacher["momentum"], teacher["final_momentum"]),
        "temperature": objective.get("temperature", objective.get("online_temperature")),
        "padding": 1 if cfg["encoder"].get("stem") == "cifar" else None,
        "zero_init": cfg["encoder"].get("zero_init_residual"),
        **_views(cfg["augmentation"]["views"]),
    }


def _views(kinds: list[dict[str, Any]]) -> dict[str, Any]:
    found = [{op["_target_"].rsplit(".", 1)[-1]: op for op in kind["ops"]} for kind in kinds]

    def chances(name: str) -> list[float]:
        return [ops[name]["p"] if name in ops else 0.0 for ops in found]

    def jitter(op: dict[str, Any] | None) -> tuple[float, ...] | None:
        names = ("brightness", "contrast", "saturation", "hue")
        return op and tuple(round(op[name] * op.get("strength", 1.0), 6) for name in names)

    return {
        "crop": [ops["RandomResizedCrop"]["scale"][0] for ops in found],
        "bicubic": any(ops["RandomResizedCrop"].get("interpolation") == "bicubic" for ops in found),
        "jitter": [jitter(ops.get("ColorJitter")) for ops in found],
        "blur": chances("GaussianBlur"),
        "taps": [ops["GaussianBlur"].get("kernel_size") or 3 for ops in found if "GaussianBlur" in ops],
        "solarize": chances("Solarize"),
        "grey": chances("Grayscale"),
        "views": sum(kind["count"] for kind in kinds),
    }


def differences(cfg: dict[str, Any], recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """key -> (ours, the source's) where they differ; lists of equal views are one view."""
    here = ours(cfg)
    return {k: (here[k], v) for k, v in recipe.theirs.items() if _distinct(here[k]) != _distinct(v)}


def _distinct(value: Any) -> Any:
    return value[:1] if isinstance(value, list) and value and all(v == value[0] for v in value) else value


COLUMNS = {
    "epochs": "epochs",
    "batch": "batch",
    "optimizer": "optimizer",
    "rate": "rate",
    "decay": "weight decay",
    "projector": "projector",
    "last_norm": "last norm",
    "predictor": "predictor",
    "temperature": "temperature",
    "teacher": "teacher's momentum",
    "crop": "crops from",
    "jitter": "colours",
    "blur": "blur",
    "taps": "taps",
    "solarize": "solarisation",
}


def table() -> str:
    """docs/recipes.md's table of the sources' values."""
    lines = [["experiment", "source", *COLUMNS.values()], ["---"] * (2 + len(COLUMNS))]
    for name, recipe in RECIPES.items():
        cells = [_cell(key, recipe.theirs[key]) if key in recipe.theirs else "" for key in COLUMNS]
        lines.append([f"`{name}`", str(recipe.source), *cells])
    return "".join("|" + "|".join(c if c == "---" else f" {c} " for c in line) + "|\n" for line in lines)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if key == "predictor":
        return f"{value[0]}/{'yes' if value[1] else 'no'}"
    if key == "jitter":
        return ", ".join("none" if v is None else "/".join(f"{x:g}" for x in v) for v in value)
    if key == "teacher":
        return "/".join(f"{v:g}" for v in value)
    if isinstance(value, list):
        return ", ".join(f"{v:g}" for v in value)
    return value if isinstance(value, str) else f"{value:g}"
