"""The section of a report about stickers: shares, sentences, and the places on some images."""

from __future__ import annotations

import numpy as np

from sklearn_patchcert.displays.colors import OPEN, SAFE
from sklearn_patchcert.displays.report.pixels import data_uri
from sklearn_patchcert.displays.report.rendering import percent_text

_SIDE = 192  # pixels along the longer side of a picture, about
_STRIPE = 12  # pixels from one stripe to the next


def sticker_words(sizes, n_stickers):
    """The stickers in words.

    Parameters
    ----------
    sizes : list of tuple (height, width)
    n_stickers : int

    Returns
    -------
    text : str

    Examples
    --------
    >>> from sklearn_patchcert.displays.report.stickers import sticker_words
    >>> sticker_words([(5, 5), (2, 8)], 1)
    'one sticker of up to 5 x 5 or 2 x 8 pixels (height x width)'
    """
    listed = " or ".join(f"{height} x {width}" for height, width in sizes)
    count = "one sticker" if n_stickers == 1 else f"{n_stickers} stickers"
    return f"{count} of up to {listed} pixels (height x width)"


def sticker_tiles(found, right, interval):
    """The first numbers: name, value and sentence.

    Parameters
    ----------
    found : dict
        As :mod:`reporting` makes it.
    right : ndarray of bool (n,) or None
    interval : callable (k, n)
        The 95% interval of a share.

    Returns
    -------
    tiles : list of dict
    """
    n, certified, shares = len(found["certified"]), found["certified"], found["shares"]
    counted = certified if right is None else certified & right
    k, name = int(counted.sum()), "Certified accuracy" if right is not None else "Certified share"
    low, high = interval(k, n)
    what = "right and certified" if right is not None else "certified"
    text = (
        f"{k} of {n} images {what} against {sticker_words(found['sizes'], found['n_stickers'])}, "
        f"anywhere. 95% interval {percent_text(low, 'down')} to {percent_text(high, 'up')}."
    )
    places = (
        "Mean share of the places of an image at which no sticker can change the prediction, right "
        "or wrong. It is not a certificate of whole images."
    )
    return [
        {"name": f"{name}, stickers", "value": percent_text(k / n, "down"), "text": text},
        {
            "name": "Certified places",
            "value": percent_text(float(shares.mean()), "down"),
            "text": places,
        },
    ]


def sticker_meanings(found):
    """Terms and their explanation.

    Parameters
    ----------
    found : dict

    Returns
    -------
    meanings : list of tuple (term, text)
    """
    what = sticker_words(found["sizes"], found["n_stickers"])
    rest = (
        "At the same time every patch outside may change by less than its patch radius."
        if found["tokens"]
        else "The rest of the image must not change at all: masks replace pixels, not tokens."
    )
    other = "" if found["n_stickers"] == 1 else " This holds wherever the other sticker is."
    return [
        (
            "Certified against stickers",
            f"Whatever {what} shows and wherever it is, the prediction stays the same. {rest} It "
            "is a proof for the model that decides by double masking, not an estimate.",
        ),
        (
            "Certified place",
            f"A place is a {'patch' if found['tokens'] else 'pixel'} of the image. If it is "
            "certified, no sticker whose upper left pixel lies in it can change the prediction."
            f"{other} An image is certified if all its places are. At other places nothing is "
            "proved: a sticker there may change the prediction or not.",
        ),
        (
            "What is not covered by it",
            "Larger, further or other stickers than these. Pixels are those of the array that the "
            "model receives: if pictures are made smaller first, a sticker on the object must "
            "still fit into this many pixels of the array. A wrong prediction that is certified "
            "stays wrong.",
        ),
    ]


def sticker_facts(found):
    """Lines of the model card.

    Parameters
    ----------
    found : dict

    Returns
    -------
    facts : list of tuple (term, text)
    """
    k, n = found["n_masks"], found["n_predictions"]
    space = "tokens" if found["tokens"] else "pixels"
    return [
        ("Stickers", sticker_words(found["sizes"], found["n_stickers"])),
        (
            "Masks",
            f"{k}, of {space}; {n:.0f} masked images were classified for an image on average",
        ),
    ]


def least_and_most(shares, most):
    """The images with the smallest shares of certified places, and those with the largest.

    Parameters
    ----------
    shares : ndarray (n,)
    most : int
        Images of both kinds together.

    Returns
    -------
    chosen : ndarray of int (m,)
        By their shares.
    """
    order = np.lexsort((np.arange(len(shares)), shares))
    most = min(most, len(order))
    return np.concatenate([order[: most - most // 2], order[len(order) - most // 2 :]])


def places_uri(places):
    """A map of places, green where it is certified, with orange stripes where it is not.

    Parameters
    ----------
    places : ndarray of bool (rows, cols)

    Returns
    -------
    uri : str
        PNG.
    """
    times = max(1, round(_SIDE / max(places.shape)))
    large = places.repeat(times, 0).repeat(times, 1)
    down, right = np.indices(large.shape)
    stripes = (down + right) % _STRIPE < _STRIPE // 4
    colors = np.where(large[..., None], _rgb(SAFE), _rgb(OPEN))
    colors = np.where((~large & stripes)[..., None], np.uint8(255), colors)
    return data_uri(colors.astype(np.uint8))


def _rgb(color):
    return np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)], dtype=np.uint8)
