"""Write the names of ImageNet's classes: ``python -m kdcore.models.catalog_tables.imagenet_names``.

The file is committed, because the API matches class names without torchvision and timm. A test
compares it with the metadata of both libraries.
"""

import json
from pathlib import Path

import kdcore.schema

PATH = Path(kdcore.schema.__file__).with_name("tables") / "imagenet_classes.json"
_COMMAND = "python -m kdcore.models.catalog_tables.imagenet_names"


def render() -> str:
    """Return JSON with a line for each class: WordNet id, torchvision's name, timm's name.

    The order is that of the logits of both libraries' networks.
    """
    from timm.data.imagenet_info import ImageNetInfo
    from torchvision.models import ResNet18_Weights

    imagenet = ImageNetInfo("imagenet-1k")
    rows = zip(
        # timm's function has no types.
        imagenet.label_names(),  # type: ignore[no-untyped-call]
        ResNet18_Weights.IMAGENET1K_V1.meta["categories"],
        imagenet.label_descriptions(),
        strict=True,
    )
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{"generated_by": "{_COMMAND}", "classes": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
