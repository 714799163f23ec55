"""What may be measured of a data point, and what is known of such a map: adjoint, pseudo-inverse, singular values."""

from clarkia.operators.blur import Blur, gaussian_kernel
from clarkia.operators.conjugate import conjugate_gradients
from clarkia.operators.dense import Dense, Stack
from clarkia.operators.downsample import Downsample
from clarkia.operators.linear import LinearOperator
from clarkia.operators.mask import Mask
from clarkia.operators.measurement import Measurement
from clarkia.operators.minimal_residual import minimal_residual
from clarkia.operators.nonlinear import Nonlinear, Quantise
from clarkia.operators.radon import Radon
from clarkia.operators.svd import SVD

__all__ = [
    "SVD",
    "Blur",
    "Dense",
    "Downsample",
    "LinearOperator",
    "Mask",
    "Measurement",
    "Nonlinear",
    "Quantise",
    "Radon",
    "Stack",
    "conjugate_gradients",
    "gaussian_kernel",
    "minimal_residual",
]
