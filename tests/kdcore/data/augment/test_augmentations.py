"""Every augmentation against a slow version for one image, written from its definition."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch.nn import functional

from kdcore.data.augment import color
from kdcore.data.augment.geometric import affine, resized_crop_params
from kdcore.data.augment.mixup import mix_views, sample_levels
from kdcore.data.augment.views import OPERATIONS, augment, draw_operations, randaugment
from kdcore.schema.augmentation import (
    CropFlip,
    Cutmix,
    Cutout,
    Mixup,
    RandAugment,
    RandomResizedCrop,
)

CHANCE = np.random.default_rng(0)
NOISE = torch.from_numpy(CHANCE.integers(0, 256, (60, 3, 24, 24), dtype=np.uint8))
# Smooth images too: their histograms have gaps and few values.
RAMP = (torch.arange(24).view(1, 24) * 3 + torch.arange(24).view(24, 1) * 2 + 40).to(torch.uint8)
SMOOTH = torch.stack([RAMP, RAMP.T, RAMP // 2 + 90]).expand(60, 3, 24, 24).clone()
IDS = np.arange(60)
RESIZED = RandomResizedCrop(type="random_resized_crop", flip=True)
RANDOM = RandAugment(type="randaugment", num_ops=3, magnitude=15)
CUTOUT = Cutout(type="cutout", size=7, probability=0.7)
CROP = CropFlip(type="crop_flip", padding=2, flip=True)


def test_resized_crop_is_the_box_stretched():
    boxes = resized_crop_params(1, 2, IDS, RESIZED, size=(24, 24))
    views = augment(NOISE, IDS, RESIZED, seed=1, epoch=2)
    assert len(set(boxes.height.tolist())) > 5
    assert 10 < boxes.mirrored.sum() < 50
    for i in range(60):
        top, left, tall, wide = (int(part[i]) for part in boxes[:4])
        box = NOISE[i : i + 1, :, top : top + tall, left : left + wide]
        assert box.shape[2:] == (tall, wide)
        stretched = functional.interpolate(box.double(), (24, 24), mode="bilinear")[0]
        expected = stretched.flip(2) if boxes.mirrored[i] else stretched
        assert (views[i] - expected).abs().max() < 1.6


def test_boxes_have_the_requested_area_and_shape():
    narrow = RandomResizedCrop(
        type="random_resized_crop", scale=(0.2, 0.5), ratio=(0.8, 1.25), flip=False
    )
    boxes = resized_crop_params(3, 1, np.arange(4000), narrow, size=(64, 64))
    area = boxes.height * boxes.width / 64**2
    ratio = boxes.width / boxes.height
    assert 0.19 < area.min() < 0.22
    assert 0.48 < area.max() < 0.52
    assert 0.76 < ratio.min() < 0.84
    assert abs(area.mean() - 0.35) < 0.01
    assert abs(np.log(ratio).mean()) < 0.01
    assert (boxes.top + boxes.height).max() == 64 == (boxes.left + boxes.width).max()
    assert boxes.top.min() == 0 == boxes.left.min()
    assert not boxes.mirrored.any()
    identity = RandomResizedCrop(type="random_resized_crop", scale=(1, 1), ratio=(1, 1), flip=False)
    assert torch.equal(augment(NOISE, IDS, identity, seed=1, epoch=1), NOISE)


def test_box_that_never_fits_becomes_the_largest_central_one():
    wide = RandomResizedCrop(type="random_resized_crop", scale=(1, 1), ratio=(2, 2), flip=False)
    boxes = resized_crop_params(1, 1, IDS, wide, size=(24, 24))
    assert {part.tolist()[0] for part in boxes[:1]} == {6}
    assert (boxes.height == 12).all()
    assert (boxes.width == 24).all()


def test_cutout_covers_its_square_with_the_mean():
    views = augment(NOISE, IDS, CUTOUT, seed=1, epoch=2)
    touched = 0
    for image, cut in zip(NOISE.numpy(), views.numpy(), strict=True):
        changed = (image != cut).any(0)
        if not changed.any():
            continue
        touched += 1
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        inner = cut[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert max(inner.shape[1:]) <= 7
        assert (inner == np.rint(image.mean((1, 2)))[:, None, None]).all()
    assert 30 < touched < 55


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def to_tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


POINT_OPERATIONS = {
    "autocontrast": (color.autocontrast, ImageOps.autocontrast, 1),
    "equalize": (color.equalize, ImageOps.equalize, 0),
    "posterize": (lambda x: color.posterize(x, 5), lambda x: ImageOps.posterize(x, 5), 0),
    "solarize": (lambda x: color.solarize(x, 100), lambda x: ImageOps.solarize(x, 100), 0),
}
ENHANCERS = {
    "color": (color.color, ImageEnhance.Color),
    "contrast": (color.contrast, ImageEnhance.Contrast),
    "brightness": (color.brightness, ImageEnhance.Brightness),
    "sharpness": (color.sharpness, ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("images", [NOISE[:4], SMOOTH[:4]], ids=["noise", "smooth"])
@pytest.mark.parametrize("name", POINT_OPERATIONS)
def test_operations_on_values_match_pillow(name, images):
    operation, reference, tolerance = POINT_OPERATIONS[name]
    for image, changed in zip(images, operation(images), strict=True):
        assert (changed.int() - to_tensor(reference(to_pil(image))).int()).abs().max() <= tolerance


@pytest.mark.parametrize("images", [NOISE[:4], SMOOTH[:4]], ids=["noise", "smooth"])
@pytest.mark.parametrize(("name", "factor"), [*itertools.product(ENHANCERS, [0.1, 0.55, 1.0, 1.9])])
def test_enhancements_match_pillow(name, factor, images):
    operation, reference = ENHANCERS[name]
    changed = operation(images, torch.full((4,), factor, dtype=torch.float64))
    if factor == 1:
        assert torch.equal(changed, images)
    for image, ours in zip(images, changed, strict=True):
        # Pillow truncates where we round, and it also rounds the smoothed image.
        expected = to_tensor(reference(to_pil(image)).enhance(factor))
        assert (ours.int() - expected.int()).abs().max() <= 2


def test_smoothing_matches_pillow():
    smooth = color.sharpness(NOISE[:2], torch.zeros(2))
    expected = to_tensor(to_pil(NOISE[0]).filter(ImageFilter.SMOOTH))
    assert (smooth[0].int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_geometric_operations_match_pillow(name):
    image = to_pil(NOISE[0])
    for sign, strength in itertools.product((-1.0, 1.0), (0.3, 1.0)):
        moved = OPERATIONS[name](NOISE[:1], np.array([sign]), strength)[0]
        a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
        if name == "rotate":
            angle = sign * np.deg2rad(30 * strength)
            a, b, d, e = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        elif name == "shear_x":
            b = sign * 0.3 * strength
        elif name == "shear_y":
            d = sign * 0.3 * strength
        elif name == "translate_x":
            c = sign * round(150 / 331 * 24 * strength)
        else:
            f = sign * round(150 / 331 * 24 * strength)
        # Pillow counts from the corner, the map from the center.
        c, f = c + 12 - a * 12 - b * 12, f + 12 - d * 12 - e * 12
        expected = to_tensor(image.transform((24, 24), Image.Transform.AFFINE, (a, b, c, d, e, f)))
        # A position on the border of two pixels may be rounded to either.
        assert (moved != expected).any(0).float().mean() < 0.02


def test_identity_map_leaves_the_image_unchanged():
    assert torch.equal(affine(NOISE, np.tile(np.eye(2, 3), (60, 1, 1))), NOISE)


def test_images_get_the_operations_they_drew():
    augmentation = RandAugment(type="randaugment", num_ops=1, magnitude=20)
    [(kinds, signs)] = draw_operations(4, 1, IDS, augmentation)
    views = randaugment(NOISE, IDS, augmentation, seed=4, epoch=1)
    names = list(OPERATIONS)
    for i in range(60):
        alone = OPERATIONS[names[kinds[i]]](NOISE[i : i + 1], signs[i : i + 1], 20 / 30)
        assert torch.equal(views[i], alone[0])
    [(many, up)] = draw_operations(4, 1, np.arange(14_000), augmentation)
    assert np.abs(np.bincount(many, minlength=14) / 1000 - 1).max() < 0.15
    assert abs(up.mean()) < 0.03


def test_mixup_is_the_weighted_mean_with_the_next_image():
    mixed = mix_views(NOISE, IDS, Mixup(type="mixup", alpha=1.0), seed=2, epoch=1)
    for i in range(60):
        share = mixed.share[i].item()
        both = share * NOISE[i].double() + (1 - share) * NOISE[(i + 1) % 60].double()
        assert (mixed.images[i] - both).abs().max() <= 0.5
    assert mixed.share.unique().numel() > 30


def test_cutmix_shares_are_areas():
    mixed = mix_views(NOISE, IDS, Cutmix(type="cutmix", probability=0.8), seed=2, epoch=1)
    for i in range(60):
        image, partner = NOISE[i], NOISE[(i + 1) % 60]
        foreign = (mixed.images[i] != image).any(0)
        assert torch.equal(mixed.images[i][:, foreign], partner[:, foreign])
        # Noise differs in nearly every pixel, so the box can be measured.
        assert foreign.float().mean() == pytest.approx(1 - mixed.share[i].item(), abs=1e-6)
        rows, columns = foreign.any(1).sum(), foreign.any(0).sum()
        assert rows * columns == foreign.sum()
    assert (mixed.share == 1).sum() > 6


def test_shares_are_beta_distributed():
    draws = (np.arange(100_000) + 0.5) / 100_000
    for alpha in (0.2, 1.0, 4.0):
        shares = sample_levels(draws, alpha) / 256
        assert shares.mean() == pytest.approx(0.5, abs=0.002)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)
        assert shares.min() >= 0
        assert shares.max() <= 1
