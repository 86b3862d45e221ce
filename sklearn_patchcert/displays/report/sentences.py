"""The sentences of a report: what its numbers mean, and what they do not mean."""

from __future__ import annotations

import numpy as np

from sklearn_patchcert.displays.inputs import numbers_text
from sklearn_patchcert.displays.report.rendering import percent_text, radius_text

_NORMS = {"l2": "L2", "linf": "Linf", "l1": "L1"}
_OF_A_PATCH = {
    "l2": "the root of the sum of squared changes of its values",
    "linf": "the largest change of any of its values",
    "l1": "the sum of the absolute changes of its values",
}


class Words:
    """Sentences that fit the options of a report.

    Parameters
    ----------
    norm, units : str
    labeled, whole, radii : bool
        Whether there are labels, radii of whole images, and patch radii.
    """

    def __init__(self, norm, units, labeled, whole, radii=True):
        self.has_radii = radii
        self.norm, self.units, self.labeled, self.has_whole = _NORMS[norm], units, labeled, whole
        self.measure = _OF_A_PATCH[norm]
        self.axis = f"radius ({self.norm}, {units})"
        self.curve_title = f"Certified {'accuracy' if labeled else 'share'} by radius"
        counted = "are classified correctly and have" if labeled else "have"
        self.curve_text = f"Share of all images that {counted} at least a certified radius."
        self.all_patches = "Each patch of each image counts once."
        self.smallest = "It bounds a change of the whole image, and is the weakest certificate."
        self.whole = "It bounds a change of the whole image that keeps the prediction."

    def summary(self, n, n_classes):
        """The sentence below the title."""
        if not self.has_radii:
            return f"{n} image{_s(n)}, a model of {n_classes} classes, certified against stickers."
        return (
            f"{n} image{_s(n)}, a model of {n_classes} classes, certificates in the {self.norm} "
            f"norm. Radii are in {self.units} and rounded down."
        )

    def tiles(self, smallest, radii, whole, accuracy, interval, right):
        """The first numbers: name, value and sentence."""
        found = []
        if accuracy is not None:
            low, high = percent_text(interval[0], "down"), percent_text(interval[1], "up")
            text = f"{int(right.sum())} of {len(right)} images right. 95% interval {low} to {high}."
            found.append(("Accuracy", percent_text(accuracy), text))
        if not self.has_radii:
            return _tiles(found)
        if whole is not None:
            text = "Half of the predictions have at least this certified radius."
            found.append(("Median whole-image radius", radius_text(median(whole.radius)), text))
        text = "In half of the images every patch keeps its token up to this radius."
        found.append(("Median smallest patch radius", radius_text(median(smallest)), text))
        finite = radii[np.isfinite(radii)]
        mean = float(finite.mean()) if finite.size else np.inf
        text = "Over all patches. It describes the maps, and certifies nothing by itself."
        found.append(("Mean patch radius", radius_text(mean), text))
        return _tiles(found)

    def warnings(self, unknown, smallest, whole):
        """Sentences that a reader must not miss."""
        found = []
        if unknown:
            found.append(
                f"{unknown} image{_s(unknown)} with a label that is not a class of the model "
                "count as wrong."
            )
        if self.has_radii and (ties := int((smallest == 0).sum())):
            found.append(
                f"{ties} image{_s(ties)} with a smallest radius of 0: a patch is as near to "
                "another token as to its own, so its token is not certified at all."
            )
        if whole is not None and (limited := int(np.sum(whole.limited))):
            found.append(
                f"For {limited} of {len(smallest)} images the search stopped at its budget. Their "
                "whole-image radii are valid, and a longer search can only enlarge them."
            )
        return found

    def meanings(self):
        """Terms and their explanation."""
        found = self._of_radii() if self.has_radii else []
        if self.has_whole:
            found.append((
                "Whole-image radius",
                f"No change of the image with a smaller {self.norm} norm changes the predicted "
                "class, even if tokens change. It is a proof, not an estimate, and a lower bound: "
                "the true distance to another class may be larger.",
            ))  # fmt: skip
        if self.labeled:
            found.append((
                "Accuracy and its interval",
                "The share of correct predictions on these images. If the images were drawn "
                "independently and by the same process as future images, the 95% interval "
                "(Clopper and Pearson) covers the accuracy on future images in 95 of 100 such "
                "reports. It does not cover another camera, place or time, and it is too "
                "optimistic if the model was trained on these images.",
            ))  # fmt: skip
        if self.labeled and self.has_radii:
            found.append((
                "Certified accuracy at a radius",
                "The share of images that are classified correctly and have at least this radius. "
                "No attack below the radius can push the accuracy on these images further down. "
                "The true accuracy under attack may be higher.",
            ))  # fmt: skip
        if self.has_radii:
            found.append((
                "What is not covered",
                "Certificates are about the array that the model receives: changes of a file "
                "before it is resized, rotations, blur and new objects are covered only as far as "
                "the array changes by less than the radius. A wrong prediction with a large radius "
                "stays wrong.",
            ))  # fmt: skip
        return found

    def _of_radii(self):
        """What patch radii are."""
        return [
            (
                "Patch radius",
                "A patch is a tile of the image grid. If the change of a patch is smaller than its "
                f"radius ({self.measure}), the patch keeps its token. This holds for all "
                "patches at once: each may change by less than its own radius, and the model still "
                "receives exactly the same tokens and gives the same answer.",
            ),
            (
                "Smallest patch radius",
                f"If the {self.norm} norm of a change of the whole image is smaller than this, no "
                "patch changes its token, whichever pixels are changed. It is often tiny, because "
                "one weak patch decides.",
            ),
            (
                "Mean patch radius",
                "A summary of a map. It is not a certificate. The sum of patch radii is not shown, "
                "because it is not a radius of anything. Do not compare patch radii of models with "
                "different patch sizes.",
            ),
        ]

    def maps_text(self, several, weak, strong):
        """The sentences above the pictures."""
        by = "whole-image radius" if self.has_whole else "smallest patch radius"
        text = (
            f"The {weak} weakest and the {strong} strongest images by {by}. Dark patches are easy "
            "to change, bright patches are hard to change. All maps have the same colors. Move the "
            "slider, or point at an image, to see more of its map."
        )
        if several:
            text += " Channels have radii of their own, and a map shows the smallest."
        return text

    def thumbnails_text(self, n, most):
        """Which images the table draws."""
        if most == 0 or n <= most:
            return ""
        return f"Pictures are shown for the {most} weakest images."

    def skipped_text(self, n_skipped, n):
        """How many files were left out."""
        if not n_skipped:
            return "No files were reported as left out."
        return f"{n_skipped} file{_s(n_skipped)} left out, {n} images used. By reason:"

    def footer(self, versions):
        """The last line."""
        return f"Made by sklearn_patchcert {versions['sklearn_patchcert']}. It loads nothing."


def vocabulary_text(sizes, patch_size, drawn, used, scaled):
    """What the picture of the tokens shows.

    Parameters
    ----------
    sizes : list of int
        Numbers of tokens of each channel.
    patch_size : tuple (ph, pw)
    drawn : int
        Tokens of each channel in the picture.
    used, scaled : bool
        Whether their use is known, and whether scaling steps come before them.

    Returns
    -------
    text : str
    """
    channels, size = len(sizes), f"{patch_size[0]} x {patch_size[1]} pixels"
    if len(set(sizes)) == 1:
        each = f" for each of {channels} channels, which begin a new row" if channels > 1 else ""
        text = f"Every patch is replaced by the nearest of {sizes[0]} tokens of {size}{each}. "
    else:
        text = (
            f"Every patch of a channel is replaced by the nearest of its tokens of {size}. The "
            f"{channels} channels, which begin a new row, have {numbers_text(sizes)}. "
        )
    if drawn < max(sizes):
        text += f"The picture shows {drawn} of them. "
    if used:
        text += "Tokens are ordered from the most used in training to the least used. "
    if scaled:
        text += "Colors are of the values after the steps before the vocabulary, not of the images."
    return text.strip()


def median(values):
    """The lower median: half of the values, or more, are at least this.

    Parameters
    ----------
    values : ndarray (n,)

    Returns
    -------
    median : float
    """
    return float(np.sort(values)[(len(values) - 1) // 2])


def _tiles(found):
    return [{"name": name, "value": value, "text": text} for name, value, text in found]


def _s(n):
    return "" if n == 1 else "s"
