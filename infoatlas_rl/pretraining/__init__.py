"""Pretraining: problems with known mutual information, and the networks that learn from them."""
