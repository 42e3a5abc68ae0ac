"""Batch: one line out per line in, bad lines in their place, nothing outside the folder of pictures is opened."""

import json

import numpy as np
import pytest
from PIL import Image

from refhcm.errors import RefHCMError
from refhcm.inference.answer import Answer
from refhcm.inference.asking import check_asked
from refhcm.inference.batch import ANSWER_FIELDS, parse_request, read_requests, run_requests


class Stub:
    """Answers like the predictor, without a network; counts its calls."""

    def __init__(self):
        self.calls = []

    def many(self, questions, tasks=("box",), **options):
        from refhcm.data.images import open_image

        self.calls.append(len(questions))
        answers = []
        for image, asked in questions:
            size = open_image(image).size
            question = check_asked(asked, size)
            parsing = np.ones(size[::-1], np.uint8) if "parsing" in (tasks or ()) else None
            answers.append(Answer(size, question.text, question.region, box=(0, 0, *size), parsing=parsing))
        return answers

    def everybody(self, image, text=None, tasks=("box",), **options):
        from refhcm.data.images import open_image

        width, height = open_image(image).size
        self.calls.append(tasks)
        boxes = [] if text == "giants" else [(0, 0, 5, height), (5, 0, width, height)]
        mask = np.ones((height, width), bool) if "mask" in tasks else None
        return [Answer((width, height), text, box=box, mask=mask) for box in boxes]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(folder / "a.png")
    Image.new("RGB", (20, 10)).save(folder / "sub" / "b.png")
    Image.new("RGB", (20, 10)).save(tmp_path / "secret.png")
    (folder / "notes.jpg").write_text("no picture")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def run(tmp_path, images, lines, **options):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    model = Stub()
    requests = read_requests(path, images)
    failed = run_requests(model, requests, tmp_path / "new" / "out.jsonl", tmp_path / "f", progress=False, **options)
    text = (tmp_path / "new" / "out.jsonl").read_text()
    return failed, [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()], model


def test_bad_lines_get_a_reason_in_their_place_and_the_rest_go_on(tmp_path, images):
    lines = [
        {"image": "a.png", "text": "the man", "id": 7},
        b"{not json",
        {"image": "absent.png", "text": "the man"},
        {"image": "notes.jpg", "text": "the man"},
        {"image": "sub/b.png", "region": [1, 2, 10, 9]},
        {"image": "a.png", "text": ""},
        {"image": "a.png", "text": "the woman"},
    ]
    failed, answers, _ = run(tmp_path, images, lines, batch_size=4)
    assert failed == 4 and len(answers) == 7
    assert ["error" in answer for answer in answers] == [False, True, True, True, False, True, False]
    assert answers[0] == {
        "image": "a.png", "text": "the man", "id": 7, "present": True, "presence": None, "score": 0.0,
        "box": [0, 0, 20, 10], "keypoints": None, "visibility": None, "caption": None, "parsing": None, "mask": None,
        "region_map": None,
    }  # fmt: skip
    assert answers[1]["image"] is None and "not JSON" in answers[1]["error"]
    assert "no picture at" in answers[2]["error"] and "not a picture" in answers[3]["error"]
    assert answers[4]["region"] == [1, 2, 10, 9] and "text" not in answers[4]
    assert answers[5]["text"] == "" and "empty" in answers[5]["error"]


def test_an_empty_file_holds_no_request(tmp_path, images):
    assert run(tmp_path, images, [b"\n", b" "])[:2] == (0, [])


def test_good_lines_are_answered_in_batches(tmp_path, images):
    failed, answers, model = run(tmp_path, images, [{"image": "a.png", "text": "man"}] * 5, batch_size=2)
    assert failed == 0 and model.calls == [2, 2, 1] and len(answers) == 5


def test_points_scribbles_and_everybody_are_asked_about_in_their_place(tmp_path, images):
    lines = [
        {"image": "a.png", "everybody": True},
        {"image": "a.png", "point": [3, 4.5]},
        {"image": "absent.png", "everybody": True},
        {"image": "a.png", "scribble": [[3, 4], [5, 6]], "everybody": False},
        {"image": "a.png", "everybody": True, "text": "giants"},
        {"image": "a.png", "point": [30, 4]},
    ]
    failed, answers, model = run(tmp_path, images, lines, tasks=None, draw=True)
    assert failed == 2 and model.calls[0] == 3 and model.calls[-2:] == [("box",)] * 2
    assert [person["box"] for person in answers[0]["people"]] == [[0, 0, 5, 10], [5, 0, 20, 10]]
    assert set(answers[0]) == {"image", "everybody", "people"} and set(answers[0]["people"][0]) == set(ANSWER_FIELDS)
    assert answers[1]["point"] == [3, 4.5] and answers[1]["present"] and answers[3]["box"] == [0, 0, 20, 10]
    assert "no picture at" in answers[2]["error"] and "outside the 20 x 10" in answers[5]["error"]
    assert answers[4]["people"] == [] and (tmp_path / "f" / "000005.png").is_file()
    _, answers, _ = run(tmp_path, images, lines[:1], tasks=("box", "mask"))
    assert np.asarray(Image.open(answers[0]["people"][1]["mask"])).min() == 255


def test_an_error_that_a_request_brings_along_is_not_the_answers(tmp_path, images):
    lines = [{"image": "a.png", "text": "man", "error": "old"}, {"image": "b.png", "text": "man", "error": "old"}]
    failed, (good, bad), _ = run(tmp_path, images, lines)
    assert failed == 1 and "error" not in good and "no picture at" in bad["error"]


def test_part_maps_are_written_and_named(tmp_path, images):
    lines = [{"image": "a.png", "text": "man"}]
    _, answers, _ = run(tmp_path, images, lines, tasks=("parsing",), draw=True)
    assert (np.asarray(Image.open(answers[0]["parsing"])) == np.ones((10, 20))).all()
    assert (tmp_path / "f" / "000001.png").is_file()


@pytest.mark.parametrize(
    "name", ["../secret.png", "link.png", "sub/../../secret.png", "/etc/passwd", "a\0.png", "x" * 5000]
)
def test_pictures_outside_the_folder_are_refused(images, name):
    request = parse_request(1, json.dumps({"image": name, "text": "man"}).encode(), images)
    if request.error is None:  # a name that is merely too long is refused when it is opened
        with pytest.raises((RefHCMError, OSError)):
            Stub().many([(request.picture, request.question)])
    else:
        assert "outside" in request.error or "no usable file name" in request.error


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "one JSON object"),
        (b'{"text": "man"}', '"image"'),
        (b'{"image": 3, "text": "man"}', '"image"'),
        (b'{"image": "a.png"}', "neither"),
        (b'{"image": "a.png", "text": 3}', "string"),
        (b'{"image": "a.png", "text": "man", "region": [1, 2, 3, 4]}', "both"),
        (b'{"image": "a.png", "region": [1, 2, 3]}', "four numbers"),
        (b'{"image": "a.png", "point": [1, 2, 3]}', "two numbers"),
        (b'{"image": "a.png", "point": [1, "2"]}', "two numbers"),
        (b'{"image": "a.png", "scribble": [1, 2]}', "list of points"),
        (b'{"image": "a.png", "scribble": [[1, 2], [1, 1e999]]}', "no finite number"),
        (b'{"image": "a.png", "scribble": [[1, ' + b"9" * 400 + b"]]}", "too large"),
        (b'{"image": "a.png", "point": [1, 2], "scribble": [[1, 2]]}', '"point" and "scribble"'),
        (b'{"image": "a.png", "everybody": 1}', "true or false"),
        (b'{"image": "a.png", "everybody": true, "point": [1, 2]}', 'narrowed by "text" only'),
        (b'{"image": "a.png", "everybody": false}', "neither"),
        (b'{"image": "a.png", "region": [1, 2, 3, true]}', "four numbers"),
        (b'{"image": "a.png", "region": [1, 2, 3, 1e999]}', "no finite number"),
        (b'{"image": "a.png", "region": [1, 2, 3, NaN]}', "no finite number"),
        (b'{"image": "a.png", "region": [1, 2, 3, ' + b"9" * 400 + b"]}", "too large"),
        (b'{"image": "a.png", "region": [1, 2, 3, ' + b"9" * 5000 + b"]}", "not JSON"),
        (b'{"image": "a.png", "text": "' + b"w" * 2_000_000 + b'"}', "bytes"),
    ],
)
def test_wrong_lines_have_a_reason(images, line, reason):
    request = parse_request(1, line, images)
    assert request.error is not None and reason in request.error and "\n" not in request.error
    json.dumps(request.fields, allow_nan=False)


def test_missing_files_are_refused(tmp_path, images):
    with pytest.raises(RefHCMError, match="no requests file"):
        read_requests(tmp_path / "absent.jsonl", images)
    (tmp_path / "in.jsonl").write_text("{}")
    with pytest.raises(RefHCMError, match="no folder of pictures"):
        read_requests(tmp_path / "in.jsonl", tmp_path / "absent")
