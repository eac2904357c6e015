"""Closed-set identification: the trained layer against scikit-learn's, the nearest image against a loop."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from trainables.metrics.identification import identify, softmax_scores


def people(
    subjects: int = 5, each: int = 8, width: int = 6, noise: float = 1.5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(gallery, its subjects, probes, theirs): noisy copies of one vector for each subject."""
    generator = torch.Generator().manual_seed(0)
    faces = torch.randn(subjects, width, generator=generator) * 2
    numbers = torch.arange(subjects).repeat_interleave(each)
    gallery, probes = (faces[numbers] + noise * torch.randn(len(numbers), width, generator=generator) for _ in range(2))
    return gallery, numbers, probes, numbers


def test_the_layer_is_the_one_that_scikit_learn_finds() -> None:
    gallery, subjects, probes, _ = people()
    found = softmax_scores(gallery, subjects, probes)
    middle, spread = gallery.double().mean(0), gallery.double().std(0, correction=0)
    other = LogisticRegression(tol=1e-10, max_iter=10_000).fit((gallery.double() - middle) / spread, subjects)
    expected = torch.from_numpy(other.decision_function((probes.double() - middle) / spread))
    # Logits are known up to a number that is added to all of a row.
    torch.testing.assert_close(
        found - found.mean(1, keepdim=True), expected - expected.mean(1, keepdim=True), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_the_nearest_known_image_names_the_subject(similarity: str) -> None:
    gallery, subjects, probes, truth = people(each=3)
    found = identify(gallery, subjects, probes, truth, head="nearest", similarity=similarity)
    for query in range(len(probes)):
        if similarity == "cosine":
            values = torch.nn.functional.cosine_similarity(probes[query][None].double(), gallery.double())
        else:
            values = -(probes[query].double() - gallery.double()).square().sum(1)
        best = [float(values[subjects == subject].max()) for subject in range(5)]
        assert found.predicted[query] == best.index(max(best))
        assert found.ranks[query] == sum(value > best[truth[query]] for value in best)


@pytest.mark.parametrize("head", ["softmax", "nearest"])
def test_ranks_and_predictions_agree(head: str) -> None:
    gallery, subjects, probes, truth = people(noise=3.0)
    found = identify(gallery, subjects, probes, truth, head=head)
    assert found.top(1) == (found.predicted == truth.numpy()).mean()
    assert 0 < found.top(1) < found.top(2) <= found.top(4) < found.top(5) == 1.0


@pytest.mark.parametrize("head", ["softmax", "nearest"])
def test_clear_people_are_all_known_and_one_image_each_is_enough(head: str) -> None:
    gallery, subjects, probes, truth = people(subjects=20, each=1, width=16, noise=0.1)
    assert identify(gallery, subjects, probes, truth, head=head).top(1) == 1.0


@pytest.mark.parametrize("head", ["softmax", "nearest"])
def test_shuffled_subjects_are_worth_a_guess(head: str) -> None:
    gallery, subjects, probes, truth = people(subjects=4, each=50)
    shuffled = truth[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    assert identify(gallery, subjects, probes, shuffled, head=head).top(1) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("head", ["softmax", "nearest"])
def test_equal_embeddings_give_the_first_subject_and_no_crash(head: str) -> None:
    numbers = torch.arange(4).repeat(3)
    found = identify(torch.ones(12, 3), numbers, torch.ones(12, 3), numbers, head=head)
    assert found.top(1) == 0.25
    assert set(found.predicted.tolist()) == {0}
    assert found.ranks.tolist() == numbers.tolist()


def test_a_dimension_that_only_probes_vary_in_is_no_danger() -> None:
    gallery, subjects, probes, truth = people(noise=0.1)
    gallery = torch.cat([gallery, torch.full((len(gallery), 1), 0.1)], 1)
    probes = torch.cat([probes, torch.full((len(probes), 1), 1e6)], 1)
    assert identify(gallery, subjects, probes, truth).top(1) == 1.0


def test_training_the_layer_draws_nothing_and_leaves_no_trace() -> None:
    gallery, subjects, probes, _ = people()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with torch.no_grad():  # Evaluation happens without gradients.
        one = softmax_scores(gallery, subjects, probes)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(softmax_scores(gallery, subjects, probes), one)
    assert not one.requires_grad


def test_embeddings_of_any_scale_give_the_same_answer() -> None:
    gallery, subjects, probes, truth = people()
    plain = identify(gallery, subjects, probes, truth)
    scaled = identify(gallery * 1e4 + 3, subjects, probes * 1e4 + 3, truth)
    np.testing.assert_array_equal(plain.predicted, scaled.predicted)


def test_an_unknown_head_is_refused() -> None:
    gallery, subjects, probes, truth = people()
    with warnings.catch_warnings(), pytest.raises(ValueError, match="softmax, nearest, but got 'svm'"):
        identify(gallery, subjects, probes, truth, head="svm")
