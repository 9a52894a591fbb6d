"""Distributions that know their own mutual information (nats): of published benchmarks, and further ones."""

from infoatlas_rl.distributions.bmi import BMI_40, BMI_TASKS
from infoatlas_rl.distributions.derived import derived_tasks
from infoatlas_rl.distributions.discrete import DISCRETE_TASKS
from infoatlas_rl.distributions.families import THREE_FAMILIES, Mixture, four_clusters_mi
from infoatlas_rl.distributions.task import BenchmarkTask, gaussian_mi, student_mi, table_mi
from infoatlas_rl.distributions.varied import varied_tasks

__all__ = [
    "BMI_40",
    "BMI_TASKS",
    "DISCRETE_TASKS",
    "THREE_FAMILIES",
    "BenchmarkTask",
    "Mixture",
    "derived_tasks",
    "four_clusters_mi",
    "gaussian_mi",
    "student_mi",
    "table_mi",
    "varied_tasks",
]
