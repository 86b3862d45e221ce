"""What a report shows: numbers, sentences, charts and pictures of the images and their radii."""

from __future__ import annotations

import collections
import math
import re

import numpy as np
from scipy.stats import binomtest

from sklearn_patchcert.displays.inputs import own_tokens
from sklearn_patchcert.displays.report import sentences
from sklearn_patchcert.displays.report.charts import curve_chart, histogram_chart, ticks
from sklearn_patchcert.displays.report.pixels import image_uri, map_uri, tokens_uri
from sklearn_patchcert.displays.report.rendering import percent_text
from sklearn_patchcert.displays.report.stickers import (
    least_and_most,
    places_uri,
    sticker_facts,
    sticker_meanings,
    sticker_tiles,
)

_LARGE, _THUMBNAIL = 384, 48  # pixels along the longer side
_SMALL = 96  # images up to this are drawn with square pixels
_MOST_TOKENS = 512
_BRIGHTEST = 0.99  # the part of the radii that the colors tell apart


def interval(k, n):
    """The 95% interval of Clopper and Pearson for a probability.

    Parameters
    ----------
    k, n : int
        Successes and trials.

    Returns
    -------
    low, high : float
    """
    found = binomtest(int(k), int(n)).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def content_of(
    *, images, maps, radii, names, prediction, labels, right, whole, tokens, classes, unknown,
    norm, units, title, max_images, max_thumbnails, stickers=None, **given,
):  # fmt: skip
    """All that a page shows.

    Parameters
    ----------
    images : ndarray (n, H, W, C)
    maps : ndarray (n, rows, cols) or None
    radii : ndarray (n, n_radii) or None
        None, as the maps and the tokens, for a model that has no patch radii.
    names, prediction : list of str (n,)
    labels : list of str (n,) or None
    right : ndarray of bool (n,) or None
    whole : Bunch or None
        ``radius`` and ``limited``, of shape (n,).
    tokens : tuple (vocabulary, counts, patch_size) or None
    classes : list of str
    unknown : int
        Labels that are none of the model's classes.
    norm, units, title : str
    max_images, max_thumbnails : int
    stickers : dict or None
        ``certified`` (n,) and ``places`` (n, rows, cols) of bool, their ``shares`` (n,), ``sizes``,
        ``n_stickers``, ``cell``, ``tokens``, ``n_masks`` and ``n_predictions``.
    **given
        ``steps``, ``versions``, ``skipped`` and ``scaled``, as :mod:`reporting` makes them.

    Returns
    -------
    content : dict
        For :func:`displays.report.rendering.report_page`.
    drawn : dict
        The numbers among it, for Python.
    """
    n, has_radii = len(images), radii is not None
    nothing = np.full(n, math.nan)
    smallest, mean = (radii.min(1), _means(radii)) if has_radii else (nothing, nothing)
    shares = nothing if stickers is None else stickers["shares"]
    rank = shares if not has_radii else smallest if whole is None else whole.radius
    order = np.lexsort((np.arange(n), mean, smallest, rank))
    span = _span(images)
    rows = [
        {
            "name": names[at], "prediction": prediction[at], "smallest": smallest[at],
            "label": None if labels is None else labels[at],
            "right": None if right is None else bool(right[at]),
            "mean": mean[at], "whole": math.nan if whole is None else whole.radius[at],
            "largest": radii[at].max() if has_radii else math.nan, "thumbnail": None,
            "places": shares[at], "safe": stickers is not None and bool(stickers["certified"][at]),
        }
        for at in range(n)
    ]  # fmt: skip
    for at in order[:max_thumbnails] if n > max_thumbnails else range(n):
        rows[at]["thumbnail"] = image_uri(images[at], span, _THUMBNAIL)

    def drawn(chosen, map_of):
        return [
            {
                **rows[at],
                "short": re.split(r"[/\\]", names[at].rstrip("/\\"))[-1] or names[at],
                "picture": image_uri(images[at], span, _LARGE),
                "map": map_of(at),
            }
            for at in chosen
        ]

    accuracy = None if right is None else float(np.mean(right))
    accuracy_interval = None if right is None else interval(right.sum(), len(right))
    words = sentences.Words(norm, units, right is not None, whole is not None, has_radii)
    reasons = collections.Counter(given["skipped"].values()).most_common()
    tiles = words.tiles(smallest, radii, whole, accuracy, accuracy_interval, right)
    meanings = words.meanings()
    facts = _facts(images, tokens, classes, words, given["versions"])
    if stickers is not None:
        at = 0 if accuracy is None else 1
        tiles[at:at] = sticker_tiles(stickers, right, interval)
        meanings = sticker_meanings(stickers) + meanings
        facts[-1:-1] = sticker_facts(stickers)
    content = {
        "title": title, "units": units, "summary": words.summary(n, len(classes)),
        "has_labels": right is not None, "has_whole": whole is not None, "has_radii": has_radii,
        "tiles": tiles, "warnings": words.warnings(unknown, smallest, whole), "meanings": meanings,
        "classes": _by_class(classes, labels, right, smallest, whole),
        "pixelated": max(images.shape[1:3]) <= _SMALL,
        "rows": rows, "has_thumbnails": max_thumbnails > 0,
        "thumbnails_text": words.thumbnails_text(n, max_thumbnails), "facts": facts,
        "steps": given["steps"], "skipped": sorted(given["skipped"].items()),
        "reasons": reasons, "skipped_text": words.skipped_text(len(given["skipped"]), n),
        "footer": words.footer(given["versions"]), "stickers": None,
    }  # fmt: skip
    weakest = strongest = np.array([], dtype=int)
    if stickers is not None:
        chosen = least_and_most(shares, max_images)
        content["stickers"] = {
            "images": drawn(chosen, lambda at: places_uri(stickers["places"][at])),
            **_size_of(stickers["places"], stickers["cell"], images),
        }
    if has_radii:
        n_weak = min(max_images, -(-n // 2))
        weakest, strongest = order[:n_weak], order[n_weak:][::-1][:max_images]
        top = _top(maps)
        counted = np.ones(n, dtype=bool) if right is None else right
        series = [("smallest patch radius", smallest, counted)]
        if whole is not None:
            series.append(("whole-image radius", whole.radius, counted))
        curve = curve_chart(series, words.axis, "share")
        content |= {
            "curve": curve, "curve_title": words.curve_title,
            "curve_text": words.curve_text, "curve_rows": _curve_rows(series, curve["top"]),
            "histograms": _histograms(radii, smallest, whole, words),
            "maps_text": words.maps_text(
                radii[0].size > maps[0].size, len(weakest), len(strongest)
            ),
            "colorbar": _colorbar(maps, top),
            "colorbar_title": f"Patch radius, {words.norm}, {units}",
            "weakest": drawn(weakest, lambda at: map_uri(maps[at], top)),
            "strongest": drawn(strongest, lambda at: map_uri(maps[at], top)),
            "map_size": _size_of(maps, tokens[2], images),
            "vocabulary": _vocabulary(tokens, given["scaled"]),
        }  # fmt: skip
    return content, {
        "accuracy": accuracy,
        "accuracy_interval": accuracy_interval,
        "smallest": smallest if has_radii else None,
        "mean": mean if has_radii else None,
        "whole": None if whole is None else whole.radius,
        "weakest": weakest,
        "strongest": strongest,
    }


def _size_of(maps, cell, images):
    """Size of maps over the images, in per cent: the last cells may be cut."""
    (height, width), (_, rows, cols) = images.shape[1:3], maps.shape
    return {
        "width": round(100 * cols * cell[1] / width, 4),
        "height": round(100 * rows * cell[0] / height, 4),
    }


def _means(radii):
    """The mean of the finite radii of each image; inf if there are none."""
    finite = np.isfinite(radii)
    counts = finite.sum(1)
    sums = radii.sum(1, where=finite)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _span(images):
    """The values that are drawn as black and white."""
    low, high = float(images.min()), float(images.max())
    if images.dtype == np.uint8:
        return 0.0, 255.0
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _top(maps):
    """The radius of the brightest color: round, and beyond nearly all radii."""
    finite = maps[np.isfinite(maps)]
    top = float(np.quantile(finite, _BRIGHTEST)) if finite.size else 0.0
    steps = ticks(top or float(finite.max(initial=0.0)) or 1.0)
    step = steps[1]
    return steps[-1] if steps[-1] >= top else float(f"{steps[-1] + step:.10g}")


def _colorbar(maps, top):
    """Where the numbers of the color bar stand, in per cent."""
    found = [{"at": round(100 * tick / top, 2), "label": f"{tick:g}"} for tick in ticks(top)]
    if (maps[np.isfinite(maps)] > top).any():
        found[-1]["label"] = f"≥ {found[-1]['label']}"
    return found


def _by_class(classes, labels, right, smallest, whole):
    """A row for each class of the model that images are labeled with."""
    if right is None:
        return []
    rows, labels = [], np.array(labels, dtype=object)
    for name in classes:
        own = labels == name
        if not own.any():
            continue
        low, high = interval(right[own].sum(), own.sum())
        rows.append({
            "name": name, "images": int(own.sum()), "right": int(right[own].sum()),
            "accuracy": float(right[own].mean()), "low": low, "high": high,
            "smallest": sentences.median(smallest[own]),
            "whole": math.nan if whole is None else sentences.median(whole.radius[own]),
        })  # fmt: skip
    return rows


def _curve_rows(series, top):
    rows = []
    for tick in ticks(top):
        cells = []
        for _, radii, counted in series:
            k = int((counted & (radii >= tick)).sum())
            low, high = interval(k, len(radii))
            cells.append({"share": k / len(radii), "low": low, "high": high})
        rows.append({"radius": f"{tick:g}", "cells": cells})
    return rows


def _histograms(radii, smallest, whole, words):
    parts = [
        ("All patches", radii.ravel(), "patches", words.all_patches),
        ("Smallest patch of each image", smallest, "images", words.smallest),
    ]
    if whole is not None:
        parts.append(("Whole image", whole.radius, "images", words.whole))
    found = []
    for title, values, what, text in parts:
        chart = histogram_chart(values, words.axis, f"share of the {what}")
        beyond = float(np.isinf(values).mean())
        more = f" {percent_text(beyond)} of the {what} have an infinite radius." if beyond else ""
        text = f"Share of the {what} by radius. {text}{more}"
        found.append({"title": title, "chart": chart, "text": text})
    return found


def _vocabulary(given, scaled):
    """The picture of the vocabulary and its sentences."""
    tokens, counts, patch_size = given
    tokens = tokens if tokens.ndim == 3 else tokens[None]
    counts = np.asarray(counts).reshape(tokens.shape[:2])
    used = bool(counts.any())
    sizes = own_tokens(tokens)
    repeated = np.arange(tokens.shape[1]) >= np.array(sizes)[:, None]
    order = np.argsort(np.where(repeated, 1, -counts), axis=1, kind="stable")[:, :_MOST_TOKENS]
    drawn = order.shape[1]
    shown = [ids[:size] for ids, size in zip(order, sizes, strict=True)]
    columns = min(drawn, max(8, math.ceil(math.sqrt(2.5 * drawn))))
    what = sentences.vocabulary_text(sizes, patch_size, drawn, used, scaled)
    return {
        "picture": tokens_uri(tokens, shown, patch_size, columns),
        "text": what,
        "alt": f"{sum(map(len, shown))} tokens of {patch_size[0]} x {patch_size[1]} pixels",
    }


def _facts(images, tokens, classes, words, versions):
    height, width, channels = images.shape[1:]
    listed = ", ".join(classes[:20])
    listed += f" and {len(classes) - 20} more" if len(classes) > 20 else ""
    return [
        ("Images in this report", f"{len(images)}"),
        ("Image size", f"{height} x {width} pixels (height x width), {channels} "
                       f"channel{'s' if channels > 1 else ''}"),
        ("Values", f"{images.dtype}, from {float(images.min()):g} to {float(images.max()):g}"),
        ("Classes", f"{len(classes)}: {listed}"),
        *_tokens_facts(height, width, tokens, words),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]  # fmt: skip


def _tokens_facts(height, width, tokens, words):
    if tokens is None:
        return []
    vocabulary, _, (ph, pw) = tokens
    return [
        ("Patches", f"{ph} x {pw} pixels, "
                    f"{math.ceil(height / ph) * math.ceil(width / pw)} per image"),
        ("Tokens", f"{vocabulary.shape[-2]}" + (
            f" for each of {len(vocabulary)} channels" if vocabulary.ndim == 3 else "")),
        ("Certificate", f"{words.norm} norm, radii in {words.units}"),
    ]  # fmt: skip
