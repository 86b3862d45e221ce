"""What an attacker can do: an upper bound for every certificate.

A fitted estimator becomes a torch module (`views`), an attack moves images (`gradients`,
`token_attack`), and the estimator itself judges the result (`robustness`).
"""

from sklearn_patchcert.attacks.gradients import apgd, noise, pgd, square, sspgd
from sklearn_patchcert.attacks.robustness import reproject, run_attack, worst_case
from sklearn_patchcert.attacks.runs import ATTACKS
from sklearn_patchcert.attacks.stickers.attack import run_sticker_attack
from sklearn_patchcert.attacks.views.tokenized_network import TokenizedNetwork
from sklearn_patchcert.attacks.views.torch_modules import as_torch_module

__all__ = [
    "ATTACKS",
    "TokenizedNetwork",
    "apgd",
    "as_torch_module",
    "noise",
    "pgd",
    "reproject",
    "run_attack",
    "run_sticker_attack",
    "square",
    "sspgd",
    "worst_case",
]
