"""What every network must do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.contracts import broken
from trainables.models.macs import count_macs
from trainables.models.network import fold
from trainables.models.registry import build
from trainables.spec import ARCHITECTURES, registry


def _network(name: str, *, seed: int = 0, **choices: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(name, **{"channels": 3, "classes": 7, "width": THIN if name in ARCHITECTURES else 1.0, **choices})


THIN = 0.05  # Of our own networks: thin ones behave as the others and take no time.


def _sides(name: str) -> tuple[int, ...]:
    entry = registry.find("network", name)
    least = int(entry.facts["least"]) if entry is not None else 4
    return (least, least + 1, 2 * least, 4 * least + 1)


def outputs_have_their_shapes(name: str) -> None:
    """Embedding, logits and maps are what it says, for images of several sizes, square or not, grey or in colour."""
    for channels in (1, 3):
        network = _network(name, channels=channels).eval()
        for side in _sides(name):
            images = torch.randn(2, channels, side, side + 1)
            where = f"for images of {channels}x{side}x{side + 1}"
            with torch.no_grad():
                plain, rich = network(images), network(images, maps=True)
            for outputs in (plain, rich):
                if not hasattr(outputs, "embedding") or not hasattr(outputs, "logits") or not hasattr(outputs, "maps"):
                    broken(f"forward must give `Outputs`, but gave {type(outputs).__name__}")
            if plain.embedding.shape != (2, network.embedding_width):
                broken(f"{where} the embedding is {tuple(plain.embedding.shape)}, not (2, {network.embedding_width})")
            if plain.logits.shape != (2, 7):
                broken(f"{where} the logits are {tuple(plain.logits.shape)}, not (2, 7)")
            if plain.maps:
                broken("maps are given although nobody asked")
            widths = tuple(one.shape[1] for one in rich.maps)
            if widths != tuple(network.map_widths) or any(one.ndim != 4 for one in rich.maps):
                broken(f"{where} the maps have {widths} channels, not {tuple(network.map_widths)} as map_widths says")
            if not torch.equal(plain.logits, rich.logits) or not torch.equal(plain.embedding, rich.embedding):
                broken(f"{where} asking for maps changes the other outputs")
            if not all(torch.isfinite(x).all() for x in (rich.embedding, rich.logits, *rich.maps)):
                broken(f"{where} outputs are not finite")


def seed_decides_the_weights(name: str) -> None:
    """Equal seeds give equal weights, others others."""
    vectors = [nn.utils.parameters_to_vector(_network(name, seed=seed).parameters()) for seed in (0, 0, 1)]
    if not torch.equal(vectors[0], vectors[1]):
        broken("two networks of one seed have different weights")
    if torch.equal(vectors[0], vectors[2]):
        broken("networks of different seeds have the same weights")


def images_do_not_mix(name: str) -> None:
    """In evaluation mode what is said of an image does not depend on the others of its batch."""
    network = _network(name).eval()
    side = 2 * _sides(name)[0]
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = network(images).embedding[:1], network(images[:1]).embedding
    if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
        broken("an image has another embedding when others are beside it")


def everything_learns(name: str) -> None:
    """Every weight gets a gradient from logits and embedding."""
    network = _network(name).train()
    side = 2 * _sides(name)[0]
    outputs = network(torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0)))
    (outputs.logits.sum() + outputs.embedding.sum()).backward()
    without = [path for path, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    if without:
        broken(f"no gradient reaches {', '.join(without[:3])}")


def weights_survive_a_file(name: str) -> None:
    """Saved and loaded again it gives the same outputs."""
    from safetensors.torch import load_file, save_file

    network, other = _network(name), _network(name, seed=1)
    side = 2 * _sides(name)[0]
    images = torch.randn(2, 3, side, side)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        try:
            save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
        except RuntimeError as error:
            broken(f"its weights cannot be saved: {str(error).strip().splitlines()[0]}")
        other.load_state_dict(load_file(path))
    with torch.no_grad():
        if not torch.equal(network.eval()(images).logits, other.eval()(images).logits):
            broken("what was saved and loaded gives other logits")


def survives_folding(name: str) -> None:
    """With its batch normalisations folded into its convolutions, as a guide's are, it says the same."""
    network = _network(name).train()
    side = 2 * _sides(name)[0]
    images = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network(images)  # Moves the running statistics from where they begin.
        plain = network.eval()(images)
        fold(network)
        folded = network(images)
    for part in ("embedding", "logits"):
        ours, theirs = getattr(folded, part), getattr(plain, part)
        if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
            broken(f"with folded normalisations its {part} differ by up to {float((ours - theirs).abs().max()):.3g}")


def costs_are_counted(name: str) -> None:
    """It has multiply-adds to count."""
    if count_macs(_network(name), channels=3, side=2 * _sides(name)[0]) <= 0:
        broken("no convolution and no linear layer is in it")


def guides_its_like(name: str) -> None:
    """Trained for an epoch, it can be the guide of another one that begins with its weights."""
    import numpy as np

    from trainables import spec as specs
    from trainables.attempts.attempt import attempt
    from trainables.data.packed import Items
    from trainables.data.packing import write_packed
    from trainables.stages.base import Context
    from trainables.store.artifacts import Store

    side, labels = 2 * _sides(name)[0], np.arange(16, dtype=np.int32) % 2
    images = np.random.RandomState(0).randint(0, 256, (16, 3, side, side)).astype(np.uint8)
    split, names = np.repeat([0, 1], [12, 4]).astype(np.uint8), [str(number) for number in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        store.prepare()
        items = Items(images=images, labels=labels, split=split, names=names, classes=("a", "b"))
        packed = store.root / "data"
        packed.mkdir()
        data = write_packed(packed, "drawn", items).fingerprint
        fields: dict[str, Any] = {"data": data, "architecture": name, "epochs": 1, "batch_size": 6}
        fields["width"] = THIN if name in ARCHITECTURES else 1.0
        method = "horkd+kd+at" if _network(name).map_widths else "horkd+kd"
        teacher = specs.TeacherSpec(**fields)
        student = specs.StudentSpec(**fields, method=method, init_from_assistant=True)
        parents: dict[str, str] = {}
        for spec in (teacher, student):
            key = specs.stage_key(spec, parents)
            context = Context(store=store, key=key, core_locks=False)
            *_, said = attempt(spec.kind, specs.to_plain(spec), parents, context)
            if said["outcome"] != "done":
                what = "trained on labels" if spec is teacher else "guided by its like"
                broken(f"as a {spec.kind}, {what}, it ends as {said['outcome']}: {said.get('message', '')}")
            parents = {"guide": key}


OF_NETWORKS: dict[str, Callable[[str], None]] = {
    "outputs have the shapes it says, for odd sizes, grey and colour": outputs_have_their_shapes,
    "the seed decides the weights": seed_decides_the_weights,
    "in evaluation images do not mix": images_do_not_mix,
    "every weight gets a gradient": everything_learns,
    "weights survive a file": weights_survive_a_file,
    "folded normalisations change nothing": survives_folding,
    "its cost can be counted": costs_are_counted,
    "it can guide a network like itself": guides_its_like,
}
