"""Square: its schedule, its windows by hand, and its random search."""

from __future__ import annotations

import itertools

import pytest
import torch

from fixtures.models import L1, HalfSpace, Island, Watched
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.attacks.square import LinfWindows, LpWindows, Square
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

THREATS = pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
SHAPE = (2, 9, 7)


def grey(n=6):
    """Images well inside [0, 1], and a model that classifies them correctly under any change."""
    x = 0.5 + 0.1 * (Rng.of_batch(0, n).uniform(SHAPE) - 0.5)
    model = HalfSpace(SHAPE)
    model.b.data += 30
    return model, x, torch.zeros(n, dtype=torch.long)


@THREATS
def test_a_model_without_gradients_is_attacked_equally(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, threat.eps / 3)

    def scores(x):
        assert not torch.is_grad_enabled() and not x.requires_grad
        return model(x).detach()

    x_adv = Square(threat, queries=300)(scores, x, y)
    assert misclassified(model, x_adv, y).all()
    assert torch.equal(x_adv, Square(threat, queries=300)(model, x, y))


def test_in_linf_it_reaches_nearly_the_optimum():
    model, threat = HalfSpace(), Linf(0.1)
    x, y = model.images(4, threat, 1.01 * threat.eps)
    x_adv = Square(threat, queries=300)(model, x, y)
    assert (model.distance(x_adv, threat) < 0.1 * threat.eps).all()


@pytest.mark.parametrize("queries", [10000, 5000])
def test_the_share_halves_on_the_schedule_of_the_paper(queries):
    attack = Square(Linf(0.1), queries=queries, p_init=0.8)
    halvings = [
        after * 10000 // queries
        for after in range(1, queries)
        if attack._share(after) < attack._share(after - 1)
    ]
    # The schedule is in queries of 10,000; with fewer queries a halving may be one query later.
    expected = (11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
    late = 10000 // queries - 1
    assert halvings == [e + late for e in expected]
    assert attack._share(0) == 0.8 and attack._share(queries - 1) == 0.8 / 512


def test_a_window_covers_the_share():
    assert [LinfWindows(Linf(0.1)).side(0.8 / 2**k, 28, 28) for k in range(10)] == [
        *(25, 18, 13, 9, 6, 4, 3, 2, 2, 1)
    ]
    odd = [LpWindows(L2(0.1)).side(0.8 / 2**k, 28, 28) for k in range(10)]
    assert odd == [25, 19, 13, 9, 7, 5, 3, 3, 3, 3]
    assert LinfWindows(Linf(0.1)).side(0.8, 100, 10) == 10


def test_linf_starts_with_vertical_stripes():
    model, x, y = grey()
    watched = Watched(model)
    Square(Linf(0.1), queries=1)(watched, x, y)
    _, start = watched.seen  # the clean image comes first
    delta = start - x
    torch.testing.assert_close(delta.abs(), torch.full_like(x, 0.1))
    torch.testing.assert_close(delta, delta[:, :, :1].expand_as(x))
    stripes = delta[:, :, 0].sign().flatten(1)
    assert len(stripes.unique(dim=0)) == len(x)  # no two images have the same
    assert (stripes.mean(1).abs() < 1).all()


def windows_of_the_first_image(self, x, side, count, rng, draw=LinfWindows.draw):
    return tuple(d[:1].expand_as(d) for d in draw(self, x, side, count, rng))


@fails_under(
    "windows shared by the batch",
    (LinfWindows, "draw", windows_of_the_first_image),
    windows=LinfWindows(Linf(0.1)),
)
@pytest.mark.parametrize(
    "windows", [LinfWindows(Linf(0.1)), LpWindows(L2(0.5))], ids=["Linf", "L2"]
)
def test_a_candidate_differs_in_windows_that_depend_on_the_image(windows):
    x, count = grey()[1], 100
    x_now = x if isinstance(windows, LinfWindows) else windows.start(x, Rng.of_batch(1, len(x)))
    draws, shared = windows.draw(x, 3, count, Rng.of_batch(2, len(x))), windows.shared(x, 3)
    places = []
    for query in range(count):
        x_new = windows.propose(x, x_now, shared, tuple(d[:, query] for d in draws))
        places.append(((x_new - x_now).abs() > 1e-6).any(1))
    places = torch.stack(places, 1)  # image, query, row, column
    sizes = places.flatten(2).sum(2)
    assert (sizes == 9).all() if isinstance(windows, LinfWindows) else (sizes <= 18).all()
    assert places.flatten(0, 1).any(0).all(), "the edges are never reached"
    for extent in (places.any(3), places.any(2)):
        assert len(extent.flatten(1).unique(dim=0)) == len(x), "images share their windows"


def test_a_linf_window_has_one_value_per_channel():
    x = grey()[1]
    windows, rng = LinfWindows(Linf(0.1)), Rng.of_batch(2, len(x))
    draws = windows.draw(x, 4, 30, rng)
    colours = set()
    for query in range(30):
        x_new = windows.propose(x, x, (), tuple(d[:, query] for d in draws))
        for delta in x_new - x:
            rows, columns = delta.abs().sum((0, 2)).nonzero(), delta.abs().sum((0, 1)).nonzero()
            assert len(rows) == len(columns) == 4
            painted = delta[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            colour = painted[:, :1, :1]
            torch.testing.assert_close(painted, colour.expand_as(painted))
            torch.testing.assert_close(colour.abs(), torch.full_like(colour, 0.1))
            colours.add(tuple(colour.flatten().sign().tolist()))
    assert colours == set(itertools.product((-1.0, 1.0), repeat=2))


def test_a_pair_of_bumps_by_hand():
    expected = torch.tensor([[0.25, 1.25, 0.25], [-0.25, -0.25, -0.25], [-0.25, -1.25, -0.25]])
    expected /= expected.norm()
    x = torch.zeros(1, 1, 3, 3)
    _, bumps = LpWindows(L2(1.0)).shared(x, 3)
    torch.testing.assert_close(bumps.reshape(2, 3, 3), torch.stack([expected, expected.T]))


def test_an_l2_candidate_is_algorithm_3():
    """Against a transcription for one image and one channel at a time."""
    x, eps, side = grey(8)[1], 0.5, 3
    windows = LpWindows(L2(eps))
    # Half of the budget is unused, as after clamping to [0, 1].
    x_now = x + 0.5**0.5 * (windows.start(x, Rng.of_batch(1, 8)) - x)
    corners, turned, signs = windows.draw(x, side, 1, Rng.of_batch(2, 8))
    shared = windows.shared(x, side)
    x_new = windows.propose(x, x_now, shared, (corners[:, 0], turned[:, 0], signs[:, 0]))
    bumps = shared[1].reshape(2, side, side)
    for i in range(8):
        nu = x_now[i] - x[i]
        unused = eps**2 - nu.square().sum()
        at = [divmod(int(corner), SHAPE[2]) for corner in corners[i, 0].flatten()]
        first, second = ((slice(r, r + side), slice(c, c + side)) for r, c in at)
        for channel in range(SHAPE[0]):
            plane = nu[channel]
            union = torch.zeros_like(plane, dtype=torch.bool)
            union[first] = union[second] = True
            old = plane[first] / plane[first].norm()
            new = signs[i, 0, channel] * bumps[turned[i, 0]] + old
            available = (plane[union].square().sum() + unused / SHAPE[0]).sqrt()
            plane[second] = 0
            plane[first] = available * new / new.norm()
        torch.testing.assert_close(x_new[i], x[i] + nu)


@pytest.mark.parametrize("threat", [L2(0.5), L1(0.5)], ids=str)
def test_candidates_with_finite_p_use_the_whole_budget(threat):
    model, x, y = grey()
    watched = Watched(model)
    Square(threat, queries=60)(watched, x, y)
    for seen in watched.seen[1:]:
        torch.testing.assert_close(threat.distance(seen, x), torch.full((len(x),), 0.5))


@THREATS
@pytest.mark.parametrize("queries", [1, 2, 70, 150])
def test_the_candidate_of_highest_margin_is_returned(threat, queries):
    model, x, y = grey()
    watched = Watched(model)
    x_adv = Square(threat, queries=queries)(watched, x, y)
    assert len(watched.seen) == 1 + queries
    shown = torch.stack([margin_loss(model(seen), y) for seen in watched.seen[1:]])
    torch.testing.assert_close(margin_loss(model(x_adv), y), shown.amax(0))
    assert queries < 70 or (shown.amax(0) > shown[0]).all()


@THREATS
def test_a_broken_image_stops_at_once(threat):
    model = HalfSpace(SHAPE)
    near, far = (model.images(8, threat, r * threat.eps)[0][::2] for r in (0.1, 2))
    y = torch.zeros(8, dtype=torch.long)
    watched = Watched(model)
    x_adv = Square(threat, queries=100)(watched, torch.cat([near, far]), y)
    assert misclassified(model, x_adv, y).tolist() == [True] * 4 + [False] * 4
    for seen, following in itertools.pairwise(watched.seen):
        assert len(following) == len(seen) - misclassified(model, seen, y[: len(seen)]).sum()
    assert len(watched.seen[-1]) == 4


def test_an_image_misclassified_from_the_start_costs_one_query():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.05)
    watched = Watched(model)
    assert torch.equal(Square(Linf(0.1))(watched, x, 1 - y), x)
    assert len(watched.seen) == 1


def test_more_restarts_break_more_images_and_keep_the_broken_ones():
    # One pixel that starts at eps up or down; only up reaches the island.
    x, y = torch.full((200, 1, 1, 1), 0.5), torch.zeros(200, dtype=torch.long)
    found = [
        Square(Linf(0.12), queries=1, restarts=r)(Island(), x, y, rng=Rng.of_batch(5, 200))
        for r in (1, 2, 3)
    ]
    broken = [misclassified(Island(), x_adv, y) for x_adv in found]
    shares = [float(b.float().mean()) for b in broken]
    assert shares == pytest.approx([1 / 2, 3 / 4, 7 / 8], abs=0.1)
    assert torch.equal(found[2][broken[0]], found[0][broken[0]])


@pytest.mark.parametrize(
    "field", [{"queries": 0}, {"restarts": 0}, {"p_init": 0.0}, {"p_init": 1.5}]
)
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must be"):
        Square(Linf(0.1), **field)
