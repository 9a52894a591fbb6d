"""Policies that are conditioned on key states. None is here yet: the key states come first."""
