"""The order of the gallery: by what a newcomer needs first, as in examples/GALLERY_HEADER.rst."""

ORDER = (
    "quickstart", "own_photos", "pictures", "mnist", "search", "own_loss", "whole_image",
    "stickers", "pretrained_stickers", "stained_tissue", "out_of_core", "dask_cluster",
)  # fmt: skip


class Order:
    """Sort key of Sphinx-Gallery.

    Parameters
    ----------
    src_dir : str
        The folder of the examples.
    """

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        return ORDER.index(filename.removesuffix(".py"))
