r"""Tokens with classes, apart from each other: nearest prototypes, trained for their certificates.

Where a patch is the whole image, tokens are the prototypes of a classifier.  To change the class, a
wrong token b has to come nearer than every token a of the right class, so all wrong ones are out of
reach within

.. math:: \min_b \max_a \frac{|x - b|_2^2 - |x - a|_2^2}{2\, |a - b|_2}.

Training enlarges this up to a target (Voracek and Hein, ICML 2022, arXiv:2207.07208; Saralajew et
al., NeurIPS 2020).
"""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens
from sklearn_patchcert.voronoi import surrogates

_KMEANS_STEPS = 20
_CANDIDATES = 8, 24
_STEPS_APART = 100  # for which distances between tokens are kept


def class_tokens(patches, labels, n_tokens, *, generator=None, device="cpu"):
    """Tokens by k-means in each class by itself.

    Parameters
    ----------
    patches : ndarray (n, dim)
    labels : ndarray of int (n,)
        From 0 on, all of them there.
    n_tokens : int
        In all; the classes share them evenly.
    generator : torch.Generator or None
    device : str or torch.device

    Returns
    -------
    tokens : ndarray (<= n_tokens, dim)
    owners : Tensor of int64 (<= n_tokens,)
        Their labels.

    Raises
    ------
    ValueError
        If there are more classes than tokens.
    """
    classes = int(labels.max()) + 1
    if n_tokens < classes:
        raise ValueError(f"n_tokens={n_tokens} is less than one for each of {classes} classes.")
    tokens, owners = [], []
    for label in range(classes):
        share = n_tokens // classes + (label < n_tokens % classes)
        found, _ = kmeans_tokens(
            patches[labels == label],
            share,
            max_iter=_KMEANS_STEPS,
            generator=generator,
            device=device,
        )
        tokens.append(torch.as_tensor(found))
        owners.append(torch.full((len(found),), label))
    return torch.cat(tokens).numpy(), torch.cat(owners)


def wrong_walls(patches, labels, tokens, owners, *, apart=None, candidates=None):
    """How far off tokens of other classes are at least: the minimum above.

    Parameters
    ----------
    patches : Tensor (n, dim)
    labels : Tensor of int64 (n,)
    tokens : Tensor (n_tokens, dim)
    owners : Tensor of int64 (n_tokens,)
    apart : Tensor (n_tokens, n_tokens) or None
        Distances between the tokens, or what they were some time ago: they choose the pair of
        tokens that decides, no more.  None: computed.
    candidates : (int, int) or None
        So many tokens of the right class and of the others, the nearest ones, are looked at.
        None: all.

    Returns
    -------
    walls : Tensor (n,)
        Negative where the nearest token is one of another class; inf where there is no other.
    """
    with torch.no_grad():
        apart = _apart(tokens) if apart is None else apart
        squares = surrogates.squared_distances(patches, tokens)
        right = owners == labels[:, None]
        here, there = (min(c, len(tokens)) for c in candidates or (len(tokens),) * 2)
        near, own = torch.where(right, squares, torch.inf).topk(here, largest=False)
        far, other = torch.where(right, torch.inf, squares).topk(there, largest=False)
        found = far[:, None] - near[:, :, None]
        found = (found / (2 * apart[own[:, :, None], other[:, None]])).nan_to_num(-torch.inf)
        best, which = found.max(1)
        wall = best.argmin(1, keepdim=True)
        a, b = own.gather(1, which.gather(1, wall))[:, 0], other.gather(1, wall)[:, 0]
    a, b = tokens[a], tokens[b]
    gap = (patches - b).square().sum(1) - (patches - a).square().sum(1)
    walls = gap / (2 * surrogates.root((a - b).square().sum(1)))
    return torch.where(right.all(1), torch.inf, walls)


def _apart(tokens):
    return surrogates.root(surrogates.squared_distances(tokens, tokens))


def train_prototypes(
    patches,
    labels,
    tokens,
    owners,
    *,
    target=None,
    augment=None,
    max_iter=10,
    batch_size=256,
    learning_rate=0.01,
    generator=None,
    device="cpu",
    progress=False,
):
    """Gradient descent (Adam) on what the walls of wrong tokens lack to a target.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
        The patches of n images, of a standard deviation of about 1; a batch holds whole images.
    labels : ndarray of int (n,)
        The classes of the images.
    tokens : ndarray (n_tokens, dim)
        The start.
    owners : Tensor of int64 (n_tokens,)
    target : float or None
        None: the mean of the walls at the start.
    augment : callable (Tensor (m, positions, dim)) -> Tensor or None
        What changes the images of each step.
    max_iter, batch_size, learning_rate, generator, device, progress
        As for :func:`vocabulary.training.learn_tokens`.

    Returns
    -------
    tokens : ndarray (n_tokens, dim)
    history : list of float
        Mean shortfall of each pass.
    """
    data, classes = torch.tensor(patches, device=device), torch.as_tensor(labels, device=device)
    learned = torch.tensor(tokens, device=device, requires_grad=True)
    owners, positions = owners.to(device), data.shape[1]

    def walls_of(images, classes, **options):
        repeated = classes.repeat_interleave(positions)
        return wrong_walls(
            images.flatten(0, 1), repeated, learned, owners, candidates=_CANDIDATES, **options
        )

    if target is None:
        with torch.no_grad():
            apart, size = _apart(learned), max(1, 1024 // positions)
            parts = zip(data.split(size), classes.split(size), strict=True)
            found = torch.cat([walls_of(x, y, apart=apart) for x, y in parts]).clamp_min(0)
        target = float(found[found.isfinite()].mean()) if found.isfinite().any() else 1.0
    optimizer = torch.optim.Adam([learned], lr=learning_rate, fused=True)
    steps = max_iter * -(-len(data) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    history, step = [], 0
    for _ in tqdm(range(max_iter), desc="vocabulary", disable=not progress):
        total = 0.0
        for chosen in torch.randperm(len(data), generator=generator).split(batch_size):
            chosen = chosen.to(data.device)
            images = data[chosen] if augment is None else augment(data[chosen])
            if step % _STEPS_APART == 0:
                with torch.no_grad():
                    apart = _apart(learned)
            loss = (target - walls_of(images, classes[chosen], apart=apart)).clamp_min(0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            total += float(loss.detach()) * len(chosen)
        history.append(total / len(data))
    return learned.detach().cpu().numpy(), history
