"""Predictor: every answer is well formed, batches and views change nothing, wrong questions get one sentence."""

import gc
import json
import weakref

import numpy as np
import pytest
from PIL import Image

from refhcm.data.annotation import PART_NAMES
from refhcm.errors import RefHCMError
from refhcm.inference import answering, interview, predictor
from refhcm.inference.asking import TASKS
from refhcm.models.abilities import Abilities

WORDS = "the woman in the red coat"


def same(a, b):
    return a.to_dict() == b.to_dict()


def test_an_answer_is_complete_and_lies_in_the_picture(tiny_predictor, photo):
    answer = tiny_predictor(photo, WORDS)
    x1, y1, x2, y2 = answer.box
    assert 0 <= x1 < x2 <= 90 and 0 <= y1 < y2 <= 60
    assert answer.present and 0 <= answer.score <= 1 and answer.text == WORDS and answer.size == (90, 60)
    assert answer.keypoints.shape == (17, 3) and np.isfinite(answer.keypoints).all()
    assert (answer.keypoints[answer.keypoints[:, 2] == 0] == 0).all()
    assert answer.parsing.shape == (60, 90) and answer.parsing.dtype == np.uint8
    assert answer.parsing.max() < len(PART_NAMES) and (answer.mask == (answer.parsing > 0)).all()
    assert isinstance(answer.caption, str)
    json.loads(answer.to_json())


@pytest.mark.parametrize("task", TASKS)
def test_only_what_was_asked_for_is_answered(people_predictor, photo, task):
    answer = people_predictor(photo, WORDS, tasks=(task,))
    given = [name for name in TASKS if getattr(answer, name) is not None]
    assert given == ([task, "mask"] if task == "parsing" else [task])


def test_a_region_is_kept_as_the_box_and_described(tiny_predictor, photo):
    region = (10.0, 5.0, 40.0, 55.0)
    answer = tiny_predictor(photo, region=region)
    assert answer.region == answer.box == region and answer.text is None
    assert answer.caption is not None and answer.keypoints is not None
    outside = answer.parsing.copy()
    outside[5:55, 10:40] = 0
    assert not outside.any()


def test_how_sure_the_model_is_of_a_region_does_not_count_the_box_that_was_given(tiny_predictor, photo, monkeypatch):
    from refhcm.models.decoding import generate

    def doubtful(model, memory, grammar, beam, settings):
        found = generate(model, memory, grammar, beam, settings)
        if settings.prefix is not None:
            found[0][0].logprobs = [-90.0] * 4 + [-0.5] * (len(found[0][0].logprobs) - 4)
        return found

    monkeypatch.setattr(answering, "generate", doubtful)
    answer = tiny_predictor(photo, region=(10, 5, 40, 55), tasks=("parsing",))
    assert answer.score == pytest.approx(np.exp(-0.5))


def test_a_view_also_works_without_with_and_an_answer_draws_on_its_picture(tiny_predictor, photo):
    view = tiny_predictor.image(photo)
    answer = view(WORDS, tasks=("box",))
    assert same(answer, tiny_predictor(photo, WORDS, tasks=("box",)))
    assert (np.asarray(answer.draw()) == np.asarray(answer.draw(photo))).all()
    (other,) = tiny_predictor.many(iter([(photo, WORDS)]), tasks=("box",))
    assert (np.asarray(other.draw()) == np.asarray(answer.draw())).all()
    view.close()
    with pytest.raises(RefHCMError, match="closed"):
        view(WORDS)


@pytest.mark.parametrize("questions", [None, 5, "photo.jpg"])
def test_many_takes_pairs_only(tiny_predictor, questions):
    with pytest.raises(RefHCMError, match="list of pairs"):
        tiny_predictor.many(questions)


@pytest.mark.parametrize("trained", [False, True])
def test_a_model_trained_for_regions_is_asked_by_the_box_itself(tiny_predictor, photo, monkeypatch, trained):
    asked = []
    ask = interview.ask

    def listening(model, task, features, pictures, questions, *more, **options):
        asked.extend((task.name, question.text is None) for question in questions)
        return ask(model, task, features, pictures, questions, *more, **options)

    monkeypatch.setattr(interview, "ask", listening)
    monkeypatch.setattr(tiny_predictor, "abilities", Abilities(region_prompts=trained))
    answer = tiny_predictor(photo, region=(10, 5, 40, 55), tasks=("keypoints",))
    assert asked == ([("rkpt", True)] if trained else [("rhrc", True), ("rkpt", False)])
    assert answer.keypoints is not None and answer.caption is None


def test_the_smallest_region_still_makes_a_box_of_tokens(tiny_predictor, photo):
    answer = tiny_predictor(photo, region=(89.9, 59.9, 90, 60), tasks=("keypoints", "parsing"))
    assert answer.keypoints is not None


@pytest.mark.parametrize("beam", [1, 3])
def test_many_equals_one_by_one(tiny_predictor, photo, beam):
    other = Image.fromarray(np.asarray(photo)[::-1, :40])
    asked = [(photo, WORDS), (other, "the man"), (photo, (1, 2, 30, 40)), (photo, "the tall man"), (other, WORDS)]
    together = tiny_predictor.many(asked, beam=beam, batch_size=3)
    for (image, question), answer in zip(asked, together, strict=True):
        named = {"text": question} if isinstance(question, str) else {"region": question}
        alone = tiny_predictor(image, **named, beam=beam)
        assert alone.to_dict()["box"] == pytest.approx(answer.to_dict()["box"], abs=0.1)
        assert alone.caption == answer.caption


def test_a_view_runs_the_trunk_once(tiny_predictor, photo, monkeypatch):
    runs = []
    run = tiny_predictor.model.image_features
    monkeypatch.setattr(tiny_predictor.model, "image_features", lambda pixels: runs.append(1) or run(pixels))
    with tiny_predictor.image(photo) as view:
        first, second = view(WORDS), view(region=(0, 0, 45, 60))
    assert runs == [1]
    assert same(first, tiny_predictor(photo, WORDS)) and second.region == (0, 0, 45, 60)
    with pytest.raises(RefHCMError, match="closed"):
        view(WORDS)


def test_below_the_threshold_nobody_fits(tiny_predictor, photo):
    tiny_predictor.threshold = 1.0
    answer = tiny_predictor(photo, WORDS)
    assert not answer.present and answer.box is None and answer.caption is None and answer.parsing is None
    assert tiny_predictor(photo, region=(0, 0, 9, 9)).present


def test_every_form_of_a_picture_gives_the_same_answer(tiny_predictor, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    forms = [photo, np.asarray(photo), tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()]
    answers = [tiny_predictor(form, WORDS) for form in forms]
    assert all(same(answers[0], answer) for answer in answers)


@pytest.mark.parametrize("size", [(1, 1), (20000, 3), (2, 900)])
def test_odd_sizes_are_answered(tiny_predictor, size):
    answer = tiny_predictor(Image.new("RGB", size, "gray"), WORDS)
    assert answer.parsing.shape == size[::-1]
    assert 0 <= answer.box[0] < answer.box[2] <= size[0]
    assert answer.draw(Image.new("RGB", size)).width >= min(size[0], 4096)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"text": ""}, "words are empty"),
        ({"text": " \n\t "}, "words are empty"),
        ({"text": "?!"}, "no letters"),
        ({"text": "woman " * 2000}, "12,000 characters"),
        ({"text": "man \ud800"}, "Unicode"),
        ({"text": 7}, "must be a string"),
        ({}, "Neither words nor a region"),
        ({"text": "man", "region": (0, 0, 5, 5)}, "Both words and a region"),
        ({"region": (0, 0, 5)}, "four numbers"),
        ({"region": "here"}, "four numbers"),
        ({"region": "1234"}, "four numbers"),
        ({"region": b"0099"}, "four numbers"),
        ({"region": (0, 0, float("nan"), 5)}, "four finite numbers"),
        ({"region": (5, 0, 5, 5)}, "no area"),
        ({"region": (900, 0, 950, 5)}, "outside the 90 x 60 picture"),
        ({"text": "man", "tasks": ("box", "pose")}, "Unknown task 'pose': the tasks are box, keypoints"),
        ({"text": "man", "tasks": ()}, "No task"),
        ({"text": "man", "tasks": 5}, "Tasks are a list"),
        ({"text": "man", "tasks": [1]}, "Unknown task 1"),
        ({"text": b"man"}, "must be a string"),
        ({"text": "man", "beam": 0}, "beam"),
        ({"text": "man", "beam": 1.5}, "beam"),
    ],
)
def test_wrong_questions_are_refused_in_one_sentence(tiny_predictor, photo, question, sentence):
    with pytest.raises(RefHCMError, match=sentence) as refusal:
        tiny_predictor(photo, **question)
    assert "\n" not in str(refusal.value)


def test_wrong_lists_of_questions_are_refused(tiny_predictor, photo):
    for questions in (["a.png"], [(photo,)], [(photo, None)], [(photo, 7)], [7]):
        with pytest.raises(RefHCMError):
            tiny_predictor.many(questions)
    with pytest.raises(RefHCMError, match="batch size"):
        tiny_predictor.many([(photo, WORDS)], batch_size=0)
    assert tiny_predictor.many([]) == []


def test_wrong_pictures_are_refused_in_one_sentence(tiny_predictor, tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture at all")
    (tmp_path / "empty.png").write_bytes(b"")
    cases = [(tmp_path / "absent.jpg", "no picture at"), (tmp_path / "notes.jpg", "not a picture")]
    cases += [(tmp_path / "empty.png", "empty"), (tmp_path, "folder"), (None, "not a picture")]
    cases += [("x" * 5000, "cannot be used")]
    cases += [(np.zeros((5, 5, 7), np.uint8), "shape"), (np.zeros((0, 5, 3), np.uint8), "nothing to see")]
    for image, sentence in cases:
        with pytest.raises(RefHCMError, match=sentence):
            tiny_predictor(image, WORDS)
        with pytest.raises(RefHCMError, match=sentence):
            tiny_predictor.many([(image, WORDS)])


def test_without_a_label_map_parsing_is_refused_and_the_rest_works(tiny_model, tiny_vocabulary, photo):
    bare = predictor.RefHCMPredictor(tiny_model, tiny_vocabulary)
    with pytest.raises(RefHCMError, match="no label-map tokenizer for 'parsing': ask only for box, keypoints, caption"):
        bare(photo, WORDS, tasks=("parsing",))
    with pytest.raises(RefHCMError, match="neither masks nor part maps"):
        bare(photo, WORDS, tasks=("box", "mask"))
    answer = bare(photo, WORDS)
    assert answer.keypoints is not None and answer.caption is not None and answer.mask is None


def test_what_follows_a_given_region_is_decoded_behind_its_own_bins(tiny_predictor, photo, monkeypatch):
    begun = []
    ask = interview.ask

    def listening(model, task, *more, **options):
        readings = ask(model, task, *more, **options)
        begun.extend(list(reading.tokens[:4]) for reading in readings if task.name != "rhrc")
        return readings

    monkeypatch.setattr(interview, "ask", listening)
    regions, (first, stop) = [(10, 5, 40, 55), (50, 20, 85, 45)], tiny_predictor.vocabulary.bin_span
    for region in regions:
        tiny_predictor(photo, region=region, tasks=("keypoints",))
    scale = (stop - first - 1) / np.array([90, 60, 90, 60])
    np.testing.assert_allclose(np.array(begun) - first, regions * scale, atol=0.5)


@pytest.fixture
def opened(monkeypatch):
    """Weak references to every picture that the predictor opened."""
    found = []
    open_image = predictor.open_image

    def watched(source):
        picture = open_image(source)
        found.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr(predictor, "open_image", watched)
    return found


def test_answers_about_files_do_not_hold_their_pictures(tiny_predictor, photo, tmp_path, monkeypatch, opened):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.save(tmp_path / "a.png", exif=exif)
    photo.save(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    options = {"tasks": ("box",)}
    answers = tiny_predictor.many([("a.png", WORDS), (tmp_path / "b.png", WORDS)], **options)
    answers.append(tiny_predictor("a.png", WORDS, **options))
    gc.collect()
    assert len(opened) == 3 and not any(picture() for picture in opened)
    monkeypatch.chdir("/")
    for answer, name in zip(answers, ("a.png", "b.png", "a.png"), strict=True):
        assert answer.size == answer.image.size == ((60, 90) if name == "a.png" else (90, 60))
        assert (np.asarray(answer.draw()) == np.asarray(answer.draw(tmp_path / name))).all()
    (kept,) = tiny_predictor.many([(photo, WORDS)], **options)
    assert kept.image is opened[-1]()


def test_a_file_that_changed_or_went_is_not_drawn_on(tiny_predictor, photo, tmp_path):
    path = tmp_path / "a.png"
    photo.save(path)
    answer = tiny_predictor(path, WORDS, tasks=("box",))
    Image.new("RGB", photo.size).save(path)
    with pytest.raises(RefHCMError, match=r"^\S+a\.png has changed since it was asked about: ask again") as error:
        answer.draw()
    assert "\n" not in str(error.value)
    assert answer.draw(photo).width >= photo.width
    path.unlink()
    with pytest.raises(RefHCMError, match=r"^There is no picture at \S+a\.png: check the path\.$"):
        answer.draw()
