"""Taps on modules of every awkward kind."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from latentcmp import HookPoint, tap
from latentcmp.errors import HookError


class Net(nn.Module):
    """Linear layers whose activations are known, a tuple, a dict that is reused, and a layer that runs in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 3)
        self.inplace = nn.ReLU(inplace=True)
        self.pair = Pair()
        self.bag = Bag()
        self.idle = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.inplace(self.first(x))
        shared = {"x": hidden}
        self.bag(shared)
        shared["x"] = self.second(self.pair(shared["x"])[1])
        return shared["x"].tanh()


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[str, torch.Tensor]:
        return "edges", 2 * x


class Bag(nn.Module):
    def forward(self, shared: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        shared["x"] = shared["x"] + 1
        return shared


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def test_an_activation_is_the_one_computed_by_hand(net: Net, x: torch.Tensor) -> None:
    with tap(net, "second") as taps:
        out = net(x)
    torch.testing.assert_close(taps["second"].tanh(), out.detach(), rtol=0, atol=0)
    assert not taps["second"].requires_grad


def test_outputs_and_gradients_are_those_without_a_tap(net: Net, x: torch.Tensor) -> None:
    expected = net(x)
    (gradient,) = torch.autograd.grad(expected.sum(), net.first.weight)
    with tap(net, ["first", "second"]):
        found = net(x)
    assert torch.equal(found, expected)
    assert torch.equal(torch.autograd.grad(found.sum(), net.first.weight)[0], gradient)


def test_a_later_in_place_operation_does_not_reach_what_was_taken(net: Net, x: torch.Tensor) -> None:
    with tap(net, "first") as taps:
        net(x)
    torch.testing.assert_close(taps["first"], net.first(x).detach())
    assert bool((taps["first"] < 0).any())  # the rectifier after it works in place


def test_a_key_of_a_mapping_is_taken_before_the_model_changes_it(net: Net, x: torch.Tensor) -> None:
    with tap(net, HookPoint("scalars", "bag", select="x")) as taps:
        net(x)
    torch.testing.assert_close(taps["scalars"], net.first(x).relu().detach() + 1)


def test_an_item_of_a_tuple_is_taken(net: Net, x: torch.Tensor) -> None:
    with tap(net, HookPoint("nodes", "pair", select=1)) as taps:
        net(x)
    torch.testing.assert_close(taps["nodes"], 2 * (net.first(x).relu().detach() + 1))


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (HookPoint("p", "pair"), "a tuple of str, Tensor"),
        (HookPoint("p", "pair", select=0), "gives no tensor: a str"),
        (HookPoint("p", "pair", select=5), "has no item 5"),
        (HookPoint("p", "bag", select="y"), "with keys x"),
    ],
)
def test_a_wrong_selection_says_what_there_is(net: Net, x: torch.Tensor, point: HookPoint, message: str) -> None:
    with pytest.raises(HookError, match=message), tap(net, point):
        net(x)


def test_a_sink_sees_every_forward_on_the_spot(net: Net, x: torch.Tensor) -> None:
    seen: list[float] = []
    with tap(net, "second", sink=lambda name, value: seen.append(float(value.sum()))):
        outputs = [net(x), net(2 * x)]
    assert seen == [pytest.approx(float(out.detach().atanh().sum()), rel=1e-4) for out in outputs]


def test_hooks_are_gone_after_the_block_and_after_an_error(net: Net, x: torch.Tensor) -> None:
    with tap(net, "first") as taps:
        net(x)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), tap(net, "first"):
        net(torch.randn(2, 3))
    assert not net.first._forward_hooks
    net(x)
    assert taps.fires == {"first": 1}


def test_a_point_that_never_fires_is_an_error(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(HookError, match=r"'idle'.*never fired"), tap(net, ["first", "idle"]):
        net(x)


def test_a_call_past_the_hooks_is_an_error(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(HookError, match=r"direct call of module\.forward"), tap(net, ""):
        net.forward(x)


def test_fires_are_held_against_what_was_declared(x: torch.Tensor) -> None:
    layer = nn.Linear(4, 4)
    twice = nn.Sequential(layer, layer)
    with pytest.raises(HookError, match="fired 2 times in 1 forwards, declared 1"), tap(twice, "0") as taps:
        twice(x)
        taps.check(forwards=1)
    with tap(twice, [HookPoint("a", "0", fires=2, call=0), HookPoint("b", "0", fires=2, call=1)]) as taps:
        twice(x)
        taps.check(forwards=1)
    torch.testing.assert_close(taps["a"], layer(x).detach())
    torch.testing.assert_close(taps["b"], layer(layer(x)).detach())


def test_checkpointed_forwards_fire_once(net: Net, x: torch.Tensor) -> None:
    with tap(net, "first") as taps:
        checkpoint(net, x.requires_grad_(), use_reentrant=False).sum().backward()
    assert taps.fires == {"first": 1}
    assert x.grad is not None


def test_an_unknown_path_names_the_nearest(net: Net) -> None:
    with pytest.raises(HookError, match="no module 'secnd'; nearest: second"):
        tap(net, "secnd")


def test_no_points_is_an_error(net: Net) -> None:
    with pytest.raises(HookError, match="no hook points"):
        tap(net, [])


def test_scripted_and_traced_modules_are_refused(net: Net, x: torch.Tensor) -> None:
    mixed = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 4))
    with pytest.raises(HookError, match="ScriptModule"):
        tap(mixed, "0")
    with tap(mixed, "1") as taps:
        mixed(x)
    assert taps["1"].shape == (5, 4)
    with pytest.raises(HookError, match="ScriptModule"):
        tap(torch.jit.trace(nn.Sequential(nn.Linear(4, 4)), x), "0")


def test_a_compiled_module_is_refused_and_one_compiled_inside_the_block_is_not(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(HookError, match=r"already compiled.*_orig_mod"):
        tap(torch.compile(net, backend="eager"), "first")
    torch._dynamo.reset()
    with tap(net, "first") as taps:
        torch.compile(net, backend="eager")(x)
    torch.testing.assert_close(taps["first"], net.first(x).detach())
    net.compile(backend="eager")
    with pytest.raises(HookError, match="this Net is already compiled"):
        tap(net, "first")
    torch._dynamo.reset()


def test_an_untapped_name_and_an_early_look_are_errors(net: Net) -> None:
    taps = tap(net, "first")
    with pytest.raises(KeyError, match="tapped points are first"):
        taps["second"]
    with pytest.raises(HookError, match="no activation yet"):
        taps["first"]


def test_columns_are_reduced_where_the_point_states_its_layout(net: Net, x: torch.Tensor) -> None:
    with tap(net, HookPoint("first", "first", irreps="3x0e+1x1o"), reduce="norms") as taps:
        net(x)
    full = net.first(x).detach()
    torch.testing.assert_close(taps["first"], torch.cat([full[:, :3], full[:, 3:].norm(dim=1, keepdim=True)], dim=1))


def test_two_points_of_one_name_are_an_error(net: Net) -> None:
    with pytest.raises(HookError, match="different names"):
        tap(net, [HookPoint("a", "first"), HookPoint("a", "second")])
