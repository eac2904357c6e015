"""Networks that come from elsewhere: their layers keep the names that files of weights use. No weights are drawn here."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from trainables.models.network import Network, Outputs


class NoClassifier(nn.Linear):
    """Stands where a network has no classifier: logits [B, 0]."""

    def __init__(self, width: int) -> None:
        nn.Module.__init__(self)  # A linear layer without outputs has no weights to draw.
        self.in_features, self.out_features = width, 0

    def forward(self, input: Tensor) -> Tensor:
        return input.new_zeros(len(input), 0)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features=0"


class Foreign(Network):
    """A network after another design than ours; what else there is says `embed`."""

    def __init__(self, width: int, *, classes: int, map_widths: Sequence[int] = ()) -> None:
        """Args: width of the embedding; `classes` 0 leaves the classifier away; channels of each map."""
        nn.Module.__init__(self)  # Network's own would build a trunk and draw its weights.
        self.embedding_width = width
        self.map_widths = tuple(map_widths)
        self.classifier = nn.Linear(width, classes) if classes else NoClassifier(width)

    def embed(self, images: Tensor, kept: list[Tensor]) -> Tensor:
        """Embedding [B, D] of images; appends the map [B, F, h, w] of each stage to `kept`."""
        raise NotImplementedError

    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        kept: list[Tensor] = []
        embedding = self.embed(images, kept)
        return Outputs(embedding, self.classifier(embedding), tuple(kept) if maps else ())


def run_stages(stages: Sequence[nn.Module], x: Tensor, kept: list[Tensor]) -> Tensor:
    """`x` through modules in turn; what leaves each is kept."""
    for stage in stages:
        x = stage(x)
        kept.append(x)
    return x
