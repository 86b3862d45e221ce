"""The network behind the tokens as a program for deployment, without Python classes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sklearn_patchcert.networks.base import PatchNet
from sklearn_patchcert.networks.transfer.heads import first_of, unchanging_copy
from sklearn_patchcert.torch_globals import plain_torch
from sklearn_patchcert.whole_files import replacing

_ALIKE = 1e-4  # of the largest output: what the rounding of another program may change


def export_network(model: Any, path: str | os.PathLike[str]) -> None:
    """Write the network of a model as a torch.export program.

    The program takes images made of tokens, float32 (n, C, H, W) for any n, to what the module
    answers, logits or standardized values.  It needs torch, but neither this library nor the code
    of the module: ``torch.export.load(path).module()(images)``.  Tokens and certificates stay here;
    so do the names of the classes, whose order is that of `classes_`.

    Parameters
    ----------
    model : fitted PatchNetClassifier or PatchNetRegressor, or pipeline that ends in one
    path : path-like
        Usually ``.pt2``.  Is replaced at once when the file is whole.

    Raises
    ------
    TypeError
        If the model does not end in such a network.
    ValueError
        If torch cannot export the module, or the program answers something else than the module.

    Examples
    --------
    >>> import tempfile, pathlib, torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_patchcert import PatchNetClassifier
    >>> from sklearn_patchcert.files import export_network
    >>> X, y = load_digits(return_X_y=True)
    >>> net = PatchNetClassifier(max_epochs=1, random_state=0).fit(X[:200], y[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "network.pt2"
    ...     export_network(net, path)
    ...     program = torch.export.load(path).module()
    >>> program(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    check_is_fitted(model)
    if hasattr(model, "mask_space_"):
        raise TypeError(
            "The model answers from many masked images, which is no network: export its estimator_."
        )
    last = getattr(model, "steps", [("", model)])[-1][1]
    last = getattr(last, "estimator", last)  # out of a FrozenEstimator
    if not isinstance(last, PatchNet):
        raise TypeError(
            f"The model ends in a {type(last).__name__}: only PatchNetClassifier and "
            "PatchNetRegressor have a network to export."
        )
    check_is_fitted(last)
    module = getattr(last.module_, "_orig_mod", last.module_)  # what torch.compile wraps
    images = last._some().cpu()
    batch = torch.export.Dim("batch", min=1)
    try:
        # torch.export warns of weights with the channels last, although it saves them well.
        module = unchanging_copy(module, as_it_is=True).eval().cpu()
        module = module.to(memory_format=torch.contiguous_format)
        with plain_torch(), torch.no_grad():
            wanted = first_of(module, module(images))
            program = torch.export.export(module, (images,), dynamic_shapes=({0: batch},))
            found = [first_of(module, program.module()(images[:n])) for n in (1, len(images))]
    except Exception as error:  # of many kinds
        raise ValueError(f"torch cannot export {type(module).__name__}: {_line(error)}") from error
    size = max(float(wanted.abs().max()), 1e-6)
    for some in found:
        if not np.allclose(some, wanted[: len(some)], rtol=0, atol=_ALIKE * size):
            raise ValueError(
                f"The program of {type(module).__name__} answers something else than the module."
            )
    with replacing(path) as partial, open(partial, "wb") as stream:
        torch.export.save(program, stream)  # which warns of other endings of a name


def _line(error):
    return next(iter(str(error).splitlines()), "") or type(error).__name__
