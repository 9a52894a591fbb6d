"""What training follows: dependence that is to grow, and dependence that is to be taken away."""
