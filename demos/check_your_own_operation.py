"""You wrote an operation, and its backward is wrong. From the failing message to the mended line.

python demos/check_your_own_operation.py

The operation scales each channel of x by a learned number: y[n, c] = x[n, c] * scale[c].
"""

import numpy as np

import minigrad as mg


class ScaleChannels(mg.Function):
    """y = x * scale, one scale for each channel."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, grad_out):
        x, scale = ctx.saved
        grad_x = grad_out * scale
        # scale was broadcast over the rows, so its gradient is a sum over them. This is one row.
        grad_scale = (grad_out * x)[0]
        return grad_x, grad_scale


class Mended(ScaleChannels):
    """The same with the line mended."""

    @staticmethod
    def backward(ctx, grad_out):
        x, scale = ctx.saved
        grad_x = grad_out * scale
        grad_scale = (grad_out * x).sum(axis=0)
        return grad_x, grad_scale


def network(operation):
    """The operation in the middle of others, where a wrong loss curve would not tell."""
    return lambda x, scale, weight: mg.relu(mg.matmul(mg.tanh(operation(x, scale)), weight))


def main():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((5, 3)), rng.uniform(0.5, 2, 3), rng.standard_normal((3, 4))

    print("As it was written:\n")
    try:
        mg.gradcheck(network(ScaleChannels.apply), *inputs)
    except mg.GradcheckError as error:
        print(error)

    print("\nWith .sum(axis=0) in the place of [0]:\n")
    print(mg.gradcheck(network(Mended.apply), *inputs))


if __name__ == "__main__":
    main()
