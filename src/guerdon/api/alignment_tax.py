"""What a policy lost elsewhere while it was optimized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import (
    Config,
    build,
)
from guerdon.contracts import (
    Report,
)
from guerdon.io import (
    writers,
)

if TYPE_CHECKING:
    from guerdon.models.policy import LanguagePolicy

from guerdon.api.overoptimization import _began_from, _gain, _texts


def measure_alignment_tax(
    place: Any,
    *,
    reference: Any = None,
    also: Sequence[str | Path] = (),
    texts: Sequence[str] | str | Path | None = None,
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> Report:
    """What an optimized policy can do less well than the one it began from.

    `place` is a run folder of `optimize`, which knows its reference and gains, a policy's directory or hub name, or a
    loaded policy, whose reference is itself without adapters unless another is given; `also` are more of the first two.
    `texts` are held-out texts or a file of them. With `out`, results.json of each policy in lm-evaluation-harness's form
    goes there. Keywords are TaxOptions; the config's policy options load the models.
    """
    from guerdon.alignment_tax.run import (
        Measured,
        compare,
        distance,
        measure,
        refuse_unlike,
        results,
    )
    from guerdon.models.directory.policies import load_policy
    from guerdon.models.policy import LanguagePolicy

    settings = build((config or Config()).model_dump(exclude_unset=True), {"tax": options})
    chosen = settings.tax

    def loaded(given: Any) -> LanguagePolicy:
        if isinstance(given, LanguagePolicy):
            return given
        source = Path(given) / "policy" if (Path(given) / "policy").is_dir() else given
        return load_policy(settings.policy.model_copy(update={"base": str(source)}))

    held = _texts(texts) if isinstance(texts, str | Path) else texts
    began = reference or (None if isinstance(place, LanguagePolicy) else _began_from(Path(place)))
    start = loaded(place if began is None else began)
    before = measure(start, chosen, held, as_reference=began is None)
    afters: dict[str, Measured] = {}
    distances, gains = {}, {}
    for each in (place, *also):
        speaker = start if each is place and began is None else loaded(each)
        name = speaker.name or "policy" if isinstance(each, LanguagePolicy) else str(each)
        refuse_unlike(start, speaker)
        afters[name] = measure(speaker, chosen, held)
        distances[name] = distance(afters[name], start, chosen, as_reference=began is None)
        if not isinstance(each, LanguagePolicy) and (gain := _gain(Path(each), chosen.draws, chosen.seed)):
            gains[name] = gain
    if out is not None:
        for i, (name, after) in enumerate(afters.items()):
            part = Path(out) if len(afters) == 1 else Path(out) / f"{i}-{Path(name).name}"
            writers.write_json(part / "results.json", results(before, after, chosen))
    return compare(before, afters, chosen, gains=gains, distances=distances)
