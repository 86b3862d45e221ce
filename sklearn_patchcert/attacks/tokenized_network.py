"""A network behind tokens, as a torch module with a choice of gradients.

A tokeniser has no gradient.  What takes its place (Athalye, Carlini, Wagner, ICML 2018) is chosen
by name; the values that come out are always those of the model with its nearest tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.voronoi import surrogates

GRADIENTS = ("bpda", "soft", "none")


class TokenizedNetwork(nn.Module):
    """Images (n, C, H, W) to logits (n, n_classes): scaling, tokens, network.

    Parameters
    ----------
    network : nn.Module
    vocabulary : ndarray (n_tokens, dim) or (C, n_tokens, dim), or None
        None: the network sees the images themselves.
    patch_size : tuple (ph, pw) or None
    per_channel : bool
    scale, shift : ndarray (H, W, C) or float
        Of the steps before the tokens.
    gradient : {"bpda", "soft", "none"}
        "bpda" lets the gradient through as if every patch were its own token; "soft" takes that of
        a soft discretisation at `temperature`; "none" cuts it off.
    temperature : float
        Of "soft", in the units of a distance between patches.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_patchcert.attacks import TokenizedNetwork
    >>> model = TokenizedNetwork(torch.nn.Flatten(), np.array([[0.0], [1.0]]), (1, 1))
    >>> images = torch.tensor([[[[0.2, 0.9]]]], requires_grad=True)
    >>> model(images)
    tensor([[0., 1.]], grad_fn=<ViewBackward0>)
    """

    scale: torch.Tensor
    shift: torch.Tensor
    tokens: torch.Tensor

    def __init__(
        self,
        network,
        vocabulary=None,
        patch_size=None,
        *,
        per_channel=False,
        scale=1.0,
        shift=0.0,
        gradient="bpda",
        temperature=1.0,
    ):
        super().__init__()
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {GRADIENTS}, got {gradient!r}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}.")
        self.network, self.patch_size, self.per_channel = network, patch_size, per_channel
        self.vocabulary = vocabulary
        self.gradient, self.temperature = gradient, temperature
        for name, value in (("scale", scale), ("shift", shift)):
            value = torch.as_tensor(np.asarray(value, dtype=np.float32))
            self.register_buffer(name, value.permute(2, 0, 1) if value.ndim == 3 else value)
        if vocabulary is not None:
            self.register_buffer("tokens", torch.tensor(vocabulary, dtype=torch.float32))

    def forward(self, images):
        """Compute logits.

        Parameters
        ----------
        images : Tensor (n, C, H, W)
            In the units of the model's input.

        Returns
        -------
        logits : Tensor (n, n_classes)
        """
        scaled = images * self.scale + self.shift
        return self.network(scaled if self.vocabulary is None else self.discretised(scaled))

    def ids(self, scaled):
        """Nearest tokens.

        Parameters
        ----------
        scaled : Tensor (n, C, H, W)
            Images behind the scaling.

        Returns
        -------
        ids : Tensor of int64 (n, rows, cols, groups)
        """
        values = scaled.detach().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        found = encoding.encode(
            values, self.vocabulary, self.patch_size, per_channel=self.per_channel
        )
        return torch.from_numpy(found).to(scaled.device)

    def decoded(self, ids):
        """Images made of tokens.

        Parameters
        ----------
        ids : Tensor of int64 (n, rows, cols, groups)

        Returns
        -------
        images : Tensor (n, C, H, W)
            With the padding.
        """
        if self.tokens.ndim == 2:
            patches = self.tokens[ids]
        else:
            patches = torch.stack([t[ids[..., c]] for c, t in enumerate(self.tokens)], dim=3)
        height, width = (s * n for s, n in zip(self.patch_size, ids.shape[1:3], strict=True))
        return surrogates.join(patches, self.patch_size, (height, width))

    def discretised(self, scaled):
        """Images made of their nearest tokens, with a gradient by proxy.

        Parameters
        ----------
        scaled : Tensor (n, C, H, W)
            Images behind the scaling.

        Returns
        -------
        images : Tensor (n, C, H, W)
        """
        size = scaled.shape[2:]
        hard = self.decoded(self.ids(scaled))[..., : size[0], : size[1]]
        if self.gradient == "none" or not scaled.requires_grad:
            return hard + 0 * scaled if scaled.requires_grad else hard
        if self.gradient == "bpda":
            return scaled + (hard - scaled).detach()
        patches = surrogates.cut(scaled, self.patch_size, per_channel=self.per_channel)
        if self.tokens.ndim == 2:
            mixed = self._mixture(patches, self.tokens)
        else:
            parts = [self._mixture(patches[:, :, :, c], t) for c, t in enumerate(self.tokens)]
            mixed = torch.stack(parts, dim=3)
        soft = surrogates.join(mixed, self.patch_size, size)
        return soft + (hard - soft).detach()

    def _mixture(self, patches, tokens):
        tokens = tokens[: encoding.count_own(tokens)]
        squares = surrogates.squared_distances(patches, tokens)
        return surrogates.soft_assignment(squares, self.temperature) @ tokens
