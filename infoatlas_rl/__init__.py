"""InfoAtlas: mutual information in one forward pass, and as a term of a training objective.

::

    from infoatlas_rl import InfoAtlasLoss, estimate_mi

    loss = task_loss + 0.1 * InfoAtlasLoss()(x, y)      # maximises I(x; y)
    print(estimate_mi(x, y))
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
