"""Attention of answers: of what was asked for and answered, in the picture's pixels, the same in batches and alone."""

import json

import numpy as np
import pytest
from PIL import Image

from refhcm.data.annotation import KEYPOINT_NAMES
from refhcm.data.vocabulary import BOS
from refhcm.errors import RefHCMError
from refhcm.inference.answer import Answer
from refhcm.inference.attention import AttentionMaps, split_words
from refhcm.inference.batch import read_requests, run_requests
from refhcm.inference.draw_attention import SHEET_WIDTH
from refhcm.tasks import Reading

WORDS = "the woman in the red coat"
REGION = (10.0, 5.0, 40.0, 55.0)


def present(answer):
    return tuple(name for name, point in zip(KEYPOINT_NAMES, answer.keypoints, strict=True) if point[2] > 0)


@pytest.fixture
def made(photo):
    """An answer with maps made by hand: of the box, two keypoints and two words, on 2 x 3 cells."""
    weights = np.zeros((10, 2, 3), np.float16)
    weights[:4, 0, 0] = 0.5  # box
    weights[4:6, 1, 2] = (0.25, 0.75)  # nose
    weights[6:8, 0, 1] = 1  # left_wrist
    weights[8, 1, 0] = 0.5  # the first word
    weights[9] = 0.125  # the second
    units = {
        "box": ((0, 1), (1, 2), (2, 3), (3, 4)), "nose": ((4, 5), (5, 6)), "left_wrist": ((6, 7), (7, 8)),
        "keypoints": ((4, 6), (6, 8)), "caption": ((8, 9), (9, 10)),
    }  # fmt: skip
    maps = AttentionMaps(weights, units, ("a", "man"))
    points = np.zeros((17, 3), np.float32)
    points[0], points[9] = (70, 50, 0.9), (45, 20, 0.9)
    return Answer(photo.size, WORDS, None, True, 0.5, (5.0, 5.0, 80.0, 55.0), points, caption="a man", source=photo,
                  attention_maps=maps)  # fmt: skip


def test_an_answer_holds_maps_of_all_that_it_says(tiny_predictor, photo):
    answer = tiny_predictor(photo, WORDS, attention=True)
    plain = tiny_predictor(photo, WORDS)
    assert answer.to_dict() == plain.to_dict() and (answer.parsing == plain.parsing).all()
    assert present(answer)
    assert answer.attention_names == ("box", "keypoints", *present(answer), "parsing", "caption")
    assert answer.attention_maps.words == tuple(answer.caption.split())
    counts = {"box": 4, "keypoints": len(present(answer)), "parsing": 48, "caption": len(answer.caption.split())}
    for name in answer.attention_names:
        heat, cells = answer.attention(name), answer.attention(name, cells=True)
        assert heat.shape == (60, 90) and heat.dtype == np.float32 and heat.min() >= 0 and 0.5 < heat.max() <= 1
        assert cells.shape == (4, 4) and cells.dtype == np.float32 and 0 < cells.sum() < 1
        for index in range(counts.get(name, 2)):
            assert 0 < answer.attention(name, index, cells=True).sum() < 1.001
        with pytest.raises(RefHCMError, match=f"the numbers 0 to {counts.get(name, 2) - 1}, not"):
            answer.attention(name, counts.get(name, 2))
    for name, count in list(counts.items())[::2]:  # of one token each
        mean = np.mean([answer.attention(name, index, cells=True) for index in range(count)], 0)
        np.testing.assert_allclose(answer.attention(name, cells=True), mean, rtol=1e-5)


@pytest.mark.parametrize("beam", [1, 3])
def test_maps_of_many_equal_those_of_one_by_one(tiny_predictor, photo, beam):
    other = Image.fromarray(np.asarray(photo)[::-1, :40])
    asked = [(photo, WORDS), (other, "the man"), (photo, REGION), (other, WORDS)]
    together = tiny_predictor.many(asked, beam=beam, batch_size=3, attention=True)
    for (image, question), answer in zip(asked, together, strict=True):
        named = {"text": question} if isinstance(question, str) else {"region": question}
        with tiny_predictor.image(image) as view:
            alone = view(**named, beam=beam, attention=True)
        assert alone.attention_names == answer.attention_names and len(answer.attention_names) > 3
        for name in answer.attention_names:
            np.testing.assert_allclose(
                answer.attention(name, cells=True), alone.attention(name, cells=True), atol=2e-3
            )


def test_only_what_is_named_is_kept(tiny_predictor, photo):
    wrist = present(tiny_predictor(photo, WORDS))[-1]
    answer = tiny_predictor(photo, WORDS, attention=("caption", wrist))
    assert answer.attention_names == (wrist, "caption")
    assert tiny_predictor(photo, WORDS, tasks=("box",), attention=True).attention_names == ("box",)
    whole = tiny_predictor(photo, WORDS, attention=True)
    assert len(answer.attention_maps.weights) <= len(whole.attention_maps.weights) - 4 - 48  # box and part map
    for name in answer.attention_names:
        assert (answer.attention(name) == whole.attention(name)).all()


def test_a_given_box_is_no_answer_and_nobody_has_no_maps(tiny_predictor, photo):
    answer = tiny_predictor(photo, region=REGION, attention=True)
    assert answer.attention_names == ("keypoints", *present(answer), "parsing", "caption")
    with pytest.raises(RefHCMError, match=r"holds no attention of 'box': it holds keypoints, "):
        answer.attention("box")
    tiny_predictor.threshold = 1.0
    nobody = tiny_predictor(photo, WORDS, attention=True)
    assert nobody.attention_names == ()
    with pytest.raises(RefHCMError, match="it holds none"):
        nobody.attention("box")
    with pytest.raises(RefHCMError, match="no attention map to draw"):
        nobody.draw_attention()


def test_without_asking_there_is_one_sentence(tiny_predictor, photo):
    answer = tiny_predictor(photo, WORDS, tasks=("box",))
    assert answer.attention_names == () and answer.attention_maps is None
    for ask in (lambda: answer.attention("box"), answer.draw_attention, lambda: answer.draw_attention("box")):
        with pytest.raises(RefHCMError, match=r"^This answer holds no attention maps: ask with attention=True\.$"):
            ask()


@pytest.mark.parametrize(
    ("attention", "sentence"),
    [
        (("pose",), "Unknown output 'pose'"),
        (("caption",), "'caption' needs the task 'caption'"),
        (("left_wrist",), "'left_wrist' needs the task 'keypoints'"),
        ([["box"]], "Unknown output"),
        ("box", "True, False or a list"),
        (None, "True, False or a list"),
    ],
)
def test_wrong_wishes_are_refused(tiny_predictor, photo, attention, sentence):
    for ask in (tiny_predictor, tiny_predictor.image(photo)):
        with pytest.raises(RefHCMError, match=sentence):
            ask(*[photo] * (ask is tiny_predictor), WORDS, tasks=("box",), attention=attention)
    with pytest.raises(RefHCMError, match=sentence):
        tiny_predictor.many([(photo, WORDS)], tasks=("box",), attention=attention)


def test_cells_lie_where_they_belong_in_the_picture(made):
    """A hot cell is hot at its place, linear between centres of cells, and scaled so that it is 1."""
    assert made.attention_names == ("box", "keypoints", "nose", "left_wrist", "caption")
    heat = made.attention("nose")  # row 1 of 2, column 2 of 3, of 90 x 60 pixels
    assert heat[45:, 75:].min() > 0.98 and heat[:15].max() < 0.02 and heat[:, :45].max() < 0.02
    assert heat[50, 60] == pytest.approx(0.5, abs=0.05) and heat[30, 80] == pytest.approx(0.5, abs=0.05)
    assert made.attention("box", 2)[:15, :15].min() > 0.98
    assert made.attention("caption", 1).min() == 1  # everywhere alike
    assert made.attention("nose", cells=True)[1, 2] == 0.5 and made.attention("nose", 1, cells=True)[1, 2] == 0.75
    np.testing.assert_array_equal(made.attention("keypoints", cells=True), [[0, 0.5, 0], [0, 0, 0.25]])
    for index in (-1, 2, 1.0, True):
        with pytest.raises(RefHCMError, match=f"0 to 1, not {index}"):
            made.attention("caption", index)


def test_nothing_but_words_was_looked_at(photo):
    maps = AttentionMaps(np.zeros((4, 2, 2), np.float16), {"box": ((0, 4),)})
    answer = Answer(photo.size, WORDS, attention_maps=maps, source=photo)
    assert not answer.attention("box").any()
    answer.draw_attention()


@pytest.mark.parametrize("text", ["a man", "the woman in the red coat on the left", "x", "Ünïcödé wörds 漢字 , here"])
def test_words_are_cut_where_the_caption_has_its_spaces(tiny_vocabulary, text):
    tokens = tiny_vocabulary.encode_text(" " + text)
    words, ranges = split_words(tiny_vocabulary, tokens)
    assert words == tuple(tiny_vocabulary.decode_text(tokens).split()) and len(words) == len(ranges)
    assert [tiny_vocabulary.decode_text(tokens[start:stop]).strip() for start, stop in ranges] == list(words)
    assert split_words(tiny_vocabulary, []) == ((), [])


def test_an_empty_caption_has_no_map(tiny_vocabulary):
    reading = Reading(tokens=(BOS, BOS), stretches={"caption": (0, 2)})  # tokens that spell nothing
    reading.attention = np.ones((2, 2, 2), np.float16)
    assert AttentionMaps.of(tiny_vocabulary, (reading, ("caption",))).names == ()


def test_a_drawing_is_hot_where_the_map_is(made, photo):
    low_right, high_left = (np.asarray(made.draw_attention(name), np.int64) for name in ("nose", "box"))
    warmer = (low_right - high_left) @ [1, 0, -1]  # red, and not blue
    height, width = warmer.shape
    assert low_right.shape == high_left.shape and height > 400
    rows, columns = np.nonzero(warmer > 60)
    assert rows.min() > height / 2 and columns.min() > width / 2 and len(rows) > 5000
    rows, columns = np.nonzero(warmer < -60)
    assert rows.max() < 2 * height / 3 and columns.max() < width / 2 and len(rows) > 5000


def test_a_sheet_has_one_map_for_each_thing(made, photo):
    alone = made.draw_attention("box").height
    sheet = made.draw_attention()
    assert sheet.mode == "RGB" and sheet.width <= SHEET_WIDTH
    again = made.draw_attention("box", "keypoints", "nose", "caption", image=np.asarray(photo))
    assert (np.asarray(again) == np.asarray(sheet)).all() and alone != sheet.height
    with pytest.raises(RefHCMError, match="no attention of 'left_hip'"):
        made.draw_attention("left_hip")
    with pytest.raises(RefHCMError, match="about a picture of 90 x 60"):
        made.draw_attention("box", image=Image.new("RGB", (60, 90)))


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 900)])
def test_odd_sizes_are_drawn(tiny_predictor, size):
    answer = tiny_predictor(Image.new("RGB", size, "gray"), WORDS, tasks=("box", "keypoints"), attention=True)
    assert answer.attention("box").shape == size[::-1]
    for names in ((), ("box",)):
        assert max(answer.draw_attention(*names).size) <= 5000


def test_saved_maps_are_read_again(made, tmp_path):
    written = made.save(tmp_path, "a", made.source)
    names = {path.name for path in written}
    assert names == {path.name for path in tmp_path.iterdir()} >= {"a_attention.npz", "a_attention.png"}
    assert "attention" not in json.loads((tmp_path / "a.json").read_text())
    with np.load(tmp_path / "a_attention.npz") as saved:  # nothing pickled in it
        assert saved["words"].tolist() == ["a", "man"]
        assert set(saved) == {"words", *made.attention_names}
        for name in made.attention_names:
            for index, cells in enumerate(saved[name]):
                np.testing.assert_array_equal(cells, made.attention(name, index, cells=True))
    other = {path.name for path in Answer(made.size, WORDS).save(tmp_path / "b", "b", made.source)}
    assert other == {"b.json", "b.png"}


def test_many_requests_draw_their_maps(tiny_predictor, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    lines = [{"image": "a.png", "text": WORDS}, {"image": "a.png", "text": ""}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    requests, files = read_requests(tmp_path / "in.jsonl", tmp_path), tmp_path / "files"
    options = {"progress": False, "tasks": ("box",), "attention": ("box",)}
    assert run_requests(tiny_predictor, requests, tmp_path / "out.jsonl", files, **options) == 1
    assert [path.name for path in files.iterdir()] == ["000001_attention.png"]
