"""What a user does with an image model, on the 8x8 digits and on pictures made here."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import clarkia as ck
from clarkia import samplers
from clarkia.errors import DataError
from clarkia.models import image_data, image_fit

TINY = {"width": 16, "depth": 1, "max_minutes": None}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return (data.images / 16 * 255).round().astype(np.uint8), data.target


@pytest.fixture(scope="module")
def model(digits):
    images, labels = digits
    return ck.ImageModel(width=20, depth=1, batch_size=64, max_steps=220, max_minutes=None).fit(images, labels)


@pytest.fixture(scope="module")
def barely(digits):
    return ck.ImageModel(**TINY, max_steps=3).fit(digits[0][:200], digits[1][:200])


def test_samples_of_a_class_are_recognised_as_that_class(model, digits):
    """One in ten would be right by chance; a classifier of the same pixels is right on 95 % of real ones."""
    images, labels = digits
    judge = LogisticRegression(max_iter=2000).fit(images.reshape(len(images), -1) / 255, labels)
    drawn = [model.sample(20, given={"class": digit}, guidance_scale=1.0, seed=digit) for digit in range(10)]
    told = judge.predict(np.concatenate(drawn).reshape(200, -1) / 255)
    assert (told == np.repeat(np.arange(10), 20)).mean() > 0.9


def test_samples_are_pictures_like_those_fitted(model, digits):
    drawn = model.sample(100, seed=1)
    assert drawn.shape == (100, 8, 8)
    assert drawn.dtype == np.uint8
    real = digits[0]
    assert abs(drawn.mean() - real.mean()) < 0.1 * real.mean()
    assert np.corrcoef(drawn.mean(0).ravel(), real.mean(0).ravel())[0, 1] > 0.95


def test_a_picture_depends_on_the_seed_and_its_number_alone(barely):
    whole = barely.sample(40, seed=4)
    assert (barely.sample(40, seed=4, images_per_batch=7) == whole).mean() > 0.999  # sums in another order may round
    assert (barely.sample(5, seed=4) == whole[:5]).mean() > 0.999
    assert (barely.sample(40, seed=5) != whole).any()
    later = np.concatenate(list(barely.sample_batches(3, seed=4, start=20)))
    assert (later == whole[20:23]).mean() > 0.999


def test_what_is_known_of_a_picture_stays_and_the_rest_fits_it(model, digits):
    images, labels = digits
    holes = np.zeros((8, 8), bool)
    holes[4:] = True
    given = {"class": labels[:200]}
    filled = model.impute(images[:200], holes, given=given, guidance_scale=1.0, seed=2)
    assert (filled[:, :4] == images[:200, :4]).all()
    # Far nearer to the hidden halves than those of other digits are.
    error = np.abs(filled[:, 4:].astype(float) - images[:200, 4:]).mean()
    others = np.abs(np.roll(images[:200, 4:], 1, 0).astype(float) - images[:200, 4:]).mean()
    assert error < 0.75 * others
    assert (model.impute(images[:3], np.zeros((3, 8, 8), bool)) == images[:3]).all()


def test_scores_tell_digits_from_noise(model, digits):
    images, _ = digits
    scores = model.score_samples(images[:64], num_draws=8)
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 8)).astype(np.uint8)
    assert scores.shape == (64,)
    assert scores.mean() > model.score_samples(noise, num_draws=8).mean() + 50
    # 256 levels a point cost less than eight bits where anything has been learned.
    assert -scores.mean() / np.log(2) / 64 < 7
    assert model.score(images[:8]) == pytest.approx(model.score_samples(images[:8]).mean())


def test_saving_and_loading_change_nothing(model, tmp_path, digits):
    path = tmp_path / "digits.clarkia"
    model.save(path)
    again = ck.load(path)
    assert isinstance(again, ck.ImageModel)
    given = {"class": 7}
    assert (again.sample(4, given=given, guidance_scale=2.0) == model.sample(4, given=given, guidance_scale=2.0)).all()
    assert again.training_run_.best_validation == model.training_run_.best_validation
    assert again.get_params() == model.get_params()
    with pytest.raises(DataError, match="exists"):
        model.save(path)
    with pytest.raises(DataError, match="kind 'image', not 'text'"):
        ck.TextModel.load(path)


def test_it_is_a_scikit_learn_estimator(model):
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.sample(1)


def test_half_the_descriptions_are_withheld_of_pictures_shown_in_part(digits, monkeypatch):
    chances, parts = [], []

    def noted(condition, probability, noise):
        chances.append(probability)
        return drop(condition, probability, noise)

    def shown(observed, x0, noise):
        parts.append(draw_observed(observed, x0, noise))
        return parts[-1]

    drop, draw_observed = image_fit.drop, image_fit.draw_observed
    monkeypatch.setattr(image_fit, "drop", noted)
    monkeypatch.setattr(image_fit, "draw_observed", shown)
    options = {**TINY, "max_steps": 1, "validation_share": 0.0, "condition_dropout": 0.1}
    ck.ImageModel(subset_probability=0.5, **options).fit(digits[0][:64], digits[1][:64])
    any_shown = parts[0].flatten(1).any(1)
    assert 0 < int(any_shown.sum()) < 64
    torch.testing.assert_close(chances[0], torch.where(any_shown, 0.5, 0.1))
    ck.ImageModel(subset_probability=0.0, **options).fit(digits[0][:64], digits[1][:64])
    assert chances[1:] == [0.1]


def test_a_checkpoint_of_another_network_is_refused(digits, tmp_path):
    images, labels = digits[0][:200], digits[1][:200]
    checkpoint = tmp_path / "fit.checkpoint"
    ck.ImageModel(**TINY, max_steps=2).fit(images, labels, checkpoint=checkpoint)
    with pytest.raises(DataError, match="different network"):
        ck.ImageModel(**{**TINY, "width": 32}, max_steps=2).fit(images, labels, checkpoint=checkpoint, resume=True)
    with pytest.raises(DataError, match="unfinished run"):
        ck.ImageModel(**TINY, max_steps=2).fit(images, labels, checkpoint=checkpoint)


# ----------------------------------------------------------------------------------------------- kinds of data


def shapes(n=40, size=16, seed=0):
    """Coloured squares left or right, with words for them."""
    rng = np.random.default_rng(seed)
    pictures = np.full((n, size, size, 3), 40, np.uint8)
    colour, side = rng.integers(0, 2, n), rng.integers(0, 2, n)
    for row in range(n):
        left = 2 + side[row] * size // 2
        pictures[row, 4:12, left : left + 5] = (230, 30, 30) if colour[row] else (30, 60, 230)
    words = [f"a {('blue', 'red')[c]} square, {('left', 'right')[s]}" for c, s in zip(colour, side, strict=True)]
    return pictures, words, colour


def test_colour_pictures_with_captions_and_attributes():
    pictures, words, colour = shapes()
    fitted = ck.ImageModel(**TINY, max_steps=2).fit(
        pictures, attributes={"red": (colour == 1).tolist()}, captions=words
    )
    drawn = fitted.sample(2, given={"caption": "a red square, left", "red": True}, guidance_scale=1.0)
    assert drawn.shape == (2, 16, 16, 3)
    for given, message in (
        ({"caption": "a green square"}, "no caption in training has the word 'green'"),
        ({"caption": ""}, "caption is empty"),
        ({"caption": "a red square, left " * 5}, "the longest in training had"),
        ({"red": "maybe"}, "there was no 'maybe'"),
        ({"blue": True}, "'blue' cannot be asked for"),
    ):
        with pytest.raises(DataError, match=message):
            fitted.sample(1, given=given)


@pytest.mark.parametrize("network", ["dit", "uvit"])
@pytest.mark.parametrize("process", ["edm", "flow"])
def test_every_network_and_process_fits_and_samples(network, process):
    pictures, words, _ = shapes(16)
    fitted = ck.ImageModel(
        network=network, process=process, width=32, depth=2, patch=4, flip=True, max_steps=2, max_minutes=None
    ).fit(pictures, captions=words)
    assert fitted.sample(2, seed=1).shape == (2, 16, 16, 3)
    assert fitted.sample(1, solver=samplers.Heun(), num_steps=3).shape == (1, 16, 16, 3)


def test_a_folder_of_classes_with_a_damaged_file(tmp_path):
    pictures, _, colour = shapes(12)
    for row, picture in enumerate(pictures):
        folder = tmp_path / ("blue", "red")[colour[row]]
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{row}.png")
    (tmp_path / "red" / "broken.png").write_bytes(b"\x89PNG no more")
    fitted = ck.ImageModel(**TINY, max_steps=1).fit(tmp_path)
    assert fitted.descriptions_.attributes == {"class": ("blue", "red")}
    assert [skipped.path.name for skipped in fitted.skipped_] == ["broken.png"]
    assert fitted.n_images_ == 12
    with pytest.raises(DataError, match=r"broken\.png"):
        ck.ImageModel(**TINY, max_steps=1).fit(tmp_path, strict=True)


def test_pictures_too_many_for_memory_are_read_when_they_are_wanted(tmp_path, monkeypatch):
    pictures, words, _ = shapes(12)
    for row, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{row:02d}.png")
    (tmp_path / "captions.csv").write_text(
        "file,caption\n" + "".join(f'{row:02d}.png,"{text}"\n' for row, text in enumerate(words))
    )
    at_once = ck.ImageModel(**TINY, max_steps=3).fit(tmp_path)
    monkeypatch.setattr(image_data, "IN_MEMORY", 100)
    one_by_one = ck.ImageModel(**TINY, max_steps=3).fit(tmp_path)
    assert at_once.descriptions_.words
    for name, weight in at_once.denoiser_.state_dict().items():
        assert weight.equal(one_by_one.denoiser_.state_dict()[name]), name


class Halves:
    """An autoencoder that any linear map would do as well as: means of two by two points and back."""

    def encode(self, pictures):
        return torch.nn.functional.avg_pool2d(pictures, 2)

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=2)


def test_a_model_of_latents(tmp_path):
    pictures, _, _ = shapes(16)
    fitted = ck.ImageModel(**TINY, max_steps=2)
    fitted.autoencoder = Halves()
    fitted.fit(pictures)
    assert fitted.latent_shape_ == (3, 8, 8)
    drawn = fitted.sample(2)
    assert drawn.shape == (2, 16, 16, 3)
    assert (drawn[:, ::2, ::2] == drawn[:, 1::2, 1::2]).all()
    fitted.save(tmp_path / "latent.clarkia")
    again = ck.load(tmp_path / "latent.clarkia")
    with pytest.raises(DataError, match="set its attribute `autoencoder`"):
        again.sample(1)
    again.autoencoder = Halves()
    assert (again.sample(2) == drawn).all()
    with pytest.raises(DataError, match="latents"):
        again.score_samples(pictures)
    with pytest.raises(DataError, match="latents"):
        again.impute(pictures, np.zeros((16, 16), bool))


def test_samples_are_written_while_training(tmp_path):
    pictures, _, _ = shapes(16)
    ck.ImageModel(**TINY, max_steps=2).fit(pictures, samples=tmp_path / "seen")
    written = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert written[-1] == "step-0000002.png"
    with Image.open(tmp_path / "seen" / written[-1]) as picture:
        assert picture.size == (4 * 18 - 2, 4 * 18 - 2)


# ------------------------------------------------------------------------------------------------- bad input


def test_what_cannot_be_fitted_is_said(digits, tmp_path):
    images, labels = digits
    for options, message in (
        ({"network": "mlp"}, "network: expected one of unet, dit, uvit"),
        ({"process": "vp"}, "process: expected one of"),
        ({"condition_dropout": 2}, "condition_dropout"),
        ({"size": 30}, "size: expected a multiple of"),
        ({"patch": 3}, "patch"),
        ({"device": "abacus"}, "device"),
    ):
        with pytest.raises(DataError, match=message):
            ck.ImageModel(**{**TINY, **options}, max_steps=1).fit(images[:20])
    fresh = ck.ImageModel(**TINY, max_steps=1)
    with pytest.raises(DataError, match="class: expected one for each of the 20"):
        fresh.fit(images[:20], labels[:19])
    with pytest.raises(DataError, match="no pictures to learn from"):
        fresh.fit(images[:0])
    with pytest.raises(DataError, match="holds no picture"):
        fresh.fit(tmp_path)
    with pytest.raises(DataError, match="there is no such"):
        fresh.fit(tmp_path / "nowhere")


def test_what_cannot_be_asked_is_said(barely, digits):
    with pytest.raises(DataError, match="there was no '12' among"):
        barely.sample(1, given={"class": "12"})
    with pytest.raises(DataError, match="'caption' cannot be asked for; the model was told class"):
        barely.sample(1, given={"caption": "a three"})
    with pytest.raises(DataError, match="n: expected zero"):
        barely.sample(-1)
    with pytest.raises(DataError, match=r"mask: expected shape \(8, 8\)"):
        barely.impute(digits[0][:2], np.zeros((3, 3), bool))
    assert barely.sample(0).shape == (0, 8, 8)
    assert barely.sample(1, given={"class": "3"}).shape == (1, 8, 8)
