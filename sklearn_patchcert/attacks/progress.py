"""A bar for an attack, in images, that moves within a batch of them."""

from __future__ import annotations

import contextlib

from torch import nn
from tqdm.auto import tqdm

_FORMAT = (
    "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
)


class Progress:
    """How far an attack has come, in images; those under way count by the share of their passes.

    The passes of a batch are at most as many as are announced: one that needs fewer ends with a
    leap.

    Parameters
    ----------
    name : str
    n_images : int
    shown : bool
    """

    def __init__(self, name, n_images, shown):
        self.bar = tqdm(desc=name, total=n_images, unit="image", disable=not shown,
                        bar_format=_FORMAT)  # fmt: skip
        self.images, self.passes, self.done, self.seen = 0, None, 0, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def __deepcopy__(self, memo):
        return self  # an attack may copy the network that tells this of its passes

    def __reduce__(self):
        return _ignore, ()

    @contextlib.contextmanager
    def batch(self, n_images, passes):
        """A batch of images, for which the network is asked that often; None: nobody knows."""
        self.images, self.passes = n_images, passes
        yield
        self.done += n_images
        self.bar.n = self.done
        self.bar.update(0)

    @contextlib.contextmanager
    def watching(self, scores):
        """A function that answers as `scores`, of whose calls this is told."""
        if self.bar.disable:
            yield scores
        elif isinstance(scores, nn.Module):
            handle = scores.register_forward_hook(self._called)
            try:
                yield scores
            finally:
                handle.remove()
        else:
            yield lambda images: self.told(scores(images))

    def told(self, answer=None):
        """Count one pass; the answer is handed on."""
        self.seen += 1
        if self.passes is None:
            self.bar.set_postfix_str(f"{self.seen} passes", refresh=False)
            self.bar.refresh()
        else:
            self.share(1 / self.passes)
        return answer

    def share(self, part):
        """Advance by a part of the batch, whose end only :meth:`batch` reaches."""
        end = self.done + self.images * (1 - 1e-6)
        self.bar.update(max(0.0, min(part * self.images, end - self.bar.n)))

    def _called(self, module, inputs, output):
        self.told()


def _ignore():
    return None
