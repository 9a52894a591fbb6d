"""Policies conditioned on key states, and their adapters for stable-baselines3."""
