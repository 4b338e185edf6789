"""Slow and obvious twins of every objective: its paper's equation, a pair or a coordinate at a time.

twin(o, online, target, beside) -> the loss, differentiable; `o` is a copy of the objective as it was before the step,
of which a twin takes parameters, hyper-parameters and state, and no formula. beside: what the objective takes beside
embeddings, by name.
"""

import math
from itertools import pairwise

import torch


def unit(a):
    return a / a.norm()


def cos(a, b):
    return a @ b / (a.norm() * b.norm())


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def find(scores, i, j):
    """-log of the share of e^score that candidate j has for row i; None in the row is no candidate."""
    return -(scores[i][j].exp() / sum(s.exp() for s in scores[i] if s is not None)).log()


def swapped(online, target):
    return [(i, j) for i in range(len(online)) for j in range(len(target)) if i != j]


# ---- bounds -------------------------------------------------------------------------------------------------------


def nt_xent(o, online, target, beside):
    z = [*online[0], *online[1]]
    n2 = len(z)
    scores = [[cos(a, b) * o.critic.log_inverse.exp() if a is not b else None for b in z] for a in z]
    return mean(find(scores, i, (i + n2 // 2) % n2) for i in range(n2))


def both_ways(scores):
    n = len(scores)
    turned = [[scores[j][i] for j in range(n)] for i in range(n)]
    return mean([find(scores, i, i) for i in range(n)] + [find(turned, i, i) for i in range(n)])


def clip(o, online, target, beside):
    return both_ways([[cos(a, b) * o.critic.log_inverse.exp() for b in online[1]] for a in online[0]])


def infonce(o, online, target, beside):
    return both_ways([[a @ o.critic.weight @ b for b in online[1]] for a in online[0]])


def _gru(reader, state, x):
    """One step of a GRU, gate by gate (Cho et al. 2014; torch.nn.GRU's equations)."""
    w, u, b, v = (getattr(reader, f"{name}_l0").chunk(3) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    reset, keep = (torch.sigmoid(w[g] @ x + b[g] + u[g] @ state + v[g]) for g in (0, 1))
    new = torch.tanh(w[2] @ x + b[2] + reset * (u[2] @ state + v[2]))
    return (1 - keep) * new + keep * state


def cpc(o, online, target, beside):
    n, times = len(online[0]), len(online)
    contexts = []
    for i in range(n):
        state, contexts_i = torch.zeros(o.context, dtype=online[0].dtype), []
        for t in range(times):
            state = _gru(o.reader, state, online[t][i])
            contexts_i.append(state)
        contexts.append(contexts_i)

    def at(k, t):
        scores = [[online[t + k][j] @ o.ahead[k - 1].weight @ contexts[i][t] for j in range(n)] for i in range(n)]
        return mean(find(scores, i, i) for i in range(n))

    return mean(mean(at(k, t) for t in range(times - k)) for k in range(1, o.steps + 1))


def _critic(o, online):
    """(true pairs' T, false pairs' T), each pair through the network alone."""
    x, y = online
    t = [[o.critic.rest(o.critic.first(torch.cat([a, b])))[0] for b in y] for a in x]
    n = len(x)
    joint = torch.stack([t[i][i] for i in range(n)])
    return joint, torch.stack([t[i][j] for i in range(n) for j in range(n) if i != j])


def _with_gradient_of(value, surrogate):
    return value.detach() + surrogate - surrogate.detach()


def mine(o, online, target, beside):
    joint, false = _critic(o, online)
    partition = false.exp().mean()
    decay = o.bound.decay
    average = (decay * o.bound.log_sum.exp() + (1 - decay) * partition) / (decay * o.bound.weight + 1 - decay)
    return -_with_gradient_of(joint.mean() - partition.log(), joint.mean() - partition / average.detach())


def nwj(o, online, target, beside):
    joint, false = _critic(o, online)
    return -(joint.mean() - false.exp().mean() / math.e)


def _js(joint, false):
    return -(1 + (-joint).exp()).log().mean() - (1 + false.exp()).log().mean()


def js(o, online, target, beside):
    joint, false = _critic(o, online)
    return -_with_gradient_of(joint.mean() + 1 - false.exp().mean(), _js(joint, false))


def _local(o, online, maps, of_scores):
    """Mean over paired views, scales and locations: of_scores takes scores [image of the summary][image of the map]."""
    met = [(v, w, s) for v in range(2) for w in range(2) for s in range(len(maps[w])) if (v != w) == o.across]

    def scores(z, m, place):
        return [[a @ o.critic.weight @ b[place] for b in m] for a in z]

    def at(v, w, s):
        return mean(of_scores(scores(online[v], maps[w][s], place)) for place in range(maps[w][s].shape[1]))

    return mean(at(*pair) for pair in met)


def local_js(o, online, target, beside):
    def one(scores):
        n = range(len(scores))
        joint = torch.stack([scores[i][i] for i in n])
        return _js(joint, torch.stack([scores[i][j] for i in n for j in n if i != j]))

    def read(scores):
        n = range(len(scores))
        return mean(scores[i][i] for i in n) + 1 - mean(scores[i][j].exp() for i in n for j in n if i != j)

    maps = beside["maps"]
    return -_with_gradient_of(_local(o, online, maps, read), _local(o, online, maps, one))


def local_infonce(o, online, target, beside):
    return _local(o, online, beside["maps"], lambda s: mean(find(s, i, i) for i in range(len(s))))


def amdim(o, online, target, beside):
    maps, d = beside["maps"], online[0].shape[1]
    r = int(torch.randint(maps[0][0].shape[1], (), generator=torch.Generator().manual_seed(int(o.steps))))

    def nce(a, b):
        raw = [[[x @ y / d**0.5 for y in locations] for locations in b] for x in a]
        e = [[[(o.clip * torch.tanh(s / o.clip)).exp() for s in row] for row in rows] for rows in raw]
        n, places = range(len(a)), range(b.shape[1])
        false = [sum(e[i][j][m] for j in n if j != i for m in places) for i in n]
        loss = mean(-(e[i][i][p] / (e[i][i][p] + false[i])).log() for i in n for p in places)
        return loss + o.penalty * mean(s**2 for rows in raw for row in rows for s in row)

    return mean(
        nce(online[v], maps[w][0]) + nce(online[v], maps[w][1]) + nce(maps[v][0][:, r], maps[w][0])
        for v, w in swapped(online, online)
    )


def smile(o, online, target, beside):
    joint, false = _critic(o, online)
    return -_with_gradient_of(joint.mean() - false.clamp(-5, 5).exp().mean().log(), _js(joint, false))


def moco(o, online, target, beside):
    def score(a, b):
        return cos(a, b) * o.critic.log_inverse.exp()

    rows = [
        [score(q, k), *[score(q, old) for old in o.negatives.queue.rows]]
        for i, j in swapped(online, target)
        for q, k in zip(online[i], target[j].detach(), strict=True)
    ]
    return mean(find(rows, i, 0) for i in range(len(rows)))


def moco_v3(o, online, target, beside):
    temperature = 1 / o.critic.log_inverse.exp()

    def ctr(q, k):
        scores = [[cos(a, b) / temperature for b in k.detach()] for a in q]
        return mean(find(scores, i, i) for i in range(len(q))) * 2 * round(float(temperature), 6)

    q1, q2 = (o.predictor(z) for z in online)
    return ctr(q1, target[1]) + ctr(q2, target[0])


def siglip(o, online, target, beside):
    x, y = online
    total = 0
    for i in range(len(x)):
        for j in range(len(y)):
            sign = 1 if i == j else -1
            total += (1 / (1 + (-sign * (o.critic.log_inverse.exp() * cos(x[i], y[j]) + o.bias)).exp())).log()
    return -total / len(x)


# ---- contrastive, no bound ----------------------------------------------------------------------------------------


def dcl(o, online, target, beside):
    x, y = online
    n, t = len(x), o.temperature

    def weight(i):
        if o.weight_width is None:
            return 1
        of_all = mean((cos(x[k], y[k]) / o.weight_width).exp() for k in range(n))
        return (2 - (cos(x[i], y[i]) / o.weight_width).exp() / of_all).detach()

    def one(a, b, i):
        others = sum((cos(a[i], z[j]) / t).exp() for z in (a, b) for j in range(n) if j != i)
        return -weight(i) * cos(a[i], b[i]) / t + others.log()

    return mean(one(a, b, i) for a, b in ((x, y), (y, x)) for i in range(n))


def supcon(o, online, target, beside):
    z = [row for view in online for row in view]
    label = [int(k) for k in beside["labels"]] * len(online)
    n = len(z)
    scores = [[cos(z[i], z[j]) / o.temperature if i != j else None for j in range(n)] for i in range(n)]
    partners = {i: [p for p in range(n) if p != i and label[p] == label[i]] for i in range(n)}
    return mean(mean(find(scores, i, p) for p in partners[i]) for i in range(n))


def spectral(o, online, target, beside):
    x, y = ([row if row.norm() <= o.radius**0.5 else unit(row) * o.radius**0.5 for row in view] for view in online)
    n = len(x)
    return -2 * mean(x[i] @ y[i] for i in range(n)) + mean(
        (x[i] @ y[j]) ** 2 for i in range(n) for j in range(n) if i != j
    )


def alignment_uniformity(o, online, target, beside):
    x, y = ([unit(row) for row in view] for view in online)
    n = len(x)
    align = mean((x[i] - y[i]).norm() ** o.power for i in range(n))

    def uniform(z):
        return mean((-o.t * ((z[i] - z[j]) ** 2).sum()).exp() for i in range(n) for j in range(n) if i != j).log()

    return o.alignment * align + o.uniformity * (uniform(x) + uniform(y)) / 2


def nnclr(o, online, target, beside):
    def nearest(z):
        return max(o.support.rows, key=lambda row: float(cos(row, z.detach())))

    def one(z, p):
        scores = [[nearest(a) @ unit(b) / o.temperature for b in p] for a in z]
        return mean(find(scores, i, i) for i in range(len(z)))

    p1, p2 = (o.predictor(z) for z in online)
    return one(online[0], p2) / 2 + one(online[1], p1) / 2


def ressl(o, online, target, beside):
    def relation(z, temperature):
        weights = torch.stack([(unit(z) @ row / temperature).exp() for row in o.queue.rows])
        return weights / weights.sum()

    return mean(
        -(relation(t.detach(), o.target_temperature) * relation(s, o.online_temperature).log()).sum()
        for i, j in swapped(online, target)
        for s, t in zip(online[i], target[j], strict=True)
    )


# ---- prediction ---------------------------------------------------------------------------------------------------


def byol(o, online, target, beside):
    def one(p, z):
        return mean(((unit(a) - unit(b.detach())) ** 2).sum() for a, b in zip(p, z, strict=True))

    return one(o.predictor(online[0]), target[1]) + one(o.predictor(online[1]), target[0])


def simsiam(o, online, target, beside):
    def d(p, z):
        return mean(-cos(a, b.detach()) for a, b in zip(p, z, strict=True))

    return d(o.predictor(online[0]), online[1]) / 2 + d(o.predictor(online[1]), online[0]) / 2


# ---- second moments -----------------------------------------------------------------------------------------------


def barlow_twins(o, online, target, beside):
    x, y = (view - view.mean(0) for view in online)
    d = x.shape[1]

    def correlation(i, j):
        # 1e-5 in each variance, as said in the class.
        sizes = (mean(x[:, i] ** 2) + 1e-5) * (mean(y[:, j] ** 2) + 1e-5)
        return mean(x[:, i] * y[:, j]) / sizes.sqrt()

    own = sum((1 - correlation(i, i)) ** 2 for i in range(d))
    cross = sum(correlation(i, j) ** 2 for i in range(d) for j in range(d) if i != j)
    return o.scale * (own + o.redundancy * cross)


def _covariance(z, i, j):
    return sum((a[i] - z[:, i].mean()) * (a[j] - z[:, j].mean()) for a in z) / (len(z) - 1)


def _vicreg(o, online, covariance):
    x, y = online
    n, d = x.shape
    s = mean((x[b, j] - y[b, j]) ** 2 for b in range(n) for j in range(d))

    def v(z):
        return mean(torch.relu(1 - (_covariance(z, j, j) + 1e-4).sqrt()) for j in range(d))

    return o.invariance * s + o.variance * (v(x) + v(y)) / 2 + o.covariance * (covariance(x) + covariance(y))


def vicreg(o, online, target, beside):
    def c(z):
        d = z.shape[1]
        return sum(_covariance(z, i, j) ** 2 for i in range(d) for j in range(d) if i != j) / d

    return _vicreg(o, online, c)


def vibcreg(o, online, target, beside):
    def c(z):
        d = z.shape[1]
        own = [_covariance(z, i, i) for i in range(d)]
        return sum(_covariance(z, i, j) ** 2 / (own[i] * own[j]) for i in range(d) for j in range(d) if i != j) / d**2

    return _vicreg(o, online, c)


def w_mse(o, online, target, beside):
    def white(z):
        d = z.shape[1]
        own = torch.stack([torch.stack([_covariance(z, i, j) for j in range(d)]) for i in range(d)])
        factor = torch.linalg.cholesky((1 - o.shrinkage) * own + o.shrinkage * torch.eye(d, dtype=z.dtype))
        return [torch.linalg.inv(factor) @ (row - z.mean(0)) for row in z]

    return mean(((unit(a) - unit(b)) ** 2).sum() for a, b in zip(*map(white, online), strict=True))


def tico(o, online, target, beside):
    x = [[unit(row) for row in view] for view in online]
    y = [[unit(row.detach()) for row in view] for view in target]
    now = mean(torch.outer(row, row) for view in x for row in view)
    now = now if o.moments_gradient else now.detach()
    c = o.memory * o.moments + (1 - o.memory) * now
    agree = mean(a @ b for i, j in swapped(x, y) for a, b in zip(x[i], y[j], strict=True))
    return -agree + o.contrast * mean(row @ c @ row for view in x for row in view)


def mmcr(o, online, target, beside):
    c = torch.stack([mean(unit(view[i]) for view in online) for i in range(len(online[0]))])
    return -torch.linalg.eigvalsh(c.T @ c).clamp(min=0).sqrt().sum()


def coding_rate(o, online, target, beside):
    n, d = online[0].shape
    views = [[unit(row) for row in view] for view in online]

    def rate(z):
        gram = torch.stack([torch.stack([a @ b for b in z]) for a in z])
        return (1 + d / (n * o.distortion) * torch.linalg.eigvalsh(gram)).log().sum() / 2

    centre = [mean(view[i] for view in views) for i in range(n)]
    agree = mean(cos(row, c) for view in views for row, c in zip(view, centre, strict=True))
    return -mean(rate(view) for view in views) - o.invariance * agree


def lejepa(o, online, target, beside):
    n, d = online[0].shape
    centre = mean(online[: o.global_views])
    predict = mean(((z - centre) ** 2).mean() for z in online)
    directions = torch.randn(d, o.slices, generator=torch.Generator().manual_seed(int(o.steps))).double()

    def epps_pulley(along):
        t = [-5 + 10 * k / 16 for k in range(17)]
        at = [
            (mean(torch.exp(1j * p * s) for p in along) - math.exp(-(s**2) / 2)).abs() ** 2 * math.exp(-(s**2) / 2)
            for s in t
        ]
        return n * sum((a + b) / 2 * 10 / 16 for a, b in pairwise(at))

    gaussian = mean(epps_pulley(z @ unit(directions[:, k])) for z in online for k in range(o.slices))
    return (1 - o.weight) * predict + o.weight * gaussian


def koleo(o, online, target, beside):
    def one(view):
        x = [unit(row) for row in view]
        n = range(len(x))
        return mean(-min((x[i] - x[j]).norm() for j in n if j != i).log() for i in n)

    return mean(one(view) for view in online)


def nt_xent_and_koleo(o, online, target, beside):
    return nt_xent(o.parts["first"], online, target, beside) + 0.1 * koleo(o, online, target, beside)


def byol_and_koleo(o, online, target, beside):
    return byol(o.parts["byol"], online, target, beside) + 0.1 * koleo(o, online, target, beside)


def frossl(o, online, target, beside):
    n, d = online[0].shape
    views = [torch.stack([unit(column) for column in z.T], 1) for z in online]
    centre = mean(views)

    def entropy(z):
        return (torch.linalg.eigvalsh(z @ z.T / d) ** 2).sum().log()

    apart = sum((z[i] - centre[i]) @ (z[i] - centre[i]) for z in views for i in range(n))
    return sum(entropy(z) for z in views) + o.invariance * len(views) / n * apart


# ---- neighbours and locations -------------------------------------------------------------------------------------


def _neighbours(o, target):
    return [
        torch.stack([max(o.support.rows, key=lambda row, y=y: float(cos(row, y.detach()))) for y in z]) for z in target
    ]


def nnbyol(o, online, target, beside):
    return byol(o.objective, online, _neighbours(o, target), beside)


def nnsiam(o, online, target, beside):
    p, near = [o.objective.predictor(z) for z in online], _neighbours(o, target)
    return mean(-cos(a, b) for i, j in swapped(p, near) for a, b in zip(p[i], near[j], strict=True))


def densecl(o, online, target, beside):
    dense = o.parts["dense"]

    def one(query, key):
        (q, f), (k, g) = query, key
        for i in range(len(q)):
            for a in range(q.shape[1]):
                m = max(range(g.shape[1]), key=lambda b: float(cos(f[i, a], g[i, b]).detach()))
                scores = [cos(q[i, a], k[i, m].detach()), *(unit(q[i, a]) @ row for row in dense.queue.rows)]
                yield find([[s / dense.temperature for s in scores]], 0, 0)

    maps, taught = beside["maps"], beside["target_maps"]
    local = mean(loss for v, w in swapped(maps, taught) for loss in one(maps[v], taught[w]))
    return moco(o.parts["moco"], online, target, beside) / 2 + local / 2


def vicregl(o, online, target, beside):
    local = o.parts["local"]
    n = len(online[0])

    def place(box, p, count):
        side = round(count**0.5)
        top, left, height, width = (float(x) for x in box)
        return top + height * (p // side + 0.5) / side, left + width * (p % side + 0.5) / side

    def kept(distances, most):
        nearest = [min(range(len(row)), key=row.__getitem__) for row in distances]
        first = sorted(range(len(distances)), key=lambda p: distances[p][nearest[p]])
        return [(p, nearest[p]) for p in sorted(first[: round(local.matches * len(distances) / most)])]

    def by_place(v, w, x, y, i):
        at = [
            [place(beside["boxes"][i, view], p, z.shape[1]) for p in range(z.shape[1])] for view, z in ((v, x), (w, y))
        ]
        return [[math.dist(a, b) for b in at[1]] for a in at[0]]

    def by_embedding(v, w, x, y, i):
        return [[float((a - b).norm().detach()) for b in y[i]] for a in x[i]]

    def one(v, w, scale, distances):
        x, y = beside["maps"][v][scale], beside["maps"][w][scale]
        most = max(x.shape[1], y.shape[1])
        pairs = [kept(distances(v, w, x, y, i), most) for i in range(n)]

        def at(k):  # the k-th kept pair of every image: a batch of two views
            views = [torch.stack([z[i, pairs[i][k][s]] for i in range(n)]) for s, z in ((0, x), (1, y))]
            return vicreg(local, views, views, {})

        return mean(at(k) for k in range(len(pairs[0])))

    each = [(v, w, scale) for v, w in ((0, 1), (1, 0)) for scale in range(len(beside["maps"][0]))]
    here = mean(one(*which, by_place) for which in each) + mean(one(*which, by_embedding) for which in each)
    return 0.75 * vicreg(o.parts["vicreg"], online, target, beside) + 0.25 * here


def all4one(o, online, target, beside):
    rows, d, k = o.support.rows, online[0].shape[1], o.neighbours

    def neighbours(y):
        return sorted(rows, key=lambda row: -float(cos(row, y)))[:k]

    def normed(x, layer):
        return (x - x.mean()) / ((x - x.mean()).square().mean() + layer.eps).sqrt() * layer.weight + layer.bias

    def attended(tokens):
        for layer in o.attention.layers:
            weight, bias = layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias
            q, key, value = ([weight[s * d :][:d] @ x + bias[s * d :][:d] for x in tokens] for s in range(3))
            new = []
            for a, token in enumerate(tokens):
                parts = []
                for h in torch.arange(d).chunk(o.heads):
                    share = torch.stack([(q[a][h] @ b[h] / len(h) ** 0.5).exp() for b in key])
                    parts.append(sum(s * v[h] for s, v in zip(share / share.sum(), value, strict=True)))
                token = normed(token + layer.self_attn.out_proj(torch.cat(parts)), layer.norm1)
                new.append(normed(token + layer.linear2(layer.linear1(token).relu()), layer.norm2))
            tokens = new
        return tokens[0]

    def rank(m):
        turns = [m / 10000 ** (2 * (c // 2) / d) for c in range(d)]
        return torch.tensor([math.cos(a) if c % 2 else math.sin(a) for c, a in enumerate(turns)])

    def summary(tokens):
        return attended([token + rank(m) for m, token in enumerate(tokens)])

    near = [[neighbours(y) for y in view] for view in target]
    p, p2 = [o.predictor(z) for z in online], [o.centre_predictor(z) for z in online]
    nearest, centre, on, off = [], [], [], []
    for i, j in ((0, 1), (1, 0)):
        scores = [[cos(a[0], b) / o.temperature for b in p[j]] for a in near[i]]
        nearest += [find(scores, r, r) for r in range(len(scores))]
        keys = [summary(a) for a in near[i]]
        queries = [summary([b, *a[:-1]]) for a, b in zip(near[j], p2[j], strict=True)]
        scores = [[cos(a, b) / o.centre_temperature for b in queries] for a in keys]
        centre += [find(scores, r, r) for r in range(len(scores))]
        c = [[cos(target[i][:, a], online[j][:, b]) for b in range(d)] for a in range(d)]
        on += [(1 - c[a][a]) ** 2 for a in range(d)]
        off += [c[a][b] ** 2 for a in range(d) for b in range(d) if a != b]
    feature = mean(on).sqrt() / 2 + mean(off).sqrt() / 2
    return o.near * mean(nearest) + o.centre * mean(centre) + o.feature * feature


# ---- assignments --------------------------------------------------------------------------------------------------


def swav(o, online, target, beside):
    prototypes = [unit(c) for c in o.prototypes]

    def scores(z):
        return torch.stack([torch.stack([cos(row, c) for c in prototypes]) for row in z])

    def codes(v):
        rows = torch.cat([online[v], o.queues[v].rows]).detach()
        q = (scores(rows) / o.epsilon).exp().T.detach()
        k, b = q.shape
        q = q / q.sum()
        for _ in range(o.iterations):
            q = q / q.sum(1, keepdim=True) / k
            q = q / q.sum(0, keepdim=True) / b
        return (q * b).T[: len(online[v])]

    def one(q, z):
        p = (scores(z) / o.temperature).exp()
        p = p / p.sum(1, keepdim=True)
        return mean(-(q[i] * p[i].log()).sum() for i in range(len(z)))

    return mean(one(codes(v), online[w]) for v in range(o.code_views) for w in range(len(online)) if v != w)


def deepcluster(o, online, target, beside):
    known = [i for i in range(len(o.known)) if o.known[i]]

    def clustered(h):
        points = {i: o.bank[h % len(o.bank)][i] for i in known}
        draw = torch.Generator().manual_seed(int(o.clusterings) * len(o.centroids) + h)
        start = torch.randperm(len(known), generator=draw)[: len(o.centroids[h])]
        centroids = [points[known[i]] for i in start]

        def nearest(i):
            return max(range(len(centroids)), key=lambda k: float(points[i] @ centroids[k]))

        for _ in range(o.iterations):
            own = {i: nearest(i) for i in known}
            members = [[points[i] for i in known if own[i] == k] for k in range(len(centroids))]
            centroids = [unit(sum(m)) if m else c for m, c in zip(members, centroids, strict=True)]
        return centroids, {i: nearest(i) for i in known}

    def one(z, i, centroids, own):
        e = torch.stack([(unit(z) @ c / o.temperature).exp() for c in centroids])
        return -(e[own[i]] / e.sum()).log()

    heads = [clustered(h) for h in range(len(o.centroids))]
    return mean(one(z[n], int(i), *head) for head in heads for z in online for n, i in enumerate(beside["index"]))


def dino(o, online, target, beside):
    def share(z, temperature):
        e = (z / temperature).exp()
        return e / e.sum()

    return mean(
        -(share(t.detach() - o.centre, o.target_temperature) * share(s, o.online_temperature).log()).sum()
        for i, j in swapped(online, target)
        for s, t in zip(online[i], target[j], strict=True)
    )
