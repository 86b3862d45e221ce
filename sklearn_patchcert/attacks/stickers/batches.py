"""Some images under attack: place by place, content by content, judged by the classifier."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from sklearn_patchcert.attacks.evaluation import agreed
from sklearn_patchcert.attacks.stickers import contents
from sklearn_patchcert.attacks.stickers.targets import Palette, Target, radii_of
from sklearn_patchcert.attacks.stickers.windows import moved_patches, sums_in, windows_of
from sklearn_patchcert.attacks.views.classifiers import Case, tensor

_PAIRS = 4096  # of masks, at most, in the search for one that can decide
_STRETCH = 5  # steps, after each of which the classifier itself is asked


class Plan(NamedTuple):
    """All that does not change from image to image; the options are those of the attack."""

    case: Case
    target: Target
    judge: Any
    palette: Palette
    boxes: np.ndarray
    shape: tuple
    bounds: tuple
    kinds: tuple
    options: dict


class Batch:
    """Some images under attack, and what has been found so far."""

    def __init__(self, plan, rows, labels, certified):
        self.plan, self.rows, self.labels = plan, rows, torch.from_numpy(labels)
        self.labels = self.labels.to(plan.target.device)
        self.given = plan.case.X[rows]
        self.images = self.given.reshape(-1, *plan.shape)
        self.adversarial, self.chosen = (
            self.given.copy(),
            np.full((len(rows), plan.options["n_stickers"], 4), -1),
        )
        self.queries = np.zeros(len(rows), dtype=np.int64)
        self.open = np.ones(len(rows), dtype=bool)
        self.clean = tensor(self.images.astype(np.float32), plan.target.device)
        self.certified = certified
        self.order = self._order()
        self.radii = None
        if plan.options["share"] > 0:
            X = plan.case.given(self.given)
            self.radii = radii_of(plan.case.estimator, X, plan.options["norm"])

    def run(self, bar):
        """Try places, one after the other, with all contents, and begin again."""
        for restart in range(self.plan.options["restarts"]):
            for rank in range(self.order.shape[1]):
                for aim in (self._majority, self._one_mask):
                    left = np.flatnonzero(self.open)
                    if len(left):
                        self._at(left, rank, restart, aim)
                        bar.update(len(left) - int(self.open.sum()))
        bar.update(int(self.open.sum()))

    @property
    def greedy(self):
        """Whether places are chosen by the gradient."""
        return self.plan.options["greedy"] and self.plan.target.has_gradient

    def _heat(self, images, labels):
        """Sizes (m, H, W) of the gradient without masks."""
        problem = self._problem(labels, np.zeros((len(images), 1, 2), dtype=int))
        bare = self.plan.target.scores
        bare = bare._replace(masks=torch.zeros_like(bare.masks))
        slopes, _ = contents.gradients(bare, images, problem)
        return slopes.abs().sum(1).double().cpu().numpy()

    def _order(self):
        """The boxes (m, n_places) of each image in the order in which they are tried."""
        plan, count, certified = self.plan, len(self.plan.boxes), self.certified
        most = min(count, plan.options["n_places"] or count)
        heat = None
        if self.greedy:
            heat = self._heat(self.clean, self.labels)
            self.queries += 1
        order = np.empty((len(self.rows), most), dtype=int)
        for at, row in enumerate(self.rows):
            key = np.random.default_rng([plan.options["seed"], int(row)]).random(count)
            if heat is not None:
                key = -sums_in(plan.boxes, heat[at])
            keys = (key,) if certified is None else (key, certified[at])
            order[at] = np.lexsort(keys)[:most]
        return order

    def _problem(self, labels, views, aims=None, boxes=None):
        device, count = self.plan.target.device, len(labels)
        boxes = np.zeros((count, 1, 4), dtype=int) if boxes is None else boxes
        aims = torch.full((count,), -1) if aims is None else torch.from_numpy(aims)
        windows = torch.from_numpy(windows_of(boxes, self.plan.shape[:2]))[:, None]
        views = torch.from_numpy(views)
        return contents.Problem(
            labels, aims.to(device), views.to(device), windows.to(device), boxes
        )

    def _at(self, left, rank, restart, aim):
        """One place of each image, with the aim that all masks, or one of them, decide wrongly.

        An image that withstands a sticker there gets another one, and both change together.
        """
        plan, options = self.plan, self.plan.options
        seeds = [[options["seed"], int(self.rows[at]), rank, restart] for at in left]
        generators = [np.random.default_rng(seed) for seed in seeds]
        boxes, images = plan.boxes[self.order[left, rank]][:, None], self.clean[left].clone()
        for number in range(options["n_stickers"]):
            if number:
                more = self._another(left, images, boxes, generators)
                boxes = np.concatenate([boxes, more[:, None]], axis=1)
            hides = _hides(plan.target.scores.masks, windows_of(boxes, plan.shape[:2]))
            rows, views, aims = aim(left, hides, generators)
            for at in range(len(left)):
                self._start(images[at], boxes[at, number], generators[at], restart)
            if len(rows):
                problem = self._problem(self.labels[left[rows]], views, aims, boxes[rows])
                self._change(left, images, rows, problem, generators)
            kept = np.flatnonzero(self.open[left])
            if options["max_queries"] is not None:  # one more for the place of the next sticker
                kept = kept[self.queries[left[kept]] < options["max_queries"]]
            left, images, boxes = left[kept], images[kept], boxes[kept]
            generators = [generators[at] for at in kept]
            if not len(left):
                return

    def _start(self, image, box, generator, restart):
        """Put the first pixels of a sticker on an image, in place."""
        made = self.plan.palette.start(box, generator, in_noise=restart % 2 == 0)
        top, left, height, width = box
        pixels = torch.from_numpy(made).permute(2, 0, 1).to(image)
        image[:, top : top + height, left : left + width] = pixels

    def _change(self, left, images, rows, problem, generators):
        """Change the stickers of some images, in place, by one method after the other."""
        for kind in self.plan.kinds:
            some = [generators[at] for at in rows]
            images[rows], alive = self._moved(kind, left[rows], images[rows], problem, some)
            rows, problem = rows[alive], problem.at(alive)
            if not len(rows):
                return

    def _another(self, left, images, boxes, generators):
        """Where to put one more sticker (m, 4): where these images have the largest gradient."""
        plan, known = self.plan, self.certified
        heat = self._heat(images, self.labels[left]) if self.greedy else None
        found = np.empty((len(left), 4), dtype=int)
        for at, row in enumerate(left):
            key = generators[at].random(len(plan.boxes))
            if heat is not None:
                free = ~windows_of(boxes[at : at + 1], plan.shape[:2])[0]
                key = -sums_in(plan.boxes, heat[at] * free)
            keys = (key,) if known is None else (key, known[row])
            found[at] = plan.boxes[np.lexsort(keys)[0]]
        if heat is not None:
            self.queries[left] += 1
        return found

    def _moved(self, kind, left, images, problem, generators):
        """Change stickers step by step, until the classifier is wrong or the budget is spent.

        Returns the images with the highest losses, and which are still right.
        """
        plan, options = self.plan, self.plan.options
        scores, cost = plan.target.scores, 1 if kind == "gradient" else options["n_trials"]
        alive, values = np.arange(len(left)), contents.losses(scores, images, problem)
        best, peak = images.clone(), values.clone()
        for begin in range(0, options["steps"], _STRETCH):
            length = min(_STRETCH, options["steps"] - begin)
            price = self.queries[left[alive]] + length * cost + 1
            if options["max_queries"] is not None:
                alive = alive[price <= options["max_queries"]]
            if not len(alive):
                break
            some, part, now = images[alive], problem.at(alive), values[alive]
            for number in range(begin, begin + length):
                if kind == "gradient":
                    before = some
                    some, now = contents.gradient_step(scores, some, part, plan.bounds, number)
                    better = now > peak[alive]
                    best[alive[better.cpu().numpy()]] = before[better]
                    peak[alive] = torch.maximum(peak[alive], now)
                else:
                    some, now = contents.search_step(
                        scores, some, part, now, plan.palette.propose,
                        [generators[at] for at in alive], options["n_trials"],
                    )  # fmt: skip
            images[alive], values[alive] = some, now
            if kind == "search":
                best[alive] = some
            self.queries[left[alive]] += length * cost + 1
            fooled = self._judge(left[alive], some, part.boxes, [generators[at] for at in alive])
            alive = alive[~fooled]
        return best, np.flatnonzero(self.open[left])

    def _judge(self, left, images, boxes, generators):
        """Which of some images the classifier gets wrong, as they are and with moved patches."""
        plan, options = self.plan, self.plan.options
        windows = windows_of(boxes, plan.shape[:2])
        dtype = self.images.dtype
        made = images.permute(0, 2, 3, 1).cpu().numpy().astype(dtype)
        made = made.clip(*np.array(plan.bounds, dtype=dtype))
        clean = self.images[left]
        if self.radii is not None:
            radii, walls, size = self.radii
            clean = moved_patches(
                clean, radii[left], walls[left], windows, patch_size=size, share=options["share"],
                norm=options["norm"], bounds=plan.bounds, generator=generators,
            )  # fmt: skip
        made = np.where(windows[..., None], made, clean).reshape(len(left), *self.given.shape[1:])
        answers = plan.judge(plan.case.given(made))
        fooled = ~agreed(answers, plan.case.y[self.rows[left]])
        found = left[fooled]
        self.adversarial[found] = made[fooled]
        self.chosen[found, : boxes.shape[1]] = boxes[fooled]
        self.open[found] = False
        return fooled

    def _majority(self, left, hides, generators):
        """Masks that do not hide all stickers: all are to answer the same wrong class."""
        free = ~hides
        rows = np.flatnonzero(free.any(1))
        width = min(self.plan.options["n_views"], int(free.sum(1).max(initial=0)))
        drawn = [
            np.resize(generators[at].permutation(np.flatnonzero(free[at])), width) for at in rows
        ]
        views = np.array(drawn, dtype=int).reshape(len(rows), width)
        return rows, np.stack([views, views], -1), None

    def _one_mask(self, left, hides, generators):
        """A mask that answers a wrong class behind all masks that hide the stickers, if any."""
        found: list = []
        if not hides.any():
            return np.array([], dtype=int), None, None
        for at, row in enumerate(left):
            free, hiding = np.flatnonzero(~hides[at]), np.flatnonzero(hides[at])
            if not len(hiding) or not len(free):
                continue
            if len(free) * len(hiding) > _PAIRS:
                free = generators[at].permutation(free)[: max(1, _PAIRS // len(hiding))]
            pairs = np.stack(np.meshgrid(free, hiding, indexing="ij"), -1)
            answers = self._clean_answers(row, pairs.reshape(-1, 2)).reshape(pairs.shape[:2])
            own = int(self.labels[row])
            good = (answers == answers[:, :1]).all(1) & (answers[:, 0] != own)
            if good.any():
                pick = int(generators[at].choice(np.flatnonzero(good)))
                others = np.concatenate([[free[pick]], np.delete(free, pick)])
                found.append((at, free[pick], others, answers[pick, 0]))
        if not found:
            return np.array([], dtype=int), None, None
        width = max(len(others) for _, _, others, _ in found)
        width = min(width, self.plan.options["n_views"])
        views = [
            np.stack([np.full(width, mask), np.resize(others, width)], -1)
            for _, mask, others, _ in found
        ]
        rows, aims = (np.array([one[k] for one in found], dtype=np.int64) for k in (0, 3))
        return rows, np.array(views), aims

    def _clean_answers(self, row, pairs):
        """Classes of a clean image behind pairs of masks (m, 2)."""
        scores, found = self.plan.target.scores, []
        with torch.no_grad():
            for start in range(0, len(pairs), scores.at_once):
                some = torch.from_numpy(pairs[start : start + scores.at_once])
                hidden = scores.masks[some.to(scores.masks.device)].any(1)[:, None]
                images = self.clean[row : row + 1].expand(len(some), -1, -1, -1)
                found.append(scores.ask(images, hidden).argmax(1).cpu().numpy())
        return np.concatenate(found)


def _hides(masks, windows):
    """Whether each mask hides the whole of each window (m, n_masks)."""
    outside = ~masks.cpu().numpy().reshape(len(masks), -1)
    flat = windows.reshape(len(windows), -1).astype(np.float32)
    return flat @ outside.T.astype(np.float32) == 0
