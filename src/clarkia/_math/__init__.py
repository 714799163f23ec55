"""Private numerical kernels on torch tensors."""
