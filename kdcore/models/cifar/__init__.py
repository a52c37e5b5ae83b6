"""Networks for 32-pixel images, with the names and keys of the published CIFAR checkpoints.

One file for each family, written from its paper. Attribute names must not change: they are the keys
of the checkpoints of the benchmarks RepDistiller and mdistiller, which load with ``strict=True``.
"""
