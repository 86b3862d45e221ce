"""What the tests of pictures share."""

import io

from sklearn_patchcert import PatchVocabulary


def vocabulary(**options):
    return PatchVocabulary(
        **{"n_tokens": 6, "patch_size": 3, "strategy": "kmeans", "random_state": 0, **options}
    )


def render(display):
    """Draw every pixel, so that what cannot be drawn fails here."""
    figure = display.figure_
    while figure is not figure.figure:
        figure = figure.figure
    figure.savefig(io.BytesIO(), format="png", dpi=40)
