"""Networks of timm, which is imported only when one of them is used."""

from typing import Any

from torch import nn

from kdcore.schema.catalog import Normalization

_LICENSES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
}
_LIBRARY_LICENSE = "Apache-2.0"
_IMAGENET_NORMALIZATION = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_DEFAULT_SIZE = 224


def class_names_of(num_classes: int) -> tuple[str, ...] | None:
    """Return the names of ImageNet's classes, or None if no set of ImageNet has this number."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None


def names() -> list[str]:
    """Return all names, sorted, without ``timm/`` and without tags of weights."""
    import timm

    # ``test_*`` are networks for timm's tests.
    return sorted(timm.list_models(exclude_filters=["test_*"]))


def has(name: str) -> bool:
    """Return whether timm has a network of this name."""
    import timm

    return "." not in name and bool(timm.is_model(name))


def family(name: str) -> str:
    """Return timm's module of the network."""
    import timm

    return str(timm.models.model_entrypoint(name).__module__).rpartition(".")[2]


def default_cfg(name: str) -> Any:
    """Return timm's configuration of the default weights, or None."""
    import timm

    return timm.models.get_pretrained_cfg(name)


def pretrained_cfgs(name: str) -> dict[str, Any]:
    """Return timm's configurations of published weights by name, the default first."""
    import timm

    known = timm.models.get_arch_pretrained_cfgs(name)
    return {tag: cfg for tag, cfg in known.items() if cfg.has_weights}


def reference_size(name: str) -> int:
    """Return the side in pixels of the images that the network is made for."""
    cfg = default_cfg(name)
    return int(cfg.input_size[-1]) if cfg else _DEFAULT_SIZE


def normalization_of(cfg: Any) -> Normalization:
    """Return the normalization of pixels in 0..1; ImageNet's if timm has none."""
    if cfg is None or len(cfg.mean) != 3:
        return _IMAGENET_NORMALIZATION
    return Normalization(mean=tuple(cfg.mean), std=tuple(cfg.std))


def license_of(cfg: Any) -> str:
    """Return the license of the weights, or timm's if they have none."""
    stated = (cfg.license if cfg else None) or _LIBRARY_LICENSE
    return _LICENSES.get(stated, stated)


def make(
    name: str, *, num_classes: int, in_channels: int, input_size: int, **create_options: Any
) -> nn.Module:
    """Build the network, with fresh weights unless timm's ``create_options`` load some.

    Raises timm's exception for an unsupported size.
    """
    import timm

    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels} | create_options
    network: nn.Module
    if input_size != reference_size(name):
        try:
            network = timm.create_model(name, img_size=input_size, **options)
        except TypeError:
            # Most convolutional networks take any size and have no such option.
            pass
        else:
            return network
    network = timm.create_model(name, **options)
    return network
