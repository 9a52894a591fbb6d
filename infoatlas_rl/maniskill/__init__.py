"""ManiSkill: environments on any machine, demonstrations, the 100-D state, ground-truth events and pictures.

Needs the ``robot`` extra. Importing a module of this package does not start the simulator.
"""
