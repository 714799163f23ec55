"""Estimators: a codec, a process and a denoiser behind fit, sample, impute, score and save."""
