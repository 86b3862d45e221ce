import matplotlib
import pytest
import torch
from sklearn.datasets import load_digits

matplotlib.use("agg")
torch.set_num_threads(1)  # so that test workers do not fight over cores


@pytest.fixture(scope="session")
def digits():
    """Digits as rows in 0..16, and their labels; copied, so that no test changes another's."""
    X, y = load_digits(return_X_y=True)
    return X.copy(), y.copy()
