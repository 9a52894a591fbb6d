"""InfoAtlas: mutual information in one forward pass, and as a term of a training objective.

Examples:
    >>> import torch
    >>> from infoatlas_rl import InfoAtlasLoss, estimate_mi
    >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    >>> y = (x + x.roll(1, 0)).requires_grad_()         # I(x; y) is log 2 = 0.69
    >>> print(round(estimate_mi(x, y.detach()).mi, 1), "nats")
    0.7 nats
    >>> loss = 0.1 * InfoAtlasLoss()(x, y)              # minimised, it makes I(x; y) larger
    >>> loss.backward()
"""

from infoatlas_rl.version import __version__  # isort: skip
from infoatlas_rl.analysis import feature_information, independence_test, pairwise_mi
from infoatlas_rl.estimator.estimate import Estimate
from infoatlas_rl.estimator.model import InfoAtlas, InfoAtlasConfig, estimate_mi
from infoatlas_rl.loss import InfoAtlasLoss
from infoatlas_rl.weights import WeightsError

__all__ = [
    "Estimate",
    "InfoAtlas",
    "InfoAtlasConfig",
    "InfoAtlasLoss",
    "WeightsError",
    "__version__",
    "estimate_mi",
    "feature_information",
    "independence_test",
    "pairwise_mi",
]
