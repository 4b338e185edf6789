"""Points of many dimensions in two: PCA always, t-SNE, and UMAP where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

FEWEST = 10  # points that t-SNE and UMAP are run on
NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}  # in the order that they are offered


def two_dimensional(x: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Maps of the rows of x.

    Args:
        x: `[n, d]`.
        seed: Of t-SNE and UMAP.

    Returns:
        float32 `[n, 2]` by name: "pca", "tsne", "umap".
    """
    x = np.asarray(x, dtype=np.float64)
    left, values, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    components = left * values
    flat = np.zeros((len(x), 2))
    flat[:, : min(2, components.shape[1])] = components[:, :2]
    found = {"pca": flat}
    if len(x) >= FEWEST and np.ptp(components) > 0:
        found["tsne"] = _tsne(components[:, :30], seed)
        if find_spec("umap") is not None:
            found["umap"] = _umap(components, seed)
    return {name: xy.astype(np.float32) for name, xy in found.items()}


def _tsne(x: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(x) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=500).fit_transform(x)


def _umap(x: np.ndarray, seed: int) -> np.ndarray:
    import umap

    return umap.UMAP(random_state=seed, n_jobs=1, n_neighbors=min(15, len(x) - 1)).fit_transform(x)
