"""What a user calls a picture is read, or refused before it can do harm; pixels equal the published ones."""

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps, features

from refhcm.data import images
from refhcm.data.images import normalise, open_image, open_indices, open_sized, squash, to_tensor
from refhcm.errors import RefHCMError
from refhcm.tests.golden_data import golden_arrays, golden_json

COLOURS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [255, 255, 255], [90, 90, 90]]], np.uint8
)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# -- what the model sees --------------------------------------------------------------------------------
def test_pixels_equal_the_published_preprocessing():
    arrays = golden_arrays("preprocess/preprocess")
    hashes = {c["image"]: c["resized_sha256"] for c in golden_json("preprocess/preprocess")["cases"][:8]}
    size = golden_json("preprocess/preprocess")["settings"]["patch_image_size"]
    found = [index for index in range(8) if f"image{index}" in arrays]
    assert found
    for index in found:
        resized = np.asarray(squash(Image.fromarray(arrays[f"image{index}"]), size))
        every4 = resized[::4, ::4].transpose(2, 0, 1).astype(int)
        assert np.abs(every4 - arrays[f"resized{index}_every4px"]).max() <= 1
        if hashlib.sha256(np.ascontiguousarray(resized)).hexdigest() != hashes[index]:
            pytest.skip("this Pillow rounds its bicubic filter in another way (within 1)")


def test_tensor_is_normalised_channel_first():
    tensor = to_tensor(Image.fromarray(COLOURS), 4)
    assert tensor.shape == (3, 4, 4) and tensor.dtype == torch.float32
    assert tensor.min() >= -1 and tensor.max() <= 1
    exact = normalise(Image.fromarray(COLOURS))
    assert torch.allclose(exact, torch.from_numpy(COLOURS).permute(2, 0, 1) / 255 * 2 - 1, atol=1e-6)
    per_channel = normalise(Image.fromarray(COLOURS), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert per_channel[2, 0, 2] == pytest.approx((1 - 0.3) / 0.4, abs=1e-6)


def test_fast_resampling_is_close():
    across = np.linspace(0, 255, 640).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(across, (480, 1))] * 3, axis=2))
    difference = np.asarray(squash(image, 320)).astype(int) - np.asarray(squash(image, 320, fast=True))
    assert np.abs(difference).max() <= 2


# -- errors of PIL ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["open", "load"])
def test_a_runtime_error_of_pil_is_one_sentence(monkeypatch, where):
    """PIL's AVIF plugin raises it for damaged files, in both places."""

    def fail(*_, **__):
        raise RuntimeError("Failed to decode frame 0: Decoding of color planes failed")

    content = encoded(Image.fromarray(COLOURS))
    monkeypatch.setattr(*((Image, "open") if where == "open" else (ImageFile.ImageFile, "load")), fail)
    for reader in (open_image, open_indices) if where == "open" else (open_image,):
        with pytest.raises(RefHCMError, match="Failed to decode frame 0"):
            reader(content)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_cut_avif_is_one_sentence(share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), "AVIF")
    with pytest.raises(RefHCMError, match=r"damaged|cannot be read|not a picture"):
        open_image(whole[: int(len(whole) * share)])


def test_premultiplied_grey_is_read_and_an_empty_path_refused():
    grey = Image.new("LA", (2, 2), (90, 255))
    assert open_image(grey.convert("La")).tobytes() == open_image(grey).tobytes()
    with pytest.raises(RefHCMError, match="path of the picture is empty"):
        open_image("")


# -- kinds of sources -----------------------------------------------------------------------------------
def test_file_bytes_pil_and_array_agree(tmp_path):
    image = Image.fromarray(COLOURS)
    image.save(tmp_path / "a.png")
    for source in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        encoded(image),
        image,
        COLOURS,
        COLOURS / 255,
    ):
        assert np.array_equal(np.asarray(open_image(source)), COLOURS)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("RGB", (5, 4), (200, 200, 200))
    image = (
        image.convert("L").convert("LA") if mode == "LA" else image if mode == "LAB" else image.convert(mode)
    )
    result = open_image(image)
    assert result.mode == "RGB" and result.size == (5, 4)


def test_cmyk_jpeg_keeps_its_colours():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(np.asarray(open_image(encoded(red, "JPEG"))).astype(int) - [254, 0, 0]).max() < 12


def test_sixteen_bit_greys_keep_their_shades():
    values = np.array([[0, 128 * 256, 65535]], np.uint16)
    for source in (encoded(Image.fromarray(values)), encoded(Image.fromarray(values), "TIFF"), values):
        assert np.asarray(open_image(source))[0, :, 0].tolist() == [0, 128, 255]
    assert np.asarray(open_image(Image.fromarray(np.array([[0.0, 1.0]], np.float32))))[0, :, 0].tolist() == [
        0,
        255,
    ]


def test_transparent_places_are_white():
    clear = Image.new("RGBA", (3, 3), (255, 0, 0, 0))
    assert np.asarray(open_image(clear)).min() == 255
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    result = np.asarray(open_image(encoded(palette, transparency=0)))
    assert result[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_first_frame_stands_for_an_animation():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.asarray(open_image(data))[3, 3, 0] > 200


def test_exif_turn_is_undone_for_photos_and_kept_for_datasets():
    image = Image.fromarray(COLOURS)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        data = encoded(image, exif=exif)
        upright, size = open_sized(data)
        assert upright.size == size == ((2, 3) if turn >= 5 else (3, 2))
        assert open_image(data, orient=False).tobytes() == image.tobytes()
        assert upright.tobytes() == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).tobytes()


def test_damaged_exif_does_not_refuse_the_photo():
    data = encoded(Image.new("RGB", (8, 8), "red"), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert open_image(data).size == (8, 8)


def test_draft_gives_a_smaller_picture_and_the_full_size():
    photo = encoded(Image.new("RGB", (640, 480), "green"), "JPEG")
    small, size = open_sized(photo, draft=200)
    assert small.size == (320, 240) and size == (640, 480)


# -- refusals -------------------------------------------------------------------------------------------
def one_sentence(call, *words):
    with pytest.raises(RefHCMError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_wrong_files_are_named(tmp_path):
    text = tmp_path / "words.jpg"
    text.write_text("this is no picture")
    empty = tmp_path / "empty.png"
    empty.touch()
    whole = encoded(Image.effect_noise((200, 200), 50).convert("RGB"), "JPEG")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole[: len(whole) // 2])
    one_sentence(lambda: open_image(tmp_path / "none.jpg"), "none.jpg", "no picture at")
    one_sentence(lambda: open_image(tmp_path), "folder")
    one_sentence(lambda: open_image(text), "words.jpg", "not a picture")
    one_sentence(lambda: open_image(empty), "empty.png", "empty")
    one_sentence(lambda: open_image(cut), "cut.jpg", "cut off")
    one_sentence(lambda: open_image(b""), "empty")
    one_sentence(lambda: open_image(42), "int")


def test_wrong_arrays_are_named():
    one_sentence(lambda: open_image(np.zeros((0, 5, 3), np.uint8)), "5x0")
    one_sentence(lambda: open_image(np.zeros((5, 5, 2), np.uint8)), "(5, 5, 2)")
    one_sentence(lambda: open_image(np.zeros((5, 5), np.int64)), "int64")
    one_sentence(lambda: open_image(np.full((5, 5, 3), 200.0)), "0 to 1")


def test_large_pictures_are_refused_from_their_header_alone():
    # A header may claim any size: 60,000 x 60,000 pixels in a file of a few bytes.
    header = b"P5 60000 60000 255\n"
    one_sentence(lambda: open_image(header), "too many pixels")
    one_sentence(lambda: open_image(b"P5 13400 13300 255\n"), "13400x13300")
    one_sentence(lambda: open_image(Image.new("RGB", (30, 30)), max_pixels=899), "30x30")


def test_long_pictures_of_modest_area_are_read():
    assert open_image(encoded(Image.new("L", (20_000, 30)))).size == (20_000, 30)


def test_pillow_settings_are_left_alone():
    assert Image.MAX_IMAGE_PIXELS is not None and not ImageFile.LOAD_TRUNCATED_IMAGES
    assert "EPS" not in images.FORMATS


def test_label_maps_are_read_as_classes(tmp_path):
    classes = np.array([[0, 5], [19, 3]], np.uint8)
    grey = Image.fromarray(classes)
    palette = Image.fromarray(classes)
    palette.putpalette(list(range(256)) * 3)
    for name, image in (("grey.png", grey), ("palette.png", palette)):
        image.save(tmp_path / name)
        assert np.array_equal(open_indices(tmp_path / name), classes)
    grey.convert("RGB").save(tmp_path / "rgb.png")
    one_sentence(lambda: open_indices(tmp_path / "rgb.png"), "no label map")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_opened_picture_is_not_turned_a_second_time(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)).save(
        tmp_path / "a.png", exif=exif
    )
    once = open_image(tmp_path / "a.png")
    assert np.array_equal(open_image(once), once)
