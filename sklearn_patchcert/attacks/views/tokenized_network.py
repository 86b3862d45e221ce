"""A network behind tokens, as a torch module with a choice of gradients.

A tokeniser has no gradient.  What takes its place (Athalye, Carlini, Wagner, ICML 2018) is chosen
by name; the values that come out are always those of the model with its nearest tokens.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from sklearn_patchcert.checks import check_choice, check_number
from sklearn_patchcert.vocabulary import encoding
from sklearn_patchcert.voronoi import surrogates

GRADIENTS = ("bpda", "soft", "none")


class TokenizedNetwork(nn.Module):
    """Images (n, C, H, W) to logits (n, n_classes): scaling, tokens, network.

    Images may be floats of any precision or integers.  Scaling and tokens are computed in float32
    or, for float64 images, in float64, also under autocast and after ``half()``; only the network
    is cast.  Gradients, `torch.func.vmap` and `torch.func.jacrev` work.

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
        self.network, self.patch_size, self.per_channel = network, patch_size, per_channel
        self.vocabulary = vocabulary
        self.gradient = check_choice("gradient", gradient, GRADIENTS)
        self.temperature = check_number("temperature", temperature, positive=True)
        self._exact = {}  # for float64 images: float32 would move a scaled patch across a wall
        for name, value in (("scale", scale), ("shift", shift)):
            value = torch.tensor(np.array(value, dtype=np.float64))
            self._exact[name] = value.permute(2, 0, 1) if value.ndim == 3 else value
            self.register_buffer(name, self._exact[name].float())
        if vocabulary is not None:
            self.register_buffer("tokens", torch.tensor(vocabulary, dtype=torch.float32))

    def _apply(self, fn, recurse=True):
        """Move and cast as torch does, but leave scaling and tokens their precision."""
        kept = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)
        for name, value in kept.items():
            self._buffers[name] = value.to(getattr(self, name).device)
        return self

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        """Take the weights of the network only: where images are cut and scaled belongs to it."""
        *_, errors = rest
        before = len(errors)
        for name, own in self._buffers.items():
            given = state_dict.get(prefix + name, own)
            if own is not None and not torch.equal(given.detach().to(own), own):
                errors.append(
                    f"{prefix}{name} of the state belongs to another model: make the module anew, "
                    "from the model that the state is of."
                )
        if len(errors) == before:
            super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, images):
        """Compute logits.

        Parameters
        ----------
        images : Tensor (n, C, H, W)
            In the units of the model's input.

        Returns
        -------
        logits : Tensor (n, n_classes)
            Of the dtype of the network.
        """
        scaled = self.scaled(images)
        return self.answers(scaled if self.vocabulary is None else self.discretised(scaled))

    def answers(self, seen):
        """Logits of images as the network sees them.

        Parameters
        ----------
        seen : Tensor (n, C, H, W)
            Behind scaling and tokens; cast to the dtype of the network.

        Returns
        -------
        logits : Tensor (n, n_classes)
        """
        weights = (p.dtype for p in self.network.parameters() if p.is_floating_point())
        return self.network(seen.to(next(weights, seen.dtype)))

    def scaled(self, images):
        """Images as they reach the tokens, or the network where there are no tokens.

        Parameters
        ----------
        images : Tensor (n, C, H, W)
            In the units of the model's input.

        Returns
        -------
        scaled : Tensor (n, C, H, W)
            float64 for float64 images, else float32.
        """
        if images.dtype != torch.float64:
            return images.float() * self.scale + self.shift
        scale, shift = (values.to(images.device) for values in self.affine())
        return images * scale + shift

    def affine(self):
        """Scale and shift in float64, each a number or a Tensor (C, H, W).

        Returns
        -------
        scale, shift : Tensor
        """
        return self._exact["scale"], self._exact["shift"]

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
        if not len(scaled):
            _, channels, height, width = scaled.shape
            grid = -(-height // self.patch_size[0]), -(-width // self.patch_size[1])
            return scaled.new_zeros(
                (0, *grid, channels if self.per_channel else 1), dtype=torch.int64
            )
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
        with torch.autocast(scaled.device.type, enabled=False):  # bfloat16 takes other tokens
            proxy = scaled
            if self.gradient == "none":
                proxy = 0 * scaled
            elif self.gradient == "soft" and torch.is_grad_enabled():
                proxy = self._soft(scaled)
            return _Tokens.apply(scaled, proxy, self)

    def _nearest(self, scaled):
        size = scaled.shape[2:]
        return self.decoded(self.ids(scaled))[..., : size[0], : size[1]].to(scaled.dtype)

    def _soft(self, scaled):
        patches = surrogates.cut(scaled, self.patch_size, per_channel=self.per_channel)
        if self.tokens.ndim == 2:
            mixed = self._mixture(patches, self.tokens)
        else:
            parts = [self._mixture(patches[:, :, :, c], t) for c, t in enumerate(self.tokens)]
            mixed = torch.stack(parts, dim=3)
        return surrogates.join(mixed, self.patch_size, scaled.shape[2:])

    def _mixture(self, patches, tokens):
        tokens = tokens[: encoding.count_own(tokens)].to(patches.dtype)
        squares = surrogates.squared_distances(patches, tokens)
        return surrogates.soft_assignment(squares, self.temperature) @ tokens


class _Tokens(torch.autograd.Function):
    """The values are images made of their nearest tokens, the gradient is that of a proxy."""

    @staticmethod
    def forward(scaled, proxy, model):
        return model._nearest(scaled)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, slope):
        return None, slope, None

    @staticmethod
    def jvp(ctx, scaled, proxy, model):
        return proxy.clone()

    @staticmethod
    def vmap(info, dims, scaled, proxy, model):
        """One batch of all: the search for tokens is none of torch's own operations."""
        scaled, proxy = (
            value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip((scaled, proxy), dims[:2], strict=True)
        )
        made = _Tokens.apply(scaled.flatten(0, 1), proxy.flatten(0, 1), model)
        return made.unflatten(0, scaled.shape[:2]), 0


def _frozen_copy(network):
    """Copy a network, in evaluation mode, whose weights take no gradient."""
    try:
        made = copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"{type(network).__name__} cannot be copied, so it could not be attacked without "
            f"being changed: {error}"
        ) from error
    return made.eval().requires_grad_(False)
