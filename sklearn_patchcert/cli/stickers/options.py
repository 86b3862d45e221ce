"""Options of `patchcert fit` that make a model against stickers."""

from __future__ import annotations

from sklearn_patchcert.cli.options import Impossible, positive

_MASKS = 6  # along each axis, as PatchCleanser has


def add_stickers(add):
    add(
        "--sticker-size",
        type=positive(int),
        metavar="N",
        help="certify against a sticker of N x N pixels of the image that the model sees",
    )
    add(
        "--masks",
        type=positive(int),
        metavar="K",
        help=f"masks along each axis for --sticker-size (default: {_MASKS})",
    )


def sticker_options(options):
    """The options that were given, as plain values."""
    if options.sticker_size is None:
        return {}
    return {"sticker_size": options.sticker_size, "masks": options.masks or _MASKS}


def against_stickers(pipeline, options):
    """The pipeline, behind masks if it is to be certified against stickers."""
    from sklearn_patchcert._validation import check_patch_size
    from sklearn_patchcert.prediction.masking.classifier import StickerCertifiedClassifier
    from sklearn_patchcert.prediction.masking.masks import hides_all, window_of

    size, side = options.sticker_size, options.image_size
    if size is None:
        if options.masks is not None:
            raise Impossible("--masks belongs to --sticker-size: pass it")
        return pipeline
    masks = options.masks or _MASKS
    try:
        patch = check_patch_size(pipeline.named_steps["vocab"].patch_size)
    except ValueError as error:
        raise Impossible(error) from None
    grid = -(-side // patch[0]), -(-side // patch[1])
    if hides_all(grid, [window_of((size, size), patch, grid)], masks):
        raise Impossible(
            f"a mask for --sticker-size {size} hides all {grid[0]} x {grid[1]} patches, and all "
            "images would get the same answer: give smaller stickers or patches, larger "
            "images, or more --masks"
        )
    return StickerCertifiedClassifier(pipeline, size, n_masks=masks)
