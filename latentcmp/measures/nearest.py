"""The nearest rows (Euclidean): one search for training rows, streams and losses, on a CPU and on a GPU.

Products give every distance fast, but their last bits depend on the shape of the product and on the machine. So
products only choose candidates, within a bound on their rounding; what they leave in doubt is ranked by
`exact_squared_distances`, which are the same bits wherever two rows meet. Which rows are nearest, and in which order,
then depends on the rows alone.
"""

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores

SPARE = 8  # candidates beyond k where their number must be fixed

_SET = 8  # columns of which the least is taken first
_CACHED = 64 << 20, 512
_FILLING = 1 << 30, 4096  # fewer rows leave most of a GPU idle and are outlasted by the launches of their kernels
_DIFFERENCES = 1 << 17, 1 << 24  # numbers held at once between queries and candidates: near the caches of a CPU's core


def rows_at_once(numbers: int, device: torch.device) -> int:
    """Test rows for each of which so many float64 numbers can be held.

    About 64 MiB in all and at most 512 rows on a CPU, elsewhere 1 GiB and 4096 rows, and no more than a quarter of the
    memory that is free on a CUDA device.
    """
    size, most = _CACHED if device.type == "cpu" else _FILLING
    if device.type == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 4)
    return max(1, min(most, size // (8 * numbers)))


def exact_squared_distances(queries: Tensor, rows: Tensor) -> Tensor:
    """Squared distances [...] of queries [..., D] and rows [..., D] that broadcast, without cancellation.

    sum_d (q_d - x_d)^2, the halves of the columns added to each other until one is left: every step is one rounding
    of its own and their order depends on D alone, so two rows have one distance, to the last bit, in any batch, at
    any stride and on any device. (A compiler that fuses steps, as torch.compile on a GPU, may round once for two.)
    """
    return _sum_of_squares(rows - queries)


def nearest(
    x_train: Tensor,
    x_test: Tensor,
    k: int,
    batch_size: int | None = None,
    groups: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Positions [n_test, k] (int64) of the k nearest training rows (Euclidean), nearest first, ties in row order.

    The distances compared are `exact_squared_distances`, so the positions do not depend on how test rows are batched.
    Distances of `batch_size` test rows [n_test, D] to all training rows [n_train, D] are held at once on each core
    (default: as many as fit in about 64 MiB, on a GPU in 1 GiB). Fast where the rows are about as long as they are
    far apart (centred and scaled), and few of them are the same.

    With `groups`, those of the training and of the test rows (int64 [n_train] and [n_test], from 0 to n_train - 1),
    training rows of the group of a test row are left out; at least k rows of other groups must remain.
    """
    batch_size = batch_size or rows_at_once(2 * len(x_train), x_train.device)
    norms = torch.linalg.vecdot(x_train, x_train)

    def search(start: int) -> Tensor:
        block = slice(start, start + batch_size)
        scores = scores_of_block(x_train, norms, x_test[block])
        if groups:
            leave_out_groups(scores, groups[0], groups[1][block])
        return nearest_by_scores(scores, x_train, norms, x_test[block], k)

    return torch.cat(map_over_cores(search, range(0, len(x_test), batch_size), x_train.device))


def nearest_others(queries: Tensor, rows: Tensor, k: int) -> Tensor:
    """Positions [n, k] of the k < n nearest rows [n, D] to each query [n, D] but the one of its own number.

    As `nearest`, but with no shape that depends on the data and no wait: the k nearest by `exact_squared_distances`,
    ties in row order, of k + `SPARE` candidates by products. Where more than `SPARE` rows lie within rounding of the
    k-th (copies of a row, say), which of them are candidates is left to the device.
    """
    norms = torch.linalg.vecdot(rows, rows)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    scores = scores_of_block(rows, norms, queries).masked_fill(itself, torch.inf)
    near = scores.topk(min(k + SPARE, len(rows) - 1), dim=1, largest=False, sorted=False).indices.sort(1).values
    if torch.compiler.is_compiling():  # a graph has no room for pieces
        distances = exact_squared_distances(queries[:, None], rows[near])
    else:
        distances = distances_to(rows, norms, queries, near)
    return near.gather(1, distances.argsort(dim=1, stable=True)[:, :k])


def nearest_of_block(rows: Tensor, norms: Tensor, queries: Tensor, k: int) -> Tensor:
    """Positions [m, k] of the k nearest rows [n, D] to queries [m, D], nearest first, ties in row order.

    `norms` [n] are the squared norms of the rows; those with an infinite one come last, in any order. On a GPU the
    host waits once, and more often only where rows lie within rounding of each other.
    """
    return nearest_by_scores(scores_of_block(rows, norms, queries), rows, norms, queries, k)


def nearest_by_scores(scores: Tensor, rows: Tensor, norms: Tensor, queries: Tensor, k: int) -> Tensor:
    """As `nearest_of_block`, given the scores [m, n]; rows with an infinite score of a query come last."""
    found, near = _least(scores, min(k + 1, len(rows)))
    margin = _margin(found[:, :k], queries)[:, None]
    doubtful = (found.diff(dim=1) <= margin).any(1).nonzero()[:, 0]
    near = near[:, :k]
    if len(doubtful):
        for some, most in _by_crowd(scores, found[:, k - 1 : k] + margin, doubtful):
            of_some = scores[some]
            candidates = of_some.topk(max(k, most), dim=1, largest=False, sorted=False).indices.sort(1).values
            distances = distances_to(rows, norms, queries[some], candidates)
            distances.masked_fill_(of_some.gather(1, candidates).isinf(), torch.inf)
            near[some] = candidates.gather(1, distances.argsort(dim=1, stable=True)[:, :k])
    return near


def ranks_by_scores(scores: Tensor, rows: Tensor, norms: Tensor, queries: Tensor, positions: Tensor) -> Tensor:
    """The ranks [m] of rows at positions [m] among all rows by distance from queries [m, D]: 1 is the nearest.

    Exact distances and ties in row order, as `nearest_by_scores`; rows with an infinite score are not counted.
    """
    known = scores.gather(1, positions[:, None])
    margin = _margin(known, queries)[:, None]
    flags = torch.empty_like(scores)  # floating-point numbers are summed faster than Booleans
    nearer = torch.lt(scores, known - margin, out=flags).sum(1).long()
    doubtful = (torch.le(scores, known + margin, out=flags).sum(1).long() > nearer + 1).nonzero()[:, 0]
    if len(doubtful):
        gaps, margin = scores[doubtful] - known[doubtful], margin[doubtful]
        surely = (gaps < -margin).sum(1)
        within = _nearer_within(gaps.abs_(), margin, rows, norms, queries[doubtful], positions[doubtful])
        nearer[doubtful] = surely + within
    return nearer + 1


def _nearer_within(
    gaps: Tensor, margin: Tensor, rows: Tensor, norms: Tensor, queries: Tensor, positions: Tensor
) -> Tensor:
    """The numbers [m] of rows before those at positions [m], among the rows whose gap [m, n] is within the margin."""
    own = exact_squared_distances(queries, rows[positions])[:, None]
    counts = torch.zeros_like(positions)
    for some, most in _by_crowd(gaps, margin, torch.arange(len(gaps), device=gaps.device)):
        gap, candidates = gaps[some].topk(most, dim=1, largest=False, sorted=False)
        distances = distances_to(rows, norms, queries[some], candidates)
        before = (distances < own[some]) | ((distances == own[some]) & (candidates < positions[some, None]))
        counts[some] = (before & (gap <= margin[some])).sum(1)
    return counts


def leave_out_groups(scores: Tensor, groups: Tensor, of_queries: Tensor) -> None:
    """Set the scores [m, n] of rows whose group in `groups` [n] is that of the query in `of_queries` [m] to infinity.

    Groups are int64, from 0 to n - 1.
    """
    present = torch.zeros_like(groups, dtype=torch.bool)
    present[of_queries] = True
    columns = present[groups].nonzero()[:, 0]
    same = of_queries[:, None] == groups[columns]
    scores[:, columns] = scores[:, columns].masked_fill(same, torch.inf)


def distances_to(rows: Tensor, norms: Tensor, queries: Tensor, positions: Tensor) -> Tensor:
    """`exact_squared_distances` [m, c] of queries [m, D] to rows [n, D] at positions [m, c], a few at a time.

    Those of rows whose squared norm in `norms` [n] is infinite are infinite.
    """
    most = max(1, _DIFFERENCES[rows.device.type != "cpu"] // rows.shape[1])
    wide = max(1, min(positions.shape[1], most))
    found, tall = rows.new_empty(positions.shape), most // wide
    for i in range(0, len(positions), tall):
        for j in range(0, positions.shape[1], wide):
            piece = slice(i, i + tall), slice(j, j + wide)
            near = rows.index_select(0, positions[piece].flatten()).view(*positions[piece].shape, -1)
            found[piece] = _sum_of_squares(near.sub_(queries[piece[0], None]))
    return found.masked_fill_(norms[positions].isinf(), torch.inf)


def _sum_of_squares(numbers: Tensor) -> Tensor:
    """Over the last dimension; the numbers are overwritten."""
    numbers *= numbers
    width = numbers.shape[-1]
    while width > 1:
        half = width // 2
        numbers[..., :half] += numbers[..., width - half : width]
        width -= half
    return numbers[..., 0]


def scores_of_block(rows: Tensor, norms: Tensor, queries: Tensor) -> Tensor:
    """Squared distances [m, n] less those of the queries from 0, which order nothing, as products round them."""
    return torch.addmm(norms, queries, rows.T, alpha=-2)


def _least(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k least of each row of scores [m, n], ascending, and their columns: `topk`, faster where k is small.

    They lie in the k sets of `_SET` columns, a stride apart, that have the least minima, or in the columns left over.
    """
    m, n = scores.shape
    stride = n // _SET
    if 2 * k > stride:
        return scores.topk(k, dim=1, largest=False)
    minima = scores[:, : _SET * stride].unflatten(1, (_SET, stride)).amin(1)
    first = minima.topk(k, dim=1, largest=False, sorted=False).indices
    columns = torch.arange(n, device=scores.device)
    in_sets = (first[:, None] + columns[: _SET * stride : stride, None]).flatten(1)
    candidates = torch.cat([in_sets, columns[_SET * stride :].expand(m, -1)], dim=1)
    values, chosen = scores.gather(1, candidates).topk(k, dim=1, largest=False)
    return values, candidates.gather(1, chosen)


def _margin(found: Tensor, queries: Tensor) -> Tensor:
    """What two scores must differ by, [m], to say which row is nearer; found [m, k] are the least of each query.

    Let u be half of eps, q the length of a query, x that of a row and r their distance, so x <= q + r. In any order of
    additions, fused or not, a score is off by less than (2 D + 2) u (x^2 + q x), and the exact squared distance by
    (log2 D + 3) u r^2, so the two orders by less than c (2 q + r)^2 <= c (8 q^2 + 2 r^2) with c = (2 D + log2 D + 5) u.
    A row that beats one of the k found is no farther than the farthest of them, but for rounding; twice that, with its
    r, is the margin. c is taken twice as large here, for what is of second order and for the rounding of the bound.
    """
    known, squares = torch.finfo(queries.dtype), torch.linalg.vecdot(queries, queries)
    farthest = torch.where(found.isfinite(), found, 0).amax(1) + squares
    c = (2 * queries.shape[1] + 8) * known.eps
    margin: Tensor = 4 * c * (4 * squares + farthest.clamp(min=0)) + known.tiny
    return margin


def _by_crowd(scores: Tensor, bound: Tensor, doubtful: Tensor) -> list[tuple[Tensor, int]]:
    """Groups of doubtful queries and the most scores within the bound [m, 1] of one, alike in that number.

    They are an eighth of all queries at most, so that what is copied of the scores [m, n] is small beside them.
    """
    step = -(-len(scores) // 8)
    counts = torch.cat([(scores[some] <= bound[some]).sum(1) for some in doubtful.split(step)])
    counts, order = counts.sort()
    largest = torch.stack([some[-1] for some in counts.split(step)]).tolist()
    return list(zip(doubtful[order].split(step), largest, strict=True))
