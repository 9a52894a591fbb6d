"""What people do with estimates: all pairs of the columns of a table, scores of features, tests of independence."""

from infoatlas_rl.analysis.independence import IndependenceTest, independence_test
from infoatlas_rl.analysis.pairwise import PairwiseMI, pairwise_mi
from infoatlas_rl.analysis.selection import feature_information

__all__ = ["IndependenceTest", "PairwiseMI", "feature_information", "independence_test", "pairwise_mi"]
