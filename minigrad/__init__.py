"""minigrad: an autodiff engine, convolution kernels and residual units that can be read."""

__version__ = "0.1.0"
