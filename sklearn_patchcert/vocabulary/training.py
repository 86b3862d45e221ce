"""Learning a vocabulary: by k-means, by gradient descent on losses, by exemplars."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from sklearn_patchcert.vocabulary.clustering.assignment import (
    carried_counts,
    count_and_error,
    nearest,
)
from sklearn_patchcert.vocabulary.clustering.distinct import distinct_tokens
from sklearn_patchcert.vocabulary.exemplars import exemplar_tokens
from sklearn_patchcert.vocabulary.kmeans import kmeans_tokens, running_means
from sklearn_patchcert.vocabulary.losses import (
    Batch,
    margin_loss,
    negentropy_loss,
    reconstruction_loss,
    structure_loss,
)
from sklearn_patchcert.vocabulary.prototypes import class_tokens, train_prototypes
from sklearn_patchcert.voronoi import surrogates

_DISTANCES_AT_ONCE = 2**25  # of patches to tokens, where losses need them all: 128 MiB in float32

_VALUES_AT_ONCE = 2**20


def fit_tokens(
    patches,
    n_tokens,
    strategy="learned",
    *,
    tokens=None,
    counts=None,
    seed=0,
    device="cpu",
    search_device=None,
    min_distance=None,
    labels=None,
    target_radius=None,
    augment=None,
    noise_std=0.0,
    n_jobs=None,
    progress=False,
    **options,
):
    """Start a vocabulary, or go on with one, by a strategy.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
        The patches of n images.
    n_tokens : int
    strategy : {"kmeans", "learned", "denoised", "supervised"}
    tokens : ndarray (m, dim) or None
        A vocabulary to go on with.  With "kmeans" and "learned" it is started again, its tokens
        weighted by their counts, as long as it is short of tokens.
    counts : ndarray of int (m,) or None
        How many patches each of these tokens has stood for.
    seed : int
        Of the torch.Generator that everything random below draws from.
    device : str or torch.device
        For gradient descent.
    search_device : str, torch.device or None
        For nearest tokens; `device` by default.
    min_distance : float or None
        Of "denoised", in the units of the patches; see :func:`exemplar_tokens`.
    labels : ndarray of int (n,) or None
        Of "supervised": the classes of the images.
    target_radius : float or None
        Of "supervised", in the units of the patches; see
        :func:`vocabulary.prototypes.train_prototypes`.
    augment : callable or None
        Of "supervised": a function of images (m, C, H, W), Tensor; needs a `layout`.
    noise_std : float
        Of "learned", in the units of the patches.
    n_jobs : int or None
        Threads of all but the gradient descent.  Results do not depend on it.
    progress : bool
        Whether to show bars.
    **options
        Go to :func:`learn_tokens`.

    Returns
    -------
    tokens : ndarray (<= n_tokens, dim), distinct
    counts : ndarray of int (<= n_tokens,)
        How many patches, those before included, each token stands for.
    history : list of float
        Mean squared errors of k-means or of the exemplars, or the losses of :func:`learn_tokens`
        in the units of such errors.
    """
    generator = torch.Generator().manual_seed(seed)
    search = device if search_device is None else search_device
    # In units of about the root mean square, squares neither overflow nor vanish in float32; a
    # power of two keeps the patches as they are.
    unit = _power_of_two_near_rms(patches)
    patches = patches / unit
    flat = patches.reshape(-1, patches.shape[-1])
    tokens = None if tokens is None else tokens / unit
    short = tokens is None or len(tokens) < n_tokens
    origin = tokens if short else None  # of the counts, where tokens start again
    where = {"device": search, "n_jobs": n_jobs}
    if strategy == "denoised":
        distance = None if min_distance is None else min_distance / float(unit)
        more = {"tokens": tokens, "generator": generator, "progress": progress, **where}
        tokens = exemplar_tokens(flat, n_tokens, distance, **more)
        history = [count_and_error(flat, tokens, **where)[1]]
    elif strategy == "supervised":
        every = np.repeat(labels, patches.shape[1])
        tokens, owners = class_tokens(flat, every, n_tokens, generator=generator, device=search)
        spread = float(flat.std(dtype=np.float64)) or 1.0
        scale = patches.dtype.type(spread)
        target = None if target_radius is None else target_radius / float(unit) / spread
        if augment is not None:
            augment = _of_patches(augment, options["layout"], float(unit) * spread)
        names = ("max_iter", "batch_size", "learning_rate")
        tokens, history = train_prototypes(
            patches / scale,
            labels,
            tokens / scale,
            owners,
            target=target,
            augment=augment,
            generator=generator,
            device=device,
            progress=progress,
            **{name: options[name] for name in names if name in options},
        )
        tokens, history = tokens * scale, [loss**2 * spread**2 for loss in history]
        counts = None
    elif short:
        seen, weights = flat, None
        if tokens is not None:
            seen = np.concatenate([tokens, flat])
            weights = np.concatenate([np.maximum(counts, 1), np.ones(len(flat))])
        tokens, history = kmeans_tokens(
            seen, n_tokens, counts=weights, generator=generator, progress=progress, **where
        )
    elif strategy == "kmeans":
        found = list(nearest(flat, tokens, **where))
        ids = np.concatenate([ids for _, ids, _ in found])
        history = [float(np.concatenate([squares for _, _, squares in found]).mean())]
        tokens = running_means(tokens, counts, flat, ids)
    if strategy == "learned":
        # The losses see values of mean 0 and standard deviation 1.
        centre = patches.dtype.type(flat.mean(dtype=np.float64))
        spread = float(np.square(flat - centre, dtype=np.float64).mean()) ** 0.5 or 1.0
        scale = patches.dtype.type(spread)
        tokens, history = learn_tokens(
            (patches - centre) / scale,
            (tokens - centre) / scale,
            noise_std=noise_std / float(unit) / spread,
            generator=generator,
            device=device,
            progress=progress,
            **options,
        )
        tokens, history = tokens * scale + centre, [loss * spread**2 for loss in history]
    made = distinct_tokens(tokens)
    found = count_and_error(flat, made, **where)[0]
    if counts is not None:
        found = found + carried_counts(counts, tokens if origin is None else origin, made, **where)
    return made * unit, found, [loss * float(unit) ** 2 for loss in history]


def _of_patches(augment, layout, unit):
    """The same function of patches (m, positions, dim) in other units."""
    grid, patch_size, image_size = layout

    def augmented(patches):
        blocks = patches.reshape(len(patches), *grid, -1) * unit
        images = augment(surrogates.join(blocks, patch_size, image_size))
        made = surrogates.cut(images, patch_size, per_channel=grid[2] > 1)
        return (made / unit).reshape(patches.shape)

    return augmented


def _power_of_two_near_rms(patches):
    largest = max(patches.max(), -patches.min())
    if largest == 0:
        return patches.dtype.type(1)
    flat, total = patches.reshape(-1), 0.0
    for at in range(0, flat.size, _VALUES_AT_ONCE):
        part = flat[at : at + _VALUES_AT_ONCE] / largest
        total += float(np.square(part, dtype=np.float64).sum())
    rms = float(largest) * np.sqrt(total / flat.size)
    return patches.dtype.type(2.0 ** np.round(np.log2(rms)))


def learn_tokens(
    patches,
    tokens,
    *,
    layout=None,
    loss=None,
    soft_temperature=None,
    entropy_weight=0.0,
    structure_weight=0.0,
    margin_weight=0.0,
    noise_std=0.0,
    max_iter=10,
    batch_size=256,
    learning_rate=0.01,
    generator=None,
    device="cpu",
    progress=False,
):
    """Gradient descent (Adam) on a loss of the images that the tokens reconstruct.

    A token that a whole pass did not use moves to a patch, drawn by its squared error, unless the
    pass was the last.

    Parameters
    ----------
    patches : ndarray (n, positions, dim)
        The patches of n images; a batch holds whole images.  Their values should have a mean of
        about 0 and a standard deviation of about 1.
    tokens : ndarray (n_tokens, dim)
        The start.
    layout : tuple (grid, patch_size, image_size) or None
        As in :class:`vocabulary.Batch`; needed where a loss looks at images.
    loss : callable (Batch) -> scalar, or None
        What takes the place of :func:`vocabulary.reconstruction_loss`.
    soft_temperature : float, (float, float) or None
        Patches are replaced by mixtures of tokens, see :func:`voronoi.surrogates.soft_assignment`.
        A pair is annealed geometrically from the first to the second.  None: nearest tokens.
    entropy_weight, structure_weight, margin_weight : float
        Of the losses of these names in :mod:`vocabulary.losses`, which are added.
    noise_std : float
        Gaussian noise that is added to the patches before tokens are chosen.
    max_iter : int
        Passes over the images.
    batch_size : int
        Images per step.
    learning_rate : float
        In the units of the patches; falls linearly to zero.
    generator : torch.Generator or None
        Shuffles the images, draws noise and new places for tokens.
    device : str or torch.device
    progress : bool
        Whether to show a bar.

    Returns
    -------
    tokens : ndarray (n_tokens, dim)
    history : list of float
        Mean loss of each pass.
    """
    data = torch.tensor(patches, device=device)
    learned = torch.tensor(tokens, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([learned], lr=learning_rate)
    steps = max_iter * -(-len(data) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    terms = {
        "entropy": (entropy_weight, lambda b: negentropy_loss(b.squares)),
        "structure": (structure_weight, _structure_of),
        "margin": (margin_weight, lambda b: margin_loss(b.squares, b.tokens)),
    }
    terms = {name: term for name, term in terms.items() if term[0]}
    needed = loss is not None or soft_temperature is not None or bool({*terms} - {"structure"})
    at_once = batch_size
    if needed and loss is None and not entropy_weight:  # a loss that is a mean over images
        at_once = max(1, _DISTANCES_AT_ONCE // (data.shape[1] * len(learned)))
    history, step = [], 0
    for epoch in tqdm(range(max_iter), desc="vocabulary", disable=not progress):
        order = torch.randperm(len(data), generator=generator)
        losses, used = [], torch.zeros(len(learned), dtype=torch.long, device=data.device)
        for chosen in order.split(batch_size):
            images = data[chosen.to(data.device)]
            seen = images
            if noise_std:
                noise = torch.randn(images.shape, generator=generator, dtype=data.dtype)
                seen = images + noise_std * noise.to(data.device)
            temperature = _annealed(soft_temperature, step / max(1, steps - 1))
            optimizer.zero_grad()
            found = []
            for some, noisy in zip(images.split(at_once), seen.split(at_once), strict=True):
                squares: Any = None
                if needed:
                    squares = surrogates.squared_distances(noisy, learned)
                ids = _nearest(noisy, learned.detach(), squares)
                if temperature is None:
                    made = torch.nn.functional.embedding(ids, learned)
                else:
                    made = surrogates.soft_assignment(squares, temperature) @ learned
                batch = Batch(some, made, learned, squares, *(layout or (None,) * 3))
                value = reconstruction_loss(made, some) if loss is None else loss(batch)
                for weight, term in terms.values():
                    value = value + weight * term(batch)
                (value * (len(some) / len(images))).backward()
                losses.append(float(value.detach()) * len(some))
                found.append(ids)
            ids = torch.cat(found)
            errors = (seen - learned.detach()[ids]).square().sum(-1).flatten()
            optimizer.step()
            schedule.step()
            step += 1
            used += torch.bincount(ids.flatten(), minlength=len(learned))
        history.append(sum(losses) / len(data))
        if epoch < max_iter - 1:
            _revive(learned, used == 0, images.flatten(0, 1), errors, optimizer, generator)
    return learned.detach().cpu().numpy(), history


def _nearest(patches, tokens, squares):
    """Nearest tokens (n, positions), by the squared distances where there are any."""
    if squares is None and patches.device.type == "cpu":  # little memory for any number of tokens
        flat = patches.flatten(0, 1).numpy()
        ids = np.concatenate([ids for _, ids, _ in nearest(flat, tokens.numpy())])
        return torch.from_numpy(ids).unflatten(0, patches.shape[:2])
    if squares is None:
        squares = surrogates.squared_distances(patches, tokens)
    return squares.detach().argmin(-1)


def _structure_of(batch):
    return structure_loss(batch.images(batch.reconstruction), batch.images(batch.patches))


def _annealed(temperature, progress):
    """Temperature at a progress in 0..1."""
    if not isinstance(temperature, tuple | list):
        return temperature
    start, end = temperature
    return start * (end / start) ** progress


def _revive(tokens, dead, patches, errors, optimizer, generator):
    """Move dead tokens to patches drawn by their squared errors; their momentum is forgotten."""
    count = min(int(dead.sum()), int((errors > 0).sum()))
    if not count:
        return
    drawn = torch.multinomial(errors.double().cpu(), count, generator=generator)
    at = dead.nonzero()[:count, 0]
    with torch.no_grad():
        tokens[at] = patches[drawn.to(patches.device)]
    for moment in ("exp_avg", "exp_avg_sq"):
        optimizer.state[tokens][moment][at] = 0
