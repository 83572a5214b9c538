"""The findings of arXiv 2512.05717 that the checkpoints here can be asked about, answered from errors alone."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from .features import LAYERS
from .finding import (
    Finding,
    by_layer,
    directions,
    gap,
    graded,
    of_layers,
    spread_of,
    yes_or_no,
)
from .tables import ErrorTables, are_related

ASYMMETRIC_PAIRS = 0.25  # share of the pairs
LARGEST_BETWEEN_SIZES = 0.21  # the largest error that the paper has between sizes
ADDED_BY_AN_ORDER, BACK_FROM_AN_ORDER = 0.1, 0.02  # ridge leaves an error where a column is a copy of another
FAR_BELOW = 0.75  # the paper's mean LFRE is 0.56 of its mean GFRE

TUNED, INDEPENDENT = ("chgnet-0.3.0", "chgnet-r2scan"), ("chgnet-0.3.0", "chgnet-0.2.0")
HEADS = ("sevennet-mf-0", "sevennet-mf-0-r2scan")
SIZES = ("sevennet-0", "sevennet-l3i5")
SNAPSHOTS = ("sevennet-0", "sevennet-0-22may2024")


class Claim(NamedTuple):
    """A function that answers, and the checkpoints without which it cannot."""

    answer: Callable[[ErrorTables], Finding]
    needs: tuple[str, ...] = ()


def answers(tables: ErrorTables) -> list[Finding]:
    """All findings that the checkpoints of the tables can be asked about."""
    return [claim.answer(tables) for claim in CLAIMS if set(claim.needs) <= set(tables.models)]


def asymmetry(tables: ErrorTables) -> Finding:
    """Errors of both directions, with their intervals."""
    pairs = tables.pairs()
    apart = [pair for pair in pairs if tables.differ(pair)]
    widest = sorted(pairs, key=lambda pair: gap(tables.both(pair)), reverse=True)[:3]
    share = len(apart) / len(pairs)
    return Finding(
        "errors are asymmetric",
        "the error from A to B is not that from B to A",
        {"share of pairs with disjoint intervals": share} | directions(tables, widest),
        graded(bool(apart), share >= ASYMMETRIC_PAIRS),
        f"the 90 % intervals of the two directions are disjoint in {len(apart)} of {len(pairs)} pairs of last layers; "
        f"partly from one pair on, yes from {ASYMMETRIC_PAIRS:.0%} of them on",
    )


def families(tables: ErrorTables) -> Finding:
    """Errors within families beside those between them."""
    within, between = ([tables.error(*pair) for pair in tables.ordered(same)] for same in (True, False))
    relatives = [m for m in tables.models if any(are_related(m, other) for other in tables.models if other != m)]
    near = [target for target in relatives if are_related(target, tables.best_source(target))]
    closer = fmean(within) < fmean(between)
    return Finding(
        "families are far apart, variants close",
        "variants of one model reconstruct each other better than models of other families do",
        spread_of("within families", within) | spread_of("between families", between),
        graded(closer, len(near) == len(relatives)),
        f"the mean within families is below the mean between them: {yes_or_no(closer)}; "
        f"{len(near)} of {len(relatives)} checkpoints with variants are reconstructed best by a variant (last layers)",
    )


def richest_and_hardest(tables: ErrorTables) -> Finding:
    """Mean errors of every checkpoint as source and as target."""
    sources = {m: fmean(tables.error(m, other) for other in tables.models if other != m) for m in tables.models}
    targets = {m: fmean(tables.error(other, m) for other in tables.models if other != m) for m in tables.models}
    richest, hardest = min(sources, key=sources.__getitem__), max(targets, key=targets.__getitem__)
    rank = sorted(targets.values(), reverse=True).index(targets[richest]) + 1
    return Finding(
        "one model is the best source and the hardest target",
        "OMAT is both among the tasks of UMA; its mean error as target is .88",
        {
            f"best source {richest}, as source": sources[richest],
            f"best source {richest}, as target": targets[richest],
            f"hardest target {hardest}, as target": targets[hardest],
            f"hardest target {hardest}, as source": sources[hardest],
        },
        graded(richest == hardest, rank <= len(targets) / 2),
        f"means over the other checkpoints: the best source {richest} is number {rank} of {len(targets)} among the "
        "hardest targets; yes for the first, partly in the harder half",
    )


def fine_tuning(tables: ErrorTables) -> Finding:
    """A fine-tuned model beside one trained independently on the data of the pretrained one."""
    nearer = {layer: max(tables.both(TUNED, layer)) < min(tables.both(INDEPENDENT, layer)) for layer in LAYERS}
    return Finding(
        "fine-tuning keeps the features of pretraining",
        "fine-tuned models stay close to the pretrained one",
        of_layers(tables, TUNED) | of_layers(tables, INDEPENDENT),
        graded(*nearer.values()),
        "in both directions nearer to the fine-tuned model than to the one trained independently on the same data: "
        f"{by_layer(nearer)}",
    )


def two_heads(tables: ErrorTables) -> Finding:
    """Two heads of one model beside models of other families."""
    limits = {layer: min(tables.error(*pair, layer) for pair in tables.ordered(False)) for layer in LAYERS}
    near = {layer: max(tables.both(HEADS, layer)) < limits[layer] for layer in LAYERS}
    return Finding(
        "two heads of one model are near",
        "mean errors of .28 between the tasks of DPA, .59 between those of UMA",
        of_layers(tables, HEADS) | {f"least between families, {layer}": limits[layer] for layer in LAYERS},
        graded(*near.values()),
        f"both directions below every error between families: {by_layer(near)}",
    )


def sizes(tables: ErrorTables) -> Finding:
    """Two sizes of one architecture, trained on the same data."""
    near = {layer: round(max(tables.both(SIZES, layer)), 2) <= LARGEST_BETWEEN_SIZES for layer in LAYERS}
    return Finding(
        "sizes of one model are nearly identical",
        "errors of .016 to .21 between sizes",
        of_layers(tables, SIZES),
        graded(*near.values()),
        f"both directions at most {LARGEST_BETWEEN_SIZES}: {by_layer(near)}",
    )


def snapshots(tables: ErrorTables) -> Finding:
    """Two trainings by one recipe beside two sizes."""
    further = {layer: fmean(tables.both(SNAPSHOTS, layer)) > fmean(tables.both(SIZES, layer)) for layer in LAYERS}
    return Finding(
        "two snapshots of one recipe",
        "not asked",
        of_layers(tables, SNAPSHOTS),
        "not asked",
        f"mean of both directions larger than between the two sizes: {by_layer(further)}",
    )


def backbone_holds_more(tables: ErrorTables) -> Finding:
    """Errors between the two layers of every checkpoint."""
    down = {model: tables.error(model, model, "backbone", "last") for model in tables.models}
    up = {model: tables.error(model, model, "last", "backbone") for model in tables.models}
    more = [model for model in tables.models if down[model] < up[model]]
    return Finding(
        "the backbone contains more than the last layer",
        "backbones reconstruct last layers better than last layers reconstruct backbones",
        {f"{m}, {name}": of[m] for m in tables.models for name, of in (("BB -> LL", down), ("LL -> BB", up))},
        graded(len(more) > len(down) / 2, len(more) == len(down)),
        f"the error from the backbone is the smaller one in {len(more)} of {len(down)} checkpoints; partly from more "
        "than half of them on",
    )


def backbones_are_closer(tables: ErrorTables) -> Finding:
    """Mean errors between backbones beside those between last layers."""
    figures: dict[str, float] = {}
    closer = []
    for name, pairs in (("all pairs", tables.ordered()), ("pairs of two families", tables.ordered(False))):
        last, backbone = (fmean(tables.error(*pair, layer) for pair in pairs) for layer in LAYERS)
        figures |= {f"{name}, backbone": backbone, f"{name}, last": last}
        closer.append(backbone < last)
    return Finding(
        "backbones are closer to each other than last layers",
        "mean errors of .54 and .66",
        figures,
        graded(*closer),
        f"the mean error between backbones is the smaller one: all pairs {yes_or_no(closer[0])}, pairs of two families "
        f"{yes_or_no(closer[1])}",
    )


def cumulants(tables: ErrorTables) -> Finding:
    """Errors between descriptors of lower and higher order."""
    steps = [("1", "2"), ("2", "3"), ("3", "4"), ("1", "4")]
    figures = {f"{m}, {a} -> {b}": orders[a, b] for m, orders in tables.orders.items() for a, b in steps}
    back = {m: max(orders[b, a] for a, b in steps) for m, orders in tables.orders.items()}
    least, most = min(figures.values()), max(back.values())
    return Finding(
        "each order of cumulants adds",
        "1 -> 2 .24, 2 -> 3 .38, 3 -> 4 .42, 1 -> 4 .60; back 1e-15",
        figures | {f"{model}, back, largest": error for model, error in back.items()},
        graded(least >= ADDED_BY_AN_ORDER, most <= BACK_FROM_AN_ORDER),
        f"the smallest error to a higher order is {least:.2f} (at least {ADDED_BY_AN_ORDER}), the largest back "
        f"{most:.3f} (at most {BACK_FROM_AN_ORDER}, of ridge)",
    )


def local_errors(tables: ErrorTables) -> Finding:
    """Local errors beside global ones of the same pairs."""
    pairs = [(a, b) for a in tables.orders for b in tables.orders if a != b]
    figures: dict[str, float] = {}
    ratios = []
    for name, key in (("mean", "value"), ("mean of the medians", "median")):
        means = {m: fmean(getattr(tables.cell(*pair, m), key) for pair in pairs) for m in ("lfre", "gfre")}
        figures |= {f"{name}, {measure.upper()}": error for measure, error in means.items()}
        ratios.append(means["lfre"] / means["gfre"])
    return Finding(
        "local errors are far below global ones",
        "mean LFRE .374, mean GFRE .662",
        figures,
        graded(*(ratio < FAR_BELOW for ratio in ratios)),
        f"LFRE is {ratios[0]:.2f} of GFRE, and {ratios[1]:.2f} by medians of rows (far below: under {FAR_BELOW}); no "
        "group of structures is on both sides of a split",
    )


CLAIMS = (
    Claim(asymmetry),
    Claim(families),
    Claim(richest_and_hardest),
    Claim(fine_tuning, (*TUNED, *INDEPENDENT)),
    Claim(two_heads, HEADS),
    Claim(sizes, SIZES),
    Claim(snapshots, (*SNAPSHOTS, *SIZES)),
    Claim(backbone_holds_more),
    Claim(backbones_are_closer),
    Claim(cumulants),
    Claim(local_errors),
)
