r"""Tokens with classes, apart from each other: nearest prototypes, trained for their certificates.

Where a patch is the whole image, tokens are the prototypes of a classifier, and a wrong token b is
out of reach within

.. math:: h_b = (|x - b|_2^2 - |x - a|_2^2) / (2 |a - b|_2),

a being the nearest token of the right class.  Training enlarges the smallest h_b up to a target
(Voracek and Hein, ICML 2022; Saralajew et al., NeurIPS 2020).
"""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from sklearn_patchcert import surrogates
from sklearn_patchcert.kmeans import kmeans_tokens

_KMEANS_STEPS = 20


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


def wrong_walls(patches, labels, tokens, owners):
    """How far off tokens of other classes are at least: the smallest h_b above.

    Parameters
    ----------
    patches : Tensor (n, dim)
    labels : Tensor of int64 (n,)
    tokens : Tensor (n_tokens, dim)
    owners : Tensor of int64 (n_tokens,)

    Returns
    -------
    walls : Tensor (n,)
        Negative where the nearest token is one of another class.
    """
    squares = surrogates.squared_distances(patches, tokens)
    right = owners == labels[:, None]
    near, own = torch.where(right, squares, torch.inf).min(1)
    apart = surrogates.root(surrogates.squared_distances(tokens[own], tokens))
    walls = (squares - near[:, None]) / (2 * apart)
    return torch.where(right, torch.inf, walls).amin(1)


def train_prototypes(
    patches,
    labels,
    tokens,
    owners,
    *,
    target=None,
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
    patches : ndarray (n, dim)
        Of a standard deviation of about 1.
    labels : ndarray of int (n,)
    tokens : ndarray (n_tokens, dim)
        The start.
    owners : Tensor of int64 (n_tokens,)
    target : float or None
        None: the mean of the walls at the start.
    max_iter, batch_size, learning_rate, generator, device, progress
        As for :func:`training.learn_tokens`; `batch_size` counts patches.

    Returns
    -------
    tokens : ndarray (n_tokens, dim)
    history : list of float
        Mean shortfall of each pass.
    """
    data, classes = torch.tensor(patches, device=device), torch.as_tensor(labels, device=device)
    learned = torch.tensor(tokens, device=device, requires_grad=True)
    owners = owners.to(device)
    if target is None:
        with torch.no_grad():
            found = [
                wrong_walls(x, y, learned, owners)
                for x, y in zip(data.split(1024), classes.split(1024), strict=True)
            ]
        finite = torch.cat(found).clamp_min(0)
        target = float(finite[finite.isfinite()].mean()) if finite.isfinite().any() else 1.0
    optimizer = torch.optim.Adam([learned], lr=learning_rate)
    steps = max_iter * -(-len(data) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    history = []
    for _ in tqdm(range(max_iter), desc="vocabulary", disable=not progress):
        total = 0.0
        for chosen in torch.randperm(len(data), generator=generator).split(batch_size):
            chosen = chosen.to(data.device)
            walls = wrong_walls(data[chosen], classes[chosen], learned, owners)
            loss = (target - walls).clamp_min(0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        history.append(total / len(data))
    return learned.detach().cpu().numpy(), history
