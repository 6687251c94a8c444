"""cnnjax: the convolutional networks of the primary sources, as pure functions in JAX.

Importing this package imports nothing else: take the piece that is needed, for instance
``from cnnjax import ops`` or ``from cnnjax.models import LeNet5``.

Shapes in docstrings are written ``dtype[axes]`` with one vocabulary: N examples, H W height
and width, T time, C channels, F feature maps, K classes, S steps, B batch size.  Arrays are
channel-last everywhere: NHWC images, NTC sequences, HWIO kernels.
"""

__version__ = "0.1.0"
