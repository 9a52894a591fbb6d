"""The suites of ``tasks/benchmark_mi.py``: each module has ``run(cfg)``, which returns figures, and ``show(result)``."""
