"""What holds on a GPU: the bits of the CPU.  PATCHCERT_GPU=1 pytest tests/voronoi/test_gpu.py"""

import numpy as np
import pytest
import torch
from test_engines import cases

from sklearn_patchcert import PatchVocabulary
from sklearn_patchcert.voronoi import certificate
from sklearn_patchcert.voronoi.certificate import NORMS
from sklearn_patchcert.voronoi.engines import devices, two_pass

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that is shown: PATCHCERT_GPU=1"
)


def assert_the_bits_of_the_cpu(patches, tokens, norm, **options):
    wanted = certificate.certify(patches, tokens, norm, return_witness=True, **options)
    found = certificate.certify(
        patches, tokens, norm, device="cuda", return_witness=True, **options
    )
    for part, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_of_the_cpu(norm, dtype):
    rng = np.random.default_rng(0)
    for n_tokens in (1, 2, 17, 70, 300):
        for dim in (1, 3, 16, 48):
            for scale in (1e-20, 1.0, 1e20):
                patches, tokens = cases(rng, n_tokens, dim, 3)
                weights = 10.0 ** rng.uniform(-2, 2, size=(1, dim))
                noise = 1e-6 * scale * rng.random(patches.shape[:2])
                patches, tokens = (scale * patches).astype(dtype), scale * tokens
                assert_the_bits_of_the_cpu(patches, tokens, norm)
                assert_the_bits_of_the_cpu(patches, tokens, norm, weights=weights, noise=noise)


@pytest.mark.parametrize("norm", NORMS)
def test_many_patches_in_chunks(norm):
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(4096, 16))
    patches = (tokens[rng.integers(4096, size=200_000)] + 0.3).astype(np.float32)
    assert_the_bits_of_the_cpu(patches[:, None], tokens, norm)
    prepared = two_pass.prepare(tokens, np.ones(16), norm, "cuda", memory=2**28)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    two_pass.certify(patches, prepared)
    extra = torch.cuda.max_memory_allocated() - before
    assert extra <= 2**28 + 40 * len(patches)  # the results stay until they are copied


def test_tf32_changes_nothing(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    rng = np.random.default_rng(0)
    assert_the_bits_of_the_cpu(rng.normal(size=(5000, 1, 48)), rng.normal(size=(512, 48)), "l2")


def test_a_vocabulary_on_a_gpu(digits):
    assert devices.has_float64("cuda")
    vocabulary = PatchVocabulary(8, 4, strategy="kmeans", device="cuda", random_state=0)
    X = digits[0][:100]
    on_gpu = vocabulary.fit(X).certify(X)
    np.testing.assert_array_equal(vocabulary.set_params(device="cpu").certify(X), on_gpu)
    np.testing.assert_array_equal(vocabulary.fit(X).certify(X), on_gpu)
