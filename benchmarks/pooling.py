"""Pool atoms into structures beside the peers of `registry` and the memory floor."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from latentcmp.ops.segment_cumulants.reference import segment_cumulants_reference

from .registry import KINDS, SHAPES, Peer, Problem, make_problem, pooling_peers
from .run import is_wanted, measure, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["64", "256", "1024"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["ragged"])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--backward", action="store_true")


def run(options: argparse.Namespace) -> list[dict]:
    """Measure every shape and kind, printing each table as it is done."""
    rows = []
    for shape in options.shapes:
        for kind in options.kinds:
            n_rows, columns = SHAPES[shape]
            problem = make_problem(kind, int(n_rows * options.scale), columns, options.device, options.dtype)
            found = run_problem(problem, options)
            print_table(found)
            rows += found
    return rows


def floors(problem: Problem) -> dict[str, Callable[[], object]]:
    """The fastest reads and the copy of the same bytes that torch offers at this thread count."""
    flat = problem.x.flatten()
    other = torch.empty_like(flat)
    reads = {"floor: sum": flat.sum, "floor: max": flat.amax, "floor: dot": lambda: torch.dot(flat, flat)}
    return {**reads, "floor: copy": lambda: other.copy_(flat)}


def check(peer: Peer, problem: Problem) -> float:
    """Largest error against float64 on the first systems, over the deviation to the power of the order."""
    stop = int(problem.ptr[min(50, problem.n_systems)])
    ptr = problem.ptr[: min(50, problem.n_systems) + 1]
    head = Problem("", problem.x[:stop].contiguous(), ptr.contiguous(), problem.index[:stop].contiguous())
    got = peer.run(head).double().cpu()
    want = segment_cumulants_reference(head.x.double().cpu(), head.ptr.cpu(), peer.orders)
    if peer.name == "PyG mean + var" or peer.orders == 1:
        want = want[:, : got.size(1)]
    return float(((got - want).abs().amax((0, 2)) / want.abs().amax((0, 2)).clamp(min=1.0)).max())


def with_backward(peer: Peer, problem: Problem) -> Callable[[], object]:
    x = problem.x.detach().requires_grad_()
    leaf = Problem(problem.name, x, problem.ptr, problem.index)
    cotangent = torch.randn_like(peer.run(problem))
    return lambda: torch.autograd.grad(peer.run(leaf), x, cotangent)


def run_problem(problem: Problem, options: argparse.Namespace) -> list[dict]:
    """Rows of the table for one problem, forward and where asked forward + backward."""
    peers, errors = [], {}
    for peer in pooling_peers(options.device):
        if is_wanted(peer.name, options) and not peer.missing() and (options.slow or not peer.slow):
            errors[peer.name] = check(peer, problem)
            peers.append(peer)
    rows = []
    for backward in (False, True) if options.backward else (False,):
        chosen = [p for p in peers if p.differentiable or not backward]
        calls = floors(problem)
        calls |= {p.name: with_backward(p, problem) if backward else _forward(p, problem) for p in chosen}
        found = measure(calls, options.repeat, options.device)
        read = min(found[name] for name in ("floor: sum", "floor: max", "floor: dot"))
        floor = read + found["floor: copy"] if backward else read
        first = found[chosen[0].name]
        for name, seconds in found.items():
            row = {
                "problem": problem.name,
                "what": "forward + backward" if backward else "forward",
                "name": name,
                "columns": problem.x.size(1),
                "mean_rows": problem.x.size(0) / problem.n_systems,
            }
            row |= {"ms": seconds * 1e3, "over_floor": seconds / floor, "over_ours": seconds / first}
            rows.append(row | {"error": errors.get(name)})
    return rows


def _forward(peer: Peer, problem: Problem) -> Callable[[], object]:
    return lambda: peer.run(problem)
