"""What a network is trained to answer: classes, several labels, numbers, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from sklearn_patchcert.networks.fitting.weights import with_classes
from sklearn_patchcert.networks.options import check_several_labels
from sklearn_patchcert.networks.transfer.pretrained import ordered

if TYPE_CHECKING:
    from skorch import NeuralNet as _Base
else:
    _Base = object


class ClassTargets(_Base):
    """Mixin of the classifier: labels to places of logits, or to zeros and ones."""

    multilabel_ = False

    def _default_criterion(self):
        return torch.nn.BCEWithLogitsLoss if self.multilabel_ else torch.nn.CrossEntropyLoss

    def _encode_target(self, y, start, classes):
        if start:
            self.__dict__.pop("multilabel_", None)
        y = y if issparse(y) else np.asarray(y)
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        several = type_of_target(y, input_name="y") == "multilabel-indicator"
        if several if start else self.multilabel_ or several:
            return self._encode_labels(y, start, classes, several)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if start:
            if self.classes is not None:
                classes = self._classes_given(classes)
            self.classes_inferred_ = np.unique(y if classes is None else classes)
            self.n_outputs_ = max(2, len(self.classes_inferred_))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes={classes} are others than before: {self.classes_}.")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has labels that are not among the classes: {unknown}.")
        return np.searchsorted(self.classes_, y).astype(np.int64)

    def _classes_given(self, classes):
        """The option `classes`, sorted, if those of partial_fit are no others."""
        found, _ = ordered(self.classes)
        if classes is not None and not np.array_equal(np.unique(classes), found):
            raise ValueError(f"classes={classes} are others than the option classes: {found}.")
        return found

    def _encode_labels(self, y, start, classes, several):
        """Zeros and ones of an indicator matrix."""
        table = np.asarray(y.toarray() if issparse(y) else y)
        wanted = np.arange(table.shape[1]) if start else self.classes_
        before = f"{len(wanted)} zeros and ones" if start or self.multilabel_ else "one label"
        if not several or before == "one label" or table.shape[1] != len(wanted):
            raise ValueError(
                f"y of shape {table.shape} must be {before} for each image, as in the first fit."
            )
        if classes is not None and not np.array_equal(classes, wanted):
            raise ValueError(
                f"classes={classes} must be the numbers of the columns of y, {wanted}."
            )
        if start:
            self.multilabel_ = True
            self.classes_inferred_, self.n_outputs_ = wanted, table.shape[1]
        check_several_labels(self)
        if self.classes is not None:
            raise ValueError("classes is for one label for each image, and y has several.")
        return (table != 0).astype(np.float32)

    def _decode_target(self, target):
        """Labels as `predict` gives them."""
        target = np.asarray(target)
        return target.astype(np.int64) if self.multilabel_ else self.classes_[target]

    def _image_weights(self, weight, target):
        if self.class_weight is not None and self.multilabel_:
            raise ValueError(
                "class_weight is for one label for each image, and y has several: weight labels by "
                "criterion=torch.nn.BCEWithLogitsLoss and criterion__pos_weight."
            )
        return with_classes(weight, self.class_weight, self.classes_, target)

    def _get_predict_nonlinearity(self):
        if self.multilabel_ and self.predict_nonlinearity == "auto":
            return torch.sigmoid
        return super()._get_predict_nonlinearity()


class NumberTargets(_Base):
    """Mixin of the regressor: targets in units of their standard deviation."""

    def _default_criterion(self):
        return torch.nn.MSELoss

    def _encode_target(self, y, start, classes):
        if self.classes is not None:
            raise ValueError(f"classes must be None for a regressor, got {self.classes!r:.80}.")
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        table = y.reshape(len(y), -1)
        if start:
            self.target_mean_ = table.mean(0)
            spread = table.std(0)
            self.target_std_ = np.where(spread > 0, spread, 1.0)
            self.n_outputs_ = table.shape[1]
            self.target_ndim_ = y.ndim
        if table.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {table.shape[1]} outputs, not {self.n_outputs_} as before.")
        return ((table - self.target_mean_) / self.target_std_).astype(np.float32)

    def _decode_target(self, target):
        """Targets as `predict` gives them."""
        values = target * self.target_std_ + self.target_mean_
        return values[:, 0] if self.target_ndim_ == 1 else values
