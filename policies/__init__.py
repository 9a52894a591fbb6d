"""Policies conditioned on key states: features, network, cloning, rollouts, and what stable-baselines3 needs."""
