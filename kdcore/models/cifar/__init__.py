"""Networks for 32-pixel images, under the names and keys of the published CIFAR checkpoints.

One file per family, each written from its paper. Attribute names are the keys of the checkpoints
of the two best known distillation benchmarks (RepDistiller and mdistiller), which load with
``strict=True``: they must not change.
"""
