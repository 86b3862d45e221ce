"""What the tests of interrupts share."""

import signal
from contextlib import contextmanager

import numpy as np
from skorch.callbacks import Callback

from sklearn_patchcert import CertifiedPatchClassifier, PatchNetClassifier, PatchVocabulary
from sklearn_patchcert.vocabulary import losses


class CtrlC(Callback):
    """Presses Ctrl-C in a batch of each fit as long as it is armed."""

    armed = False

    def on_train_begin(self, net, **kwargs):
        self.batches_ = 0

    def on_batch_end(self, net, **kwargs):
        self.batches_ += 1
        if CtrlC.armed and self.batches_ == 3:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def heard():
    """Ctrl-C is an interrupt, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def some_digits(digits):
    X, y = digits
    return X[:300].astype(np.float32), y[:300]


def network(**options):
    options = {"max_epochs": 2, "random_state": 0, "callbacks": [CtrlC()], **options}
    return PatchNetClassifier(**options)


def pipeline(**options):
    vocabulary = PatchVocabulary(6, 4, strategy="kmeans", random_state=0)
    return CertifiedPatchClassifier([("vocab", vocabulary), ("clf", network())], **options)


def pressed(batch):
    signal.raise_signal(signal.SIGINT)
    return losses.reconstruction_loss(batch.reconstruction, batch.patches)
