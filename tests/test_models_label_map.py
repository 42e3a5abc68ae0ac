"""The label-map tokenizer equals the published one, and refuses what it cannot read."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.errors import RefHCMError
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_files import from_published, load_label_map, save_label_map
from refhcm.models.label_map_paste import crop_part_map, paste_labels, paste_logits
from refhcm.tests.golden_data import golden_arrays, golden_json, golden_path


@pytest.fixture(scope="module")
def golden():
    return golden_arrays("vqgan/io")


@pytest.fixture(scope="module")
def published():
    weights = np.load(golden_path("vqgan/weights.npz"))
    further = {"loss.discriminator.weight": torch.zeros(3), "colorize": torch.zeros(2)}
    return from_published({**{key: torch.from_numpy(weights[key]) for key in weights.files}, **further})


@torch.inference_mode()
def test_encoding_equals_the_published_implementation(published, golden):
    labels = torch.from_numpy(golden["seg"])
    torch.testing.assert_close(
        published.latents(labels), torch.from_numpy(golden["pre_quant"]), atol=1e-4, rtol=0
    )
    assert published.encode(labels).tolist() == golden["codes"].tolist()
    logits = torch.from_numpy(golden["reconstruction_logits"])
    torch.testing.assert_close(published(labels), logits, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_decoding_equals_the_published_implementation(published, golden):
    codes = torch.from_numpy(golden["decode_codes"]).clamp(0, published.config.codebook - 1)
    logits = published.decode_logits(codes)
    torch.testing.assert_close(logits, torch.from_numpy(golden["decode_logits"]), atol=1e-4, rtol=0)
    top = logits.topk(2, dim=1).values
    clear = (top[:, 0] - top[:, 1]) > 1e-3
    assert clear.float().mean() > 0.9
    assert torch.equal(published.decode(codes)[clear], torch.from_numpy(golden["decode_map"]).long()[clear])


@torch.inference_mode()
def test_codes_pasted_the_published_way_give_the_published_maps(published, golden):
    evaluation = golden_json("vqgan/rpar_eval")
    codes = torch.tensor(evaluation["image_codes"]).clamp(0, published.config.codebook - 1)
    logits = published.decode_logits(codes)
    unclear = logits.topk(2, dim=1).values.diff(dim=1).squeeze(1).abs() <= 1e-3
    ratios = zip(evaluation["boxes"], evaluation["w_resize_ratios"], evaluation["h_resize_ratios"], strict=True)
    for row, (box, wide, high) in enumerate(ratios):
        # The small addition undoes the float32 rounding of the recorded box (511.99999 was 512).
        place = np.array(box) * (wide, high, wide, high) + 1e-4
        pasted = paste_labels(logits[row].argmax(dim=0).numpy(), place, (512, 512))
        certain = paste_labels(unclear[row].numpy().astype(np.uint8), place, (512, 512)) == 0
        assert certain.mean() > 0.9
        assert np.array_equal(pasted[certain], golden["eval_pred"][row][certain])


@torch.inference_mode()
def test_a_code_without_doubt_decodes_alone_and_two_equal_ones_half_way(published):
    codes = torch.randint(published.config.codebook, (2, 48), generator=torch.Generator().manual_seed(4))
    sure = torch.nn.functional.one_hot(codes, published.config.codebook).float()
    torch.testing.assert_close(published.decode_spread(sure), published.decode_logits(codes), atol=1e-5, rtol=0)
    vectors = published.quantize.embedding(codes)
    between = published.reconstruct(vectors.mean(0, keepdim=True).transpose(1, 2).unflatten(2, (8, 6)))
    torch.testing.assert_close(published.decode_spread(sure.mean(0, keepdim=True)), between, atol=1e-5, rtol=0)


def test_the_published_shape_has_the_published_number_of_parameters():
    # 816 MB on disk = weights and two Adam moments of this many fp32 parameters
    with torch.device("meta"):
        tokenizer = LabelMapTokenizer(LabelMapConfig.preset("published"))
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == 67_987_092
    assert tokenizer.config.grid == (8, 6)


def test_a_published_state_dict_names_its_own_sizes(published):
    said, config = golden_json("vqgan/config"), published.config
    shape = said["ddconfig"]
    resolutions = [shape["resolution"] // 2**level for level in range(len(shape["ch_mult"]))]
    attended = tuple(level for level, size in enumerate(resolutions) if size in shape["attn_resolutions"])
    assert (config.codebook, config.embedding) == (said["n_embed"], said["embed_dim"])
    assert (config.latent, config.classes) == (shape["z_channels"], shape["in_channels"])
    assert (config.channels, config.blocks) == (shape["ch"], shape["num_res_blocks"])
    assert (config.multipliers, config.attention_levels) == (tuple(shape["ch_mult"]), attended)
    assert config.grid == tuple(said["latent_grid"])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.conv_in.weight", ()),
        ("encoder.conv_in.weight", (0, 20, 3, 3)),
        ("encoder.down.0.block.0.conv2.weight", ()),
        ("quantize.embedding.weight", (4,)),
        ("quant_conv.weight", (4,)),
    ],
)
def test_a_state_dict_of_senseless_shapes_is_refused(published, name, shape):
    with pytest.raises(RefHCMError, match="not a VQGAN checkpoint of part maps"):
        from_published({**published.state_dict(), name: torch.zeros(shape)})


@pytest.fixture
def small():
    torch.manual_seed(0)
    return LabelMapTokenizer(LabelMapConfig.preset("compact")).eval()


def test_the_compact_preset_is_small_and_has_48_codes(small):
    assert sum(parameter.numel() for parameter in small.parameters()) <= 1_000_000
    labels = torch.randint(0, 20, (2, small.config.height, small.config.width))
    assert small.encode(labels).shape == (2, 48)
    assert small(labels).shape == (2, 20, small.config.height, small.config.width)


def test_saving_and_loading_keeps_the_codes(small, tmp_path):
    save_label_map(tmp_path, small, dtype=torch.float32)
    again = load_label_map(tmp_path)
    labels = torch.randint(0, 20, (3, small.config.height, small.config.width))
    assert again.config == small.config
    assert torch.equal(again.encode(labels), small.encode(labels))


def test_a_damaged_folder_is_refused_with_the_cause(small, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"label_map\.json is missing"):
        load_label_map(tmp_path)
    save_label_map(tmp_path, small)
    sizes = json.loads((tmp_path / "label_map.json").read_text())
    (tmp_path / "label_map.json").write_text(json.dumps({**sizes, "codebook": 128}))
    with pytest.raises(RefHCMError, match=r"quantize\.embedding\.weight has the shape"):
        load_label_map(tmp_path)
    (tmp_path / "label_map.json").write_text(json.dumps({**sizes, "colour": 1}))
    with pytest.raises(RefHCMError, match="unknown settings colour"):
        load_label_map(tmp_path)
    (tmp_path / "label_map.json").write_text("[" * 60_000)
    with pytest.raises(RefHCMError, match="nested too deeply"):
        load_label_map(tmp_path)
    (tmp_path / "label_map.json").write_text(json.dumps(sizes))
    (tmp_path / "label_map.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(RefHCMError, match="damaged or cut short"):
        load_label_map(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"codebook": 0},
        {"height": 65},
        {"groups": 7},
        {"channels": 10**9},
        {"multipliers": [1] * 30},
        {"fold": 1.5},
    ],
)
def test_impossible_sizes_are_refused(small, change):
    with pytest.raises(RefHCMError, match="label-map tokenizer"):
        LabelMapConfig.from_dict({**small.config.to_dict(), **change})


def test_wrong_maps_and_codes_are_refused(small):
    height, width = small.config.height, small.config.width
    with pytest.raises(RefHCMError, match=r"labels outside 0\.\.19"):
        small.encode(torch.full((1, height, width), 20))
    with pytest.raises(RefHCMError, match="crop_part_map"):
        small.encode(torch.zeros(1, height, width + 1))
    with pytest.raises(RefHCMError, match="needs 48 codes"):
        small.decode(torch.zeros(1, 47, dtype=torch.long))
    with pytest.raises(RefHCMError, match=r"codes must be 0\.\."):
        small.decode(torch.full((1, 48), small.config.codebook))


boxes = st.tuples(*[st.floats(-50, 150), st.floats(-50, 150), st.floats(0.6, 200), st.floats(0.6, 200)]).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(boxes, st.integers(1, 90), st.integers(1, 90), st.integers(1, 19))
@settings(max_examples=60, deadline=None)
def test_pasting_colours_exactly_the_pixels_whose_centre_is_in_the_box(box, height, width, label):
    logits = torch.zeros(20, 4, 3)
    logits[label] = 1.0
    pasted = paste_logits(logits, box, (height, width))
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))[None]
    assert np.array_equal(pasted, np.where(inside, label, 0))
    assert paste_labels(np.full((4, 3), label), box, (height, width)).max() == label  # never less than a pixel


@given(st.integers(1, 6), st.integers(0, 30), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_cropping_and_pasting_at_the_crops_own_size_changes_nothing(seed, left, top):
    size = (16, 12)
    part_map = np.zeros((60, 60), np.uint8)
    part_map[top : top + 16, left : left + 12] = np.random.default_rng(seed).integers(0, 20, size)
    box = (left, top, left + 12, top + 16)
    crop = crop_part_map(part_map, box, size)
    assert np.array_equal(paste_labels(crop, box, part_map.shape), part_map)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(crop).long(), 20).permute(2, 0, 1)
    assert np.array_equal(paste_logits(one_hot, box, part_map.shape), part_map)


def test_a_crop_beyond_the_picture_is_background_there():
    crop = crop_part_map(np.full((10, 10), 5, np.uint8), (-10, 0, 10, 10), (4, 4))
    assert crop.tolist() == [[0, 0, 5, 5]] * 4


def test_boxes_without_area_are_refused():
    with pytest.raises(RefHCMError, match="has no area"):
        crop_part_map(np.zeros((4, 4), np.uint8), (3, 0, 3, 4), (2, 2))
    with pytest.raises(RefHCMError, match="four finite numbers"):
        crop_part_map(np.zeros((4, 4), np.uint8), (0, 0, float("nan"), 1), (2, 2))
