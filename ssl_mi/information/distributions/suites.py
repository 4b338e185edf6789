"""Named distributions: the 40 tasks of Beyond Normal, and more.

`BEYOND_NORMAL` holds the tasks of Czyz, Grabowski, Vogt, Beerenwinkel, Marx 2023 (arXiv 2306.11078), under
the identifiers of their benchmark, written anew. `MORE` holds what that suite has not: the sphere, discrete and
mixed pairs, multiplicative noise, signals deep inside many dimensions, independence, and much information.
`EVERYDAY` (everyday.py) holds the kinds of samples that people bring. `CONDITIONAL` (conditional.py) holds samples
with a third variable z, for estimators of I(x; y | z): "all", for estimators of I(x; y), leaves it out.
"""

import difflib

from ssl_mi.information.distributions import families as d
from ssl_mi.information.distributions import transforms as t
from ssl_mi.information.distributions.conditional import CONDITIONAL, ConditionalTask
from ssl_mi.information.distributions.everyday import EVERYDAY, EVERYDAY_REPORT, EVERYDAY_TUNING
from ssl_mi.information.distributions.task import Task

RHO = 0.75  # of every 1 x 1 Gaussian task
STRENGTH = 2.0  # of a 2-pair task: rho = strength^2 / (1 + strength^2) = 0.8


def _asinh(task: Task) -> Task:
    return task.through("asinh", "Asinh", t.asinh, t.asinh)


def _half_cube(task: Task) -> Task:
    return task.through("half_cube", "Half-cube", t.half_cube, t.half_cube)


def _normal_cdf(task: Task) -> Task:
    return task.through("normal_cdf", "Normal CDF", t.normal_cdf, t.normal_cdf)


def _spiral(task: Task) -> Task:
    # The squared norm grows with the dimension, so the speed is divided by it.
    m, n = task.dims
    return task.through("spiral", "Spiral", t.Spiral(0, 1, 1 / m), t.Spiral(1, 2, 1 / n))


def _dense(m: int, n: int) -> Task:
    return Task(f"multinormal-dense-{m}-{n}-0.5", f"Multinormal {m} × {n} (dense)", d.dense_gaussian(m, n, 0.5))


def _two_pair(m: int, n: int) -> Task:
    rho = STRENGTH**2 / (1 + STRENGTH**2)
    gaussian = d.sparse_gaussian(m, n, pairs=2, rho=rho)
    return Task(f"multinormal-sparse-{m}-{n}-2-{STRENGTH}", f"Multinormal {m} × {n} (2-pair)", gaussian)


def _student(m: int, n: int, dof: int) -> Task:
    return Task(f"student-identity-{m}-{n}-{dof}", f"Student-t {m} × {n} (dof={dof})", d.student_t(m, n, dof))


def _additive(epsilon: float) -> Task:
    title = f"Uniform 1 × 1 (additive noise={epsilon})"
    return Task(f"1v1-additive-{epsilon}", title, d.AdditiveUniform(epsilon))


def _bimodal(uniform: Task) -> Task:
    x = t.MixtureQuantile(weights=(0.3, 0.7), means=(0.0, 5.0))
    y = t.MixtureQuantile(weights=(0.5, 0.5), means=(-1.0, 3.0))
    return Task(f"1v1-bimodal-{RHO}", "Bimodal 1 × 1", t.Transformed(uniform.distribution, x, y))


def _beyond_normal() -> tuple[Task, ...]:
    normal = Task(f"1v1-normal-{RHO}", "Bivariate normal 1 × 1", d.correlated_gaussian(RHO))
    uniform, student = _normal_cdf(normal), _student(1, 1, dof=1)
    pairs = [_two_pair(m, m) for m in (3, 5, 25)]
    return (
        normal,
        uniform,
        _additive(0.1),
        _additive(0.75),
        _bimodal(uniform),
        normal.through("wiggly", "Wiggly", t.wiggle_x, t.wiggle_y),
        _half_cube(normal),
        student,
        _asinh(student),
        uniform.through("swissroll_x", "Swiss roll", t.swiss_roll, dims="Swiss roll 2 × 1"),
        *(_dense(m, m) for m in (2, 3, 5, 25, 50)),
        *(_two_pair(m, m) for m in (2, 3, 5, 25)),
        *(_student(m, m, dof) for m, dof in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
        *(_normal_cdf(task) for task in pairs),
        *(_half_cube(task) for task in pairs),
        *(_spiral(task) for task in pairs),
        *(_spiral(_normal_cdf(task)) for task in pairs),
        *(_asinh(_student(m, m, dof)) for m, dof in ((2, 1), (3, 2), (5, 2))),
    )


def _more() -> tuple[Task, ...]:
    four_pairs = d.gaussian_with_mi(4.0, dim=4)
    return (
        *(
            Task(f"independent-{m}-{m}", f"Independent normal {m} × {m}", d.dense_gaussian(m, m, 0.0))
            for m in (1, 2, 4, 8, 16, 32)
        ),
        Task("vmf-3-10", "von Mises-Fisher on the sphere (kappa=10)", d.VonMisesFisher(3, 10.0)),
        Task("vmf-16-20", "von Mises-Fisher in 16 dimensions (kappa=20)", d.VonMisesFisher(16, 20.0)),
        Task("phase-0.2", "Two jittered phases on the circle", d.PhasePair(0.2)),
        Task("bsc-0.1", "Binary symmetric channel (crossover=0.1)", d.binary_symmetric_channel(0.1)),
        Task("symbols-10-0.1", "Ten symbols, one in ten wrong", d.SymmetricChannel(0.1, classes=10)),
        Task("bernoulli-gaussian-0.5", "A bit in Gaussian noise (sigma=0.5)", d.BernoulliGaussian(0.5)),
        Task("gao-mixed-5", "Gao's mixed pair (5 symbols)", d.GaoMixed(5)),
        Task("zero-inflated-poisson-0.15", "Zero-inflated Poisson counts", d.ZeroInflatedPoisson(0.15)),
        Task("multiplicative-uniform", "Multiplicative uniform noise", d.MultiplicativeUniform()),
        Task("multiplicative-lognormal-0.5", "Multiplicative log-normal noise", d.MultiplicativeLogNormal(0.5)),
        Task("embedded-4-in-128", "4 shared dimensions in 128", t.Embedded(four_pairs, 128, 128)),
        Task("bent-2-in-32", "2-pair, bent into 32", t.Embedded(d.sparse_gaussian(2, 2), 32, 32, 0.5, layers=2)),
        *(
            Task(f"multinormal-20-20-{mi}", f"Multinormal 20 × 20 with {mi} nats", d.gaussian_with_mi(mi, 20))
            for mi in (2, 4, 6, 8, 10, 16)
        ),
    )


BEYOND_NORMAL: tuple[Task, ...] = _beyond_normal()
MORE: tuple[Task, ...] = _more()
SUITES: dict[str, tuple[Task, ...] | tuple[ConditionalTask, ...]] = {
    "beyond-normal": BEYOND_NORMAL,
    "bmi": BEYOND_NORMAL,
    "everyday": EVERYDAY,
    "everyday-tuning": EVERYDAY_TUNING,
    "everyday-report": EVERYDAY_REPORT,
    "more": MORE,
    "conditional": CONDITIONAL,
    "all": BEYOND_NORMAL + MORE + EVERYDAY,
}


def find_task(name: str) -> Task | ConditionalTask:
    """The task of that name.

    Args:
        name: of a task of any suite.

    Raises:
        ValueError: for an unknown name; the message has the nearest ones.

    Example:
        >>> find_task("1v1-additive-0.1").name
        '1v1-additive-0.1'
    """
    by_name: dict[str, Task | ConditionalTask] = {task.name: task for suite in SUITES.values() for task in suite}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.3)
        raise ValueError(f"no task is called {name!r}; nearest: {', '.join(near) or 'none'}")
    return by_name[name]
