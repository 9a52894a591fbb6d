"""Other neural estimators of mutual information, to compare with, called like ``InfoAtlasLoss``."""

from infoatlas_rl.baselines.infonet import InfoNetLoss
from infoatlas_rl.baselines.mine import MINELoss

__all__ = ["InfoNetLoss", "MINELoss"]
