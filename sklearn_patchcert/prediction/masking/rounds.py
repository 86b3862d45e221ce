r"""Double masking, and the certificate of its answers.

**Inference** (PatchCleanser, Algorithm 1).  Ask for the answers to the image behind each mask.  If
all agree, that is the answer.  Else take the masks whose answer is not the answer of the majority,
in their order, and ask for the image behind each of them and every other mask at once.  The first
mask for which all answers agree decides.  If there is none, the majority does; of equally frequent
answers, the first class.

**Certificate.**  Let :math:`f(x, m, m')` be the answer to an image behind two masks.  Mask m is
*certified* if :math:`f(x, m, m') = y` for every mask m', m itself included.

*Claim.*  Double masking answers y for every image x' that is equal to x behind m, as the classifier
sees it.

*Proof.*  Behind m and any m', x' is x, so :math:`f(x', m, m') = f(x, m, m') = y` for all m'.
The answers of x' that do not involve m may be anything.

1. The answer behind m alone is y.  So if all masks agree, they agree on y.
2. A mask m' with an answer z other than y cannot decide, because its answer together with m is
   y, and so its answers do not all agree with z.
3. A mask with the answer y that is tried and decides, decides for y.
4. If no mask that is tried decides, then m was not tried, because all its answers are y.  So y,
   its answer, is the answer of the majority, and that is the result.

The order in which masks are tried, and which of equally frequent answers counts as the majority,
do not matter.  With x' = x it follows that y is the prediction for x itself, so that all certified
masks of an image have the same y.

The proof needs only the answers that involve m, so rounding matters only there.  An answer that
rounding could change (:mod:`prediction.answers`) counts as another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ask = Callable[[NDArray[np.int64], NDArray[np.int64]], Any]


class Answers:
    """Answers of a classifier to masked images, each asked for once and in batches.

    Parameters
    ----------
    ask : callable, (images (m,), unions (m,)) -> labels (m,), sure (m,) of bool
        Index of the class of an image behind a union of masks, and whether that is beyond doubt.
    shape : tuple (n_images, n_unions)
    batch_size : int

    Attributes
    ----------
    labels : ndarray of int32 (n_images, n_unions)
        -1 where nothing has been asked.
    sure : ndarray of bool (n_images, n_unions)
    """

    def __init__(self, ask: Ask, shape: tuple[int, int], batch_size: int = 1024) -> None:
        self.ask, self.batch_size = ask, int(batch_size)
        self.labels = np.full(shape, -1, dtype=np.int32)
        self.sure = np.zeros(shape, dtype=bool)

    def fetch(self, images, unions):
        """Ask for answers, as far as they are not there yet."""
        width = self.labels.shape[1]
        keys = np.unique(np.asarray(images) * width + np.asarray(unions))
        keys = keys[self.labels.reshape(-1)[keys] < 0]
        for start in range(0, len(keys), self.batch_size):
            at = np.divmod(keys[start : start + self.batch_size], width)
            self.labels[at], self.sure[at] = self.ask(*at)

    @property
    def asked(self) -> NDArray[np.int64]:
        """Number of answers for each image."""
        return (self.labels >= 0).sum(1)


def decide(answers: Answers, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Answers of double masking.

    Parameters
    ----------
    answers : Answers
    pairs : ndarray of int (n_masks, n_masks)
        Which union two masks have.

    Returns
    -------
    labels : ndarray of int64 (n_images,)
    """
    n, count = len(answers.labels), len(pairs)
    alone = np.diagonal(pairs)
    answers.fetch(np.repeat(np.arange(n), count), np.tile(alone, n))
    singles = answers.labels[:, alone].astype(np.int64)
    votes = np.zeros((n, singles.max(initial=0) + 1), dtype=np.int64)
    np.add.at(votes, (np.arange(n)[:, None], singles), 1)
    decided = votes.argmax(1)
    left = singles != decided[:, None]  # masks that may still decide
    while True:
        rows = np.flatnonzero(left.any(1))
        if not len(rows):
            return decided
        masks = left[rows].argmax(1)
        label, unions = singles[rows, masks], pairs[masks]
        found = answers.labels[rows[:, None], unions]
        broken = ((found >= 0) & (found != label[:, None])).any(1)
        agreed = (found == label[:, None]).all(1)
        left[rows[broken], masks[broken]] = False
        decided[rows[agreed]] = label[agreed]
        left[rows[agreed]] = False
        go = np.flatnonzero(~broken & ~agreed)
        if len(go):  # first those that will disagree, by what they answer alone
            doubt = np.where(found[go] < 0, singles[rows[go]] == label[go, None], 2)
            _fetch_some(answers, rows[go], unions[go], doubt, found[go] < 0)


def certified_masks(
    answers: Answers,
    pairs: NDArray[np.int64],
    holds: NDArray[np.bool_],
    labels: NDArray[np.int64],
    whole: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] | None = None,
) -> NDArray[np.bool_]:
    """Which masks are certified at the answers of double masking.

    A mask is dropped at the first pair that answers something else, or not beyond doubt; pairs of
    two masks that are dropped are not asked for.

    Parameters
    ----------
    answers : Answers
    pairs : ndarray of int (n_masks, n_masks)
        Which union two masks have.
    holds : ndarray of bool (n_unions, n_masks)
        Whether a mask is in a pair with this union.
    labels : ndarray of int (n_images,)
        What :func:`decide` returned.
    whole : callable, certified (n_images, n_masks) -> ndarray of bool (n_images,), or None
        Whether these masks are all that an image needs.  An image for which they are too few gets
        no further answers, and none of its masks counts as certified.

    Returns
    -------
    certified : ndarray of bool (n_images, n_masks)
    """
    alone, own = np.diagonal(pairs), np.asarray(labels)[:, None]
    alive = np.ones((len(own), len(pairs)), dtype=bool)
    weights = holds.astype(np.float32)
    order = None
    while True:
        known = answers.labels >= 0
        failed = known & ~((answers.labels == own) & answers.sure)
        alive &= ~(failed.astype(np.float32) @ weights > 0)
        if whole is not None:
            alive &= whole(alive)[:, None]
        wanted = ~known & (alive.astype(np.float32) @ weights.T > 0)
        rows = np.flatnonzero(wanted.any(1))
        if not len(rows):
            return alive
        if order is None:  # first the pairs of masks that fail by themselves: the others' end
            order = -(failed[:, alone].astype(np.float32) @ weights.T)
        unions = np.broadcast_to(np.arange(len(holds)), (len(rows), len(holds)))
        _fetch_some(answers, rows, unions, order[rows], wanted[rows])


def _fetch_some(answers, rows, unions, order, wanted):
    """Ask for the first wanted unions of each image, as many as make a batch in all."""
    share = max(1, answers.batch_size // len(rows))
    order = np.where(wanted, order, np.inf)
    first = np.argsort(order, axis=1, kind="stable")[:, :share]
    at = np.arange(len(rows))[:, None]
    take = wanted[at, first]
    images = np.broadcast_to(rows[:, None], first.shape)
    answers.fetch(images[take], unions[at, first][take])


def double_masking(
    ask: Ask, n_images: int, pairs: NDArray[np.int64], *, batch_size: int = 1024
) -> NDArray[np.int64]:
    """Answers of double masking for any function of masked images.

    Parameters
    ----------
    ask : callable, (images (m,), unions (m,)) -> labels (m,) of int
        Index of the class of an image behind a union of masks.
    n_images : int
    pairs : ndarray of int (n_masks, n_masks)
        Which union two masks have.
    batch_size : int, default=1024
        Masked images to ask for at once.

    Returns
    -------
    labels : ndarray of int64 (n_images,)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_patchcert.prediction import double_masking
    >>> from sklearn_patchcert.prediction.masking.masks import mask_plan
    >>> plan = mask_plan((1, 3), [(1, 1)])  # one cell is hidden at a time
    >>> images = np.array([[1, 0, 0], [0, 0, 0]])
    >>> def ask(rows, unions):  # whether a 1 can be seen
    ...     return (images[rows] * ~plan.unions[unions]).max(1)
    >>> double_masking(ask, 2, plan.pairs)  # without the first cell all is 0
    array([0, 0])
    """
    answers = Answers(lambda *at: (ask(*at), True), (n_images, int(pairs.max()) + 1), batch_size)
    return decide(answers, pairs)
