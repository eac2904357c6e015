"""The one number of a validation split of classes never trained on: it selects, and is never reported as a result."""

from __future__ import annotations

from torch import Tensor

from trainables.data.draws import draw_pairs
from trainables.metrics.retrieval import recall_at
from trainables.metrics.similarity import pair_similarity
from trainables.metrics.verification import best_threshold

VALIDATION_PAIRS = 3000  # Of each kind, at most; as many as in the second view of LFW.


def validation_score(task: str, embeddings: Tensor, labels: Tensor, seed: int) -> tuple[str, float]:
    """Name and value of a task's validation score, by cosine.

    Retrieval and identification: Recall@1 among the validation images. Verification: the accuracy at the best threshold
    on pairs drawn from them. That is optimistic, as the threshold is chosen on the same pairs; all networks are
    flattered alike.

    Args:
        task: verification, identification or retrieval.
        embeddings: Float [N, D].
        labels: Whole numbers [N]; any numbering will do.
        seed: Of the draw of pairs; with it equal, networks meet equal pairs.

    Raises:
        ValueError: If the task is another one.
        UsageError: If no pairs can be drawn.
    """
    if task in ("retrieval", "identification"):
        return "recall_at_1", recall_at(embeddings, labels, ks=(1,)).recalls[1]
    if task != "verification":
        raise ValueError(f"`task` must be verification, identification or retrieval, but got {task!r}.")
    pairs = draw_pairs(labels.cpu().numpy(), seed=seed, folds=1, per_fold=VALIDATION_PAIRS)
    similarity = pair_similarity(embeddings, pairs[:, 1], pairs[:, 2])
    return "verification_accuracy", best_threshold(similarity, pairs[:, 3] == 1)[1]
