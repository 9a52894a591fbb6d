"""The estimator: a data set goes in, the critic of a variational bound and a calibrated estimate come out."""
